//! The entries of a delivery, wherever they stand.

use serde_json::Value;

/// Every entry in `data`. Order is kept.
///
/// An object with a key of its own is an entry. Else its entries are under `messages` or `updates`, or
/// `message` holds the only one. What fits none of these is an entry too, so that it is counted and not lost.
pub(super) fn of(data: &Value) -> Vec<&Value> {
    match data {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().flat_map(inside).collect(),
        other => inside(other),
    }
}

fn inside(item: &Value) -> Vec<&Value> {
    if item.get("key").is_some_and(Value::is_object) {
        return vec![item];
    }
    for name in ["messages", "updates"] {
        match item.get(name) {
            Some(Value::Array(items)) => return items.iter().collect(),
            Some(one @ Value::Object(_)) => return vec![one],
            _ => {}
        }
    }
    match item.get("message") {
        Some(Value::Array(items)) => items.iter().collect(),
        Some(one) if one.get("key").is_some_and(Value::is_object) => vec![one],
        _ => vec![item],
    }
}
