//! One node of Apache Kafka, broker and controller in one (KRaft).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::guard::Guarded;
use crate::maven::{self, Layout};
use crate::port::Port;
use crate::server::{self, Plan, ServerDir};

const POM: &str = include_str!("../poms/kafka.xml");
const PROPERTIES: &str = include_str!("../config/server.properties");
/// 16 bytes in base64, as Kafka wants a cluster id.
const CLUSTER_ID: &str = "c2x1aWNlLXRlc3RraXQtMQ";
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// A broker of ours, stopped and removed when dropped.
#[derive(Debug)]
pub(crate) struct Kafka {
    /// `None` while it is stopped. Before `dir`, so that it is dead when its files go.
    process: Option<Guarded>,
    plan: Plan,
    dir: ServerDir,
    port: Port,
    _controller_port: Port,
}

impl Kafka {
    /// Starts an empty broker. `settings` are added to (and win over) those of `config/server.properties`.
    pub(crate) fn start(settings: &[(String, String)]) -> Result<Self> {
        let jars = jars()?;
        let (port, controller_port) = (Port::reserve()?, Port::reserve()?);
        let dir = ServerDir::new("kafka")?;
        let file = dir.path().join("server.properties");
        let mut text = PROPERTIES
            .replace("@PORT@", &port.number().to_string())
            .replace("@CONTROLLER_PORT@", &controller_port.number().to_string())
            .replace("@DATA@", &dir.path().join("data").display().to_string());
        for (name, value) in settings {
            text.push_str(&format!("{name}={value}\n"));
        }
        std::fs::write(&file, text)?;

        let file = file.display().to_string();
        let format = java(
            &jars,
            &["-Xmx256m", "-XX:TieredStopAtLevel=1"],
            &["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", &file],
        )?;
        server::run_once("kafka-storage-format", format, &dir)?;
        let command = java(&jars, &["-Xms128m", "-Xmx512m"], &["kafka.Kafka", &file])?;
        let plan = Plan { name: "Kafka", command, port: port.number(), probe };
        let process = Some(server::start(&plan, &dir)?);
        Ok(Self { process, plan, dir, port, _controller_port: controller_port })
    }

    /// `host:port` for `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// Stops it in good order; without effect when stopped.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| server::stop(&mut process))
    }

    /// Kills it with -9; without effect when stopped.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), |mut process| process.kill().map(|_| ()))
    }

    pub(crate) fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "Kafka is running");
        self.process = Some(server::start(&self.plan, &self.dir)?);
        Ok(())
    }
}

fn java(jars: &Path, heap: &[&str], arguments: &[&str]) -> Result<Vec<std::ffi::OsString>> {
    let mut command = vec![maven::java()?.into_os_string()];
    command.extend(heap.iter().map(Into::into));
    command.extend(
        [
            "-XX:+UseSerialGC",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-cp",
        ]
        .iter()
        .map(Into::into),
    );
    command.push(jars.join("*").into_os_string());
    command.extend(arguments.iter().map(Into::into));
    Ok(command)
}

/// The directory with its jars, fetched if need be.
pub(crate) fn jars() -> Result<PathBuf> {
    maven::artifacts("kafka-4.1.0", POM, Layout::Jars)
}

/// Kafka serves once it answers an ApiVersions request (key 18, version 0 of its protocol guide): request
/// processing is switched on last, after the broker has registered with its controller.
fn probe(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PROBE_LIMIT)?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    stream.set_write_timeout(Some(PROBE_LIMIT))?;
    const REQUEST: &[u8] = b"\x00\x00\x00\x0c\x00\x12\x00\x00\x00\x00\x00\x07\x00\x02ok";
    stream.write_all(REQUEST)?;
    let mut head = [0; 10];
    stream.read_exact(&mut head).context("read the answer to ApiVersions")?;
    let correlation = &head[4..8];
    let error = &head[8..10];
    if correlation != [0, 0, 0, 7] || error != [0, 0] {
        bail!("an unexpected answer to ApiVersions");
    }
    Ok(())
}
