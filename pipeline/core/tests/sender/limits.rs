//! Laws of fairness and limits: lanes, circuits, pairs, backlogs, slowing.

use proptest::prelude::*;
use sluice_core::outcome::{Outcome, ThrottleScope};
use sluice_core::sender::{CircuitOf, Effect, Note, SessionCondition, Settings};
use sluice_schemas::{Order, OutboundCommand, Priority, RateLimit, Status};

use crate::world::{World, cancel, text};

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

fn with_priority(key: &str, to: &str, priority: Priority) -> OutboundCommand {
    OutboundCommand { priority, ..text("s1", key, to, key) }
}

/// Sends what waits, one call after the other, and tells the priority of each.
fn drain(world: &mut World) -> Vec<Priority> {
    let mut answered = 0;
    while answered < world.calls.len() {
        world.answer(answered, World::submitted(&answered.to_string()));
        answered += 1;
    }
    world.calls.iter().map(|(call, _)| call.command.priority).collect()
}

/// The longest row of turns a priority let pass while it had something waiting.
fn longest_wait(order: &[Priority], priority: Priority) -> usize {
    let last = order.iter().rposition(|p| *p == priority).unwrap_or(0);
    order[..=last].split(|p| *p == priority).map(<[_]>::len).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever waits in the more urgent lanes, a lane gets at least one of every 8 turns of its session, also
    /// when the messages of all lanes are to one chat.
    #[test]
    fn no_lane_starves(counts in prop::array::uniform3(0..40usize), chats in 1..5usize, lane_has_its_chats: bool) {
        let mut world = World::with_session("s1");
        world.condition("s1", SessionCondition { paused: true, ..Default::default() });
        for (lane, (count, priority)) in counts.into_iter().zip(PRIORITIES).enumerate() {
            for n in 0..count {
                let chat = n % chats + if lane_has_its_chats { lane * 10 } else { 0 };
                world.send(with_priority(&format!("{lane}-{n}"), &format!("+155512300{chat:02}"), priority));
            }
        }
        world.condition("s1", Default::default());
        let order = drain(&mut world);
        prop_assert_eq!(order.len(), counts.iter().sum::<usize>(), "everything is sent");
        // A chat that turns to another lane takes a turn of the session's.
        let most = if lane_has_its_chats { 8 } else { 16 };
        for priority in PRIORITIES {
            let waited = longest_wait(&order, priority);
            prop_assert!(waited < most || priority == Priority::High, "{priority:?} waited {waited}: {order:?}");
        }
    }
}

#[test]
fn an_urgent_message_does_not_wait_in_its_chats_place_in_a_less_urgent_line() {
    let mut world = World::with_session("s1");
    world.send(with_priority("first", "+15551230001", Priority::Normal));
    for n in 2..9 {
        world.send(with_priority(&format!("n{n}"), &format!("+1555123000{n}"), Priority::Normal));
    }
    world.send(with_priority("urgent", "+15551230008", Priority::High));
    world.answer(0, World::submitted("0"));
    assert_eq!(world.texts(), ["first", "urgent"]);
}

/// A message to a chat of its own.
fn numbered(session: &str, n: usize) -> OutboundCommand {
    text(session, &format!("{session}-{n}"), &format!("+1555124{n:04}"), &format!("{session}-{n}"))
}

/// Answers every call that has no answer yet, as told.
fn answer_from(world: &mut World, from: usize, outcome: &Outcome) -> usize {
    let end = world.calls.len();
    for call in from..end {
        world.answer(call, outcome.clone());
    }
    end
}

fn circuits_opened(world: &World) -> (usize, usize) {
    let opened = |is: fn(&CircuitOf) -> bool| {
        let of = |effect: &&Effect| matches!(effect, Effect::Note(Note::CircuitOpened { of, .. }) if is(of));
        world.effects_seen.iter().filter(of).count()
    };
    (opened(|of| matches!(of, CircuitOf::Session(_))), opened(|of| matches!(of, CircuitOf::BaseUrl(_))))
}

fn sent_by(world: &World, session: &str) -> usize {
    world.calls.iter().filter(|(call, _)| &*call.session_id == session).count()
}

#[test]
fn a_session_whose_calls_fail_is_left_alone_then_tried_with_one_call() {
    let mut world = World::new();
    world.put("s1", |config| config.max_in_flight = 3);
    for n in 0..20 {
        world.send(numbered("s1", n));
    }
    for call in 0..5 {
        world.answer(call, Outcome::Unknown);
    }
    let before = world.calls.len();
    for call in 5..before {
        world.answer(call, Outcome::Unknown);
    }
    world.pass_ms(3_000);
    assert_eq!(world.calls.len(), before, "nothing goes while the circuit is open");
    world.send(numbered("s1", 20));
    let told_why = world.statuses.iter().any(|status| {
        status.idempotency_key.as_deref() == Some("s1-20")
            && status.status == Status::Held
            && status.wait_reason.as_deref() == Some("circuit_open")
    });
    assert!(told_why, "who waits is told why");
    world.pass_ms(3_000);
    assert_eq!(world.calls.len(), before + 1, "one call is tried");
    world.answer(before, World::submitted("1"));
    assert_eq!(world.calls.len(), before + 4, "its answer lets all through");
    let probe = &world.calls[before].0;
    assert_eq!(probe.attempt, 1, "waiting used no attempt");
}

#[test]
fn one_broken_session_does_not_stop_the_others_of_its_base_url() {
    let mut world = World::new();
    world.put("s1", |config| config.max_in_flight = 8);
    world.put("s2", |_| {});
    for n in 0..30 {
        world.send(numbered("s1", n));
    }
    let mut answered = 0;
    for _ in 0..200 {
        answered = answer_from(&mut world, answered, &Outcome::Unknown);
        world.pass_ms(5_000);
    }
    let (sessions, base_urls) = circuits_opened(&world);
    assert!(sessions > 1, "its own circuit opens, again with each probe");
    assert_eq!(base_urls, 0);
    world.send(numbered("s2", 1));
    assert_eq!(sent_by(&world, "s2"), 1);
}

#[test]
fn one_broken_session_does_not_keep_a_base_url_shut_that_is_well_again() {
    let mut world = World::new();
    world.put("b1", |config| config.max_in_flight = 8);
    for id in ["b2", "b3", "s1"] {
        world.put(id, |_| {});
    }
    for n in 0..30 {
        world.send(numbered("b1", n));
    }
    world.send(numbered("b2", 0));
    world.send(numbered("b3", 0));
    let mut answered = 0;
    for _ in 0..3 {
        answered = answer_from(&mut world, answered, &Outcome::Retryable);
    }
    assert_eq!(circuits_opened(&world).1, 1, "several sessions fail");
    world.send(cancel("b2", "b2-0", "c2"));
    world.send(cancel("b3", "b3-0", "c3"));
    // From now on only the broken session has anything to send.
    for _ in 0..40 {
        answered = answer_from(&mut world, answered, &Outcome::Retryable);
        world.pass_ms(5_000);
    }
    answer_from(&mut world, answered, &Outcome::Retryable);
    world.send(numbered("s1", 1));
    assert_eq!(
        sent_by(&world, "s1"),
        1,
        "what the broken session's calls come to says nothing of the base URL"
    );
}

#[test]
fn a_base_url_where_sessions_fail_is_left_alone_and_delays_no_other() {
    let mut world = World::new();
    let broken = ["b1", "b2", "b3", "b4", "b5", "b6", "b7"];
    for id in broken {
        world.put(id, |config| config.base_url = "http://broken".into());
    }
    world.put("s1", |_| {});
    for n in 0..4 {
        for id in broken {
            world.send(numbered(id, n));
        }
    }
    assert_eq!(world.calls.len(), 7);
    let under_way = answer_from(&mut world, 0, &Outcome::Retryable);
    assert_eq!(circuits_opened(&world), (0, 1));
    assert_eq!(answer_from(&mut world, under_way, &Outcome::Retryable), world.calls.len());
    assert_eq!(circuits_opened(&world), (0, 1), "what had begun before it opened tells nothing new");
    let before = world.calls.len();
    world.send(numbered("s1", 1));
    assert_eq!(sent_by(&world, "s1"), 1, "another base URL is not delayed");
    world.answer(before, World::submitted("1"));
    let asked = world.calls.len();
    world.pass_ms(3_000);
    assert_eq!(world.calls.len(), asked, "nothing goes there while its circuit is open");
    world.pass_ms(3_000);
    assert_eq!(world.calls.len(), asked + 1, "one call is tried, of all sessions");
    world.answer(asked, Outcome::Retryable);
    assert_eq!(
        world.calls.len(),
        asked + 2,
        "that of the session that failed last says nothing new: another's"
    );
    world.answer(asked + 1, Outcome::Retryable);
    world.pass_ms(7_000);
    assert_eq!(world.calls.len(), asked + 2, "it failed: twice as long");
    world.pass_ms(4_000);
    assert_eq!(world.calls.len(), asked + 3);
    world.answer(asked + 2, World::submitted("2"));
    assert!(world.calls.len() >= asked + 9, "its answer lets all through");
    let attempts = world.calls[asked..].iter().map(|(call, _)| call.attempt).max();
    assert!(attempts <= Some(3), "waiting used no attempt: {attempts:?}");
}

#[test]
fn refusals_and_throttling_open_no_circuit() {
    let mut world = World::with_session("s1");
    for n in 0..40 {
        world.send(numbered("s1", n));
    }
    let throttled = Outcome::Throttled { scope: ThrottleScope::Pair, retry_after_ms: Some(1_000) };
    let mut answered = 0;
    for round in 0..40 {
        let outcome = if round % 2 == 0 { Outcome::Permanent } else { throttled.clone() };
        answered = answer_from(&mut world, answered, &outcome);
    }
    assert_eq!(circuits_opened(&world), (0, 0));
    assert!(world.statuses.iter().filter(|status| status.status == Status::Failed).count() >= 20);
}

fn pair_limited(config: &mut sluice_core::sender::SessionConfig) {
    config.pair_limits = vec![RateLimit { count: 1, per_ms: 6_000, burst: 1 }];
    config.max_in_flight = 4;
}

/// Times at which calls to one recipient started, ms from the first of all.
fn times_to(world: &World, recipient: &str) -> Vec<i64> {
    let first = world.calls.first().map_or(0, |(_, at_us)| *at_us);
    let to = world.calls.iter().filter(|(call, _)| &*call.recipient == recipient);
    to.map(|(_, at_us)| (at_us - first) / 1000).collect()
}

#[test]
fn a_pair_is_never_over_its_limit_and_keeps_no_other_waiting() {
    for order in [Order::Chat, Order::None] {
        let mut world = World::new();
        world.put("s1", pair_limited);
        for n in 0..4 {
            world.send(OutboundCommand {
                order,
                ..text("s1", &format!("a{n}"), "+15551230001", &format!("a{n}"))
            });
        }
        world.send(text("s1", "b", "+15551230002", "b"));
        assert_eq!(times_to(&world, "+15551230002"), [0], "another recipient does not wait");
        let mut answered = 0;
        for _ in 0..60 {
            answered = answer_from(&mut world, answered, &World::submitted("1"));
            world.pass_ms(1_000);
        }
        assert_eq!(times_to(&world, "+15551230001"), [0, 6_000, 12_000, 18_000], "{order:?}");
        let to_one = world.texts().into_iter().filter(|text| text.starts_with('a')).collect::<Vec<_>>();
        assert_eq!(to_one, ["a0", "a1", "a2", "a3"]);
    }
}

#[test]
fn restore_keeps_the_limit_of_a_pair_also_for_a_claim_nobody_knows_the_end_of() {
    for ended in [true, false] {
        let mut world = World::new();
        world.put("s1", pair_limited);
        world.send(text("s1", "k1", "+15551230001", "one"));
        if ended {
            world.answer(0, World::submitted("1"));
        }
        let first_us = world.calls[0].1;
        world.send(OutboundCommand { order: Order::None, ..text("s1", "k2", "+15551230001", "two") });
        world.crash();
        world.put("s1", pair_limited);
        world.pass_ms(5_000);
        assert_eq!(world.calls.len(), 0, "the former owner's send counts");
        world.pass_ms(60_000);
        assert_eq!(world.texts(), ["two"]);
        assert!(world.calls[0].1 - first_us >= 6_000_000);
    }
}

/// Details of the refusals told so far.
fn refusals(world: &World) -> Vec<String> {
    let errors = world.statuses.iter().filter_map(|status| status.error.as_ref());
    errors.filter(|error| error.code == "queue_full").filter_map(|error| error.detail.clone()).collect()
}

#[test]
fn what_is_more_than_a_cap_is_refused_with_its_name_until_there_is_room() {
    type Change = fn(&mut Settings);
    let caps: [(&str, Change); 5] = [
        ("(session_backlog_max)", |settings| settings.session_backlog_max = 3),
        ("(session_backlog_bytes_max)", |settings| settings.session_backlog_bytes_max = 700),
        ("(session_backlog_s_max)", |settings| settings.session_backlog_s_max = 14),
        ("(tenant_backlog_max)", |settings| settings.tenant_backlog_max = 3),
        ("(tenant_backlog_bytes_max)", |settings| settings.tenant_backlog_bytes_max = 700),
    ];
    for (name, change) in caps {
        let mut world = World::with_settings(change);
        let slow = |config: &mut sluice_core::sender::SessionConfig| {
            config.limits = vec![RateLimit { count: 1, per_ms: 5_000, burst: 1 }];
        };
        world.put("s1", slow);
        world.condition("s1", SessionCondition { paused: true, ..SessionCondition::default() });
        for n in 0..8 {
            world.send(OutboundCommand { text: Some("x".repeat(150)), ..numbered("s1", n) });
        }
        let refused = refusals(&world);
        assert!((1..8).contains(&refused.len()), "{name}: {refused:?}");
        assert!(refused.iter().all(|detail| detail.contains(name)), "{name}: {refused:?}");
        assert_eq!(world.committed, Some(8), "{name}: refusals do not stop intake");
        world.crash();
        world.condition("s1", SessionCondition { paused: true, ..SessionCondition::default() });
        world.put("s1", slow);
        let before = refusals(&world).len();
        world.send(OutboundCommand { text: Some("x".repeat(150)), ..numbered("s1", 8) });
        assert_eq!(refusals(&world).len(), before + 1, "{name}: the next owner counts the same");
        world.condition("s1", SessionCondition::default());
        let mut answered = 0;
        for _ in 0..20 {
            answered = answer_from(&mut world, answered, &World::submitted("1"));
            world.pass_ms(5_000);
        }
        world.send(OutboundCommand { text: Some("x".repeat(150)), ..numbered("s1", 9) });
        assert_eq!(refusals(&world).len(), before + 1, "{name}: there is room again");
    }
}

#[test]
fn the_caps_of_a_tenant_refuse_none_of_another() {
    let mut world = World::with_settings(|settings| settings.tenant_backlog_max = 2);
    for (id, tenant) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        world.put(id, |config| config.tenant_id = tenant.into());
        world.condition(id, SessionCondition { paused: true, ..SessionCondition::default() });
    }
    world.send(numbered("a1", 1));
    world.send(numbered("a2", 2));
    world.send(numbered("a2", 3));
    world.send(numbered("b1", 4));
    assert_eq!(refusals(&world).len(), 1);
    world.put("a1", |config| config.tenant_id = "b".into());
    world.send(numbered("a2", 5));
    assert_eq!(refusals(&world).len(), 1, "what moved to another tenant counts there");
}

#[test]
fn a_throttled_session_goes_slower_and_recovers_and_is_never_over_its_limits() {
    let mut world = World::new();
    world.put("s1", |config| config.limits = vec![RateLimit { count: 1, per_ms: 5_000, burst: 1 }]);
    for n in 0..40 {
        world.send(numbered("s1", n));
    }
    let throttled = Outcome::Throttled { scope: ThrottleScope::Session, retry_after_ms: Some(1_000) };
    let mut answered = 0;
    for _ in 0..400 {
        let outcome = if answered == 2 || answered == 3 { throttled.clone() } else { World::submitted("1") };
        answered = answer_from(&mut world, answered, &outcome);
        world.pass_ms(500);
    }
    let gaps: Vec<i64> = world.calls.windows(2).map(|pair| (pair[1].1 - pair[0].1) / 1_000_000).collect();
    assert_eq!(gaps[..2], [5, 5]);
    assert_eq!(gaps[2..5], [10, 20, 20], "twice as slow with each answer that throttles");
    assert!(gaps.iter().all(|gap| *gap >= 5), "never faster than the limits: {gaps:?}");
    assert_eq!(gaps.last(), Some(&5), "and back: {gaps:?}");
}
