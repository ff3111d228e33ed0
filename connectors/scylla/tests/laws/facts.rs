//! Laws of facts: what is read back is the fold of all that was written, whatever the order.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sluice_core::fold::MessageFacts;
use sluice_schemas::{MessageStatus, SendError, Status};
use sluice_scylla::{Arrived, Ignored, MessageStore, ProviderId, Recorded};
use sluice_testkit as testkit;

use crate::world::*;

/// Histories tried on each store.
const HISTORIES: usize = 12;

/// A whole life of one message, in no order, some of it twice.
fn history(session_id: String, start_ms: i64) -> impl Strategy<Value = Vec<MessageStatus>> {
    let mut facts = vec![
        fact(&session_id, "k", Status::Accepted, start_ms),
        // The same by another owner, later.
        fact(&session_id, "k", Status::Accepted, start_ms + 40),
        fact(&session_id, "k", Status::Held, start_ms + 50),
        MessageStatus {
            claim_epoch: Some(6),
            claim_seq: Some(9),
            error: Some(SendError { code: "timeout".to_owned(), ..SendError::default() }),
            ..fact(&session_id, "k", Status::InDoubt, start_ms + 60)
        },
        submitted(&session_id, "k", "12", start_ms + 80),
        bridge(&session_id, "12", "3EB0", start_ms + 90),
        receipt(&session_id, "3EB0", Status::Sent, start_ms + 100),
        receipt(&session_id, "3EB0", Status::Delivered, start_ms + 130),
        receipt(&session_id, "3EB0", Status::Delivered, start_ms + 120),
        receipt(&session_id, "3EB0", Status::Read, start_ms + 1_000),
    ];
    for member in ["a", "b"] {
        facts.push(MessageStatus {
            participant: Some(member.to_owned()),
            event_id: format!("{session_id}/{member}"),
            ..receipt(&session_id, "3EB0", Status::Delivered, start_ms + 140)
        });
    }
    let count = facts.len();
    let repeats = proptest::collection::vec(0..count, 0..4);
    repeats.prop_flat_map(move |repeats| {
        let again: Vec<_> = repeats.iter().map(|index| facts[*index].clone()).collect();
        Just(facts.iter().cloned().chain(again).collect::<Vec<_>>()).prop_shuffle()
    })
}

pub(crate) async fn any_order_and_repetition_of_facts_gives_their_fold(store: &MessageStore) {
    let mut runner = TestRunner::deterministic();
    let start_ms = now_ms() - 60_000;
    for _ in 0..HISTORIES {
        let session_id = session();
        let statuses = history(session_id.clone(), start_ms).new_tree(&mut runner).unwrap().current();
        let message = message_id(&session_id, "k");
        let mut folded = MessageFacts::new(&message);
        for status in &statuses {
            store.record(status, start_ms + 30_000).await.unwrap();
            folded.apply(status, start_ms + 30_000);
        }
        let order: Vec<_> = statuses.iter().map(|status| status.status).collect();
        let state = store.message(&message).await.unwrap().unwrap();
        assert_eq!(state, folded.state(), "{order:?}");
        assert_eq!((state.status, state.revision), (Status::Read, 12), "{order:?}");
        assert_eq!(store.facts(&message).await.unwrap().unwrap(), folded, "{order:?}");
    }
}

pub(crate) async fn a_receipt_joins_whichever_side_comes_first(store: &MessageStore) {
    let at_ms = now_ms() - 10_000;
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let session_id = session();
        let told = [
            submitted(&session_id, "k", "12", at_ms),
            bridge(&session_id, "12", "3EB0", at_ms + 1),
            receipt(&session_id, "3EB0", Status::Delivered, at_ms + 2),
        ];
        let message = message_id(&session_id, "k");
        let mut matched = 0;
        for index in order {
            match store.record(&told[index], at_ms + 5_000).await.unwrap() {
                Recorded::Message { message_id, joined } => {
                    assert_eq!(message_id, message);
                    matched += 1 + joined;
                }
                Recorded::Unmatched => {}
                Recorded::Ignored(reason) => panic!("{reason:?}"),
            }
        }
        assert_eq!(matched, 3, "{order:?}: each fact is told of once");
        let state = store.message(&message).await.unwrap().unwrap();
        assert_eq!((state.status, state.revision), (Status::Delivered, 3), "{order:?}");
        let by_whatsapp = ProviderId::WhatsApp("3EB0".to_owned());
        assert_eq!(store.message_id_of(&session_id, &by_whatsapp).await.unwrap(), Some(message));
    }
}

pub(crate) async fn a_receipt_and_its_submission_at_the_same_moment_join(store: &MessageStore) {
    let session_id = session();
    let at_ms = now_ms() - 10_000;
    let rounds = 0..40;
    let races = rounds.clone().map(|round| {
        let (session_id, store) = (session_id.clone(), store.clone());
        tokio::spawn(async move {
            let key = round.to_string();
            let submission = MessageStatus {
                whatsapp_message_id: Some(format!("W{round}")),
                ..submitted(&session_id, &key, &key, at_ms)
            };
            let receipt = receipt(&session_id, &format!("W{round}"), Status::Read, at_ms + 1);
            let (one, other) =
                tokio::join!(store.record(&receipt, at_ms + 9), store.record(&submission, at_ms + 9));
            one.unwrap();
            other.unwrap();
        })
    });
    futures::future::try_join_all(races).await.unwrap();
    for round in rounds {
        let message = message_id(&session_id, &round.to_string());
        let state = store.message(&message).await.unwrap().unwrap();
        assert_eq!(state.status, Status::Read, "round {round}");
    }
}

pub(crate) async fn an_id_is_of_one_session_only(store: &MessageStore) {
    let at_ms = now_ms() - 10_000;
    let (one, other) = (session(), session());
    store.record(&submitted(&one, "k", "12", at_ms), at_ms).await.unwrap();
    let foreign = MessageStatus {
        provider_message_id: Some("12".to_owned()),
        whatsapp_message_id: None,
        ..receipt(&other, "x", Status::Read, at_ms)
    };
    assert_eq!(store.record(&foreign, at_ms).await.unwrap(), Recorded::Unmatched);
    // The id in WhatsApp and the id of the provider are two sorts of id.
    let other_sort = receipt(&one, "12", Status::Read, at_ms);
    assert_eq!(store.record(&other_sort, at_ms).await.unwrap(), Recorded::Unmatched);
}

pub(crate) async fn of_two_messages_that_claim_an_id_the_earlier_keeps_it(store: &MessageStore) {
    let at_ms = now_ms() - 10_000;
    for order in [["early", "late"], ["late", "early"]] {
        let session_id = session();
        for key in order {
            let claimed_ms = if key == "early" { at_ms } else { at_ms + 1 };
            store.record(&submitted(&session_id, key, "12", claimed_ms), at_ms + 9).await.unwrap();
        }
        let owner = store.message_id_of(&session_id, &ProviderId::Provider("12".to_owned())).await.unwrap();
        assert_eq!(owner, Some(message_id(&session_id, "early")), "{order:?}");
    }
}

pub(crate) async fn a_late_replay_alters_nothing(store: &MessageStore) {
    let session_id = session();
    let start_ms = now_ms() - 5 * DAY_MS;
    let told = [
        fact(&session_id, "k", Status::Accepted, start_ms),
        submitted(&session_id, "k", "12", start_ms + 10),
        bridge(&session_id, "12", "3EB0", start_ms + 20),
        receipt(&session_id, "3EB0", Status::Read, start_ms + 30),
    ];
    let message = message_id(&session_id, "k");
    for status in &told {
        store.record(status, start_ms + 1_000).await.unwrap();
    }
    let before = store.message(&message).await.unwrap().unwrap();
    // The topic read again from an earlier offset: the same records with the same log times; and one of them
    // published again, days later.
    for status in told.iter().rev() {
        store.record(status, start_ms + 1_000).await.unwrap();
    }
    store.record(&told[1], start_ms + 4 * DAY_MS).await.unwrap();
    assert_eq!(store.message(&message).await.unwrap().unwrap(), before);
}

pub(crate) async fn a_fact_older_than_its_life_does_not_come_back(store: &MessageStore) {
    let session_id = session();
    let long_ago_ms = now_ms() - 121 * DAY_MS;
    let old = fact(&session_id, "k", Status::Accepted, long_ago_ms);
    let answer = store.record(&old, long_ago_ms).await.unwrap();
    assert_eq!(answer, Recorded::Ignored(Ignored::TooOld));
    assert_eq!(store.message(&message_id(&session_id, "k")).await.unwrap(), None);
    let page = store.messages(&session_id, &Default::default()).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none());
}

pub(crate) async fn a_fact_lives_by_its_own_time(store: &MessageStore) {
    let session_id = session();
    // Written now, but it happened 120 days ago but for a few seconds: those are what it has left.
    let old_ms = now_ms() - 120 * DAY_MS + 4_000;
    let message = message_id(&session_id, "k");
    store.record(&fact(&session_id, "k", Status::Accepted, old_ms), old_ms).await.unwrap();
    store.record(&fact(&session_id, "k", Status::Submitted, now_ms()), now_ms()).await.unwrap();
    testkit::eventually(Duration::from_secs(30), "the old fact is gone", || async {
        let state = store.message(&message).await.unwrap().ok_or("nothing is left")?;
        if state.accepted_at.is_none() { Ok(state) } else { Err("it is still there") }
    })
    .await;
    let state = store.message(&message).await.unwrap().unwrap();
    assert_eq!(state.status, Status::Submitted, "the younger fact stays");
}

pub(crate) async fn an_unmatched_receipt_waits_no_longer_than_its_life(store: &MessageStore) {
    let session_id = session();
    for (age_days, joins) in [(8, 1), (10, 0)] {
        let at_ms = now_ms() - age_days * DAY_MS;
        let id = age_days.to_string();
        let early = receipt(&session_id, &id, Status::Read, at_ms);
        assert_eq!(store.record(&early, at_ms).await.unwrap(), Recorded::Unmatched);
        let submission = MessageStatus {
            whatsapp_message_id: Some(id.clone()),
            ..submitted(&session_id, &id, &id, now_ms())
        };
        let answer = store.record(&submission, now_ms()).await.unwrap();
        let message_id = message_id(&session_id, &id);
        assert_eq!(answer, Recorded::Message { message_id, joined: joins }, "{age_days} days");
    }
}

pub(crate) async fn what_cannot_be_kept_is_named(store: &MessageStore) {
    let at_ms = now_ms();
    let session_id = session();
    let good = fact(&session_id, "k", Status::Accepted, at_ms);
    let bad = [
        (MessageStatus { status: Status::Unknown, ..good.clone() }, Ignored::UnknownKind),
        (MessageStatus { event_id: String::new(), ..good.clone() }, Ignored::UnknownKind),
        (MessageStatus { session_id: String::new(), ..good.clone() }, Ignored::NoSession),
        (MessageStatus { message_id: None, ..good.clone() }, Ignored::NoIds),
        (MessageStatus { message_id: Some(String::new()), ..good.clone() }, Ignored::NoIds),
        // What CQL would refuse as a key, for ever.
        (MessageStatus { event_id: "e".repeat(70_000), ..good.clone() }, Ignored::UnknownKind),
        (MessageStatus { session_id: "s".repeat(70_000), ..good.clone() }, Ignored::NoSession),
        (MessageStatus { message_id: Some("m".repeat(70_000)), ..good }, Ignored::NoIds),
        (receipt(&session_id, &"w".repeat(70_000), Status::Read, at_ms), Ignored::UnknownKind),
    ];
    for (status, reason) in bad {
        assert_eq!(store.record(&status, at_ms).await.unwrap(), Recorded::Ignored(reason));
    }
    assert_eq!(store.message("").await.unwrap(), None);
}

pub(crate) async fn a_batch_is_answered_in_its_order(store: &MessageStore) {
    let session_id = session();
    let at_ms = now_ms() - 1_000;
    let batch: Vec<_> = (0..150)
        .map(|index| Arrived {
            record: fact(&session_id, &index.to_string(), Status::Accepted, at_ms + index),
            received_ms: at_ms + 500,
        })
        .collect();
    let answers = store.record_all(&batch).await.unwrap();
    let expected: Vec<_> = (0..150).map(|index| message_id(&session_id, &index.to_string())).collect();
    assert_eq!(Recorded::messages(&answers), expected);
    let mut asked = expected.clone();
    asked.insert(3, message_id(&session_id, "not there"));
    let states = store.messages_by_id(&asked).await.unwrap();
    let read: Vec<_> = states.into_iter().map(|state| state.message_id).collect();
    assert_eq!(read, expected);
}
