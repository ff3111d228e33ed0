//! The thread of a tail. It may wait for its owner: nothing but records comes over its queue, and librdkafka
//! bounds what it fetches ahead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::{Command, Error, Event, From, Generation, Native, Options, Records, offsets_at};
use crate::mailbox::{Flow, Mailbox, Outbox};
use crate::record::Record;
use crate::repeats::Repeats;

/// How long a turn waits when nothing wakes it: bounds the delay of a missed wake-up.
const TICK: Duration = Duration::from_millis(100);

/// Polls without a record in one turn, at most: a flood of log lines must not keep the owner waiting.
const SERVED_MAX: usize = 1_000;

/// Wait before a partition that could not begin, because the brokers did not say where, begins.
const BEGIN_AGAIN: Duration = Duration::from_millis(500);

/// How long the thread waits at its start to get to know its topic.
const ACQUAINTANCE: Duration = Duration::from_secs(1);

/// A partition being followed.
struct Followed {
    generation: Generation,
    /// Offset asked for, until the first record shows whether it was to be had.
    asked: Option<i64>,
    /// Offset after the last record.
    next: Option<i64>,
    caught_up: bool,
}

/// What a thread is started with.
pub(super) struct Start {
    pub(super) native: Arc<Native>,
    pub(super) mailbox: Arc<Mailbox<Command>>,
    pub(super) outbox: Outbox<Event>,
    pub(super) options: Options,
    pub(super) topic: Arc<str>,
}

struct Thread {
    start: Start,
    request_timeout: Duration,
    followed: HashMap<i32, Followed>,
    /// Partitions that have not begun yet.
    beginning: BTreeMap<i32, (Generation, From)>,
    /// They are not asked for again before.
    begin_at: Instant,
    /// The last poll ended at a limit, not for want of records.
    more: bool,
    /// The owner leaves no room: what it left unread is polled once there is some.
    full: bool,
    repeats: Repeats,
    closing: Vec<oneshot::Sender<()>>,
}

impl Start {
    pub(super) fn spawn(self, request_timeout: Duration) -> std::io::Result<()> {
        let thread = Thread {
            start: self,
            request_timeout,
            followed: HashMap::new(),
            beginning: BTreeMap::new(),
            begin_at: Instant::now(),
            more: false,
            full: false,
            repeats: Repeats::default(),
            closing: Vec::new(),
        };
        std::thread::Builder::new().name("kafka-tail".to_owned()).spawn(move || thread.run()).map(drop)
    }
}

impl Thread {
    fn run(mut self) {
        // A partition of a topic that librdkafka does not know yet is not fetched before its next look at all topics, up
        // to a second later. Without an answer it is as if we had not asked.
        let _ = self.start.native.fetch_metadata(Some(&self.start.topic), ACQUAINTANCE);
        loop {
            let wait = if self.more { Duration::ZERO } else { TICK };
            for command in self.start.mailbox.take(wait) {
                match command {
                    Command::Assign(partition, generation, from) => {
                        self.unassign(partition);
                        self.beginning.insert(partition, (generation, from));
                        self.begin_at = Instant::now();
                    }
                    Command::Unassign(partition) => self.unassign(partition),
                    Command::Close(done) => self.closing.push(done),
                }
            }
            if !self.closing.is_empty() {
                break;
            }
            self.more = false;
            if !self.beginning.is_empty() && self.begin_at <= Instant::now() {
                self.begin();
            }
            if self.start.outbox.is_empty() {
                self.poll();
            }
            match self.start.outbox.flush() {
                Flow::Gone => break,
                Flow::Full => (self.more, self.full) = (false, true),
                // Librdkafka told of what it holds when that came; it does not tell again.
                Flow::Open => self.more |= std::mem::take(&mut self.full),
            }
        }
        let mut native = self.start.native;
        // A question to the broker may hold the client for a moment longer.
        let native = loop {
            match Arc::try_unwrap(native) {
                Ok(native) => break native,
                Err(shared) => native = shared,
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(native);
        for done in self.closing {
            let _ = done.send(());
        }
    }

    /// Begins what has not begun. What the brokers do not let begin stays, and is tried again later: nobody else
    /// would ever ask for it.
    fn begin(&mut self) {
        self.begin_at = Instant::now() + BEGIN_AGAIN;
        let mut times = Vec::new();
        for (partition, (generation, from)) in self.beginning.clone() {
            match from {
                From::Beginning => self.assign(partition, generation, Offset::Beginning),
                From::End => self.assign(partition, generation, Offset::End),
                From::Offset(offset) => self.assign(partition, generation, Offset::Offset(offset)),
                From::Timestamp(at_ms) => times.push((partition, at_ms)),
            }
        }
        if times.is_empty() {
            return;
        }
        match offsets_at(&self.start.native, &self.start.topic, &times, self.request_timeout) {
            Ok(found) => {
                for (partition, offset) in found {
                    let generation = self.beginning.get(&partition).map(|(generation, _)| *generation);
                    match (offset, generation) {
                        (Ok(offset), Some(generation)) => self.assign(partition, generation, offset),
                        (Ok(_), None) => {}
                        (Err(error), _) => self.failed(error),
                    }
                }
            }
            Err(error) => self.failed(error),
        }
    }

    fn assign(&mut self, partition: i32, generation: Generation, offset: Offset) {
        let mut added = TopicPartitionList::new();
        let assigned = added
            .add_partition_offset(&self.start.topic, partition, offset)
            .and_then(|()| self.start.native.incremental_assign(&added));
        match assigned {
            Ok(()) => {
                self.beginning.remove(&partition);
                let asked = if let Offset::Offset(asked) = offset { Some(asked) } else { None };
                let followed = Followed { generation, asked, next: None, caught_up: false };
                self.followed.insert(partition, followed);
            }
            Err(error) => self.failed(error),
        }
    }

    fn unassign(&mut self, partition: i32) {
        self.beginning.remove(&partition);
        if self.followed.remove(&partition).is_none() {
            return;
        }
        let mut removed = TopicPartitionList::new();
        removed.add_partition(&self.start.topic, partition);
        if let Err(error) = self.start.native.incremental_unassign(&removed) {
            self.failed(error);
        }
    }

    fn failed(&mut self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        if !fatal && !self.repeats.is_news(&error, Instant::now()) {
            return;
        }
        let event = if fatal { Error::Fatal(error) } else { Error::Temporary(error) };
        self.start.outbox.push(Event::Error(event));
    }

    /// Polls up to a batch; consecutive records of one partition go over together.
    fn poll(&mut self) {
        let native = Arc::clone(&self.start.native);
        let (mut count, mut bytes, mut nothing) = (0, 0, 0);
        let mut run: Option<Records> = None;
        loop {
            if count >= self.start.options.batch_records_max || bytes >= self.start.options.batch_bytes_max {
                self.more = true;
                break;
            }
            match native.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let partition = message.partition();
                    let offset = message.offset();
                    let Some(followed) = self.followed.get_mut(&partition) else { continue };
                    followed.next = Some(offset + 1);
                    let generation = followed.generation;
                    let rewound = followed.asked.take().filter(|asked| offset < *asked);
                    let record = Record::copy(&message, Arc::clone(&self.start.topic));
                    count += 1;
                    bytes += record.bytes();
                    if rewound.is_some() || run.as_ref().is_some_and(|run| run.partition != partition) {
                        self.hand_over(&mut run);
                    }
                    if let Some(asked) = rewound {
                        let event = Event::Rewound { partition, generation, asked, found: offset };
                        self.start.outbox.push(event);
                    }
                    let run = run.get_or_insert_with(|| Records {
                        partition,
                        generation,
                        records: Vec::new(),
                        next: offset,
                    });
                    run.records.push(record);
                    run.next = offset + 1;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.hand_over(&mut run);
                    self.reached_end(partition);
                }
                Some(Err(error)) => {
                    self.hand_over(&mut run);
                    self.failed(error);
                }
                // None also says that a log line was served; then the queue need not be empty.
                None if native.context().served.take() => {
                    nothing += 1;
                    if nothing >= SERVED_MAX {
                        self.more = true;
                        break;
                    }
                }
                None => break,
            }
        }
        self.hand_over(&mut run);
    }

    fn reached_end(&mut self, partition: i32) {
        let Some(followed) = self.followed.get_mut(&partition).filter(|followed| !followed.caught_up) else {
            return;
        };
        followed.caught_up = true;
        let next = followed.next.or(followed.asked);
        let event = Event::CaughtUp { partition, generation: followed.generation, next };
        self.start.outbox.push(event);
    }

    fn hand_over(&mut self, run: &mut Option<Records>) {
        if let Some(records) = run.take() {
            self.start.outbox.push(Event::Records(records));
        }
    }
}
