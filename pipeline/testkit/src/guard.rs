//! A process that cannot outlive the process that started it, even one killed with -9.
//!
//! Each runs under a shell (`guard.sh`) that holds the reading end of a pipe. The writing end is ours; the kernel
//! closes it when we end, and the shell then kills its command by pid.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

const SCRIPT: &str = include_str!("guard.sh");
const POLL: Duration = Duration::from_millis(20);

/// What to run.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    /// The program and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Set in its environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Removed from the environment it inherits.
    pub(crate) env_remove: Vec<OsString>,
    /// Its working directory; ours if `None`.
    pub(crate) dir: Option<PathBuf>,
    /// Standard output and error are appended here.
    pub(crate) log: PathBuf,
    /// Removed once the process is dead, if its owner went without stopping it.
    pub(crate) scratch: Option<PathBuf>,
}

/// A running (or ended, not yet dropped) process.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Child,
    /// Its closing tells the guard that we are gone. Not left in `guard`, which would close it to wait.
    _alive: ChildStdin,
    pid: Pid,
    exit_code: Option<i32>,
}

impl Guarded {
    pub(crate) fn spawn(spec: &Spec) -> Result<Self> {
        let program = spec.command.first().context("a command has a program")?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "guard"]).arg(&spec.log);
        command.arg(spec.scratch.as_deref().unwrap_or(Path::new("")));
        command.args(&spec.command);
        for name in &spec.env_remove {
            command.env_remove(name);
        }
        command.envs(spec.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &spec.dir {
            command.current_dir(dir);
        }
        // In a process group of its own a Ctrl-C at the terminal reaches only us.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = command.spawn().context("start sh")?;
        let mut line = String::new();
        let alive = guard.stdin.take().context("standard input of the guard")?;
        let stdout = guard.stdout.take().context("standard output of the guard")?;
        BufReader::new(stdout).read_line(&mut line).context("read the pid from the guard")?;
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} did not start", program.display()))?;
        Ok(Self { guard, _alive: alive, pid, exit_code: None })
    }

    /// Pid of the command itself.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// The exit status, once it has ended; 128 + n when signal n ended it.
    pub(crate) fn exit_code(&mut self) -> Result<Option<i32>> {
        if self.exit_code.is_none()
            && let Some(status) = self.guard.try_wait().context("wait for the guard")?
        {
            self.exit_code = Some(status.code().unwrap_or(128 + 9));
        }
        Ok(self.exit_code)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exit_code()?.is_none() {
            rustix::process::kill_process(self.pid, signal)
                .with_context(|| format!("send {signal:?} to process {}", self.pid.as_raw_nonzero()))?;
        }
        Ok(())
    }

    /// Waits at most `limit`; `None` when it still runs then.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<i32>> {
        let end = Instant::now() + limit;
        loop {
            if let Some(code) = self.exit_code()? {
                return Ok(Some(code));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to stop, and kills it when it has not within `grace`.
    pub(crate) fn stop(&mut self, grace: Duration) -> Result<i32> {
        self.signal(Signal::TERM)?;
        match self.wait(grace)? {
            Some(code) => Ok(code),
            None => self.kill(),
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<i32> {
        self.signal(Signal::KILL)?;
        let status = self.guard.wait().context("wait for the guard")?;
        let code = status.code().unwrap_or(128 + 9);
        self.exit_code = Some(code);
        Ok(code)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            tracing::warn!(pid = self.pid.as_raw_nonzero().get(), "cannot kill a test process: {error:#}");
        }
    }
}
