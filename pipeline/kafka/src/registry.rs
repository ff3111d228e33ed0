//! The schema registry: a client of the Confluent API (Confluent itself, Apicurio under `/apis/ccompat/v7`),
//! and a fixed twin inside the process for dev.
//!
//! Ids are looked up once and cached for ever (a registry never changes what an id means). A schema that was
//! not found is not asked for again for a few seconds; several readers that miss the same one ask once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_schemas::codec::SchemaRef;
use sluice_schemas::topics::{Names, TABLE, Topic};

use crate::mailbox::lock;
use crate::settings::RegistrySettings;

pub mod codecs;
mod http;
pub mod subjects;

pub use codecs::{Codec, Codecs, DecodeError};

/// What can go wrong with the registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A setting is wrong (URL, CA file).
    #[error("registry settings: {0}")]
    Settings(String),
    /// Not reached, or a 5xx, 429 or time-out: try again later.
    #[error("the schema registry is not available: {0}")]
    Unavailable(String),
    /// The registry does not know it.
    #[error("the schema registry does not know {0}")]
    NotFound(String),
    /// The schema is not compatible with those registered before.
    #[error("the schema is not compatible with subject {subject}: {detail}")]
    Incompatible {
        /// Subject.
        subject: String,
        /// What the registry says.
        detail: String,
    },
    /// Refused: credentials, or a request it does not take.
    #[error("the schema registry refused: {status} {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What the registry says, cut short.
        detail: String,
    },
    /// The answer is not what the API promises.
    #[error("the schema registry's answer makes no sense: {0}")]
    Answer(String),
}

/// A registry. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub struct Registry {
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    /// Ids 1.. in the order of the topic table.
    Fixed,
    Http {
        client: http::Client,
        cache: Cache,
    },
}

/// Schemas by name. The slot of a schema is locked while it is asked for, so readers that miss the same one
/// wait for one answer.
#[derive(Debug)]
struct Cache {
    slots: Mutex<HashMap<SchemaRef, Arc<tokio::sync::Mutex<Slot>>>>,
    negative: Duration,
}

#[derive(Debug, Clone, Default)]
enum Slot {
    #[default]
    Empty,
    Known(Arc<str>),
    Missing(Instant),
}

/// Names asked for and not found, remembered at most; beyond it the not-found ones are forgotten.
const SLOTS_MAX: usize = 10_000;

impl Cache {
    fn slot(&self, name: SchemaRef) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = lock(&self.slots);
        if slots.len() >= SLOTS_MAX {
            slots.retain(|_, slot| slot.try_lock().is_ok_and(|slot| matches!(*slot, Slot::Known(_))));
        }
        Arc::clone(slots.entry(name).or_default())
    }
}

impl Registry {
    /// The registry the settings name; the fixed one if they name none.
    pub fn open(settings: &RegistrySettings) -> Result<Self, Error> {
        let Some(url) = &settings.url else { return Ok(Self::fixed()) };
        let client = http::Client::new(url, settings)?;
        let cache = Cache {
            slots: Mutex::new(HashMap::new()),
            negative: Duration::from_millis(settings.negative_cache_ms),
        };
        Ok(Self { kind: Arc::new(Kind::Http { client, cache }) })
    }

    /// A registry inside the process that knows this version's schemas under the ids 1.. in the order of the
    /// topic table.
    pub fn fixed() -> Self {
        Self { kind: Arc::new(Kind::Fixed) }
    }

    /// Id of `schema` under `subject`, as registered before.
    pub async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        match &*self.kind {
            Kind::Fixed => {
                fixed_id(schema).ok_or_else(|| Error::NotFound(format!("the schema of {subject}")))
            }
            Kind::Http { client, .. } => client.id_of(subject, schema).await,
        }
    }

    /// Registers `schema` under `subject`; gives its id, also when it was registered before.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        match &*self.kind {
            Kind::Fixed => self.id_of(subject, schema).await,
            Kind::Http { client, .. } => client.register(subject, schema).await,
        }
    }

    /// Whether `schema` may be registered under `subject`: compatible, by the subject's level, with what is
    /// registered. A subject that does not exist takes anything.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<(), Error> {
        match &*self.kind {
            Kind::Fixed => self.id_of(subject, schema).await.map(drop),
            Kind::Http { client, .. } => client.check(subject, schema).await,
        }
    }

    /// The compatibility level set for `subject` itself; none if it has none of its own.
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>, Error> {
        match &*self.kind {
            Kind::Fixed => Ok(Some(subjects::COMPATIBILITY.to_owned())),
            Kind::Http { client, .. } => client.compatibility(subject).await,
        }
    }

    /// Sets the compatibility level of `subject`.
    pub async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), Error> {
        match &*self.kind {
            Kind::Fixed => Ok(()),
            Kind::Http { client, .. } => client.set_compatibility(subject, level).await,
        }
    }

    /// The schema of this id or GUID, as JSON. Cached for ever.
    pub async fn schema(&self, name: SchemaRef) -> Result<Arc<str>, Error> {
        let Kind::Http { client, cache } = &*self.kind else {
            return match name {
                SchemaRef::Id(id) => fixed_schema(id).map(Arc::from),
                SchemaRef::Guid(_) => None,
            }
            .ok_or_else(|| Error::NotFound(name.to_string()));
        };
        let slot = cache.slot(name);
        let mut slot = slot.lock().await;
        match &*slot {
            Slot::Known(schema) => return Ok(Arc::clone(schema)),
            Slot::Missing(at) if at.elapsed() < cache.negative => {
                return Err(Error::NotFound(name.to_string()));
            }
            Slot::Missing(_) | Slot::Empty => {}
        }
        match client.schema(name).await {
            Ok(schema) => {
                let schema: Arc<str> = schema.into();
                *slot = Slot::Known(Arc::clone(&schema));
                Ok(schema)
            }
            Err(error) => {
                if matches!(error, Error::NotFound(_)) {
                    *slot = Slot::Missing(Instant::now());
                }
                Err(error)
            }
        }
    }

    /// Whether the registry answers.
    pub async fn ping(&self) -> Result<(), Error> {
        match &*self.kind {
            Kind::Fixed => Ok(()),
            Kind::Http { client, .. } => client.ping().await,
        }
    }
}

/// The schemas of the fixed registry with their ids and subjects, for a read-only endpoint.
pub fn fixed_entries(names: &Names) -> impl Iterator<Item = (u32, String, &'static str)> {
    TABLE.iter().zip(1..).map(|(spec, id)| (id, names.subject(spec.topic), spec.schema))
}

/// Id of a topic's schema in the fixed registry.
pub fn fixed_id_of(topic: Topic) -> u32 {
    topic as u32 + 1
}

fn fixed_id(schema: &str) -> Option<u32> {
    TABLE.iter().find(|spec| spec.schema == schema).map(|spec| fixed_id_of(spec.topic))
}

fn fixed_schema(id: u32) -> Option<&'static str> {
    TABLE.get((id as usize).checked_sub(1)?).map(|spec| spec.schema)
}
