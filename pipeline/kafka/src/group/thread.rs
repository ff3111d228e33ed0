//! The thread of a group member: the one place where librdkafka is polled and told things.
//!
//! A turn: wait for a command or a wake-up, carry out commands, poll a batch, look at clocks, hand over what
//! fits. Nothing in a turn waits for the owner or for a broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::commit::Committer;
use super::context::{Callback, list};
use super::{Assignment, Command, Error, Event, Native, Options, Reply, StartAt};
use crate::mailbox::{Flow, Mailbox, Outbox};
use crate::record::{Partition, Record};
use crate::repeats::Repeats;

/// How long a turn waits when nothing wakes it: bounds the delay of a missed wake-up.
const TICK: Duration = Duration::from_millis(100);

/// How often librdkafka's main thread is woken. Left alone it looks at its clocks once a second, and heartbeats more
/// frequent than that would not be.
const WAKE: Duration = Duration::from_millis(100);

/// How long after a partition is wanted back its owner is told. Librdkafka joins a group at most once a second, and a
/// newcomer, for whom it is wanted back, has just joined: it could not join again, to take it, before.
const NOTICE: Duration = Duration::from_millis(900);

/// Wait before a partition that could not be started is started.
const START_AGAIN: Duration = Duration::from_millis(500);

/// Polls without a record in one turn, at most: a flood of log lines must not keep the owner waiting.
const SERVED_MAX: usize = 1_000;

/// What the group has given us and what became of it.
struct Held {
    started: bool,
    paused: bool,
    revoking: Option<Release>,
}

/// How far the giving back of a partition is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Release {
    /// The owner has not released it.
    Wanted,
    /// Its last commit is under way.
    Committing,
    /// To be given back.
    Ready,
}

/// A commit asked for and not answered.
struct Commit {
    /// Batch it goes with.
    batch: u64,
    reply: Reply,
    deadline: Instant,
    releases: Vec<Partition>,
}

/// What a thread is started with.
pub(super) struct Start {
    pub(super) native: Arc<Native>,
    pub(super) mailbox: Arc<Mailbox<Command>>,
    pub(super) outbox: Outbox<Event>,
    pub(super) options: Options,
    /// Topics to take whole, without the group protocol.
    pub(super) alone: Vec<Arc<str>>,
}

struct Thread {
    native: Arc<Native>,
    mailbox: Arc<Mailbox<Command>>,
    outbox: Outbox<Event>,
    options: Options,
    /// Topics still to be taken whole.
    alone: Vec<Arc<str>>,
    request_timeout: Duration,
    held: BTreeMap<Partition, Held>,
    /// Partitions that could not be started where they were told, and when to try again.
    starting: BTreeMap<Partition, (Instant, StartAt)>,
    committer: Committer,
    commits: Vec<Commit>,
    /// Offsets to commit when the batch under way is answered: however long the coordinator is away, no more
    /// wait here than there are partitions.
    next_batch: BTreeMap<Partition, i64>,
    /// Number of `next_batch`.
    batch: u64,
    /// A batch is with the committing thread.
    committing: bool,
    epoch: u64,
    /// All partitions are paused because the owner leaves no room.
    choked: bool,
    /// The last poll ended at a limit, not for want of records.
    more: bool,
    /// When librdkafka's main thread was last woken.
    woken: Instant,
    /// Partitions wanted back, and when their owner is to be told.
    wanted_back: Option<(Instant, Vec<Partition>)>,
    repeats: Repeats,
    closing: Option<(Instant, Vec<oneshot::Sender<()>>)>,
}

impl Start {
    pub(super) fn spawn(self, request_timeout: Duration) -> std::io::Result<()> {
        let thread = Thread {
            committer: Committer::spawn(&self.native, &self.mailbox)?,
            native: self.native,
            mailbox: self.mailbox,
            outbox: self.outbox,
            options: self.options,
            alone: self.alone,
            request_timeout,
            held: BTreeMap::new(),
            starting: BTreeMap::new(),
            commits: Vec::new(),
            next_batch: BTreeMap::new(),
            batch: 0,
            committing: false,
            epoch: 0,
            choked: false,
            more: false,
            woken: Instant::now(),
            wanted_back: None,
            repeats: Repeats::default(),
            closing: None,
        };
        std::thread::Builder::new().name("kafka-group".to_owned()).spawn(move || thread.run()).map(drop)
    }
}

impl Thread {
    fn run(mut self) {
        loop {
            let wait = if self.more { Duration::ZERO } else { TICK };
            for command in self.mailbox.take(wait) {
                self.obey(command);
            }
            if !self.alone.is_empty() {
                self.take_whole_topics();
            }
            self.start_again(Instant::now());
            self.poll();
            self.wake_native();
            self.ask_back(Instant::now());
            self.expire_commits(Instant::now());
            let flow = self.outbox.flush();
            if self.choked && self.outbox.is_relaxed() {
                self.unchoke();
            }
            match &self.closing {
                Some((deadline, _)) if self.commits.is_empty() || Instant::now() >= *deadline => break,
                None if flow == Flow::Gone => break,
                _ => {}
            }
        }
        self.close();
    }

    /// Asks librdkafka's main thread something that it answers from memory, so that it looks at its clocks.
    fn wake_native(&mut self) {
        if self.woken.elapsed() >= WAKE {
            self.woken = Instant::now();
            let _ = self.native.assignment();
        }
    }

    /// Leaves the group. Librdkafka's close may take its time; it takes this thread's.
    fn close(self) {
        self.native.context().close();
        drop(self.committer);
        let mut native = self.native;
        // A question to the brokers or a commit may hold the client for a moment longer.
        let native = loop {
            match Arc::try_unwrap(native) {
                Ok(native) => break native,
                Err(shared) => native = shared,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(native);
        for done in self.closing.into_iter().flat_map(|(_, done)| done) {
            let _ = done.send(());
        }
    }

    /// Takes every partition of the next topic; looks again in the next turn if the brokers do not answer.
    fn take_whole_topics(&mut self) {
        let Some(topic) = self.alone.last().cloned() else { return };
        match self.native.fetch_metadata(Some(&topic), self.request_timeout) {
            Ok(metadata) => {
                let count = metadata.topics().first().map_or(0, |found| found.partitions().len() as i32);
                if count > 0 {
                    self.alone.pop();
                    let partitions = (0..count).map(|n| Partition::new(Arc::clone(&topic), n)).collect();
                    self.called(Callback::Assigned(partitions));
                }
            }
            Err(error) => self.failed(error),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start(partition, at) => self.start(partition, at),
            Command::Stop(partition) => self.stop(partition),
            Command::Pause(partition) => self.set_paused(&partition, true),
            Command::Resume(partition) => self.set_paused(&partition, false),
            Command::Commit(offsets, reply) => self.commit(offsets, Vec::new(), reply),
            Command::Release(partitions, reply) => self.release(partitions, reply),
            Command::Committed(batch, result) => self.committed(batch, &result),
            Command::Close(done) => {
                let deadline = Instant::now() + Duration::from_millis(self.options.release_commit_timeout_ms);
                self.closing.get_or_insert_with(|| (deadline, Vec::new())).1.push(done);
            }
        }
    }

    fn start(&mut self, partition: Partition, at: StartAt) {
        self.starting.remove(&partition);
        let Some(held) =
            self.held.get_mut(&partition).filter(|held| !held.started && held.revoking.is_none())
        else {
            return;
        };
        let offset = match at {
            StartAt::Committed => Offset::Stored,
            StartAt::Beginning => Offset::Beginning,
            StartAt::Offset(offset) => Offset::Offset(offset),
        };
        let result = if self.native.context().is_fetched(&partition) {
            // Stopped before, and paused since: nothing comes before it is sure where it goes on.
            self.native.seek(&partition.topic, partition.number, offset, self.request_timeout)
        } else {
            let mut added = TopicPartitionList::new();
            added
                .add_partition_offset(&partition.topic, partition.number, offset)
                .and_then(|()| self.native.incremental_assign(&added))
        };
        if let Err(error) = result {
            // Nobody but us knows that it was to be started.
            self.starting.insert(partition, (Instant::now() + START_AGAIN, at));
            return self.failed(error);
        }
        held.started = true;
        let pause = self.choked || held.paused;
        self.native.context().fetches(partition.clone());
        let one = list(std::iter::once(&partition));
        // A pause of an earlier assignment must not outlive it.
        let result = if pause { self.native.pause(&one) } else { self.native.resume(&one) };
        self.note(result);
    }

    /// Starts what could not be started before.
    fn start_again(&mut self, now: Instant) {
        while let Some((partition, (_, at))) = self.starting.iter().find(|(_, (due, _))| *due <= now) {
            let (partition, at) = (partition.clone(), *at);
            self.start(partition, at);
        }
    }

    /// A pause throws away what was fetched ahead, so nothing follows the mark before the next start.
    fn stop(&mut self, partition: Partition) {
        self.starting.remove(&partition);
        let Some(held) = self.held.get_mut(&partition) else { return };
        held.paused = false;
        if std::mem::replace(&mut held.started, false) {
            let result = self.native.pause(&list(std::iter::once(&partition)));
            self.note(result);
        }
        self.outbox.push(Event::Stopped(partition));
    }

    fn set_paused(&mut self, partition: &Partition, paused: bool) {
        let Some(held) = self.held.get_mut(partition) else { return };
        held.paused = paused;
        if !held.started || self.choked {
            return;
        }
        let one = list(std::iter::once(partition));
        let result = if paused { self.native.pause(&one) } else { self.native.resume(&one) };
        self.note(result);
    }

    fn note(&self, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            tracing::warn!(%error, "kafka group consumer");
        }
    }

    fn commit(&mut self, offsets: Vec<(Partition, i64)>, releases: Vec<Partition>, reply: Reply) {
        if let Some((partition, _)) = offsets.iter().find(|(partition, _)| !self.held.contains_key(partition))
        {
            let _ = reply.send(Err(Error::NotAssigned(partition.clone())));
            return;
        }
        if offsets.is_empty() {
            let _ = reply.send(Ok(()));
            self.released(&releases);
            return;
        }
        let deadline = Instant::now() + Duration::from_millis(self.options.release_commit_timeout_ms);
        self.commits.push(Commit { batch: self.batch, reply, deadline, releases });
        self.next_batch.extend(offsets);
        self.send_batch();
    }

    /// Hands the next batch to the committing thread, if that is free.
    fn send_batch(&mut self) {
        if self.committing || self.next_batch.is_empty() {
            return;
        }
        let mut offsets: Vec<_> = std::mem::take(&mut self.next_batch).into_iter().collect();
        let batch = self.batch;
        self.batch += 1;
        // Partitions lost since they were asked for belong to somebody else.
        offsets.retain(|(partition, _)| self.held.contains_key(partition));
        if offsets.is_empty() {
            return self.answer(batch, &Err(Error::Commit(KafkaError::Canceled)));
        }
        self.committing = true;
        self.committer.commit(batch, offsets);
    }

    fn committed(&mut self, batch: u64, result: &Result<(), KafkaError>) {
        self.committing = false;
        self.answer(batch, &result.clone().map_err(Error::Commit));
        self.send_batch();
    }

    /// Answers the commits of a batch.
    fn answer(&mut self, batch: u64, result: &Result<(), Error>) {
        while let Some(index) = self.commits.iter().position(|commit| commit.batch == batch) {
            let commit = self.commits.remove(index);
            let _ = commit.reply.send(result.clone());
            self.released(&commit.releases);
        }
    }

    fn expire_commits(&mut self, now: Instant) {
        while let Some(index) = self.commits.iter().position(|commit| commit.deadline <= now) {
            let commit = self.commits.remove(index);
            let _ = commit.reply.send(Err(Error::TimedOut));
            self.released(&commit.releases);
        }
    }

    fn release(&mut self, partitions: Vec<(Partition, Option<i64>)>, reply: Reply) {
        let mut offsets = Vec::new();
        let mut releases = Vec::new();
        for (partition, offset) in partitions {
            let Some(held) = self.held.get_mut(&partition) else { continue };
            if held.revoking != Some(Release::Wanted) {
                continue;
            }
            held.revoking = Some(Release::Committing);
            offsets.extend(offset.map(|offset| (partition.clone(), offset)));
            releases.push(partition);
        }
        self.commit(offsets, releases, reply);
    }

    /// Marks partitions as ready to be given back and, when all that are wanted back are, gives them back.
    fn released(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(held) = self.held.get_mut(partition).filter(|held| held.revoking.is_some()) {
                held.revoking = Some(Release::Ready);
            }
        }
        let mut revoked = self.held.iter().filter_map(|(p, held)| held.revoking.map(|state| (p, state)));
        if partitions.is_empty() || !revoked.all(|(_, state)| state == Release::Ready) {
            return;
        }
        let ready: Vec<Partition> =
            self.held.iter().filter(|(_, held)| held.revoking.is_some()).map(|(p, _)| p.clone()).collect();
        if ready.is_empty() {
            return;
        }
        self.native.context().unassign(&self.native, &ready);
        self.held.retain(|_, held| held.revoking.is_none());
    }

    fn poll(&mut self) {
        self.more = false;
        if !self.outbox.is_empty() && !self.choked {
            let patience = Duration::from_millis(self.options.pause_after_ms);
            if self.outbox.full_for(Instant::now()).is_none_or(|full| full < patience) {
                return;
            }
            self.choked = true;
            let result = self.native.pause(&self.native.context().fetched());
            self.note(result);
        }
        let mut batch = Vec::new();
        let (mut bytes, mut nothing) = (0, 0);
        loop {
            if batch.len() >= self.options.batch_records_max || bytes >= self.options.batch_bytes_max {
                self.more = true;
                break;
            }
            match self.native.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    if let Some(topic) = wanted(&self.held, message.topic(), message.partition()) {
                        let record = Record::copy(&message, topic);
                        bytes += record.bytes();
                        batch.push(record);
                    }
                }
                Some(Err(error)) => self.failed(error),
                // None also says that a callback ran or a log line was served; then the queue need not be empty.
                None => {
                    let callbacks = self.native.context().take();
                    let served = self.native.context().served();
                    if callbacks.is_empty() && !served {
                        break;
                    }
                    nothing += 1;
                    if nothing >= SERVED_MAX {
                        self.more = true;
                        break;
                    }
                    self.hand_over(&mut batch);
                    callbacks.into_iter().for_each(|callback| self.called(callback));
                }
            }
        }
        self.hand_over(&mut batch);
    }

    fn hand_over(&mut self, batch: &mut Vec<Record>) {
        if !batch.is_empty() {
            self.outbox.push(Event::Records(std::mem::take(batch)));
        }
    }

    fn failed(&mut self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        // An owner that is behind need not read of trouble before it reads on.
        if fatal {
            self.outbox.push(Event::Error(Error::Fatal(error)));
        } else if self.outbox.is_empty() && self.repeats.is_news(&error, Instant::now()) {
            self.outbox.push(Event::Error(Error::Temporary(error)));
        }
    }

    fn called(&mut self, callback: Callback) {
        match callback {
            Callback::Assigned(partitions) if partitions.is_empty() => {}
            Callback::Assigned(partitions) => {
                let assigned = partitions.into_iter().map(|partition| {
                    self.epoch += 1;
                    // Where it was to start in an earlier tenure counts no more.
                    self.starting.remove(&partition);
                    let held = Held { started: false, paused: false, revoking: None };
                    self.held.insert(partition.clone(), held);
                    Assignment { partition, epoch: self.epoch }
                });
                let event = Event::Assigned(assigned.collect());
                self.outbox.push(event);
            }
            Callback::Revoking(partitions) => {
                let (_, wanted) = self.wanted_back.get_or_insert((Instant::now() + NOTICE, Vec::new()));
                wanted.extend(partitions);
            }
            Callback::Lost(partitions) => {
                for partition in &partitions {
                    self.held.remove(partition);
                }
                if !partitions.is_empty() {
                    self.outbox.push(Event::Lost(partitions));
                }
            }
        }
    }

    /// Tells the owner what is wanted back, once it is time or the thread is to end.
    fn ask_back(&mut self, now: Instant) {
        let due = |(at, _): &mut (Instant, Vec<Partition>)| *at <= now || self.closing.is_some();
        let Some((_, mut partitions)) = self.wanted_back.take_if(due) else { return };
        // One that is not held (lost before) has nobody to release it.
        partitions.retain(|partition| self.held.contains_key(partition));
        for partition in &partitions {
            if let Some(held) = self.held.get_mut(partition) {
                held.revoking = Some(Release::Wanted);
            }
        }
        if partitions.is_empty() {
            self.native.context().unassign(&self.native, &[]);
        } else {
            self.outbox.push(Event::Revoking(partitions));
        }
    }

    fn unchoke(&mut self) {
        self.choked = false;
        let running = self.held.iter().filter(|(_, held)| held.started && !held.paused).map(|(p, _)| p);
        let result = self.native.resume(&list(running));
        self.note(result);
    }
}

/// The topic's shared name, if records of the partition are to be handed over.
fn wanted(held: &BTreeMap<Partition, Held>, topic: &str, number: i32) -> Option<Arc<str>> {
    // Few partitions are held; a walk over their names costs less than making a key to look them up.
    held.iter()
        .find(|(partition, _)| partition.number == number && *partition.topic == *topic)
        .filter(|(_, held)| held.started && held.revoking.is_none())
        .map(|(partition, _)| Arc::clone(&partition.topic))
}
