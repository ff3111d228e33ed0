//! Names that no other test uses, on servers that all share.

/// `prefix` and 12 random hex digits, joined by `_`: fit for a topic, a group, a keyspace (which is at most 48
/// characters of `[a-z0-9_]`), a subject.
pub fn unique(prefix: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{prefix}_{}", &random[..12])
}

/// A topic prefix of one test, ending in a dot: the value for Sluice's topic prefix setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralPrefix(String);

impl EphemeralPrefix {
    /// A new one; `test` makes it recognisable.
    pub fn new(test: &str) -> Self {
        Self(format!("{}.", unique(test)))
    }

    /// The prefix, for example `fence_1f0c9a7be312.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full name of the topic (or group, or subject) `name` of this test.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
}

impl std::fmt::Display for EphemeralPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tests_of_one_name_do_not_meet() {
        let (one, other) = (EphemeralPrefix::new("fence"), EphemeralPrefix::new("fence"));
        assert_ne!(one.topic("outbound.requests"), other.topic("outbound.requests"));
        assert!(one.topic("x").starts_with("fence_") && one.topic("x").ends_with(".x"));
    }
}
