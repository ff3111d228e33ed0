//! Laws of migrations and of starting; on the server only.

use sluice_scylla::{Error, MessageStore, Settings};
use sluice_testkit as testkit;

use crate::world::settings;

#[tokio::test]
async fn an_unmigrated_keyspace_is_refused_with_the_remedy() {
    let settings = Settings { keyspace: testkit::unique("bare"), ..settings().await };
    let error = MessageStore::connect(&settings).await.unwrap_err();
    assert!(matches!(error, Error::NotMigrated { .. }), "{error}");
    assert!(error.to_string().contains("sluice store migrate"), "{error}");
    assert!(!error.is_transient());
    assert!(matches!(sluice_scylla::check(&settings).await, Err(Error::NotMigrated { .. })));

    let first = sluice_scylla::migrate(&settings).await.unwrap();
    assert!(!first.is_empty() && first.iter().all(|migration| migration.applied_now));
    let second = sluice_scylla::migrate(&settings).await.unwrap();
    assert_eq!(second.len(), first.len());
    assert!(second.iter().all(|migration| !migration.applied_now), "the second run does nothing");
    sluice_scylla::check(&settings).await.unwrap();
    MessageStore::connect(&settings).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_not_there_is_a_transient_error() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let settings =
        Settings { contact_points: vec![address], connect_timeout_ms: 1_000, ..Settings::default() };
    let error = MessageStore::connect(&settings).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_datacenter_that_is_not_there_is_named() {
    let settings = Settings { datacenter: "elsewhere".to_owned(), ..settings().await };
    let error = MessageStore::connect(&settings).await.unwrap_err();
    assert!(matches!(error, Error::Settings { setting: "datacenter", .. }), "{error}");
    assert!(error.to_string().contains("datacenter1"), "{error}");
}
