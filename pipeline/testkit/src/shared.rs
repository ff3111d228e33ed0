//! The servers that all tests of a run share, and where a test finds them: passed in by `cargo xtask test`, kept
//! running by `cargo xtask servers up`, or started by this process for itself.

use std::fmt::Display;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::apicurio::Apicurio;
use crate::cache;
use crate::cassandra::Cassandra;
use crate::kafka::Kafka;

/// Environment variable with the `bootstrap.servers` of a broker to test with.
pub const KAFKA: &str = "SLUICE_TEST_KAFKA";
/// Environment variable with the `host:port` of a CQL server to test with.
pub const CQL: &str = "SLUICE_TEST_CQL";
/// Environment variable with the base URL (with its path) of a schema registry to test with.
pub const REGISTRY: &str = "SLUICE_TEST_REGISTRY";

const STOP_POLL: Duration = Duration::from_millis(50);

/// A broker for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaAddress {
    bootstrap: String,
}

impl KafkaAddress {
    /// The value for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Display for KafkaAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.bootstrap)
    }
}

/// The shared Kafka broker. Topics are not made by themselves; use names of your own ([`crate::EphemeralPrefix`]).
///
/// # Panics
/// When there is none and it cannot be started; the message says why, and what to install.
pub async fn kafka() -> KafkaAddress {
    // Never dropped: when this process ends, its guard kills the server.
    static STARTED: OnceCell<(String, Option<Kafka>)> = OnceCell::const_new();
    let bootstrap = shared(
        &STARTED,
        KAFKA,
        |a| &a.kafka,
        || {
            let kafka = Kafka::start(&[])?;
            Ok((kafka.bootstrap(), kafka))
        },
    )
    .await;
    KafkaAddress { bootstrap }
}

/// `host:port` of the shared CQL server. Use a keyspace of your own ([`crate::unique`]).
///
/// # Panics
/// When there is none and it cannot be started; the message says why, and what to install.
pub async fn cql() -> String {
    static STARTED: OnceCell<(String, Option<Cassandra>)> = OnceCell::const_new();
    shared(
        &STARTED,
        CQL,
        |a| &a.cql,
        || {
            let cassandra = Cassandra::start()?;
            Ok((cassandra.address(), cassandra))
        },
    )
    .await
}

/// Base URL of the shared schema registry, ending in `/apis/ccompat/v7`. Use subjects of your own.
///
/// # Panics
/// When there is none and it cannot be started; the message says why, and what to install.
pub async fn registry() -> String {
    static STARTED: OnceCell<(String, Option<Apicurio>)> = OnceCell::const_new();
    shared(
        &STARTED,
        REGISTRY,
        |a| &a.registry,
        || {
            let registry = Apicurio::start()?;
            Ok((registry.base_url(), registry))
        },
    )
    .await
}

async fn shared<S: Send + 'static>(
    started: &'static OnceCell<(String, Option<S>)>,
    variable: &'static str,
    running: fn(&Addresses) -> &String,
    start: fn() -> Result<(String, S)>,
) -> String {
    let found = started
        .get_or_try_init(|| async {
            if let Ok(address) = std::env::var(variable)
                && !address.is_empty()
            {
                return Ok((address, None));
            }
            tokio::task::spawn_blocking(move || {
                if let Some(standing) = StandingServers::find()? {
                    return Ok((running(&standing.addresses).clone(), None));
                }
                start().map(|(address, server)| (address, Some(server)))
            })
            .await?
        })
        .await;
    match found {
        Ok((address, _)) => address.clone(),
        Err(error) => panic!("a test server is not available: {error:#}"),
    }
}

/// Where servers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The `bootstrap.servers` of Kafka.
    pub kafka: String,
    /// `host:port` of the CQL server.
    pub cql: String,
    /// Base URL of the schema registry.
    pub registry: String,
}

impl Addresses {
    /// As environment variables that the testkit, in another process, understands.
    pub fn env(&self) -> [(&'static str, &str); 3] {
        [(KAFKA, &self.kafka), (CQL, &self.cql), (REGISTRY, &self.registry)]
    }

    /// The addresses that the environment names, if it names all.
    pub fn from_env() -> Option<Self> {
        let value = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self { kafka: value(KAFKA)?, cql: value(CQL)?, registry: value(REGISTRY)? })
    }
}

/// All three servers, owned by this process and stopped when dropped.
#[derive(Debug)]
pub struct Servers {
    kafka: Kafka,
    cassandra: Cassandra,
    registry: Apicurio,
}

impl Servers {
    /// Fetches what they need into the cache, so that a start later needs no network.
    ///
    /// # Errors
    /// When one cannot be fetched; the message says why, and what to install.
    pub fn fetch() -> Result<()> {
        crate::kafka::jars()?;
        crate::cassandra::jars()?;
        crate::apicurio::unpacked()?;
        Ok(())
    }

    /// Starts them, beside each other, and returns when all serve.
    ///
    /// # Errors
    /// When one cannot be fetched or started; the message says why, and what to install.
    pub fn start() -> Result<Self> {
        std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start(&[]));
            let cassandra = scope.spawn(Cassandra::start);
            let registry = scope.spawn(Apicurio::start);
            let died = || anyhow::anyhow!("the thread that starts a server died");
            let kafka = kafka.join().map_err(|_| died())?;
            let cassandra = cassandra.join().map_err(|_| died())?;
            let registry = registry.join().map_err(|_| died())?;
            Ok(Self { kafka: kafka?, cassandra: cassandra?, registry: registry? })
        })
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            kafka: self.kafka.bootstrap(),
            cql: self.cassandra.address(),
            registry: self.registry.base_url(),
        }
    }
}

/// Servers kept running by another process (`cargo xtask servers up`), as its state file tells.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StandingServers {
    /// The process that owns them.
    pub pid: u32,
    /// Where they are.
    pub addresses: Addresses,
}

impl StandingServers {
    fn file() -> Result<PathBuf> {
        Ok(cache::dir()?.join("servers.json"))
    }

    /// The standing servers, if their owner lives.
    ///
    /// # Errors
    /// When the state file cannot be read.
    pub fn find() -> Result<Option<Self>> {
        let file = Self::file()?;
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let standing: Self = serde_json::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        Ok(standing.lives().then_some(standing))
    }

    /// Whether the owner runs and the servers answer: a pid alone may have been taken by another process since.
    fn lives(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok())
            && TcpStream::connect(&self.addresses.kafka).is_ok()
            && TcpStream::connect(&self.addresses.cql).is_ok()
    }

    /// Tells other processes of servers that this process owns.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn announce(addresses: Addresses) -> Result<()> {
        let file = Self::file()?;
        let dir = file.parent().context("the state file has a directory")?;
        let mut new = tempfile::NamedTempFile::new_in(dir).context("write the state of the servers")?;
        serde_json::to_writer(&mut new, &Self { pid: std::process::id(), addresses })?;
        new.persist(&file).with_context(|| format!("write {}", file.display()))?;
        Ok(())
    }

    /// Stops them: ends their owner, whose guards kill them, and waits until they are gone.
    ///
    /// # Errors
    /// When the owner cannot be told, or they are not gone within `limit`.
    pub fn stop(&self, limit: Duration) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("the pid of the owner")?;
        kill_process(pid, Signal::TERM).with_context(|| format!("stop process {}", self.pid))?;
        let end = Instant::now() + limit;
        while TcpStream::connect(&self.addresses.kafka).is_ok()
            || TcpStream::connect(&self.addresses.cql).is_ok()
        {
            anyhow::ensure!(Instant::now() < end, "the servers of process {} are not gone", self.pid);
            std::thread::sleep(STOP_POLL);
        }
        Self::forget()
    }

    /// Forgets them.
    ///
    /// # Errors
    /// When the state file cannot be removed.
    pub fn forget() -> Result<()> {
        match std::fs::remove_file(Self::file()?) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("forget servers")
            }
            _ => Ok(()),
        }
    }
}
