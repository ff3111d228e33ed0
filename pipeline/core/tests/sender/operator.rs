//! Laws of an operator's word about an attempt in doubt.

use sluice_core::outcome::Outcome;
use sluice_core::sender::Input;
use sluice_schemas::ids::message_id;
use sluice_schemas::{InDoubtPolicy, MessageStatus, Source, Status};

use crate::world::{self, World, text};

/// The claim in doubt, as the latest IN_DOUBT status of `key` tells it.
fn claim_in_doubt(world: &World, key: &str) -> (i64, i64) {
    let id = message_id("s1", key).to_string();
    let is_doubt = |s: &&MessageStatus| s.message_id.as_ref() == Some(&id) && s.status == Status::InDoubt;
    let status = world.statuses.iter().rev().find(is_doubt).expect("an IN_DOUBT status");
    (status.claim_epoch.expect("epoch"), status.claim_seq.expect("seq"))
}

fn word(key: &str, status: Status, (epoch, seq): (i64, i64)) -> Input {
    let status = MessageStatus {
        event_id: format!("operator/{status:?}"),
        message_id: Some(message_id("s1", key).to_string()),
        session_id: "s1".into(),
        status,
        source: Source::Operator,
        claim_epoch: Some(epoch),
        claim_seq: Some(seq),
        ..MessageStatus::default()
    };
    Input::Status { partition: 0, status: Box::new(status) }
}

/// A message whose doubt is held: nobody but evidence or an operator settles it.
fn held() -> World {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, Outcome::Unknown);
    world.pass_ms(200_000);
    world.status_caught_up();
    world.pass_ms(3_600_000);
    assert_eq!(world.told("k1").last(), Some(&Status::InDoubt), "held");
    assert_eq!(world.sender.partitions_in_doubt(), [0; 0], "nobody asks for evidence on its account");
    world
}

#[test]
fn an_operator_settles_a_held_doubt_as_he_says() {
    for (said, calls, left) in [(Status::Submitted, 1, 0), (Status::Failed, 1, 0), (Status::Retrying, 2, 1)] {
        let mut world = held();
        let claim = claim_in_doubt(&world, "k1");
        world.input(word("k1", said, claim));
        world.pass_ms(1);
        assert_eq!(world.told("k1").last(), Some(&said), "{said:?}");
        let told = world.statuses.last().expect("told");
        assert_eq!(told.source, Source::Sender, "the sender states what came of it");
        assert_eq!(told.evidence_event_id.as_deref(), Some(&*format!("operator/{said:?}")));
        assert_eq!((world.calls.len(), world.sender.gauges().open), (calls, left), "{said:?}");
    }
}

#[test]
fn an_operators_word_comes_before_the_time_to_decide_too() {
    let mut world = World::new();
    world.put("s1", |config| config.in_doubt_policy = InDoubtPolicy::Resend);
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, Outcome::Unknown);
    let claim = claim_in_doubt(&world, "k1");
    world.input(word("k1", Status::Failed, claim));
    world.pass_ms(200_000);
    world.status_caught_up();
    world.pass_ms(200_000);
    assert_eq!(world.told("k1").last(), Some(&Status::Failed));
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_word_about_another_claim_changes_nothing() {
    let mut world = held();
    let (epoch, seq) = claim_in_doubt(&world, "k1");
    for stale in [(epoch, seq + 1), (epoch + 1, seq), (epoch - 1, seq)] {
        world.input(word("k1", Status::Failed, stale));
    }
    world.input(word("k1", Status::Delivered, (epoch, seq)));
    world.pass_ms(1);
    assert_eq!(world.told("k1").last(), Some(&Status::InDoubt));
    world.input(word("k1", Status::Retrying, (epoch, seq)));
    world.pass_ms(1);
    assert_eq!(world.calls.len(), 2);
    world.answer(1, Outcome::Unknown);
    world.input(word("k1", Status::Failed, (epoch, seq)));
    world.pass_ms(1);
    assert_eq!(
        world.told("k1").last(),
        Some(&Status::InDoubt),
        "it is the second attempt that is in doubt now"
    );
}

#[test]
fn a_second_word_changes_nothing() {
    let mut world = held();
    let claim = claim_in_doubt(&world, "k1");
    world.pause_reads = true;
    world.input(word("k1", Status::Failed, claim));
    world.input(word("k1", Status::Retrying, claim));
    world.resume_reads();
    world.input(word("k1", Status::Submitted, claim));
    world.pass_ms(1);
    assert_eq!(world.told("k1").last(), Some(&Status::Failed));
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_word_counts_after_a_hand_over_and_is_read_from_the_claim_on() {
    let mut world = held();
    let claim = claim_in_doubt(&world, "k1");
    let claimed_at_ms = world.calls[0].1 / 1000;
    world.crash();
    world.put("s1", |_| {});
    assert_eq!(claim_in_doubt(&world, "k1"), claim, "the doubt is still about the same claim");
    let from_ms = world.status_from_ms().expect("owned");
    assert!(from_ms <= claimed_at_ms, "a word that came before the hand-over is read");
    world.input(word("k1", Status::Submitted, claim));
    world.pass_ms(1);
    assert_eq!(world.told("k1").last(), Some(&Status::Submitted));
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_held_doubt_stays_held_after_a_hand_over() {
    let mut world = held();
    world.crash();
    world.put("s1", |_| {});
    world.pass_ms(200_000);
    world.status_caught_up();
    world.pass_ms(3_600_000);
    assert_eq!(world.told("k1").last(), Some(&Status::InDoubt));
    assert_eq!(world.calls.len(), 0);
}

#[test]
fn an_owner_that_does_not_know_it_was_fenced_acts_on_no_word() {
    for said in [Status::Submitted, Status::Failed, Status::Retrying] {
        let mut world = held();
        let claim = claim_in_doubt(&world, "k1");
        let before = world.told("k1").len();
        world.pause_reads = true;
        world.foreign_fence();
        world.input(word("k1", said, claim));
        assert_eq!(world.told("k1").len(), before, "{said:?}: the other may have sent it again meanwhile");
        world.resume_reads();
        assert_eq!(world.told("k1").len(), before, "{said:?}");
        assert_eq!(world.calls.len(), 1, "{said:?}");
    }
}

#[test]
fn an_echo_knows_better_than_an_operator_who_says_to_send_again() {
    let mut world = World::new();
    world.put("s1", |config| config.needs_bridge = true);
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, Outcome::Unknown);
    let claim = claim_in_doubt(&world, "k1");
    world.pause_reads = true;
    world.input(word("k1", Status::Retrying, claim));
    world.echo("s1", "+15551230001", "hi", "3EB0");
    world.resume_reads();
    world.pass_ms(1);
    assert_eq!(world.told("k1").last(), Some(&Status::Submitted));
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn a_canceled_message_is_not_sent_again_at_an_operators_word() {
    let mut world = held();
    world.send(world::cancel("s1", "k1", "c1"));
    let claim = claim_in_doubt(&world, "k1");
    world.input(word("k1", Status::Retrying, claim));
    world.pass_ms(1);
    assert_eq!(world.told("k1").last(), Some(&Status::Failed), "nor is it said that it was not sent");
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn an_operators_word_allows_one_attempt_more_than_the_most() {
    let mut world = World::with_session("s1");
    let mut once = text("s1", "k1", "+15551230001", "hi");
    once.max_attempts = Some(1);
    world.send(once);
    world.answer(0, Outcome::Unknown);
    let claim = claim_in_doubt(&world, "k1");
    world.input(word("k1", Status::Retrying, claim));
    world.pass_ms(1);
    assert_eq!(world.calls.len(), 2, "he says so");
    world.answer(1, Outcome::Retryable);
    assert_eq!(world.told("k1").last(), Some(&Status::Failed), "and no more than that");
}
