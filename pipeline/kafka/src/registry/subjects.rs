//! What `sluice schemas register|check|print` do.

use serde::Serialize;
use sluice_schemas::topics::{Names, TABLE};

use super::{Error, Registry};

/// Level every subject of ours must have: old readers read new data and new readers old data, whatever the
/// two versions are.
pub const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// How one subject stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its name.
    pub subject: String,
    /// Record type.
    pub record: &'static str,
    /// What was found or done.
    pub state: State,
    /// Id of this version's schema, if registered.
    pub id: Option<u32>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// State of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// This version's schema is registered and the level is right.
    Registered,
    /// Not registered; it could be.
    Missing,
    /// Not compatible with what is registered.
    Incompatible,
    /// Registered, but the subject's compatibility level is another.
    WrongLevel,
}

impl Subject {
    /// Whether nothing is to be done.
    pub fn is_right(&self) -> bool {
        self.state == State::Registered
    }
}

/// Sets the level of a subject and registers a schema under it.
pub(super) async fn register_one(registry: &Registry, subject: &str, schema: &str) -> Result<u32, Error> {
    registry.check(subject, schema).await?;
    if registry.compatibility(subject).await?.as_deref() != Some(COMPATIBILITY) {
        registry.set_compatibility(subject, COMPATIBILITY).await?;
        registry.check(subject, schema).await?;
    }
    registry.register(subject, schema).await
}

/// Registers every topic's schema. A subject that is not compatible is reported and the others go on;
/// a registry that is not available ends it.
pub async fn register(registry: &Registry, names: &Names) -> Result<Vec<Subject>, Error> {
    let mut report = Vec::with_capacity(TABLE.len());
    for spec in &TABLE {
        let subject = names.subject(spec.topic);
        let (state, id, detail) = match register_one(registry, &subject, spec.schema).await {
            Ok(id) => (State::Registered, Some(id), None),
            Err(Error::Incompatible { detail, .. }) => (State::Incompatible, None, Some(detail)),
            Err(error) => return Err(error),
        };
        report.push(Subject { subject, record: spec.record, state, id, detail });
    }
    Ok(report)
}

/// Looks how every topic's subject stands and changes nothing.
pub async fn check(registry: &Registry, names: &Names) -> Result<Vec<Subject>, Error> {
    let mut report = Vec::with_capacity(TABLE.len());
    for spec in &TABLE {
        let subject = names.subject(spec.topic);
        let (state, id, detail) = match registry.id_of(&subject, spec.schema).await {
            Ok(id) => match registry.compatibility(&subject).await? {
                Some(level) if level == COMPATIBILITY => (State::Registered, Some(id), None),
                level => (State::WrongLevel, Some(id), Some(level.unwrap_or_else(|| "none".to_owned()))),
            },
            Err(Error::NotFound(_)) => match registry.check(&subject, spec.schema).await {
                Ok(()) => (State::Missing, None, None),
                Err(Error::Incompatible { detail, .. }) => (State::Incompatible, None, Some(detail)),
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        report.push(Subject { subject, record: spec.record, state, id, detail });
    }
    Ok(report)
}

/// Every subject with its schema as JSON, for `print`.
pub fn print(names: &Names) -> Vec<(String, &'static str)> {
    TABLE.iter().map(|spec| (names.subject(spec.topic), spec.schema)).collect()
}
