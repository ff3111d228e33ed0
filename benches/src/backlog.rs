//! `backlog`: very many messages queued in one session.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_schemas::RateLimit;

use crate::report::percentile;
use crate::sink::Sink;
use crate::sluice_process::SluiceSender;
use crate::world::World;

/// The sink takes no number from here on for one that it waits for.
const NUMBERED_FROM: usize = 1_000_000_000;
/// Messages of the backlog that may have been sent meanwhile.
const SENT_MAX: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(900);
const BIG: &str = "bench-big";
const OPEN: &str = "sluice_open_messages{state=\"open\"}";
const OWNED: &str = "sluice_partitions{state=\"owned\"}";

/// How much.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Messages queued in the one session.
    #[arg(long, default_value_t = 1_000_000)]
    messages: usize,
    /// Other sessions.
    #[arg(long, default_value_t = 40)]
    sessions: usize,
    /// Messages to the other sessions per measurement.
    #[arg(long, default_value_t = 4_000)]
    paced_messages: usize,
    /// Their rate per second.
    #[arg(long, default_value_t = 200)]
    paced_per_second: usize,
    /// Measurements of the other sessions in each state; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How often the state is rebuilt from the ledger; the median counts.
    #[arg(long, default_value_t = 3)]
    rebuilds: usize,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let world = World::open("bench-backlog").await?;
    let sink = Sink::start().await?;
    world.put_sessions(&sink.base_url(), args.sessions).await?;
    // What is queued stays queued, but for a few. A million of them are below what `session_backlog_s_max` allows.
    world.put_session(BIG, RateLimit { count: 1, per_ms: 5_000, burst: 1 })?;
    world.flush().await?;
    let settings = [("SLUICE__SENDER__DECISIONS__SESSION_BACKLOG_MAX", (args.messages * 2).to_string())];
    let mut sluice = SluiceSender::started(&world, &settings).await?;

    paced(&world, &sink, args, "warm").await?;
    let without = rounds(&world, &sink, args, "without").await?;
    settle().await;
    let before_kib = sluice.program.resident_kib()?;

    let begun = Instant::now();
    for n in 0..args.messages {
        world.request_to(BIG, NUMBERED_FROM + n, "big")?;
    }
    world.flush().await?;
    sluice.reaches(OPEN, args.messages.saturating_sub(SENT_MAX) as f64, LIMIT).await?;
    let taken_in = begun.elapsed();
    settle().await;
    let growth_mib = mib(sluice.program.resident_kib()?) - mib(before_kib);
    let with = rounds(&world, &sink, args, "with").await?;
    let later_growth_mib = mib(sluice.program.resident_kib()?) - mib(before_kib);
    let peak_mib = mib(sluice.program.usage()?.peak_kib);

    sluice.program.kill9()?;
    let sluice = restart(&world, &settings).await?;
    let resume_s = sluice.longest_restore_s();
    let open = sluice.metric(OPEN).await;
    drop(sluice);
    let rebuilt = rebuilds(&world, &settings, args).await?;

    let count = args.messages as f64;
    let ratio = with as f64 / without as f64;
    println!("\nbacklog: {} messages queued in one session, {} others\n", args.messages, args.sessions);
    println!("| | |");
    println!("|---|---:|");
    println!("| taken in, messages/s | {:.0} |", count / taken_in.as_secs_f64());
    println!("| RSS growth, MiB (after the others went on: {later_growth_mib:.1}) | {growth_mib:.1} |");
    println!("| peak RSS, MiB | {peak_mib:.1} |");
    println!("| p99 of others without it, µs | {without} |");
    println!("| p99 of others with it, µs | {with} |");
    println!("| ratio | {ratio:.2} |");
    println!(
        "| taken up again from the local state, entries/s (killed, {open:.0} open) | {:.0} |",
        count / resume_s
    );
    let per_second = count / rebuilt.took_s;
    println!("| rebuilt from the ledger, entries/s ({:.0} open) | {per_second:.0} |", rebuilt.open);
    println!("| RSS after that, MiB | {:.1} |", rebuilt.resident_mib);
    ensure!(
        open as usize + SENT_MAX >= args.messages && rebuilt.open as usize + SENT_MAX >= args.messages,
        "messages are missing"
    );
    ensure!(growth_mib <= 64.0, "RSS grew by {growth_mib:.1} MiB, not by 64 at most");
    ensure!(ratio <= 1.2, "p99 of others is {ratio:.2} of what it was, not 1.2 at most");
    ensure!(per_second >= 150_000.0, "{per_second:.0} entries/s restored, not 150,000");
    Ok(())
}

/// A state made anew from the ledger.
struct Rebuilt {
    took_s: f64,
    open: f64,
    resident_mib: f64,
}

/// Kills the sender, throws its state away and starts it anew, several times; the median.
async fn rebuilds(world: &World, settings: &[(&str, String)], args: &Args) -> Result<Rebuilt> {
    let mut all = Vec::new();
    for _ in 0..args.rebuilds.max(1) {
        std::fs::remove_dir_all(world.store_directory())?;
        let sluice = restart(world, settings).await?;
        all.push(Rebuilt {
            took_s: sluice.longest_restore_s(),
            open: sluice.metric(OPEN).await,
            resident_mib: mib(sluice.program.resident_kib()?),
        });
    }
    all.sort_by(|one, other| one.took_s.total_cmp(&other.took_s));
    let per_second: Vec<f64> = all.iter().map(|one| (args.messages as f64 / one.took_s).round()).collect();
    println!("rebuilt, entries/s: {per_second:?}");
    Ok(all.swap_remove(all.len() / 2))
}

async fn restart(world: &World, settings: &[(&str, String)]) -> Result<SluiceSender> {
    let told = [settings, &[("SLUICE__LOG__FILTER", "info".to_owned())]].concat();
    let sluice = SluiceSender::started(world, &told).await?;
    sluice.reaches(OWNED, f64::from(sluice_schemas::topics::PARTITIONS_DEV), LIMIT).await?;
    Ok(sluice)
}

/// The median over rounds of the p99 of other sessions, microseconds.
async fn rounds(world: &World, sink: &Sink, args: &Args, run: &str) -> Result<u64> {
    let mut p99s = Vec::new();
    for round in 0..args.rounds {
        let mut latencies = paced(world, sink, args, &format!("{run}-{round}")).await?;
        p99s.push(percentile(&mut latencies, 99));
    }
    println!("{run}: p99 of each round, µs: {p99s:?}");
    Ok(percentile(&mut p99s, 50))
}

async fn paced(world: &World, sink: &Sink, args: &Args, run: &str) -> Result<Vec<u64>> {
    sink.expect(args.paced_messages);
    let begun = Instant::now();
    for n in 0..args.paced_messages {
        let due = begun + Duration::from_secs_f64(n as f64 / args.paced_per_second as f64);
        tokio::time::sleep_until(due.into()).await;
        world.request(n, args.sessions, run)?;
    }
    world.flush().await?;
    sink.all(Duration::from_secs(60)).await
}

/// Lets what is under way end, and memory that is free be given back.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

pub(crate) fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
