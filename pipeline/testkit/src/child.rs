//! A program under test as a process of its own: run, watched through its log, signalled, always reaped.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::guard::{Guarded, Spec};
use crate::http::http_get;
use crate::patience::{eventually, patient};
use crate::tail;

/// Settings of Sluice in the environment of the developer would change what a test sees.
const SETTINGS_PREFIX: &str = "SLUICE__";
const LOG_LINES_SHOWN: usize = 40;

/// How to start a [`ChildProcess`].
#[derive(Debug)]
pub struct ChildBuilder {
    program: PathBuf,
    arguments: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    dir: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl ChildBuilder {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable. The environment is ours without `SLUICE__…` variables.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// The working directory; ours if not set.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Appends standard output and error to this file instead of a private one: for a log over restarts.
    #[must_use]
    pub fn log(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(self) -> Result<ChildProcess> {
        anyhow::ensure!(self.program.is_file(), "{} is not a program", self.program.display());
        let private =
            tempfile::Builder::new().prefix("sluice-child-").tempdir().context("make a directory")?;
        let log = self.log.unwrap_or_else(|| private.path().join("log.txt"));
        let mut command = vec![self.program.into_os_string()];
        command.extend(self.arguments);
        let process = Guarded::spawn(&Spec {
            command,
            env: self.env,
            env_remove: std::env::vars_os()
                .map(|(name, _)| name)
                .filter(|name| name.to_string_lossy().starts_with(SETTINGS_PREFIX))
                .collect(),
            dir: self.dir,
            log: log.clone(),
            scratch: Some(private.path().to_owned()),
        })?;
        Ok(ChildProcess { process, log, _private: private })
    }
}

/// A running program. Killed when dropped, and also when this process is killed.
#[derive(Debug)]
pub struct ChildProcess {
    process: Guarded,
    log: PathBuf,
    /// Holds the log when no other place was named.
    _private: TempDir,
}

impl ChildProcess {
    /// How to start `program`; in an integration test, `env!("CARGO_BIN_EXE_sluice")`.
    pub fn builder(program: impl Into<PathBuf>) -> ChildBuilder {
        ChildBuilder { program: program.into(), arguments: Vec::new(), env: Vec::new(), dir: None, log: None }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    /// Where its standard output and error go.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written so far, lossily as UTF-8.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits for a whole line that `wanted` accepts, and returns the first.
    ///
    /// # Panics
    /// When it does not come within `limit`, or the program ends without it: shows the end of its log.
    pub async fn wait_for_line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(limit, "a line of its log", |this| {
            let text = this.log_text();
            // The last line may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let found = whole.lines().find(|line| wanted(line)).map(str::to_owned);
            async move { found }
        })
        .await
    }

    /// Waits until a GET of `url` answers 200, and returns the body.
    ///
    /// # Panics
    /// When it does not within `limit`, or the program ends: shows the end of its log.
    pub async fn wait_for_http(&mut self, limit: Duration, url: &str) -> String {
        self.wait(limit, url, |_| async move {
            http_get(url).await.ok().and_then(|(status, body)| (status == 200).then_some(body))
        })
        .await
    }

    async fn wait<T, F>(&mut self, limit: Duration, what: &str, mut probe: impl FnMut(&Self) -> F) -> T
    where
        F: Future<Output = Option<T>>,
    {
        let limit = patient(limit);
        let end = std::time::Instant::now() + limit;
        loop {
            // Asked before the probe: what it wrote before it ended is still seen.
            let ended = self.exit_code();
            if let Some(value) = probe(self).await {
                return value;
            }
            let log = tail(&self.log, LOG_LINES_SHOWN);
            if let Some(code) = ended {
                panic!("waiting for {what}: ended with status {code}. Its log ends:\n{log}");
            }
            assert!(std::time::Instant::now() < end, "{what}: not within {limit:?}. Its log ends:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The exit status once it has ended; 128 + n when signal n ended it.
    ///
    /// # Panics
    /// When its state cannot be asked.
    pub fn exit_code(&mut self) -> Option<i32> {
        self.process.exit_code().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits for its end and returns the exit status.
    ///
    /// # Panics
    /// When it still runs after `limit`: shows the end of its log.
    pub async fn wait_exit(&mut self, limit: Duration) -> i32 {
        let log = self.log.clone();
        let process = &mut self.process;
        eventually(limit, "the end of the program", || {
            let code = process.exit_code();
            let log = &log;
            async move {
                match code {
                    Ok(Some(code)) => Ok(code),
                    Ok(None) => Err(format!("it runs. Its log ends:\n{}", tail(log, LOG_LINES_SHOWN))),
                    Err(error) => Err(format!("{error:#}")),
                }
            }
        })
        .await
    }

    /// Kills it with -9 and returns when it is gone.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn kill9(&mut self) {
        self.process.kill().unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Asks it to stop (SIGTERM) and returns at once.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn sigterm(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Freezes it (SIGSTOP), as a long pause of its machine would.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn sigstop(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Thaws it (SIGCONT).
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn sigcont(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        self.process.signal(signal).unwrap_or_else(|error| panic!("{error:#}"));
    }
}
