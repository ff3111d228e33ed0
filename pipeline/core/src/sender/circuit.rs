//! Circuits: who fails again and again is left alone for a while, then tried with one call.
//!
//! A session has one, and so has a base URL. That of a base URL opens only when several sessions fail in a row there:
//! one broken session must not stop those that work. Refusals and throttling answers are answers: they close.

use super::io::{CircuitOf, Note};
use super::session::SessionIndex;
use super::{Effect, InFlight, Planted, Sender};
use crate::outcome::Outcome;

/// Longer than any run: for the planted fault.
const FOREVER_MS: u64 = 1_000_000_000_000;

/// Whether calls go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// They do.
    Free,
    /// None before this time, wall µs.
    Shut(i64),
    /// One, whose outcome decides.
    Probe,
}

/// When a circuit opens and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trip {
    /// Failures in a row.
    pub(super) failures: u32,
    /// Distinct sessions among them.
    pub(super) sessions: usize,
    pub(super) open_ms: u64,
    pub(super) open_max_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Opened {
    until_us: i64,
    /// Whose call opened it last.
    by: SessionIndex,
    span_ms: u64,
}

/// One circuit.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    /// Sessions that failed, no more than are asked for.
    by: Vec<SessionIndex>,
    opened: Option<Opened>,
}

impl Circuit {
    pub(super) fn passage(&self, now_us: i64) -> Passage {
        match self.opened {
            None => Passage::Free,
            Some(opened) if opened.until_us > now_us => Passage::Shut(opened.until_us),
            Some(_) => Passage::Probe,
        }
    }

    /// Until when no call goes through, wall µs.
    pub(super) fn shut_until_us(&self, now_us: i64) -> Option<i64> {
        match self.passage(now_us) {
            Passage::Shut(until_us) => Some(until_us),
            Passage::Free | Passage::Probe => None,
        }
    }

    /// Whether a new one would do as well.
    pub(super) fn is_void(&self) -> bool {
        self.failures == 0 && self.is_closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.opened.is_none()
    }

    /// There was an answer: closes. Whether it was open.
    fn answered(&mut self) -> bool {
        self.failures = 0;
        self.by.clear();
        self.opened.take().is_some()
    }

    /// A call of `session` failed; until when the circuit is open, if it opens with that. `jitter` takes a span and
    /// gives one a little shorter.
    fn failed(
        &mut self,
        session: SessionIndex,
        now_us: i64,
        trip: Trip,
        jitter: impl FnOnce(u64) -> u64,
    ) -> Option<i64> {
        let span_ms = match (self.passage(now_us), self.opened) {
            // A call from before it opened: that is known already.
            (Passage::Shut(_), _) => return None,
            // One session of several: that it fails once more says nothing of the others, who may try.
            (_, Some(opened)) if trip.sessions > 1 && opened.by == session => return None,
            (_, Some(opened)) => opened.span_ms.saturating_mul(2),
            (_, None) => {
                self.failures = self.failures.saturating_add(1);
                if self.by.len() < trip.sessions && !self.by.contains(&session) {
                    self.by.push(session);
                }
                if self.failures < trip.failures || self.by.len() < trip.sessions {
                    return None;
                }
                trip.open_ms
            }
        };
        let span_ms = span_ms.min(trip.open_max_ms);
        let wait_us = i64::try_from(jitter(span_ms)).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
        let until_us = now_us.saturating_add(wait_us);
        self.opened = Some(Opened { until_us, by: session, span_ms });
        Some(until_us)
    }
}

/// What an outcome says of who was called; `None` if nothing.
fn is_failure(outcome: &Outcome) -> Option<bool> {
    match outcome {
        Outcome::Retryable | Outcome::Unknown => Some(true),
        Outcome::NotMade => None,
        Outcome::Submitted { .. }
        | Outcome::Throttled { .. }
        | Outcome::Permanent
        | Outcome::SessionDown { .. } => Some(false),
    }
}

impl Sender {
    /// Tells both circuits of a call how it ended.
    pub(super) fn note_circuits(&mut self, inflight: &InFlight, outcome: &Outcome, out: &mut Vec<Effect>) {
        let Some(failed) = is_failure(outcome) else { return };
        let now_us = self.now.wall_us;
        let (session, bulkhead) = (inflight.session, inflight.bulkhead);
        let mut trip = Trip {
            failures: self.settings.circuit_failures,
            sessions: 1,
            open_ms: self.settings.circuit_open_ms,
            open_max_ms: self.settings.circuit_open_max_ms,
        };
        if self.planted(Planted::CircuitStuck) {
            (trip.open_ms, trip.open_max_ms) = (FOREVER_MS, FOREVER_MS);
        }
        let keeps_shut = self.planted(Planted::BrokenKeepsShut);
        let mut of_url = Trip { sessions: self.settings.circuit_sessions_min, ..trip };
        let rng = &mut self.rng;
        let mut jitter = |span_ms: u64| rng.between(span_ms - span_ms / 4, span_ms);
        let state = self.sessions.get_mut(session);
        let (id, base_url) = (state.id.clone(), self.bulkheads.url(bulkhead));
        let url = &mut self.bulkheads.get(bulkhead).circuit;
        if !failed {
            if url.answered() {
                out.push(closed(CircuitOf::BaseUrl(base_url)));
            }
            if state.work().circuit.answered() {
                out.push(closed(CircuitOf::Session(id)));
                self.state_hold(session, out);
            }
            return;
        }
        // The probes of a session that is known to be broken say nothing of its base URL: on probation itself, that would
        // stay shut to those that work, for as long as nobody but the broken one has anything to send there.
        let counts_all = keeps_shut && !url.is_closed();
        if counts_all {
            of_url.sessions = 1;
        }
        if (counts_all || state.work().circuit.is_closed())
            && let Some(until_us) = url.failed(session, now_us, of_url, &mut jitter)
        {
            self.floor_us = self.floor_us.min(until_us);
            out.push(opened(CircuitOf::BaseUrl(base_url), until_us));
        }
        if let Some(until_us) = state.work().circuit.failed(session, now_us, trip, &mut jitter) {
            out.push(opened(CircuitOf::Session(id), until_us));
            self.state_hold(session, out);
            self.wake_session(session, until_us);
        }
    }
}

fn opened(of: CircuitOf, until_us: i64) -> Effect {
    Effect::Note(Note::CircuitOpened { of, until_ms: super::attempt::ceil_ms(until_us) })
}

fn closed(of: CircuitOf) -> Effect {
    Effect::Note(Note::CircuitClosed { of })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP: Trip = Trip { failures: 3, sessions: 1, open_ms: 100, open_max_ms: 300 };

    fn fail(circuit: &mut Circuit, session: usize, now_us: i64, trip: Trip) -> Option<i64> {
        circuit.failed(SessionIndex::for_tests(session), now_us, trip, |span_ms| span_ms)
    }

    #[test]
    fn opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let mut circuit = Circuit::default();
        assert_eq!(fail(&mut circuit, 1, 0, TRIP), None);
        assert_eq!(fail(&mut circuit, 1, 0, TRIP), None);
        assert!(!circuit.answered(), "an answer between: the row begins anew");
        assert_eq!(fail(&mut circuit, 1, 0, TRIP), None);
        assert_eq!(fail(&mut circuit, 1, 0, TRIP), None);
        assert_eq!(fail(&mut circuit, 1, 0, TRIP), Some(100_000));
        assert_eq!(circuit.passage(99_999), Passage::Shut(100_000));
        assert_eq!(circuit.passage(100_000), Passage::Probe);
        assert!(circuit.answered());
        assert_eq!(circuit.passage(100_000), Passage::Free);
    }

    #[test]
    fn stays_open_twice_as_long_each_time_a_probe_fails_up_to_a_maximum() {
        let mut circuit = Circuit::default();
        for _ in 0..3 {
            fail(&mut circuit, 1, 0, TRIP);
        }
        assert_eq!(fail(&mut circuit, 1, 50_000, TRIP), None, "a call from before it opened");
        assert_eq!(fail(&mut circuit, 1, 100_000, TRIP), Some(300_000));
        assert_eq!(fail(&mut circuit, 1, 300_000, TRIP), Some(600_000));
        assert_eq!(fail(&mut circuit, 1, 600_000, TRIP), Some(900_000));
    }

    #[test]
    fn wants_failures_of_several_sessions_where_several_share() {
        let trip = Trip { sessions: 2, ..TRIP };
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            assert_eq!(fail(&mut circuit, 1, 0, trip), None);
        }
        assert_eq!(fail(&mut circuit, 2, 0, trip), Some(100_000));
    }
}
