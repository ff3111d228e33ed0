//! A `sluice run sender` process under test, with the numbers it tells.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::process::Program;
use crate::sender::free_port;
use crate::world::World;

/// The process.
pub(crate) struct SluiceSender {
    pub(crate) program: Program,
    url: String,
    /// One for all questions: making one reads every certificate authority there is, which takes the program under
    /// test a good part of a core when it is done fifty times a second.
    client: reqwest::Client,
}

impl SluiceSender {
    /// Starts it; it is not ready yet.
    pub(crate) fn start(world: &World, settings: &[(&str, String)]) -> Result<Self> {
        let port = free_port()?;
        let mut env = world.sluice_env();
        env.push(("SLUICE__ADMIN__LISTEN".into(), format!("127.0.0.1:{port}")));
        let directory = world.store_directory().to_string_lossy().into_owned();
        env.push(("SLUICE__SENDER__STORE__DIRECTORY".into(), directory));
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let program = Program::start("sluice-sender", &["run".into(), "sender".into()], &env)?;
        Ok(Self { program, url: format!("http://127.0.0.1:{port}"), client: reqwest::Client::new() })
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn started(world: &World, settings: &[(&str, String)]) -> Result<Self> {
        let sluice = Self::start(world, settings)?;
        sluice.program.ready(&format!("{}/readyz", sluice.url)).await?;
        Ok(sluice)
    }

    /// The value of one line of its metrics; 0 if it is not there (yet).
    pub(crate) async fn metric(&self, line: &str) -> f64 {
        let Ok(answer) = self.client.get(format!("{}/metrics", self.url)).send().await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).map(str::trim);
        value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// The longest that a partition took to be taken over, seconds, as its log tells.
    pub(crate) fn longest_restore_s(&self) -> f64 {
        let text = self.program.log_text();
        let took = text.split("\"took_ms\":").skip(1).filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<f64>().ok()
        });
        took.fold(0.0, f64::max) / 1_000.0
    }

    /// Waits until a line of its metrics is at least `wanted`; how long that took.
    pub(crate) async fn reaches(&self, line: &str, wanted: f64, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let now = self.metric(line).await;
            if now >= wanted {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > limit {
                let log = self.program.log_tail();
                return Err(anyhow::anyhow!("{line} is {now}, not {wanted}, after {limit:?}")).context(log);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
