//! Writing facts, and joining receipts that arrive before it is known whose they are.
//!
//! A receipt names its message by a provider's id only. The fact that tells whose that id is (SUBMITTED,
//! PROVIDER_ID) may come later, through another reader. So both sides *write first, then read the other*: the
//! receipt is kept under its id and then the id looked up; the id is written and then the kept receipts read.
//! Whichever write comes second is followed by a read that sees the first.

use std::collections::HashSet;

use futures::future::{try_join, try_join_all};
use sluice_core::fold::{FACTS_MAX, Fact};
use sluice_schemas::MessageStatus;

use crate::error::Error;
use crate::tables::{IdKey, Tables, Write};
use crate::timeline::{Entry, Position, Timeline};

/// Most receipts kept under one id that are read when its message becomes known: the receipts of all members
/// of the largest group.
const UNMATCHED_MAX: usize = FACTS_MAX;

/// A record with the time it reached its topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrived<T> {
    /// The record.
    pub record: T,
    /// Log append time of the record, milliseconds. From the log, not from a clock, so that a replay writes
    /// the same.
    pub received_ms: i64,
}

/// An id that a provider knows a message by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProviderId {
    /// The id in the provider's answer.
    Provider(String),
    /// The id of the message in WhatsApp.
    WhatsApp(String),
}

impl ProviderId {
    pub(crate) fn key(&self, session_id: &str) -> IdKey {
        let id = match self {
            Self::Provider(id) => format!("p/{id}"),
            Self::WhatsApp(id) => format!("w/{id}"),
        };
        IdKey { session_id: session_id.to_owned(), id }
    }
}

/// What became of a fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// It is kept as a fact of this message, with those that were waiting for it: read the message back and
    /// publish its state.
    Message {
        /// The message.
        message_id: String,
        /// How many earlier receipts it brought in.
        joined: usize,
    },
    /// No message is known by its ids: it is kept until one is.
    Unmatched,
    /// It is not kept.
    Ignored(Ignored),
}

/// Why a fact is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It happened longer ago than facts are kept.
    TooOld,
    /// Its kind is not known to this version, or it has no usable event id.
    UnknownKind,
    /// It names no session, or by an id that is no id: longer than 1 KiB.
    NoSession,
    /// It names neither a message nor an id of a provider that could be one.
    NoIds,
}

impl Ignored {
    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::UnknownKind => "unknown_kind",
            Self::NoSession => "no_session",
            Self::NoIds => "no_ids",
        }
    }
}

/// How long rows live after their event, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lives {
    /// Facts and what is derived from them.
    pub(crate) fact_ms: i64,
    /// Facts whose message is not known.
    pub(crate) unmatched_ms: i64,
}

/// Writes what `status` states; see [`Recorded`].
pub(crate) async fn record<T: Tables>(
    tables: &T,
    lives: Lives,
    status: &MessageStatus,
    received_ms: i64,
    now_ms: i64,
) -> Result<Recorded, Error> {
    let Some(fact) = Fact::of(status, received_ms) else {
        return Ok(Recorded::Ignored(Ignored::UnknownKind));
    };
    if !is_id(&fact.event_id) {
        return Ok(Recorded::Ignored(Ignored::UnknownKind));
    }
    if !is_id(&fact.session_id) {
        return Ok(Recorded::Ignored(Ignored::NoSession));
    }
    if Write::earliest(fact.at_ms, lives.fact_ms, now_ms).is_none() {
        return Ok(Recorded::Ignored(Ignored::TooOld));
    }
    let joiner = Joiner { tables, lives, now_ms };
    if let Some(message_id) = status.message_id.as_deref().filter(|id| is_id(id)) {
        let joined = joiner.attach(message_id, fact, None).await?;
        return Ok(Recorded::Message { message_id: message_id.to_owned(), joined });
    }
    let ids = ids_of(&fact);
    if ids.is_empty() {
        return Ok(Recorded::Ignored(Ignored::NoIds));
    }
    let Some(found) = joiner.find_or_keep(&fact, &ids).await? else { return Ok(Recorded::Unmatched) };
    let joined = joiner.attach(&found.message_id, fact, Some(found.by)).await?;
    Ok(Recorded::Message { message_id: found.message_id, joined })
}

/// Most bytes of an id. Real ones have some 100; CQL allows a key of 64 KiB, and a longer one would be refused
/// for ever.
const ID_BYTES_MAX: usize = 1_024;

/// Whether it can be an id, and so part of a key.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX
}

/// The ids a fact names its message by, the surest first.
fn ids_of(fact: &Fact) -> Vec<IdKey> {
    let whatsapp = fact.whatsapp_message_id.clone().filter(|id| is_id(id)).map(ProviderId::WhatsApp);
    let provider = fact.provider_message_id.clone().filter(|id| is_id(id)).map(ProviderId::Provider);
    whatsapp.into_iter().chain(provider).map(|id| id.key(&fact.session_id)).collect()
}

/// A message found by an id.
struct Found {
    message_id: String,
    by: IdKey,
}

struct Joiner<'a, T> {
    tables: &'a T,
    lives: Lives,
    now_ms: i64,
}

impl<T: Tables> Joiner<'_, T> {
    /// The message of a fact that names none; when nobody knows it, the fact is kept under its ids.
    async fn find_or_keep(&self, fact: &Fact, ids: &[IdKey]) -> Result<Option<Found>, Error> {
        // The usual case: the id is long known, and nothing needs keeping.
        if let Some(found) = self.find(ids).await? {
            return Ok(Some(found));
        }
        if let Some(write) = Write::of_fact(fact, self.lives.unmatched_ms, self.now_ms) {
            for id in ids {
                self.tables.put_unmatched(id, fact, write).await?;
            }
        }
        self.find(ids).await
    }

    async fn find(&self, ids: &[IdKey]) -> Result<Option<Found>, Error> {
        for id in ids {
            if let Some(message_id) = self.tables.message_of(id).await? {
                return Ok(Some(Found { message_id, by: id.clone() }));
            }
        }
        Ok(None)
    }

    /// Writes a fact of a message, and every kept fact that its ids lead to, which may bring ids of their own
    /// (a PROVIDER_ID fact ties the provider's id to WhatsApp's). Gives the number of kept facts brought in.
    ///
    /// `found_by` is the id the message was found by, if it was: whoever told it has read what waited for it,
    /// or fails and tells it again.
    async fn attach(&self, message_id: &str, fact: Fact, found_by: Option<IdKey>) -> Result<usize, Error> {
        let mut written = HashSet::new();
        let mut told: HashSet<IdKey> = found_by.into_iter().collect();
        let mut open = vec![fact];
        while let Some(fact) = open.pop() {
            if written.len() >= FACTS_MAX || !written.insert(fact.key()) {
                continue;
            }
            let new: Vec<IdKey> = ids_of(&fact).into_iter().filter(|id| told.insert(id.clone())).collect();
            let claims = try_join_all(new.iter().map(|id| self.claim_id(message_id, id, &fact)));
            let ((), waited) = try_join(self.write(message_id, &fact), claims).await?;
            open.extend(waited.into_iter().flatten());
        }
        Ok(written.len().saturating_sub(1))
    }

    async fn write(&self, message_id: &str, fact: &Fact) -> Result<(), Error> {
        let Some(write) = Write::of_fact(fact, self.lives.fact_ms, self.now_ms) else {
            return Ok(());
        };
        let put_fact = self.tables.put_fact(message_id, fact, write);
        if !fact.lists() {
            return put_fact.await;
        }
        let timeline = Timeline::Messages { session_id: fact.session_id.clone() };
        let position = Position { at_ms: fact.at_ms, id: message_id.to_owned() };
        let entry = Entry { position, body: String::new() };
        try_join(put_fact, self.tables.put_entry(&timeline, &entry, write)).await?;
        Ok(())
    }

    /// Writes that an id is of the message, and gives the facts that waited for that.
    async fn claim_id(&self, message_id: &str, id: &IdKey, fact: &Fact) -> Result<Vec<Fact>, Error> {
        let Some(write) = Write::earliest(fact.at_ms, self.lives.fact_ms, self.now_ms) else {
            return Ok(Vec::new());
        };
        self.tables.put_provider_id(id, message_id, write).await?;
        let kept = self.tables.unmatched(id, UNMATCHED_MAX).await?;
        Ok(kept.iter().filter_map(|json| read_kept("unmatched_receipts", Fact::from_json(json))).collect())
    }
}

/// What a row holds, or nothing when it cannot be read: one bad row must not hide, or stop, all others.
pub(crate) fn read_kept<T>(table: &'static str, read: Result<T, serde_json::Error>) -> Option<T> {
    read.inspect_err(|error| tracing::warn!(table, %error, "a row of the message store cannot be read")).ok()
}
