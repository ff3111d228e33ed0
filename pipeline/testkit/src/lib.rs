//! Real Kafka, a real CQL store and a real schema registry for tests, and what tests need around them.
//!
//! ```no_run
//! # async fn test() {
//! use sluice_testkit as testkit;
//! use std::time::Duration;
//!
//! let kafka = testkit::kafka().await; // shared by all tests of the run
//! let topics = testkit::EphemeralPrefix::new("fence");
//! let mut sluice = testkit::ChildProcess::builder("target/debug/sluice")
//!     .args(["run", "sender"])
//!     .env("SLUICE__KAFKA__BOOTSTRAP", kafka.bootstrap())
//!     .env("SLUICE__TOPICS__PREFIX", topics.as_str())
//!     .spawn()
//!     .unwrap();
//! sluice.wait_for_line(Duration::from_secs(30), |line| line.contains("ready")).await;
//! sluice.kill9();
//! # }
//! ```
//!
//! No containers: the servers are jars that Maven fetches into the cache (`$SLUICE_CACHE`, else `~/.cache/sluice`)
//! once. A server runs on a free port of 127.0.0.1 in a directory of its own, is stopped by pid, and dies with the
//! process that started it, even one killed with -9.
//!
//! `SLUICE_TEST_PATIENCE=3` triples every time limit; `SLUICE_TEST_KEEP=1` keeps the directories of servers.

mod apicurio;
pub mod cache;
mod cassandra;
mod child;
mod guard;
mod http;
mod kafka;
mod maven;
mod names;
mod own;
mod patience;
mod port;
mod server;
mod shared;

pub use child::{ChildBuilder, ChildProcess};
pub use http::http_get;
pub use maven::program;
pub use names::{EphemeralPrefix, unique};
pub use own::OwnKafka;
pub use patience::{Answer, PATIENCE, eventually, patient};
pub use port::Port;
pub use shared::{
    Addresses, CQL, KAFKA, KafkaAddress, REGISTRY, Servers, StandingServers, cql, kafka, registry,
};

/// The last `lines` lines of a log, or why it cannot be read.
fn tail(log: &std::path::Path, lines: usize) -> String {
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<_> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", log.display()),
    }
}
