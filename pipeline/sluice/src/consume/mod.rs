//! How the processor and the reducer read a topic: at least once, pipelined, bounded.
//!
//! One task owns the group member. Batches run beside each other as futures that end when everything that
//! follows from their records is acknowledged; only then are the records reported as done, and only what is done
//! without a gap is committed. The order of the `select!` is the proof that nothing starves: shutdown, then
//! batches that ended, and new records last.

#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod writer;

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde::{Deserialize, Serialize};
use sluice_kafka::group;
use sluice_kafka::owner::{Options, Owner, Turn};
use sluice_kafka::record::{Partition, Record};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Time to commit and leave the group after the batches have ended.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(8);

/// Bounds of a reading role.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Records read and not done, at most.
    pub in_flight_records_max: usize,
    /// Their bytes, at most; the batch that passes it is still taken.
    pub in_flight_bytes_max: usize,
    /// Batches at once.
    pub batches_max: usize,
    /// Records of one batch.
    pub batch_records_max: usize,
    /// At most one commit in this time, milliseconds.
    pub commit_interval_ms: u64,
    /// Time to end batches when the process stops, milliseconds.
    pub drain_timeout_ms: u64,
}

/// What a role does with a batch.
pub(crate) trait Handler: Send {
    /// Begins the work on `batch`; the future ends when all that follows from it is acknowledged.
    ///
    /// It retries what may succeed later for as long as it takes; an error ends the role.
    fn handle(&mut self, batch: Vec<Record>) -> BoxFuture<'static, anyhow::Result<()>>;
}

/// What is read, and by whom.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    /// How to reach Kafka.
    pub(crate) kafka: &'a sluice_kafka::settings::Settings,
    /// The role, which names the group.
    pub(crate) role: &'static str,
    /// The topics.
    pub(crate) topics: &'a [&'a str],
    /// If set, a partition that comes begins this long before now, milliseconds.
    pub(crate) reread_ms: Option<i64>,
}

/// Reads until `shutdown`, then ends the batches in flight, commits and leaves the group.
///
/// # Errors
/// When the role cannot go on. What is not committed is read again by the next owner.
pub(crate) async fn run(
    source: Source<'_>,
    handler: impl Handler,
    limits: &Limits,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let options = Options {
        commit_interval_ms: limits.commit_interval_ms,
        reread_ms: source.reread_ms,
        ..Options::default()
    };
    let mut owner = Owner::join(source.kafka, source.role, source.topics, options)?;
    tracing::info!(role = source.role, topics = ?source.topics, "reading");
    let mut reader = Reader::new(handler, limits.clone());
    let ended = loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            Some(batch) = reader.running.next(), if !reader.running.is_empty() => {
                if let Err(error) = reader.ended(batch, &mut owner) {
                    break Err(error);
                }
            }
            turn = owner.next(), if reader.has_room() => match turn {
                Some(Turn::Records(records)) => reader.take(records),
                Some(Turn::Gone(partitions)) => tracing::info!(role = source.role, ?partitions, "partitions are gone"),
                Some(Turn::Error(error @ group::Error::Fatal(_))) => break Err(error.into()),
                Some(Turn::Error(error)) => tracing::warn!(role = source.role, %error, "kafka trouble; going on"),
                None => break Err(group::Error::Closed.into()),
            },
        }
        reader.start_batches();
    };
    let drained = reader.drain(&mut owner).await;
    if let Err(error) = owner.close().await {
        tracing::warn!(role = source.role, %error, "last offsets not committed; those records are repeated");
    }
    ended.and(drained)
}

/// Where the records of a batch were read, to report them as done.
type Places = Vec<(Partition, i64)>;

struct Ended {
    places: Places,
    bytes: usize,
    result: anyhow::Result<()>,
}

struct Reader<H> {
    handler: H,
    limits: Limits,
    waiting: Vec<Record>,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Records waiting or in a batch, and their bytes.
    open_records: usize,
    open_bytes: usize,
}

impl<H: Handler> Reader<H> {
    fn new(handler: H, limits: Limits) -> Self {
        Self {
            handler,
            limits,
            waiting: Vec::new(),
            running: FuturesUnordered::new(),
            open_records: 0,
            open_bytes: 0,
        }
    }

    /// Whether more may be read. Partitions that are wanted back are heard of once there is room again.
    fn has_room(&self) -> bool {
        self.open_records < self.limits.in_flight_records_max
            && self.open_bytes < self.limits.in_flight_bytes_max
    }

    fn take(&mut self, records: Vec<Record>) {
        self.open_records += records.len();
        self.open_bytes += records.iter().map(Record::bytes).sum::<usize>();
        if self.waiting.is_empty() {
            self.waiting = records;
        } else {
            self.waiting.extend(records);
        }
    }

    fn start_batches(&mut self) {
        while !self.waiting.is_empty() && self.running.len() < self.limits.batches_max {
            let batch = if self.waiting.len() <= self.limits.batch_records_max {
                std::mem::take(&mut self.waiting)
            } else {
                self.waiting.drain(..self.limits.batch_records_max).collect()
            };
            let places = batch.iter().map(|record| (record.partition.clone(), record.offset)).collect();
            let bytes = batch.iter().map(Record::bytes).sum();
            let work = self.handler.handle(batch);
            self.running.push(Box::pin(async move { Ended { places, bytes, result: work.await } }));
        }
    }

    /// Reports a batch as done. One that failed is not: its records are read again.
    fn ended(&mut self, batch: Ended, owner: &mut Owner) -> anyhow::Result<()> {
        self.open_records -= batch.places.len();
        self.open_bytes -= batch.bytes;
        batch.result?;
        for (partition, offset) in &batch.places {
            owner.done(partition, *offset);
        }
        Ok(())
    }

    /// Ends what is running, within the time limit. Records still waiting are left to the next owner.
    async fn drain(&mut self, owner: &mut Owner) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_millis(self.limits.drain_timeout_ms);
        let mut first = Ok(());
        while !self.running.is_empty() {
            match tokio::time::timeout_at(deadline, self.running.next()).await {
                Ok(Some(batch)) => {
                    let ended = self.ended(batch, owner);
                    first = first.and(ended);
                }
                Ok(None) => break,
                Err(_) => {
                    let batches = self.running.len();
                    tracing::warn!(batches, "stopped before all batches ended; they are repeated");
                    break;
                }
            }
        }
        first
    }
}
