//! The laws of the sender, on random schedules of several owners of one ledger partition: crashes, freezes,
//! hand-overs, late and lost appends, compaction, and a provider that answers what it likes.
//!
//! `SLUICE_SEED=n` plays one seed and prints what happened; `SLUICE_SEEDS=n` plays more of them, from
//! `SLUICE_FROM=n` on.

mod calls;
mod check;
mod faults;
mod log;
mod owner;
mod plan;
mod provider;
mod rng;
mod topics;
mod world;

use world::World;

/// Lines of the trace shown when a law is broken.
const TRACE_LINES: usize = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays one seed; the law that broke, if one did.
fn play(seed: u64) -> Option<String> {
    let mut world = World::new(seed, false);
    world.play();
    world.broken
}

/// Plays one seed again and shows how it went.
fn show(seed: u64) -> Option<String> {
    let mut world = World::new(seed, true);
    world.play();
    let trace = world.trace.unwrap_or_default();
    let all = number("SLUICE_SEED").is_some();
    let from = if all { 0 } else { trace.len().saturating_sub(TRACE_LINES) };
    for line in &trace[from..] {
        eprintln!("{line}");
    }
    world.broken
}

/// Plays seeds on every core; those that break a law.
fn broken(from: u64, count: u64) -> Vec<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut broken: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    let seeds = (from..from + count).filter(|seed| seed % threads == worker);
                    seeds.filter_map(|seed| play(seed).map(|law| (seed, law))).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run does not panic")).collect()
    });
    broken.sort_unstable();
    broken
}

#[test]
fn the_laws_hold_on_random_schedules() {
    if let Some(seed) = number("SLUICE_SEED") {
        let law = show(seed);
        assert_eq!(law, None, "seed {seed}");
        return;
    }
    let from = number("SLUICE_FROM").unwrap_or(1);
    let count = number("SLUICE_SEEDS").unwrap_or(800);
    let broken = broken(from, count);
    for (seed, law) in &broken {
        eprintln!("SLUICE_SEED={seed} breaks a law: {law}");
    }
    if let Some((seed, law)) = broken.first() {
        show(*seed);
        panic!("SLUICE_SEED={seed} breaks a law: {law}");
    }
}
