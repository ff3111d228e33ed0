//! Framing and decoding: Confluent wire format in, Confluent wire format out.
//!
//! Two wire forms are read (Confluent serializers, 2025): magic byte 0 with a 4-byte big-endian schema id
//! before the datum, and a 16-byte GUID in the record header `__value_schema_id` (after its own magic
//! byte 1). The first is written.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use uuid::Uuid;

use crate::wire::{self, Reader};

/// Header in which newer serializers put the GUID of the value's schema.
pub const VALUE_SCHEMA_HEADER: &str = "__value_schema_id";

/// Something that has a binary form inside a record.
pub trait Datum: Sized {
    /// Appends the binary form.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the binary form as written with this version's schema.
    fn read(reader: &mut Reader<'_>) -> Result<Self, wire::Error>;
}

/// A record type of one of our topics.
pub trait Record: Datum + Clone + std::fmt::Debug + Send + Sync + 'static {
    /// Name of the record in its schema.
    const NAME: &'static str;
    /// The schema, as JSON.
    const SCHEMA: &'static str;
}

/// How a record names its writer's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaRef {
    /// Registry id.
    Id(u32),
    /// Registry GUID.
    Guid(Uuid),
}

impl std::fmt::Display for SchemaRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id {id}"),
            Self::Guid(guid) => write!(f, "GUID {guid}"),
        }
    }
}

/// Why a value could not be decoded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The value is not in either wire form.
    #[error("the value is not in Confluent wire format: {what}")]
    Magic {
        /// What is wrong.
        what: &'static str,
    },
    /// The writer's schema is not (yet) known to this decoder; look it up and try again.
    #[error("schema {0} is not known")]
    UnknownSchema(SchemaRef),
    /// The bytes are not what the writer's schema says.
    #[error("{record}: {source}")]
    Datum {
        /// Record type.
        record: &'static str,
        /// Where and why.
        source: wire::Error,
    },
    /// The writer's schema cannot be read as ours.
    #[error("{record} written with schema {schema} cannot be read as this version's: {detail}")]
    Resolve {
        /// Record type.
        record: &'static str,
        /// The writer's schema.
        schema: SchemaRef,
        /// What the Avro library says.
        detail: String,
    },
}

/// Puts the frame and the datum of `record` into fresh bytes.
pub fn encode<T: Record>(schema_id: u32, record: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
    record.put(&mut out);
    out
}

/// Splits a value into the name of its writer's schema and its datum.
///
/// `guid_header` is the value of the header [`VALUE_SCHEMA_HEADER`], if the record has one.
pub fn split<'a>(value: &'a [u8], guid_header: Option<&[u8]>) -> Result<(SchemaRef, &'a [u8]), Error> {
    if let Some(header) = guid_header {
        return match header {
            [1, guid @ ..] => Uuid::from_slice(guid)
                .map(|guid| (SchemaRef::Guid(guid), value))
                .map_err(|_| Error::Magic { what: "the schema GUID header is not 17 bytes" }),
            _ => Err(Error::Magic { what: "the schema GUID header does not begin with 1" }),
        };
    }
    match value {
        [] => Err(Error::Magic { what: "it is empty" }),
        [0, a, b, c, d, datum @ ..] => Ok((SchemaRef::Id(u32::from_be_bytes([*a, *b, *c, *d])), datum)),
        [0, ..] => Err(Error::Magic { what: "it ends inside the schema id" }),
        _ => Err(Error::Magic { what: "the first byte is not 0" }),
    }
}

/// How to read data of one writer's schema.
#[derive(Debug, Clone)]
enum Plan {
    /// The writer's schema is ours.
    Same,
    /// Resolve from this schema to ours.
    Resolve(Arc<Schema>),
}

/// Decodes values of one record type, whichever known schema wrote them.
#[derive(Debug, Clone)]
pub struct Decoder<T> {
    ours: Arc<Schema>,
    plans: HashMap<SchemaRef, Plan>,
    record: std::marker::PhantomData<fn() -> T>,
}

impl<T: Record> Decoder<T> {
    /// A decoder that knows this version's schema under the id `own`.
    ///
    /// # Panics
    /// Never for our record types: a test parses every embedded schema.
    pub fn new(own: u32) -> Self {
        let ours = Schema::parse_str(T::SCHEMA).unwrap_or(Schema::Null);
        Self {
            ours: Arc::new(ours),
            plans: HashMap::from([(SchemaRef::Id(own), Plan::Same)]),
            record: std::marker::PhantomData,
        }
    }

    /// Teaches the decoder a writer's schema, given as the JSON the registry holds.
    pub fn learn(&mut self, name: SchemaRef, schema_json: &str) -> Result<(), Error> {
        let schema = Schema::parse_str(schema_json).map_err(|error| Error::Resolve {
            record: T::NAME,
            schema: name,
            detail: error.to_string(),
        })?;
        let plan = if schema == *self.ours { Plan::Same } else { Plan::Resolve(Arc::new(schema)) };
        self.plans.insert(name, plan);
        Ok(())
    }

    /// Whether data of this schema can be decoded.
    pub fn knows(&self, name: SchemaRef) -> bool {
        self.plans.contains_key(&name)
    }

    /// Decodes a framed value.
    pub fn decode(&self, value: &[u8], guid_header: Option<&[u8]>) -> Result<T, Error> {
        let (name, datum) = split(value, guid_header)?;
        match self.plans.get(&name) {
            None => Err(Error::UnknownSchema(name)),
            Some(Plan::Same) => Self::read(datum),
            Some(Plan::Resolve(writer)) => self.resolve(name, writer, datum),
        }
    }

    fn read(datum: &[u8]) -> Result<T, Error> {
        let mut reader = Reader::new(datum);
        T::read(&mut reader)
            .and_then(|record| reader.finish().map(|()| record))
            .map_err(|source| Error::Datum { record: T::NAME, source })
    }

    fn resolve(&self, name: SchemaRef, writer: &Schema, mut datum: &[u8]) -> Result<T, Error> {
        let failed = |error: apache_avro::Error| Error::Resolve {
            record: T::NAME,
            schema: name,
            detail: error.to_string(),
        };
        let value = apache_avro::from_avro_datum(writer, &mut datum, Some(&self.ours)).map_err(failed)?;
        let ours = apache_avro::to_avro_datum(&self.ours, value).map_err(failed)?;
        Self::read(&ours)
    }
}
