//! The parts of a `limiter` run, and how much of the limits was used in each.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::arrivals::Arrival;
use crate::limiter::interval_us;
use crate::sink::now_us;

const USED_MIN: f64 = 0.99;
/// What happens in a phase happens so long after its begin.
const LEAD: Duration = Duration::from_secs(5);

/// One part of the run.
#[derive(Debug, Clone)]
struct Phase {
    name: &'static str,
    use_of_limits: Judged,
    from_us: u64,
    to_us: u64,
}

/// Whether a phase may use less than 99 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It may not.
    Yes,
    /// It may: a sender is killed.
    No,
}

/// All of them, one after another.
#[derive(Debug)]
pub(crate) struct Phases {
    length: Duration,
    all: Vec<Phase>,
}

/// What sessions made of their limits.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    sessions: usize,
    /// Time that the calls were due to take, and took, µs.
    due_us: u64,
    took_us: u64,
    /// The longest that one call came later than due, µs.
    latest_us: u64,
}

impl Use {
    fn part(&self) -> f64 {
        if self.took_us == 0 { 1.0 } else { self.due_us as f64 / self.took_us as f64 }
    }

    fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.due_us += other.due_us;
        self.took_us += other.took_us;
        self.latest_us = self.latest_us.max(other.latest_us);
    }
}

impl Phases {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, all: Vec::new() }
    }

    /// Begins a phase; returns when what it is about may happen.
    pub(crate) async fn begin(&mut self, name: &'static str, use_of_limits: Judged) {
        println!("{name}");
        self.all.push(Phase { name, use_of_limits, from_us: now_us(), to_us: 0 });
        tokio::time::sleep(LEAD.min(self.length)).await;
    }

    /// Waits until the phase has had its length, and ends it.
    pub(crate) async fn end(&mut self) {
        let length_us = u64::try_from(self.length.as_micros()).unwrap_or(u64::MAX);
        let Some(phase) = self.all.last_mut() else { return };
        let left_us = phase.from_us.saturating_add(length_us).saturating_sub(now_us());
        tokio::time::sleep(Duration::from_micros(left_us)).await;
        phase.to_us = now_us();
    }

    /// Prints what was used in each, and fails if that is too little in one that is judged.
    pub(crate) fn report(&self, sessions: usize, all: &[Arrival]) -> Result<()> {
        println!(
            "\n| phase, s | limit used | sessions that moved | limit used by them | latest call of them, ms after due |"
        );
        println!("|---|---:|---:|---:|---:|");
        let mut missed = Vec::new();
        for phase in &self.all {
            let [stayed, moved] = phase.used(sessions, all);
            let mut both = stayed;
            both.add(&moved);
            println!(
                "| {}, {:.0} | {:.2} % | {} | {:.2} % | {} |",
                phase.name,
                (phase.to_us - phase.from_us) as f64 / 1e6,
                both.part() * 100.0,
                moved.sessions,
                moved.part() * 100.0,
                moved.latest_us / 1_000
            );
            if phase.use_of_limits == Judged::Yes && both.part() < USED_MIN {
                missed.push(format!("{}: {:.4}", phase.name, both.part()));
            }
        }
        ensure!(missed.is_empty(), "less than 99 % of the limits was used: {missed:?}");
        Ok(())
    }
}

impl Phase {
    /// What the sessions used that stayed with their sender, and those that moved.
    fn used(&self, sessions: usize, all: &[Arrival]) -> [Use; 2] {
        let mut used = [Use::default(); 2];
        for n in 0..sessions {
            let (one, moved) = self.used_by(n, all);
            used[usize::from(moved)].add(&one);
        }
        used
    }

    /// What session `n` used, from its last call before the phase to its last in it: so calls count whole. One without
    /// a call used nothing.
    fn used_by(&self, n: usize, all: &[Arrival]) -> (Use, bool) {
        let mine = all.iter().filter(|arrival| arrival.session == n && arrival.at_us < self.to_us);
        let mine: Vec<&Arrival> = mine.collect();
        let inside = mine.iter().filter(|arrival| arrival.at_us >= self.from_us).count();
        let calls = &mine[mine.len().saturating_sub(inside + 1)..];
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else {
            return (Use { sessions: 1, took_us: self.to_us - self.from_us, ..Use::default() }, false);
        };
        let interval_us = interval_us(n);
        let steps = u64::try_from(calls.len() - 1).unwrap_or(0);
        let late_us = |pair: &[&Arrival]| (pair[1].at_us - pair[0].at_us).saturating_sub(interval_us);
        let used = Use {
            sessions: 1,
            due_us: steps * interval_us,
            took_us: if steps == 0 { self.to_us - self.from_us } else { last.at_us - first.at_us },
            latest_us: calls.windows(2).map(late_us).max().unwrap_or(0),
        };
        (used, calls.windows(2).any(|pair| pair[0].key != pair[1].key))
    }
}
