//! A credential that cannot be printed.

/// A credential: an API key, a token, a webhook secret. `Debug` shows only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The credential itself. For the wire only: never log, store or return what this gives.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_credential() {
        let shown = format!("{:?}", Secret::new("wa_live_0123456789"));
        assert!(!shown.contains("0123"), "{shown}");
    }
}
