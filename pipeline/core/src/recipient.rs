//! Canonical recipients: the same person is written one way, whatever the producer or provider wrote.

/// Why a recipient cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing is given.
    #[error("`to` is empty; give an E.164 number such as +15551234567, a group id (…@g.us) or a @username")]
    Empty,
    /// A number that E.164 does not allow.
    #[error("`to` is not a phone number: E.164 allows 7 to 15 digits after the +")]
    Number,
    /// A domain that is no WhatsApp address.
    #[error("`to` has the unknown domain @{0}; known are s.whatsapp.net, c.us, g.us, lid and newsletter")]
    Domain(String),
}

/// The canonical form of `to`: `+digits` for a phone number, else the id in lower case.
///
/// Phone JIDs (`…@s.whatsapp.net`, `…@c.us`, with or without a device part `:12`) become their number.
/// Groups (`…@g.us`), LIDs (`…@lid`), channels (`…@newsletter`) and `@username` handles stay what they are.
pub fn canonical(to: &str) -> Result<String, Error> {
    let to = to.trim();
    if to.is_empty() {
        return Err(Error::Empty);
    }
    if let Some(handle) = to.strip_prefix('@') {
        return if handle.is_empty() { Err(Error::Empty) } else { Ok(format!("@{}", handle.to_lowercase())) };
    }
    match to.split_once('@') {
        None => number(to),
        Some((user, "s.whatsapp.net" | "c.us")) => number(user.split(':').next().unwrap_or(user)),
        Some((user, domain @ ("g.us" | "newsletter"))) if !user.is_empty() => Ok(format!("{user}@{domain}")),
        Some((user, "lid")) if !user.is_empty() => {
            Ok(format!("{}@lid", user.split(':').next().unwrap_or(user)))
        }
        Some((_, domain)) => Err(Error::Domain(domain.to_owned())),
    }
}

fn number(text: &str) -> Result<String, Error> {
    let mut digits = String::with_capacity(text.len() + 1);
    digits.push('+');
    for (i, c) in text.chars().enumerate() {
        match c {
            '0'..='9' => digits.push(c),
            '+' if i == 0 => {}
            ' ' | '-' | '(' | ')' | '.' => {}
            _ => return Err(Error::Number),
        }
    }
    if (8..=16).contains(&digits.len()) { Ok(digits) } else { Err(Error::Number) }
}

/// Whether a canonical recipient is a group.
pub fn is_group(canonical: &str) -> bool {
    canonical.ends_with("@g.us")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_one_canonical_form() {
        for form in [
            "+15551234567",
            "15551234567",
            "+1 (555) 123-4567",
            "15551234567@s.whatsapp.net",
            "15551234567:12@s.whatsapp.net",
            "15551234567@c.us",
        ] {
            assert_eq!(canonical(form).as_deref(), Ok("+15551234567"), "{form}");
        }
    }

    #[test]
    fn a_bad_recipient_says_what_is_wrong() {
        assert_eq!(canonical("  "), Err(Error::Empty));
        assert_eq!(canonical("hello"), Err(Error::Number));
        assert_eq!(canonical("123"), Err(Error::Number));
        assert_eq!(canonical("a@b.c"), Err(Error::Domain("b.c".into())));
    }
}
