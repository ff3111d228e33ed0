//! What goes into the sender's state machine and what comes out.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use sluice_schemas::{
    Connection, DeadLetterReason, InDoubtPolicy, LedgerEntry, MessageStatus, OnDelete, OutboundCommand,
    Provider, RateLimit, SessionStatus,
};
use uuid::Uuid;

use super::ledger::{Key, Read};
use super::local::Identity;
use crate::outcome::CallResult;

/// A request as the shell read it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Partition it came from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Broker time, milliseconds.
    pub timestamp_ms: i64,
    /// How often it was re-produced to another partition.
    pub hops: u32,
    /// W3C trace context of the producer.
    pub traceparent: Option<String>,
    /// The value as it came, framed.
    pub raw: Bytes,
    /// What it decodes to, or why it does not.
    pub command: Result<Arc<OutboundCommand>, BadRequest>,
}

/// A record that is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRequest {
    /// Why.
    pub reason: DeadLetterReason,
    /// For people: the field and the remedy.
    pub detail: String,
}

/// A session as the sender needs it, from the `sessions` and `accounts` topics and the connector's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionConfig {
    /// Its tenant.
    pub tenant_id: String,
    /// Its provider.
    pub provider: Provider,
    /// Account it is bound to.
    pub account_id: String,
    /// Base URL of the account: the bulkhead.
    pub base_url: String,
    /// Calls at once on that base URL, if the account sets it.
    pub base_url_in_flight_max: Option<u32>,
    /// Rate limits; all hold.
    pub limits: Vec<RateLimit>,
    /// Limits per recipient; all hold.
    pub pair_limits: Vec<RateLimit>,
    /// Calls at once.
    pub max_in_flight: u32,
    /// Policy in doubt; never `Unknown`.
    pub in_doubt_policy: InDoubtPolicy,
    /// Share of the tenant when a base URL is busy; at least 1.
    pub tenant_weight: u32,
    /// Whether echoes are matched to learn the WhatsApp id.
    pub needs_bridge: bool,
    /// Rises when it moves to another account.
    pub binding_epoch: i64,
    /// What becomes of the backlog then: `Fail` ends it, anything else takes it along.
    pub on_rebinding: OnDelete,
}

impl Eq for SessionConfig {}

/// By what sessions differ in.
impl Hash for SessionConfig {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.tenant_id, &self.account_id, &self.base_url, self.binding_epoch).hash(state);
        (self.max_in_flight, self.tenant_weight).hash(state);
        for limit in self.limits.iter().chain(&self.pair_limits) {
            (limit.count, limit.per_ms, limit.burst).hash(state);
        }
    }
}

/// What the status facets say of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionCondition {
    /// An operator paused it.
    pub paused: bool,
    /// What the provider says of its connection.
    pub connection: Connection,
    /// When it became so, milliseconds.
    pub connection_at_ms: i64,
}

/// Which attempt of this process a call result belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(pub u64);

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// The group gave us a partition: fence it.
    Assigned {
        /// Which.
        partition: i32,
    },
    /// The ledger partition is not the one that the store of the partition has followed, or has lost what is in the
    /// store: the store begins anew.
    StoreStale {
        /// Which.
        partition: i32,
    },
    /// Our fence stands at `offset`.
    Fenced {
        /// Partition.
        partition: i32,
        /// Offset of our fence: our epoch.
        offset: i64,
    },
    /// A record of a ledger partition.
    Ledger {
        /// Partition.
        partition: i32,
        /// The record.
        read: Read,
    },
    /// The ledger tail has nothing at `offset` but is past it (compaction, control records).
    LedgerPassed {
        /// Partition.
        partition: i32,
        /// Everything below this offset has been read.
        next_offset: i64,
    },
    /// A ledger record could not be written.
    LedgerFailed {
        /// Partition.
        partition: i32,
        /// Epoch it was written under.
        epoch: i64,
    },
    /// The group takes the partition away: give it back clean.
    Revoking {
        /// Which.
        partition: i32,
    },
    /// The partition is gone without notice.
    Lost {
        /// Which.
        partition: i32,
    },
    /// A request.
    Request(Request),
    /// A request whose schema is still being looked up: others pass it, its offset is not committed. It comes
    /// as [`Input::Request`] later.
    RequestDelayed {
        /// Partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Its size.
        bytes: usize,
    },
    /// A status, dead letter or re-produced request is acked.
    Acked {
        /// The token of the effect.
        token: Token,
        /// Where it stands.
        offset: i64,
    },
    /// A call ended.
    Called {
        /// Which.
        call: CallId,
        /// How.
        result: CallResult,
    },
    /// A status of another writer (the processor, a former owner) was read.
    Status {
        /// Partition.
        partition: i32,
        /// The fact.
        status: Box<MessageStatus>,
    },
    /// The status tail has read everything that stood in the log when asked at `asked_ms`.
    StatusCaughtUp {
        /// Partition.
        partition: i32,
        /// Wall clock when the end was asked for, milliseconds.
        asked_ms: i64,
    },
    /// A look-up of a WhatsApp id ended.
    LookedUp {
        /// The message.
        message_id: Uuid,
        /// The id and chat, if found.
        found: Option<(String, Option<String>)>,
    },
    /// A session was written, or deleted (`None`).
    Session {
        /// Its id.
        session_id: Arc<str>,
        /// What it is now.
        config: Option<Box<SessionConfig>>,
    },
    /// A session's condition changed.
    Condition {
        /// Its id.
        session_id: Arc<str>,
        /// What it is now.
        condition: SessionCondition,
    },
    /// Time passed.
    Tick,
}

/// Names an effect whose ack is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Token {
    /// Nothing waits for it.
    None,
    /// The intake slot at this offset.
    Intake {
        /// Partition.
        partition: i32,
        /// Epoch.
        epoch: i64,
        /// Offset of the request.
        offset: i64,
    },
    /// The status that tells an outcome; the ledger record follows it.
    Outcome {
        /// Partition.
        partition: i32,
        /// Epoch.
        epoch: i64,
        /// The message.
        message_id: Uuid,
        /// Which of its outcomes; a later one makes this stale.
        turn: u32,
    },
}

/// One HTTP call to make.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which attempt.
    pub id: CallId,
    /// The message.
    pub message_id: Uuid,
    /// Session.
    pub session_id: Arc<str>,
    /// Account of the session when the call was decided.
    pub account_id: String,
    /// What to send.
    pub command: Arc<OutboundCommand>,
    /// Canonical recipient.
    pub recipient: Arc<str>,
    /// Provider's id of the message replied to, when it is one of ours.
    pub reply_to_provider_id: Option<String>,
    /// Provider's id of the target of EDIT, REVOKE, REACT, MARK_READ.
    pub target_provider_id: Option<String>,
    /// The call must not start when BOOTTIME is past this, microseconds.
    pub start_by_boot_us: u64,
    /// Trace context of the producer.
    pub traceparent: Option<String>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

/// Where a store has followed a ledger partition to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Everything below this offset is in the store.
    pub next_offset: i64,
    /// The record [`Key::Identity`] that the partition must hold, and where.
    pub identity: Identity,
}

/// Something to do.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Append a fence to the ledger partition, tell the offset by [`Input::Fenced`], and tail the ledger
    /// partition: from its beginning, or from where its store has followed it to. In that case look first whether
    /// it is the same partition still; if not, tell [`Input::StoreStale`] and do no more.
    Fence {
        /// Partition.
        partition: i32,
        /// Where its store has followed the ledger to.
        resume: Option<Resume>,
    },
    /// Fence again after a pause, if the group still assigns the partition to us.
    FenceLater {
        /// Partition.
        partition: i32,
        /// Pause, milliseconds.
        after_ms: u64,
    },
    /// Append to the ledger. Failure is told by [`Input::LedgerFailed`]; success is read back.
    Append {
        /// Partition.
        partition: i32,
        /// Epoch, for the header.
        epoch: i64,
        /// Key.
        key: Key,
        /// Entry, or a tombstone.
        entry: Option<Box<LedgerEntry>>,
        /// Claims go through their own producer, so that a burst of intake cannot delay them.
        urgent: bool,
    },
    /// Publish a status; try until acked, then tell by [`Input::Acked`] unless the token is `None`.
    Publish {
        /// The fact.
        status: Box<MessageStatus>,
        /// Partition of the session.
        partition: i32,
        /// Trace context.
        traceparent: Option<String>,
        /// Who waits.
        token: Token,
    },
    /// Put the request aside as a dead letter, then ack.
    DeadLetter {
        /// The request's partition.
        partition: i32,
        /// The request's offset.
        offset: i64,
        /// Why.
        reason: DeadLetterReason,
        /// For people.
        detail: String,
        /// Who waits.
        token: Token,
    },
    /// Re-produce the request to its right partition with one more hop, then ack.
    Reroute {
        /// The request's partition.
        partition: i32,
        /// The request's offset.
        offset: i64,
        /// Where it belongs.
        to_partition: i32,
        /// Hops from now on.
        hops: u32,
        /// Who waits.
        token: Token,
    },
    /// Make the call.
    Call(Box<Call>),
    /// Ask the provider for the WhatsApp id.
    LookUp {
        /// Partition of the session.
        partition: i32,
        /// The message.
        message_id: Uuid,
        /// Session.
        session_id: Arc<str>,
        /// Provider's id.
        provider_message_id: String,
    },
    /// The ledger is read: take requests from `position`, if the group has committed less, and follow
    /// `messages.status` from `status_from_ms`.
    Own {
        /// Partition.
        partition: i32,
        /// Lowest offset that may be unsettled, if the ledger knows.
        position: Option<i64>,
        /// Evidence may stand from this broker time on, milliseconds.
        status_from_ms: i64,
    },
    /// Requests below this offset are settled.
    Commit {
        /// Partition.
        partition: i32,
        /// Next offset to read.
        offset: i64,
    },
    /// Stop (true) or go on (false) reading requests of the partition.
    HoldIntake {
        /// Partition.
        partition: i32,
        /// Whether to stop.
        hold: bool,
    },
    /// Stop tailing and reading the partition; its state here is gone.
    Drop {
        /// Partition.
        partition: i32,
    },
    /// Nothing of ours is under way: commit, drop, and give the partition back to the group.
    GiveBack {
        /// Partition.
        partition: i32,
    },
    /// Write the sender's facet of a session's status.
    SessionStatus {
        /// Partition of the session.
        partition: i32,
        /// The facet.
        status: Box<SessionStatus>,
    },
    /// A store cannot read or write: nothing more is decided in this process. What the log holds is taken up by the
    /// next owner.
    StoreFailed {
        /// Partition of the store.
        partition: i32,
    },
    /// Something to count or log; see [`Note`].
    Note(Note),
}

/// What operators want counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A record of the ledger could not be made sense of; it is ignored.
    StrangeLedgerRecord {
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
    /// Another owner fenced the partition.
    FencedOff {
        /// Partition.
        partition: i32,
        /// Our epoch.
        epoch: i64,
        /// Theirs.
        by: i64,
    },
    /// The partition is restored.
    Restored {
        /// Partition.
        partition: i32,
        /// Where its ledger was read from, when its local state was taken up again.
        resumed_at: Option<i64>,
        /// Open messages.
        open: usize,
        /// In doubt.
        in_doubt: usize,
    },
    /// A claim grew too old before its call and is made anew.
    ClaimExpired {
        /// The message.
        message_id: Uuid,
    },
    /// A request with a known key came again.
    Duplicate {
        /// The message.
        message_id: Uuid,
        /// Whether its body differs.
        conflict: bool,
    },
    /// Calls failed again and again: none goes through for a while.
    CircuitOpened {
        /// Whose.
        of: CircuitOf,
        /// Until when, milliseconds; then one call is tried.
        until_ms: i64,
    },
    /// A call was answered: all go through again.
    CircuitClosed {
        /// Whose.
        of: CircuitOf,
    },
    /// An attempt in doubt was settled.
    DoubtSettled {
        /// The message.
        message_id: Uuid,
        /// How: `evidence`, `operator`, `resend`, `fail`, `hold`.
        how: &'static str,
    },
}

/// What a circuit guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CircuitOf {
    /// The calls of one session.
    Session(Arc<str>),
    /// All calls to one base URL.
    BaseUrl(Arc<str>),
}
