//! A program under test: a child process and what the kernel says it used.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// A child process, killed when dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

/// What a process has used since it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system CPU time, microseconds.
    pub(crate) cpu_us: u64,
    /// Most memory resident at once, KiB.
    pub(crate) peak_kib: u64,
}

impl Program {
    /// Starts this very binary with `args` and `env`.
    pub(crate) fn start(name: &str, args: &[String], env: &[(String, String)]) -> Result<Self> {
        let log = std::env::temp_dir().join(format!("sluice-bench-{name}-{}.log", std::process::id()));
        let file = std::fs::File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .args(args)
            .envs(env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .context("start the program under test")?;
        Ok(Self { child, log })
    }

    /// What it has used so far. CPU time is counted in the kernel's ticks (usually 10 ms).
    pub(crate) fn usage(&self) -> Result<Usage> {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the program has ended")?;
        // Fields after the command's closing parenthesis; utime and stime are the 14th and 15th of all (proc(5)).
        let rest = stat.rsplit_once(')').context("stat")?.1;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let per_second = rustix::param::clock_ticks_per_second();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let peak_kib = peak.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(Usage { cpu_us: ticks * 1_000_000 / per_second, peak_kib })
    }

    /// Its log so far.
    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for errors.
    pub(crate) fn log_tail(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Memory resident now, KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }

    /// Ends it without notice.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop (SIGTERM), and waits until it has.
    pub(crate) async fn stop(&mut self, limit: Duration) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("pid")?, rustix::process::Signal::TERM)?;
        let end = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(Instant::now() < end, "it did not stop in {limit:?}:\n{}", self.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Waits until `url` answers 200.
    pub(crate) async fn ready(&self, url: &str) -> Result<()> {
        let client = reqwest::Client::new();
        for _ in 0..600 {
            if let Ok(answer) = client.get(url).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{url} did not get ready; its log ends with:\n{}", self.log_tail())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.log);
    }
}
