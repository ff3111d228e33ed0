//! The torture run: the whole pipeline as processes on real servers, under load, while whatever can break is broken
//! on a schedule drawn from a seed; then it is left alone, and the books are read. `cargo xtask torture` runs it.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "the rig is a test, too")]

mod books;
mod fleet;
mod handover;
mod inflict;
mod link;
mod load;
mod plan;
mod report;
mod run;
#[allow(dead_code, unused_imports, reason = "the tests in it/ use the rest")]
#[path = "../it/world/mod.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Minutes of faults; fractions are fine.
const MINUTES: &str = "SLUICE_TORTURE_MINUTES";
/// Seed of the schedule and of the load.
const SEED: &str = "SLUICE_TORTURE_SEED";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `cargo xtask torture`"]
async fn whatever_breaks_nothing_is_lost_doubled_in_silence_or_sent_too_fast() {
    let minutes = std::env::var(MINUTES).map_or(2.0, |text| text.parse().expect("minutes are a number"));
    let seed =
        std::env::var(SEED).map_or_else(|_| rand::random(), |text| text.parse().expect("a seed is a number"));
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-{seed}"));
    empty(&dir);
    println!(
        "torture: {minutes} minutes, seed {seed}, sluice of the {} profile, logs in {}",
        if cfg!(debug_assertions) { "dev" } else { "release" },
        dir.display()
    );
    let outcome = run::run(seed, Duration::from_secs_f64(minutes * 60.0), &dir).await;
    report::print(&outcome);
    if outcome.broken.is_empty() {
        std::fs::remove_dir_all(&dir).expect("the logs are removed");
        return;
    }
    report::keep(&outcome, &dir);
    panic!(
        "laws are broken: {:?}; again with `cargo xtask torture --minutes {minutes} --seed {seed}`; look at {}",
        outcome.broken.keys().collect::<Vec<_>>(),
        dir.display()
    );
}

/// Makes `dir`, or removes what an earlier run of the seed left in it.
fn empty(dir: &Path) {
    if dir.exists() {
        std::fs::remove_dir_all(dir).expect("what an earlier run left is removed");
    }
    std::fs::create_dir_all(dir).expect("a directory for logs");
}
