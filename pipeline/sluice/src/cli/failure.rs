//! How a command fails, and the exit code that says so.

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something went wrong on the way.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// The arguments cannot be used.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A check found something that stands in the way; the findings are already printed.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// Exit code of the process (documented in `sluice --help`).
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_its_documented_code() {
        assert_eq!(Failure::Failed(anyhow::anyhow!("x")).exit_code(), 1);
        assert_eq!(Failure::Usage("x".into()).exit_code(), 2);
        assert_eq!(Failure::NotFound("x".into()).exit_code(), 3);
        assert_eq!(Failure::Refused("x".into()).exit_code(), 4);
    }
}
