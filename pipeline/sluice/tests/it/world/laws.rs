//! What must hold whatever happens, counted from the provider's truth log and the facts.

use std::collections::{BTreeMap, HashMap};

use sluice_schemas::Status;
use sluice_whatsapp::wasender::simulator::{TruthEntry, Verdict, Window};

use super::read::{Step, is_end};
use super::{Sent, World};

/// Where no window of any session may hold more requests than its limit, refused ones counted: those that do.
pub fn rate_breaches(truth: &[TruthEntry], limits: &[Window]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut arrivals: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for entry in truth {
        if entry.breach {
            breaches.push(format!("over a limit: {entry:?}"));
        }
        arrivals.entry(&entry.session).or_default().push(entry.at_ms);
    }
    for (session, times) in &mut arrivals {
        times.sort_unstable();
        for window in limits {
            let count = window.count as usize;
            for (i, first) in times.iter().enumerate() {
                let inside = times[i..].iter().take_while(|at| **at < first + window.per_ms).count();
                // Arrivals are told in whole milliseconds, so one at the very edge may look inside.
                let edge = times.get(i + count).is_some_and(|at| at + 1 >= first + window.per_ms);
                if inside > count && !edge {
                    breaches
                        .push(format!("{session} sent {inside} in one window of {window:?} from {first}"));
                }
            }
        }
    }
    breaches
}

/// When the provider took a message again with fewer claims on record as in doubt, before that, than it had taken it
/// times. `taken` are the times it took the message.
pub fn unexplained_doubles(taken: &[u64], told: &[Step]) -> Vec<u64> {
    let in_doubt_before = |at: u64| {
        let before = told.iter().filter(|step| u64::try_from(step.at_ms).unwrap_or(0) <= at);
        let mut claims: Vec<_> =
            before.filter(|step| step.status == Status::InDoubt).map(|step| step.claim).collect();
        claims.sort_unstable();
        claims.dedup();
        claims.len()
    };
    let again = taken.iter().enumerate().skip(1);
    again.filter(|(n, at)| in_doubt_before(**at) < *n).map(|(_, at)| *at).collect()
}

/// First acceptances that came after one that `place`, by session and text, puts behind it in the same chat.
pub fn out_of_order(truth: &[TruthEntry], place: &HashMap<(&str, &str), usize>) -> Vec<TruthEntry> {
    let mut last: HashMap<(&str, &str), usize> = HashMap::new();
    let mut late = Vec::new();
    for entry in truth.iter().filter(|entry| entry.verdict == Verdict::Accepted && !entry.double) {
        let Some(i) = place.get(&(entry.session.as_str(), entry.text.as_str())) else { continue };
        let latest = last.entry((&entry.session, &entry.recipient)).or_insert(*i);
        if *i < *latest {
            late.push(entry.clone());
        }
        *latest = (*latest).max(*i);
    }
    late
}

impl World {
    /// Every accepted message has an end or is in doubt, and what is said to be sent was sent.
    pub fn nothing_is_lost(&self, messages: &[Sent]) {
        let facts = self.facts.by_message();
        let taken: HashMap<_, _> =
            self.accepted().into_iter().map(|entry| ((entry.session, entry.text), entry.at_ms)).collect();
        for message in messages {
            let told = facts.get(&message.id().to_string()).map(Vec::as_slice).unwrap_or_default();
            let statuses: Vec<_> = told.iter().map(|(_, fact)| fact.status).collect();
            assert!(statuses.contains(&Status::Accepted), "{message:?} was never accepted: {statuses:?}");
            let settled = statuses.iter().any(|status| is_end(status) || *status == Status::InDoubt);
            assert!(settled, "{message:?} is lost: {statuses:?}");
            if statuses.contains(&Status::Submitted) {
                let key = (message.session.clone(), message.text.clone());
                assert!(
                    taken.contains_key(&key),
                    "{message:?} is said to be sent and never was: {statuses:?}"
                );
            }
        }
    }

    /// Whatever the provider took `n` times has `n - 1` claims on record as in doubt, each before the next time.
    pub fn doubles_are_explained(&self, messages: &[Sent]) -> usize {
        let mut taken: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for entry in self.accepted() {
            taken.entry((entry.session, entry.text)).or_default().push(entry.at_ms);
        }
        let mut doubles = 0;
        for message in messages {
            let key = (message.session.clone(), message.text.clone());
            let times = taken.get(&key).map(Vec::as_slice).unwrap_or_default();
            doubles += times.len().saturating_sub(1);
            let told: Vec<_> =
                self.facts.of(message.id()).iter().map(|(at, fact)| Step::of(*at, fact)).collect();
            let unexplained = unexplained_doubles(times, &told);
            assert!(
                unexplained.is_empty(),
                "{message:?} was sent at {times:?} without a doubt told: {told:?}"
            );
        }
        doubles
    }

    /// No window of any session held more requests than its limit, refused ones counted.
    pub fn no_rate_is_breached(&self) {
        let breaches = rate_breaches(&self.provider.truth(0), &self.limits);
        assert!(breaches.is_empty(), "{breaches:#?}");
    }

    /// The first acceptances of each chat are in the order of the requests.
    pub fn chats_are_in_order(&self, messages: &[Sent]) {
        let place =
            messages.iter().enumerate().map(|(i, m)| ((m.session.as_str(), m.text.as_str()), i)).collect();
        let late = out_of_order(&self.provider.truth(0), &place);
        assert!(late.is_empty(), "sent after a later message of their chat: {late:#?}");
    }

    /// All the laws; how many doubles there were.
    pub fn laws_hold(&self, messages: &[Sent]) -> usize {
        self.nothing_is_lost(messages);
        self.no_rate_is_breached();
        self.chats_are_in_order(messages);
        self.doubles_are_explained(messages)
    }
}
