//! Writing records: a token goes in with each record and comes back with its delivery report.
//!
//! A thread of each producer collects its reports; nothing here blocks or spins. Records of one partition stand
//! in the log in the order of the `send` calls (idempotent producer, all in-sync replicas).
//!
//! What is bounded: records sent whose report has not been collected (`queue_messages_max`), and bytes not
//! yet acknowledged (`queue_bytes_max`). Beyond either, `send` gives the token back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientContext, config::FromClientConfigAndContext};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::record::Outgoing;
use crate::repeats::Repeats;
use crate::settings::{ProducerOptions, Settings};

/// Where a record stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// Why a record was not written, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full: try again when reports have come in. Not written.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The record is larger than its topic allows. Not written, and never will be.
    #[error("the record is larger than the topic allows")]
    TooLarge,
    /// Refused (no such topic or partition, not authorised, not a valid record). Not written.
    #[error("the record was refused: {0}")]
    Refused(String),
    /// Not acknowledged in time, or the connection broke: the record may stand in the log, now or a little
    /// later, or not.
    #[error("the record may or may not have been written: {0}")]
    Unknown(String),
    /// The producer is broken for good: make a new one. Not written.
    #[error("the producer has failed for good: {0}")]
    Fatal(String),
}

impl WriteError {
    fn of(error: &KafkaError) -> Self {
        let Some(code) = error.rdkafka_error_code() else { return Self::Refused(error.to_string()) };
        match code {
            Code::QueueFull => Self::QueueFull,
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
                Self::TooLarge
            }
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::PolicyViolation
            | Code::InvalidArgument
            | Code::PurgeQueue => Self::Refused(code.to_string()),
            Code::Fatal => Self::Fatal(code.to_string()),
            _ => Self::Unknown(code.to_string()),
        }
    }

    /// Whether the record certainly does not stand in the log and never will.
    pub fn is_not_written(&self) -> bool {
        !matches!(self, Self::Unknown(_))
    }
}

/// `send` did not take the record; the token comes back.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SendError<T> {
    /// The token given.
    pub token: T,
    /// Why.
    pub reason: WriteError,
}

/// What became of a record.
#[derive(Debug)]
pub struct Delivery<T> {
    /// The token given with the record.
    pub token: T,
    /// Where it stands, or why it does not.
    pub result: Result<Position, WriteError>,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a Kafka producer: {0}")]
pub struct OpenError(#[from] KafkaError);

type Reply = oneshot::Sender<Result<Position, WriteError>>;

/// Who is to hear what became of a record.
enum Ticket<T> {
    Owner(T),
    Waiter(Reply),
}

/// What is under way.
#[derive(Debug, Default)]
struct Counts {
    /// Given to librdkafka and not yet reported.
    unreported: AtomicUsize,
    /// Sent by the owner and not yet collected by it; a record that is waited for counts until reported.
    uncollected: AtomicUsize,
    idle: Notify,
}

impl Counts {
    fn reported(&self) {
        if self.unreported.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }
}

struct Context<T> {
    deliveries: mpsc::UnboundedSender<Delivery<T>>,
    counts: Arc<Counts>,
    repeats: Repeats,
}

impl<T: Send + Sync + 'static> ClientContext for Context<T> {
    fn error(&self, error: KafkaError, reason: &str) {
        self.repeats.warn(&error, reason, "kafka producer");
    }
}

impl<T: Send + Sync + 'static> ProducerContext for Context<T> {
    type DeliveryOpaque = Box<Ticket<T>>;

    fn delivery(&self, report: &DeliveryResult<'_>, ticket: Self::DeliveryOpaque) {
        let result = match report {
            Ok(message) => Ok(Position { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(WriteError::of(error)),
        };
        match *ticket {
            Ticket::Owner(token) => {
                // Counted down when collected. An owner that has dropped its end no longer wants to know.
                let _ = self.deliveries.send(Delivery { token, result });
            }
            Ticket::Waiter(reply) => {
                self.counts.uncollected.fetch_sub(1, Ordering::Relaxed);
                let _ = reply.send(result);
            }
        }
        self.counts.reported();
    }
}

/// How long the thread that collects reports waits at a time; what comes ends the wait. The binding counts the time in
/// whole milliseconds and spins in the last one: a `ThreadedProducer`, which waits 100 ms, uses one percent of a core
/// with nothing to do.
const COLLECT_WAIT: Duration = Duration::from_secs(1);

/// Starts the thread that collects reports, and hands them to the context.
fn collect_reports<T: Send + Sync + 'static>(
    native: Arc<BaseProducer<Context<T>>>,
    closed: Arc<AtomicBool>,
) -> Result<(), OpenError> {
    let collect = move || {
        while !closed.load(Ordering::Relaxed) {
            native.poll(COLLECT_WAIT);
        }
    };
    let thread = std::thread::Builder::new().name("kafka-reports".to_owned()).spawn(collect);
    thread
        .map(drop)
        .map_err(|error| OpenError(KafkaError::ClientCreation(format!("cannot start its thread: {error}"))))
}

struct Inner<T: Send + Sync + 'static> {
    native: Arc<BaseProducer<Context<T>>>,
    /// Tells the thread that collects reports to end.
    closed: Arc<AtomicBool>,
    counts: Arc<Counts>,
    uncollected_max: usize,
    close_timeout: Duration,
}

/// Dropping the last handle loses nothing that was sent: a thread of its own goes on until all is reported
/// or has timed out. A process that is about to exit must wait with [`Producer::flush`] instead.
impl<T: Send + Sync + 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        let (native, closed) = (Arc::clone(&self.native), Arc::clone(&self.closed));
        let deadline = std::time::Instant::now() + self.close_timeout;
        let close = move || {
            // Waiting, not flushing: a flush would serve reports on this thread too and disorder them.
            while native.in_flight_count() > 0 && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            closed.store(true, Ordering::Relaxed);
        };
        // If no thread can be had, librdkafka gives up what is queued.
        if let Err(error) = std::thread::Builder::new().name("kafka-producer-close".to_owned()).spawn(close) {
            tracing::error!(%error, "cannot wait for records in flight");
            self.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// A producer whose owner's tokens are of type `T`. Cheap to clone.
pub struct Producer<T: Send + Sync + 'static> {
    inner: Arc<Inner<T>>,
}

impl<T: Send + Sync + 'static> Clone for Producer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Send + Sync + 'static> std::fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

/// The reports of one producer. Those of one partition come in the order of sending.
#[derive(Debug)]
pub struct Deliveries<T> {
    receiver: mpsc::UnboundedReceiver<Delivery<T>>,
    counts: Arc<Counts>,
}

impl<T: Send + Sync + 'static> Deliveries<T> {
    /// Waits for reports and appends up to `max` of them to `batch`. 0 when every handle of the producer is
    /// gone and all is reported. Safe to cancel.
    pub async fn collect(&mut self, batch: &mut Vec<Delivery<T>>, max: usize) -> usize {
        let count = self.receiver.recv_many(batch, max).await;
        self.counts.uncollected.fetch_sub(count, Ordering::Relaxed);
        count
    }

    /// Waits for one report; none as for `collect`. Safe to cancel.
    pub async fn next(&mut self) -> Option<Delivery<T>> {
        let delivery = self.receiver.recv().await?;
        self.counts.uncollected.fetch_sub(1, Ordering::Relaxed);
        Some(delivery)
    }
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// Opens a producer and the receiver of its reports.
    pub fn open(settings: &Settings, options: &ProducerOptions) -> Result<(Self, Deliveries<T>), OpenError> {
        let (deliveries, receiver) = mpsc::unbounded_channel();
        let counts = Arc::<Counts>::default();
        let config = settings.producer(options);
        let native = Arc::new(BaseProducer::from_config_and_context(
            &config,
            Context { deliveries, counts: Arc::clone(&counts), repeats: Repeats::default() },
        )?);
        let closed = Arc::<AtomicBool>::default();
        collect_reports(Arc::clone(&native), Arc::clone(&closed))?;
        let inner = Inner {
            native,
            closed,
            counts: Arc::clone(&counts),
            uncollected_max: options.queue_messages_max,
            close_timeout: Duration::from_millis(u64::from(options.message_timeout_ms) + 1_000),
        };
        Ok((Self { inner: Arc::new(inner) }, Deliveries { receiver, counts }))
    }

    /// Hands a record to librdkafka; never waits. The token comes back in a [`Delivery`].
    pub fn send(&self, record: Outgoing<'_>, token: T) -> Result<(), SendError<T>> {
        self.enqueue(record, Box::new(Ticket::Owner(token))).map_err(|(reason, ticket)| match *ticket {
            Ticket::Owner(token) => SendError { token, reason },
            Ticket::Waiter(_) => unreachable!("the ticket given comes back"),
        })
    }

    /// Writes a record and waits until it is acknowledged, at most `timeout`.
    ///
    /// Dropping the future does not take the record back.
    pub async fn send_and_wait(
        &self,
        record: Outgoing<'_>,
        timeout: Duration,
    ) -> Result<Position, WriteError> {
        self.send_later(record)?.wait(timeout).await
    }

    /// Writes a record; the answer is waited for with [`Waiting::wait`]. For writing many at once in order.
    pub fn send_later(&self, record: Outgoing<'_>) -> Result<Waiting, WriteError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(record, Box::new(Ticket::Waiter(reply))).map_err(|(reason, _)| reason)?;
        Ok(Waiting { answer })
    }

    fn enqueue(
        &self,
        record: Outgoing<'_>,
        ticket: Box<Ticket<T>>,
    ) -> Result<(), (WriteError, Box<Ticket<T>>)> {
        let counts = &self.inner.counts;
        if counts.uncollected.fetch_add(1, Ordering::Relaxed) >= self.inner.uncollected_max {
            counts.uncollected.fetch_sub(1, Ordering::Relaxed);
            return Err((WriteError::QueueFull, ticket));
        }
        counts.unreported.fetch_add(1, Ordering::AcqRel);
        let headers = (!record.headers.is_empty()).then(|| {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
        });
        let native_record = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.value,
            key: record.key,
            timestamp: None,
            headers,
            delivery_opaque: ticket,
        };
        self.inner.native.send(native_record).map_err(|(error, back)| {
            counts.uncollected.fetch_sub(1, Ordering::Relaxed);
            counts.reported();
            (WriteError::of(&error), back.delivery_opaque)
        })
    }

    /// Records given to librdkafka and not yet reported.
    pub fn in_flight(&self) -> usize {
        self.inner.counts.unreported.load(Ordering::Acquire)
    }

    /// Waits until every record sent so far is reported. On time-out gives how many are not.
    pub async fn flush(&self, timeout: Duration) -> Result<(), usize> {
        let idle = async {
            loop {
                let notified = self.inner.counts.idle.notified();
                if self.in_flight() == 0 {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(timeout, idle).await.map_err(|_| self.in_flight())
    }
}

/// A record sent whose acknowledgement is still to come.
#[derive(Debug)]
pub struct Waiting {
    answer: oneshot::Receiver<Result<Position, WriteError>>,
}

impl Waiting {
    /// Waits for the acknowledgement, at most `timeout`.
    pub async fn wait(self, timeout: Duration) -> Result<Position, WriteError> {
        match tokio::time::timeout(timeout, self.answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(WriteError::Unknown("the producer was closed".to_owned())),
            Err(_) => Err(WriteError::Unknown("no acknowledgement in time".to_owned())),
        }
    }
}
