//! Stores to test, and records to put into them.

use std::time::{SystemTime, UNIX_EPOCH};

use sluice_schemas::{MessageStatus, Source, Status};
use sluice_scylla::{MemorySettings, MessageStore, Settings};
use sluice_testkit as testkit;
use tokio::sync::OnceCell;

pub(crate) const DAY_MS: i64 = 24 * 3_600_000;

pub(crate) fn memory() -> MessageStore {
    MessageStore::memory(&MemorySettings::default()).unwrap()
}

/// How to reach the server, with a keyspace of this process.
pub(crate) async fn settings() -> Settings {
    static KEYSPACE: OnceCell<String> = OnceCell::const_new();
    let address = testkit::cql().await;
    let keyspace = KEYSPACE.get_or_init(|| async { testkit::unique("laws") }).await.clone();
    Settings {
        contact_points: vec![address],
        keyspace,
        replication_factor: 1,
        // A test machine is busier than a cluster; the law is in the rows, not in the time.
        request_timeout_ms: 30_000,
        connect_timeout_ms: 30_000,
        ..Settings::default()
    }
}

/// A store on the server, in a keyspace that is migrated once for all laws.
pub(crate) async fn cql() -> MessageStore {
    static MIGRATED: OnceCell<()> = OnceCell::const_new();
    let settings = settings().await;
    MIGRATED.get_or_init(|| async { drop(sluice_scylla::migrate(&settings).await.unwrap()) }).await;
    MessageStore::connect(&settings).await.unwrap()
}

/// Now, milliseconds.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// A session of one's own on the shared store.
pub(crate) fn session() -> String {
    testkit::unique("session")
}

/// The message of a session with this key.
pub(crate) fn message_id(session_id: &str, key: &str) -> String {
    sluice_schemas::ids::message_id(session_id, key).to_string()
}

/// A fact of the sender about a message.
pub(crate) fn fact(session_id: &str, key: &str, kind: Status, at_ms: i64) -> MessageStatus {
    MessageStatus {
        event_id: format!("{session_id}/{key}/{}/{at_ms}", kind.as_str()),
        message_id: Some(message_id(session_id, key)),
        session_id: session_id.to_owned(),
        status: kind,
        source: Source::Sender,
        occurred_at: at_ms,
        observed_at: at_ms,
        ..MessageStatus::default()
    }
}

/// A receipt that names its message by its id in WhatsApp only.
pub(crate) fn receipt(session_id: &str, whatsapp_id: &str, kind: Status, at_ms: i64) -> MessageStatus {
    MessageStatus {
        event_id: format!("{session_id}/{whatsapp_id}/{}/{at_ms}", kind.as_str()),
        message_id: None,
        source: Source::Webhook,
        whatsapp_message_id: Some(whatsapp_id.to_owned()),
        ..fact(session_id, whatsapp_id, kind, at_ms)
    }
}

/// A submission that tells the provider's id.
pub(crate) fn submitted(session_id: &str, key: &str, provider_id: &str, at_ms: i64) -> MessageStatus {
    MessageStatus {
        provider_message_id: Some(provider_id.to_owned()),
        claim_epoch: Some(7),
        claim_seq: Some(1),
        attempt: Some(1),
        ..fact(session_id, key, Status::Submitted, at_ms)
    }
}

/// What a webhook tells that ties a provider's id to WhatsApp's.
pub(crate) fn bridge(session_id: &str, provider_id: &str, whatsapp_id: &str, at_ms: i64) -> MessageStatus {
    MessageStatus {
        provider_message_id: Some(provider_id.to_owned()),
        ..receipt(session_id, whatsapp_id, Status::ProviderId, at_ms)
    }
}
