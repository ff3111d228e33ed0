//! Following partitions of one topic without a group: the owner takes and gives up partitions itself.
//!
//! Low latency is the point: the ledger and the evidence are read through this. A thread of its own polls
//! librdkafka; events of all partitions come in one bounded stream. Offsets may have gaps (compaction,
//! transaction markers): an offset has been passed when [`Records::next`] is above it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::mailbox::{Inbox, Mailbox, channel};
use crate::record::Record;
use crate::repeats::Repeats;
use crate::served::Served;
use crate::settings::{Fetch, Prefetch, Settings};

mod thread;

/// What can go wrong with a tail.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client could not be made; a setting is wrong.
    #[error("cannot follow the topic: {0}")]
    Open(KafkaError),
    /// The client is broken for good: open another.
    #[error("the tail has failed for good: {0}")]
    Fatal(KafkaError),
    /// The brokers cannot be reached, or answered with an error; librdkafka goes on trying.
    #[error("kafka: {0}")]
    Temporary(KafkaError),
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// The tail is closed.
    #[error("the tail is closed")]
    Closed,
}

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the oldest record there is.
    Beginning,
    /// At this offset; at the oldest record if it is gone.
    Offset(i64),
    /// At the first record not older than this, milliseconds since 1970; at the end if there is none.
    Timestamp(i64),
    /// After the newest record.
    End,
}

/// Names one assignment of a partition. Rises with every [`Tail::assign`]: what carries a lower one than the
/// last assignment of its partition is stale.
pub type Generation = u64;

/// Records of one partition, in offset order.
#[derive(Debug)]
pub struct Records {
    /// Partition.
    pub partition: i32,
    /// Assignment they belong to.
    pub generation: Generation,
    /// The records; never empty.
    pub records: Vec<Record>,
    /// Offset after the last of them.
    pub next: i64,
}

/// What happens on a tail, in order.
#[derive(Debug)]
pub enum Event {
    /// Records.
    Records(Records),
    /// The end of the partition was reached for the first time in this generation: every record that stood
    /// there when it was assigned has been handed over (unless compacted away).
    CaughtUp {
        /// Partition.
        partition: i32,
        /// Assignment.
        generation: Generation,
        /// Offset after the last record handed over, or where the partition began if there was no record; none if
        /// that is not known, as it was to begin at its oldest record or after its newest.
        next: Option<i64>,
    },
    /// The partition could not begin where it was asked to, and begins at its oldest record.
    Rewound {
        /// Partition.
        partition: i32,
        /// Assignment.
        generation: Generation,
        /// Offset asked for.
        asked: i64,
        /// Offset of the first record.
        found: i64,
    },
    /// Something went wrong; unless it is [`Error::Fatal`] the stream goes on. Trouble that repeats is told once in
    /// a while.
    Error(Error),
}

/// Limits of a tail.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How fetches wait; none: answered at once, as the settings say.
    pub fetch: Option<Fetch>,
    /// How much is fetched ahead.
    pub prefetch: Prefetch,
    /// Records handed over at once, at most.
    pub batch_records_max: usize,
    /// Bytes handed over at once; the record that passes it is the last of its batch.
    pub batch_bytes_max: usize,
    /// Events waiting for the owner, at most.
    pub events_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fetch: None,
            prefetch: Prefetch::Much,
            batch_records_max: 1_000,
            batch_bytes_max: 1024 * 1024,
            events_max: 16,
        }
    }
}

/// Librdkafka's callbacks: only logs.
#[derive(Default)]
struct Context {
    served: Served,
    repeats: Repeats,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.served.log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {
        self.served.note();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is asked for, and no trouble.
        let is_end = error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF);
        if !is_end {
            self.repeats.warn(&error, reason, "kafka tail");
        }
    }
}

impl ConsumerContext for Context {}

type Native = BaseConsumer<Context>;

enum Command {
    Assign(i32, Generation, From),
    Unassign(i32),
    Close(oneshot::Sender<()>),
}

/// A reader of partitions of one topic. Dropping it closes it in the background.
pub struct Tail {
    inbox: Inbox<Event>,
    control: Control,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail").field("topic", &self.control.topic).finish_non_exhaustive()
    }
}

/// Asks things of a [`Tail`]; cheap to clone.
#[derive(Clone)]
pub struct Control {
    topic: Arc<str>,
    mailbox: Arc<Mailbox<Command>>,
    native: Weak<Native>,
    generations: Arc<std::sync::atomic::AtomicU64>,
    request_timeout: Duration,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Tail {
    /// Opens a tail of `topic`; it follows nothing until [`Control::assign`].
    pub fn open(settings: &Settings, topic: &str, options: Options) -> Result<Self, Error> {
        let mailbox = Mailbox::<Command>::new();
        let topic: Arc<str> = topic.into();
        let mut native: Native = settings
            .tail(options.fetch, options.prefetch)
            .create_with_context(Context::default())
            .map_err(Error::Open)?;
        let waker = Arc::clone(&mailbox);
        native.set_nonempty_callback(move || waker.wake());
        let native = Arc::new(native);
        let waker = Arc::clone(&mailbox);
        let (outbox, inbox) = channel(options.events_max, Arc::new(move || waker.wake()));
        let control = Control {
            topic: Arc::clone(&topic),
            mailbox: Arc::clone(&mailbox),
            native: Arc::downgrade(&native),
            generations: Arc::default(),
            request_timeout: settings.request_timeout(),
        };
        let start = thread::Start { native, mailbox, outbox, options, topic };
        start.spawn(settings.request_timeout()).map_err(|error| {
            Error::Open(KafkaError::ClientCreation(format!("cannot start its thread: {error}")))
        })?;
        Ok(Self { inbox, control })
    }

    /// Waits for the next event; none once closed. Safe to cancel.
    pub async fn recv(&mut self) -> Option<Event> {
        self.inbox.recv().await
    }

    /// The way to ask things.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// See [`Control::assign`].
    pub fn assign(&self, partition: i32, from: From) -> Generation {
        self.control.assign(partition, from)
    }

    /// See [`Control::unassign`].
    pub fn unassign(&self, partition: i32) {
        self.control.unassign(partition);
    }

    /// Ends the thread and waits for it.
    pub async fn close(mut self) {
        let (done, closed) = oneshot::channel();
        self.control.mailbox.post(Command::Close(done));
        let mut closed = std::pin::pin!(closed);
        loop {
            tokio::select! {
                biased;
                _ = &mut closed => return,
                event = self.inbox.recv() => if event.is_none() { break },
            }
        }
        let _ = closed.await;
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        self.control.mailbox.post(Command::Close(done));
    }
}

impl Control {
    /// Follows a partition from there on. If it was followed already, it begins again, under a new
    /// generation.
    pub fn assign(&self, partition: i32, from: From) -> Generation {
        let generation = self.generations.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.mailbox.post(Command::Assign(partition, generation, from));
        generation
    }

    /// Follows a partition no more. Events already in the stream still come.
    pub fn unassign(&self, partition: i32) {
        self.mailbox.post(Command::Unassign(partition));
    }

    /// Asks the broker for the oldest offset and the end (offset after the newest record).
    pub async fn watermarks(&self, partition: i32) -> Result<(i64, i64), Error> {
        let topic = Arc::clone(&self.topic);
        self.ask(move |native, timeout| native.fetch_watermarks(&topic, partition, timeout)).await
    }

    /// Asks the broker for the first offset whose record is not older than `at_ms` (milliseconds since 1970);
    /// none if there is no such record.
    pub async fn offset_at(&self, partition: i32, at_ms: i64) -> Result<Option<i64>, Error> {
        let topic = Arc::clone(&self.topic);
        let wanted = (partition, Offset::Offset(at_ms));
        let found = self.ask(move |native, timeout| {
            found_at(&offsets_of(native, &topic, std::iter::once(wanted), timeout)?, &topic, partition)
        });
        Ok(match found.await? {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    }

    /// Asks the brokers how many partitions the topic has.
    pub async fn partition_count(&self) -> Result<i32, Error> {
        let topic = Arc::clone(&self.topic);
        let count = self
            .ask(move |native, timeout| {
                let metadata = native.fetch_metadata(Some(&topic), timeout)?;
                let found = metadata.topics().iter().find(|found| *found.name() == *topic);
                Ok(found
                    .map_or(0, |found| if found.error().is_some() { 0 } else { found.partitions().len() }))
            })
            .await?;
        match i32::try_from(count) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(Error::NoTopic(self.topic.to_string())),
        }
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Native, Duration) -> Result<R, KafkaError> + Send + 'static,
    ) -> Result<R, Error> {
        let (native, timeout) = (self.native.clone(), self.request_timeout);
        let blocking = move || {
            let native = native.upgrade().ok_or(Error::Closed)?;
            question(&native, timeout).map_err(Error::Temporary)
        };
        tokio::task::spawn_blocking(blocking).await.unwrap_or(Err(Error::Closed))
    }
}

/// What the brokers said of one partition.
type Found = Result<Offset, KafkaError>;

/// Asks the brokers for offsets: `Offset::Offset` wants the first record not older than that (milliseconds since 1970),
/// `Offset::End` the end.
fn offsets_of(
    native: &Native,
    topic: &str,
    wanted: impl Iterator<Item = (i32, Offset)>,
    timeout: Duration,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in wanted {
        list.add_partition_offset(topic, partition, offset)?;
    }
    native.offsets_for_times(list, timeout)
}

/// What they answered of a partition; `Offset::End` if no record is so young.
fn found_at(list: &TopicPartitionList, topic: &str, partition: i32) -> Found {
    let element = list.find_partition(topic, partition);
    element.map_or(Ok(Offset::End), |element| element.error().map(|()| element.offset()))
}

/// First offset at or after a time (milliseconds since 1970) in each of some partitions; where no record is so young,
/// the end as it stood before anything younger could come.
fn offsets_at(
    native: &Native,
    topic: &str,
    times: &[(i32, i64)],
    timeout: Duration,
) -> Result<Vec<(i32, Found)>, KafkaError> {
    let ends = times.iter().map(|(partition, _)| (*partition, Offset::End));
    let since = times.iter().map(|(partition, at_ms)| (*partition, Offset::Offset(*at_ms)));
    // The end is asked for first: "at the end" said after the times would leave out what came in between.
    let ends = offsets_of(native, topic, ends, timeout)?;
    let since = offsets_of(native, topic, since, timeout)?;
    let offset = |partition| match found_at(&since, topic, partition)? {
        Offset::End => found_at(&ends, topic, partition),
        offset => Ok(offset),
    };
    Ok(times.iter().map(|(partition, _)| (*partition, offset(*partition))).collect())
}
