//! A member of a consumer group whose owner decides when a partition begins and when it is given back.
//!
//! A thread of its own polls librdkafka and never waits for the owner, so rebalances and heartbeats go on
//! whatever the owner does. All events come in one ordered stream:
//!
//! - [`Event::Assigned`]: the group gave us partitions. Nothing is fetched until [`Control::start`].
//! - [`Event::Records`]: records of started partitions.
//! - [`Event::Revoking`]: the group wants partitions back. No record of theirs comes after this. The group
//!   waits (up to `max_poll_interval_ms`) until [`Control::release`] was called for each of them.
//! - [`Event::Lost`]: partitions are gone already; another member may have them. Commits for them are
//!   refused.
//!
//! Back-pressure: the channel of events is bounded. While it is full the thread polls nothing; after
//! `pause_after_ms` it pauses the partitions (which throws away what was fetched ahead) and polls again, only
//! for rebalances, until half of the channel is free.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::mailbox::{Inbox, Mailbox, channel};
use crate::record::{Partition, Record};
use crate::settings::{Fetch, Membership, Settings};

mod commit;
mod context;
mod thread;

use context::Context;

/// What can go wrong with a member of a group.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The client could not be made or could not subscribe; a setting is wrong.
    #[error("cannot join the group: {0}")]
    Join(KafkaError),
    /// The client is broken for good: close it and join again.
    #[error("the consumer has failed for good: {0}")]
    Fatal(KafkaError),
    /// The brokers cannot be reached, or answered with an error; librdkafka goes on trying.
    #[error("kafka: {0}")]
    Temporary(KafkaError),
    /// The offsets were not committed.
    #[error("offsets not committed: {0}")]
    Commit(KafkaError),
    /// The partition is not ours (any more), so nothing was committed.
    #[error("{0} is not assigned to this member")]
    NotAssigned(Partition),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The consumer is closed.
    #[error("the consumer is closed")]
    Closed,
}

/// A partition the group gave us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub partition: Partition,
    /// Rises with every assignment of this member; tells two assignments of one partition apart.
    pub epoch: u64,
}

/// What happens to a member, in order.
#[derive(Debug)]
pub enum Event {
    /// Partitions came. Call [`Control::start`] for each.
    Assigned(Vec<Assignment>),
    /// Partitions are wanted back. Call [`Control::release`] for each.
    Revoking(Vec<Partition>),
    /// Partitions are gone.
    Lost(Vec<Partition>),
    /// Records, in offset order within a partition.
    Records(Vec<Record>),
    /// A partition is stopped, as [`Control::stop`] asked: what comes of it from here on was fetched after its
    /// next start.
    Stopped(Partition),
    /// Something went wrong; unless it is [`Error::Fatal`] the stream goes on.
    Error(Error),
}

/// Where a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the group's committed offset; at the beginning if it has none. Not for a partition that was stopped.
    Committed,
    /// At the oldest record there is.
    Beginning,
    /// At this offset; at the oldest record if it is gone.
    Offset(i64),
}

/// Limits of a member.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How fetches wait; none: answered at once, as the settings say.
    pub fetch: Option<Fetch>,
    /// Records handed over at once, at most.
    pub batch_records_max: usize,
    /// Bytes handed over at once; the record that passes it is the last of its batch.
    pub batch_bytes_max: usize,
    /// Events waiting for the owner, at most.
    pub events_max: usize,
    /// How long the owner may leave no room before partitions are paused, milliseconds.
    pub pause_after_ms: u64,
    /// Time limit of the commit made by a release, milliseconds.
    pub release_commit_timeout_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fetch: None,
            batch_records_max: 500,
            batch_bytes_max: 1024 * 1024,
            events_max: 4,
            pause_after_ms: 1_000,
            release_commit_timeout_ms: 5_000,
        }
    }
}

/// An answer that comes when the thread has done what was asked. May be dropped.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Result<(), Error>>);

impl Future for Answer {
    type Output = Result<(), Error>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}

type Reply = oneshot::Sender<Result<(), Error>>;
type Native = BaseConsumer<Context>;

/// What the owner may ask of the thread.
enum Command {
    Start(Partition, StartAt),
    Stop(Partition),
    Pause(Partition),
    Resume(Partition),
    Commit(Vec<(Partition, i64)>, Reply),
    Release(Vec<(Partition, Option<i64>)>, Reply),
    Close(oneshot::Sender<()>),
    /// From the committing thread: what became of a commit.
    Committed(u64, Result<(), KafkaError>),
}

/// A member of a consumer group. Dropping it leaves the group in the background.
pub struct GroupConsumer {
    inbox: Inbox<Event>,
    control: Control,
}

impl std::fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupConsumer").finish_non_exhaustive()
    }
}

/// Asks things of a [`GroupConsumer`]; cheap to clone. Calls never wait; those with an [`Answer`] tell when
/// they are done.
#[derive(Clone)]
pub struct Control {
    mailbox: Arc<Mailbox<Command>>,
    native: Weak<Native>,
    request_timeout: Duration,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl GroupConsumer {
    /// Joins the group `role` (with the settings' prefix) as a reader of `topics`.
    pub fn join(settings: &Settings, role: &str, topics: &[&str], options: Options) -> Result<Self, Error> {
        let mailbox = Mailbox::<Command>::new();
        let config = settings.group_consumer(&settings.group_id(role), options.fetch);
        let mut native: Native = config.create_with_context(Context::default()).map_err(Error::Join)?;
        let waker = Arc::clone(&mailbox);
        native.set_nonempty_callback(move || waker.wake());
        let alone = match settings.membership {
            Membership::Shared => {
                native.subscribe(topics).map_err(Error::Join)?;
                Vec::new()
            }
            Membership::Alone => topics.iter().map(|topic| Arc::from(*topic)).collect(),
        };
        let native = Arc::new(native);
        let waker = Arc::clone(&mailbox);
        let (outbox, inbox) = channel(options.events_max, Arc::new(move || waker.wake()));
        let control = Control {
            mailbox: Arc::clone(&mailbox),
            native: Arc::downgrade(&native),
            request_timeout: settings.request_timeout(),
        };
        let start = thread::Start { native, mailbox, outbox, options, alone };
        start.spawn(settings.request_timeout()).map_err(|error| {
            Error::Join(KafkaError::ClientCreation(format!("cannot start its thread: {error}")))
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

    /// Waits for commits under way, leaves the group and ends the thread. Partitions still assigned go to
    /// others at once; commit or release them first.
    pub async fn close(mut self) {
        let (done, closed) = oneshot::channel();
        self.control.mailbox.post(Command::Close(done));
        let mut closed = std::pin::pin!(closed);
        loop {
            // The stream is drained so that a full channel cannot hold the thread up.
            tokio::select! {
                biased;
                _ = &mut closed => return,
                event = self.inbox.recv() => if event.is_none() { break },
            }
        }
        let _ = closed.await;
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        self.control.mailbox.post(Command::Close(done));
    }
}

impl Control {
    /// Begins to fetch an assigned partition. Ignored if it is not assigned or already started.
    pub fn start(&self, partition: Partition, at: StartAt) {
        self.mailbox.post(Command::Start(partition, at));
    }

    /// Ends fetching a partition that stays assigned, so that it can be started anew, anywhere. Records already
    /// in the stream still come, up to [`Event::Stopped`]. Ignored if it is not assigned.
    pub fn stop(&self, partition: Partition) {
        self.mailbox.post(Command::Stop(partition));
    }

    /// Stops fetching a partition for a while. What was fetched ahead is thrown away and fetched again after
    /// [`Control::resume`]: for seconds, not for milliseconds. Records already in the stream still come.
    pub fn pause(&self, partition: Partition) {
        self.mailbox.post(Command::Pause(partition));
    }

    /// Fetches a paused partition again, from the record after the last one handed over.
    pub fn resume(&self, partition: Partition) {
        self.mailbox.post(Command::Resume(partition));
    }

    /// Commits offsets (of the next record to read). Refused as a whole if one of the partitions is not ours.
    pub fn commit(&self, offsets: Vec<(Partition, i64)>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.mailbox.post(Command::Commit(offsets, reply));
        Answer(answer)
    }

    /// Gives revoked partitions back, with the offsets to commit for them first. Answers when the commit is
    /// done or has failed; the partitions are given back in either case, once all that were revoked together
    /// are released.
    pub fn release(&self, partitions: Vec<(Partition, Option<i64>)>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.mailbox.post(Command::Release(partitions, reply));
        Answer(answer)
    }

    /// Asks the broker for the first offset whose record is not older than `at_ms` (milliseconds since 1970);
    /// none if there is no such record.
    pub async fn offset_at(&self, partition: &Partition, at_ms: i64) -> Result<Option<i64>, Error> {
        let partition = partition.clone();
        self.ask(move |native, timeout| {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(at_ms))?;
            let found = native.offsets_for_times(list, timeout)?;
            Ok(offset_of(&found, &partition))
        })
        .await
    }

    /// The group's committed offsets (of the next record to read), as the coordinator has them; none where
    /// nothing was committed.
    pub async fn committed(
        &self,
        partitions: Vec<Partition>,
    ) -> Result<Vec<(Partition, Option<i64>)>, Error> {
        self.ask(move |native, timeout| {
            let found = native.committed_offsets(context::list(partitions.iter()), timeout)?;
            Ok(partitions
                .into_iter()
                .map(|partition| {
                    let offset = offset_of(&found, &partition);
                    (partition, offset)
                })
                .collect())
        })
        .await
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

fn offset_of(list: &TopicPartitionList, partition: &Partition) -> Option<i64> {
    match list.find_partition(&partition.topic, partition.number)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
