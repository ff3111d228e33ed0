//! The binary under test as a process.

use std::net::TcpListener;
use std::path::Path;

use sluice_testkit::{ChildProcess, eventually, http_get};

use super::LIMIT;

/// A process that runs roles.
pub struct Role {
    pub process: ChildProcess,
    pub admin: String,
}

/// An address of this machine that was free a moment ago.
pub(super) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

impl Role {
    /// Starts the binary; with a `log` its output is appended there, else it goes to a private file.
    pub(super) fn start(
        config: &Path,
        settings: &[(String, String)],
        roles: &str,
        log: Option<&Path>,
    ) -> Self {
        let admin = free_address();
        let command = ChildProcess::builder(env!("CARGO_BIN_EXE_sluice"))
            .args(["run", roles, "--config"])
            .arg(config)
            .env("SLUICE__ADMIN__LISTEN", &admin)
            .env("SLUICE__SENDER__STORE__DIRECTORY", config.with_file_name(format!("store-{admin}")));
        let command = settings.iter().fold(command, |command, (name, value)| command.env(name, value));
        let command = match log {
            Some(log) => command.log(log),
            None => command,
        };
        let process = command.spawn().expect("the binary starts");
        Self { process, admin: format!("http://{admin}") }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> &mut Self {
        let url = format!("{}/readyz", self.admin);
        self.process.wait_for_http(LIMIT, &url).await;
        self
    }

    /// What a probe answers now.
    pub async fn probe(&self, path: &str) -> u16 {
        http_get(&format!("{}{path}", self.admin)).await.map_or(0, |(status, _)| status)
    }

    /// Waits until a probe answers this.
    pub async fn probed(&self, path: &str, status: u16) {
        eventually(LIMIT, path, || async {
            let now = self.probe(path).await;
            if now == status { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// The value of a metric's line; zero if there is no such line.
    pub async fn metric(&self, line: &str) -> f64 {
        let text =
            http_get(&format!("{}/metrics", self.admin)).await.map(|(_, text)| text).unwrap_or_default();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).map(str::trim);
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// Partitions it sends for.
    pub async fn owned(&self) -> usize {
        self.metric("sluice_partitions{state=\"owned\"}").await as usize
    }

    /// Waits until the number of partitions it sends for fits.
    pub async fn owns(&self, what: &str, fits: impl Fn(usize) -> bool) {
        eventually(LIMIT, what, || async {
            let owned = self.owned().await;
            if fits(owned) { Ok(()) } else { Err(format!("{owned} owned; {}", self.last_lines())) }
        })
        .await;
    }

    /// The end of its log, for messages.
    pub fn last_lines(&self) -> String {
        let text = self.process.log_text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of a process ends ---\n{}", self.last_lines());
        }
    }
}
