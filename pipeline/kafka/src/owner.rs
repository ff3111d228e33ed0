//! A group member for roles whose partitions need no taking over: begin at once where the group left off,
//! finish records in any order, commit what is contiguous, give back when drained.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::frontier::Frontier;
use crate::group::{self, Control, Event, GroupConsumer, StartAt};
use crate::record::{Partition, Record};
use crate::settings::Settings;

/// How an owner commits and where it begins.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Limits of the group member.
    pub group: group::Options,
    /// Commits at most this often, milliseconds.
    pub commit_interval_ms: u64,
    /// If set, a partition begins this long before now when the group has committed further: the last
    /// minutes are read again. Milliseconds.
    pub reread_ms: Option<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { group: group::Options::default(), commit_interval_ms: 1_000, reread_ms: None }
    }
}

/// What the role has to do something about.
#[derive(Debug)]
pub enum Turn {
    /// Records to work on. Each must be reported with [`Owner::done`] once its effects are acknowledged.
    Records(Vec<Record>),
    /// Partitions are gone (given back or lost): what is known of them in memory is stale.
    Gone(Vec<Partition>),
    /// Something went wrong; unless it is [`group::Error::Fatal`] the owner goes on.
    Error(group::Error),
}

#[derive(Debug, Default)]
struct Owned {
    frontier: Frontier,
    /// Offset last given to a commit.
    committed: Option<i64>,
    revoking: bool,
}

/// A group member that starts, commits and releases its partitions by itself.
#[derive(Debug)]
pub struct Owner {
    member: GroupConsumer,
    control: Control,
    owned: HashMap<Partition, Owned>,
    options: Options,
    commit_at: Instant,
}

impl Owner {
    /// Joins the group of `role` as a reader of `topics`.
    pub fn join(
        settings: &Settings,
        role: &str,
        topics: &[&str],
        options: Options,
    ) -> Result<Self, group::Error> {
        let member = GroupConsumer::join(settings, role, topics, options.group)?;
        let control = member.control().clone();
        Ok(Self { member, control, owned: HashMap::new(), options, commit_at: Instant::now() })
    }

    /// Waits for work; none when closed. Commits by the way, so it must be called again and again. Safe to
    /// cancel.
    pub async fn next(&mut self) -> Option<Turn> {
        loop {
            self.commit_if_due();
            let dirty = self.owned.values().any(|owned| owned.frontier.next() > owned.committed);
            let event = tokio::select! {
                event = self.member.recv() => event?,
                () = tokio::time::sleep_until(self.commit_at), if dirty => continue,
            };
            match event {
                Event::Records(records) => {
                    for record in &records {
                        if let Some(owned) = self.owned.get_mut(&record.partition) {
                            owned.frontier.take(record.offset);
                        }
                    }
                    return Some(Turn::Records(records));
                }
                Event::Assigned(assignments) => {
                    for assignment in assignments {
                        self.owned.insert(assignment.partition.clone(), Owned::default());
                        self.start(assignment.partition);
                    }
                }
                Event::Revoking(partitions) => {
                    let gone = partitions.clone();
                    for partition in partitions {
                        if let Some(owned) = self.owned.get_mut(&partition) {
                            owned.revoking = true;
                        }
                        self.release_if_drained(&partition);
                    }
                    return Some(Turn::Gone(gone));
                }
                Event::Lost(partitions) => {
                    self.owned.retain(|partition, _| !partitions.contains(partition));
                    return Some(Turn::Gone(partitions));
                }
                // An owner stops nothing.
                Event::Stopped(_) => {}
                Event::Error(error) => return Some(Turn::Error(error)),
            }
        }
    }

    /// The effects of a record are acknowledged; it need not be read again.
    pub fn done(&mut self, partition: &Partition, offset: i64) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.frontier.done(offset);
            if owned.revoking {
                self.release_if_drained(partition);
            }
        }
    }

    /// The same for many records.
    pub fn done_all<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        for record in records {
            self.done(&record.partition, record.offset);
        }
    }

    /// Records handed out and not covered by a commit yet.
    pub fn open(&self) -> usize {
        self.owned.values().map(|owned| owned.frontier.open()).sum()
    }

    /// Number of partitions owned.
    pub fn partitions(&self) -> usize {
        self.owned.len()
    }

    /// The way to ask the group for things (committed offsets, pause).
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Commits what is done and leaves the group. Records not reported as done will be read again.
    pub async fn close(mut self) -> Result<(), group::Error> {
        let offsets = self.due();
        let result = self.control.commit(offsets).await;
        self.member.close().await;
        result
    }

    fn start(&self, partition: Partition) {
        let control = self.control.clone();
        let Some(reread_ms) = self.options.reread_ms else {
            return control.start(partition, StartAt::Committed);
        };
        // Asking the brokers takes a moment; the owner goes on meanwhile. If the partition is gone by then
        // the start is ignored.
        tokio::spawn(async move {
            let from = control.offset_at(&partition, crate::clock::wall_ms() - reread_ms).await;
            let committed = control.committed(vec![partition.clone()]).await;
            let committed =
                committed.ok().and_then(|found| found.into_iter().next()).and_then(|found| found.1);
            let at = match (committed, from) {
                (Some(committed), Ok(Some(from))) => StartAt::Offset(committed.min(from)),
                _ => StartAt::Committed,
            };
            control.start(partition, at);
        });
    }

    fn release_if_drained(&mut self, partition: &Partition) {
        if self.owned.get(partition).is_some_and(|owned| owned.frontier.is_drained())
            && let Some(owned) = self.owned.remove(partition)
        {
            let offset = owned.frontier.next();
            drop(self.control.release(vec![(partition.clone(), offset)]));
        }
    }

    /// Offsets that have moved since they were last committed, now counted as committed.
    fn due(&mut self) -> Vec<(Partition, i64)> {
        let mut offsets = Vec::new();
        for (partition, owned) in &mut self.owned {
            if let Some(next) = owned.frontier.next().filter(|next| Some(*next) > owned.committed) {
                owned.committed = Some(next);
                offsets.push((partition.clone(), next));
            }
        }
        offsets
    }

    fn commit_if_due(&mut self) {
        if Instant::now() < self.commit_at {
            return;
        }
        self.commit_at = Instant::now() + Duration::from_millis(self.options.commit_interval_ms);
        let offsets = self.due();
        if !offsets.is_empty() {
            // A commit that fails is made good by the next one, or by reading the records again.
            drop(self.control.commit(offsets));
        }
    }
}
