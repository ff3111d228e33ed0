//! `idle`: sessions that have nothing to send.

use std::time::Duration;

use anyhow::{Result, ensure};
use sluice_schemas::RateLimit;

use crate::backlog::mib;
use crate::sink::Sink;
use crate::sluice_process::SluiceSender;
use crate::world::World;

/// How many.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Sessions.
    #[arg(long, default_value_t = 100_000)]
    sessions: usize,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let with_few = resident_mib(10).await?;
    let with_all = resident_mib(args.sessions).await?;
    let growth_mib = with_all - with_few;
    println!("\nidle: RSS of a sender, MiB\n\n| | |\n|---|---:|");
    println!("| with 10 sessions | {with_few:.1} |");
    println!("| with {} sessions | {with_all:.1} |", args.sessions);
    println!("| growth | {growth_mib:.1} |");
    ensure!(growth_mib <= 100.0, "RSS grew by {growth_mib:.1} MiB, not by 100 at most");
    Ok(())
}

async fn resident_mib(sessions: usize) -> Result<f64> {
    let world = World::open("bench-idle").await?;
    let sink = Sink::start().await?;
    world.put_sessions(&sink.base_url(), 1).await?;
    for n in 0..sessions {
        let limit = RateLimit { count: 1, per_ms: 5_000, burst: 1 };
        world.put_session(&format!("idle-{n:06}"), limit)?;
    }
    world.flush().await?;
    let sluice = SluiceSender::started(&world, &[]).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(mib(sluice.program.resident_kib()?))
}
