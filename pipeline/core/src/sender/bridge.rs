//! Matches the echoes of our own messages to the messages: the way to the WhatsApp id where the provider's
//! answer does not tell it (Wasender), and the fingerprint evidence for an attempt in doubt.
//!
//! A match needs one candidate and one echo, no more, for (recipient, content). A message is a candidate from
//! the start of its call, so an echo that overtakes the answer of a later, equal message cannot be taken for
//! an earlier one's. An attempt that was given up without evidence stays a rival: its echo may still come. A
//! candidate is matched only while every attempt that could be its rival is remembered, which is one window;
//! rivals are remembered for two. What is not unique waits for a look-up.

use std::collections::{HashMap, HashSet, VecDeque};
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
    /// It may have been sent, and is no candidate any more: an echo may be its own and nobody can tell.
    Rival,
}

#[derive(Debug)]
struct Candidate {
    id: Uuid,
    /// Which of the session's candidates, ever.
    serial: u64,
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

/// The present, and how far apart an echo and its message may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) now_ms: i64,
    /// How much earlier than its claim an echo may be stamped.
    pub(super) skew_ms: i64,
    /// How long a candidate may be matched.
    pub(super) window_ms: i64,
}

impl Span {
    fn matched_since_ms(self) -> i64 {
        self.now_ms.saturating_sub(self.window_ms)
    }

    /// What began before this is no rival of anything that may still be matched.
    pub(super) fn remembered_since_ms(self) -> i64 {
        self.now_ms.saturating_sub(self.window_ms.saturating_mul(2))
    }
}

/// Candidates and echoes of one session.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    candidates: HashMap<Print, Vec<Candidate>>,
    echoes: HashMap<Print, Vec<Echo>>,
    /// Where each candidate is, oldest first; entries of candidates gone are skipped.
    order: VecDeque<(u64, Print)>,
    echo_order: VecDeque<(i64, Print)>,
    /// WhatsApp ids that have found their message, with the time of their use.
    used: HashSet<String>,
    used_order: VecDeque<(i64, String)>,
    /// When the latest candidate began that gave way, by a mark of its print: at most 256.
    gave_way: HashMap<u8, i64>,
    count: usize,
    next_serial: u64,
}

/// A small mark of a print, the same for some others too.
fn mark((recipient, content): &Print) -> u8 {
    recipient.bytes().fold(content[0], |mark, byte| mark.wrapping_mul(31).wrapping_add(byte))
}

impl Bridge {
    /// Adds a candidate; beyond `most` the oldest gives way.
    pub(super) fn add(&mut self, id: Uuid, print: Print, since_ms: i64, stage: Stage, most: usize) {
        // Nearly always the only one.
        let list = self.candidates.entry(print.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Some(known) = list.iter_mut().find(|c| c.is(id)) {
            known.stage = stage;
            known.since_ms = since_ms;
            return;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        list.push(Candidate { id, serial, since_ms, stage, looking: false });
        self.order.push_back((serial, print));
        self.count += 1;
        while self.count > most {
            let Some((oldest, print)) = self.order.pop_front() else { break };
            let since_ms = self.since_ms(oldest, &print);
            self.take_serial(oldest, &print);
            // Its echo may still come: nobody can tell any more whose an echo like it is, also of those to come.
            if let Some(since_ms) = since_ms {
                let latest = self.gave_way.entry(mark(&print)).or_insert(since_ms);
                *latest = (*latest).max(since_ms);
            }
        }
    }

    fn since_ms(&self, serial: u64, print: &Print) -> Option<i64> {
        self.candidates.get(print)?.iter().find(|c| c.serial == serial).map(|c| c.since_ms)
    }

    /// A candidate got further; a match may follow.
    pub(super) fn advance(&mut self, id: Uuid, print: &Print, stage: Stage, span: Span) -> Option<Match> {
        let candidate = self.candidates.get_mut(print)?.iter_mut().find(|c| c.is(id))?;
        candidate.stage = stage;
        self.unique(print, span)
    }

    /// A candidate was not sent; what it leaves may be unique now.
    pub(super) fn remove(&mut self, id: Uuid, print: &Print, span: Span) -> Option<Match> {
        self.take(id, print);
        self.unique(print, span)
    }

    /// An echo came. The same echo again changes nothing.
    pub(super) fn echo(&mut self, print: Print, echo: Echo, span: Span) -> Option<Match> {
        if !self.candidates.contains_key(&print) || self.used.contains(&echo.whatsapp_id) {
            return None;
        }
        let list = self.echoes.entry(print.clone()).or_default();
        if list.iter().any(|known| known.whatsapp_id == echo.whatsapp_id) {
            return None;
        }
        self.echo_order.push_back((echo.at_ms, print.clone()));
        list.push(echo);
        self.unique(&print, span)
    }

    /// The WhatsApp id of a candidate is known without its echo, which is used up, here or still to come.
    pub(super) fn told(&mut self, id: Uuid, print: &Print, whatsapp_id: &str, span: Span) -> Option<Match> {
        self.take(id, print);
        if let Some(list) = self.echoes.get_mut(print) {
            list.retain(|echo| echo.whatsapp_id != whatsapp_id);
        }
        self.note_used(whatsapp_id, span.now_ms);
        self.unique(print, span)
    }

    /// Candidates older than `before_ms` without an id, at most `most`: they are to be looked up.
    pub(super) fn overdue(&mut self, before_ms: i64, span: Span, most: usize) -> Vec<(Uuid, Print, String)> {
        let mut found = Vec::new();
        for (serial, print) in &self.order {
            if found.len() >= most {
                break;
            }
            let Some(candidate) =
                self.candidates.get_mut(print).and_then(|list| list.iter_mut().find(|c| c.serial == *serial))
            else {
                continue;
            };
            if candidate.since_ms > before_ms {
                break;
            }
            if let Some(provider_message_id) = candidate.waits_for_its_id(span) {
                found.push((candidate.id, print.clone(), provider_message_id));
                candidate.looking = true;
            }
        }
        found
    }

    /// How far a candidate is, if it is one.
    pub(super) fn stage_of(&self, id: Uuid, print: &Print) -> Option<Stage> {
        self.candidates.get(print)?.iter().find(|c| c.is(id)).map(|c| c.stage.clone())
    }

    /// The look-up of a candidate found nothing: it may be looked up again.
    pub(super) fn not_found(&mut self, id: Uuid, print: &Print) {
        if let Some(c) = self.candidates.get_mut(print).and_then(|list| list.iter_mut().find(|c| c.is(id))) {
            c.looking = false;
        }
    }

    /// Forgets what is too old to matter.
    pub(super) fn expire(&mut self, span: Span) {
        let before_ms = span.remembered_since_ms();
        self.gave_way.retain(|_, since_ms| *since_ms >= before_ms);
        while let Some((serial, print)) = self.order.front().cloned() {
            let candidate =
                self.candidates.get(&print).and_then(|list| list.iter().find(|c| c.serial == serial));
            if candidate.is_some_and(|c| c.since_ms >= before_ms) {
                break;
            }
            self.order.pop_front();
            self.take_serial(serial, &print);
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
        while self.used_order.front().is_some_and(|(at, _)| *at < before_ms) {
            if let Some((_, whatsapp_id)) = self.used_order.pop_front() {
                self.used.remove(&whatsapp_id);
            }
        }
    }

    /// Whether [`Bridge::expire`] would leave nothing.
    pub(super) fn is_void(&self, span: Span) -> bool {
        let before_ms = span.remembered_since_ms();
        self.candidates.values().flatten().all(|candidate| candidate.since_ms < before_ms)
            && self.echoes.values().flatten().all(|echo| echo.at_ms < before_ms)
            && self.used_order.back().is_none_or(|(at_ms, _)| *at_ms < before_ms)
            && self.gave_way.values().all(|since_ms| *since_ms < before_ms)
    }

    /// Earliest candidate still to be looked up, milliseconds.
    pub(super) fn oldest_ms(&self, span: Span) -> Option<i64> {
        self.order.iter().find_map(|(serial, print)| {
            let candidate = self.candidates.get(print)?.iter().find(|c| c.serial == *serial)?;
            candidate.waits_for_its_id(span).map(|_| candidate.since_ms)
        })
    }

    fn take(&mut self, id: Uuid, print: &Print) {
        let found = self.candidates.get(print).and_then(|list| list.iter().find(|c| c.is(id)));
        if let Some(serial) = found.map(|c| c.serial) {
            self.take_serial(serial, print);
        }
    }

    fn take_serial(&mut self, serial: u64, print: &Print) {
        if let Some(list) = self.candidates.get_mut(print) {
            let before = list.len();
            list.retain(|c| c.serial != serial);
            self.count -= before - list.len();
            if list.is_empty() {
                self.candidates.remove(print);
                self.echoes.remove(print);
            }
        }
    }

    fn unique(&mut self, print: &Print, span: Span) -> Option<Match> {
        let ([candidate], [echo]) =
            (self.candidates.get(print)?.as_slice(), self.echoes.get(print)?.as_slice())
        else {
            return None;
        };
        let has_lost_rival =
            self.gave_way.get(&mark(print)).is_some_and(|since_ms| *since_ms >= span.remembered_since_ms());
        let may_match = !has_lost_rival
            && matches!(candidate.stage, Stage::Submitted { .. } | Stage::InDoubt)
            && candidate.since_ms >= span.matched_since_ms()
            && echo.at_ms >= candidate.since_ms.saturating_sub(span.skew_ms);
        if !may_match {
            return None;
        }
        let found = Match { id: candidate.id, stage: candidate.stage.clone(), echo: echo.clone() };
        let serial = candidate.serial;
        self.take_serial(serial, print);
        self.note_used(&found.echo.whatsapp_id, span.now_ms);
        Some(found)
    }

    /// How many candidates there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Forgets which echoes have found their message.
    pub(super) fn forget_used(&mut self) {
        self.used.clear();
    }

    fn note_used(&mut self, whatsapp_id: &str, now_ms: i64) {
        if self.used.insert(whatsapp_id.to_owned()) {
            self.used_order.push_back((now_ms, whatsapp_id.to_owned()));
        }
    }
}

impl Candidate {
    /// Whether it is the present attempt of `id`: a rival is an earlier one.
    fn is(&self, id: Uuid) -> bool {
        self.id == id && self.stage != Stage::Rival
    }

    /// The provider's id to look up, if that is what it waits for.
    fn waits_for_its_id(&self, span: Span) -> Option<String> {
        match &self.stage {
            Stage::Submitted { provider_message_id }
                if !self.looking && self.since_ms >= span.matched_since_ms() =>
            {
                Some(provider_message_id.clone())
            }
            _ => None,
        }
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

    fn span(skew_ms: i64) -> Span {
        Span { now_ms: 20_000, skew_ms, window_ms: 60_000 }
    }

    fn submitted(id: &str) -> Stage {
        Stage::Submitted { provider_message_id: id.into() }
    }

    #[test]
    fn a_unique_echo_is_the_messages_own() {
        let mut bridge = Bridge::default();
        let id = Uuid::from_u128(1);
        bridge.add(id, print(), 1_000, Stage::Calling, 10);
        assert_eq!(bridge.echo(print(), echo("A", 1_500), span(0)), None, "the outcome is not known yet");
        let found = bridge.advance(id, &print(), submitted("100"), span(0)).expect("a match");
        assert_eq!((found.id, found.echo.whatsapp_id.as_str()), (id, "A"));
        assert_eq!(bridge.echo(print(), echo("A", 1_500), span(0)), None, "an echo is used once");
    }

    #[test]
    fn equal_messages_are_told_apart_by_a_look_up_only() {
        let mut bridge = Bridge::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        bridge.add(a, print(), 1_000, submitted("100"), 10);
        bridge.add(b, print(), 2_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("A", 2_500), span(0)), None);
        assert_eq!(bridge.echo(print(), echo("B", 2_600), span(0)), None);
        assert_eq!(bridge.overdue(1_500, span(0), 5), vec![(a, print(), "100".to_owned())]);
        let found = bridge.told(a, &print(), "A", span(0)).expect("what is left is unique");
        assert_eq!((found.id, found.echo.whatsapp_id.as_str(), found.stage), (b, "B", Stage::InDoubt));
    }

    #[test]
    fn an_echo_from_before_the_claim_is_no_evidence() {
        let mut bridge = Bridge::default();
        bridge.add(Uuid::from_u128(1), print(), 10_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("old", 1_000), span(5_000)), None);
    }

    #[test]
    fn candidates_are_bounded() {
        let mut bridge = Bridge::default();
        for n in 0..100 {
            bridge.add(Uuid::from_u128(n), print(), n as i64, submitted("x"), 10);
        }
        assert_eq!(bridge.count, 10);
    }

    #[test]
    fn an_attempt_given_up_leaves_nothing_unique() {
        let mut bridge = Bridge::default();
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        bridge.add(a, print(), 1_000, Stage::InDoubt, 10);
        bridge.add(b, print(), 2_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("A", 2_500), span(0)), None);
        assert_eq!(bridge.advance(a, &print(), Stage::Rival, span(0)), None, "the echo may be a's");
        bridge.add(a, print(), 3_000, submitted("101"), 10);
        assert_eq!(bridge.told(a, &print(), "B", span(0)), None, "that was another attempt of a");
    }

    #[test]
    fn a_candidate_that_gave_way_leaves_nothing_unique_that_comes_later() {
        let mut bridge = Bridge::default();
        let other: Print = ("+15550000000".into(), [9; 32]);
        bridge.add(Uuid::from_u128(1), print(), 1_000, submitted("100"), 1);
        bridge.add(Uuid::from_u128(2), other, 1_500, submitted("101"), 1);
        bridge.add(Uuid::from_u128(3), print(), 2_000, Stage::InDoubt, 1);
        assert_eq!(bridge.echo(print(), echo("A", 2_500), span(0)), None, "it may be the first one's");
        let later = Span { now_ms: 200_000, ..span(0) };
        bridge.expire(later);
        bridge.add(Uuid::from_u128(4), print(), 190_000, Stage::InDoubt, 1);
        assert!(bridge.echo(print(), echo("B", 190_500), later).is_some(), "two windows on it is no rival");
    }

    #[test]
    fn an_echo_that_came_twice_is_used_once() {
        let mut bridge = Bridge::default();
        bridge.add(Uuid::from_u128(1), print(), 1_000, submitted("100"), 10);
        assert!(bridge.echo(print(), echo("A", 1_500), span(0)).is_some());
        bridge.add(Uuid::from_u128(2), print(), 2_000, Stage::InDoubt, 10);
        assert_eq!(bridge.echo(print(), echo("A", 1_500), span(5_000)), None);
    }

    #[test]
    fn a_doubt_older_than_what_is_remembered_is_not_matched() {
        let mut bridge = Bridge::default();
        bridge.add(Uuid::from_u128(1), print(), 1_000, Stage::InDoubt, 10);
        let later = Span { now_ms: 70_000, ..span(0) };
        assert_eq!(bridge.echo(print(), echo("A", 60_000), later), None);
    }
}
