//! The phrases of an index: words, `name=value` fields, and "or" between what is right as well.

/// Fields an index may name. `body` and `error` run to the end of the phrase: their text has blanks.
const FIELDS: [&str; 11] =
    ["id", "chat", "phone", "sender", "at", "on", "emoji", "participant", "error", "body", "reply_to"];

/// One alternative of an expectation.
#[derive(Debug)]
pub(crate) struct Phrase<'a> {
    text: &'a str,
}

/// The alternatives of `expected`.
pub(crate) fn alternatives(expected: &str) -> Vec<Phrase<'_>> {
    // A text under `body=` may hold the word "or" itself.
    let split_up_to = start_of(expected, "body").unwrap_or(expected.len());
    let (head, tail) = expected.split_at(split_up_to);
    if !tail.is_empty() {
        return vec![Phrase { text: expected }];
    }
    head.split(" or ").map(|text| Phrase { text: text.trim() }).collect()
}

fn start_of(text: &str, field: &str) -> Option<usize> {
    let name = format!("{field}=");
    if text.starts_with(&name) { Some(0) } else { text.find(&format!(" {name}")).map(|at| at + 1) }
}

impl<'a> Phrase<'a> {
    /// The whole phrase.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Its words without punctuation, up to the first field.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'a str> {
        self.text
            .split_whitespace()
            .take_while(|word| !word.contains('='))
            .map(|word| word.trim_end_matches([':', ',', ';']))
    }

    /// The value of a field; `...` in a masked sample stands for itself.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        let from = start_of(self.text, name)? + name.len() + 1;
        let rest = &self.text[from..];
        if matches!(name, "body" | "error") {
            return Some(rest.trim());
        }
        Some(rest.split_whitespace().next().unwrap_or_default())
    }

    /// Every field that is there.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        FIELDS.into_iter().filter_map(|name| Some((name, self.field(name)?)))
    }
}
