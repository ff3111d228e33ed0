//! Reading and writing topics for commands: whole partitions up to their present end, with patience and progress.

use std::io::IsTerminal as _;
use std::time::Duration;

use sluice_kafka::producer::Producer;
use sluice_kafka::record::Record;
use sluice_kafka::registry::codecs::Registration;
use sluice_kafka::registry::{Codec, Codecs, DecodeError, Registry};
use sluice_kafka::settings::ProducerOptions;
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::codec;
use sluice_schemas::topics::{Names, Topic};
use tokio::time::Instant;

use super::failure::Failure;
use crate::settings::Settings;

/// How long the brokers may keep silent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often long work says how far it is, if somebody watches.
const PROGRESS: Duration = Duration::from_secs(2);

/// Longest wait for an acknowledgement.
pub(super) const ACK: Duration = Duration::from_secs(20);

/// The topics as a command uses them.
pub(super) struct Desk {
    /// How to reach Kafka.
    pub(super) settings: Settings,
    /// Names of the topics.
    pub(super) names: Names,
    /// Their codecs.
    pub(super) codecs: Codecs,
}

impl Desk {
    /// Opens it.
    ///
    /// # Errors
    /// If the registry does not answer, or does not know our schemas.
    pub(super) async fn open(settings: Settings) -> Result<Self, Failure> {
        let names = settings.kafka.names();
        let codecs = match settings.registry.url {
            None => Codecs::fixed(),
            Some(_) => {
                let registry = Registry::open(&settings.registry).map_err(anyhow::Error::from)?;
                Codecs::open(registry, &names, Registration::LookUp).await.map_err(anyhow::Error::from)?
            }
        };
        Ok(Self { settings, names, codecs })
    }

    /// A reader of a topic.
    ///
    /// # Errors
    /// If Kafka does not answer, or there is no such topic.
    pub(super) async fn reader<T: codec::Record>(&self, topic: Topic) -> Result<Reader<T>, Failure> {
        let name = self.names.get(topic).to_owned();
        let tail =
            Tail::open(&self.settings.kafka, &name, tail::Options::default()).map_err(anyhow::Error::from)?;
        let partitions = tail.control().partition_count().await.map_err(anyhow::Error::from)?;
        Ok(Reader {
            name,
            tail,
            codec: self.codecs.codec(topic),
            partitions,
            unreadable: 0,
            said: Instant::now(),
        })
    }

    /// A producer that waits for every replica.
    ///
    /// # Errors
    /// If a setting is wrong.
    pub(super) fn producer(&self) -> Result<Producer<()>, Failure> {
        let opened = Producer::<()>::open(&self.settings.kafka, &ProducerOptions::default());
        Ok(opened.map_err(anyhow::Error::from)?.0)
    }
}

/// Reads partitions of one topic up to where they end when asked.
pub(super) struct Reader<T> {
    name: String,
    tail: Tail,
    codec: Codec<T>,
    /// How many there are.
    pub(super) partitions: i32,
    /// Records that could not be decoded.
    pub(super) unreadable: u64,
    said: Instant,
}

impl<T: codec::Record> Reader<T> {
    /// The oldest offset of a partition, and the offset after its newest record.
    ///
    /// # Errors
    /// If Kafka does not answer.
    pub(super) async fn bounds(&self, partition: i32) -> Result<(i64, i64), Failure> {
        let bounds = self.tail.control().watermarks(partition).await;
        Ok(bounds.map_err(anyhow::Error::from)?)
    }

    /// Shows every record of a partition from there to its present end to `visit`, decoded; tombstones without a
    /// value. What cannot be decoded is counted.
    ///
    /// # Errors
    /// If Kafka or the registry does not answer.
    pub(super) async fn scan(
        &mut self,
        partition: i32,
        from: tail::From,
        visit: impl FnMut(&Record, Option<T>),
    ) -> Result<(), Failure> {
        let (low, end) = self.bounds(partition).await?;
        self.scan_to(partition, (from, low), end, visit).await
    }

    /// The same up to the offset `end`.
    ///
    /// # Errors
    /// As for `scan`.
    pub(super) async fn scan_to(
        &mut self,
        partition: i32,
        (from, low): (tail::From, i64),
        end: i64,
        mut visit: impl FnMut(&Record, Option<T>),
    ) -> Result<(), Failure> {
        if low >= end {
            return Ok(());
        }
        let generation = self.tail.assign(partition, from);
        loop {
            match self.event().await? {
                tail::Event::Records(batch) if batch.generation == generation => {
                    for record in batch.records.iter().filter(|record| record.offset < end) {
                        if let Some(value) = self.decoded(record).await? {
                            visit(record, value);
                        }
                    }
                    self.say(partition, batch.next - low, end - low);
                    if batch.next >= end {
                        break;
                    }
                }
                tail::Event::CaughtUp { generation: of, .. } if of == generation => break,
                _ => {}
            }
        }
        self.tail.unassign(partition);
        Ok(())
    }

    /// Follows a partition from there on until `wanted` finds something.
    ///
    /// # Errors
    /// If Kafka fails for good. Silence is none: nothing may be to come.
    pub(super) async fn until<R>(
        &mut self,
        partition: i32,
        from: i64,
        mut wanted: impl FnMut(&T) -> Option<R>,
    ) -> Result<R, Failure> {
        let generation = self.tail.assign(partition, tail::From::Offset(from));
        loop {
            let event = self.tail.recv().await;
            match event.ok_or_else(|| anyhow::anyhow!("reading {} has ended", self.name))? {
                tail::Event::Records(batch) if batch.generation == generation => {
                    for record in &batch.records {
                        if let Some(Some(value)) = self.decoded(record).await?
                            && let Some(found) = wanted(&value)
                        {
                            return Ok(found);
                        }
                    }
                }
                tail::Event::Error(error @ tail::Error::Fatal(_)) => {
                    return Err(anyhow::Error::from(error).into());
                }
                _ => {}
            }
        }
    }

    async fn event(&mut self) -> Result<tail::Event, Failure> {
        let event = tokio::time::timeout(PATIENCE, self.tail.recv()).await;
        let silent = || anyhow::anyhow!("no answer from Kafka; see `sluice doctor`");
        let event = event.map_err(|_| silent())?;
        match event.ok_or_else(|| anyhow::anyhow!("reading {} has ended", self.name))? {
            tail::Event::Error(error @ tail::Error::Fatal(_)) => Err(anyhow::Error::from(error).into()),
            event => Ok(event),
        }
    }

    /// The value of a record, `Some(None)` for a tombstone; none if it cannot be read.
    async fn decoded(&mut self, record: &Record) -> Result<Option<Option<T>>, Failure> {
        if record.value.is_none() {
            return Ok(Some(None));
        }
        match self.codec.decode_or_fetch(record).await {
            Ok(value) => Ok(Some(Some(value))),
            Err(error @ DecodeError::RegistryDown { .. }) => Err(anyhow::Error::from(error).into()),
            Err(_) => {
                self.unreadable += 1;
                Ok(None)
            }
        }
    }

    fn say(&mut self, partition: i32, done: i64, of: i64) {
        if self.said.elapsed() >= PROGRESS && std::io::stderr().is_terminal() {
            self.said = Instant::now();
            let percent = done.saturating_mul(100) / of.max(1);
            eprintln!("reading {}: partition {partition} of {}, {percent} %", self.name, self.partitions);
        }
    }
}
