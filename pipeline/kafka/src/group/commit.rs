//! Commits, on a thread of their own: librdkafka tells the result only to a call that waits for it (the
//! result of an asynchronous commit reaches nobody through the event interface), and the polling thread must
//! not wait.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Command, Native};
use crate::mailbox::Mailbox;
use crate::record::Partition;

/// A coordinator in the midst of a rebalance refuses commits for a moment; they are tried again for this long.
const REBALANCE_PATIENCE: Duration = Duration::from_secs(2);
const REBALANCE_RETRY: Duration = Duration::from_millis(50);

/// Offsets to commit, under a number that comes back with the result.
struct Job {
    id: u64,
    offsets: Vec<(Partition, i64)>,
}

/// The way to the committing thread. The thread ends when this is dropped.
pub(super) struct Committer {
    jobs: Sender<Job>,
}

impl Committer {
    pub(super) fn spawn(native: &Arc<Native>, mailbox: &Arc<Mailbox<Command>>) -> std::io::Result<Self> {
        let (jobs, receiver) = channel();
        let (native, mailbox) = (Arc::downgrade(native), Arc::clone(mailbox));
        let work = move || work(&receiver, &native, &mailbox);
        std::thread::Builder::new().name("kafka-commit".to_owned()).spawn(work)?;
        Ok(Self { jobs })
    }

    /// Commits in the background; the result comes as [`Command::Committed`].
    pub(super) fn commit(&self, id: u64, offsets: Vec<(Partition, i64)>) {
        // If the thread is gone the commit times out like any other that is not answered.
        let _ = self.jobs.send(Job { id, offsets });
    }
}

fn work(jobs: &Receiver<Job>, native: &Weak<Native>, mailbox: &Mailbox<Command>) {
    while let Ok(job) = jobs.recv() {
        let Some(native) = native.upgrade() else { return };
        let result = commit(&native, &job.offsets);
        drop(native);
        mailbox.post(Command::Committed(job.id, result));
    }
}

/// Waits for the coordinator's answer; librdkafka gives up after the session timeout.
fn commit(native: &Native, offsets: &[(Partition, i64)]) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        list.add_partition_offset(&partition.topic, partition.number, Offset::Offset(*offset))?;
    }
    let end = Instant::now() + REBALANCE_PATIENCE;
    loop {
        match native.commit(&list, CommitMode::Sync) {
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress))
                if Instant::now() < end =>
            {
                std::thread::sleep(REBALANCE_RETRY);
            }
            result => return result,
        }
    }
}
