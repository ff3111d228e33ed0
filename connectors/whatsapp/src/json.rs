//! Lenient reading of providers' JSON: the same number comes as an integer, a string, a float or a protobuf
//! `Long`, and times come in seconds or milliseconds.

use serde_json::Value;

/// The first of `names` that `value` has, and is not null.
pub fn any<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| value.get(*name).filter(|found| !found.is_null()))
}

/// A non-empty string under the first of `names` that holds one.
pub fn text<'a>(value: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| value.get(*name)?.as_str().filter(|text| !text.is_empty()))
}

/// An id under one of `names`: a non-empty string, or a number written as text.
pub fn id(value: &Value, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match value.get(*name)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    })
}

/// A flag: `true`, `1` or `"true"`.
pub fn flag(value: &Value, name: &str) -> bool {
    match value.get(name) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_i64() == Some(1),
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// A number: integer, float, numeric string, or protobuf's `{"low":…,"high":…}`.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Object(parts) => {
            let low = parts.get("low")?.as_i64()?;
            let high = parts.get("high").and_then(Value::as_i64).unwrap_or(0);
            // `low` is a signed 32-bit half; only its bits count.
            Some(high as f64 * 4_294_967_296.0 + (low & 0xffff_ffff) as f64)
        }
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// A whole number that is not negative.
pub fn count(value: &Value) -> Option<i64> {
    number(value).filter(|n| (0.0..9.0e15).contains(n)).map(|n| n as i64)
}

/// A time as milliseconds since 1970, told by its size: seconds below 10¹¹, milliseconds below 10¹⁴, else
/// microseconds. Nothing for zero, negative numbers and what is no number.
pub fn millis(value: &Value) -> Option<i64> {
    let time = number(value).filter(|n| *n > 0.0 && *n < 1.0e17)?;
    Some(if time < 1.0e11 {
        (time * 1_000.0) as i64
    } else if time < 1.0e14 {
        time as i64
    } else {
        (time / 1_000.0) as i64
    })
}

/// A time under the first of `names` that holds one.
pub fn millis_of(value: &Value, names: &[&str]) -> Option<i64> {
    names.iter().find_map(|name| millis(value.get(*name)?))
}

/// At most `characters_max` characters of `text`, for a detail that people read.
pub fn clipped(text: &str, characters_max: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_the_same_in_every_unit_and_form() {
        for form in [
            json!(1_633_456_789),
            json!("1633456789"),
            json!(1_633_456_789_000_i64),
            json!(1_633_456_789.0),
            json!({"low": 1_633_456_789, "high": 0, "unsigned": true}),
            json!(1_633_456_789_000_000_i64),
        ] {
            assert_eq!(millis(&form), Some(1_633_456_789_000), "{form}");
        }
        for form in [json!(0), json!(-5), json!("soon"), json!(null), json!([]), json!(1e300)] {
            assert_eq!(millis(&form), None, "{form}");
        }
    }

    #[test]
    fn clipping_never_splits_a_character() {
        assert_eq!(clipped("ééé", 2), "éé…");
        assert_eq!(clipped(" a ", 2), "a");
    }
}
