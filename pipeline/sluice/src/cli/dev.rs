//! `sluice dev`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::INTERRUPTED;
use super::args::{Cli, DevArgs};
use super::failure::Failure;
use crate::dev::demo::{self, Show};
use crate::dev::{self, Dev, Ports, banner};
use crate::lifecycle::{self, Lifecycle};
use crate::settings;
use crate::telemetry::logs;

pub(super) fn run(cli: &Cli, args: &DevArgs) -> Result<ExitCode, Failure> {
    let mut settings = settings::load_over(dev::SETTINGS, cli.config.as_deref(), std::env::vars())?;
    match args.verbose {
        0 => {}
        1 => "info".clone_into(&mut settings.log.filter),
        _ => "info,sluice=debug".clone_into(&mut settings.log.filter),
    }
    logs::init(&settings.log).map_err(|error| Failure::Usage(error.to_string()))?;
    let ports = match (args.port_base, args.ephemeral_ports) {
        (Some(base), _) => Ports::From(base),
        (None, true) => Ports::Any,
        (None, false) => Ports::Usual,
    };
    let split = |list: &String| list.split(',').map(|node| node.trim().to_owned()).collect();
    let options = dev::Options {
        settings,
        kafka: args.kafka.clone(),
        registry: args.registry.clone(),
        scylla: args.scylla.as_ref().map(split),
        ports,
    };
    let demo = args.demo.map(|messages| demo::Options {
        messages,
        seed: args.seed,
        settle_within: args.settle_s.map_or_else(|| demo::settle_within(messages), Duration::from_secs),
    });
    super::runtime()?.block_on(live(options, demo))
}

async fn live(options: dev::Options, demo: Option<demo::Options>) -> Result<ExitCode, Failure> {
    let limit = Duration::from_millis(options.settings.deployment.stop_timeout_ms);
    let mut life = Lifecycle::new(limit);
    let shutdown = life.shutdown();
    let second_signal = tokio::spawn(lifecycle::signals(shutdown.clone()));
    let running = async {
        let mut dev = tokio::select! {
            started = Dev::start(options, &mut life) => started.map_err(taken_port)?,
            () = shutdown.cancelled() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        say(&banner::text(&dev));
        let ended = serve(&dev, life, demo).await;
        dev.leave_kafka_running();
        ended
    };
    tokio::select! {
        ended = running => ended,
        signalled = second_signal => {
            signalled.map_err(anyhow::Error::from)?.map_err(anyhow::Error::from)?;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Runs until it is told to stop, or until the demo is done.
async fn serve(dev: &Dev, life: Lifecycle, demo: Option<demo::Options>) -> Result<ExitCode, Failure> {
    let shutdown = life.shutdown();
    let mut living = std::pin::pin!(life.run());
    let Some(demo) = demo else {
        living.await.map_err(anyhow::Error::from)?;
        return Ok(ExitCode::SUCCESS);
    };
    let report = tokio::select! {
        report = demo::run(dev, demo, Show::for_stderr()) => report?,
        ended = &mut living => {
            ended.map_err(anyhow::Error::from)?;
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    say(&format!("\n{}", report.text));
    shutdown.cancel();
    living.await.map_err(anyhow::Error::from)?;
    if report.findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Failed(anyhow::anyhow!("the books of the demo do not balance")))
}

/// Prints; that nobody reads it (`| head`) is no trouble.
fn say(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

/// A port in use is the commonest trouble: it has a remedy of its own.
fn taken_port(error: anyhow::Error) -> Failure {
    let in_use = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::AddrInUse);
    if in_use {
        return Failure::Usage(format!(
            "{error:#}\nAnother process has this port: stop it, or use others with --port-base N or \
             --ephemeral-ports"
        ));
    }
    Failure::Failed(error)
}
