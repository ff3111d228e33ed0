//! The table.

use std::time::Duration;

/// One run of one program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// CPU per message, microseconds.
    pub(crate) cpu_us: f64,
    /// Messages per second.
    pub(crate) per_second: f64,
    /// Peak memory, MiB.
    pub(crate) peak_mib: f64,
    /// Latencies of the paced part, microseconds.
    pub(crate) p50_us: u64,
    /// See `p50_us`.
    pub(crate) p99_us: u64,
}

impl Run {
    pub(crate) fn new(
        messages: usize,
        cpu_us: u64,
        took: Duration,
        peak_kib: u64,
        mut latencies_us: Vec<u64>,
    ) -> Self {
        Self {
            cpu_us: cpu_us as f64 / messages as f64,
            per_second: messages as f64 / took.as_secs_f64(),
            peak_mib: peak_kib as f64 / 1024.0,
            p50_us: percentile(&mut latencies_us, 50),
            p99_us: percentile(&mut latencies_us, 99),
        }
    }
}

/// The value that `part` of 100 do not exceed; 0 of none.
pub(crate) fn percentile(values: &mut [u64], part: usize) -> u64 {
    values.sort_unstable();
    values.get((values.len() * part / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Prints both columns and the ratio, medians over the rounds.
pub(crate) fn print(what: &str, floor: &[Run], sluice: &[Run]) {
    println!("\n{what}, medians of {} rounds\n", floor.len());
    println!("| | floor | Sluice | Sluice/floor |");
    println!("|---|---:|---:|---:|");
    let row = |name: &str, of: &dyn Fn(&Run) -> f64, digits: usize| {
        let (f, s) = (median(floor, of), median(sluice, of));
        println!("| {name} | {f:.digits$} | {s:.digits$} | {:.2} |", s / f);
    };
    row("CPU µs/message (user+system)", &|r| r.cpu_us, 1);
    row("messages/s, burst", &|r| r.per_second, 0);
    row("p50 µs, paced", &|r| r.p50_us as f64, 0);
    row("p99 µs, paced", &|r| r.p99_us as f64, 0);
    row("peak RSS MiB", &|r| r.peak_mib, 1);
}

fn median(runs: &[Run], of: &dyn Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
