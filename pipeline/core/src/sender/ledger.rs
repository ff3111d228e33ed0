//! Keys of the ledger, and what one record read back from it says.

use std::sync::Arc;

use sluice_schemas::{LedgerEntry, OutboundCommand};
use uuid::Uuid;

/// A ledger key. `b/`, `d/` and `c/` are facts and count whichever epoch wrote them; `s/` is one epoch's own
/// state, so nobody ever overwrites another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// `f`: a fence. Its offset is the epoch of the owner that wrote it.
    Fence,
    /// `i`: tells this ledger partition from any other that has, or had, its name.
    Identity,
    /// `r`: the owner gave the partition back with nothing in flight.
    Released,
    /// `b/id`: the message is accepted.
    Accepted(Uuid),
    /// `d/id`: the message is done for the sender.
    Done(Uuid),
    /// `c/id`: a cancel that came before its message.
    Cancel(Uuid),
    /// `s/id/epoch`: what the owner of that epoch has under way.
    State(Uuid, i64),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fence => f.write_str("f"),
            Self::Identity => f.write_str("i"),
            Self::Released => f.write_str("r"),
            Self::Accepted(id) => write!(f, "b/{id}"),
            Self::Done(id) => write!(f, "d/{id}"),
            Self::Cancel(id) => write!(f, "c/{id}"),
            Self::State(id, epoch) => write!(f, "s/{id}/{epoch}"),
        }
    }
}

impl Key {
    /// Reads a key; `None` if it is none of ours.
    pub fn parse(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        match text.split_once('/') {
            None => match text {
                "f" => Some(Self::Fence),
                "i" => Some(Self::Identity),
                "r" => Some(Self::Released),
                _ => None,
            },
            Some(("b", id)) => Uuid::try_parse(id).ok().map(Self::Accepted),
            Some(("d", id)) => Uuid::try_parse(id).ok().map(Self::Done),
            Some(("c", id)) => Uuid::try_parse(id).ok().map(Self::Cancel),
            Some(("s", rest)) => {
                let (id, epoch) = rest.split_once('/')?;
                Some(Self::State(Uuid::try_parse(id).ok()?, epoch.parse().ok()?))
            }
            Some(_) => None,
        }
    }
}

/// One record read back from a ledger partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Key,
    /// Epoch of its writer, from the header; of a fence: meaningless.
    pub epoch: i64,
    /// The entry; `None` for a tombstone.
    pub entry: Option<Box<LedgerEntry>>,
    /// The request inside an Accepted entry, decoded. The shell may leave it out when the writer's epoch is
    /// [`super::Sender::epoch`]: the sender still holds its own.
    pub command: Option<Arc<OutboundCommand>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_itself() {
        let id = Uuid::from_u128(7);
        for key in
            [Key::Fence, Key::Released, Key::Accepted(id), Key::Done(id), Key::Cancel(id), Key::State(id, 42)]
        {
            assert_eq!(Key::parse(key.to_string().as_bytes()), Some(key));
        }
        assert_eq!(Key::parse(b"x/1"), None);
        assert_eq!(Key::parse(&[0xff]), None);
    }
}
