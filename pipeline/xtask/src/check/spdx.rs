//! Licence expressions (SPDX 2): whether we may use what is under one.

/// Licences that ask for notice at most, or whose copyleft stops at the file.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// Whether `expression` lets us choose licences that are all allowed. `None` when it cannot be read.
pub(super) fn is_allowed(expression: &str) -> Option<bool> {
    // `MIT/Apache-2.0` is how crates said OR before they had SPDX.
    let text = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    let allowed = parser.any_of()?;
    parser.words.is_empty().then_some(allowed)
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn accept(&mut self, word: &str) -> bool {
        let is_next = self.words.first().is_some_and(|next| next.eq_ignore_ascii_case(word));
        if is_next {
            self.words = &self.words[1..];
        }
        is_next
    }

    fn any_of(&mut self) -> Option<bool> {
        let mut allowed = self.all_of()?;
        while self.accept("OR") {
            allowed |= self.all_of()?;
        }
        Some(allowed)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.accept("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.accept("(") {
            let allowed = self.any_of()?;
            return self.accept(")").then_some(allowed);
        }
        let mut name = self.next().filter(|name| !["AND", "OR", "WITH", ")"].contains(name))?.to_owned();
        if self.accept("WITH") {
            name = format!("{name} WITH {}", self.next()?);
        }
        Some(ALLOWED.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn a_choice_is_allowed_if_one_side_is() {
        for expression in
            ["MIT", "MIT OR GPL-3.0-only", "MIT/Apache-2.0", "LGPL-2.1-or-later OR MIT OR BUSL-1.1"]
        {
            assert_eq!(is_allowed(expression), Some(true), "{expression}");
        }
    }

    #[test]
    fn a_combination_is_allowed_only_if_all_sides_are() {
        assert_eq!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"), Some(true));
        assert_eq!(is_allowed("Apache-2.0 WITH LLVM-exception AND ISC"), Some(true));
        assert_eq!(is_allowed("(MIT OR Apache-2.0) AND LGPL-3.0-only"), Some(false));
        assert_eq!(is_allowed("MIT AND (GPL-2.0-only OR Elastic-2.0)"), Some(false));
    }

    #[test]
    fn copyleft_and_source_available_licences_are_refused() {
        for licence in ["GPL-3.0-only", "LGPL-2.1", "AGPL-3.0-or-later", "BUSL-1.1", "Elastic-2.0"] {
            assert_eq!(is_allowed(licence), Some(false), "{licence}");
        }
        assert_eq!(is_allowed("GPL-2.0 WITH Classpath-exception-2.0"), Some(false));
    }

    #[test]
    fn nonsense_is_told_from_a_refusal() {
        for text in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "AND"] {
            assert_eq!(is_allowed(text), None, "{text}");
        }
    }
}
