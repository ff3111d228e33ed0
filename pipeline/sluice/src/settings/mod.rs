//! Settings: embedded defaults ← file ← `SLUICE__…` environment; typed, and cross-checked before any port or
//! broker is touched.
//!
//! `defaults.toml` beside this file is the reference page: it names every key with its meaning and unit. A
//! key that is not in the types is refused, so that a typing error cannot silently mean "default".

mod check;
mod layers;
mod print;
mod sections;

use std::path::Path;

pub use check::check;
pub use print::masked_toml;
pub use sections::*;

/// The embedded defaults, also the reference of all keys.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// Prefix of environment variables that are settings.
pub const ENV_PREFIX: &str = "SLUICE__";

/// Why the settings cannot be used. Each error names the key and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings file cannot be read.
    #[error("settings file {path}: {source}")]
    File {
        /// Its path.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A layer is not TOML.
    #[error("{layer} is not valid TOML: {detail}")]
    Syntax {
        /// Which layer.
        layer: String,
        /// Where and why.
        detail: String,
    },
    /// A key is unknown or has a value of the wrong type.
    #[error("{detail}; defaults.toml and `sluice config` name every key")]
    Key {
        /// Which key and what is wrong with it.
        detail: String,
    },
    /// Values that do not go together.
    #[error("settings cannot be used:\n  {}", .0.join("\n  "))]
    Check(Vec<String>),
}

/// Loads and checks the settings: the embedded defaults, then `file`, then `env` (name and value).
///
/// # Errors
/// If a layer cannot be read, a key is unknown, or the values do not go together.
pub fn load(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Settings, Error> {
    load_over("", file, env)
}

/// The same with a layer of TOML of our own between the defaults and the file.
///
/// # Errors
/// As [`load`].
pub fn load_over(
    own: &str,
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, Error> {
    let mut tree = layers::parse("defaults.toml", DEFAULTS)?;
    layers::merge(&mut tree, layers::parse("built-in settings", own)?);
    if let Some(path) = file {
        let path_text = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::File { path: path_text.clone(), source })?;
        layers::merge(&mut tree, layers::parse(&path_text, &text)?);
    }
    for (name, value) in env {
        if let Some(path) = name.strip_prefix(ENV_PREFIX) {
            layers::set(&mut tree, &name, path, &value)?;
        }
    }
    let settings = layers::typed(tree)?;
    check(&settings).map_err(Error::Check)?;
    Ok(settings)
}

impl Default for Settings {
    /// The embedded defaults, unchecked.
    ///
    /// # Panics
    /// Never: a test loads them.
    fn default() -> Self {
        let parsed = layers::parse("defaults.toml", DEFAULTS).and_then(layers::typed);
        parsed.unwrap_or_else(|error| panic!("the embedded defaults are broken: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_embedded_defaults_load() {
        let settings = load(None, []).unwrap();
        assert_eq!(settings.deployment.ttl_ms, 72 * 3_600_000);
        assert_eq!(settings.deployment.dedupe_window_ms, 7 * 86_400_000);
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sluice.toml");
        std::fs::write(&path, "[edge]\nlisten = \"127.0.0.1:1\"\nwebhook_listen = \"127.0.0.1:2\"\n")
            .unwrap();
        let settings =
            load(Some(&path), env(&[("SLUICE__EDGE__LISTEN", "127.0.0.1:3"), ("PATH", "/x")])).unwrap();
        assert_eq!(settings.edge.listen.to_string(), "127.0.0.1:3");
        assert_eq!(settings.edge.webhook_listen.to_string(), "127.0.0.1:2");
        assert_eq!(settings.edge.batch_lines_max, 1_000);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load(None, env(&[("SLUICE__EDGE__LISTEM", "127.0.0.1:3")])).unwrap_err().to_string();
        assert!(error.contains("listem") && error.contains("edge"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_by_name() {
        let error = load(None, env(&[("SLUICE__EDGE__BATCH_LINES_MAX", "many")])).unwrap_err().to_string();
        assert!(error.contains("SLUICE__EDGE__BATCH_LINES_MAX"), "{error}");
    }

    #[test]
    fn values_that_do_not_go_together_are_all_named() {
        let error = load(
            None,
            env(&[("SLUICE__EDGE__REQUEST_TIMEOUT_MS", "0"), ("SLUICE__EDGE__BATCH_LINES_MAX", "0")]),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("edge.request_timeout_ms") && error.contains("edge.batch_lines_max"),
            "{error}"
        );
    }

    #[test]
    fn lists_come_from_the_environment_too() {
        let token = r#"[{ name = "ops", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", tenant_id = "*" }]"#;
        let settings =
            load(None, env(&[("SLUICE__AUTH__TOKENS", token), ("SLUICE__ROLES", "edge,sender")])).unwrap();
        assert_eq!(settings.auth.tokens[0].name, "ops");
        assert_eq!(settings.roles, [Role::Edge, Role::Sender]);
    }

    #[test]
    fn secrets_are_masked_when_printed() {
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let settings = load(
            None,
            env(&[
                ("SLUICE__CREDENTIALS__KEYS__K1", key),
                ("SLUICE__KAFKA__PROPERTIES__SASL_PASSWORD", "s3cret"),
            ]),
        )
        .unwrap();
        let printed = masked_toml(&settings).unwrap();
        assert!(!printed.contains(key) && !printed.contains("s3cret"), "{printed}");
        assert!(printed.contains("k1"), "{printed}");
    }
}
