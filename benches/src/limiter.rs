//! `limiter`: how much of their limits sessions with a backlog use while partitions move between two senders, and
//! that no window is ever over.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sluice_schemas::RateLimit;

use crate::arrivals::{Arrival, Arrivals, PER_SESSION};
use crate::limiter_phases::{Judged, Phases};
use crate::sluice_process::SluiceSender;
use crate::world::{ACCOUNT, KEY_ENV, World, session_id};

const LIMIT: Duration = Duration::from_secs(60);

/// How many, how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Sessions; their limits take turns: 1 per 1 s; 1 per 1 s and 30 per minute; 1 per 5 s.
    #[arg(long, default_value_t = 21)]
    sessions: usize,
    /// Length of each phase, seconds.
    #[arg(long, default_value_t = 60)]
    window_s: u64,
    /// The first seconds, which are not counted.
    #[arg(long, default_value_t = 10)]
    settle_s: u64,
}

/// Limits of session `n`. All without bursts: of a limit with a burst only `count - burst + 1` sends a window can go on
/// for ever.
fn limits(n: usize) -> Vec<RateLimit> {
    let limit = |count, per_ms| RateLimit { count, per_ms, burst: 1 };
    match n % 3 {
        0 => vec![limit(1, 1_000)],
        1 => vec![limit(1, 1_000), limit(30, 60_000)],
        _ => vec![limit(1, 5_000)],
    }
}

/// The longest of the intervals, which is the one that counts, µs.
pub(crate) fn interval_us(n: usize) -> u64 {
    let us = |limit: &RateLimit| limit.per_ms.unsigned_abs() * 1_000 / u64::from(limit.count.unsigned_abs());
    limits(n).iter().map(us).max().unwrap_or(0)
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let world = World::open("bench-limiter").await?;
    let provider = Arrivals::start().await?;
    world.put_account(ACCOUNT, &provider.base_url()).await?;
    for n in 0..args.sessions {
        world.put_session_of(ACCOUNT, &session_id(n), limits(n))?;
    }
    world.flush().await?;
    queue(args, &world).await?;

    let first = sender(&world, "first").await?;
    all_send(args, &provider).await?;
    tokio::time::sleep(Duration::from_secs(args.settle_s)).await;
    let phases = play(args, &world).await?;
    drop(first);

    let all = provider.all();
    let used = phases.report(args.sessions, &all);
    let over = windows_over(args.sessions, &all);
    let numbers: HashSet<usize> = all.iter().map(|arrival| arrival.number).collect();
    println!(
        "\n{} calls, {} windows over a limit, {} calls repeated",
        all.len(),
        over,
        all.len() - numbers.len()
    );
    ensure!(over == 0, "{over} windows are over their limit");
    ensure!(numbers.len() == all.len(), "{} calls were made twice", all.len() - numbers.len());
    used
}

/// More messages in each session than can be sent in the run.
async fn queue(args: &Args, world: &World) -> Result<()> {
    let run_us = (args.window_s * 8 + args.settle_s + 120) * 1_000_000;
    for n in 0..args.sessions {
        for k in 0..usize::try_from(run_us / interval_us(n))? {
            world.request_to(&session_id(n), n * PER_SESSION + k, "limiter")?;
        }
    }
    world.flush().await
}

async fn play(args: &Args, world: &World) -> Result<Phases> {
    let mut phases = Phases::new(Duration::from_secs(args.window_s));
    phases.begin("one sender", Judged::Yes).await;
    phases.end().await;
    phases.begin("a second joins", Judged::Yes).await;
    let mut second = sender(world, "second").await?;
    phases.end().await;
    tell_restores(&second).await;
    phases.begin("both", Judged::Yes).await;
    phases.end().await;
    phases.begin("the second stops", Judged::Yes).await;
    second.program.stop(LIMIT).await?;
    phases.end().await;
    phases.begin("one sender again", Judged::Yes).await;
    phases.end().await;
    phases.begin("a third joins", Judged::Yes).await;
    let mut third = sender(world, "third").await?;
    phases.end().await;
    tell_restores(&third).await;
    phases.begin("the third is killed (-9)", Judged::No).await;
    third.program.kill9()?;
    phases.end().await;
    phases.begin("after that", Judged::Yes).await;
    phases.end().await;
    Ok(phases)
}

/// A sender with a key and a directory of its own.
async fn sender(world: &World, name: &str) -> Result<SluiceSender> {
    let directory = world.store_directory().join(name).to_string_lossy().into_owned();
    let settings = [(KEY_ENV, name.to_owned()), ("SLUICE__SENDER__STORE__DIRECTORY", directory)];
    SluiceSender::started(world, &settings).await
}

/// What a newcomer took from its fence to its first decision: part of the time nobody sent.
async fn tell_restores(sender: &SluiceSender) {
    let seconds = sender.metric("sluice_restore_seconds_sum").await;
    let count = sender.metric("sluice_restore_seconds_count").await;
    println!("restored {count:.0} partitions in {:.0} ms each", seconds / count * 1_000.0);
}

async fn all_send(args: &Args, provider: &Arrivals) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let seen: HashSet<usize> = provider.all().iter().map(|arrival| arrival.session).collect();
        if seen.len() == args.sessions {
            return Ok(());
        }
        ensure!(Instant::now() < end, "only {} of {} sessions send", seen.len(), args.sessions);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Windows, of any limit and beginning with any call, that hold more calls than it allows.
fn windows_over(sessions: usize, all: &[Arrival]) -> usize {
    let mut over = 0;
    for n in 0..sessions {
        let times: Vec<u64> = all.iter().filter(|arrival| arrival.session == n).map(|a| a.at_us).collect();
        for limit in limits(n) {
            let (count, per_us) = (limit.count.unsigned_abs() as usize, limit.per_ms.unsigned_abs() * 1_000);
            over += times.windows(count + 1).filter(|window| window[count] - window[0] < per_us).count();
        }
    }
    over
}
