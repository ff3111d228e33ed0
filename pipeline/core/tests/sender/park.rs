//! The laws of messages that wait outside memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_core::sender::store::{MemoryStore, Opened, Pair, Store};
use sluice_core::sender::{Input, Sender, SessionCondition, Settings};
use sluice_core::time::Now;
use sluice_schemas::{OnDelete, RateLimit, Status};

use crate::world::{World, cancel, scheduled, text};

/// A session with room for two messages in memory, paused.
fn paused() -> World {
    let mut world = World::with_settings(|settings| {
        settings.session_resident_max = 2;
        settings.session_resident_min = 1;
        settings.session_resident_held_max = 2;
        settings.ttl_ms = 60_000;
        settings.expiry_sweep_ms = 5_000;
    });
    world.put("s1", |config| config.limits = vec![RateLimit { count: 1, per_ms: 1_000, burst: 1 }]);
    world.condition("s1", SessionCondition { paused: true, ..SessionCondition::default() });
    world
}

fn resume(world: &mut World) {
    world.condition("s1", SessionCondition::default());
}

fn send(world: &mut World, count: usize) {
    for n in 0..count {
        world.send(text("s1", &format!("k{n}"), &format!("+1555123{:04}", n % 3), &format!("text {n}")));
    }
}

#[test]
fn what_waits_is_in_memory_only_at_the_head_and_goes_in_order() {
    let mut world = paused();
    send(&mut world, 20);
    let gauges = world.sender.gauges();
    assert_eq!((gauges.open, gauges.resident), (20, 2));
    resume(&mut world);
    for n in 0..20 {
        assert_eq!(world.calls.len(), n + 1);
        world.answer(n, World::submitted(&n.to_string()));
        world.pass_ms(1_000);
    }
    let texts: Vec<String> = (0..20).map(|n| format!("text {n}")).collect();
    assert_eq!(world.texts(), texts);
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn what_waits_outside_memory_expires_in_time_too() {
    let mut world = paused();
    send(&mut world, 20);
    world.pass_ms(60_000);
    // The look at the heads of the queues brings the rest on, step by step.
    for _ in 0..20 {
        world.pass_ms(5_000);
    }
    for n in 0..20 {
        assert_eq!(world.told(&format!("k{n}")).last(), Some(&Status::Expired), "k{n}");
    }
    assert_eq!(world.sender.gauges().open, 0);
}

#[test]
fn a_repeat_of_a_message_outside_memory_is_told_its_status_and_not_taken_again() {
    let mut world = paused();
    send(&mut world, 10);
    world.send(text("s1", "k9", "+15551230000", "text 9"));
    world.send(text("s1", "k9", "+15551230000", "another body"));
    assert!(world.told("k9").ends_with(&[Status::Accepted, Status::DuplicateConflict]));
    assert_eq!(world.sender.gauges().open, 10);
}

#[test]
fn a_cancel_reaches_a_message_outside_memory() {
    let mut world = paused();
    send(&mut world, 10);
    world.send(cancel("s1", "k7", "cancel"));
    assert_eq!(world.told("k7").last(), Some(&Status::Canceled));
    assert_eq!(world.sender.gauges().open, 9);
}

#[test]
fn a_scheduled_message_waits_outside_memory_and_is_sent_when_it_is_due() {
    let mut world = World::with_session("s1");
    let at_ms = world.now.wall_ms() + 3_600_000;
    world.send(scheduled("s1", "k1", at_ms));
    assert_eq!((world.sender.gauges().open, world.sender.gauges().resident), (1, 0));
    world.pass_ms(3_599_000);
    assert_eq!(world.calls.len(), 0);
    world.pass_ms(1_000);
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn the_backlog_of_a_session_that_is_bound_anew_moves_or_ends_as_asked() {
    for (on_rebinding, ends) in [(OnDelete::Fail, true), (OnDelete::Move, false), (OnDelete::Unknown, false)]
    {
        let mut world = paused();
        send(&mut world, 300);
        world.send(scheduled("s1", "later", world.now.wall_ms() + 3_600_000));
        world.put("s1", |config| {
            (config.binding_epoch, config.on_rebinding) = (1, on_rebinding);
        });
        for _ in 0..20 {
            world.pass_ms(10);
        }
        let ended = (0..300).filter(|n| world.told(&format!("k{n}")).last() == Some(&Status::Failed)).count();
        assert_eq!(ended, if ends { 300 } else { 0 }, "{on_rebinding:?}");
        assert_eq!(world.told("later").last() == Some(&Status::Failed), ends);
        assert_eq!(world.sender.gauges().open, if ends { 0 } else { 301 });
    }
}

#[test]
fn the_backlog_of_a_deleted_session_ends() {
    let mut world = paused();
    send(&mut world, 300);
    world.delete("s1");
    for _ in 0..20 {
        world.pass_ms(10);
    }
    assert_eq!(world.sender.gauges().open, 0);
    assert!(world.failures().iter().all(|code| code == "session_deleted"), "{:?}", world.failures());
}

/// A store that cannot be read from a certain look on.
#[derive(Debug, Default)]
struct Breaking {
    pairs: MemoryStore,
    broken: Arc<AtomicBool>,
}

impl Store for Breaking {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.pairs.get(key).filter(|_| !self.has_failed())
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        self.pairs.put(key, value);
    }

    fn remove(&mut self, key: &[u8]) {
        self.pairs.remove(key);
    }

    fn scan(&self, from: &[u8], to: &[u8], most: usize) -> Vec<Pair> {
        self.pairs.scan(from, to, most)
    }

    fn wants_commit(&self, _now: Now) -> bool {
        false
    }

    fn commit(&mut self, _now: Now, _next_offset: i64) {}

    fn clear(&mut self) {
        self.pairs.clear();
    }

    fn has_failed(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

#[test]
fn a_step_during_which_a_store_failed_has_no_effects_but_that_all_is_dropped() {
    let broken = Arc::new(AtomicBool::new(false));
    let now = Now { wall_us: 1_700_000_000_000_000, boot_us: 1 };
    let opened = broken.clone();
    let mut sender = Sender::new(Settings::default(), "test", 2, 7).with_stores(Box::new(move |_, _| {
        Opened::empty(Box::new(Breaking { broken: opened.clone(), ..Breaking::default() }))
    }));
    let mut out = Vec::new();
    for partition in [0, 1] {
        sender.step(now, Input::Assigned { partition }, &mut out);
        sender.step(now, Input::Fenced { partition, offset: 0 }, &mut out);
    }
    broken.store(true, Ordering::Relaxed);
    out.clear();
    sender.step(now, Input::LedgerPassed { partition: 0, next_offset: 1 }, &mut out);
    let kinds: Vec<String> = out.iter().map(|effect| format!("{effect:?}")).collect();
    assert_eq!(kinds, ["Drop { partition: 0 }", "Drop { partition: 1 }", "StoreFailed { partition: 0 }"]);
    assert!(sender.is_idle(), "nothing is decided any more");
}
