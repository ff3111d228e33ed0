//! `cargo xtask simulate`: plays seeds, replays one with its trace, or plants faults and shows who notices.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use sluice_simulation::{Planted, campaign, play, trace};

/// Seeds between two lines of progress.
const PROGRESS_EVERY: u64 = 1_000;
/// Lines of the trace shown when a law breaks in a campaign; `--seed` shows all.
const TRACE_LINES: usize = 200;

/// Plays the sender on random schedules and checks its laws.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate", max_term_width = 100)]
struct Cli {
    /// Seeds to play; with `--planted`, within how many each fault has to be caught.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Play this seed alone and print all that happens.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Switch off one rule of the sender, by name, or each in turn (`all`): a law must notice.
    #[arg(long)]
    planted: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let planted = match cli.planted.as_deref() {
        None => vec![],
        Some("all") => Planted::ALL.to_vec(),
        Some(name) => match Planted::ALL.iter().find(|fault| fault.name() == name) {
            Some(fault) => vec![*fault],
            None => {
                eprintln!("no planted fault is called {name}; there are:");
                for fault in Planted::ALL {
                    eprintln!("  {}: {}", fault.name(), fault.what());
                }
                return ExitCode::FAILURE;
            }
        },
    };
    let kept = match cli.seed {
        Some(seed) => show(seed, planted.first().copied()),
        None if planted.is_empty() => plays(cli.from, cli.seeds),
        None => catches(&planted, cli.from, cli.seeds),
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(seed: u64, planted: Option<Planted>) -> bool {
    let run = trace(seed, planted);
    for line in &run.trace {
        println!("{line}");
    }
    match &run.broken {
        Some(law) => println!("seed {seed} breaks a law: {law}"),
        None => println!("seed {seed} keeps every law"),
    }
    run.broken.is_none()
}

fn plays(from: u64, seeds: u64) -> bool {
    let began = Instant::now();
    let broken = campaign::all(from..from + seeds, |played| {
        if played.is_multiple_of(PROGRESS_EVERY) {
            println!("{played} of {seeds} seeds, {:.0} s", began.elapsed().as_secs_f64());
        }
    });
    if let Some(first) = broken.first() {
        let run = trace(first.seed, None);
        for line in &run.trace[run.trace.len().saturating_sub(TRACE_LINES)..] {
            println!("{line}");
        }
    }
    for broken in &broken {
        println!("seed {} breaks a law: {}", broken.seed, broken.law);
        println!("  replay: cargo xtask simulate --seed {}", broken.seed);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{seeds} seeds from {from} in {seconds:.1} s: {} broke a law", broken.len());
    broken.is_empty()
}

fn catches(planted: &[Planted], from: u64, seeds: u64) -> bool {
    println!("| planted fault | what is switched off | seeds to catch | law that noticed |");
    println!("|---|---|---|---|");
    let mut all_caught = true;
    for fault in planted {
        let (name, what) = (fault.name(), fault.what());
        match campaign::first(from..from + seeds, *fault) {
            Some(caught) => {
                // The names of messages and owners are a run's own; a law is not to be blamed that breaks anyway.
                let sound = play(caught.seed, None).broken.is_none();
                all_caught &= sound;
                let note = if sound { "" } else { " (broken without it too)" };
                println!("| {name} | {what} | {} | {}{note} |", caught.seed - from + 1, caught.law);
            }
            None => {
                all_caught = false;
                println!("| {name} | {what} | not in {seeds} | |");
            }
        }
    }
    all_caught
}
