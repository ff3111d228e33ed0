//! The ledger read back: records of the tail become [`Read`]s.

use std::collections::HashMap;
use std::sync::Arc;

use sluice_core::sender::ledger::{Key, Read};
use sluice_kafka::record::Record;
use sluice_kafka::registry::{Codec, Codecs, DecodeError};
use sluice_kafka::tail::{self, Generation};
use sluice_schemas::codec::SchemaRef;
use sluice_schemas::topics::Topic;
use sluice_schemas::{LedgerEntry, OutboundCommand, headers};

/// Which assignment of each partition is the present one.
#[derive(Debug, Default)]
pub(super) struct Following {
    generations: HashMap<i32, Generation>,
}

impl Following {
    pub(super) fn begin(&mut self, tail: &tail::Tail, partition: i32, from: tail::From) {
        self.generations.insert(partition, tail.assign(partition, from));
    }

    pub(super) fn end(&mut self, tail: &tail::Tail, partition: i32) {
        if self.generations.remove(&partition).is_some() {
            tail.unassign(partition);
        }
    }

    pub(super) fn is_present(&self, partition: i32, generation: Generation) -> bool {
        self.generations.get(&partition) == Some(&generation)
    }
}

/// Makes [`Read`]s.
pub(super) struct Reader {
    entries: Codec<LedgerEntry>,
    commands: Codec<OutboundCommand>,
}

/// What a ledger record cannot be read for.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is none of ours; nothing hangs on it.
    Strange(String),
    /// A schema has to be looked up first, which of the two codecs tells.
    Entry(SchemaRef),
    /// The same, for the request inside.
    Command(SchemaRef),
}

impl Reader {
    pub(super) fn new(codecs: &Codecs) -> Self {
        Self { entries: codecs.codec(Topic::OutboundLedger), commands: codecs.codec(Topic::OutboundRequests) }
    }

    pub(super) fn entries(&self) -> &Codec<LedgerEntry> {
        &self.entries
    }

    pub(super) fn commands(&self) -> &Codec<OutboundCommand> {
        &self.commands
    }

    /// Reads a record; `own_epoch` is the epoch under which this process holds the partition.
    pub(super) fn read(&self, record: &Record, own_epoch: Option<i64>) -> Result<Read, Trouble> {
        let key =
            record.key.as_deref().and_then(Key::parse).ok_or_else(|| {
                Trouble::Strange(format!("key {:?} is none of the ledger's", record.key_str()))
            })?;
        let epoch = record.header_str(headers::EPOCH).and_then(|text| text.parse().ok()).unwrap_or(-1);
        let entry = match &record.value {
            None => None,
            Some(_) => {
                Some(Box::new(self.entries.decode(record).map_err(|error| trouble(error, Trouble::Entry))?))
            }
        };
        // Of our own we still hold the request.
        let foreign = own_epoch != Some(epoch);
        let command = match entry.as_ref().and_then(|entry| entry.request.as_deref()).filter(|_| foreign) {
            None => None,
            Some(framed) => {
                let command = self.commands.decode_bytes(framed, None);
                Some(Arc::new(command.map_err(|error| trouble(error, Trouble::Command))?))
            }
        };
        Ok(Read { offset: record.offset, key, epoch, entry, command })
    }
}

fn trouble(error: DecodeError, unknown: fn(SchemaRef) -> Trouble) -> Trouble {
    match error {
        DecodeError::Unknown(name) | DecodeError::RegistryDown { schema: name, .. } => unknown(name),
        other => Trouble::Strange(other.to_string()),
    }
}
