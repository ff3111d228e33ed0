//! `isolation`: quiet sessions alone, beside saturated ones, and beside ones whose provider hangs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_schemas::RateLimit;

use crate::arrivals::{Arrivals, PER_SESSION};
use crate::report::percentile;
use crate::sluice_process::SluiceSender;
use crate::world::{ACCOUNT, World, session_id};

const LIMIT: Duration = Duration::from_secs(240);
const OPEN: &str = "sluice_open_messages{state=\"open\"}";
const RATIO_MAX: f64 = 2.0;

/// How many, how busy.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Quiet sessions.
    #[arg(long, default_value_t = 100)]
    quiet_sessions: usize,
    /// Messages to all quiet sessions per second.
    #[arg(long, default_value_t = 50)]
    quiet_per_second: usize,
    /// How long they are measured, seconds per round.
    #[arg(long, default_value_t = 20)]
    measured_s: usize,
    /// Saturated sessions, of the same base URL.
    #[arg(long, default_value_t = 1_000)]
    saturated_sessions: usize,
    /// Messages queued in each of them.
    #[arg(long, default_value_t = 30)]
    saturated_backlog: usize,
    /// Each may send one message in this time, milliseconds.
    #[arg(long, default_value_t = 10_000)]
    saturated_per_ms: i64,
    /// Sessions of another base URL, which takes calls and never answers.
    #[arg(long, default_value_t = 500)]
    hung_sessions: usize,
    /// Messages queued in each of them.
    #[arg(long, default_value_t = 10)]
    hung_backlog: usize,
    /// After this time a call is given up, milliseconds.
    #[arg(long, default_value_t = 5_000)]
    call_timeout_ms: u64,
    /// Rounds; the three cases take turns, medians are judged.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What goes on beside the quiet sessions.
#[derive(Debug, Clone, Copy)]
enum Beside {
    Nothing,
    Saturated,
    Hung,
}

const CASES: [Beside; 3] = [Beside::Nothing, Beside::Saturated, Beside::Hung];

impl Beside {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "undisturbed",
            Self::Saturated => "beside saturated sessions",
            Self::Hung => "beside sessions whose provider hangs",
        }
    }
}

/// Of one case in one round.
#[derive(Debug, Clone, Copy)]
struct Measured {
    p50_us: u64,
    p99_us: u64,
    /// Calls of the others meanwhile, per second.
    others_per_second: f64,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let mut rounds: Vec<[Measured; 3]> = Vec::new();
    for round in 0..args.rounds {
        let mut measured = Vec::new();
        for beside in CASES {
            let one = measure(args, beside).await.with_context(|| format!("{}, {round}", beside.name()))?;
            println!("round {round}, {}: {one:?}", beside.name());
            measured.push(one);
        }
        rounds.push([measured[0], measured[1], measured[2]]);
    }
    report(args, &rounds)
}

fn report(args: &Args, rounds: &[[Measured; 3]]) -> Result<()> {
    let sorted = |of: &dyn Fn(&[Measured; 3]) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let median = |of: &dyn Fn(&[Measured; 3]) -> f64| {
        let values = sorted(of);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "\nisolation: {} quiet sessions, {} messages/s; {} saturated, {} hanging; medians of {} rounds\n",
        args.quiet_sessions,
        args.quiet_per_second,
        args.saturated_sessions,
        args.hung_sessions,
        rounds.len()
    );
    println!(
        "| quiet sessions | p50 µs | p99 µs | p99 to undisturbed | worst round | calls/s of the others |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let mut missed = Vec::new();
    for (n, beside) in CASES.into_iter().enumerate() {
        let of_round = |round: &[Measured; 3]| round[n].p99_us as f64 / round[0].p99_us as f64;
        let ratio = median(&of_round);
        println!(
            "| {} | {:.0} | {:.0} | {ratio:.2} | {:.2} | {:.0} |",
            beside.name(),
            median(&|round| round[n].p50_us as f64),
            median(&|round| round[n].p99_us as f64),
            sorted(&of_round).last().copied().unwrap_or(f64::NAN),
            median(&|round| round[n].others_per_second)
        );
        if ratio.is_nan() || ratio > RATIO_MAX {
            missed.push(format!("{}: {ratio:.2}", beside.name()));
        }
    }
    ensure!(missed.is_empty(), "p99 is more than {RATIO_MAX} times the undisturbed one: {missed:?}");
    Ok(())
}

async fn measure(args: &Args, beside: Beside) -> Result<Measured> {
    let world = World::open("bench-isolation").await?;
    let (provider, hung) = (Arrivals::start().await?, Arrivals::start_hung().await?);
    world.put_sessions(&provider.base_url(), args.quiet_sessions).await?;
    let others = Others::put(args, beside, &world, &hung.base_url()).await?;
    let settings = [
        ("SLUICE__SENDER__CLIENT__CALL_TIMEOUT_MS", args.call_timeout_ms.to_string()),
        // The circuit would soon end the hanging calls; the slots alone are to keep the others apart.
        ("SLUICE__SENDER__DECISIONS__CIRCUIT_FAILURES", "1000000".to_owned()),
    ];
    let sluice = SluiceSender::started(&world, &settings).await?;
    quiet(args, &world, &provider, 0, args.quiet_sessions * 2).await?;
    others.busy(&world, &sluice).await?;

    let theirs = || provider.count() + hung.count();
    let (before, begun) = (theirs(), Instant::now());
    let count = args.quiet_per_second * args.measured_s;
    let mut latencies = quiet(args, &world, &provider, 1, count).await?;
    let others_calls = (theirs() - before).saturating_sub(count);
    if !matches!(beside, Beside::Nothing) {
        ensure!(others_calls > 0, "nothing went on beside them:\n{}", sluice.program.log_tail());
    }
    Ok(Measured {
        p50_us: percentile(&mut latencies, 50),
        p99_us: percentile(&mut latencies, 99),
        others_per_second: others_calls as f64 / begun.elapsed().as_secs_f64(),
    })
}

/// Messages to the quiet sessions at their rate, open loop; how long each took from its request to its call.
async fn quiet(
    args: &Args,
    world: &World,
    provider: &Arrivals,
    run: usize,
    count: usize,
) -> Result<Vec<u64>> {
    let begun = Instant::now();
    // Numbers of this run, unlike those of another.
    let first = run * PER_SESSION / 2;
    for k in 0..count {
        let due = begun + Duration::from_secs_f64(k as f64 / args.quiet_per_second as f64);
        tokio::time::sleep_until(due.into()).await;
        let session = k % args.quiet_sessions;
        world.request_to(&session_id(session), session * PER_SESSION + first + k, "quiet")?;
    }
    world.flush().await?;
    let end = Instant::now() + LIMIT;
    loop {
        let all = provider.all();
        let ours = all.iter().filter(|arrival| {
            let k = arrival.number % PER_SESSION;
            arrival.session < args.quiet_sessions && k >= first && k < first + count
        });
        let latencies: Vec<u64> = ours.map(|a| a.at_us.saturating_sub(a.produced_us)).collect();
        if latencies.len() >= count {
            ensure!(latencies.len() == count, "{} messages for {count}", latencies.len());
            return Ok(latencies);
        }
        ensure!(Instant::now() < end, "only {} of {count} quiet messages came", latencies.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The sessions beside.
struct Others {
    sessions: Vec<(usize, String)>,
    backlog: usize,
    /// Their first messages come spread over this time, so that they are not in step for ever.
    spread: Duration,
}

impl Others {
    async fn put(args: &Args, beside: Beside, world: &World, hung_url: &str) -> Result<Self> {
        let per_ms = args.saturated_per_ms;
        let (count, backlog, account, limit) = match beside {
            Beside::Nothing => (0, 0, ACCOUNT, never_binds()),
            Beside::Saturated => {
                let limit = RateLimit { count: 1, per_ms, burst: 1 };
                (args.saturated_sessions, args.saturated_backlog, ACCOUNT, limit)
            }
            Beside::Hung => {
                world.put_account("hung", hung_url).await?;
                (args.hung_sessions, args.hung_backlog, "hung", never_binds())
            }
        };
        let sessions: Vec<(usize, String)> =
            (0..count).map(|n| (args.quiet_sessions + n, format!("other-{n:04}"))).collect();
        for (_, id) in &sessions {
            world.put_session_of(account, id, vec![limit.clone()])?;
        }
        world.flush().await?;
        Ok(Self { sessions, backlog, spread: Duration::from_millis(u64::try_from(per_ms)?) })
    }

    /// Gives them all their messages, and waits until these are taken in.
    async fn busy(&self, world: &World, sluice: &SluiceSender) -> Result<()> {
        let begun = Instant::now();
        for k in 0..self.backlog {
            for (place, (number, id)) in self.sessions.iter().enumerate() {
                if k == 0 {
                    let due = begun + self.spread.mul_f64(place as f64 / self.sessions.len() as f64);
                    tokio::time::sleep_until(due.into()).await;
                }
                world.request_to(id, number * PER_SESSION + k, "other")?;
            }
            world.flush().await?;
        }
        // Some are sent meanwhile.
        let taken_in = (self.sessions.len() * self.backlog) as f64 * 0.8;
        sluice.reaches(OPEN, taken_in, LIMIT).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    }
}

const fn never_binds() -> RateLimit {
    RateLimit { count: 100_000, per_ms: 1_000, burst: 50_000 }
}
