//! The load harness: Sluice's paths against bare floors, on real Kafka, in one run.
//!
//! `cargo run --release -p sluice-benches -- sender|webhook`. The programs under test run as processes of their
//! own, so that CPU and memory are theirs alone; every run verifies that every message arrived.

mod arrivals;
mod backlog;
mod floor_sender;
mod floor_webhook;
mod idle;
mod isolation;
mod limiter;
mod limiter_phases;
mod process;
mod report;
mod sender;
mod sink;
mod sluice_process;
mod webhook;
mod world;

use clap::{Parser, Subcommand};

/// Set in children that are to be the `sluice` binary.
const BE_SLUICE: &str = "SLUICE_BENCHES_BE_SLUICE";

#[derive(Debug, Parser)]
#[command(
    name = "sluice-benches",
    about = "Sluice against the bare floor: CPU per message, rate, latency, memory."
)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Requests on Kafka to calls at a provider: consume, POST, produce.
    Sender(Load),
    /// Webhooks to Kafka: HTTP in, produce, answer after the ack.
    Webhook(Load),
    /// A million messages queued in one session: what that costs in memory, what it does to other sessions, and how
    /// fast a new owner takes them over.
    Backlog(backlog::Args),
    /// Sessions that have nothing to send: what they cost in memory.
    Idle(idle::Args),
    /// How long messages of quiet sessions wait: alone, beside saturated sessions, beside ones whose provider hangs.
    /// Fails if p99 beside others is more than twice that alone.
    Isolation(isolation::Args),
    /// Sessions with a backlog, two senders and hand-overs: no window over a limit, and how much of it is used.
    /// Fails if a window is over its limit, or less than 99 % is used outside the case of kill -9.
    Limiter(limiter::Args),
    /// The floor of `sender`, as a process of its own.
    #[command(hide = true)]
    FloorSender(floor_sender::Args),
    /// The floor of `webhook`, as a process of its own.
    #[command(hide = true)]
    FloorWebhook(floor_webhook::Args),
}

/// Where a sender keeps its local state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Disk,
    Memory,
}

/// How much, how often.
#[derive(Debug, Clone, clap::Args)]
struct Load {
    /// Messages per round.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Rounds; floor and Sluice take turns, medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sessions the messages are spread over.
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Where the sender keeps its local state.
    #[arg(long, value_enum, default_value_t = Store::Disk)]
    store: Store,
    /// Calls or webhooks at once.
    #[arg(long, default_value_t = 200)]
    concurrency: usize,
    /// Messages of the paced part, for latencies without a queue.
    #[arg(long, default_value_t = 2_000)]
    paced_messages: usize,
    /// Their rate per second.
    #[arg(long, default_value_t = 400)]
    paced_per_second: usize,
}

/// Records are made on one thread and freed on another all day; the system's allocator pays for that twice over.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<std::process::ExitCode> {
    if std::env::var_os(BE_SLUICE).is_some() {
        return Ok(sluice::cli::main());
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match cli.bench {
        Bench::Sender(load) => runtime.block_on(sender::run(&load))?,
        Bench::Webhook(load) => runtime.block_on(webhook::run(&load))?,
        Bench::Backlog(args) => runtime.block_on(backlog::run(&args))?,
        Bench::Idle(args) => runtime.block_on(idle::run(&args))?,
        Bench::Isolation(args) => runtime.block_on(isolation::run(&args))?,
        Bench::Limiter(args) => runtime.block_on(limiter::run(&args))?,
        Bench::FloorSender(args) => runtime.block_on(floor_sender::run(args))?,
        Bench::FloorWebhook(args) => runtime.block_on(floor_webhook::run(args))?,
    }
    Ok(std::process::ExitCode::SUCCESS)
}
