//! From the set of facts to the state of the message. Every answer here depends on the set alone, never on
//! the order in which its facts came.

use std::collections::BTreeSet;

use sluice_schemas::{ContentType, ErrorClass, MessageState, Provider, Source, Status};

use super::fact::{Claim, Fact};
use super::facts::MessageFacts;

/// Height of a status in the join: accepted < scheduled, held < retrying, in doubt < submitted < sent < ends
/// < delivered < read < played. Facts that say nothing of progress have none.
fn rank(kind: Status) -> Option<u8> {
    match kind {
        Status::Accepted => Some(1),
        Status::Scheduled | Status::Held => Some(2),
        Status::Retrying | Status::InDoubt => Some(3),
        Status::Submitted => Some(4),
        Status::Sent => Some(5),
        Status::Failed | Status::Expired | Status::Canceled | Status::Skipped => Some(6),
        Status::Delivered => Some(7),
        Status::Read => Some(8),
        Status::Played => Some(9),
        Status::Unknown | Status::ProviderId | Status::CancelTooLate | Status::DuplicateConflict => None,
    }
}

/// Folds the facts.
pub(super) fn fold(facts: &MessageFacts) -> MessageState {
    let view = View::of(facts);
    let doubt = Doubt::of(facts);
    let status = view.status(&doubt);
    MessageState {
        message_id: facts.message_id().to_owned(),
        session_id: view.session_id(),
        tenant_id: view.first(|fact| fact.tenant_id.clone()),
        idempotency_key: view.first(|fact| fact.idempotency_key.clone()),
        provider: view
            .first(|fact| (fact.provider != Provider::Unknown).then_some(fact.provider))
            .unwrap_or_default(),
        provider_message_id: view.of_last_claim(|fact| fact.provider_message_id.clone()),
        whatsapp_message_id: view.of_last_claim(|fact| fact.whatsapp_message_id.clone()),
        recipient: view.first(|fact| fact.recipient.clone()),
        status,
        terminal: rank(status).is_some_and(|height| Some(height) >= rank(Status::Submitted)),
        revision: i64::try_from(facts.len()).unwrap_or(i64::MAX),
        accepted_at: view.first_at(Status::Accepted),
        scheduled_at: view.first_at(Status::Scheduled),
        submitted_at: view.first_at(Status::Submitted),
        sent_at: view.first_at(Status::Sent),
        delivered_at: view.first_at(Status::Delivered),
        read_at: view.first_at(Status::Read),
        played_at: view.first_at(Status::Played),
        failed_at: view.first_at(Status::Failed),
        expired_at: view.first_at(Status::Expired),
        canceled_at: view.first_at(Status::Canceled),
        skipped_at: view.first_at(Status::Skipped),
        in_doubt_at: view.first_at(Status::InDoubt),
        attempts: view.attempts(),
        last_error: view.last_error(),
        in_doubt: doubt.is_open(),
        possible_duplicate: doubt.may_have_been_sent.len() > 1,
        content_type: view
            .first(|fact| (fact.content_type != ContentType::Unknown).then_some(fact.content_type))
            .unwrap_or_default(),
        body_sha256: view.first(|fact| fact.body_sha256.clone()),
        template_name: view.first(|fact| fact.template_name.clone()),
        pricing_category: view.first(|fact| fact.pricing_category.clone()),
        billable: view.first(|fact| fact.billable),
        campaign_id: view.first(|fact| fact.campaign_id.clone()),
        labels: view.first(|fact| (!fact.labels.is_empty()).then(|| fact.labels.clone())).unwrap_or_default(),
        group_delivered: view.participants(|kind| rank(kind) >= rank(Status::Delivered)),
        group_read: view.participants(|kind| rank(kind) >= rank(Status::Read)),
        updated_at: facts.iter().map(|fact| fact.observed_ms).max().unwrap_or_default(),
    }
}

/// The facts in the order in which their statements are believed: the sender's own first, then by time.
struct View<'a> {
    facts: Vec<&'a Fact>,
}

impl<'a> View<'a> {
    fn of(facts: &'a MessageFacts) -> Self {
        let mut facts: Vec<&Fact> = facts.iter().collect();
        facts.sort_by_cached_key(|fact| (fact.source != Source::Sender, fact.at_ms, fact.key()));
        Self { facts }
    }

    fn first<T>(&self, get: impl Fn(&Fact) -> Option<T>) -> Option<T> {
        self.facts.iter().find_map(|fact| get(fact))
    }

    fn session_id(&self) -> String {
        self.facts.first().map(|fact| fact.session_id.clone()).unwrap_or_default()
    }

    /// An id as the facts of the latest claim tell it: after a second attempt its id is the one that counts.
    fn of_last_claim(&self, get: impl Fn(&Fact) -> Option<String>) -> Option<String> {
        let latest = self.facts.iter().filter(|fact| get(fact).is_some()).map(|fact| fact.claim).max()?;
        self.first(|fact| if fact.claim == latest { get(fact) } else { None })
    }

    fn first_at(&self, kind: Status) -> Option<i64> {
        self.facts.iter().filter(|fact| fact.kind == kind).map(|fact| fact.at_ms).min()
    }

    fn status(&self, doubt: &Doubt) -> Status {
        let top = self.facts.iter().filter_map(|fact| rank(fact.kind)).max();
        let peers = self.facts.iter().filter(|fact| rank(fact.kind) == top);
        let chosen = match top {
            None => None,
            // An open doubt is the graver news; else the latest word stands.
            Some(_) if top == rank(Status::InDoubt) && doubt.is_open() => return Status::InDoubt,
            // The first end is the one that ended it.
            Some(_) if top == rank(Status::Failed) => peers.min_by_key(|fact| (fact.at_ms, fact.key())),
            Some(_) => peers.max_by_key(|fact| (fact.claim, fact.at_ms, fact.key())),
        };
        chosen.map(|fact| fact.kind).unwrap_or_default()
    }

    /// The highest attempt number told, or else the number of claims that made a call.
    fn attempts(&self) -> i32 {
        let numbered = self.facts.iter().filter_map(|fact| fact.attempt).max();
        numbered.unwrap_or_else(|| {
            let called = self.facts.iter().filter(|fact| is_attempt(fact.kind));
            let claims: BTreeSet<Claim> = called.filter_map(|fact| fact.claim).collect();
            i32::try_from(claims.len()).unwrap_or(i32::MAX)
        })
    }

    /// The error of the end, or else of the latest claim, or else the latest.
    fn last_error(&self) -> Option<sluice_schemas::SendError> {
        self.facts
            .iter()
            .filter(|fact| fact.error.is_some() && fact.kind != Status::DuplicateConflict)
            .max_by_key(|fact| (fact.is_end(), fact.claim, fact.at_ms, fact.key()))
            .and_then(|fact| fact.error.clone())
    }

    fn participants(&self, counts: impl Fn(Status) -> bool) -> i32 {
        let members: BTreeSet<&str> = self
            .facts
            .iter()
            .filter(|fact| fact.is_receipt() && counts(fact.kind))
            .filter_map(|fact| fact.participant.as_deref())
            .collect();
        i32::try_from(members.len()).unwrap_or(i32::MAX)
    }
}

/// Whether a fact of this kind that names a claim tells of a call made for it.
fn is_attempt(kind: Status) -> bool {
    matches!(kind, Status::Submitted | Status::Retrying | Status::InDoubt | Status::Failed)
}

/// What is known of attempts whose outcome was unknown.
struct Doubt {
    /// Claims in doubt that nothing has settled. A fact that names no claim counts as the lowest.
    open: BTreeSet<Option<Claim>>,
    /// Claims that were, or may have been, sent. Statements that name no claim (a provider's) add none.
    may_have_been_sent: BTreeSet<Claim>,
}

impl Doubt {
    fn of(facts: &MessageFacts) -> Self {
        let doubted: BTreeSet<Option<Claim>> =
            facts.iter().filter(|fact| fact.kind == Status::InDoubt).map(|fact| fact.claim).collect();
        let receipt = facts.iter().any(Fact::is_receipt);
        let open = doubted
            .iter()
            .copied()
            .filter(|claim| !receipt && !facts.iter().any(|fact| settles(fact, *claim)))
            .collect();
        let submitted = facts.iter().filter(|fact| fact.kind == Status::Submitted).map(|fact| fact.claim);
        let may_have_been_sent = doubted
            .iter()
            .copied()
            .filter(|claim| !facts.iter().any(|fact| fact.claim == *claim && proves_not_sent(fact)))
            .chain(submitted)
            .flatten()
            .collect();
        Self { open, may_have_been_sent }
    }

    fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

/// Whether `fact` settles the doubt about `claim`: an outcome of that claim or of none by name, or anything of
/// a later claim (the sender moved on).
fn settles(fact: &Fact, claim: Option<Claim>) -> bool {
    match fact.kind {
        Status::InDoubt => fact.claim > claim,
        // Held after a call: throttled or refused by a session that is down.
        Status::Held => fact.claim.is_some() && fact.claim >= claim,
        Status::Submitted | Status::Retrying => fact.claim.is_none() || fact.claim >= claim,
        _ => fact.is_end() && (fact.claim.is_none() || fact.claim >= claim),
    }
}

/// Whether `fact` says of its claim that nothing was sent, rather than that a doubt was resolved by policy.
fn proves_not_sent(fact: &Fact) -> bool {
    let class = fact.error.as_ref().map_or(ErrorClass::Unknown, |error| error.class);
    match fact.kind {
        Status::Held => true,
        Status::Retrying | Status::Failed => !matches!(class, ErrorClass::Uncertain | ErrorClass::Unknown),
        _ => false,
    }
}
