//! What must hold whatever happens, counted from the provider's truth log and the facts.

use std::collections::{BTreeMap, HashMap};

use sluice_schemas::Status;

use super::read::is_end;
use super::{Sent, World};

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
            let told = self.facts.of(message.id());
            for (n, again) in times.iter().enumerate().skip(1) {
                doubles += 1;
                let mut claims: Vec<_> = told
                    .iter()
                    .filter(|(at, fact)| {
                        fact.status == Status::InDoubt && u64::try_from(*at).unwrap_or(0) <= *again
                    })
                    .map(|(_, fact)| (fact.claim_epoch, fact.claim_seq))
                    .collect();
                claims.sort_unstable();
                claims.dedup();
                let story: Vec<_> =
                    told.iter().map(|(at, f)| (*at, f.status, f.claim_epoch, f.claim_seq)).collect();
                assert!(
                    claims.len() >= n,
                    "{message:?} was sent at {times:?} without a doubt told: {story:?}"
                );
            }
        }
        doubles
    }

    /// No window of any session held more requests than its limit, refused ones counted.
    pub fn no_rate_is_breached(&self) {
        let mut arrivals: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for entry in self.provider.truth(0) {
            assert!(!entry.breach, "over a limit: {entry:?}");
            arrivals.entry(entry.session).or_default().push(entry.at_ms);
        }
        for (session, times) in &mut arrivals {
            times.sort_unstable();
            for window in &self.limits {
                let count = window.count as usize;
                for (i, first) in times.iter().enumerate() {
                    let inside = times[i..].iter().take_while(|at| **at < first + window.per_ms).count();
                    // Arrivals are told in whole milliseconds, so one at the very edge may look inside.
                    let edge = times.get(i + count).is_some_and(|at| at + 1 >= first + window.per_ms);
                    assert!(inside <= count || edge, "{session} sent {inside} in one window of {window:?}");
                }
            }
        }
    }

    /// The first acceptances of each chat are in the order of the requests.
    pub fn chats_are_in_order(&self, messages: &[Sent]) {
        let place: HashMap<_, _> =
            messages.iter().enumerate().map(|(i, m)| ((m.session.as_str(), m.text.as_str()), i)).collect();
        let mut last: HashMap<(String, String), usize> = HashMap::new();
        for entry in self.accepted().iter().filter(|entry| !entry.double) {
            let Some(i) = place.get(&(entry.session.as_str(), entry.text.as_str())) else { continue };
            let chat = (entry.session.clone(), entry.recipient.clone());
            if let Some(before) = last.insert(chat, *i) {
                assert!(before < *i, "{:?} was sent after {:?}", messages[*i], messages[before]);
            }
        }
    }

    /// All the laws; how many doubles there were.
    pub fn laws_hold(&self, messages: &[Sent]) -> usize {
        self.nothing_is_lost(messages);
        self.no_rate_is_breached();
        self.chats_are_in_order(messages);
        self.doubles_are_explained(messages)
    }
}
