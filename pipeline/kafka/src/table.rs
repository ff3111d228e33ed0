//! A compacted topic read whole and followed: what a role keeps of accounts, sessions and their condition.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use sluice_schemas::codec;
use tokio::sync::mpsc;

use crate::record::Record;
use crate::registry::{Codec, DecodeError};
use crate::settings::{Prefetch, Settings};
use crate::tail::{self, From, Tail};

/// How long to wait before asking again for a schema or for the topic's partitions.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Events waiting for the reader. Few: a table is read whole at start, and what is on its way then, decoded, is memory
/// that the process keeps.
const EVENTS_MAX: usize = 2;
/// Records handed over at once, and their bytes.
const BATCH_RECORDS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// One change of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change<T> {
    /// The key.
    pub key: String,
    /// Its new value; none if it was removed.
    pub value: Option<T>,
    /// Partition of the record.
    pub partition: i32,
    /// Offset of the record: rises with every change of the key.
    pub offset: i64,
}

/// Why a record of a table cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Flaw {
    /// No key, or one that is not UTF-8.
    #[error("its key is missing or not UTF-8")]
    Key,
    /// Its value.
    #[error("{0}")]
    Value(#[from] DecodeError),
}

/// What happens on a table, in order.
#[derive(Debug)]
pub enum Event<T> {
    /// Keys changed.
    Changes(Vec<Change<T>>),
    /// Everything that stood in the topic at the start has been handed over. Comes once.
    Ready,
    /// A record that cannot be used; its key keeps the value it had.
    Unusable {
        /// The record.
        record: Box<Record>,
        /// Why.
        flaw: Flaw,
    },
    /// Kafka or the registry is in trouble; the table is as it was and goes on when it can.
    Error(Error),
}

/// What can go wrong with a table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Kafka.
    #[error("{0}")]
    Tail(#[from] tail::Error),
    /// The registry.
    #[error("{0}")]
    Registry(DecodeError),
}

/// A followed table. Dropping it ends the following.
#[derive(Debug)]
pub struct Table<T> {
    events: mpsc::Receiver<Event<T>>,
}

impl<T: codec::Record> Table<T> {
    /// Follows `topic`, all partitions from the beginning. Must be called within a runtime.
    ///
    /// The settings decide how soon a change is seen (`tail_fetch_wait_max_ms` bounds only idle waiting).
    pub fn follow(settings: &Settings, topic: &str, codec: Codec<T>) -> Result<Self, tail::Error> {
        let options = tail::Options {
            prefetch: Prefetch::Little,
            batch_records_max: BATCH_RECORDS_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
            events_max: EVENTS_MAX,
            ..tail::Options::default()
        };
        let tail = Tail::open(settings, topic, options)?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let follower = Follower { tail, codec, sender, behind: BTreeSet::new() };
        tokio::spawn(follower.run());
        Ok(Self { events })
    }

    /// Waits for the next event; none when the table has ended after a fatal error. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event<T>> {
        self.events.recv().await
    }
}

struct Follower<T> {
    tail: Tail,
    codec: Codec<T>,
    sender: mpsc::Sender<Event<T>>,
    /// Partitions not read to their end yet.
    behind: BTreeSet<i32>,
}

/// The reader is gone.
struct Gone;

impl<T: codec::Record> Follower<T> {
    async fn run(mut self) {
        // The reader being gone is the only way out besides a fatal error; there is nobody to tell.
        let _ = self.follow().await;
        self.tail.close().await;
    }

    async fn follow(&mut self) -> Result<(), Gone> {
        self.begin().await?;
        loop {
            let event = tokio::select! {
                event = self.tail.recv() => event,
                () = self.sender.closed() => return Err(Gone),
            };
            match event {
                None => return Ok(()),
                Some(tail::Event::Records(records)) => self.read(records.records).await?,
                Some(tail::Event::CaughtUp { partition, .. }) => {
                    if self.behind.remove(&partition) && self.behind.is_empty() {
                        self.tell(Event::Ready).await?;
                    }
                }
                Some(tail::Event::Rewound { .. }) => {}
                Some(tail::Event::Error(error)) => {
                    let fatal = matches!(error, tail::Error::Fatal(_));
                    self.tell(Event::Error(error.into())).await?;
                    if fatal {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn tell(&self, event: Event<T>) -> Result<(), Gone> {
        self.sender.send(event).await.map_err(|_| Gone)
    }

    /// Asks for the partitions until the brokers answer, and takes them all.
    async fn begin(&mut self) -> Result<(), Gone> {
        let mut wait = RETRY_FIRST;
        let count = loop {
            match self.tail.control().partition_count().await {
                Ok(count) => break count,
                Err(error) => self.tell(Event::Error(error.into())).await?,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        };
        for partition in 0..count {
            self.behind.insert(partition);
            self.tail.assign(partition, From::Beginning);
        }
        Ok(())
    }

    async fn read(&mut self, records: Vec<Record>) -> Result<(), Gone> {
        let mut changes = Vec::with_capacity(records.len());
        for record in records {
            match self.change(&record).await? {
                Ok(change) => changes.push(change),
                Err(flaw) => {
                    if !changes.is_empty() {
                        self.tell(Event::Changes(std::mem::take(&mut changes))).await?;
                    }
                    self.tell(Event::Unusable { record: Box::new(record), flaw }).await?;
                }
            }
        }
        if changes.is_empty() { Ok(()) } else { self.tell(Event::Changes(changes)).await }
    }

    async fn change(&self, record: &Record) -> Result<Result<Change<T>, Flaw>, Gone> {
        let Some(key) = record.key_str() else { return Ok(Err(Flaw::Key)) };
        let value = match record.value.as_ref().map(Bytes::len) {
            None => None,
            Some(_) => match self.decode(record).await? {
                Ok(value) => Some(value),
                Err(error) => return Ok(Err(error.into())),
            },
        };
        let (partition, offset) = (record.partition.number, record.offset);
        Ok(Ok(Change { key: key.to_owned(), value, partition, offset }))
    }

    /// Decodes, waiting for the registry as long as it takes: later changes of a key must not overtake.
    async fn decode(&self, record: &Record) -> Result<Result<T, DecodeError>, Gone> {
        let mut wait = RETRY_FIRST;
        loop {
            match self.codec.decode_or_fetch(record).await {
                Err(error @ DecodeError::RegistryDown { .. }) => {
                    self.tell(Event::Error(Error::Registry(error))).await?;
                }
                decoded => return Ok(decoded),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LAST);
        }
    }
}
