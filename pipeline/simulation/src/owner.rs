//! One process: its sender, its clocks, and how far it has read.

use std::collections::HashMap;

use sluice_core::sender::ledger::Read;
use sluice_core::sender::{Planted, Sender, Settings};
use sluice_core::time::Now;

use crate::disk::SharedDisk;

use crate::plan::PARTITIONS;

/// Where every run begins, true time, µs.
pub(crate) const START_US: i64 = 1_700_000_000_000_000;

/// A producer of a process: records of one land in order.
#[derive(Clone, Copy)]
pub(crate) enum Line {
    Intake,
    Claims,
    Facts,
}

pub(crate) struct Owner {
    /// `None` while the process is down.
    pub(crate) sender: Option<Sender>,
    pub(crate) disk: SharedDisk,
    /// Where the tail begins once the fence stands.
    pub(crate) tail_from: i64,
    /// Counts its processes.
    pub(crate) life: u64,
    /// Counts its tenures of the partition.
    pub(crate) tenure: u64,
    /// How far its wall clock is ahead of the true time. It may jump.
    pub(crate) skew_us: i64,
    settings: Settings,
    planted: Option<Planted>,
    pub(crate) frozen_until_us: i64,
    /// Whether it believes that the group assigns it the partition.
    pub(crate) assigned: bool,
    /// Counts its assignments.
    pub(crate) assignment: u64,
    /// Next ledger offset to read, while it tails.
    pub(crate) tail: Option<i64>,
    /// Highest fence it has read.
    pub(crate) fence_read: i64,
    /// Next status to read, while it follows them.
    pub(crate) status_next: Option<usize>,
    /// When it asked for the end of the statuses (ms), and where that was.
    pub(crate) status_asked: Option<(i64, usize)>,
    /// Next request to read, while it takes any.
    pub(crate) request_next: Option<i64>,
    pub(crate) intake_held: bool,
    /// How far the ledger tail lags behind, µs.
    pub(crate) lag_us: i64,
    /// When the latest record of each producer lands.
    pub(crate) lands_us: [i64; 3],
    /// When it is woken next.
    pub(crate) tick_us: Option<i64>,
    /// Until when each session waits, as the ledger records say that it has read, ms.
    pub(crate) throttled_ms: HashMap<String, i64>,
    /// Whether each session may send, as far as this process was told.
    pub(crate) told: Vec<bool>,
}

impl Owner {
    pub(crate) fn new(number: usize, skew_us: i64, settings: &Settings, planted: Option<Planted>) -> Self {
        let disk = SharedDisk::default();
        let mut owner = Self {
            sender: None,
            disk,
            tail_from: 0,
            life: 0,
            tenure: 0,
            skew_us,
            settings: settings.clone(),
            planted,
            frozen_until_us: 0,
            assigned: false,
            assignment: 0,
            tail: None,
            fence_read: -1,
            status_next: None,
            status_asked: None,
            request_next: None,
            intake_held: false,
            lag_us: 2_000,
            lands_us: [0; 3],
            tick_us: None,
            throttled_ms: HashMap::new(),
            told: Vec::new(),
        };
        owner.start(number);
        owner
    }

    /// The process dies; what it knew is gone.
    pub(crate) fn crash(&mut self) {
        self.sender = None;
        self.life += 1;
        self.assigned = false;
        self.fence_read = -1;
        self.tick_us = None;
        self.frozen_until_us = 0;
        self.end_tenure();
    }

    /// It runs anew and owns nothing.
    pub(crate) fn start(&mut self, number: usize) {
        let (disk, life) = (self.disk.clone(), self.life);
        let (name, seed) = (format!("owner-{number}-{life}"), number as u64 * 1_000 + life);
        let resumes_stale = self.planted == Some(Planted::ResumeStaleStore);
        let sender = Sender::new(self.settings.clone(), name, PARTITIONS, seed)
            .with_stores(Box::new(move |_, now| disk.open(now, resumes_stale)))
            .with_planted(self.planted);
        self.sender = Some(sender);
        self.told.clear();
    }

    /// It neither tails nor takes requests any more.
    pub(crate) fn end_tenure(&mut self) {
        self.tenure += 1;
        self.tail = None;
        self.status_next = None;
        self.status_asked = None;
        self.request_next = None;
        self.intake_held = false;
    }

    /// Remembers what a ledger record says of how long its session waits.
    pub(crate) fn hear_throttle(&mut self, read: &Read) {
        if let Some(entry) = &read.entry
            && let (Some(until_ms), Some(session_id)) = (entry.throttled_until, &entry.session_id)
        {
            let known = self.throttled_ms.entry(session_id.clone()).or_insert(until_ms);
            *known = (*known).max(until_ms);
        }
    }

    pub(crate) fn now(&self, true_us: i64) -> Now {
        Now { wall_us: true_us + self.skew_us, boot_us: (true_us - START_US) as u64 + 1_000_000_000 }
    }

    pub(crate) fn true_us(&self, wall_us: i64) -> i64 {
        wall_us - self.skew_us
    }

    pub(crate) fn epoch(&self) -> Option<i64> {
        self.sender.as_ref()?.epoch(0)
    }

    /// When a record handed to a producer now lands.
    pub(crate) fn lands(&mut self, line: Line, at_us: i64) -> i64 {
        let last = &mut self.lands_us[line as usize];
        *last = (*last).max(at_us);
        *last
    }
}
