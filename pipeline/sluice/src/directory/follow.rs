//! Keeps the directory equal to its topics.

use sluice_kafka::table::{self, Table};
use sluice_schemas::codec::Record;
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{Account, Session, SessionStatus};
use tokio_util::sync::CancellationToken;

use super::Directory;
use crate::lifecycle::{Ending, Latch};

/// What following needs.
#[derive(Debug)]
pub struct Source {
    /// How to reach Kafka.
    pub kafka: sluice_kafka::settings::Settings,
    /// Names of the topics.
    pub names: Names,
    /// Their codecs.
    pub codecs: sluice_kafka::registry::Codecs,
    /// Set when the topics have been read to their ends.
    pub loaded: Latch,
}

impl Source {
    fn table<T: Record>(&self, topic: Topic) -> anyhow::Result<Table<T>> {
        Ok(Table::follow(&self.kafka, self.names.get(topic), self.codecs.codec(topic))?)
    }
}

/// Follows `accounts`, `sessions` and `sessions.status` until `shutdown`.
///
/// # Errors
/// If a topic cannot be followed any more.
pub async fn follow(directory: Directory, source: Source, shutdown: CancellationToken) -> Ending {
    let mut accounts = source.table::<Account>(Topic::Accounts)?;
    let mut sessions = source.table::<Session>(Topic::Sessions)?;
    let mut statuses = source.table::<SessionStatus>(Topic::SessionsStatus)?;
    // Tables still to be read to their ends.
    let mut behind = 3;
    loop {
        let is_ready = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            event = accounts.recv() => apply("account", event, &directory, |directory, change| {
                directory.apply_account(&change.key, change.value);
            })?,
            event = sessions.recv() => apply("session", event, &directory, |directory, change| {
                directory.apply_session(&change.key, change.value);
            })?,
            event = statuses.recv() => apply("status", event, &directory, |directory, change| {
                directory.apply_status(&change.key, change.value);
            })?,
        };
        if is_ready {
            behind -= 1;
            if behind == 0 {
                directory.set_loaded();
                source.loaded.set(true);
            }
        }
    }
}

/// Applies an event; true if the table has now been read to its end.
fn apply<T>(
    kind: &'static str,
    event: Option<table::Event<T>>,
    directory: &Directory,
    put: impl Fn(&Directory, table::Change<T>),
) -> anyhow::Result<bool> {
    match event {
        None => anyhow::bail!("the table of {kind} records has ended"),
        Some(table::Event::Ready) => return Ok(true),
        Some(table::Event::Changes(changes)) => changes.into_iter().for_each(|change| put(directory, change)),
        Some(table::Event::Unusable { record, flaw }) => {
            let (partition, offset) = (record.partition.to_string(), record.offset);
            tracing::error!(kind, partition, offset, %flaw, "directory record cannot be used");
            directory.unreadable(kind);
        }
        Some(table::Event::Error(error)) => tracing::warn!(kind, %error, "directory is behind"),
    }
    Ok(false)
}
