//! Commands as a user runs them.

use std::process::Command;

use serde_json::Value;

use super::World;

/// The binary with settings that lead to a world's servers.
pub struct Shell<'a> {
    world: &'a World,
    registry: String,
}

/// What a command answered.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl<'a> Shell<'a> {
    /// A shell whose commands work on this world.
    pub async fn of(world: &'a World) -> Self {
        Self { world, registry: sluice_testkit::registry().await }
    }

    /// Runs a command.
    pub fn sluice(&self, args: &[&str]) -> Answer {
        let keyspace = self.world.store.as_ref().map_or("none", |store| store.keyspace.as_str());
        self.sluice_in(keyspace, args)
    }

    /// Runs a command that must end well, and reads its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let answer = self.sluice(&[args, &["-o", "json"]].concat());
        assert_eq!(answer.code, 0, "{args:?}: {}{}", answer.stdout, answer.stderr);
        answer.json()
    }

    pub fn sluice_in(&self, keyspace: &str, args: &[&str]) -> Answer {
        let world = self.world;
        let contact = world.store.as_ref().map_or("127.0.0.1:9", |store| store.contact_points[0].as_str());
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(args)
            .env("SLUICE__KAFKA__BOOTSTRAP_SERVERS", &world.kafka.bootstrap_servers)
            .env("SLUICE__KAFKA__TOPIC_PREFIX", &world.kafka.topic_prefix)
            .env("SLUICE__KAFKA__GROUP_PREFIX", &world.kafka.group_prefix)
            .env("SLUICE__KAFKA__PARTITIONS", "8")
            .env("SLUICE__KAFKA__REPLICATION_FACTOR", "1")
            .env("SLUICE__KAFKA__MIN_INSYNC_REPLICAS", "1")
            .env("SLUICE__DEPLOYMENT__CHECK_DURABILITY", "false")
            .env("SLUICE__REGISTRY__URL", &self.registry)
            .env("SLUICE__STORE__CONTACT_POINTS", contact)
            .env("SLUICE__STORE__KEYSPACE", keyspace)
            .env("SLUICE__STORE__CONSISTENCY", "LOCAL_ONE")
            .env("SLUICE__STORE__CONNECT_TIMEOUT_MS", "60000")
            .env("SLUICE__STORE__REQUEST_TIMEOUT_MS", "60000")
            .output()
            .expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer {
            code: output.status.code().expect("an exit code"),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}
