//! What the local state of a partition holds, and under which keys. It follows the ledger: what is in it is what the
//! records up to its offset say, so that it may be thrown away at any time and made anew.

use std::sync::atomic::{AtomicBool, Ordering};

use sluice_schemas::LedgerEntry;
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::{self, Reader};
use uuid::Uuid;

use super::backlog::Backlog;
use super::done::Done;
use super::kept::{Kept, Place};
use super::ledger::Key;
use super::message::Lane;
use super::store::Store;
use crate::time::Now;

/// Changes when what is under the keys changes: a store of another format is not resumed.
pub const FORMAT: u32 = 1;

/// First byte of the keys of each kind.
mod kind {
    /// `id`: a message, open or done.
    pub(super) const MESSAGE: u8 = b'm';
    /// `session 0 lane rank id`: an open message in its session's queue.
    pub(super) const QUEUE: u8 = b'q';
    /// `time id`: an open message that is to be sent later.
    pub(super) const CALENDAR: u8 = b't';
    /// `time id`: the end of an open message's time.
    pub(super) const EXPIRY: u8 = b'x';
    /// `time id`: a message that is done, by the time of its end.
    pub(super) const ENDED: u8 = b'e';
    /// `id epoch`: what the log holds under an `s/` key.
    pub(super) const STATE: u8 = b's';
    /// `id`: a cancel of a message that is not done.
    pub(super) const CANCEL: u8 = b'c';
    /// A ledger key that Done made superfluous and whose tombstone has not been met.
    pub(super) const LEFTOVER: u8 = b'l';
    /// `session`: its rate, as ledger records tell it.
    pub(super) const RATE: u8 = b'r';
    /// The single records.
    pub(super) const SINGLE: u8 = b'z';
}

const POSITION: &[u8] = &[kind::SINGLE, b'p'];
const IDENTITY: &[u8] = &[kind::SINGLE, b'i'];
/// What is read at once when all of a kind is read.
const CHUNK: usize = 1_000;

/// What is known of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    Open(Kept),
    Done(Done),
}

/// The record that tells one ledger partition from any other that has, or had, its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where it stands.
    pub offset: i64,
    /// What it says.
    pub name: String,
}

/// Messages that wait in one lane of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) session_id: String,
    pub(super) lane: Lane,
    pub(super) waits: Backlog,
    pub(super) last_rank: i64,
}

/// The rate of a session, as ledger records tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) tats: Vec<String>,
    pub(super) throttled_until_ms: Option<i64>,
}

/// The local state of one partition.
#[derive(Debug)]
pub(super) struct Local {
    store: Box<dyn Store>,
    /// Open messages it keeps, once they are counted.
    open_count: usize,
    /// A value was not what was put.
    corrupt: AtomicBool,
}

impl Local {
    pub(super) fn new(store: Box<dyn Store>) -> Self {
        Self { store, open_count: 0, corrupt: AtomicBool::new(false) }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.store.has_failed() || self.corrupt.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&mut self) {
        self.store.clear();
        self.open_count = 0;
        self.corrupt.store(false, Ordering::Relaxed);
    }

    /// A value cannot be read: the store is worth nothing.
    pub(super) fn mark_corrupt(&self) {
        self.corrupt.store(true, Ordering::Relaxed);
    }

    pub(super) fn open_count(&self) -> usize {
        self.open_count
    }

    pub(super) fn set_open_count(&mut self, count: usize) {
        self.open_count = count;
    }

    pub(super) fn wants_commit(&self, now: Now) -> bool {
        self.store.wants_commit(now)
    }

    pub(super) fn commit(&mut self, now: Now, next_offset: i64) {
        self.store.commit(now, next_offset);
    }

    fn checked<T>(&self, value: Result<T, wire::Error>) -> Option<T> {
        if value.is_err() {
            self.mark_corrupt();
        }
        value.ok()
    }

    pub(super) fn known(&self, id: &Uuid) -> Option<Known> {
        let value = self.store.get(&id_key(kind::MESSAGE, id))?;
        self.checked(read_known(&value))
    }

    pub(super) fn done(&self, id: &Uuid) -> Option<Done> {
        match self.known(id)? {
            Known::Done(done) => Some(done),
            Known::Open(_) => None,
        }
    }

    pub(super) fn kept(&self, id: &Uuid) -> Option<Kept> {
        match self.known(id)? {
            Known::Open(kept) => Some(kept),
            Known::Done(_) => None,
        }
    }

    /// Keeps an open message.
    pub(super) fn keep(&mut self, id: Uuid, kept: &Kept) {
        let mut value = vec![0];
        kept.put(&mut value);
        self.open_count += 1;
        self.store.put(&id_key(kind::MESSAGE, &id), value);
        self.store.put(&place_key(&id, kept), place_value(kept));
        if kept.expires_at_us < i64::MAX {
            self.store.put(&time_key(kind::EXPIRY, kept.expires_at_us, &id), Vec::new());
        }
    }

    /// Forgets an open message.
    pub(super) fn forget(&mut self, id: &Uuid, kept: &Kept) {
        self.open_count = self.open_count.saturating_sub(1);
        self.store.remove(&id_key(kind::MESSAGE, id));
        self.store.remove(&place_key(id, kept));
        self.forget_expiry(id, kept.expires_at_us);
    }

    pub(super) fn forget_due(&mut self, id: &Uuid, at_us: i64) {
        self.store.remove(&time_key(kind::CALENDAR, at_us, id));
    }

    pub(super) fn forget_expiry(&mut self, id: &Uuid, expires_at_us: i64) {
        self.store.remove(&time_key(kind::EXPIRY, expires_at_us, id));
    }

    /// Remembers a finished message, of which `known` was known; a later record of it replaces an earlier one.
    pub(super) fn finish(&mut self, id: Uuid, done: &Done, known: Option<&Known>) {
        match known {
            Some(Known::Open(kept)) => self.forget(&id, kept),
            Some(Known::Done(earlier)) => self.store.remove(&time_key(kind::ENDED, earlier.at_ms, &id)),
            None => {}
        }
        let mut value = vec![1];
        done.put(&mut value);
        self.store.put(&id_key(kind::MESSAGE, &id), value);
        self.store.put(&time_key(kind::ENDED, done.at_ms, &id), Vec::new());
    }

    /// Forgets a finished message.
    pub(super) fn forget_done(&mut self, id: &Uuid) {
        if let Some(done) = self.done(id) {
            self.store.remove(&id_key(kind::MESSAGE, id));
            self.store.remove(&time_key(kind::ENDED, done.at_ms, id));
        }
    }

    /// At most `most` messages that were done before `before_ms`, each given once.
    pub(super) fn take_ended(&mut self, before_ms: i64, most: usize) -> Vec<Uuid> {
        let found = self.times(kind::ENDED, before_ms, most);
        for (at_ms, id) in &found {
            self.store.remove(&time_key(kind::ENDED, *at_ms, id));
        }
        found.into_iter().map(|(_, id)| id).collect()
    }

    /// Messages that were done at `since_ms` or later, in that order.
    pub(super) fn ended_since(&self, since_ms: i64) -> Vec<(Uuid, Done)> {
        let mut ended = Vec::new();
        let mut from = time_key(kind::ENDED, since_ms, &Uuid::nil()).to_vec();
        loop {
            let pairs = self.store.scan(&from, &[kind::ENDED + 1], CHUNK);
            let ids = pairs.iter().filter_map(|(key, _)| rank_and_id(key)).map(|(_, id)| id);
            ended.extend(ids.filter_map(|id| Some((id, self.done(&id)?))));
            match pairs.into_iter().last() {
                Some((key, _)) => {
                    from = key;
                    from.push(0);
                }
                None => return ended,
            }
        }
    }

    /// Open messages of one session and lane, in order, behind `after`.
    pub(super) fn queued(
        &self,
        session_id: &str,
        lane: Lane,
        after: Option<(i64, Uuid)>,
        most: usize,
    ) -> Vec<(i64, Uuid)> {
        let (rank, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let mut from = queue_key(session_id, lane, rank, &id);
        if after.is_some() {
            from.push(0);
        }
        let mut to = queue_key(session_id, lane, i64::MAX, &Uuid::max());
        to.push(0);
        self.store.scan(&from, &to, most).iter().filter_map(|(key, _)| rank_and_id(key)).collect()
    }

    /// Messages of the calendar that are due, at most `most`.
    pub(super) fn due(&self, now_us: i64, most: usize) -> Vec<(i64, Uuid)> {
        self.times(kind::CALENDAR, now_us.saturating_add(1), most)
    }

    /// Open messages whose time is up, at most `most`.
    pub(super) fn expired(&self, now_us: i64, most: usize) -> Vec<(i64, Uuid)> {
        self.times(kind::EXPIRY, now_us.saturating_add(1), most)
    }

    /// When the first message of the calendar is due, or the first open message expires, wall µs.
    pub(super) fn next_time_us(&self) -> i64 {
        let first = |kind| self.times(kind, i64::MAX, 1).first().map_or(i64::MAX, |(at_us, _)| *at_us);
        first(kind::CALENDAR).min(first(kind::EXPIRY))
    }

    /// Keys of times below `before`.
    fn times(&self, kind: u8, before: i64, most: usize) -> Vec<(i64, Uuid)> {
        let (from, to) = (time_key(kind, i64::MIN, &Uuid::nil()), time_key(kind, before, &Uuid::nil()));
        self.store.scan(&from, &to, most).iter().filter_map(|(key, _)| rank_and_id(key)).collect()
    }

    pub(super) fn put_state(&mut self, id: &Uuid, epoch: i64, entry: &LedgerEntry) {
        let mut value = Vec::with_capacity(128);
        entry.put(&mut value);
        self.store.put(&state_key(id, epoch), value);
    }

    pub(super) fn forget_state(&mut self, id: &Uuid, epoch: i64) {
        self.store.remove(&state_key(id, epoch));
    }

    pub(super) fn put_cancel(&mut self, id: &Uuid, at_ms: i64, session_id: &str) {
        let mut value = Vec::new();
        wire::put_long(&mut value, at_ms);
        wire::put_bytes(&mut value, session_id.as_bytes());
        self.store.put(&id_key(kind::CANCEL, id), value);
    }

    pub(super) fn forget_cancel(&mut self, id: &Uuid) {
        self.store.remove(&id_key(kind::CANCEL, id));
    }

    pub(super) fn put_leftover(&mut self, key: Key) {
        self.store.put(&leftover_key(key), Vec::new());
    }

    pub(super) fn forget_leftover(&mut self, key: Key) {
        self.store.remove(&leftover_key(key));
    }

    pub(super) fn put_rate(&mut self, session_id: &str, rate: &Rate) {
        let mut value = Vec::new();
        wire::put_array(&mut value, &rate.tats, |out, tat| wire::put_bytes(out, tat.as_bytes()));
        wire::put_option(&mut value, rate.throttled_until_ms.as_ref(), |out, ms| wire::put_long(out, *ms));
        self.store.put(&text_key(kind::RATE, session_id), value);
    }

    pub(super) fn put_position(&mut self, position: i64) {
        self.store.put(POSITION, position.to_be_bytes().to_vec());
    }

    pub(super) fn position(&self) -> Option<i64> {
        Some(i64::from_be_bytes(self.store.get(POSITION)?.try_into().ok()?))
    }

    pub(super) fn put_identity(&mut self, identity: &Identity) {
        let mut value = Vec::new();
        wire::put_long(&mut value, identity.offset);
        wire::put_bytes(&mut value, identity.name.as_bytes());
        self.store.put(IDENTITY, value);
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        let value = self.store.get(IDENTITY)?;
        let mut from = Reader::new(&value);
        Some(Identity { offset: from.long("offset").ok()?, name: from.string("name").ok()? })
    }

    /// Every state of the log.
    pub(super) fn states(&self) -> Vec<(Uuid, i64, Box<LedgerEntry>)> {
        let mut states = Vec::new();
        self.each(kind::STATE, |key, value| {
            let (id, epoch) = (id_at(key, 1), long_at(key, 17));
            if let (Some(entry), Some(id), Some(epoch)) =
                (self.checked(LedgerEntry::read(&mut Reader::new(value))), id, epoch)
            {
                states.push((id, epoch, Box::new(entry)));
            }
        });
        states
    }

    /// Every cancel: message, time, session.
    pub(super) fn cancels(&self) -> Vec<(Uuid, i64, String)> {
        let mut cancels = Vec::new();
        self.each(kind::CANCEL, |key, value| {
            let mut from = Reader::new(value);
            let read = from.long("at").and_then(|at| Ok((at, from.string("session_id")?)));
            if let (Some((at_ms, session_id)), Some(id)) = (self.checked(read), id_at(key, 1)) {
                cancels.push((id, at_ms, session_id));
            }
        });
        cancels
    }

    /// Every leftover.
    pub(super) fn leftovers(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        self.each(kind::LEFTOVER, |key, _| keys.extend(Key::parse(&key[1..])));
        keys
    }

    /// The rate of every session of which a ledger record told one.
    pub(super) fn rates(&self) -> Vec<(String, Rate)> {
        let mut rates = Vec::new();
        self.each(kind::RATE, |key, value| {
            let mut from = Reader::new(value);
            let read = from.array("tats", |from| from.string("tat")).and_then(|tats| {
                Ok(Rate { tats, throttled_until_ms: from.option("until", |from| from.long("until"))? })
            });
            if let Some(rate) = self.checked(read) {
                rates.push((String::from_utf8_lossy(&key[1..]).into_owned(), rate));
            }
        });
        rates
    }

    /// The queues with messages in them.
    pub(super) fn queues(&self) -> Vec<Queue> {
        let mut queues: Vec<Queue> = Vec::new();
        self.each(kind::QUEUE, |key, value| {
            let Some((session_id, lane)) = session_and_lane(key) else { return };
            let rank = rank_and_id(key).map_or(0, |(rank, _)| rank);
            let one = Backlog::one(placed(value).1);
            match queues.last_mut() {
                Some(last) if last.session_id == session_id && last.lane == lane => {
                    last.waits.add(one);
                    last.last_rank = rank;
                }
                _ => queues.push(Queue {
                    session_id: session_id.to_owned(),
                    lane,
                    waits: one,
                    last_rank: rank,
                }),
            }
        });
        queues
    }

    /// The sessions and sizes of the messages of the calendar.
    pub(super) fn calendar(&self) -> Vec<(String, usize)> {
        let mut messages = Vec::new();
        self.each(kind::CALENDAR, |_, value| {
            let (session_id, bytes) = placed(value);
            messages.push((String::from_utf8_lossy(session_id).into_owned(), bytes));
        });
        messages
    }

    /// Of the `most` messages of the calendar behind `after`, those of one session; the last that was looked at, if
    /// there may be more.
    pub(super) fn calendar_of(
        &self,
        session_id: &str,
        after: Option<(i64, Uuid)>,
        most: usize,
    ) -> (Vec<Uuid>, Option<(i64, Uuid)>) {
        let (at_us, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let mut from = time_key(kind::CALENDAR, at_us, &id).to_vec();
        from.push(0);
        let pairs = self.store.scan(&from, &[kind::CALENDAR + 1], most);
        let last = pairs.last().filter(|_| pairs.len() == most).and_then(|(key, _)| rank_and_id(key));
        let of_session = pairs.iter().filter(|(_, value)| placed(value).0 == session_id.as_bytes());
        (of_session.filter_map(|(key, _)| rank_and_id(key)).map(|(_, id)| id).collect(), last)
    }

    fn each(&self, kind: u8, mut take: impl FnMut(&[u8], &[u8])) {
        let mut from = vec![kind];
        loop {
            let pairs = self.store.scan(&from, &[kind + 1], CHUNK);
            for (key, value) in &pairs {
                take(key, value);
            }
            match pairs.into_iter().last() {
                Some((key, _)) => {
                    from = key;
                    from.push(0);
                }
                None => return,
            }
        }
    }
}

fn read_known(value: &[u8]) -> Result<Known, wire::Error> {
    let mut from = Reader::new(value.get(1..).unwrap_or_default());
    match value.first() {
        Some(0) => Kept::read(&mut from).map(Known::Open),
        Some(1) => Done::read(&mut from).map(Known::Done),
        _ => Err(wire::Error::Truncated { field: "message" }),
    }
}

/// Order of bytes is order of numbers.
fn ordered(number: i64) -> [u8; 8] {
    (number as u64 ^ (1 << 63)).to_be_bytes()
}

fn long_at(key: &[u8], at: usize) -> Option<i64> {
    let bytes: [u8; 8] = key.get(at..at + 8)?.try_into().ok()?;
    Some((u64::from_be_bytes(bytes) ^ (1 << 63)) as i64)
}

fn id_at(key: &[u8], at: usize) -> Option<Uuid> {
    Uuid::from_slice(key.get(at..at + 16)?).ok()
}

fn id_key(kind: u8, id: &Uuid) -> [u8; 17] {
    let mut key = [kind; 17];
    key[1..].copy_from_slice(id.as_bytes());
    key
}

fn time_key(kind: u8, at: i64, id: &Uuid) -> [u8; 25] {
    let mut key = [kind; 25];
    key[1..9].copy_from_slice(&ordered(at));
    key[9..].copy_from_slice(id.as_bytes());
    key
}

fn state_key(id: &Uuid, epoch: i64) -> [u8; 25] {
    let mut key = [kind::STATE; 25];
    key[1..17].copy_from_slice(id.as_bytes());
    key[17..].copy_from_slice(&ordered(epoch));
    key
}

fn text_key(kind: u8, text: &str) -> Vec<u8> {
    [&[kind], text.as_bytes()].concat()
}

fn leftover_key(key: Key) -> Vec<u8> {
    text_key(kind::LEFTOVER, &key.to_string())
}

fn queue_key(session_id: &str, lane: Lane, rank: i64, id: &Uuid) -> Vec<u8> {
    let mut key = text_key(kind::QUEUE, session_id);
    key.extend_from_slice(&[0, lane as u8]);
    key.extend_from_slice(&ordered(rank));
    key.extend_from_slice(id.as_bytes());
    key
}

fn place_key(id: &Uuid, kept: &Kept) -> Vec<u8> {
    match kept.place {
        Place::Queue => queue_key(&kept.session_id, kept.lane, kept.rank, id),
        Place::Calendar(at_us) => time_key(kind::CALENDAR, at_us, id).to_vec(),
    }
}

/// What stands at the place of a message: in the calendar its session, and the size of its request.
fn place_value(kept: &Kept) -> Vec<u8> {
    let mut value = match kept.place {
        Place::Queue => Vec::new(),
        Place::Calendar(_) => kept.session_id.clone().into_bytes(),
    };
    value.extend_from_slice(&u32::try_from(kept.command.len()).unwrap_or(u32::MAX).to_be_bytes());
    value
}

/// The session, in the calendar, and the size.
fn placed(value: &[u8]) -> (&[u8], usize) {
    match value.split_last_chunk() {
        Some((session_id, bytes)) => {
            (session_id, usize::try_from(u32::from_be_bytes(*bytes)).unwrap_or(usize::MAX))
        }
        None => (value, 0),
    }
}

/// The number and the id at the end of a key.
fn rank_and_id(key: &[u8]) -> Option<(i64, Uuid)> {
    let at = key.len().checked_sub(24)?;
    Some((long_at(key, at)?, id_at(key, at + 8)?))
}

fn session_and_lane(key: &[u8]) -> Option<(&str, Lane)> {
    let (head, _) = key.split_at_checked(key.len().checked_sub(24)?)?;
    let (session_id, rest) = head.get(1..)?.split_at_checked(head.len().checked_sub(3)?)?;
    let lane = Lane::ALL.get(usize::from(*rest.get(1)?))?;
    Some((std::str::from_utf8(session_id).ok()?, *lane))
}
