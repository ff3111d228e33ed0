//! Encoding and decoding of one topic's values, with schemas looked up where they are not known yet.

use std::sync::{Arc, PoisonError, RwLock};

use sluice_schemas::DeadLetterReason;
use sluice_schemas::codec::{self, Decoder, SchemaRef, VALUE_SCHEMA_HEADER};
use sluice_schemas::topics::{Names, TABLE, Topic};

use super::{Error, Registry, subjects};
use crate::record::Record;

/// Why a value could not be decoded, by what to do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are wrong for good: a dead letter.
    #[error("{0}")]
    Bad(#[from] codec::Error),
    /// The record has no value where one is needed: a dead letter.
    #[error("the record has no value")]
    Tombstone,
    /// The registry does not know the writer's schema: a dead letter.
    #[error("the registry does not know schema {0}")]
    NotRegistered(SchemaRef),
    /// The writer's schema is not known here yet: use [`Codec::decode_or_fetch`].
    #[error("schema {0} is not known yet")]
    Unknown(SchemaRef),
    /// The registry cannot be asked now: try again later; nothing is lost.
    #[error("schema {schema} cannot be looked up: {source}")]
    RegistryDown {
        /// Schema to look up.
        schema: SchemaRef,
        /// What stands in the way.
        source: Error,
    },
}

impl DecodeError {
    /// Reason for the dead letter; none if the record is to be tried again.
    pub fn dead_letter_reason(&self) -> Option<DeadLetterReason> {
        match self {
            Self::Bad(codec::Error::Magic { .. }) => Some(DeadLetterReason::WrongMagic),
            Self::Bad(_) => Some(DeadLetterReason::Undecodable),
            Self::Tombstone => Some(DeadLetterReason::MissingField),
            Self::NotRegistered(_) => Some(DeadLetterReason::UnknownSchema),
            Self::Unknown(_) | Self::RegistryDown { .. } => None,
        }
    }
}

/// Encodes and decodes values of one topic. Cheap to clone; clones share what they have learnt.
#[derive(Debug)]
pub struct Codec<T> {
    id: u32,
    decoder: Arc<RwLock<Arc<Decoder<T>>>>,
    registry: Registry,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        Self { id: self.id, decoder: Arc::clone(&self.decoder), registry: self.registry.clone() }
    }
}

impl<T: codec::Record> Codec<T> {
    /// A codec that writes under `id` and asks `registry` for others.
    pub fn new(id: u32, registry: Registry) -> Self {
        Self { id, decoder: Arc::new(RwLock::new(Arc::new(Decoder::new(id)))), registry }
    }

    /// The framed value of a record.
    pub fn encode(&self, record: &T) -> Vec<u8> {
        codec::encode(self.id, record)
    }

    /// Registry id under which it writes.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The decoder as it is now; hold it to decode many values without a lock.
    pub fn decoder(&self) -> Arc<Decoder<T>> {
        Arc::clone(&self.decoder.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decodes the value of a record, with what is known here.
    pub fn decode(&self, record: &Record) -> Result<T, DecodeError> {
        let value = record.value.as_deref().ok_or(DecodeError::Tombstone)?;
        self.decode_bytes(value, record.header(VALUE_SCHEMA_HEADER))
    }

    /// Decodes a framed value, with what is known here.
    pub fn decode_bytes(&self, value: &[u8], guid_header: Option<&[u8]>) -> Result<T, DecodeError> {
        self.decoder().decode(value, guid_header).map_err(|error| match error {
            codec::Error::UnknownSchema(name) => DecodeError::Unknown(name),
            other => DecodeError::Bad(other),
        })
    }

    /// Decodes the value of a record, asking the registry for a schema that is not known yet.
    pub async fn decode_or_fetch(&self, record: &Record) -> Result<T, DecodeError> {
        match self.decode(record) {
            Err(DecodeError::Unknown(name)) => {
                self.learn(name).await?;
                self.decode(record)
            }
            decoded => decoded,
        }
    }

    /// Asks the registry for a schema and remembers it.
    pub async fn learn(&self, name: SchemaRef) -> Result<(), DecodeError> {
        let schema = self.registry.schema(name).await.map_err(|error| match error {
            Error::NotFound(_) => DecodeError::NotRegistered(name),
            source => DecodeError::RegistryDown { schema: name, source },
        })?;
        let mut decoder = self.decoder.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::make_mut(&mut decoder).learn(name, &schema)?)
    }
}

/// The codecs of all topics.
#[derive(Debug, Clone)]
pub struct Codecs {
    registry: Registry,
    /// By topic, in table order.
    ids: Vec<u32>,
}

/// Whether schemas that are not registered yet are registered at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Register them (with their compatibility level first).
    Register,
    /// Refuse to start: an operator runs `sluice schemas register`.
    LookUp,
}

impl Codecs {
    /// Finds the id of every topic's schema.
    pub async fn open(registry: Registry, names: &Names, registration: Registration) -> Result<Self, Error> {
        let mut ids = Vec::with_capacity(TABLE.len());
        for spec in &TABLE {
            let subject = names.subject(spec.topic);
            let id = match registry.id_of(&subject, spec.schema).await {
                Err(Error::NotFound(_)) if registration == Registration::Register => {
                    subjects::register_one(&registry, &subject, spec.schema).await?
                }
                id => id?,
            };
            ids.push(id);
        }
        Ok(Self { registry, ids })
    }

    /// The codecs of the fixed registry.
    pub fn fixed() -> Self {
        Self { registry: Registry::fixed(), ids: (1..=TABLE.len() as u32).collect() }
    }

    /// The codec of a topic.
    ///
    /// `T` is the record type of that topic in the topic table.
    pub fn codec<T: codec::Record>(&self, topic: Topic) -> Codec<T> {
        debug_assert_eq!(topic.spec().record, T::NAME, "the record type of the topic");
        Codec::new(self.ids[topic as usize], self.registry.clone())
    }

    /// The registry behind them.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
