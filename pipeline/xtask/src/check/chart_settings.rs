//! The settings file that the chart writes, against the settings that Sluice has.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value as Json;
use toml::{Table, Value};

/// Tables whose keys are the operator's.
const FREE: &[&str] = &["kafka.properties", "kafka.topic_names", "kafka.topic_settings", "credentials.keys"];

/// Every key that Sluice knows, as `section.key`, from its `defaults.toml`; those without a default stand there as
/// comments.
pub(super) fn known_keys(defaults: &str) -> Result<BTreeSet<String>> {
    let table: Table = defaults.parse().context("defaults.toml")?;
    let mut keys = BTreeSet::new();
    walk("", &table, &mut |path, _| {
        keys.insert(path.to_owned());
    });
    let mut section = "";
    for line in defaults.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let commented = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = "));
        if let Some((key, _)) = commented.filter(|(key, _)| is_bare(key)) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    Ok(keys)
}

fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Calls `see` with the path of every key that holds a value and no table.
fn walk(path: &str, table: &Table, see: &mut impl FnMut(&str, &Value)) {
    for (key, value) in table {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => walk(&path, inner, see),
            other => see(&path, other),
        }
    }
}

/// What is wrong with the settings file in `objects`: an unknown key, or a secret.
pub(super) fn findings(objects: &[Json], known: &BTreeSet<String>) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for object in objects.iter().filter(|object| object["kind"] == "ConfigMap") {
        let Some(text) = object["data"]["sluice.toml"].as_str() else { continue };
        let table: Table = text.parse().context("the settings file of the chart")?;
        walk("", &table, &mut |path, value| {
            let is_free = FREE.iter().any(|free| path.starts_with(&format!("{free}.")));
            if !is_free && !known.contains(path) {
                found.push(format!("settings: Sluice knows no {path}"));
            }
            // A float is what an integer becomes on a wrong way through YAML; Sluice has no setting that is one.
            if matches!(value, Value::Float(_)) {
                found.push(format!("settings: {path} is no whole number"));
            }
            if is_secret(path, value) {
                found.push(format!("settings: the value of {path} is secret and in a ConfigMap"));
            }
        });
        if found.is_empty() && table.is_empty() {
            found.push("settings: the file is empty".to_owned());
        }
    }
    Ok(found)
}

fn is_secret(path: &str, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    let is_reference = text.starts_with("file:/") || text.starts_with("env:");
    let is_named_so = ["password", "secret"].iter().any(|part| path.contains(part));
    !text.is_empty() && !is_reference && (is_named_so || path.starts_with("credentials.keys."))
}

/// Sections that an operator cannot set because the chart's schema does not let them through.
pub(super) fn closed_sections(defaults: &str, schema: &str) -> Result<Vec<String>> {
    let table: Table = defaults.parse().context("defaults.toml")?;
    let schema: Json = serde_json::from_str(schema).context("values.schema.json")?;
    let sections = &schema["properties"]["settings"]["properties"];
    let missing = table.iter().filter(|(name, value)| value.is_table() && sections[name.as_str()].is_null());
    Ok(missing.map(|(name, _)| format!("values.schema.json: settings.{name} is missing")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DEFAULTS: &str =
        "roles = []\n[a]\nb_ms = 1\n# url = \"x\"\n# Words are no key = of ours.\n[kafka.properties]\n";

    fn found(text: &str) -> Vec<String> {
        let object = json!({"kind": "ConfigMap", "data": {"sluice.toml": text}});
        findings(&[object], &known_keys(DEFAULTS).unwrap()).unwrap()
    }

    #[test]
    fn keys_with_and_without_a_default_are_known() {
        assert_eq!(
            found("[a]\nb_ms = 2\nurl = \"y\"\n[kafka.properties]\n\"x.y\" = \"z\""),
            [] as [String; 0]
        );
        assert_eq!(found("[a]\nc = 2"), ["settings: Sluice knows no a.c"]);
    }

    #[test]
    fn a_secret_or_a_float_is_found_and_the_secret_not_repeated() {
        let found_secret = found("[kafka.properties]\n\"sasl.password\" = \"hunter2\"");
        assert!(found_secret[0].contains("sasl.password") && !found_secret[0].contains("hunter2"));
        assert_eq!(found("[credentials.keys]\nk1 = \"c2VjcmV0\"").len(), 1);
        assert_eq!(found("[credentials.keys]\nk1 = \"file:/run/k1\""), [] as [String; 0]);
        assert_eq!(found("[a]\nb_ms = 2.592e+08").len(), 1);
    }

    #[test]
    fn a_section_that_the_schema_does_not_have_is_found() {
        let schema = r#"{"properties": {"settings": {"properties": {"a": {}}}}}"#;
        let told = "values.schema.json: settings.kafka is missing";
        assert_eq!(closed_sections(DEFAULTS, schema).unwrap(), [told]);
    }
}
