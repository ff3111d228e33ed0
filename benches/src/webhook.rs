//! `webhook`: HTTP in, produce, answer after the ack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice_schemas::topics::Topic;

use crate::Load;
use crate::process::Program;
use crate::report::{self, Run};
use crate::sender::free_port;
use crate::world::{WEBHOOK_SECRET, World, session_id};

const SETTLE: Duration = Duration::from_millis(500);

pub(crate) async fn run(load: &Load) -> Result<()> {
    let (mut floor, mut sluice) = (Vec::new(), Vec::new());
    for round in 0..load.rounds {
        floor.push(measure(load, false).await.with_context(|| format!("floor, round {round}"))?);
        sluice.push(measure(load, true).await.with_context(|| format!("Sluice, round {round}"))?);
        let ratio = sluice[round].cpu_us / floor[round].cpu_us;
        println!(
            "round {round}: floor {:.1} µs, Sluice {:.1} µs, ratio {ratio:.2}",
            floor[round].cpu_us, sluice[round].cpu_us
        );
    }
    let at_once = workers(load);
    report::print(&format!("webhook: {} webhooks, {at_once} at once", load.messages), &floor, &sluice);
    Ok(())
}

fn workers(load: &Load) -> usize {
    load.concurrency.clamp(1, 64)
}

async fn measure(load: &Load, is_sluice: bool) -> Result<Run> {
    let world = World::open("bench-webhook").await?;
    world.put_sessions("http://127.0.0.1:9/api", load.sessions).await?;
    let topic = world.names.get(Topic::WebhooksInbound).to_owned();
    let port = free_port()?;
    let program = if is_sluice {
        let (admin, api) = (free_port()?, free_port()?);
        let mut env = world.sluice_env();
        env.push(("SLUICE__ADMIN__LISTEN".into(), format!("127.0.0.1:{admin}")));
        env.push(("SLUICE__EDGE__LISTEN".into(), format!("127.0.0.1:{api}")));
        env.push(("SLUICE__EDGE__WEBHOOK_LISTEN".into(), format!("127.0.0.1:{port}")));
        let program = Program::start("sluice-edge", &["run".into(), "edge".into()], &env)?;
        program.ready(&format!("http://127.0.0.1:{admin}/readyz")).await?;
        program
    } else {
        let args = [
            "floor-webhook",
            "--bootstrap",
            &world.kafka.bootstrap_servers,
            "--topic",
            &topic,
            "--port",
            &port.to_string(),
        ];
        let program = Program::start("floor-webhook", &args.map(str::to_owned), &[])?;
        program.ready(&format!("http://127.0.0.1:{port}/readyz")).await?;
        program
    };
    let url = format!("http://127.0.0.1:{port}/webhooks/wasender");
    post_all(&url, 500, workers(load), load.sessions, None).await.with_context(|| program.log_tail())?;
    let before = program.usage()?;
    let begun = Instant::now();
    post_all(&url, load.messages, workers(load), load.sessions, None).await?;
    let took = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = program.usage()?;
    let pace = Some(load.paced_per_second);
    let latencies = post_all(&url, load.paced_messages, workers(load), load.sessions, pace).await?;
    let peak_kib = program.usage()?.peak_kib;

    let all = 500 + load.messages + load.paced_messages;
    let counted = tokio::task::spawn_blocking(move || world.count(&topic, None, all)).await??;
    ensure!(counted == all, "{counted} webhooks on Kafka for {all} answered 200");
    Ok(Run::new(load.messages, after.cpu_us - before.cpu_us, took, peak_kib, latencies))
}

/// Posts webhooks from `workers` connections; every one must be answered 200. Latencies in microseconds.
async fn post_all(
    url: &str,
    count: usize,
    workers: usize,
    sessions: usize,
    per_second: Option<usize>,
) -> Result<Vec<u64>> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(workers).build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let (client, next, url) = (client.clone(), next.clone(), url.to_owned());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(latencies);
                    }
                    if let Some(rate) = per_second {
                        let due = begun + Duration::from_secs_f64(n as f64 / rate as f64);
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let sent = Instant::now();
                    let request = client
                        .post(format!("{url}/{}", session_id(n % sessions)))
                        .header("x-webhook-signature", WEBHOOK_SECRET)
                        .header("content-type", "application/json")
                        .body(body(n));
                    let answer = request.send().await?;
                    ensure!(answer.status() == 200, "webhook {n} was answered {}", answer.status());
                    answer.bytes().await?;
                    latencies.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(count);
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok(latencies)
}

/// A receipt as Wasender sends it.
fn body(n: usize) -> String {
    format!(
        "{{\"event\":\"messages.update\",\"sessionId\":\"bench-key\",\"timestamp\":1633456789000,\"data\":{{\"key\":{{\"id\":\"3EB0{n:012X}\",\
         \"remoteJid\":\"1555{n:07}@s.whatsapp.net\",\"fromMe\":true}},\"update\":{{\"status\":3}}}}}}"
    )
}
