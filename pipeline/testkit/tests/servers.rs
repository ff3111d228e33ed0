//! The testkit on real servers.

use std::time::Duration;

use sluice_testkit::{self as testkit, OwnKafka, Servers, eventually};

fn is_alive(pid: u32) -> bool {
    // A zombie still has a pid, but it is not alive.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

#[tokio::test]
async fn a_shared_server_is_found_by_every_test_at_one_address() {
    let (one, other) = tokio::join!(testkit::kafka(), testkit::kafka());
    assert_eq!(one, other);
    tokio::net::TcpStream::connect(one.bootstrap()).await.unwrap();
    tokio::net::TcpStream::connect(testkit::cql().await).await.unwrap();
    let (status, body) = testkit::http_get(&format!("{}/subjects", testkit::registry().await)).await.unwrap();
    assert_eq!((status, body.starts_with('[')), (200, true));
}

#[tokio::test]
async fn a_broker_of_ones_own_is_stopped_by_pid_and_comes_back_on_its_port() {
    let kafka = OwnKafka::start().await;
    let (pid, dir) = (kafka.pid().unwrap(), kafka.dir());
    assert!(is_alive(pid));
    kafka.stop().await;
    assert!(!is_alive(pid));
    assert!(tokio::net::TcpStream::connect(kafka.bootstrap()).await.is_err());
    kafka.start_again().await;
    tokio::net::TcpStream::connect(kafka.bootstrap()).await.unwrap();
    let pid = kafka.pid().unwrap();
    kafka.kill().await;
    assert!(!is_alive(pid));
    drop(kafka);
    assert!(!dir.exists());
}

#[tokio::test]
async fn two_sets_of_servers_run_beside_each_other() {
    let (one, other) = tokio::join!(
        tokio::task::spawn_blocking(Servers::start),
        tokio::task::spawn_blocking(Servers::start)
    );
    let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
    let (a, b) = (one.addresses(), other.addresses());
    assert!(a.kafka != b.kafka && a.cql != b.cql && a.registry != b.registry);
    tokio::task::spawn_blocking(move || drop((one, other))).await.unwrap();
    eventually(Duration::from_secs(10), "the ports close", || async {
        tokio::net::TcpStream::connect(&a.kafka).await.is_err()
            && tokio::net::TcpStream::connect(&b.cql).await.is_err()
    })
    .await;
}
