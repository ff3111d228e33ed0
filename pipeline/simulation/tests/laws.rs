//! The laws on some hundred seeds; `cargo xtask simulate` plays more.

use sluice_simulation::{campaign, trace};

/// Lines of the trace shown when a law is broken.
const TRACE_LINES: usize = 200;

#[test]
fn the_laws_hold_on_random_schedules() {
    let broken = campaign::all(1..301, |_| {});
    if let Some(first) = broken.first() {
        let run = trace(first.seed, None);
        for line in &run.trace[run.trace.len().saturating_sub(TRACE_LINES)..] {
            eprintln!("{line}");
        }
        panic!("{} of 300 break a law; replay with `cargo xtask simulate --seed`: {broken:?}", broken.len());
    }
}
