//! An open message as the local state keeps it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

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

/// What is asked of an open message without its request: where it waits, and what it may end by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) session_id: Arc<str>,
    /// Place in its session's queue; rises.
    pub(super) rank: i64,
    pub(super) lane: Lane,
    pub(super) place: Place,
    pub(super) expires_at_us: i64,
    /// Whether the request says when it expires; if not, messages of a session do so in their order.
    pub(super) is_timed: bool,
    pub(super) accepted_at_ms: i64,
    pub(super) binding_epoch: Option<i64>,
    pub(super) body_hash: [u8; 32],
    /// Size of the request.
    pub(super) bytes: usize,
}

/// A request, read or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Read(Arc<OutboundCommand>),
    /// As this version's schema writes it.
    Written(Vec<u8>),
}

/// An open message: what its Accepted record tells, and where it waits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub(super) spot: Spot,
    pub(super) recipient: Arc<str>,
    pub(super) request_offset: i64,
    pub(super) traceparent: Option<String>,
    pub(super) body: Body,
}

impl Deref for Kept {
    type Target = Spot;

    fn deref(&self) -> &Spot {
        &self.spot
    }
}

impl DerefMut for Kept {
    fn deref_mut(&mut self) -> &mut Spot {
        &mut self.spot
    }
}

impl Spot {
    /// `session_id` is the session's own, which is shared.
    pub(super) fn of(open: &Open, session_id: Arc<str>) -> Self {
        Self {
            session_id,
            rank: open.rank,
            lane: open.lane,
            place: open.place,
            expires_at_us: open.expires_at_us,
            is_timed: open.command.expires_at.is_some(),
            accepted_at_ms: open.accepted_at_ms,
            binding_epoch: open.binding_epoch,
            body_hash: open.body_hash,
            bytes: open.bytes,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        wire::put_bytes(out, self.session_id.as_bytes());
        wire::put_long(out, self.rank);
        wire::put_long(out, self.lane as i64);
        let due_us = match self.place {
            Place::Queue => None,
            Place::Calendar(at_us) => Some(at_us),
        };
        wire::put_option(out, due_us.as_ref(), |out, at_us| wire::put_long(out, *at_us));
        wire::put_long(out, self.expires_at_us);
        wire::put_long(out, i64::from(self.is_timed));
        wire::put_long(out, self.accepted_at_ms);
        wire::put_option(out, self.binding_epoch.as_ref(), |out, epoch| wire::put_long(out, *epoch));
        wire::put_bytes(out, &self.body_hash);
        wire::put_long(out, i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, wire::Error> {
        Ok(Self {
            session_id: from.string("session_id")?.into(),
            rank: from.long("rank")?,
            lane: Lane::ALL[from.index(Lane::ALL.len(), "lane")?],
            place: from.option("place", |from| from.long("place"))?.map_or(Place::Queue, Place::Calendar),
            expires_at_us: from.long("expires_at_us")?,
            is_timed: from.long("is_timed")? != 0,
            accepted_at_ms: from.long("accepted_at_ms")?,
            binding_epoch: from.option("binding_epoch", |from| from.long("binding_epoch"))?,
            body_hash: super::read::hash32(Some(&from.bytes("body_hash")?)),
            bytes: usize::try_from(from.long("bytes")?).unwrap_or(0),
        })
    }
}

impl Kept {
    /// `session_id` is the session's own, which is shared.
    pub(super) fn of(open: &Open, session_id: Arc<str>) -> Self {
        Self {
            spot: Spot::of(open, session_id),
            recipient: open.recipient.clone(),
            request_offset: open.request_offset,
            traceparent: open.traceparent.clone(),
            body: Body::Read(open.command.clone()),
        }
    }

    pub(super) fn command(&self) -> Result<Arc<OutboundCommand>, wire::Error> {
        match &self.body {
            Body::Read(command) => Ok(command.clone()),
            Body::Written(bytes) => OutboundCommand::read(&mut Reader::new(bytes)).map(Arc::new),
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        self.spot.put(out);
        wire::put_bytes(out, self.recipient.as_bytes());
        wire::put_long(out, self.request_offset);
        put_text(out, self.traceparent.as_ref());
        match &self.body {
            Body::Read(command) => command.put(out),
            Body::Written(bytes) => out.extend_from_slice(bytes),
        }
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, wire::Error> {
        let mut from = Reader::new(value);
        let spot = Spot::read(&mut from)?;
        let recipient = from.string("recipient")?.into();
        let request_offset = from.long("request_offset")?;
        let traceparent = read_text(&mut from)?;
        Ok(Self { spot, recipient, request_offset, traceparent, body: Body::Written(from.rest().to_vec()) })
    }
}
