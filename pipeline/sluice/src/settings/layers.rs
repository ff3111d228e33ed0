//! The layers below the typed settings, as TOML trees.

use toml::{Table, Value};

use super::{Error, Settings};

/// Reads one layer.
pub(super) fn parse(layer: &str, text: &str) -> Result<Table, Error> {
    text.parse::<Table>()
        .map_err(|error| Error::Syntax { layer: layer.to_owned(), detail: error.to_string() })
}

/// Puts `over` on `base`: tables are merged, everything else is replaced.
pub(super) fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Sets what the environment variable `name` says. `path` is its name without the prefix: segments between
/// `__`, in any case.
///
/// The type is that of the value it replaces. A key without a default takes a TOML value, or else a text. In
/// `kafka.properties` an underscore stands for a dot, because variables cannot have dots in their names.
pub(super) fn set(tree: &mut Table, name: &str, path: &str, text: &str) -> Result<(), Error> {
    let path = path.to_ascii_lowercase();
    let mut segments: Vec<String> = path.split("__").map(str::to_owned).collect();
    if segments.iter().any(String::is_empty) {
        return Err(Error::Key { detail: format!("{name} has an empty segment between its underscores") });
    }
    let leaf = segments.pop().unwrap_or_default();
    let leaf = if segments.last().is_some_and(|s| s == "properties") { leaf.replace('_', ".") } else { leaf };
    let mut table = tree;
    for segment in segments {
        let entry = table.entry(segment).or_insert_with(|| Value::Table(Table::new()));
        table = match entry {
            Value::Table(inner) => inner,
            _ => return Err(Error::Key { detail: format!("{name} goes below a value that is no table") }),
        };
    }
    let value = value_like(table.get(&leaf), text)
        .map_err(|wanted| Error::Key { detail: format!("{name} must be {wanted}") })?;
    match (table.get_mut(&leaf), value) {
        (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
        (_, value) => {
            table.insert(leaf, value);
        }
    }
    Ok(())
}

fn value_like(before: Option<&Value>, text: &str) -> Result<Value, &'static str> {
    match before {
        Some(Value::String(_)) => Ok(Value::String(text.to_owned())),
        Some(Value::Integer(_)) => {
            text.trim().replace('_', "").parse().map(Value::Integer).map_err(|_| "a whole number")
        }
        Some(Value::Float(_)) => text.trim().parse().map(Value::Float).map_err(|_| "a number"),
        Some(Value::Boolean(_)) => text.trim().parse().map(Value::Boolean).map_err(|_| "true or false"),
        Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        Some(Value::Array(_)) => toml_value(text).ok_or("a TOML array or a list with commas"),
        Some(Value::Table(_)) => toml_value(text).ok_or("a TOML table, for example { a = 1 }"),
        // A table or array is surely meant as one; anything else without a default is a text, because a
        // password of digits must stay a text. Types that want a number or boolean read it from the text.
        Some(Value::Datetime(_)) | None => {
            let structured = text.trim_start().starts_with(['[', '{']);
            Ok(toml_value(text).filter(|_| structured).unwrap_or_else(|| Value::String(text.to_owned())))
        }
    }
}

fn toml_value(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"))
}

/// The typed settings of a tree.
pub(super) fn typed(tree: Table) -> Result<Settings, Error> {
    serde_path_to_error::deserialize(Value::Table(tree)).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.into_inner().to_string();
        Error::Key { detail: format!("settings key {path}: {}", detail.lines().next().unwrap_or_default()) }
    })
}
