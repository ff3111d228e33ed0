//! Apicurio: the schema registry of tests, spoken to through its Confluent-compatible API. It keeps everything in
//! memory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::guard::Guarded;
use crate::http;
use crate::maven::{self, Layout};
use crate::port::Port;
use crate::server::{self, Plan, ServerDir};

const POM: &str = include_str!("../poms/apicurio.xml");
const API: &str = "/apis/ccompat/v7";

/// A registry of ours, stopped when dropped.
#[derive(Debug)]
pub(crate) struct Apicurio {
    /// Before `dir`, so that it is dead when its files go.
    _process: Guarded,
    _dir: ServerDir,
    port: Port,
}

impl Apicurio {
    pub(crate) fn start() -> Result<Self> {
        let runner = runner(&unpacked()?)?;
        let port = Port::reserve()?;
        let dir = ServerDir::new("apicurio")?;
        let mut command = vec![maven::java()?.into_os_string()];
        command
            .extend(["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(Into::into));
        command.push("-Dquarkus.http.host=127.0.0.1".into());
        command.push(format!("-Dquarkus.http.port={}", port.number()).into());
        command.push(format!("-Djava.io.tmpdir={}", dir.path().display()).into());
        command.push("-jar".into());
        command.push(runner.into_os_string());

        let plan = Plan { name: "Apicurio", command, port: port.number(), probe };
        let process = server::start(&plan, &dir)?;
        Ok(Self { _process: process, _dir: dir, port })
    }

    /// The base URL of the Confluent-compatible API, without a slash at its end.
    pub(crate) fn base_url(&self) -> String {
        url(self.port.number(), API)
    }
}

fn url(port: u16, path: &str) -> String {
    format!("http://127.0.0.1:{port}{path}")
}

fn probe(port: u16) -> Result<()> {
    let (status, _) = http::get(&url(port, &format!("{API}/subjects")))?;
    ensure!(status == 200, "the registry answers {status}");
    Ok(())
}

/// The directory with its distribution, fetched if need be.
pub(crate) fn unpacked() -> Result<PathBuf> {
    maven::artifacts("apicurio-2.6.13", POM, Layout::Unpacked)
}

/// The jar to start, whose name holds the version.
fn runner(unpacked: &Path) -> Result<PathBuf> {
    std::fs::read_dir(unpacked)
        .with_context(|| format!("read {}", unpacked.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.ends_with("-runner.jar"))
        })
        .with_context(|| format!("no runner jar in {}", unpacked.display()))
}
