//! `sender`: requests on Kafka to calls at a provider.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_schemas::topics::Topic;

use crate::process::Program;
use crate::report::{self, Run};
use crate::sink::Sink;
use crate::world::World;
use crate::{Load, Store};

const LIMIT: Duration = Duration::from_secs(180);
/// The program goes on a little after the last call: acks, ledger, offsets. All of that is its cost too.
const SETTLE: Duration = Duration::from_millis(1_500);

pub(crate) async fn run(load: &Load) -> Result<()> {
    let (mut floor, mut sluice) = (Vec::new(), Vec::new());
    for round in 0..load.rounds {
        floor.push(measure(load, &Subject::Floor).await.with_context(|| format!("floor, round {round}"))?);
        sluice.push(measure(load, &Subject::Sluice).await.with_context(|| format!("Sluice, round {round}"))?);
        let ratio = sluice[round].cpu_us / floor[round].cpu_us;
        println!(
            "round {round}: floor {:.1} µs, Sluice {:.1} µs, ratio {ratio:.2}",
            floor[round].cpu_us, sluice[round].cpu_us
        );
    }
    report::print(
        &format!(
            "sender: {} messages over {} sessions, {} at once",
            load.messages, load.sessions, load.concurrency
        ),
        &floor,
        &sluice,
    );
    Ok(())
}

enum Subject {
    Floor,
    Sluice,
}

async fn measure(load: &Load, subject: &Subject) -> Result<Run> {
    let world = World::open("bench-sender").await?;
    let sink = Sink::start().await?;
    world.put_sessions(&sink.base_url(), load.sessions).await?;
    let results = match subject {
        Subject::Floor => world.names.get(Topic::MessagesFollowups).to_owned(),
        Subject::Sluice => world.names.get(Topic::MessagesStatus).to_owned(),
    };
    let program = start(load, subject, &world, &sink, &results).await?;

    // A few messages first, so that connections stand and all partitions are taken over.
    sink.expect(load.sessions);
    produce(&world, load, load.sessions, "warm", None).await?;
    sink.all(LIMIT).await.with_context(|| program.log_tail())?;
    tokio::time::sleep(SETTLE).await;

    let before = program.usage()?;
    let begun = Instant::now();
    sink.expect(load.messages);
    produce(&world, load, load.messages, "burst", None).await?;
    sink.all(LIMIT).await.with_context(|| program.log_tail())?;
    let took = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = program.usage()?;

    sink.expect(load.paced_messages);
    produce(&world, load, load.paced_messages, "paced", Some(load.paced_per_second)).await?;
    let latencies = sink.all(LIMIT).await?;
    tokio::time::sleep(SETTLE).await;
    let peak_kib = program.usage()?.peak_kib;

    let all = load.sessions + load.messages + load.paced_messages;
    let event = matches!(subject, Subject::Sluice).then_some("SUBMITTED");
    let counted = tokio::task::spawn_blocking(move || world.count(&results, event, all)).await??;
    ensure!(counted == all, "{counted} results on Kafka for {all} messages");
    Ok(Run::new(load.messages, after.cpu_us - before.cpu_us, took, peak_kib, latencies))
}

async fn start(load: &Load, subject: &Subject, world: &World, sink: &Sink, results: &str) -> Result<Program> {
    let port = free_port()?;
    let program = match subject {
        Subject::Floor => {
            let args = [
                "floor-sender",
                "--bootstrap",
                &world.kafka.bootstrap_servers,
                "--requests",
                world.names.get(Topic::OutboundRequests),
                "--results",
                results,
                "--group",
                &format!("{}floor", world.kafka.group_prefix),
                "--url",
                &sink.base_url(),
                "--ready-port",
                &port.to_string(),
                "--concurrency",
                &load.concurrency.to_string(),
            ];
            Program::start("floor-sender", &args.map(str::to_owned), &[])?
        }
        Subject::Sluice => {
            let mut env = world.sluice_env();
            env.push(("SLUICE__ADMIN__LISTEN".into(), format!("127.0.0.1:{port}")));
            env.push((
                "SLUICE__SENDER__DECISIONS__BASE_URL_IN_FLIGHT_MAX".into(),
                load.concurrency.to_string(),
            ));
            let directory = match load.store {
                Store::Disk => world.store_directory().to_string_lossy().into_owned(),
                Store::Memory => String::new(),
            };
            env.push(("SLUICE__SENDER__STORE__DIRECTORY".into(), directory));
            Program::start("sluice-sender", &["run".into(), "sender".into()], &env)?
        }
    };
    program.ready(&format!("http://127.0.0.1:{port}/readyz")).await?;
    Ok(program)
}

/// Produces messages `0..count`, all at once or at a rate.
async fn produce(
    world: &World,
    load: &Load,
    count: usize,
    run: &str,
    per_second: Option<usize>,
) -> Result<()> {
    let begun = Instant::now();
    for n in 0..count {
        if let Some(rate) = per_second {
            let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
            tokio::time::sleep_until(due.into()).await;
        }
        world.request(n, load.sessions, run)?;
    }
    world.flush().await
}

/// A port nobody listens on.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
