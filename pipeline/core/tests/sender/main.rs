//! Laws of the sender's state machine, on a model log: every append is written and read back in order, every
//! status is acked, calls answer what the test says.

mod limits;
mod operator;
mod park;
mod rest;
mod world;

use sluice_core::outcome::{Outcome, ThrottleScope};
use sluice_core::sender::ledger::Key;
use sluice_core::sender::{Effect, Input, SessionCondition};
use sluice_schemas::{Connection, InDoubtPolicy, RateLimit, Status};
use world::{World, config, text};

#[test]
fn a_message_goes_from_accepted_to_submitted_and_leaves_no_open_key() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    assert_eq!(world.calls.len(), 1);
    world.answer(0, World::submitted("100"));
    assert_eq!(world.told("k1"), [Status::Accepted, Status::Submitted]);
    assert_eq!(world.committed, Some(1));
    assert_eq!(world.live_keys(), ["d/"], "only Done stays after compaction");
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_duplicate_key_is_sent_once_and_another_body_is_refused_visibly() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, World::submitted("100"));
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.send(text("s1", "k1", "+15551230001", "something else"));
    assert_eq!(world.calls.len(), 1);
    assert_eq!(world.told("k1").last(), Some(&Status::DuplicateConflict));
    assert_eq!(world.committed, Some(4), "duplicates do not stop the commit");
}

#[test]
fn nothing_is_committed_before_its_accepted_status_is_acked() {
    let mut world = World::with_session("s1");
    world.hold_acks = true;
    world.send(text("s1", "k1", "+15551230001", "hi"));
    assert_eq!(world.committed, None);
    world.release_acks();
    assert_eq!(world.committed, Some(1));
}

#[test]
fn a_chat_keeps_order_and_has_one_message_in_flight() {
    let mut world = World::new();
    world.put("s1", |config| config.max_in_flight = 10);
    for n in 0..3 {
        world.send(text("s1", &format!("a{n}"), "+15551230001", &format!("a{n}")));
    }
    world.send(text("s1", "b0", "+15551230002", "b0"));
    assert_eq!(world.texts(), ["a0", "b0"]);
    world.answer(0, World::submitted("1"));
    world.answer(1, World::submitted("2"));
    world.answer(2, World::submitted("3"));
    assert_eq!(world.texts(), ["a0", "b0", "a1", "a2"]);
}

#[test]
fn a_session_is_never_over_its_rate_and_a_throttled_one_waits_as_told() {
    let mut world = World::new();
    world.put("s1", |config| config.limits = vec![RateLimit { count: 1, per_ms: 5_000, burst: 1 }]);
    for n in 0..4 {
        world.send(text("s1", &format!("k{n}"), &format!("+1555123000{n}"), "hi"));
    }
    let start = world.now.wall_us;
    world.answer(0, World::submitted("0"));
    world.pass_ms(4_999);
    assert_eq!(world.calls.len(), 1);
    world.pass_ms(1);
    assert_eq!(world.calls.len(), 2);
    world.answer(1, Outcome::Throttled { scope: ThrottleScope::Session, retry_after_ms: Some(60_000) });
    world.pass_ms(59_000);
    assert_eq!(world.calls.len(), 2, "throttled until the hint has passed");
    world.pass_ms(6_000);
    assert_eq!(world.calls.len(), 3);
    let gaps: Vec<i64> = world.calls.windows(2).map(|w| w[1].1 - w[0].1).collect();
    assert!(gaps.iter().all(|gap| *gap >= 5_000_000), "{gaps:?} from {start}");
}

#[test]
fn a_claim_stands_in_the_log_before_the_limit_allows_its_call() {
    let mut world = World::new();
    world.put("s1", |config| config.limits = vec![RateLimit { count: 1, per_ms: 5_000, burst: 1 }]);
    world.send(text("s1", "k0", "+15551230000", "first"));
    world.send(text("s1", "k1", "+15551230001", "second"));
    world.answer(0, World::submitted("0"));
    world.pass_ms(4_949);
    let claims = |world: &World| world.log_kinds().iter().filter(|kind| *kind == "CLAIMED").count();
    assert_eq!(claims(&world), 1);
    world.pass_ms(1);
    assert_eq!((claims(&world), world.calls.len()), (2, 1), "claimed, not yet called");
    world.pass_ms(49);
    assert_eq!(world.calls.len(), 1);
    world.pass_ms(1);
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn a_retry_keeps_its_chat_in_order_and_ends_after_the_last_attempt() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "first"));
    world.send(text("s1", "k2", "+15551230001", "second"));
    for n in 0..5 {
        assert_eq!(world.calls.len(), n + 1);
        world.answer(n, Outcome::Retryable);
        if n < 4 {
            world.pass_ms(20_000);
        }
    }
    assert_eq!(world.told("k1").last(), Some(&Status::Failed));
    world.pass_ms(6_000);
    assert_eq!(
        world.texts().last().map(String::as_str),
        Some("second"),
        "once the circuit lets a call through"
    );
}

#[test]
fn an_attempt_that_crashed_is_in_doubt_and_never_silently_sent_again() {
    for (policy, calls_after, last) in [
        (InDoubtPolicy::Hold, 0, Status::InDoubt),
        (InDoubtPolicy::Fail, 0, Status::Failed),
        (InDoubtPolicy::Resend, 1, Status::Retrying),
    ] {
        let mut world = World::new();
        world.put("s1", |config| config.in_doubt_policy = policy);
        world.send(text("s1", "k1", "+15551230001", "hi"));
        assert_eq!(world.calls.len(), 1);
        world.crash();
        world.put("s1", |config| config.in_doubt_policy = policy);
        assert!(world.told("k1").contains(&Status::InDoubt));
        world.pass_ms(200_000);
        assert_eq!(world.calls.len(), 0, "not before webhooks up to then are read");
        world.status_caught_up();
        world.pass_ms(10_000);
        assert_eq!(world.calls.len(), calls_after, "{policy:?}");
        assert_eq!(world.told("k1").last(), Some(&last), "{policy:?}");
    }
}

#[test]
fn a_former_owners_word_settles_a_doubt() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    let former = world.take_sender();
    world.restart();
    world.put("s1", |_| {});
    let status = World::late_outcome(former, 0, World::submitted("100"), world.now);
    world.input(Input::Status { partition: 0, status: Box::new(status) });
    assert_eq!(world.told("k1").last(), Some(&Status::Submitted));
    assert_eq!(world.calls.len(), 0);
    assert_eq!(world.live_keys(), ["d/", "f"]);
}

#[test]
fn an_owner_that_was_fenced_sends_nothing() {
    let mut world = World::with_session("s1");
    world.pause_reads = true;
    world.foreign_fence();
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.resume_reads();
    assert_eq!(world.calls.len(), 0, "its claim came after the other's fence");
    assert!(world.effects_seen.iter().any(|e| matches!(e, Effect::Drop { .. })));
}

#[test]
fn a_claim_read_back_too_late_is_not_used() {
    let mut world = World::with_session("s1");
    world.pause_reads = true;
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.now.wall_us += 6_000_000;
    world.now.boot_us += 6_000_000;
    world.resume_reads();
    let late: Vec<_> = world.calls.iter().map(|(call, _)| call.attempt).collect();
    assert_eq!(late, [1], "claimed anew, and only then called");
    assert!(world.log_kinds().contains(&"QUEUED".to_owned()), "the log learns that no call was made");
}

#[test]
fn a_held_session_delays_no_other() {
    let mut world = World::new();
    world.put("s1", |_| {});
    world.put("s2", |_| {});
    world.condition("s1", SessionCondition { paused: true, ..SessionCondition::default() });
    world.send(text("s1", "k1", "+15551230001", "held"));
    world.send(text("s2", "k2", "+15551230001", "flows"));
    assert_eq!(world.texts(), ["flows"]);
    world.condition("s1", SessionCondition::default());
    assert_eq!(world.texts(), ["flows", "held"]);
}

#[test]
fn a_session_that_is_down_is_held_until_it_is_connected() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, Outcome::SessionDown { connection: Connection::LoggedOut });
    world.pass_ms(30_000);
    assert_eq!(world.calls.len(), 1);
    let connection_at_ms = world.now.wall_ms();
    world.condition(
        "s1",
        SessionCondition { paused: false, connection: Connection::Connected, connection_at_ms },
    );
    assert_eq!(world.calls.len(), 2);
    assert_eq!(world.calls[1].0.attempt, 1, "a session down uses no attempt");
}

#[test]
fn a_cancel_before_is_honoured_and_one_too_late_says_so() {
    let mut world = World::with_session("s1");
    world.send(world::scheduled("s1", "k1", world.now.wall_ms() + 60_000));
    world.send(world::cancel("s1", "k1", "c1"));
    assert_eq!(world.told("k1").last(), Some(&Status::Canceled));
    world.send(world::cancel("s1", "k2", "c2"));
    world.send(text("s1", "k2", "+15551230001", "never"));
    world.pass_ms(61_000);
    assert_eq!(world.told("k2").last(), Some(&Status::Canceled));
    assert_eq!(world.calls.len(), 0);
    world.send(text("s1", "k3", "+15551230001", "gone"));
    world.send(world::cancel("s1", "k3", "c3"));
    assert_eq!(world.told("k3").last(), Some(&Status::CancelTooLate));
    assert_eq!(world.committed, Some(6));
}

#[test]
fn what_cannot_be_sent_ends_with_a_status_that_names_why() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "not a number", "hi"));
    let mut late = text("s1", "k2", "+15551230001", "hi");
    late.expires_at = Some(1);
    world.send(late);
    let mut other = text("s1", "k3", "+15551230001", "hi");
    other.tenant_id = Some("other".into());
    world.send(other);
    world.send(text("nowhere", "k4", "+15551230001", "hi"));
    world.pass_ms(61_000);
    let codes: Vec<_> = world.failures();
    assert_eq!(codes, ["bad_recipient", "expired", "tenant_mismatch", "unknown_session"]);
    assert_eq!(world.committed, Some(4));
}

#[test]
fn a_partition_given_back_has_nothing_under_way() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "one"));
    world.send(text("s1", "k2", "+15551230002", "two"));
    world.input(Input::Revoking { partition: 0 });
    assert!(!world.given_back());
    world.answer(0, World::submitted("1"));
    assert!(world.given_back());
    assert_eq!(world.calls.len(), 1, "nothing new is begun");
    world.crash();
    world.put("s1", |_| {});
    world.pass_ms(1);
    assert!(!world.told("k2").contains(&Status::InDoubt), "a clean hand-over leaves nothing in doubt");
    assert_eq!(world.texts(), ["two"]);
}

#[test]
fn an_echo_tells_the_whatsapp_id_and_settles_a_doubt() {
    let mut world = World::new();
    world.put("s1", |config| {
        config.needs_bridge = true;
        config.in_doubt_policy = InDoubtPolicy::Fail;
    });
    world.send(text("s1", "k1", "+15551230001", "one"));
    world.answer(0, World::submitted("100"));
    world.echo("s1", "+15551230001", "one", "3EB0A");
    assert_eq!(world.told("k1").last(), Some(&Status::ProviderId));
    world.send(text("s1", "k2", "+15551230001", "two"));
    world.answer(1, Outcome::Unknown);
    assert_eq!(world.told("k2").last(), Some(&Status::InDoubt));
    assert_eq!(world.sender.gauges().in_doubt_since_ms, Some(world.now.wall_ms()), "claimed just now");
    world.echo("s1", "+15551230001", "two", "3EB0B");
    assert_eq!(world.sender.gauges().in_doubt_since_ms, None);
    assert_eq!(world.told("k2").last(), Some(&Status::Submitted));
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_message_without_an_echo_is_looked_up() {
    let mut world = World::new();
    world.put("s1", |config| config.needs_bridge = true);
    world.send(text("s1", "k1", "+15551230001", "one"));
    world.answer(0, World::submitted("100"));
    world.pass_ms(40_000);
    let asked = world.effects_seen.iter().find_map(|effect| match effect {
        Effect::LookUp { message_id, provider_message_id, .. } => {
            Some((*message_id, provider_message_id.clone()))
        }
        _ => None,
    });
    let (message_id, provider_id) = asked.expect("a look-up");
    assert_eq!(provider_id, "100");
    world.input(Input::LookedUp { message_id, found: Some(("3EB0".into(), None)) });
    assert_eq!(world.told("k1").last(), Some(&Status::ProviderId));
}

#[test]
fn restore_keeps_the_rate() {
    let mut world = World::new();
    let slow = |config: &mut sluice_core::sender::SessionConfig| {
        config.limits = vec![RateLimit { count: 1, per_ms: 60_000, burst: 1 }];
    };
    world.put("s1", slow);
    world.send(text("s1", "k1", "+15551230001", "one"));
    world.answer(0, World::submitted("1"));
    world.send(text("s1", "k2", "+15551230002", "two"));
    world.crash();
    world.put("s1", slow);
    world.pass_ms(59_000);
    assert_eq!(world.calls.len(), 0);
    world.pass_ms(1_001);
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn config_defaults_are_valid() {
    assert_eq!(sluice_core::sender::Settings::default().check(), Ok(()));
    assert_eq!(config().max_in_flight, 1);
}

#[test]
fn keys_that_a_dying_owner_left_behind_are_tidied_by_the_next() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.lose = Some(|_, entry| entry.is_none());
    world.answer(0, World::submitted("100"));
    assert_eq!(world.live_keys(), ["b/", "d/", "s/"]);
    world.lose = None;
    world.crash();
    assert_eq!(world.live_keys(), ["d/", "f"]);
    assert_eq!(world.told("k1"), [Status::Accepted, Status::Submitted], "nothing new is told");
}

#[test]
fn a_claim_whose_message_is_not_in_the_ledger_makes_no_call() {
    let mut world = World::with_session("s1");
    world.lose = Some(|key, _| matches!(key, Key::Accepted(_)));
    world.send(text("s1", "k1", "+15551230001", "hi"));
    assert!(world.log_kinds().contains(&"CLAIMED".to_owned()));
    assert_eq!(world.calls.len(), 0, "a new owner would know nothing of the call");
}

#[test]
fn no_key_is_tombstoned_before_done_stands_in_the_log() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.lose = Some(|key, _| matches!(key, Key::Done(_)));
    world.answer(0, World::submitted("100"));
    assert_eq!(
        world.live_keys(),
        ["b/", "s/"],
        "else its key is forgotten, and sent again when it comes again"
    );
}

#[test]
fn a_claim_read_before_its_message_is_in_doubt_all_the_same() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.take_sender();
    world.move_accepted_to_the_end();
    world.restart();
    world.put("s1", |_| {});
    assert!(world.told("k1").contains(&Status::InDoubt));
    assert_eq!(world.calls.len(), 0);
}

#[test]
fn a_cancel_read_in_a_restore_decides_nothing_before_all_is_read() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.send(world::cancel("s1", "k1", "c1"));
    world.crash();
    assert_eq!(world.told("k1"), [Status::Accepted, Status::CancelTooLate, Status::InDoubt]);
}

#[test]
fn an_owner_fenced_off_while_it_gives_back_gives_back_at_once() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.input(Input::Revoking { partition: 0 });
    assert!(!world.given_back(), "its call is under way");
    world.foreign_fence();
    world.resume_reads();
    assert!(world.given_back(), "the group waits for it");
    assert!(!world.effects_seen.iter().any(|effect| matches!(effect, Effect::FenceLater { .. })));
}

#[test]
fn a_process_that_fenced_again_takes_its_own_word_for_its_earlier_call() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.foreign_fence();
    world.resume_reads();
    world.input(Input::Assigned { partition: 0 });
    assert_eq!(world.told("k1").last(), Some(&Status::InDoubt));
    world.answer(0, World::submitted("100"));
    assert_eq!(world.told("k1").last(), Some(&Status::Submitted));
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_refusal_is_told_and_committed_only_when_it_is_remembered() {
    let mut world = World::with_session("s1");
    world.pause_reads = true;
    world.send(text("s1", "k1", "nobody", "hi"));
    world.send(text("s1", "k1", "nobody", "hi"));
    assert_eq!(world.committed, None, "a Done that is lost would let the key mean another message");
    world.resume_reads();
    assert_eq!(world.told("k1"), [Status::Failed, Status::Failed], "never ACCEPTED");
    assert_eq!(world.committed, Some(2));
}

#[test]
fn a_cancel_that_reaches_the_log_behind_done_is_told_to_be_too_late() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.pause_reads = true;
    world.answer(0, World::submitted("100"));
    world.send(world::cancel("s1", "k1", "c1"));
    world.resume_reads();
    assert_eq!(world.told("k1").last(), Some(&Status::CancelTooLate));
    assert_eq!(world.live_keys(), ["d/"]);
    assert_eq!(world.committed, Some(2));
}

#[test]
fn a_refusal_that_lands_behind_the_acceptance_ends_nothing() {
    let mut world = World::with_session("s1");
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.foreign_refusal("s1", "k1");
    world.resume_reads();
    world.answer(0, Outcome::Retryable);
    world.pass_ms(20_000);
    assert_eq!(world.calls.len(), 2, "it goes on");
    world.crash();
    assert!(world.told("k1").contains(&Status::InDoubt), "and for the next owner too");
}

#[test]
fn an_owner_that_does_not_know_it_was_fenced_says_of_nothing_that_it_was_not_sent() {
    let mut world = World::with_session("s1");
    let mut soon = text("s1", "k1", "+15551230001", "hi");
    soon.expires_at = Some(world.now.wall_ms() + 60_000);
    world.condition("s1", SessionCondition { paused: true, ..SessionCondition::default() });
    world.send(soon);
    world.foreign_fence();
    world.pause_reads = true;
    world.pass_ms(61_000);
    assert!(!world.told("k1").contains(&Status::Expired), "the other may have sent it");
    world.resume_reads();
    assert!(!world.told("k1").contains(&Status::Expired));
}

#[test]
fn an_echo_settles_a_doubt_only_for_an_owner_that_still_is_one() {
    let mut world = World::new();
    world.put("s1", |config| config.needs_bridge = true);
    world.send(text("s1", "k1", "+15551230001", "hi"));
    world.answer(0, Outcome::Unknown);
    world.pause_reads = true;
    world.foreign_fence();
    world.echo("s1", "+15551230001", "hi", "3EB0");
    world.resume_reads();
    assert!(!world.told("k1").contains(&Status::Submitted), "the other's messages are echoed now");
}

#[test]
fn an_attempt_in_doubt_counts_as_an_attempt_for_the_next_owner_too() {
    let mut world = World::new();
    let resend =
        |config: &mut sluice_core::sender::SessionConfig| config.in_doubt_policy = InDoubtPolicy::Resend;
    world.put("s1", resend);
    let mut once = text("s1", "k1", "+15551230001", "hi");
    once.max_attempts = Some(1);
    world.send(once);
    world.crash();
    world.put("s1", resend);
    world.pass_ms(200_000);
    world.status_caught_up();
    assert_eq!(world.calls.len(), 0, "its only attempt may have been made");
    assert_eq!(world.told("k1").last(), Some(&Status::Failed));
}

#[test]
fn a_session_moved_to_another_base_url_does_not_wait_for_the_old_one() {
    let mut world = World::new();
    let one_slot = |config: &mut sluice_core::sender::SessionConfig| config.base_url_in_flight_max = Some(1);
    world.put("s1", one_slot);
    world.put("s2", one_slot);
    world.send(text("s1", "k1", "+15551230001", "hangs"));
    world.send(text("s2", "k2", "+15551230001", "waits"));
    assert_eq!(world.texts(), ["hangs"]);
    world.put("s2", |config| config.base_url = "http://other".into());
    assert_eq!(world.texts(), ["hangs", "waits"]);
}

#[test]
fn a_session_cancels_no_message_of_another() {
    let mut world = World::new();
    world.put("s1", |_| {});
    world.put("s2", |_| {});
    world.send(world::scheduled("s1", "k1", world.now.wall_ms() + 60_000));
    let mut foreign = world::cancel("s2", "k1", "c1");
    foreign.target_message_id = Some(sluice_schemas::ids::message_id("s1", "k1").to_string());
    world.send(foreign);
    world.pass_ms(61_000);
    assert_eq!(world.texts(), ["later"]);
}

#[test]
fn an_open_claim_counts_also_when_the_limits_are_known_only_later() {
    let mut world = World::new();
    let two = |config: &mut sluice_core::sender::SessionConfig| {
        config.limits = vec![RateLimit { count: 2, per_ms: 60_000, burst: 2 }];
        config.max_in_flight = 2;
    };
    world.put("s1", two);
    world.send(text("s1", "k1", "+15551230001", "one"));
    world.answer(0, World::submitted("1"));
    world.send(text("s1", "k2", "+15551230002", "two"));
    world.send(text("s1", "k3", "+15551230003", "three"));
    world.crash();
    world.put("s1", two);
    world.pass_ms(40_000);
    assert_eq!(world.calls.len(), 0, "both of the window's sends may have been used");
}

#[test]
fn a_refusal_behind_a_former_owners_acceptance_is_void() {
    let mut world = World::with_session("s1");
    let (mut early, mut late) =
        (text("s1", "k1", "+15551230001", "hi"), text("s1", "k1", "+15551230001", "hi"));
    early.expires_at = Some(world.now.wall_ms() + 60_000);
    late.expires_at = Some(1);
    world.pause_reads = true;
    world.foreign_accept(&early);
    world.send(late);
    world.resume_reads();
    assert!(!world.told("k1").contains(&Status::Expired), "{:?}", world.told("k1"));
    assert_eq!(world.texts(), ["hi"], "the message is open, whatever the refusal said");
    assert_eq!(world.committed, Some(1));
    world.answer(0, World::submitted("1"));
    assert_eq!(world.told("k1").last(), Some(&Status::Submitted));
    assert_eq!(world.sender.gauges().open, 0);
}
