//! The commands as a user runs them: what they print, and the exit codes that say what they found.

use std::process::Command;

use serde_json::Value;
use sluice_schemas::topics::Topic;
use sluice_testkit::eventually;

use super::world::{LIMIT, World};

/// The binary with settings that lead to a world's servers.
struct Shell<'a> {
    world: &'a World,
    registry: String,
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

impl Shell<'_> {
    fn sluice(&self, args: &[&str]) -> Answer {
        self.sluice_in(&self.world.store.as_ref().expect("a store").keyspace, args)
    }

    fn sluice_in(&self, keyspace: &str, args: &[&str]) -> Answer {
        let world = self.world;
        let store = world.store.as_ref().expect("a store");
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
            .env("SLUICE__STORE__CONTACT_POINTS", &store.contact_points[0])
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

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_they_found_and_exit_accordingly() {
    let world = World::builder("cli").with_store().start().await;
    let shell = Shell { world: &world, registry: sluice_testkit::registry().await };
    for args in [&["topics", "check"][..], &["schemas", "check"], &["store", "check"]] {
        let answer = shell.sluice(args);
        assert_eq!(answer.code, 0, "{args:?}: {}{}", answer.stdout, answer.stderr);
    }
    let sessions = shell.sluice(&["session", "list", "-o", "json"]).json();
    assert_eq!(sessions[0]["session_id"], "s0");
    assert_eq!(shell.sluice(&["session", "show", "nobody"]).code, 3);
    assert_eq!(shell.sluice(&["send", "--session", "s0"]).code, 2);
    let unknown = shell.sluice(&["send", "--session", "nobody", "--to", "+15551234567", "--text", "x"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert_eq!(shell.sluice_in("never_migrated", &["store", "check"]).code, 4);

    let bad = [9, 9, 9];
    world.write(Topic::WebhooksInbound, 0, Some(b"s0"), Some(&bad)).await;
    let _processor = world.run("processor");
    let letters = eventually(LIMIT, "the broken record is listed", || async {
        let answer = shell.sluice(&["dead-letters", "list", "-o", "json"]);
        let found = (answer.code == 0).then(|| answer.json()).filter(|all| all[0].is_object());
        found.ok_or(answer.stderr)
    })
    .await;
    assert_eq!(letters[0]["reason"], "WRONG_MAGIC");
    let place = letters[0]["place"].as_str().expect("a place");
    let letter = shell.sluice(&["dead-letters", "show", place, "-o", "json"]).json();
    assert_eq!((&letter["value_hex"], &letter["role"]), (&Value::from("090909"), &Value::from("processor")));
    assert_eq!(shell.sluice(&["dead-letters", "show", "0/999999"]).code, 3);
}
