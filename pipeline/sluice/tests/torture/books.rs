//! Everything that was told, asked and taken, put side by side.

use std::collections::{BTreeMap, HashMap};

use sluice_schemas::topics::Topic;
use sluice_schemas::{InDoubtPolicy, LedgerEntry, MessageState, MessageStatus, OutboundCommand, Status, ids};
use sluice_scylla::{Arrived, MemorySettings, MessageStore};
use sluice_testkit::eventually;
use sluice_whatsapp::wasender::simulator::{TruthEntry, Verdict};
use uuid::Uuid;

use crate::handover::{self, Gap, Taken};
use crate::load::{Asked, Purpose};
use crate::world::{Follow, LIMIT, Step, World, end_of, laws};

/// Messages read from a store at once.
const PAGE: usize = 500;

/// Where the first request for a message stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub offset: i64,
    pub at_ms: i64,
}

/// All of it.
pub struct Books {
    pub asked: HashMap<Uuid, Asked>,
    pub places: HashMap<Uuid, Place>,
    /// What was told of each message, in order.
    pub told: HashMap<Uuid, Vec<Step>>,
    /// What the facts of the topic come to.
    pub folded: HashMap<Uuid, MessageState>,
    /// `messages.state`, the highest revision of each.
    pub states: HashMap<Uuid, MessageState>,
    /// The CQL store.
    pub stored: HashMap<Uuid, MessageState>,
    pub truth: Vec<TruthEntry>,
    /// What the provider took, by session and text: when.
    pub taken: HashMap<(String, String), Vec<u64>>,
    pub policies: HashMap<String, InDoubtPolicy>,
    pub gaps: Vec<Gap>,
}

/// Laws that do not hold: which, for which messages or what.
pub type Broken = BTreeMap<&'static str, Vec<String>>;

impl Books {
    /// Reads everything; the pipeline is at rest.
    pub async fn read(
        world: &World,
        asked: HashMap<Uuid, Asked>,
        policies: HashMap<String, InDoubtPolicy>,
        away: &[(i64, i64)],
    ) -> Self {
        world.facts.at_its_end().await;
        let truth = world.provider.truth(0);
        let mut books = Self {
            places: places(world).await,
            told: told(world),
            folded: folded(world, &asked).await,
            states: states(world).await,
            stored: HashMap::new(),
            taken: HashMap::new(),
            gaps: Vec::new(),
            asked,
            truth,
            policies,
        };
        for entry in books.truth.iter().filter(|entry| entry.verdict == Verdict::Accepted) {
            let key = (entry.session.clone(), entry.text.clone());
            books.taken.entry(key).or_default().push(entry.at_ms);
        }
        books.stored = stored(world, books.asked.keys()).await;
        let ledger = follow::<LedgerEntry>(world, Topic::OutboundLedger).await;
        books.gaps = handover::gaps(&ledger.seen(), &books.calls(world), away);
        books
    }

    pub fn steps(&self, id: &Uuid) -> &[Step] {
        self.told.get(id).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn taken(&self, asked: &Asked) -> &[u64] {
        let key = (asked.message.session.clone(), asked.message.text.clone());
        self.taken.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// The calls that the provider took, with what the hand-over wants to know of each.
    fn calls(&self, world: &World) -> Vec<Taken> {
        let by_text: HashMap<(&str, &str), &Uuid> =
            self.asked.iter().map(|(id, a)| ((&*a.message.session, &*a.message.text), id)).collect();
        let accepted = self.truth.iter().filter(|entry| entry.verdict == Verdict::Accepted);
        accepted
            .filter_map(|entry| {
                let id = *by_text.get(&(&*entry.session, &*entry.text))?;
                let msg_id = entry.msg_id.map(|id| id.to_string());
                let step = self.steps(id).iter().find(|step| step.provider_message_id == msg_id);
                let plain = self.asked.get(id).is_some_and(|asked| asked.purpose == Purpose::Plain);
                Some(Taken {
                    partition: world.partition_of(&entry.session),
                    at_ms: i64::try_from(entry.at_ms).unwrap_or(i64::MAX),
                    epoch: step.and_then(|step| step.claim.0),
                    waiting_since_ms: self.places.get(id).filter(|_| plain).map(|place| place.at_ms),
                })
            })
            .collect()
    }

    /// Every law that does not hold.
    pub fn broken(&self, world: &World) -> Broken {
        let mut broken = Broken::new();
        let mut tell = |law, what: String| broken.entry(law).or_default().push(what);
        for (id, asked) in &self.asked {
            if let Some(why) = self.lost(id, asked) {
                tell("nothing is lost", format!("{id} {}: {why}", asked.message.session));
            }
            if let Some(why) = self.false_word(id, asked) {
                tell("what is told is true", format!("{id} {}: {why}", asked.message.session));
            }
            if let Some(why) = self.unexplained(id, asked) {
                tell("no double is unexplained", format!("{id} {}: {why}", asked.message.session));
            }
        }
        for breach in laws::rate_breaches(&self.truth, &world.limits) {
            tell("no rate is breached", breach);
        }
        for late in laws::out_of_order(&self.truth, &self.order()) {
            tell("chats are in order", format!("{late:?}"));
        }
        for (session, sums) in self.by_session(world) {
            if let Err(why) = sums.balance() {
                tell("the books balance", format!("{session}: {why}"));
            }
        }
        broken
    }

    /// An acknowledged request whose message has not exactly one end on which topic, state and store agree.
    fn lost(&self, id: &Uuid, asked: &Asked) -> Option<String> {
        let steps = self.steps(id);
        if !asked.acked {
            return None;
        }
        let Some(folded) = self.folded.get(id) else { return Some("no fact tells of it".to_owned()) };
        if end_of(steps).is_none() || !folded.terminal {
            return Some(format!("no end ({:?}): {steps:?}", folded.status));
        }
        let agree = |what, other: Option<&MessageState>| {
            (other.map(told_of) != Some(told_of(folded))).then(|| {
                let seen = other.map(|state| (state.status, state.revision));
                format!("the facts say {:?} {}, {what} {seen:?}", folded.status, folded.revision)
            })
        };
        agree("messages.state", self.states.get(id)).or_else(|| agree("the store", self.stored.get(id)))
    }

    /// Messages of which the store says something else than the facts on the topic come to, in a detail: the fields
    /// of the first, and how many.
    pub fn details(&self) -> (usize, Option<String>) {
        let differ = |(id, folded): &(&Uuid, &MessageState)| {
            self.stored.get(id).is_some_and(|stored| stored != *folded && told_of(stored) == told_of(folded))
        };
        let all: Vec<_> = self.folded.iter().filter(differ).collect();
        let shown = all.first().map(|(id, folded)| format!("{folded:?}\n    and {:?}", self.stored.get(id)));
        (all.len(), shown)
    }

    /// Told as sent and never taken, or told as not sent, without a doubt, and taken.
    fn false_word(&self, id: &Uuid, asked: &Asked) -> Option<String> {
        let steps = self.steps(id);
        let status = self.folded.get(id)?.status;
        let taken = self.taken(asked);
        let told = |wanted: Status| steps.iter().any(|step| step.status == wanted);
        if told(Status::Submitted) && taken.is_empty() {
            return Some(format!("told as sent and never taken: {steps:?}"));
        }
        let unsent = matches!(status, Status::Failed | Status::Expired | Status::Canceled | Status::Skipped);
        (unsent && !taken.is_empty() && !told(Status::InDoubt))
            .then(|| format!("{status:?}, and taken at {taken:?}: {steps:?}"))
    }

    /// Taken again without a doubt on record, or against the session's policy.
    fn unexplained(&self, id: &Uuid, asked: &Asked) -> Option<String> {
        let (steps, taken) = (self.steps(id), self.taken(asked));
        let unexplained = match self.policies.get(&asked.message.session) {
            Some(InDoubtPolicy::Resend) => laws::unexplained_doubles(taken, steps),
            _ => taken.get(1..).unwrap_or_default().to_vec(),
        };
        (!unexplained.is_empty()).then(|| format!("taken at {taken:?}: {steps:?}"))
    }

    /// Order of the requests on their topic, of messages that keep it.
    fn order(&self) -> HashMap<(&str, &str), usize> {
        let kept = self.asked.iter().filter(|(_, a)| matches!(a.purpose, Purpose::Plain | Purpose::Expiring));
        kept.filter_map(|(id, asked)| {
            let place = self.places.get(id)?;
            Some(((&*asked.message.session, &*asked.message.text), usize::try_from(place.offset).ok()?))
        })
        .collect()
    }

    /// The sums of each session.
    pub fn by_session(&self, world: &World) -> BTreeMap<String, Sums> {
        let mut all: BTreeMap<String, Sums> = BTreeMap::new();
        for (id, asked) in &self.asked {
            let sums = all.entry(asked.message.session.clone()).or_default();
            let taken = self.taken(asked);
            sums.acked += usize::from(asked.acked);
            sums.not_acked += usize::from(!asked.acked);
            sums.on_topic += usize::from(self.places.contains_key(id));
            sums.taken += usize::from(!taken.is_empty());
            sums.doubles += taken.len().saturating_sub(1);
            let status = self.folded.get(id).map(|state| state.status);
            match status {
                Some(Status::Failed) => sums.failed += 1,
                Some(Status::Expired) => sums.expired += 1,
                Some(Status::Canceled) => sums.canceled += 1,
                Some(status) if self.folded[id].terminal => {
                    sums.sent += 1;
                    *sums.receipts.entry(status.as_str()).or_default() += 1;
                }
                Some(_) => sums.open += 1,
                None => {}
            }
            let unsent = matches!(status, Some(Status::Failed | Status::Expired | Status::Canceled));
            sums.unsent_taken += usize::from(unsent && !taken.is_empty());
        }
        let summary = world.provider.summary();
        for (session, truth) in summary.sessions {
            let sums = all.entry(session).or_default();
            sums.calls = truth.received;
            sums.accepted = truth.accepted;
            sums.refused = truth.refused;
        }
        all
    }
}

/// What topic, state and store must agree on.
pub fn told_of(state: &MessageState) -> (Status, bool, i64) {
    (state.status, state.terminal, state.revision)
}

/// What became of the requests of one session.
#[derive(Debug, Default)]
pub struct Sums {
    pub acked: usize,
    /// Asked for, and the run was over before the answer came.
    pub not_acked: usize,
    /// On the topic of requests, each message once.
    pub on_topic: usize,
    pub sent: usize,
    pub failed: usize,
    pub expired: usize,
    pub canceled: usize,
    /// Without an end.
    pub open: usize,
    /// Told as unsent, in doubt before that, and taken.
    pub unsent_taken: usize,
    /// Messages that the provider took, each once.
    pub taken: usize,
    pub doubles: usize,
    /// Calls, as the provider counts them.
    pub calls: u64,
    pub accepted: u64,
    pub refused: u64,
    /// The sent ones by their status.
    pub receipts: BTreeMap<&'static str, usize>,
}

impl Sums {
    /// Both columns come to the same.
    fn balance(&self) -> Result<(), String> {
        let ends = self.sent + self.failed + self.expired + self.canceled + self.open;
        let checks = [
            ("requests on the topic = ends + open", self.on_topic, ends),
            ("taken = sent + told as unsent after a doubt", self.taken, self.sent + self.unsent_taken),
            ("acceptances = taken + doubles", to_usize(self.accepted), self.taken + self.doubles),
            ("calls = acceptances + refusals", to_usize(self.calls), to_usize(self.accepted + self.refused)),
            ("open = 0", self.open, 0),
        ];
        match checks.iter().find(|(_, one, other)| one != other) {
            None => Ok(()),
            Some((what, one, other)) => Err(format!("{what}: {one} and {other} ({self:?})")),
        }
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A topic, read to its end.
async fn follow<T: sluice_schemas::codec::Record>(world: &World, topic: Topic) -> Follow<T> {
    let follow = Follow::follow(&world.kafka, world.names.get(topic), world.codecs.codec(topic));
    follow.at_its_end().await;
    follow
}

async fn places(world: &World) -> HashMap<Uuid, Place> {
    let requests = follow::<OutboundCommand>(world, Topic::OutboundRequests).await;
    let mut places = HashMap::new();
    for (record, request) in requests.seen().iter() {
        let id = ids::message_id(&request.session_id, &request.idempotency_key);
        places.entry(id).or_insert(Place { offset: record.offset, at_ms: record.timestamp_ms });
    }
    places
}

/// What was told of each message so far, in order.
pub fn told(world: &World) -> HashMap<Uuid, Vec<Step>> {
    let mut told: HashMap<Uuid, Vec<Step>> = HashMap::new();
    for (record, fact) in world.facts.seen().iter() {
        if let Some(id) = fact.message_id.as_deref().and_then(|id| Uuid::parse_str(id).ok()) {
            told.entry(id).or_default().push(Step::of(record.timestamp_ms, fact));
        }
    }
    told
}

/// What the facts of the topic come to, by the same fold, in the store's twin in memory.
pub async fn folded(world: &World, asked: &HashMap<Uuid, Asked>) -> HashMap<Uuid, MessageState> {
    let settings = MemorySettings { messages_max: 10_000_000, ..MemorySettings::default() };
    let twin = MessageStore::memory(&settings).unwrap();
    let facts: Vec<Arrived<MessageStatus>> = {
        let seen = world.facts.seen();
        let arrived = |(record, fact): &(sluice_kafka::record::Record, MessageStatus)| Arrived {
            record: fact.clone(),
            received_ms: record.timestamp_ms,
        };
        seen.iter().map(arrived).collect()
    };
    for some in facts.chunks(PAGE) {
        twin.record_all(some).await.unwrap();
    }
    page_through(&twin, asked.keys()).await.unwrap()
}

/// What the store says.
pub async fn stored(world: &World, ids: impl Iterator<Item = &Uuid>) -> HashMap<Uuid, MessageState> {
    let store = MessageStore::connect(world.store.as_ref().unwrap()).await.unwrap();
    let ids: Vec<Uuid> = ids.copied().collect();
    eventually(LIMIT, "the store answers", || page_through(&store, ids.iter())).await
}

async fn page_through(
    store: &MessageStore,
    ids: impl Iterator<Item = &Uuid>,
) -> Result<HashMap<Uuid, MessageState>, sluice_scylla::Error> {
    let ids: Vec<String> = ids.map(Uuid::to_string).collect();
    let mut all = HashMap::new();
    for some in ids.chunks(PAGE) {
        all.extend(by_id(store.messages_by_id(some).await?));
    }
    Ok(all)
}

fn by_id(states: Vec<MessageState>) -> impl Iterator<Item = (Uuid, MessageState)> {
    states.into_iter().filter_map(|state| Some((Uuid::parse_str(&state.message_id).ok()?, state)))
}

async fn states(world: &World) -> HashMap<Uuid, MessageState> {
    let states = follow::<MessageState>(world, Topic::MessagesState).await;
    let mut kept: HashMap<Uuid, MessageState> = HashMap::new();
    for (_, state) in states.seen().iter() {
        let Ok(id) = Uuid::parse_str(&state.message_id) else { continue };
        if kept.get(&id).is_none_or(|known| known.revision <= state.revision) {
            kept.insert(id, state.clone());
        }
    }
    kept
}
