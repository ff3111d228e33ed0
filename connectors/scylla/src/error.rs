//! What can go wrong with the store, by what the caller does about it.

use scylla::errors::{
    DbError, ExecutionError, MetadataError, NewSessionError, PrepareError, RequestAttemptError,
    UseKeyspaceError,
};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached, or did not answer in time: try again.
    #[error("the message store is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store refused the statement: it is misconfigured (permissions, schema changed by hand).
    #[error("the message store refused {what}: {detail}")]
    Refused {
        /// The statement or step.
        what: String,
        /// The store's words.
        detail: String,
    },
    /// The keyspace lacks migrations that this version needs.
    #[error("keyspace {keyspace} lacks migrations {missing}: run `sluice store migrate`")]
    NotMigrated {
        /// The keyspace.
        keyspace: String,
        /// Names of the missing migrations.
        missing: String,
    },
    /// A migration in the keyspace is not the one this version has under that number.
    #[error(
        "migration {name} in keyspace {keyspace} has another content than this version's: was it edited?"
    )]
    MigrationChanged {
        /// The keyspace.
        keyspace: String,
        /// The migration.
        name: String,
    },
    /// A setting cannot be used.
    #[error("store.{setting}: {detail}")]
    Settings {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what is allowed.
        detail: String,
    },
    /// The cursor is not one of ours.
    #[error("the cursor is not one that this service gave out")]
    Cursor,
    /// A row cannot be read back.
    #[error("a row of {table} cannot be read: {detail}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// Why.
        detail: String,
    },
}

impl Error {
    /// Whether trying again later can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(crate) fn settings(setting: &'static str, detail: impl Into<String>) -> Self {
        Self::Settings { setting, detail: detail.into() }
    }

    /// A statement failed. Only an answer that names a fault of the statement is final.
    pub(crate) fn statement(what: &str, error: ExecutionError) -> Self {
        match error {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(db, detail)) if is_final(&db) => {
                Self::Refused { what: what.to_owned(), detail: format!("{db}: {detail}") }
            }
            ExecutionError::PrepareError(error) => Self::preparation(what, error),
            ExecutionError::BadQuery(error) => {
                Self::Refused { what: what.to_owned(), detail: error.to_string() }
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }

    /// A statement could not be prepared.
    pub(crate) fn preparation(what: &str, error: PrepareError) -> Self {
        match error {
            PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(db, detail) }
                if is_final(&db) =>
            {
                Self::Refused { what: what.to_owned(), detail: format!("{db}: {detail}") }
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

fn is_final(error: &DbError) -> bool {
    matches!(
        error,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::ProtocolError
    )
}

impl From<NewSessionError> for Error {
    fn from(error: NewSessionError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl From<UseKeyspaceError> for Error {
    fn from(error: UseKeyspaceError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

impl From<MetadataError> for Error {
    fn from(error: MetadataError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}
