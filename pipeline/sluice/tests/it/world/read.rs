//! Readers of topics.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_kafka::record::Record;
use sluice_kafka::registry::Codec;
use sluice_kafka::settings::Settings;
use sluice_kafka::tail::{Event, From, Options, Tail};
use sluice_schemas::{MessageStatus, Status, codec};
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Everything that stands on a topic, decoded, as it comes. Records of one partition are in order.
pub struct Topic<T> {
    seen: Arc<Mutex<Vec<(Record, T)>>>,
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
        let into = seen.clone();
        let reader = tokio::spawn(async move {
            while let Some(event) = tail.recv().await {
                let Event::Records(batch) = event else { continue };
                for record in batch.records.into_iter().filter(|record| record.value.is_some()) {
                    let value =
                        codec.decode_or_fetch(&record).await.expect("what the pipeline wrote decodes");
                    lock(&into).push((record, value));
                }
            }
        });
        Self { seen, reader }
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

    /// The end of a message for the sender, if nothing is open any more: what is told of its latest claim is an
    /// end, and every claim in doubt is settled. The order of the facts does not count, for an owner that froze
    /// may tell late.
    pub fn end_of(&self, id: Uuid) -> Option<Status> {
        let told: Vec<_> = self.of(id).into_iter().map(|(_, fact)| fact).collect();
        let claim = |fact: &MessageStatus| (fact.claim_epoch, fact.claim_seq);
        let goes_on = |status| matches!(status, Status::Retrying | Status::Held);
        let steps: Vec<_> = told.iter().filter(|fact| is_end(&fact.status) || goes_on(fact.status)).collect();
        // An end without a claim is told by an owner that will make none.
        if let Some(unsent) = steps.iter().find(|fact| is_end(&fact.status) && fact.claim_epoch.is_none()) {
            return Some(unsent.status);
        }
        let mut doubts = told.iter().filter(|fact| fact.status == Status::InDoubt);
        let settled = doubts.all(|doubt| steps.iter().any(|step| claim(step) == claim(doubt)));
        let last = steps.iter().max_by_key(|fact| claim(fact))?.status;
        (settled && is_end(&last)).then_some(last)
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

/// Whether a status ends a message for the sender.
pub fn is_end(status: &Status) -> bool {
    matches!(
        status,
        Status::Submitted | Status::Failed | Status::Expired | Status::Canceled | Status::Skipped
    )
}
