//! An open message as the local state keeps it.

use sluice_schemas::OutboundCommand;
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::{self, Reader};

use super::done::{put_text, read_text};
use super::message::{Lane, Open};

/// Where a message that is not in memory waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In its session's queue.
    Queue,
    /// In the calendar, until this time, wall µs.
    Calendar(i64),
}

impl Place {
    /// Where a message waits that is to be sent at `send_at` (ms) or at once.
    pub(super) fn of(send_at: Option<i64>, now_us: i64) -> Self {
        match send_at.map(|ms| ms.saturating_mul(1000)) {
            Some(at_us) if at_us > now_us => Self::Calendar(at_us),
            _ => Self::Queue,
        }
    }
}

/// An open message: what its Accepted record tells, and where it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    /// Place in its session's queue; rises.
    pub(super) rank: i64,
    pub(super) lane: Lane,
    pub(super) place: Place,
    pub(super) expires_at_us: i64,
    pub(super) session_id: String,
    pub(super) recipient: String,
    pub(super) request_offset: i64,
    pub(super) accepted_at_ms: i64,
    pub(super) binding_epoch: Option<i64>,
    pub(super) traceparent: Option<String>,
    pub(super) body_hash: [u8; 32],
    /// The request, as this version's schema writes it.
    pub(super) command: Vec<u8>,
}

impl Kept {
    pub(super) fn of(open: &Open) -> Self {
        let mut command = Vec::with_capacity(256);
        open.command.put(&mut command);
        Self {
            rank: open.rank,
            lane: open.lane,
            place: open.place,
            expires_at_us: open.expires_at_us,
            session_id: open.command.session_id.clone(),
            recipient: open.recipient.to_string(),
            request_offset: open.request_offset,
            accepted_at_ms: open.accepted_at_ms,
            binding_epoch: open.binding_epoch,
            traceparent: open.traceparent.clone(),
            body_hash: open.body_hash,
            command,
        }
    }

    pub(super) fn command(&self) -> Result<OutboundCommand, wire::Error> {
        OutboundCommand::read(&mut Reader::new(&self.command))
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        wire::put_long(out, self.rank);
        wire::put_long(out, self.lane as i64);
        let due_us = match self.place {
            Place::Queue => None,
            Place::Calendar(at_us) => Some(at_us),
        };
        wire::put_option(out, due_us.as_ref(), |out, at_us| wire::put_long(out, *at_us));
        wire::put_long(out, self.expires_at_us);
        wire::put_bytes(out, self.session_id.as_bytes());
        wire::put_bytes(out, self.recipient.as_bytes());
        wire::put_long(out, self.request_offset);
        wire::put_long(out, self.accepted_at_ms);
        wire::put_option(out, self.binding_epoch.as_ref(), |out, epoch| wire::put_long(out, *epoch));
        put_text(out, self.traceparent.as_ref());
        wire::put_bytes(out, &self.body_hash);
        wire::put_bytes(out, &self.command);
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, wire::Error> {
        Ok(Self {
            rank: from.long("rank")?,
            lane: Lane::ALL[from.index(Lane::ALL.len(), "lane")?],
            place: from.option("place", |from| from.long("place"))?.map_or(Place::Queue, Place::Calendar),
            expires_at_us: from.long("expires_at_us")?,
            session_id: from.string("session_id")?,
            recipient: from.string("recipient")?,
            request_offset: from.long("request_offset")?,
            accepted_at_ms: from.long("accepted_at_ms")?,
            binding_epoch: from.option("binding_epoch", |from| from.long("binding_epoch"))?,
            traceparent: read_text(from)?,
            body_hash: super::read::hash32(Some(&from.bytes("body_hash")?)),
            command: from.bytes("command")?,
        })
    }
}
