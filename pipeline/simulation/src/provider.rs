//! The provider: takes messages or does not, and answers the truth, something else, or nothing.

use std::sync::Arc;

use sluice_core::outcome::{Outcome, ThrottleScope};
use sluice_core::sender::Call;
use sluice_schemas::Connection;
use uuid::Uuid;

use crate::rng::Rng;

/// A call under the claim that allows it.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) call: Box<Call>,
    /// When it was decided, true time, µs.
    pub(crate) decided_us: i64,
    /// The claim: epoch and number.
    pub(crate) claim: (i64, i64),
    /// The request that the message was accepted from.
    pub(crate) request_offset: i64,
}

/// One message the provider took.
pub(crate) struct Acceptance {
    pub(crate) id: Uuid,
    /// When the call was decided, true time, µs.
    pub(crate) called_us: i64,
    pub(crate) claim: (i64, i64),
    pub(crate) request_offset: i64,
    pub(crate) provider_id: String,
    pub(crate) whatsapp_id: String,
}

/// A call that came to the provider, whatever became of it.
pub(crate) struct Arrival {
    pub(crate) session_id: Arc<str>,
    pub(crate) recipient: Arc<str>,
    /// True time, µs.
    pub(crate) at_us: i64,
}

/// What it is like for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Now and then something goes wrong.
    Usual,
    /// Answers 5xx.
    Failing,
    /// Answers 429.
    Throttling,
    /// Answers nothing in time, whether it took the message or not.
    Hanging,
}

/// What the provider does with a call.
pub(crate) struct Answer {
    pub(crate) accepts: bool,
    pub(crate) outcome: Outcome,
    /// From the start of the call to its answer, µs.
    pub(crate) after_us: i64,
}

pub(crate) struct Provider {
    pub(crate) accepted: Vec<Acceptance>,
    pub(crate) mood: Mood,
    next: u64,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self { accepted: Vec::new(), mood: Mood::Usual, next: 0 }
    }

    /// Decides about a call; with `faults` it may go wrong. Says the ids if it is to be taken.
    pub(crate) fn answer(
        &mut self,
        rng: &mut Rng,
        faults: bool,
        knows_whatsapp_id: bool,
    ) -> (Answer, [String; 2]) {
        self.next += 1;
        let ids = [self.next.to_string(), format!("WA{}", self.next)];
        let submitted = Outcome::Submitted {
            provider_message_id: Some(ids[0].clone()),
            whatsapp_message_id: knows_whatsapp_id.then(|| ids[1].clone()),
        };
        let quick_us = rng.between(10_000, 400_000);
        let slow_us = rng.between(400_000, 8_000_000);
        let what = if faults { self.draw(rng) } else { 99 };
        let hint = rng.chance(50).then(|| rng.between(500, 40_000) as u64);
        let (accepts, outcome, after_us) = match what {
            0..8 => (true, Outcome::Unknown, slow_us),
            8..14 => (false, Outcome::Unknown, slow_us),
            14..18 => (false, throttled(ThrottleScope::Session, hint), quick_us),
            18..21 => (false, throttled(ThrottleScope::Pair, hint), quick_us),
            21..23 => (false, throttled(ThrottleScope::Account, hint), quick_us),
            23..33 => (false, Outcome::Retryable, quick_us),
            33..36 => (false, Outcome::Permanent, quick_us),
            36..39 => (false, Outcome::SessionDown { connection: Connection::LoggedOut }, quick_us),
            39..49 => (true, submitted, slow_us),
            _ => (true, submitted, quick_us),
        };
        (Answer { accepts, outcome, after_us }, ids)
    }

    fn draw(&self, rng: &mut Rng) -> usize {
        if rng.chance(20) {
            return rng.below(100);
        }
        match self.mood {
            Mood::Usual => rng.below(100),
            Mood::Failing => 23,
            Mood::Throttling => 14 + rng.below(9),
            Mood::Hanging => rng.below(14),
        }
    }

    pub(crate) fn accept(&mut self, made: &Made, [provider_id, whatsapp_id]: [String; 2]) {
        self.accepted.push(Acceptance {
            id: made.call.message_id,
            called_us: made.decided_us,
            claim: made.claim,
            request_offset: made.request_offset,
            provider_id,
            whatsapp_id,
        });
    }

    pub(crate) fn acceptances(&self, id: Uuid) -> impl Iterator<Item = &Acceptance> {
        self.accepted.iter().filter(move |accepted| accepted.id == id)
    }
}

fn throttled(scope: ThrottleScope, retry_after_ms: Option<u64>) -> Outcome {
    Outcome::Throttled { scope, retry_after_ms }
}
