//! What the local state of a partition holds, and under which keys. It follows the ledger: what is in it is what the
//! records up to its offset say, so that it may be thrown away at any time and made anew.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_schemas::LedgerEntry;
use sluice_schemas::codec::Datum;
use sluice_schemas::wire::{self, Reader};
use uuid::Uuid;

use super::backlog::Backlog;
use super::by_id::{ById, Seeds};
use super::done::Done;
use super::kept::{Kept, Place, Spot};
use super::keys::{
    IDENTITY, LEFTOVERS, POSITION, id_at, id_key, kind, long_at, ordered, place_key, queue_key, rank_and_id,
    state_key, text_key, time_key,
};
use super::ledger::Key;
use super::message::Lane;
use super::store::{Pair, Store};
use crate::time::Now;

/// Changes when what is under the keys changes: a store of another format is not resumed.
pub const FORMAT: u32 = 2;

/// First byte of the keys whose values list messages that are done, and how many bytes each takes there.
pub const ENDED_KIND: u8 = kind::ENDED;

/// See [`ENDED_KIND`].
pub const ENDED_BYTES: usize = 24;

/// First bytes of the keys of which there is one per open message, for those who look at a store from outside.
pub const OPEN_KINDS: [u8; 2] = [kind::QUEUE, kind::CALENDAR];
/// What is read at once when all of a kind is read.
const CHUNK: usize = 1_000;
/// Messages and states that are not written into the store yet, at most.
const FRESH_MAX: usize = 1_000;
/// While a state is made anew it remembers which messages it holds, up to so many: a look into the store for each
/// of a million that are not there is what would take longest.
const SEEN_MAX: usize = 2_000_000;

/// What is known of a message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    Open(Spot),
    Done(Done),
}

/// Messages and when they were done.
type Ended = VecDeque<(i64, Uuid)>;

/// What is known of a message and not written into the store yet.
#[derive(Debug)]
enum Fresh {
    Open(Box<Kept>),
    Done(Box<Done>),
}

/// The record that tells one ledger partition from any other that has, or had, its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Where it stands.
    pub offset: i64,
    /// What it says.
    pub name: String,
}

/// Messages that wait in one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// In its queues, by lane.
    pub(super) lanes: [Backlog; 3],
    pub(super) calendar: Backlog,
    pub(super) last_rank: i64,
}

/// The rate of a session, as ledger records tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) tats: Vec<String>,
    pub(super) throttled_until_ms: Option<i64>,
}

/// The local state of one partition.
///
/// What a message is changes several times within a second, and then it is done: only what still stands after a
/// while is written into the store.
#[derive(Debug)]
pub(super) struct Local {
    store: Box<dyn Store>,
    /// Messages that differ from what the store holds; for an open one the store holds nothing.
    fresh: ById<Fresh>,
    /// The same of states.
    fresh_states: HashMap<(Uuid, i64), Box<LedgerEntry>, Seeds>,
    /// States that the store holds, in this form or an earlier one.
    stored_states: HashSet<(Uuid, i64), Seeds>,
    leftovers: HashSet<Key>,
    leftovers_changed: bool,
    waiting: BTreeMap<Arc<str>, Waiting>,
    /// Sessions of which `waiting` differs from what the store holds.
    waiting_changed: HashSet<Arc<str>>,
    /// Messages that were done, on their way out: the key they stand under, and those left.
    ending: Option<(Vec<u8>, Ended)>,
    /// Half of each id in the store, while it is made anew; what is not here is not there.
    seen: Option<HashSet<u64>>,
    /// Open messages.
    open_count: usize,
    /// A value was not what was put.
    corrupt: AtomicBool,
}

impl Local {
    pub(super) fn new(store: Box<dyn Store>) -> Self {
        Self {
            store,
            fresh: ById::default(),
            fresh_states: HashMap::default(),
            stored_states: HashSet::default(),
            leftovers: HashSet::new(),
            leftovers_changed: false,
            waiting: BTreeMap::new(),
            waiting_changed: HashSet::new(),
            ending: None,
            seen: None,
            open_count: 0,
            corrupt: AtomicBool::new(false),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.store.has_failed() || self.corrupt.load(Ordering::Relaxed)
    }

    /// Begins anew, with nothing.
    pub(super) fn clear(&mut self) {
        self.store.clear();
        self.fresh.clear();
        self.fresh_states.clear();
        self.stored_states.clear();
        self.leftovers.clear();
        self.leftovers_changed = false;
        self.waiting.clear();
        self.waiting_changed.clear();
        self.ending = None;
        self.seen = Some(HashSet::new());
        self.open_count = 0;
        self.corrupt.store(false, Ordering::Relaxed);
    }

    /// Takes up what the store holds.
    pub(super) fn take_up(&mut self) {
        let mut waiting = BTreeMap::new();
        let mut open_count = 0;
        self.each(kind::COUNTS, |key, value| {
            let session_id: Arc<str> = String::from_utf8_lossy(&key[1..]).into();
            if let Some(counts) = self.checked(read_waiting(value)) {
                open_count +=
                    counts.lanes.iter().map(|lane| lane.count).sum::<usize>() + counts.calendar.count;
                waiting.insert(session_id, counts);
            }
        });
        (self.waiting, self.open_count) = (waiting, open_count);
        let text = self.store.get(LEFTOVERS).unwrap_or_default();
        self.leftovers = text.split(|byte| *byte == b'\n').filter_map(Key::parse).collect();
    }

    /// All of the ledger is read.
    pub(super) fn is_whole(&mut self) {
        self.seen = None;
    }

    /// A value cannot be read: the store is worth nothing.
    pub(super) fn mark_corrupt(&self) {
        self.corrupt.store(true, Ordering::Relaxed);
    }

    pub(super) fn open_count(&self) -> usize {
        self.open_count
    }

    pub(super) fn wants_commit(&mut self, now: Now) -> bool {
        if self.fresh.len() + self.fresh_states.len() >= FRESH_MAX {
            self.flush();
        }
        self.store.wants_commit(now)
    }

    pub(super) fn commit(&mut self, now: Now, next_offset: i64) {
        self.flush();
        if std::mem::take(&mut self.leftovers_changed) {
            let mut keys: Vec<String> = self.leftovers.iter().map(Key::to_string).collect();
            keys.sort_unstable();
            self.store.put(LEFTOVERS, keys.join("\n").into_bytes());
        }
        for session_id in std::mem::take(&mut self.waiting_changed) {
            let key = text_key(kind::COUNTS, &session_id);
            match self.waiting.get(&session_id) {
                Some(waiting) => self.store.put(&key, write_waiting(waiting)),
                None => self.store.remove(&key),
            }
        }
        self.store.commit(now, next_offset);
    }

    /// Writes what is fresh into the store.
    fn flush(&mut self) {
        let mut ended = Vec::new();
        for (id, fresh) in self.fresh.drain() {
            if let Some(seen) = &mut self.seen {
                seen.insert(mark_of(&id));
            }
            let key = id_key(kind::MESSAGE, &id);
            match fresh {
                Fresh::Open(kept) => {
                    let (mut spot, mut whole) = (vec![0], Vec::with_capacity(256 + kept.bytes));
                    kept.spot.put(&mut spot);
                    kept.put(&mut whole);
                    self.store.put(&key, spot);
                    self.store.put(&place_key(&id, &kept), whole);
                    if kept.is_timed {
                        self.store.put(&time_key(kind::EXPIRY, kept.expires_at_us, &id), Vec::new());
                    }
                }
                Fresh::Done(done) => {
                    let mut value = vec![1];
                    done.put(&mut value);
                    self.store.put(&key, value);
                    ended.push((done.at_ms, id));
                }
            }
        }
        self.put_ended(ended);
        for ((id, epoch), entry) in self.fresh_states.drain() {
            let mut value = Vec::with_capacity(128);
            entry.put(&mut value);
            self.store.put(&state_key(&id, epoch), value);
            self.stored_states.insert((id, epoch));
        }
        if self.seen.as_ref().is_some_and(|seen| seen.len() > SEEN_MAX) {
            self.seen = None;
        }
    }

    /// Remembers when messages were done, all under the latest of their times.
    fn put_ended(&mut self, mut ended: Vec<(i64, Uuid)>) {
        ended.sort_unstable();
        let Some((at_ms, id)) = ended.last() else { return };
        let mut value = Vec::with_capacity(ended.len() * ENDED_BYTES);
        for (at_ms, id) in &ended {
            value.extend_from_slice(&ordered(*at_ms));
            value.extend_from_slice(id.as_bytes());
        }
        self.store.put(&time_key(kind::ENDED, *at_ms, id), value);
    }

    fn checked<T>(&self, value: Result<T, wire::Error>) -> Option<T> {
        if value.is_err() {
            self.mark_corrupt();
        }
        value.ok()
    }

    fn stored(&self, id: &Uuid) -> Option<Known> {
        if self.seen.as_ref().is_some_and(|seen| !seen.contains(&mark_of(id))) {
            return None;
        }
        let value = self.store.get(&id_key(kind::MESSAGE, id))?;
        self.checked(read_known(&value))
    }

    pub(super) fn known(&self, id: &Uuid) -> Option<Known> {
        match self.fresh.get(id) {
            Some(Fresh::Open(kept)) => Some(Known::Open(kept.spot.clone())),
            Some(Fresh::Done(done)) => Some(Known::Done((**done).clone())),
            None => self.stored(id),
        }
    }

    pub(super) fn done(&self, id: &Uuid) -> Option<Done> {
        match self.known(id)? {
            Known::Done(done) => Some(done),
            Known::Open(_) => None,
        }
    }

    /// Where an open message waits.
    pub(super) fn spot(&self, id: &Uuid) -> Option<Spot> {
        match self.known(id)? {
            Known::Open(spot) => Some(spot),
            Known::Done(_) => None,
        }
    }

    pub(super) fn kept(&self, id: &Uuid) -> Option<Kept> {
        if let Some(Fresh::Open(kept)) = self.fresh.get(id) {
            return Some((**kept).clone());
        }
        let spot = self.spot(id)?;
        let value = self.store.get(&place_key(id, &spot))?;
        self.checked(Kept::read(&value))
    }

    /// Keeps an open message, of which nothing is kept.
    pub(super) fn keep(&mut self, id: Uuid, kept: Kept) {
        self.count(&kept, true);
        self.fresh.insert(id, Fresh::Open(Box::new(kept)));
    }

    fn count(&mut self, spot: &Spot, more: bool) {
        let one = Backlog::one(spot.bytes);
        let waiting = self.waiting.entry(spot.session_id.clone()).or_default();
        waiting.last_rank = waiting.last_rank.max(spot.rank);
        let backlog = match spot.place {
            Place::Queue => &mut waiting.lanes[spot.lane as usize],
            Place::Calendar(_) => &mut waiting.calendar,
        };
        if more {
            backlog.add(one);
            self.open_count += 1;
        } else {
            backlog.take(one);
            self.open_count = self.open_count.saturating_sub(1);
        }
        let is_empty = waiting.calendar.count == 0 && waiting.lanes.iter().all(|lane| lane.count == 0);
        if is_empty {
            self.waiting.remove(&spot.session_id);
        }
        if !self.waiting_changed.contains(&spot.session_id) {
            self.waiting_changed.insert(spot.session_id.clone());
        }
    }

    /// Forgets an open message.
    pub(super) fn forget(&mut self, id: &Uuid, spot: &Spot) {
        self.count(spot, false);
        if matches!(self.fresh.remove(id), Some(Fresh::Open(_))) {
            return;
        }
        self.store.remove(&id_key(kind::MESSAGE, id));
        self.forget_place(id, spot);
    }

    fn forget_place(&mut self, id: &Uuid, spot: &Spot) {
        self.store.remove(&place_key(id, spot));
        if spot.is_timed {
            self.forget_expiry(id, spot.expires_at_us);
        }
    }

    pub(super) fn forget_due(&mut self, id: &Uuid, at_us: i64) {
        self.store.remove(&time_key(kind::CALENDAR, at_us, id));
    }

    pub(super) fn forget_expiry(&mut self, id: &Uuid, expires_at_us: i64) {
        self.store.remove(&time_key(kind::EXPIRY, expires_at_us, id));
    }

    /// Remembers a finished message, of which `known` was known; a later record of it replaces an earlier one.
    pub(super) fn finish(&mut self, id: Uuid, done: Done, known: Option<&Known>) {
        let was_fresh = matches!(self.fresh.insert(id, Fresh::Done(Box::new(done))), Some(Fresh::Open(_)));
        if let Some(Known::Open(spot)) = known {
            self.count(spot, false);
            if !was_fresh {
                self.forget_place(&id, spot);
            }
        }
    }

    /// Forgets a finished message.
    pub(super) fn forget_done(&mut self, id: &Uuid) {
        if self.done(id).is_some() {
            self.fresh.remove(id);
            self.store.remove(&id_key(kind::MESSAGE, id));
        }
    }

    /// At most `most` messages that were done before `before_ms`, each given once.
    pub(super) fn take_ended(&mut self, before_ms: i64, most: usize) -> Vec<Uuid> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((key, left)) = &mut self.ending else {
                let (from, to) = (
                    time_key(kind::ENDED, i64::MIN, &Uuid::nil()),
                    time_key(kind::ENDED, before_ms, &Uuid::nil()),
                );
                let Some((key, value)) = self.store.scan(&from, &to, 1).pop() else { break };
                self.ending = Some((key, read_ended(&value)));
                continue;
            };
            match left.pop_front() {
                Some((at_ms, id)) => {
                    if self.done(&id).is_some_and(|done| done.at_ms == at_ms) {
                        taken.push(id);
                    }
                }
                None => {
                    self.store.remove(key);
                    self.ending = None;
                }
            }
        }
        taken
    }

    /// Messages that were done at `since_ms` or later.
    pub(super) fn ended_since(&mut self, since_ms: i64) -> Vec<(Uuid, Done)> {
        self.flush();
        let mut ended = Vec::new();
        self.each_from(time_key(kind::ENDED, since_ms, &Uuid::nil()).to_vec(), |_, value| {
            ended.extend(read_ended(value).into_iter().filter(|(at_ms, _)| *at_ms >= since_ms));
        });
        ended
            .into_iter()
            .filter_map(|(at_ms, id)| Some((id, self.done(&id).filter(|done| done.at_ms == at_ms)?)))
            .collect()
    }

    /// Open messages of one session and lane, in order, behind `after`.
    pub(super) fn queued(
        &mut self,
        session_id: &str,
        lane: Lane,
        after: Option<(i64, Uuid)>,
        most: usize,
    ) -> Vec<(i64, Uuid, Kept)> {
        self.flush();
        let (rank, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let mut from = queue_key(session_id, lane, rank, &id);
        if after.is_some() {
            from.push(0);
        }
        let mut to = queue_key(session_id, lane, i64::MAX, &Uuid::max());
        to.push(0);
        let pairs = self.store.scan(&from, &to, most);
        let read = |(key, value): &Pair| {
            let (rank, id) = rank_and_id(key)?;
            Some((rank, id, self.checked(Kept::read(value))?))
        };
        pairs.iter().filter_map(read).collect()
    }

    /// Messages of the calendar that are due, at most `most`.
    pub(super) fn due(&mut self, now_us: i64, most: usize) -> Vec<(i64, Uuid)> {
        self.times(kind::CALENDAR, now_us.saturating_add(1), most)
    }

    /// Open messages whose time, as their requests say, is up, at most `most`.
    pub(super) fn expired(&mut self, now_us: i64, most: usize) -> Vec<(i64, Uuid)> {
        self.times(kind::EXPIRY, now_us.saturating_add(1), most)
    }

    /// When the first message of the calendar is due, or the first open message expires, wall µs.
    pub(super) fn next_time_us(&mut self) -> i64 {
        let mut first = |kind| self.times(kind, i64::MAX, 1).first().map_or(i64::MAX, |(at_us, _)| *at_us);
        first(kind::CALENDAR).min(first(kind::EXPIRY))
    }

    /// Keys of times below `before`.
    fn times(&mut self, kind: u8, before: i64, most: usize) -> Vec<(i64, Uuid)> {
        self.flush();
        let (from, to) = (time_key(kind, i64::MIN, &Uuid::nil()), time_key(kind, before, &Uuid::nil()));
        self.store.scan(&from, &to, most).iter().filter_map(|(key, _)| rank_and_id(key)).collect()
    }

    pub(super) fn put_state(&mut self, id: &Uuid, epoch: i64, entry: Box<LedgerEntry>) {
        self.fresh_states.insert((*id, epoch), entry);
    }

    pub(super) fn forget_state(&mut self, id: &Uuid, epoch: i64) {
        self.fresh_states.remove(&(*id, epoch));
        if self.stored_states.remove(&(*id, epoch)) {
            self.store.remove(&state_key(id, epoch));
        }
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
        self.leftovers_changed |= self.leftovers.insert(key);
    }

    pub(super) fn forget_leftover(&mut self, key: Key) {
        self.leftovers_changed |= self.leftovers.remove(&key);
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
    pub(super) fn states(&mut self) -> Vec<(Uuid, i64, Box<LedgerEntry>)> {
        self.flush();
        let mut states = Vec::new();
        self.each(kind::STATE, |key, value| {
            let (id, epoch) = (id_at(key, 1), long_at(key, 17));
            if let (Some(entry), Some(id), Some(epoch)) =
                (self.checked(LedgerEntry::read(&mut Reader::new(value))), id, epoch)
            {
                states.push((id, epoch, Box::new(entry)));
            }
        });
        self.stored_states = states.iter().map(|(id, epoch, _)| (*id, *epoch)).collect();
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

    /// Every leftover, in the order of their keys.
    pub(super) fn leftovers(&self) -> Vec<Key> {
        let mut keys: Vec<(String, Key)> = self.leftovers.iter().map(|key| (key.to_string(), *key)).collect();
        keys.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        keys.into_iter().map(|(_, key)| key).collect()
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

    /// The sessions in which messages wait, in the order of their ids.
    pub(super) fn waiting(&self) -> Vec<(Arc<str>, Waiting)> {
        self.waiting.iter().map(|(session_id, waiting)| (session_id.clone(), waiting.clone())).collect()
    }

    /// The next `most` of them behind `after`.
    pub(super) fn waiting_behind(&self, after: Option<&str>, most: usize) -> Vec<Arc<str>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range::<str, _>((from, Bound::Unbounded)).take(most).map(|(id, _)| id.clone()).collect()
    }

    /// Of the `most` messages of the calendar behind `after`, those of one session; the last that was looked at, if
    /// there may be more.
    pub(super) fn calendar_of(
        &mut self,
        session_id: &str,
        after: Option<(i64, Uuid)>,
        most: usize,
    ) -> (Vec<Uuid>, Option<(i64, Uuid)>) {
        self.flush();
        let (at_us, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let mut from = time_key(kind::CALENDAR, at_us, &id).to_vec();
        from.push(0);
        let pairs = self.store.scan(&from, &[kind::CALENDAR + 1], most);
        let last = pairs.last().filter(|_| pairs.len() == most).and_then(|(key, _)| rank_and_id(key));
        let of_session = |(key, value): &Pair| {
            let kept = self.checked(Kept::read(value))?;
            let (_, id) = rank_and_id(key)?;
            (*kept.session_id == *session_id).then_some(id)
        };
        (pairs.iter().filter_map(of_session).collect(), last)
    }

    fn each(&self, kind: u8, take: impl FnMut(&[u8], &[u8])) {
        self.each_from(vec![kind], take);
    }

    /// Every pair of a kind from a key on.
    fn each_from(&self, mut from: Vec<u8>, mut take: impl FnMut(&[u8], &[u8])) {
        let to = [from[0] + 1];
        loop {
            let pairs = self.store.scan(&from, &to, CHUNK);
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
        Some(0) => Spot::read(&mut from).map(Known::Open),
        Some(1) => Done::read(&mut from).map(Known::Done),
        _ => Err(wire::Error::Truncated { field: "message" }),
    }
}

/// Enough of an id to tell it from a million others, nearly always.
fn mark_of(id: &Uuid) -> u64 {
    id.as_u64_pair().1
}

fn read_ended(value: &[u8]) -> Ended {
    value.chunks_exact(ENDED_BYTES).filter_map(|one| Some((long_at(one, 0)?, id_at(one, 8)?))).collect()
}

fn write_waiting(waiting: &Waiting) -> Vec<u8> {
    let mut value = Vec::new();
    for backlog in waiting.lanes.iter().chain([&waiting.calendar]) {
        wire::put_long(&mut value, i64::try_from(backlog.count).unwrap_or(i64::MAX));
        wire::put_long(&mut value, i64::try_from(backlog.bytes).unwrap_or(i64::MAX));
    }
    wire::put_long(&mut value, waiting.last_rank);
    value
}

fn read_waiting(value: &[u8]) -> Result<Waiting, wire::Error> {
    let mut from = Reader::new(value);
    let mut backlog = || -> Result<Backlog, wire::Error> {
        let count = usize::try_from(from.long("count")?).unwrap_or(0);
        Ok(Backlog { count, bytes: usize::try_from(from.long("bytes")?).unwrap_or(0) })
    };
    let (lanes, calendar) = ([backlog()?, backlog()?, backlog()?], backlog()?);
    Ok(Waiting { lanes, calendar, last_rank: from.long("last_rank")? })
}
