//! Matches the echoes of our own messages to the messages: the way to the WhatsApp id where the provider's
//! answer does not tell it (Wasender), and the fingerprint evidence for an attempt in doubt.
//!
//! A match needs one candidate and one echo, no more, for (recipient, content). A message is a candidate from
//! the start of its call, so an echo that overtakes the answer of a later, equal message cannot be taken for
//! an earlier one's. What is not unique waits for a look-up.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

/// What an echo and a message share: recipient and content.
pub(super) type Print = (Arc<str>, [u8; 32]);

/// How far a candidate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its call is under way; a match waits for the outcome.
    Calling,
    /// The provider took it under this id.
    Submitted { provider_message_id: String },
    /// Its outcome is unknown.
    InDoubt,
}

#[derive(Debug)]
struct Candidate {
    id: Uuid,
    since_ms: i64,
    stage: Stage,
    looking: bool,
}

/// An echo of a message sent through the API or the phone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) whatsapp_id: String,
    pub(super) chat_id: Option<String>,
    pub(super) at_ms: i64,
    pub(super) event_id: String,
}

/// A candidate and the echo that is its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) id: Uuid,
    pub(super) stage: Stage,
    pub(super) echo: Echo,
}

/// Candidates and echoes of one session.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    candidates: HashMap<Print, Vec<Candidate>>,
    echoes: HashMap<Print, Vec<Echo>>,
    /// Where each candidate is, oldest first; entries of candidates gone are skipped.
    order: VecDeque<(Uuid, Print)>,
    echo_order: VecDeque<(i64, Print)>,
    count: usize,
}

impl Bridge {
    /// Adds a candidate; beyond `most` the oldest gives way.
    pub(super) fn add(&mut self, id: Uuid, print: Print, since_ms: i64, stage: Stage, most: usize) {
        let list = self.candidates.entry(print.clone()).or_default();
        if let Some(known) = list.iter_mut().find(|c| c.id == id) {
            known.stage = stage;
            known.since_ms = since_ms;
            return;
        }
        list.push(Candidate { id, since_ms, stage, looking: false });
        self.order.push_back((id, print));
        self.count += 1;
        while self.count > most {
            let Some((oldest, print)) = self.order.pop_front() else { break };
            self.take(oldest, &print);
        }
    }

    /// A candidate got further; a match may follow.
    pub(super) fn advance(&mut self, id: Uuid, print: &Print, stage: Stage, skew_ms: i64) -> Option<Match> {
        let candidate = self.candidates.get_mut(print)?.iter_mut().find(|c| c.id == id)?;
        candidate.stage = stage;
        self.unique(print, skew_ms)
    }

    /// A candidate is none any more; what it leaves may be unique now.
    pub(super) fn remove(&mut self, id: Uuid, print: &Print, skew_ms: i64) -> Option<Match> {
        self.take(id, print);
        self.unique(print, skew_ms)
    }

    /// An echo came. The same echo again changes nothing.
    pub(super) fn echo(&mut self, print: Print, echo: Echo, skew_ms: i64) -> Option<Match> {
        if !self.candidates.contains_key(&print) {
            return None;
        }
        let list = self.echoes.entry(print.clone()).or_default();
        if list.iter().any(|known| known.whatsapp_id == echo.whatsapp_id) {
            return None;
        }
        self.echo_order.push_back((echo.at_ms, print.clone()));
        list.push(echo);
        self.unique(&print, skew_ms)
    }

    /// A look-up told the WhatsApp id of a candidate: its echo, if here, is used up.
    pub(super) fn told(&mut self, id: Uuid, print: &Print, whatsapp_id: &str, skew_ms: i64) -> Option<Match> {
        self.take(id, print);
        if let Some(list) = self.echoes.get_mut(print) {
            list.retain(|echo| echo.whatsapp_id != whatsapp_id);
        }
        self.unique(print, skew_ms)
    }

    /// Candidates older than `before_ms` without an id, at most `most`: they are to be looked up.
    pub(super) fn overdue(&mut self, before_ms: i64, most: usize) -> Vec<(Uuid, Print, String)> {
        let mut found = Vec::new();
        for (id, print) in &self.order {
            if found.len() >= most {
                break;
            }
            let Some(candidate) =
                self.candidates.get_mut(print).and_then(|list| list.iter_mut().find(|c| c.id == *id))
            else {
                continue;
            };
            if candidate.since_ms > before_ms {
                break;
            }
            if let (Stage::Submitted { provider_message_id }, false) = (&candidate.stage, candidate.looking) {
                found.push((*id, print.clone(), provider_message_id.clone()));
                candidate.looking = true;
            }
        }
        found
    }

    /// How far a candidate is, if it is one.
    pub(super) fn stage_of(&self, id: Uuid, print: &Print) -> Option<Stage> {
        self.candidates.get(print)?.iter().find(|c| c.id == id).map(|c| c.stage.clone())
    }

    /// The look-up of a candidate found nothing: it may be looked up again.
    pub(super) fn not_found(&mut self, id: Uuid, print: &Print) {
        if let Some(c) = self.candidates.get_mut(print).and_then(|list| list.iter_mut().find(|c| c.id == id))
        {
            c.looking = false;
        }
    }

    /// Forgets submitted candidates and echoes older than `before_ms`.
    pub(super) fn expire(&mut self, before_ms: i64) {
        while let Some((id, print)) = self.order.front().cloned() {
            let keep = self
                .candidates
                .get(&print)
                .and_then(|list| list.iter().find(|c| c.id == id))
                .is_some_and(|c| c.since_ms >= before_ms || !matches!(c.stage, Stage::Submitted { .. }));
            if keep {
                break;
            }
            self.order.pop_front();
            self.take(id, &print);
        }
        while self.echo_order.front().is_some_and(|(at, _)| *at < before_ms) {
            if let Some((at_ms, print)) = self.echo_order.pop_front()
                && let Some(list) = self.echoes.get_mut(&print)
            {
                list.retain(|echo| echo.at_ms != at_ms);
                if list.is_empty() {
                    self.echoes.remove(&print);
                }
            }
        }
    }

    /// Earliest candidate still waiting for its id, milliseconds.
    pub(super) fn oldest_ms(&mut self) -> Option<i64> {
        while let Some((id, print)) = self.order.front() {
            match self.candidates.get(print).and_then(|list| list.iter().find(|c| c.id == *id)) {
                Some(candidate) => return Some(candidate.since_ms),
                None => {
                    self.order.pop_front();
                }
            }
        }
        None
    }

    fn take(&mut self, id: Uuid, print: &Print) {
        if let Some(list) = self.candidates.get_mut(print) {
            let before = list.len();
            list.retain(|c| c.id != id);
            self.count -= before - list.len();
            if list.is_empty() {
                self.candidates.remove(print);
                self.echoes.remove(print);
            }
        }
    }

    fn unique(&mut self, print: &Print, skew_ms: i64) -> Option<Match> {
        let ([candidate], [echo]) =
            (self.candidates.get(print)?.as_slice(), self.echoes.get(print)?.as_slice())
        else {
            return None;
        };
        if candidate.stage == Stage::Calling || echo.at_ms < candidate.since_ms.saturating_sub(skew_ms) {
            return None;
        }
        let found = Match { id: candidate.id, stage: candidate.stage.clone(), echo: echo.clone() };
        self.take(found.id, print);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print() -> Print {
        ("+15551234567".into(), [7; 32])
    }

    fn echo(id: &str, at_ms: i64) -> Echo {
        Echo { whatsapp_id: id.into(), chat_id: None, at_ms, event_id: id.into() }
    }

    fn submitted(id: &str) -> Stage {
        Stage::Submitted { provider_message_id: id.into() }
    }

    #[test]
    fn a_unique_echo_is_the_messages_own() {
        let mut bridge = Bridge::default();
        let id = Uuid::from_u128(1);
        bridge.add(id, print(), 1_000, Stage::Calling, 10);
        assert_eq!(bridge.echo(print(), echo("A", 1_500), 0), None, "the outcome is not known yet");
        let found = bridge.advance(id, &print(), submitted("100"), 0).expect("a match");
        assert_eq!((found.id, found.echo.whatsapp_id.as_str()), (id, "A"));
        assert_eq!(bridge.echo(print(), echo("A", 1_500), 0), None, "an echo is used once");
    }

    #[test]
    fn equal_messages_are_told_apart_by_a_look_up_only() {
        let mut bridge = Bridge::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        bridge.add(a, print(), 1_000, submitted("100"), 10);
        bridge.add(b, print(), 2_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("A", 2_500), 0), None);
        assert_eq!(bridge.echo(print(), echo("B", 2_600), 0), None);
        assert_eq!(bridge.overdue(1_500, 5), vec![(a, print(), "100".to_owned())]);
        let found = bridge.told(a, &print(), "A", 0).expect("what is left is unique");
        assert_eq!((found.id, found.echo.whatsapp_id.as_str(), found.stage), (b, "B", Stage::InDoubt));
    }

    #[test]
    fn an_echo_from_before_the_claim_is_no_evidence() {
        let mut bridge = Bridge::default();
        bridge.add(Uuid::from_u128(1), print(), 10_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("old", 1_000), 5_000), None);
    }

    #[test]
    fn candidates_are_bounded() {
        let mut bridge = Bridge::default();
        for n in 0..100 {
            bridge.add(Uuid::from_u128(n), print(), n as i64, submitted("x"), 10);
        }
        assert_eq!(bridge.count, 10);
    }
}
