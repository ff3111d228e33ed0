//! Continuous load: requests over Kafka and over the edge, some twice, some canceled, some for later, some that
//! expire soon, some to numbers that are not on WhatsApp.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sluice_kafka::clock::wall_ms;
use sluice_schemas::OutboundCommand;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::world::{OPS, Sent, World};

/// Chats of each session that are checked for order.
const CHATS: usize = 5;
/// The chat of scheduled messages, which join their queue when they are due.
const LATER: &str = "+15550000900";
/// A number that is not on WhatsApp.
pub const NOBODY: &str = "+15550000999";
/// Messages of one session without an end, at most.
const OPEN_MAX: usize = 30;
/// Messages asked for over one way at once.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(50);
const RETRY: Duration = Duration::from_millis(300);

/// Why a message is sent, beyond being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Plain,
    Later,
    Expiring,
    ToNobody,
}

/// A request as it was made.
#[derive(Debug, Clone)]
pub struct Asked {
    pub message: Sent,
    pub purpose: Purpose,
    pub send_at: Option<i64>,
    pub expires_at: Option<i64>,
    /// It was acknowledged to whoever asked.
    pub acked: bool,
    /// It was asked for again, and acknowledged again.
    pub repeated: bool,
    /// Its cancel was acknowledged.
    pub canceled: bool,
}

impl Asked {
    fn request(&self) -> OutboundCommand {
        OutboundCommand { send_at: self.send_at, expires_at: self.expires_at, ..self.message.command() }
    }
}

/// Which way a request goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Kafka,
    Edge,
}

/// What all tasks of the load share.
pub struct Load {
    world: Arc<World>,
    asked: Mutex<HashMap<Uuid, Asked>>,
    asked_of: Mutex<HashMap<String, usize>>,
    ended: Mutex<Ended>,
    number: AtomicUsize,
    over: AtomicBool,
}

/// Messages that have an end, as far as the facts were read.
#[derive(Default)]
struct Ended {
    read: usize,
    messages: HashSet<String>,
    by_session: HashMap<String, usize>,
}

impl Load {
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            asked: Mutex::default(),
            asked_of: Mutex::default(),
            ended: Mutex::default(),
            number: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// Starts asking; the tasks end after [`Self::end`].
    pub fn start(self: &Arc<Self>, seed: u64) -> Vec<JoinHandle<()>> {
        let ways = (0..AT_ONCE).map(|n| if n % 2 == 0 { Way::Kafka } else { Way::Edge });
        ways.enumerate()
            .map(|(n, way)| {
                let load = Arc::clone(self);
                let random = StdRng::seed_from_u64(seed ^ (n as u64 + 1));
                tokio::spawn(async move { load.ask(way, random).await })
            })
            .collect()
    }

    /// Nothing new is asked for.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Everything that was asked for.
    pub fn asked(&self) -> HashMap<Uuid, Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Messages with an end.
    pub fn ended(&self) -> usize {
        self.ended.lock().unwrap().messages.len()
    }

    /// Reads the facts that are new.
    pub fn look(&self) {
        let mut ended = self.ended.lock().unwrap();
        let seen = self.world.facts.seen();
        for (_, fact) in &seen[ended.read..] {
            let Some(id) = fact.message_id.as_ref().filter(|_| crate::world::is_end(&fact.status)) else {
                continue;
            };
            if ended.messages.insert(id.clone()) {
                *ended.by_session.entry(fact.session_id.clone()).or_default() += 1;
            }
        }
        ended.read = seen.len();
    }

    /// A session with room in its backlog; the room is taken.
    fn room(&self, random: &mut StdRng) -> Option<String> {
        let session = &self.world.sessions[random.random_range(0..self.world.sessions.len())];
        let done = self.ended.lock().unwrap().by_session.get(session).copied().unwrap_or(0);
        let mut asked_of = self.asked_of.lock().unwrap();
        let asked = asked_of.entry(session.clone()).or_default();
        let room = *asked < done + OPEN_MAX;
        *asked += usize::from(room);
        room.then(|| session.clone())
    }

    async fn ask(self: Arc<Self>, way: Way, mut random: StdRng) {
        let mut after = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            after.retain(|task: &JoinHandle<()>| !task.is_finished());
            let Some(session) = self.room(&mut random) else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let (id, asked) = self.next(&session, &mut random);
            let repeat = random.random_bool(0.06).then(|| random.random_range(0..5_000));
            let cancel = random.random_bool(0.05).then(|| random.random_range(0..3_000));
            if let Some(wait_ms) = cancel {
                let load = Arc::clone(&self);
                after.push(tokio::spawn(async move { load.cancel(id, wait_ms).await }));
            }
            if self.until_acked(way, &asked).await {
                self.note(id, |asked| asked.acked = true);
                if let Some(wait_ms) = repeat {
                    let load = Arc::clone(&self);
                    let way = if random.random_bool(0.5) { Way::Kafka } else { Way::Edge };
                    after.push(tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                        if load.until_acked(way, &asked).await {
                            load.note(id, |asked| asked.repeated = true);
                        }
                    }));
                }
            }
        }
        futures::future::join_all(after).await;
    }

    fn next(&self, session: &str, random: &mut StdRng) -> (Uuid, Asked) {
        let mut message = Sent::numbered(session, self.number.fetch_add(1, Ordering::Relaxed), CHATS);
        // Times of whole seconds look the same in Avro and in JSON.
        let soon = |seconds: i64| Some((wall_ms() / 1_000 + seconds) * 1_000);
        let (mut send_at, mut expires_at) = (None, None);
        let purpose = match random.random_range(0..100) {
            0..6 => Purpose::Later,
            6..10 => Purpose::Expiring,
            10..12 => Purpose::ToNobody,
            _ => Purpose::Plain,
        };
        match purpose {
            Purpose::Plain => {}
            Purpose::Later => {
                LATER.clone_into(&mut message.to);
                send_at = soon(random.random_range(1..15));
            }
            Purpose::Expiring => expires_at = soon(random.random_range(2..6)),
            Purpose::ToNobody => NOBODY.clone_into(&mut message.to),
        }
        let id = message.id();
        let asked =
            Asked { message, purpose, send_at, expires_at, acked: false, repeated: false, canceled: false };
        self.asked.lock().unwrap().insert(id, asked.clone());
        (id, asked)
    }

    fn note(&self, id: Uuid, what: impl FnOnce(&mut Asked)) {
        if let Some(asked) = self.asked.lock().unwrap().get_mut(&id) {
            what(asked);
        }
    }

    /// Asks until it is acknowledged, as a platform does; false when the run is over before.
    async fn until_acked(&self, way: Way, asked: &Asked) -> bool {
        loop {
            let acked = match way {
                Way::Kafka => self.world.offer(&asked.request()).await,
                Way::Edge => self.post(asked).await,
            };
            if acked || self.over.load(Ordering::Relaxed) {
                return acked;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn post(&self, asked: &Asked) -> bool {
        let message = &asked.message;
        let url = format!("http://{}/v1/sessions/{}/messages", self.world.ports.api, message.session);
        let time = |at: Option<i64>| {
            let at = at.and_then(DateTime::<Utc>::from_timestamp_millis);
            at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
        };
        let body = serde_json::json!({
            "to": message.to, "text": message.text, "send_at": time(asked.send_at),
            "expires_at": time(asked.expires_at),
        });
        let call = self.world.http.post(url).bearer_auth(OPS).header("Idempotency-Key", &message.key);
        let Ok(answer) = call.json(&body).send().await else { return false };
        let status = answer.status().as_u16();
        assert!(matches!(status, 202 | 503 | 408 | 504), "{status}: {:?}", answer.text().await);
        status == 202
    }

    async fn cancel(&self, id: Uuid, wait_ms: u64) {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        let session = self.asked.lock().unwrap().get(&id).map(|asked| asked.message.session.clone());
        let Some(session) = session else { return };
        let url = format!("http://{}/v1/sessions/{session}/messages/{id}/cancel", self.world.ports.api);
        let call =
            self.world.http.post(url).bearer_auth(OPS).header("Idempotency-Key", "cancel").send().await;
        if call.is_ok_and(|answer| answer.status().is_success()) {
            self.note(id, |asked| asked.canceled = true);
        }
    }
}
