//! What the servers have in common: a private directory, a guarded process, readiness.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::guard::{Guarded, Spec};
use crate::patience::patient;
use crate::tail;

const READY_MAX: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(50);
const STOP_GRACE: Duration = Duration::from_secs(30);
const LOG_LINES_SHOWN: usize = 40;

/// Keeps the directories of servers (settings, data, log) after they stop, when set.
const KEEP: &str = "SLUICE_TEST_KEEP";

/// A private directory of a server, removed with it unless `SLUICE_TEST_KEEP` is set.
#[derive(Debug)]
pub(crate) struct ServerDir {
    path: PathBuf,
    /// Removes the directory when dropped; `None` when it is kept.
    remover: Option<TempDir>,
}

impl ServerDir {
    pub(crate) fn new(kind: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("sluice-{kind}-"))
            .tempdir()
            .context("make a directory for a server")?;
        if std::env::var_os(KEEP).is_some() {
            let path = dir.keep();
            eprintln!("sluice-testkit: {kind} in {}", path.display());
            Ok(Self { path, remover: None })
        } else {
            Ok(Self { path: dir.path().to_owned(), remover: Some(dir) })
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    fn scratch(&self) -> Option<PathBuf> {
        self.remover.as_ref().map(|_| self.path.clone())
    }
}

/// Asks a server once whether it serves; an error says why not yet.
pub(crate) type Probe = fn(port: u16) -> Result<()>;

/// What a server is started with, also the second time.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Name for messages.
    pub(crate) name: &'static str,
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// Port that the probe asks.
    pub(crate) port: u16,
    /// Whether it serves.
    pub(crate) probe: Probe,
}

/// Starts `plan` in `dir` and waits until it serves.
pub(crate) fn start(plan: &Plan, dir: &ServerDir) -> Result<Guarded> {
    let mut process = Guarded::spawn(&Spec {
        command: plan.command.clone(),
        dir: Some(dir.path().to_owned()),
        log: dir.log(),
        scratch: dir.scratch(),
        ..Spec::default()
    })?;
    let end = Instant::now() + patient(READY_MAX);
    loop {
        let Err(not_ready) = (plan.probe)(plan.port) else { return Ok(process) };
        let log = || tail(&dir.log(), LOG_LINES_SHOWN);
        if let Some(code) = process.exit_code()? {
            bail!("{} ended with status {code} while starting. Its log ends:\n{}", plan.name, log());
        }
        if Instant::now() >= end {
            bail!("{} is not ready: {not_ready:#}. Its log ends:\n{}", plan.name, log());
        }
        std::thread::sleep(READY_POLL);
    }
}

/// Stops a server, first by asking.
pub(crate) fn stop(process: &mut Guarded) -> Result<()> {
    process.stop(STOP_GRACE).map(|_| ())
}

/// Runs a short-lived command of a server (formatting its storage) to its end.
pub(crate) fn run_once(name: &str, command: Vec<OsString>, dir: &ServerDir) -> Result<()> {
    let log = dir.path().join(format!("{name}.txt"));
    let mut process = Guarded::spawn(&Spec {
        command,
        dir: Some(dir.path().to_owned()),
        log: log.clone(),
        scratch: dir.scratch(),
        ..Spec::default()
    })?;
    match process.wait(patient(READY_MAX))? {
        Some(0) => Ok(()),
        Some(code) => bail!("{name} ended with status {code}:\n{}", tail(&log, LOG_LINES_SHOWN)),
        None => bail!("{name} does not end:\n{}", tail(&log, LOG_LINES_SHOWN)),
    }
}
