//! The keys of the local state: their order in bytes is the order in which they are read.

use uuid::Uuid;

use super::kept::{Place, Spot};
use super::message::Lane;

/// First byte of the keys of each kind.
pub(super) mod kind {
    /// `id`: a message, open or done.
    pub(in crate::sender) const MESSAGE: u8 = b'm';
    /// `session 0 lane rank id`: an open message in its session's queue.
    pub(in crate::sender) const QUEUE: u8 = b'q';
    /// `time id`: an open message that is to be sent later.
    pub(in crate::sender) const CALENDAR: u8 = b't';
    /// `time id`: the end of an open message's time, when its request says it.
    pub(in crate::sender) const EXPIRY: u8 = b'x';
    /// `time id`: messages that were done up to this time.
    pub(in crate::sender) const ENDED: u8 = b'e';
    /// `session`: how much waits in it.
    pub(in crate::sender) const COUNTS: u8 = b'n';
    /// `id epoch`: what the log holds under an `s/` key.
    pub(in crate::sender) const STATE: u8 = b's';
    /// `id`: a cancel of a message that is not done.
    pub(in crate::sender) const CANCEL: u8 = b'c';
    /// `session`: its rate, as ledger records tell it.
    pub(in crate::sender) const RATE: u8 = b'r';
    /// The single records.
    pub(in crate::sender) const SINGLE: u8 = b'z';
}

pub(super) const POSITION: &[u8] = &[kind::SINGLE, b'p'];
pub(super) const IDENTITY: &[u8] = &[kind::SINGLE, b'i'];
/// Ledger keys that Done made superfluous and whose tombstones have not been met.
pub(super) const LEFTOVERS: &[u8] = &[kind::SINGLE, b'l'];

/// Order of bytes is order of numbers.
pub(super) fn ordered(number: i64) -> [u8; 8] {
    (number as u64 ^ (1 << 63)).to_be_bytes()
}

pub(super) fn long_at(key: &[u8], at: usize) -> Option<i64> {
    let bytes: [u8; 8] = key.get(at..at + 8)?.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

pub(super) fn id_at(key: &[u8], at: usize) -> Option<Uuid> {
    Uuid::from_slice(key.get(at..at + 16)?).ok()
}

pub(super) fn id_key(kind: u8, id: &Uuid) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn time_key(kind: u8, at: i64, id: &Uuid) -> [u8; 25] {
    let mut key = [kind; 25];
    key[1..9].copy_from_slice(&ordered(at));
    key[9..].copy_from_slice(id.as_bytes());
    key
}

pub(super) fn state_key(id: &Uuid, epoch: i64) -> [u8; 25] {
    let mut key = [kind::STATE; 25];
    key[1..17].copy_from_slice(id.as_bytes());
    key[17..].copy_from_slice(&ordered(epoch));
    key
}

pub(super) fn text_key(kind: u8, text: &str) -> Vec<u8> {
    [&[kind], text.as_bytes()].concat()
}

pub(super) fn queue_key(session_id: &str, lane: Lane, rank: i64, id: &Uuid) -> Vec<u8> {
    let mut key = text_key(kind::QUEUE, session_id);
    key.extend_from_slice(&[0, lane as u8]);
    key.extend_from_slice(&ordered(rank));
    key.extend_from_slice(id.as_bytes());
    key
}

pub(super) fn place_key(id: &Uuid, spot: &Spot) -> Vec<u8> {
    match spot.place {
        Place::Queue => queue_key(&spot.session_id, spot.lane, spot.rank, id),
        Place::Calendar(at_us) => time_key(kind::CALENDAR, at_us, id).to_vec(),
    }
}

/// The number and the id at the end of a key.
pub(super) fn rank_and_id(key: &[u8]) -> Option<(i64, Uuid)> {
    let at = key.len().checked_sub(24)?;
    Some((long_at(key, at)?, id_at(key, at + 8)?))
}
