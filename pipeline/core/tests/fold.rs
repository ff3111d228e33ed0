//! Laws of the join of message facts.

use proptest::prelude::*;
use sluice_core::fold::{FACTS_MAX, Fact, MessageFacts};
use sluice_schemas::{ErrorClass, MessageStatus, SendError, Source, Status};

const NOW_MS: i64 = 1_790_000_000_000;
const DAY_MS: i64 = 86_400_000;

/// A fact of the sender, `after_ms` after the start, about claim `seq` of epoch 1 (0: about none).
fn fact(kind: Status, seq: i64, after_ms: i64) -> MessageStatus {
    MessageStatus {
        event_id: format!("{}-{seq}-{after_ms}", kind.as_str()),
        message_id: Some("m".into()),
        session_id: "s".into(),
        status: kind,
        source: Source::Sender,
        occurred_at: NOW_MS + after_ms,
        observed_at: NOW_MS + after_ms,
        claim_epoch: (seq > 0).then_some(1),
        claim_seq: (seq > 0).then_some(seq),
        ..MessageStatus::default()
    }
}

fn receipt(kind: Status, after_ms: i64) -> MessageStatus {
    MessageStatus { source: Source::Webhook, ..fact(kind, 0, after_ms) }
}

fn with_error(class: ErrorClass, code: &str, mut status: MessageStatus) -> MessageStatus {
    status.error = Some(SendError { class, code: code.into(), ..SendError::default() });
    status
}

fn folded(statuses: &[MessageStatus]) -> MessageFacts {
    let mut facts = MessageFacts::new("m");
    for status in statuses {
        facts.apply(status, NOW_MS + DAY_MS);
    }
    facts
}

/// Any fact at all, with collisions of event ids, ties of time and wild clocks.
fn any_status() -> impl Strategy<Value = (MessageStatus, i64)> {
    let kind = proptest::sample::select(Status::ALL.to_vec());
    let source = proptest::sample::select(Source::ALL.to_vec());
    let class = proptest::sample::select(ErrorClass::ALL.to_vec());
    let member = proptest::option::of(0_u8..3);
    let times = (-20_i64..20, 0_i64..3);
    (kind, source, class, 0_i64..4, member, times, any::<bool>()).prop_map(
        |(kind, source, class, seq, member, (occurred, received), bears_ids)| {
            let mut status = fact(kind, seq, occurred * DAY_MS);
            status.event_id = format!("{}-{seq}-{occurred}", kind.as_str());
            status.source = source;
            status.participant = member.map(|member| format!("member-{member}"));
            status.error = (seq == 2).then(|| SendError {
                class,
                code: format!("code-{occurred}"),
                ..SendError::default()
            });
            status.attempt = (seq > 1).then_some(seq as i32);
            status.whatsapp_message_id = bears_ids.then(|| format!("wa-{seq}"));
            (status, NOW_MS + received * DAY_MS)
        },
    )
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_give_the_same_state(
        facts in proptest::collection::vec(any_status(), 0..24)
            .prop_flat_map(|facts| {
                let twice: Vec<_> = facts.iter().chain(facts.iter()).cloned().collect();
                (Just(facts), Just(twice).prop_shuffle())
            })
    ) {
        let (once, shuffled) = facts;
        let mut left = MessageFacts::new("m");
        for (status, received_ms) in &once {
            left.apply(status, *received_ms);
        }
        let mut right = MessageFacts::new("m");
        for (status, received_ms) in &shuffled {
            right.apply(status, *received_ms);
        }
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left.state(), right.state());
    }

    #[test]
    fn merging_is_associative_commutative_and_idempotent(
        parts in proptest::collection::vec(proptest::collection::vec(any_status(), 0..8), 3)
    ) {
        let sets: Vec<MessageFacts> = parts
            .iter()
            .map(|part| {
                let mut facts = MessageFacts::new("m");
                part.iter().for_each(|(status, received_ms)| { facts.apply(status, *received_ms); });
                facts
            })
            .collect();
        let join = |order: &[usize]| {
            let mut joined = MessageFacts::new("m");
            order.iter().for_each(|index| joined.merge(&sets[*index]));
            joined
        };
        let all = join(&[0, 1, 2]);
        prop_assert_eq!(&all, &join(&[2, 0, 1]));
        prop_assert_eq!(&all, &join(&[1, 1, 2, 0, 2, 0]));
        let mut nested = sets[1].clone();
        nested.merge(&sets[2]);
        let mut left = sets[0].clone();
        left.merge(&nested);
        prop_assert_eq!(&all, &left);
    }

    #[test]
    fn a_fact_never_lowers_the_revision_and_a_new_event_raises_it(
        facts in proptest::collection::vec(any_status(), 1..24)
    ) {
        let mut known = MessageFacts::new("m");
        for (status, received_ms) in &facts {
            let before = known.state().revision;
            let key = Fact::of(status, *received_ms).map(|fact| fact.key());
            let new = key.is_some_and(|key| known.iter().all(|fact| fact.key() != key));
            known.apply(status, *received_ms);
            prop_assert_eq!(known.state().revision, before + i64::from(new));
        }
    }

    #[test]
    fn what_is_kept_reads_back_as_the_same_fact(status in any_status()) {
        let (status, received_ms) = status;
        if let Some(fact) = Fact::of(&status, received_ms) {
            let kept = fact.to_json().unwrap();
            prop_assert_eq!(Fact::from_json(&kept).unwrap(), fact);
        }
    }

    #[test]
    fn a_fact_is_dated_within_eight_days_before_its_arrival(status in any_status()) {
        let (status, received_ms) = status;
        if let Some(fact) = Fact::of(&status, received_ms) {
            prop_assert!(fact.at_ms <= received_ms && fact.at_ms >= received_ms - 8 * DAY_MS);
        }
    }
}

#[test]
fn a_fact_kept_by_a_later_version_is_read_and_counted() {
    let kept = Fact::of(&fact(Status::Held, 0, 5), NOW_MS + DAY_MS).unwrap().to_json().unwrap();
    let later = kept.replace("\"HELD\"", "\"TELEPORTED\"").replace('{', "{\"speed\":3,");
    let mut facts = folded(&[fact(Status::Accepted, 0, 0)]);
    assert!(facts.insert(Fact::from_json(&later).unwrap()));
    assert_eq!((facts.state().status, facts.state().revision), (Status::Accepted, 2));
}

#[test]
fn without_log_times_a_fact_is_dated_by_when_it_was_seen() {
    let seen = MessageStatus { occurred_at: NOW_MS + 9_000, ..fact(Status::Read, 0, 5_000) };
    for received_ms in [0, -1] {
        let fact = Fact::of(&seen, received_ms).unwrap();
        assert_eq!((fact.at_ms, fact.observed_ms), (NOW_MS + 5_000, NOW_MS + 5_000));
    }
    let undated = MessageStatus { occurred_at: 0, ..seen };
    assert_eq!(Fact::of(&undated, NOW_MS + 7_000).unwrap().at_ms, NOW_MS + 5_000);
}

#[test]
fn the_status_climbs_the_lattice() {
    let ladder: [&[Status]; 9] = [
        &[Status::Accepted],
        &[Status::Scheduled, Status::Held],
        &[Status::Retrying, Status::InDoubt],
        &[Status::Submitted],
        &[Status::Sent],
        &[Status::Failed, Status::Expired, Status::Canceled, Status::Skipped],
        &[Status::Delivered],
        &[Status::Read],
        &[Status::Played],
    ];
    for (height, rung) in ladder.iter().enumerate() {
        for status in *rung {
            for lower in ladder[..height].iter().flat_map(|rung| rung.iter()) {
                // The lower fact is the later in time and comes last: it must not matter.
                let state = folded(&[fact(*status, 1, 0), fact(*lower, 1, 5_000)]).state();
                assert_eq!(state.status, *status, "{lower:?} after {status:?}");
            }
        }
    }
}

#[test]
fn facts_without_progress_leave_the_status_alone() {
    for kind in [Status::ProviderId, Status::CancelTooLate, Status::DuplicateConflict] {
        let state = folded(&[fact(Status::Held, 0, 0), fact(kind, 0, 10)]).state();
        assert_eq!((state.status, state.revision), (Status::Held, 2));
    }
    let mut facts = MessageFacts::new("m");
    assert!(!facts.apply(&fact(Status::Unknown, 0, 0), NOW_MS), "a status of a newer version adds nothing");
    assert!(facts.is_empty());
}

#[test]
fn the_earliest_time_of_a_fact_wins() {
    let state = folded(&[
        receipt(Status::Delivered, 9_000),
        receipt(Status::Delivered, 4_000),
        receipt(Status::Delivered, 6_000),
        receipt(Status::Read, 12_000),
    ])
    .state();
    assert_eq!(state.delivered_at, Some(NOW_MS + 4_000));
    assert_eq!(state.read_at, Some(NOW_MS + 12_000));
    assert_eq!(state.status, Status::Read);
    assert_eq!(state.revision, 4);
}

#[test]
fn a_claim_in_doubt_is_settled_by_its_outcome_or_a_receipt() {
    let doubt = [fact(Status::Accepted, 0, 0), fact(Status::InDoubt, 3, 10)];
    let open = folded(&doubt).state();
    assert!(open.in_doubt && !open.terminal);
    assert_eq!(open.status, Status::InDoubt);
    let settling = [
        fact(Status::Submitted, 3, 5),
        fact(Status::Retrying, 3, 5),
        fact(Status::Failed, 3, 5),
        fact(Status::Held, 3, 5),
        fact(Status::Expired, 0, 20),
        fact(Status::Submitted, 4, 20),
        receipt(Status::Delivered, 20),
    ];
    for settles in settling {
        let mut facts = folded(&doubt);
        facts.apply(&settles, NOW_MS + DAY_MS);
        assert!(!facts.state().in_doubt, "{:?}", settles.status);
        assert_eq!(facts.state().in_doubt_at, Some(NOW_MS + 10));
    }
    for other in [fact(Status::Retrying, 2, 5), fact(Status::Held, 0, 20), fact(Status::ProviderId, 0, 20)] {
        let mut facts = folded(&doubt);
        facts.apply(&other, NOW_MS + DAY_MS);
        assert!(facts.state().in_doubt, "{:?} of claim {:?}", other.status, other.claim_seq);
    }
}

#[test]
fn a_resent_doubt_is_a_possible_duplicate_and_a_refuted_one_is_not() {
    let doubt = fact(Status::InDoubt, 1, 0);
    let resent = fact(Status::Submitted, 2, 10);
    assert!(folded(&[doubt.clone(), resent.clone()]).state().possible_duplicate);
    let by_policy = with_error(ErrorClass::Uncertain, "in_doubt_resend", fact(Status::Retrying, 1, 5));
    assert!(folded(&[doubt.clone(), by_policy, resent.clone()]).state().possible_duplicate);
    let refuted = with_error(ErrorClass::Retryable, "connect_failed", fact(Status::Retrying, 1, 5));
    assert!(!folded(&[doubt.clone(), refuted, resent.clone()]).state().possible_duplicate);
    let throttled = fact(Status::Held, 1, 5);
    assert!(!folded(&[doubt.clone(), throttled, resent.clone()]).state().possible_duplicate);
    assert!(!folded(&[doubt, fact(Status::Submitted, 1, 10)]).state().possible_duplicate);
    assert!(folded(&[fact(Status::Submitted, 1, 10), resent]).state().possible_duplicate);
}

#[test]
fn attempts_and_the_last_error_follow_the_claims() {
    let first = with_error(ErrorClass::Retryable, "timeout", fact(Status::Retrying, 1, 900));
    let second = with_error(ErrorClass::Retryable, "server_error", fact(Status::Retrying, 2, 100));
    let state = folded(&[second.clone(), first.clone()]).state();
    assert_eq!(state.attempts, 2);
    assert_eq!(state.last_error.unwrap().code, "server_error", "the later claim, whatever its clock says");
    let end = with_error(ErrorClass::Refused, "expired", fact(Status::Expired, 0, 50));
    assert_eq!(folded(&[first, end, second]).state().last_error.unwrap().code, "expired");
}

#[test]
fn group_members_are_counted_once_each() {
    let of = |kind, member: &str, after_ms| MessageStatus {
        participant: Some(member.into()),
        event_id: format!("{kind:?}-{member}-{after_ms}"),
        ..receipt(kind, after_ms)
    };
    let state = folded(&[
        of(Status::Delivered, "a", 1),
        of(Status::Delivered, "a", 2),
        of(Status::Read, "a", 3),
        of(Status::Read, "b", 3),
        of(Status::Delivered, "c", 3),
    ])
    .state();
    assert_eq!((state.group_delivered, state.group_read), (3, 2));
}

#[test]
fn ids_come_from_the_latest_claim_that_has_them() {
    let submitted = |seq: i64, id: &str| MessageStatus {
        provider_message_id: Some(id.into()),
        ..fact(Status::Submitted, seq, -seq)
    };
    let bridge = MessageStatus {
        whatsapp_message_id: Some("3EB0".into()),
        provider_message_id: Some("12".into()),
        ..fact(Status::ProviderId, 0, 50)
    };
    let state = folded(&[submitted(2, "12"), submitted(1, "11"), bridge]).state();
    assert_eq!(state.provider_message_id.as_deref(), Some("12"));
    assert_eq!(state.whatsapp_message_id.as_deref(), Some("3EB0"));
}

#[test]
fn facts_are_bounded_and_the_ends_are_kept() {
    let held = (0..=i64::try_from(FACTS_MAX).unwrap()).map(|index| fact(Status::Held, 0, index));
    let mut facts = MessageFacts::new("m");
    held.for_each(|status| {
        facts.apply(&status, NOW_MS + DAY_MS);
    });
    facts.apply(&fact(Status::Submitted, 1, 1), NOW_MS + DAY_MS);
    assert_eq!(facts.len(), FACTS_MAX);
    assert_eq!(facts.state().status, Status::Submitted);
}

#[test]
fn an_operators_word_is_no_fact_until_the_sender_states_what_came_of_it() {
    let sent = fact(Status::Submitted, 1, 10);
    let word = MessageStatus { source: Source::Operator, ..fact(Status::Failed, 1, 20) };
    let facts = folded(&[fact(Status::Accepted, 0, 0), sent, word.clone()]);
    assert_eq!(facts.state().status, Status::Submitted, "a stale word fails nothing");
    assert_eq!(Fact::of(&word, NOW_MS), None);
}
