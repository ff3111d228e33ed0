//! Webhooks: which, when, and with what accidents.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Error;
use super::send::pause;
use super::session::Session;
use super::settings::WebhookSettings;
use super::world::{Sent, World, lock, unix_ms};

/// First wait before another try, milliseconds; doubled each time.
const RETRY_MS: u64 = 200;

/// Members of every simulated group who get and read what is sent there.
const MEMBERS: [&str; 2] = ["15550009001@s.whatsapp.net", "15550009002@s.whatsapp.net"];

/// What became of webhooks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCounts {
    /// Answered with 2xx.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Sent twice on purpose.
    pub doubled: u64,
    /// Not sent because too many were due.
    pub dropped: u64,
    /// Messages whose webhooks are still due.
    pub pending: u64,
}

/// A message from a customer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inbound {
    /// Session id.
    pub session: String,
    /// Sender's number.
    pub from: String,
    /// Text.
    pub text: String,
    /// WhatsApp id; made up when missing.
    pub id: Option<String>,
    /// Name the sender shows.
    pub name: Option<String>,
    /// Group it was written in.
    pub group: Option<String>,
    /// Sender's LID; then the chat is the LID.
    pub lid: Option<String>,
    /// The whole body instead of all this, sent as it is.
    pub raw: Option<Value>,
}

/// The sender of webhooks.
pub(super) struct Hooks {
    settings: RwLock<Option<Arc<WebhookSettings>>>,
    http: reqwest::Client,
    random: Mutex<StdRng>,
    in_flight: Semaphore,
    pending: AtomicUsize,
    delivered: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    dropped: AtomicU64,
}

/// One webhook of a message.
#[derive(Debug, Clone)]
enum Step {
    Sent,
    Failed,
    Status(u8),
}

impl Hooks {
    pub(super) fn new(settings: Option<WebhookSettings>, seed: u64) -> Result<Self, Error> {
        let in_flight_max = settings.as_ref().map_or(64, |settings| settings.in_flight_max.max(1));
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(in_flight_max)
            .build()?;
        Ok(Self {
            settings: RwLock::new(settings.map(Arc::new)),
            http,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            in_flight: Semaphore::new(in_flight_max),
            pending: AtomicUsize::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn set(&self, settings: Option<WebhookSettings>) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.map(Arc::new);
    }

    fn settings(&self) -> Option<Arc<WebhookSettings>> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn are_on(&self) -> bool {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn counts(&self) -> HookCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HookCounts {
            delivered: read(&self.delivered),
            failed: read(&self.failed),
            lost: read(&self.lost),
            doubled: read(&self.doubled),
            dropped: read(&self.dropped),
            pending: self.pending.load(Ordering::Relaxed) as u64,
        }
    }

    fn happens(&self, probability: f64) -> bool {
        // The ends need no random number, so that a test may rely on them.
        match probability {
            p if p <= 0.0 => false,
            p if p >= 1.0 => true,
            p => lock(&self.random).random_bool(p),
        }
    }

    fn jitter_ms(&self, max: u64) -> u64 {
        if max == 0 { 0 } else { lock(&self.random).random_range(0..=max) }
    }

    /// When each webhook of a message goes, with its accidents.
    fn plan(&self, settings: &WebhookSettings) -> Vec<(u64, Step)> {
        let mut due = vec![(settings.sent_after_ms, Step::Sent), (settings.sent_after_ms, Step::Status(2))];
        due.push((settings.delivered_after_ms, Step::Status(3)));
        if self.happens(settings.read) {
            due.push((settings.read_after_ms, Step::Status(4)));
            if self.happens(settings.played) {
                due.push((settings.read_after_ms, Step::Status(5)));
            }
        }
        let mut latest = 0;
        for (at_ms, _) in &mut due {
            // Jitter alone does not disorder them.
            *at_ms = (*at_ms + self.jitter_ms(settings.jitter_ms)).max(latest);
            latest = *at_ms;
        }
        for index in 1..due.len() {
            if self.happens(settings.disorder) {
                let (before, after) = due.split_at_mut(index);
                if let (Some(one), Some(other)) = (before.last_mut(), after.first_mut()) {
                    std::mem::swap(&mut one.1, &mut other.1);
                }
            }
        }
        let mut plan = Vec::with_capacity(due.len());
        for (at_ms, step) in due {
            if self.happens(settings.loss) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if self.happens(settings.doubling) {
                self.doubled.fetch_add(1, Ordering::Relaxed);
                plan.push((at_ms + self.jitter_ms(settings.jitter_ms), step.clone()));
            }
            plan.push((at_ms, step));
        }
        plan.sort_by_key(|(at_ms, _)| *at_ms);
        plan
    }
}

/// The webhooks of a message that WhatsApp took.
pub(super) fn sent(world: &Arc<World>, session: &Arc<Session>, sent: Sent) {
    if let Some(settings) = world.hooks.settings() {
        let plan = world.hooks.plan(&settings);
        carry_out(world, session, sent, settings, plan);
    }
}

/// The webhook of a message that WhatsApp refused.
pub(super) fn failed(world: &Arc<World>, session: &Arc<Session>, sent: Sent) {
    if let Some(settings) = world.hooks.settings() {
        let plan = vec![(settings.sent_after_ms, Step::Failed)];
        carry_out(world, session, sent, settings, plan);
    }
}

fn carry_out(
    world: &Arc<World>,
    session: &Arc<Session>,
    sent: Sent,
    settings: Arc<WebhookSettings>,
    plan: Vec<(u64, Step)>,
) {
    if session.webhook_url.is_none() {
        return;
    }
    let hooks = &world.hooks;
    if hooks.pending.load(Ordering::Relaxed) >= settings.pending_max {
        hooks.dropped.fetch_add(plan.len() as u64, Ordering::Relaxed);
        return;
    }
    hooks.pending.fetch_add(1, Ordering::Relaxed);
    let (world, session) = (Arc::clone(world), Arc::clone(session));
    tokio::spawn(async move {
        let began = Instant::now();
        for (at_ms, step) in plan {
            let passed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            pause(&world, at_ms.saturating_sub(passed_ms)).await;
            if world.stop.is_cancelled() {
                break;
            }
            if let Step::Status(status) = step {
                world.change(sent.msg_id, |sent| sent.status = sent.status.max(status));
            }
            for body in bodies(&world.hooks, &session, &sent, &settings, &step) {
                post(&world, &session, &settings, &body).await;
            }
        }
        world.hooks.pending.fetch_sub(1, Ordering::Relaxed);
    });
}

/// The bodies of a step; receipts of groups come one for each member.
fn bodies(
    hooks: &Hooks,
    session: &Session,
    sent: &Sent,
    settings: &WebhookSettings,
    step: &Step,
) -> Vec<Value> {
    let now_ms = unix_ms();
    let key = json!({"id": sent.whatsapp_id, "fromMe": true, "remoteJid": sent.remote_jid});
    let wrap = |event: &str, data: Value| {
        let in_ms = hooks.happens(settings.milliseconds);
        let timestamp = if in_ms { now_ms } else { now_ms / 1_000 };
        json!({"event": event, "sessionId": session.api_key, "timestamp": timestamp, "data": data})
    };
    // The three shapes seen: an object, an array, and entries under `messages`.
    let listed = |entry: Value| match (hooks.happens(settings.array), hooks.happens(0.5)) {
        (false, _) => entry,
        (true, false) => json!([entry]),
        (true, true) => json!({"messages": [entry]}),
    };
    match step {
        Step::Sent => {
            vec![wrap("message.sent", json!({"key": key, "message": sent.message, "success": true}))]
        }
        Step::Failed => {
            let error = format!("Failed to send message: Invalid number JID: {}", sent.to);
            vec![wrap("message.sent", json!({"success": false, "error": error}))]
        }
        Step::Status(status @ 3..=4) if sent.remote_jid.ends_with("@g.us") => {
            let time = if *status == 3 { "receiptTimestamp" } else { "readTimestamp" };
            let of_member = |member: &str| {
                let mut key = key.clone();
                key["participant"] = json!(member);
                let receipt = json!({"userJid": member, time: now_ms / 1_000});
                wrap("message-receipt.update", json!({"message": {"key": key, "receipt": receipt}}))
            };
            MEMBERS.into_iter().map(of_member).collect()
        }
        Step::Status(status) => {
            vec![wrap("messages.update", listed(json!({"key": key, "update": {"status": status}})))]
        }
    }
}

/// Sends an event that is about no message of ours, at once.
pub(super) fn event(world: &Arc<World>, session: &Arc<Session>, event: &str, data: Value) -> bool {
    let body =
        json!({"event": event, "sessionId": session.api_key, "timestamp": unix_ms() / 1_000, "data": data});
    post_later(world, session, body)
}

/// Sends an inbound message.
pub(super) fn inbound(world: &Arc<World>, inbound: &Inbound) -> bool {
    let Some(session) = world.session(&inbound.session) else { return false };
    if let Some(raw) = &inbound.raw {
        return post_later(world, &session, raw.clone());
    }
    let digits = inbound.from.trim_start_matches('+');
    let phone = format!("{digits}@s.whatsapp.net");
    let id = inbound.id.clone().unwrap_or_else(|| world.whatsapp_id(world.next_msg_id()));
    let key = match &inbound.group {
        Some(group) => json!({"id": id, "fromMe": false, "remoteJid": group,
            "participant": inbound.lid.as_deref().unwrap_or(&phone),
            "participantPn": phone, "cleanedParticipantPn": digits}),
        None => json!({"id": id, "fromMe": false, "remoteJid": inbound.lid.as_deref().unwrap_or(&phone),
            "senderPn": phone, "cleanedSenderPn": digits, "senderLid": inbound.lid}),
    };
    let message = json!({"key": key, "messageBody": inbound.text, "message": {"conversation": inbound.text},
        "pushName": inbound.name, "messageTimestamp": unix_ms() / 1_000});
    event(world, &session, "messages.received", json!({"messages": message}))
}

fn post_later(world: &Arc<World>, session: &Arc<Session>, body: Value) -> bool {
    let Some(settings) = world.hooks.settings().filter(|_| session.webhook_url.is_some()) else {
        return false;
    };
    let (world, session) = (Arc::clone(world), Arc::clone(session));
    tokio::spawn(async move { post(&world, &session, &settings, &body).await });
    true
}

/// Posts one webhook with the secret in its header, as Wasender does.
async fn post(world: &World, session: &Session, settings: &WebhookSettings, body: &Value) {
    let Some(url) = &session.webhook_url else { return };
    let hooks = &world.hooks;
    // The semaphore is never closed.
    let Ok(_place) = hooks.in_flight.acquire().await else { return };
    for attempt in 0..settings.attempts_max.max(1) {
        if attempt > 0 {
            pause(world, RETRY_MS << attempt.min(8)).await;
        }
        let request = hooks
            .http
            .post(url)
            .header("X-Webhook-Signature", &session.webhook_secret)
            .timeout(Duration::from_millis(settings.timeout_ms))
            .json(body);
        match request.send().await {
            Ok(response) if response.status().is_success() => {
                hooks.delivered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            _ if world.stop.is_cancelled() => return,
            Ok(_) | Err(_) => {}
        }
    }
    hooks.failed.fetch_add(1, Ordering::Relaxed);
}
