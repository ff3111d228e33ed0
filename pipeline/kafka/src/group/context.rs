//! Librdkafka's callbacks. They run inside `poll` on the member's own thread, so they never wait: they answer
//! librdkafka at once where it must be answered, and report.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::mailbox::lock;
use crate::record::Partition;
use crate::repeats::Repeats;
use crate::served::Served;

/// What librdkafka called back about.
#[derive(Debug)]
pub(super) enum Callback {
    Assigned(Vec<Partition>),
    Revoking(Vec<Partition>),
    Lost(Vec<Partition>),
}

#[derive(Debug, Default)]
pub(super) struct Context {
    callbacks: Mutex<Vec<Callback>>,
    /// Partitions that are in librdkafka's assignment, that is, started and not given back. Those assigned by
    /// the group and not started are not: their records must not be fetched.
    fetched: Mutex<BTreeSet<Partition>>,
    closing: AtomicBool,
    served: Served,
    repeats: Repeats,
}

impl Context {
    pub(super) fn take(&self) -> Vec<Callback> {
        std::mem::take(&mut *lock(&self.callbacks))
    }

    /// Whether the last poll served something that is neither a record nor a callback.
    pub(super) fn served(&self) -> bool {
        self.served.take()
    }

    fn report(&self, callback: Callback) {
        lock(&self.callbacks).push(callback);
    }

    /// From now on revocations are answered at once.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn fetches(&self, partition: Partition) {
        lock(&self.fetched).insert(partition);
    }

    pub(super) fn is_fetched(&self, partition: &Partition) -> bool {
        lock(&self.fetched).contains(partition)
    }

    pub(super) fn fetched(&self) -> TopicPartitionList {
        list(lock(&self.fetched).iter())
    }

    /// Tells librdkafka that these are given back, whether started or not.
    pub(super) fn unassign(&self, native: &BaseConsumer<Self>, partitions: &[Partition]) {
        let started: Vec<Partition> = {
            let mut fetched = lock(&self.fetched);
            partitions.iter().filter(|partition| fetched.remove(partition)).cloned().collect()
        };
        let result = match native.rebalance_protocol() {
            RebalanceProtocol::Cooperative => native.incremental_unassign(&list(started.iter())),
            RebalanceProtocol::Eager | RebalanceProtocol::None => native.unassign(),
        };
        if let Err(error) = result {
            tracing::error!(%error, "cannot give partitions back");
        }
    }
}

pub(super) fn list<'a>(partitions: impl Iterator<Item = &'a Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.number);
    }
    list
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| Partition::new(element.topic(), element.partition())).collect()
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.served.log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {
        self.served.note();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.repeats.warn(&error, reason, "kafka group consumer");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, native: &BaseConsumer<Self>, code: RDKafkaRespErr, listed: &mut TopicPartitionList) {
        let listed = partitions(listed);
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                // Nothing is added to the assignment yet (`start` does), but librdkafka must be answered, or
                // the group could not go on.
                if let Err(error) = native.incremental_assign(&TopicPartitionList::new()) {
                    tracing::error!(%error, "cannot accept an assignment");
                }
                self.report(Callback::Assigned(listed));
            }
            _ if native.assignment_lost() || self.closing.load(Ordering::SeqCst) => {
                self.unassign(native, &listed);
                self.report(Callback::Lost(listed));
            }
            _ => self.report(Callback::Revoking(listed)),
        }
    }
}
