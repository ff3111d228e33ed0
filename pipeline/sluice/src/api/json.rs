//! JSON bodies: what is wrong is named by a JSON pointer.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use super::problem::{Kind, Problem};

/// Reads a whole body. Types should deny unknown fields.
///
/// # Errors
/// A problem that names where and what.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // serde would take an array for a struct, field by field.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| *byte == b'[') {
        let detail = "the body must be a JSON object";
        return Err(Problem::new(Kind::InvalidRequest).error("", "wrong_type", detail));
    }
    let deserializer = &mut serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut *deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        explain(pointer, error.inner())
    })?;
    deserializer.end().map_err(|error| explain(String::new(), &error))?;
    Ok(value)
}

/// Reads a value that is JSON already.
///
/// # Errors
/// As [`read`].
pub fn from_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| explain(pointer(error.path()), error.inner()))
}

fn explain(pointer: String, error: &serde_json::Error) -> Problem {
    let problem = Problem::new(Kind::InvalidRequest);
    let message = error.to_string();
    // serde_json appends where it stopped reading; the pointer says it better, unless it is no JSON at all.
    let text = message.split(" at line ").next().unwrap_or(&message);
    if error.is_syntax() || error.is_eof() {
        return problem.error(pointer, "invalid_json", message);
    }
    if let Some(field) = quoted(text, "unknown field `") {
        // The path ends in the unknown field already.
        return problem.error(pointer, "unknown_field", format!("there is no field {field:?} here"));
    }
    if let Some(field) = quoted(text, "missing field `") {
        return problem.error(
            format!("{pointer}/{}", escape(field)),
            "missing",
            format!("the field {field:?} must be given"),
        );
    }
    let code = if text.starts_with("invalid type") { "wrong_type" } else { "invalid" };
    problem.error(pointer, code, text)
}

fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.split('`').next()
}

fn pointer(path: &Path) -> String {
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        n: u8,
    }

    fn refused(body: &str) -> (String, &'static str) {
        let mut problem = read::<Outer>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.kind, Kind::InvalidRequest);
        let error = problem.errors.remove(0);
        (error.pointer, error.code)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_pointer() {
        let cases = [
            (r#"{"name":"a","inner":[{"n":1},{"n":"x"}]}"#, "/inner/1/n", "wrong_type"),
            (r#"{"name":"a","inner":[{"n":1,"m":2}]}"#, "/inner/0/m", "unknown_field"),
            (r#"{"name":"a","inner":[{}]}"#, "/inner/0/n", "missing"),
            (r#"{"inner":[]}"#, "/name", "missing"),
            (r#"{"name":{"name":1}}"#, "/name", "wrong_type"),
            (r#"{"name":"a","a/b":1}"#, "/a~1b", "unknown_field"),
            (r#"{"name":"a""#, "", "invalid_json"),
            (r#"{"name":"a"} x"#, "", "invalid_json"),
            ("", "", "invalid_json"),
            ("[1]", "", "wrong_type"),
        ];
        for (body, pointer, code) in cases {
            assert_eq!(refused(body), (pointer.to_owned(), code), "{body}");
        }
    }
}
