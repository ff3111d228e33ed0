//! Laws of rest: a session with nothing to send and nothing to remember needs little, and nothing shows that it rested.

use sluice_core::sender::Settings;
use sluice_schemas::RateLimit;

use crate::world::{World, text};

const LONG_MS: i64 = 3_600_000;

fn with_session(limit: RateLimit) -> World {
    let mut world = World::new();
    world.put("s1", |config| {
        config.limits = vec![limit.clone()];
        config.needs_bridge = true;
    });
    world
}

fn send(world: &mut World, key: &str) {
    world.send(text("s1", key, "+15551230001", key));
}

fn at_work(world: &World) -> usize {
    world.sender.sizes().sessions_at_work
}

#[test]
fn a_session_rests_once_what_it_sent_counts_no_more() {
    let hourly = RateLimit { count: 1, per_ms: LONG_MS, burst: 1 };
    let mut world = with_session(hourly);
    assert_eq!(at_work(&world), 0, "it has never had a message");
    send(&mut world, "a");
    world.answer(0, World::submitted("1"));
    assert_eq!(at_work(&world), 1);
    world.pass_ms(LONG_MS - 60_000);
    assert_eq!(at_work(&world), 1, "its limit still counts the message");
    world.pass_ms(LONG_MS);
    assert_eq!(at_work(&world), 0);
    send(&mut world, "b");
    assert_eq!(world.calls.len(), 2, "it sends as before");
    send(&mut world, "c");
    world.answer(1, World::submitted("2"));
    assert_eq!(world.calls.len(), 2, "and keeps its limit as before");
}

#[test]
fn a_session_does_not_rest_while_an_echo_may_come() {
    let often = RateLimit { count: 100, per_ms: 1_000, burst: 1 };
    let mut world = with_session(often);
    let window_ms = i64::try_from(Settings::default().bridge_window_ms).expect("fits");
    send(&mut world, "a");
    world.answer(0, World::submitted("1"));
    world.pass_ms(2 * window_ms - 120_000);
    assert_eq!(at_work(&world), 1, "an echo like it may still be its own");
    world.pass_ms(LONG_MS);
    assert_eq!(at_work(&world), 0);
}

#[test]
fn a_new_limit_counts_from_the_latest_send_of_a_session_that_rested() {
    let often = RateLimit { count: 100, per_ms: 1_000, burst: 1 };
    let mut world = with_session(often);
    send(&mut world, "a");
    world.answer(0, World::submitted("1"));
    world.pass_ms(12 * LONG_MS);
    assert_eq!(at_work(&world), 0);
    let daily = RateLimit { count: 1, per_ms: 24 * LONG_MS, burst: 1 };
    world.put("s1", |config| config.limits = vec![daily.clone()]);
    send(&mut world, "b");
    assert_eq!(world.calls.len(), 1, "one was sent within this window");
    world.pass_ms(12 * LONG_MS + 60_000);
    assert_eq!(world.calls.len(), 2);
}

#[test]
fn a_session_that_waits_or_is_held_does_not_rest() {
    let mut world = with_session(RateLimit { count: 1, per_ms: LONG_MS, burst: 1 });
    send(&mut world, "a");
    send(&mut world, "b");
    world.answer(0, World::submitted("1"));
    world.put("s2", |_| {});
    world.condition("s2", sluice_core::sender::SessionCondition { paused: true, ..Default::default() });
    world.send(text("s2", "a", "+15551230001", "hi"));
    world.pass_ms(LONG_MS / 2);
    assert_eq!(at_work(&world), 2);
    world.condition("s2", Default::default());
    assert_eq!(world.calls.len(), 2);
}
