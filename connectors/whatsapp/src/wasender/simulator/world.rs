//! Everything the simulator knows.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::faults::Faults;
use super::hooks::{self, Hooks};
use super::session::Session;
use super::settings::{SessionSettings, SimulatorSettings};
use super::truth::{SessionTruth, Summary, Truth};

/// Sessions that may come into being by themselves.
const AUTO_SESSIONS_MAX: usize = 1_000_000;

/// First `msgId`: like Wasender's, a number that no test mistakes for a count.
const FIRST_MSG_ID: u64 = 100_000;

/// Locks `mutex`; what a panic left behind is still good enough for a simulator's counts.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything.
pub(super) struct World {
    pub(super) settings: SimulatorSettings,
    pub(super) stop: CancellationToken,
    pub(super) faults: Faults,
    pub(super) truth: Truth,
    pub(super) hooks: Hooks,
    sessions: RwLock<Sessions>,
    messages: Mutex<Messages>,
    next_msg_id: AtomicU64,
    began: Instant,
}

#[derive(Default)]
struct Sessions {
    by_key: HashMap<String, Arc<Session>>,
    by_id: BTreeMap<String, Arc<Session>>,
}

/// A message that was sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) msg_id: u64,
    pub(super) whatsapp_id: String,
    pub(super) session: Arc<str>,
    pub(super) to: String,
    pub(super) remote_jid: String,
    /// Content in WhatsApp's names.
    pub(super) message: Value,
    pub(super) at_ms: u64,
    pub(super) status: u8,
}

#[derive(Default)]
struct Messages {
    by_id: HashMap<u64, Sent>,
    order: VecDeque<u64>,
}

impl World {
    pub(super) fn new(settings: SimulatorSettings) -> Result<Self, Error> {
        let hooks = Hooks::new(settings.webhooks.clone(), settings.seed)?;
        Ok(Self {
            truth: Truth::new(settings.truth_max, settings.doubles_known_max),
            hooks,
            settings,
            stop: CancellationToken::new(),
            faults: Faults::default(),
            sessions: RwLock::default(),
            messages: Mutex::default(),
            next_msg_id: AtomicU64::new(FIRST_MSG_ID),
            began: Instant::now(),
        })
    }

    /// Microseconds since the simulator began.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn add_session(&self, own: SessionSettings) -> Arc<Session> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let former = sessions.by_id.remove(&own.session_id);
        let counts = former
            .map(|former| {
                sessions.by_key.remove(&former.api_key);
                lock(&former.book).counts.clone()
            })
            .unwrap_or_default();
        let session = Arc::new(Session::new(own, &self.settings, counts));
        sessions.by_key.insert(session.api_key.clone(), Arc::clone(&session));
        sessions.by_id.insert(session.id.to_string(), Arc::clone(&session));
        session
    }

    /// The session of an API key; made now if its form allows.
    pub(super) fn session_of_key(&self, key: &str) -> Option<Arc<Session>> {
        let known = {
            let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
            sessions.by_key.get(key).cloned()
        };
        if known.is_some() {
            return known;
        }
        let auto = self.settings.auto_sessions.as_ref()?;
        let id = key.strip_prefix(&auto.key_prefix).filter(|id| !id.is_empty())?;
        {
            let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
            if sessions.by_id.len() >= AUTO_SESSIONS_MAX || sessions.by_id.contains_key(id) {
                // Another request may have made it meanwhile; another key may own this id.
                return sessions.by_key.get(key).cloned();
            }
        }
        Some(self.add_session(SessionSettings {
            api_key: key.to_owned(),
            session_id: id.to_owned(),
            webhook_url: auto.webhook_url.as_ref().map(|url| url.replace("{session}", id)),
            webhook_secret: auto.webhook_secret.clone(),
            limits: auto.limits.clone(),
            ..SessionSettings::default()
        }))
    }

    pub(super) fn session(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    pub(super) fn all_sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// Changes a status and tells the webhook receiver.
    pub(super) fn set_status(world: &Arc<Self>, session_id: &str, status: &str) -> bool {
        let Some(session) = world.session(session_id) else { return false };
        session.set_status(status);
        hooks::event(world, &session, "session.status", serde_json::json!({"status": status}));
        true
    }

    pub(super) fn next_msg_id(&self) -> u64 {
        self.next_msg_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A WhatsApp id for `msg_id`: looks unlike it, and is the same for the same seed.
    pub(super) fn whatsapp_id(&self, msg_id: u64) -> String {
        format!("3EB0{:016X}", scrambled(msg_id ^ self.settings.seed.rotate_left(32)))
    }

    pub(super) fn keep(&self, sent: Sent) {
        if self.settings.messages_kept_max == 0 {
            return;
        }
        let mut messages = lock(&self.messages);
        if messages.order.len() >= self.settings.messages_kept_max
            && let Some(oldest) = messages.order.pop_front()
        {
            messages.by_id.remove(&oldest);
        }
        messages.order.push_back(sent.msg_id);
        messages.by_id.insert(sent.msg_id, sent);
    }

    pub(super) fn message(&self, session: &Session, msg_id: u64) -> Option<Sent> {
        lock(&self.messages).by_id.get(&msg_id).filter(|sent| sent.session == session.id).cloned()
    }

    pub(super) fn change(&self, msg_id: u64, change: impl FnOnce(&mut Sent)) {
        if let Some(sent) = lock(&self.messages).by_id.get_mut(&msg_id) {
            change(sent);
        }
    }

    /// The newest messages of a session, at most `count_max`.
    pub(super) fn newest(&self, session: &Session, count_max: usize) -> Vec<Sent> {
        let messages = lock(&self.messages);
        let newest = messages.order.iter().rev().filter_map(|id| messages.by_id.get(id));
        newest.filter(|sent| sent.session == session.id).take(count_max).cloned().collect()
    }

    pub(super) fn summary(&self) -> Summary {
        let sessions: BTreeMap<String, SessionTruth> = self
            .all_sessions()
            .into_iter()
            .map(|session| (session.id.to_string(), lock(&session.book).counts.clone()))
            .collect();
        Summary::of(sessions, self.truth.doubles_exact(), self.hooks.counts())
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A bijection on 64 bits without visible pattern (the SplitMix64 finaliser, public domain).
fn scrambled(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
