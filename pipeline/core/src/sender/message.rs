//! An open message: accepted, and not yet done for the sender.

use std::sync::Arc;

use sluice_schemas::codec::Datum;
use sluice_schemas::{LedgerEntry, MessageStatus, Order, OutboundCommand, Priority, SendError, Status};
use uuid::Uuid;

use super::bridge::{Echo, Print};
use super::bulkhead::BulkheadIndex;
use super::io::CallId;
use super::kept::Place;
use super::session::SessionIndex;
use crate::time::Now;

/// Lane inside a session: lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lane {
    High = 0,
    Normal = 1,
    Low = 2,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    pub(super) fn of(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Low => Self::Low,
            Priority::Normal | Priority::Unknown => Self::Normal,
        }
    }
}

/// Unit of order inside a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ChatKey {
    /// Every ordered message to one recipient.
    Recipient(Arc<str>),
    /// A message that keeps no order.
    Alone(Uuid),
}

/// The claim under which an attempt is, or will be, made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) seq: i64,
    pub(super) at: Now,
}

/// An attempt nobody knows the outcome of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    pub(super) claim_epoch: i64,
    pub(super) claim_seq: i64,
    pub(super) claim_at_ms: i64,
    /// Not decided before this time.
    pub(super) decide_at_ms: i64,
    /// The policy says to wait for evidence or an operator.
    pub(super) held: bool,
}

/// What settles a doubt.
#[derive(Debug, Clone)]
pub(super) enum Evidence {
    /// The echo that is the message's own.
    Echo(Box<Echo>),
    /// What an operator says of the attempt.
    Operator(Box<MessageStatus>),
}

/// What follows once the status that tells an outcome is acked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    Done(End),
    Queue { not_before_us: i64, reason: String },
    Doubt(Doubt),
}

/// How a message ends for the sender.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) outcome: Status,
    pub(super) reason: Option<String>,
    pub(super) provider_message_id: Option<String>,
    pub(super) claim_epoch: i64,
    pub(super) claim_seq: i64,
}

/// Why a message ends without (another) attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsent {
    pub(super) outcome: Status,
    pub(super) code: String,
}

impl Unsent {
    pub(super) fn new(outcome: Status, code: &str) -> Self {
        Self { outcome, code: code.to_owned() }
    }

    /// For people.
    pub(super) fn detail(&self) -> &'static str {
        match self.code.as_str() {
            "canceled" => "canceled before it was sent",
            "expired" => "its time was up before it could be sent",
            "unknown_session" => "the session does not exist; put it, then send with a new key",
            "session_deleted" => "the session was deleted while the message waited",
            "tenant_mismatch" => "the session belongs to another tenant",
            "target_not_found" => "the message it is about was not submitted, or is no longer known",
            _ => "it was not sent",
        }
    }
}

/// Where an open message stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// May be claimed: in its chat's queue, or scheduled for later.
    Waiting,
    /// Its claim is appended and not yet read back.
    Claiming(Claim),
    /// Its claim stands; the limiter makes it wait a moment.
    Claimed(Claim),
    /// The call is under way.
    Calling(CallId, Claim),
    /// The outcome is known, the status that tells it is not yet acked.
    Settling(Next),
    /// `Done` is appended and not yet read back.
    Finishing,
    /// It is to end without an attempt; the record that says so is not yet read back.
    Ending(Unsent),
    /// Waits for its next attempt.
    Retrying { not_before_us: i64 },
    /// Nobody knows whether it was sent.
    InDoubt(Doubt),
}

/// What the log holds under the `s/` keys of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorded {
    /// Epochs whose key may stand.
    pub(super) epochs: Vec<i64>,
    /// Restore only: the state of the highest epoch.
    pub(super) governing: Option<(i64, Box<LedgerEntry>)>,
}

impl Recorded {
    pub(super) fn note(&mut self, epoch: i64) {
        if !self.epochs.contains(&epoch) {
            self.epochs.push(epoch);
        }
    }

    /// Takes a state met in a restore.
    pub(super) fn take(&mut self, epoch: i64, entry: Box<LedgerEntry>) {
        self.note(epoch);
        if self.governing.as_ref().is_none_or(|(highest, _)| *highest <= epoch) {
            self.governing = Some((epoch, entry));
        }
    }

    /// A state was tombstoned.
    pub(super) fn forget(&mut self, epoch: i64) {
        self.epochs.retain(|known| *known != epoch);
        if self.governing.as_ref().is_some_and(|(highest, _)| *highest == epoch) {
            self.governing = None;
        }
    }
}

/// An open message.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) session: SessionIndex,
    pub(super) chat: ChatKey,
    pub(super) recipient: Arc<str>,
    pub(super) lane: Lane,
    pub(super) command: Arc<OutboundCommand>,
    pub(super) request_offset: i64,
    /// Place in its session's queue.
    pub(super) rank: i64,
    pub(super) place: Place,
    /// An attempt of it was given up without evidence and it is sent again: its echo may be that attempt's. Every
    /// later record of it says so, for the owners to come.
    pub(super) is_resent: bool,
    /// The local state keeps a former owner's acceptance of it, ours being on its way.
    pub(super) is_anothers_kept: bool,
    /// It is to leave memory once its Accepted record is read back; counted among the parked already.
    pub(super) parked: bool,
    /// Binding of its session when it was accepted, if that was known.
    pub(super) binding_epoch: Option<i64>,
    pub(super) traceparent: Option<String>,
    pub(super) body_hash: [u8; 32],
    pub(super) accepted_at_ms: i64,
    pub(super) expires_at_us: i64,
    /// Attempts used.
    pub(super) attempts: u32,
    /// Our own records about it that are not yet read back.
    pub(super) unread: u32,
    /// Whether its Accepted record has been read back.
    pub(super) accepted_read: bool,
    pub(super) canceled: bool,
    /// Why it is not accepted, if it is not.
    pub(super) refusal: Option<Box<(Status, SendError)>>,
    /// Offsets of repeats of a request that is not yet read back, told with it.
    pub(super) repeats: Vec<i64>,
    /// The slot its claim holds, until its call takes it over.
    pub(super) slot: Option<BulkheadIndex>,
    /// Size of its request, as the local state keeps it.
    pub(super) bytes: usize,
    /// Whether it counts in its session's backlog.
    pub(super) in_backlog: bool,
    pub(super) stage: Stage,
    /// Its `s/` keys.
    pub(super) recorded: Recorded,
    /// When it is looked at next, wall µs.
    pub(super) due_us: Option<i64>,
    /// Whether its chat's queue holds it.
    pub(super) queued: bool,
    /// What settles its doubt, while the record that comes before acting on it is not yet read back.
    pub(super) evidence: Option<Evidence>,
    /// How many outcomes were stated; an ack of an earlier one is stale.
    pub(super) turn: u32,
    /// What an echo of it would show, if echoes are matched.
    pub(super) print: Option<Box<Print>>,
}

fn encoded_len(command: &OutboundCommand) -> usize {
    let mut bytes = Vec::with_capacity(256);
    command.put(&mut bytes);
    bytes.len()
}

impl Open {
    /// When its attempt was claimed, ms, if that is in doubt.
    pub(super) fn in_doubt_since_ms(&self) -> Option<i64> {
        match &self.stage {
            Stage::InDoubt(doubt) => Some(doubt.claim_at_ms),
            _ => None,
        }
    }

    /// A message that waits, about which nothing is written yet.
    pub(super) fn new(
        session: SessionIndex,
        command: Arc<OutboundCommand>,
        recipient: Arc<str>,
        id: Uuid,
    ) -> Self {
        let bytes = encoded_len(&command);
        let chat = match command.order {
            Order::None => ChatKey::Alone(id),
            Order::Chat | Order::Unknown => ChatKey::Recipient(recipient.clone()),
        };
        Self {
            session,
            chat,
            recipient,
            lane: Lane::of(command.priority),
            request_offset: -1,
            rank: 0,
            place: Place::Queue,
            command,
            is_resent: false,
            is_anothers_kept: false,
            parked: false,
            binding_epoch: None,
            traceparent: None,
            body_hash: [0; 32],
            accepted_at_ms: 0,
            expires_at_us: i64::MAX,
            attempts: 0,
            unread: 0,
            accepted_read: false,
            canceled: false,
            refusal: None,
            repeats: Vec::new(),
            slot: None,
            bytes,
            in_backlog: false,
            stage: Stage::Waiting,
            recorded: Recorded::default(),
            due_us: None,
            queued: false,
            evidence: None,
            turn: 0,
            print: None,
        }
    }

    /// Whether a call or an outcome of it is under way, so that the partition cannot be given back clean.
    pub(super) fn is_under_way(&self) -> bool {
        self.unread > 0
            || matches!(
                self.stage,
                Stage::Claiming(_)
                    | Stage::Claimed(_)
                    | Stage::Calling(..)
                    | Stage::Settling(_)
                    | Stage::Ending(_)
                    | Stage::Finishing
            )
    }

    /// Whether it is in the calendar: it joins its session's queue from there.
    pub(super) fn is_scheduled(&self) -> bool {
        matches!(self.place, Place::Calendar(_))
    }

    /// Whether nothing is known of it but that it waits, so that it may leave memory.
    pub(super) fn may_leave(&self) -> bool {
        self.stage == Stage::Waiting
            && self.accepted_read
            && self.unread == 0
            && !self.queued
            && !self.canceled
            && self.refusal.is_none()
            && self.recorded.epochs.is_empty()
    }
}
