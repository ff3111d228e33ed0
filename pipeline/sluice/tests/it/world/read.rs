//! Readers of topics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_kafka::record::Record;
use sluice_kafka::registry::Codec;
use sluice_kafka::settings::Settings;
use sluice_kafka::tail::{Control, Event, From, Options, Tail};
use sluice_schemas::{MessageStatus, Status, codec};
use sluice_testkit::eventually;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::LIMIT;

/// Everything that stands on a topic, decoded, as it comes. Records of one partition are in order.
pub struct Topic<T> {
    seen: Arc<Mutex<Vec<(Record, T)>>>,
    next: Arc<Mutex<HashMap<i32, i64>>>,
    control: Control,
    reader: JoinHandle<()>,
}

impl<T> Drop for Topic<T> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl<T: codec::Record> Topic<T> {
    /// Follows a topic from its beginning.
    pub fn follow(settings: &Settings, name: &str, codec: Codec<T>) -> Self {
        let mut tail = Tail::open(settings, name, Options::default()).expect("a tail");
        for partition in 0..settings.partitions {
            tail.assign(partition, From::Beginning);
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(Mutex::new(HashMap::new()));
        let (into, frontier, control) = (seen.clone(), next.clone(), tail.control().clone());
        let reader = tokio::spawn(async move {
            while let Some(event) = tail.recv().await {
                let Event::Records(batch) = event else { continue };
                let reached = (batch.partition, batch.next);
                for record in batch.records.into_iter().filter(|record| record.value.is_some()) {
                    let value =
                        codec.decode_or_fetch(&record).await.expect("what the pipeline wrote decodes");
                    lock(&into).push((record, value));
                }
                lock(&frontier).insert(reached.0, reached.1);
            }
        });
        Self { seen, next, control, reader }
    }

    /// Waits until everything that stands on the topic now was read.
    pub async fn at_its_end(&self) {
        let partitions = self.control.partition_count().await.expect("the topic is there");
        for partition in 0..partitions {
            let (_, end) = self.control.watermarks(partition).await.expect("the broker answers");
            eventually(LIMIT, "the end of a topic", || async {
                let next = lock(&self.next).get(&partition).copied().unwrap_or(0);
                if next >= end { Ok(()) } else { Err(format!("{next} of {end} in {partition}")) }
            })
            .await;
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Vec<(Record, T)>> {
        lock(&self.seen)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The facts of `messages.status`.
pub type Facts = Topic<MessageStatus>;

impl Facts {
    /// The statuses told of a message, in order.
    pub fn statuses_of(&self, id: Uuid) -> Vec<Status> {
        self.of(id).into_iter().map(|(_, fact)| fact.status).collect()
    }

    /// The facts told of a message with the time each was written, ms.
    pub fn of(&self, id: Uuid) -> Vec<(i64, MessageStatus)> {
        let id = id.to_string();
        let seen = self.seen();
        let own = seen.iter().filter(|(_, fact)| fact.message_id.as_deref() == Some(id.as_str()));
        own.map(|(record, fact)| (record.timestamp_ms, fact.clone())).collect()
    }

    /// The end of a message for the sender, if nothing is open any more: see [`end_of`].
    pub fn end_of(&self, id: Uuid) -> Option<Status> {
        let steps: Vec<_> = self.of(id).iter().map(|(at, fact)| Step::of(*at, fact)).collect();
        end_of(&steps)
    }

    /// Facts by message.
    pub fn by_message(&self) -> HashMap<String, Vec<(i64, MessageStatus)>> {
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for (record, fact) in self.seen().iter() {
            if let Some(id) = &fact.message_id {
                all.entry(id.clone()).or_default().push((record.timestamp_ms, fact.clone()));
            }
        }
        all
    }
}

/// What a fact says of the sender's work on a message.
#[derive(Debug, Clone)]
pub struct Step {
    /// When it was written, broker time, ms.
    pub at_ms: i64,
    pub status: Status,
    /// Epoch and number of the claim it speaks of.
    pub claim: (Option<i64>, Option<i64>),
    pub provider_message_id: Option<String>,
    /// Known from evidence, not from the answer to the call.
    pub by_evidence: bool,
}

impl Step {
    pub fn of(at_ms: i64, fact: &MessageStatus) -> Self {
        Self {
            at_ms,
            status: fact.status,
            claim: (fact.claim_epoch, fact.claim_seq),
            provider_message_id: fact.provider_message_id.clone(),
            by_evidence: fact.evidence_event_id.is_some(),
        }
    }
}

/// The end of a message for the sender, if nothing is open any more: what is told of its latest claim is an end,
/// and every claim in doubt is settled. The order of the facts does not count, for an owner that froze may tell
/// late.
pub fn end_of(told: &[Step]) -> Option<Status> {
    let goes_on = |status| matches!(status, Status::Retrying | Status::Held);
    let steps: Vec<_> = told.iter().filter(|step| is_end(&step.status) || goes_on(step.status)).collect();
    // An end without a claim is told by an owner that will make none.
    if let Some(unsent) = steps.iter().find(|step| is_end(&step.status) && step.claim.0.is_none()) {
        return Some(unsent.status);
    }
    let mut doubts = told.iter().filter(|step| step.status == Status::InDoubt);
    let settled = doubts.all(|doubt| steps.iter().any(|step| step.claim == doubt.claim));
    let last = steps.iter().max_by_key(|step| step.claim)?.status;
    (settled && is_end(&last)).then_some(last)
}

/// Whether a status ends a message for the sender.
pub fn is_end(status: &Status) -> bool {
    matches!(
        status,
        Status::Submitted | Status::Failed | Status::Expired | Status::Canceled | Status::Skipped
    )
}
