//! Messages that are done: remembered for the dedupe window, so that a second request is not sent again.

use sluice_schemas::Status;
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::{self, Reader};

/// What is remembered of a finished message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Done {
    /// When, milliseconds.
    pub(super) at_ms: i64,
    /// How it ended for the sender.
    pub(super) outcome: Status,
    /// Why, if it was not sent.
    pub(super) reason: Option<String>,
    /// Hash over the canonical request.
    pub(super) body_hash: [u8; 32],
    /// Id the provider gave.
    pub(super) provider_message_id: Option<String>,
    /// Epoch of the claim that ended it; -1 for none.
    pub(super) claim_epoch: i64,
    /// Number of that claim.
    pub(super) claim_seq: i64,
    /// Attempts used.
    pub(super) attempts: u32,
    /// What an echo of it would show, if echoes of it are matched.
    pub(super) echo: Option<Echoed>,
}

/// What an echo of a message shows, and whose it would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Echoed {
    pub(super) session_id: String,
    pub(super) recipient: String,
    pub(super) content: [u8; 32],
}

impl Done {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        wire::put_long(out, self.at_ms);
        self.outcome.put(out);
        put_text(out, self.reason.as_ref());
        wire::put_bytes(out, &self.body_hash);
        put_text(out, self.provider_message_id.as_ref());
        wire::put_long(out, self.claim_epoch);
        wire::put_long(out, self.claim_seq);
        wire::put_long(out, i64::from(self.attempts));
        wire::put_option(out, self.echo.as_ref(), |out, echo| {
            wire::put_bytes(out, echo.session_id.as_bytes());
            wire::put_bytes(out, echo.recipient.as_bytes());
            wire::put_bytes(out, &echo.content);
        });
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Result<Self, wire::Error> {
        Ok(Self {
            at_ms: from.long("at_ms")?,
            outcome: Status::read(from)?,
            reason: read_text(from)?,
            body_hash: super::read::hash32(Some(&from.bytes("body_hash")?)),
            provider_message_id: read_text(from)?,
            claim_epoch: from.long("claim_epoch")?,
            claim_seq: from.long("claim_seq")?,
            attempts: u32::try_from(from.long("attempts")?).unwrap_or(u32::MAX),
            echo: from.option("echo", |from| {
                Ok(Echoed {
                    session_id: from.string("session_id")?,
                    recipient: from.string("recipient")?,
                    content: super::read::hash32(Some(&from.bytes("content")?)),
                })
            })?,
        })
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: Option<&String>) {
    wire::put_option(out, text, |out, text| wire::put_bytes(out, text.as_bytes()));
}

pub(super) fn read_text(from: &mut Reader<'_>) -> Result<Option<String>, wire::Error> {
    from.option("text", |from| from.string("text"))
}
