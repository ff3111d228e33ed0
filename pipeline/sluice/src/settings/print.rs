//! Printing settings without what must not be seen.

use toml::Value;

use super::Settings;
use crate::sealing::MASK;

/// The settings as TOML, secrets masked: typed secrets by their type, values of free maps (librdkafka
/// properties) by their names.
///
/// # Errors
/// If the settings have no TOML form; does not happen for loaded settings.
pub fn masked_toml(settings: &Settings) -> Result<String, toml::ser::Error> {
    let mut tree = Value::try_from(settings)?;
    mask(&mut tree);
    toml::to_string_pretty(&tree)
}

fn mask(value: &mut Value) {
    match value {
        Value::Table(table) => {
            for (key, value) in table.iter_mut() {
                match value {
                    Value::String(text) if is_secret_name(key) && !text.is_empty() => MASK.clone_into(text),
                    value => mask(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn is_secret_name(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "token", "sha256", "private", "key.pem", "sasl.oauthbearer.config", "sasl.jaas"]
        .iter()
        .any(|part| key.contains(part))
}
