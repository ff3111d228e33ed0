//! A batch of facts into the store, and the states they come to.

use std::collections::BTreeSet;

use sluice_schemas::{MessageState, MessageStatus};
use sluice_scylla::{Arrived, Error, MessageStore, Recorded};

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// States to publish: every message whose facts may have changed, read back after the writes.
    pub(crate) states: Vec<MessageState>,
    /// Receipts kept until their message is known.
    pub(crate) unmatched: u64,
    /// Receipts kept earlier whose message is known now.
    pub(crate) joined: u64,
    /// Facts that change nothing, for example because they are too old.
    pub(crate) ignored: u64,
}

/// Writes `facts` blind, then reads back each message once, however many of its facts are in the batch.
///
/// May be called again with the same batch: every write is idempotent.
///
/// # Errors
/// Of the store. Some of the batch may then have been written.
pub(crate) async fn settle(store: &MessageStore, facts: &[Arrived<MessageStatus>]) -> Result<Settled, Error> {
    let mut settled = Settled::default();
    let mut changed = BTreeSet::new();
    for recorded in store.record_all(facts).await? {
        match recorded {
            Recorded::Message { message_id, joined } => {
                settled.joined += joined as u64;
                changed.insert(message_id);
            }
            Recorded::Unmatched => settled.unmatched += 1,
            Recorded::Ignored(_) => settled.ignored += 1,
        }
    }
    let changed: Vec<String> = changed.into_iter().collect();
    settled.states = store.messages_by_id(&changed).await?;
    Ok(settled)
}
