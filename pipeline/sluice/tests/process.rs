//! The binary as a process: refuses bad settings, runs, stops on a signal.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::time::Duration;

use sluice_kafka::mock::MockKafka;
use sluice_testkit::ChildProcess;

const LIMIT: Duration = Duration::from_secs(30);
const SLUICE: &str = env!("CARGO_BIN_EXE_sluice");

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn refused(env: (&str, &str)) -> (Option<i32>, String) {
    let output = std::process::Command::new(SLUICE).args(["run", "edge"]).env(env.0, env.1).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_key_before_anything_is_touched() {
    for (name, value, told) in [
        ("SLUICE__EDGE__LISTEM", "1", "listem"),
        ("SLUICE__EDGE__BATCH_LINES_MAX", "0", "edge.batch_lines_max"),
        ("SLUICE__EDGE__LISTEN", "nowhere", "edge.listen"),
        ("SLUICE__CREDENTIALS__KEYS__K1", "short", "k1"),
        ("SLUICE__LOG__FILTER", "=,=", "log.filter"),
    ] {
        let (code, message) = refused((name, value));
        assert_eq!(code, Some(2), "{name}: {message}");
        assert!(message.contains(told), "{name}: {message}");
    }
}

#[test]
fn config_prints_what_is_in_force_and_no_secret() {
    let output = std::process::Command::new(SLUICE)
        .args(["config", "-o", "json"])
        .env("SLUICE__KAFKA__PROPERTIES__SASL_PASSWORD", "s3cret")
        .env("SLUICE__EDGE__BATCH_LINES_MAX", "7")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let settings: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(settings["edge"]["batch_lines_max"], 7);
    assert!(settings["kafka"]["properties"]["sasl.password"].is_string());
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_becomes_ready_and_stops_in_good_order_on_sigterm() {
    let kafka = MockKafka::start().unwrap();
    let admin = format!("127.0.0.1:{}", free_port());
    let mut child = ChildProcess::builder(SLUICE)
        .args(["run", "edge"])
        .env("SLUICE__KAFKA__BOOTSTRAP_SERVERS", &kafka.settings().bootstrap_servers)
        .env("SLUICE__KAFKA__PARTITIONS", kafka.settings().partitions.to_string())
        .env("SLUICE__DEPLOYMENT__CHECK_DURABILITY", "false")
        .env("SLUICE__EDGE__LISTEN", "127.0.0.1:0")
        .env("SLUICE__EDGE__WEBHOOK_LISTEN", "127.0.0.1:0")
        .env("SLUICE__ADMIN__LISTEN", &admin)
        .spawn()
        .unwrap();
    child.wait_for_http(LIMIT, &format!("http://{admin}/readyz")).await;
    let metrics = child.wait_for_http(LIMIT, &format!("http://{admin}/metrics")).await;
    assert!(metrics.contains("sluice_in_doubt_open"), "{metrics}");
    child.sigterm();
    assert_eq!(child.wait_exit(LIMIT).await, 0, "{}", child.log_text());
}
