//! Many seeds on every core.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Planted, play};

/// A seed and the law it breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// Replays the run.
    pub seed: u64,
    /// The law.
    pub law: String,
}

/// Plays all `seeds`; those that break a law, in order. `progress` hears how many are played, now and then.
pub fn all(seeds: Range<u64>, progress: impl Fn(u64) + Sync) -> Vec<Broken> {
    search(seeds, None, false, progress)
}

/// The first of `seeds` that notices a planted fault.
pub fn first(seeds: Range<u64>, planted: Planted) -> Option<Broken> {
    search(seeds, Some(planted), true, |_| {}).into_iter().next()
}

fn search(
    seeds: Range<u64>,
    planted: Option<Planted>,
    until_first: bool,
    progress: impl Fn(u64) + Sync,
) -> Vec<Broken> {
    let next = AtomicU64::new(seeds.start);
    // Seeds from here on are of no interest.
    let end = AtomicU64::new(seeds.end);
    let found = Mutex::new(Vec::new());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end.load(Ordering::Relaxed) {
                return;
            }
            if let Some(law) = play(seed, planted).broken {
                if until_first {
                    end.fetch_min(seed, Ordering::Relaxed);
                }
                let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                found.push(Broken { seed, law });
            }
            progress(seed + 1 - seeds.start);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.sort_unstable();
    found
}
