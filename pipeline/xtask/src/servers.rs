//! Test servers by hand. A process of its own (`hold`) owns them until it is asked to stop.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use sluice_testkit::{Addresses, Servers, StandingServers, cache};

const UP_MAX: Duration = Duration::from_secs(900);
const DOWN_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Action {
    /// Start them, unless they run, and print their addresses as environment variables.
    Up,
    /// Stop them.
    Down,
    /// Own them: what `up` starts.
    #[command(hide = true)]
    Hold,
}

pub(crate) fn run(action: Action) -> Result<()> {
    match action {
        Action::Up => up(),
        Action::Down => down(),
        Action::Hold => hold(),
    }
}

fn up() -> Result<()> {
    // Another `up` may be at it: then its servers are ours too.
    let _one_at_a_time = cache::lock(&cache::dir()?.join("servers.lock"))?;
    if let Some(standing) = StandingServers::find()? {
        print(&standing.addresses);
        return Ok(());
    }
    let log_path = cache::dir()?.join("servers.log");
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&log_path)
        .with_context(|| format!("write {}", log_path.display()))?;
    let mut holder = Command::new(std::env::current_exe().context("path of this program")?)
        .args(["servers", "hold"])
        // Not in the terminal's group: it stays when the shell goes.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("start the process that owns the servers")?;
    let end = Instant::now() + UP_MAX;
    loop {
        if let Some(standing) = StandingServers::find()? {
            print(&standing.addresses);
            return Ok(());
        }
        if holder.try_wait()?.is_some() {
            bail!("{}", std::fs::read_to_string(&log_path).unwrap_or_default().trim_end());
        }
        if Instant::now() >= end {
            holder.kill()?;
            bail!("the servers are not up within {UP_MAX:?}; see {}", log_path.display());
        }
        std::thread::sleep(POLL);
    }
}

fn print(addresses: &Addresses) {
    for (name, value) in addresses.env() {
        println!("{name}={value}");
    }
}

fn down() -> Result<()> {
    let Some(standing) = StandingServers::find()? else {
        println!("no servers are up");
        return StandingServers::forget();
    };
    standing.stop(DOWN_MAX)?;
    println!("the servers are down");
    Ok(())
}

/// Keeps the servers until killed; their guards then kill them.
fn hold() -> Result<()> {
    let servers = Servers::start()?;
    StandingServers::announce(servers.addresses())?;
    loop {
        std::thread::park();
    }
}
