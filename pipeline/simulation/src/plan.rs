//! What one seed does: sessions, requests and faults.

use std::sync::Arc;

use sluice_core::sender::{SessionConfig, Settings};
use sluice_schemas::ids::message_id;
use sluice_schemas::placement::partition_for;
use sluice_schemas::{
    Command, ContentType, InDoubtPolicy, OnDelete, Order, OutboundCommand, Priority, Provider, RateLimit,
};
use uuid::Uuid;

use crate::rng::Rng;

/// Session-placed topics have this many partitions; the world is partition 0.
pub(crate) const PARTITIONS: i32 = 2;

/// Times of the sender, short enough that a run settles in minutes; sizes small enough that they matter.
pub(crate) fn settings(rng: &mut Rng) -> Settings {
    // Some forget finished messages, and give up those that wait, within the run.
    let memory_ms = if rng.chance(40) { 180_000 } else { 7_200_000 };
    Settings {
        session_resident_max: 3,
        session_resident_min: 1,
        session_resident_held_max: 6,
        resident_max: 12,
        call_timeout_ms: 8_000,
        ledger_timeout_ms: 5_000,
        doubt_grace_ms: 5_000,
        attempts_max: 4,
        backoff_first_ms: 500,
        backoff_max_ms: 5_000,
        throttle_max_ms: 30_000,
        throttle_default_ms: 3_000,
        order_hold_max_ms: 15_000,
        unknown_session_hold_ms: 20_000,
        session_probe_ms: 10_000,
        ttl_ms: memory_ms,
        dedupe_window_ms: memory_ms,
        intake_records_max: 8,
        session_backlog_max: if rng.chance(50) { 15 } else { 150 },
        bridge_candidates_max: if rng.chance(50) { 6 } else { 1_000 },
        slowing_max: 4,
        slowing_recovery_ms: 10_000,
        session_pairs_max: 4,
        circuit_failures: 3,
        circuit_sessions_min: 2,
        circuit_open_ms: 1_000,
        circuit_open_max_ms: 15_000,
        look_up_after_ms: 5_000,
        look_ups_per_minute: 20,
        bridge_window_ms: 120_000,
        refence_min_ms: 500,
        refence_max_ms: 2_000,
        ..Settings::default()
    }
}

/// A session of the world.
pub(crate) struct Line {
    pub(crate) id: Arc<str>,
    pub(crate) config: SessionConfig,
    /// Whether its record stands.
    pub(crate) exists: bool,
    pub(crate) paused: bool,
    pub(crate) down: bool,
    /// The provider fails all its calls, and only its.
    pub(crate) broken: bool,
    pub(crate) connection_at_ms: i64,
    /// When its limits were last changed, true time, µs.
    pub(crate) limited_us: i64,
}

/// One record of the requests topic.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) command: Arc<OutboundCommand>,
    pub(crate) raw: Vec<u8>,
    /// The message it is about: its own, or the one it cancels.
    pub(crate) id: Uuid,
    /// Whether it decodes.
    pub(crate) readable: bool,
    /// Whether its schema has to be looked up first.
    pub(crate) delayed: bool,
}

impl Request {
    pub(crate) fn new(command: OutboundCommand) -> Self {
        let target = command.target_idempotency_key.as_deref().unwrap_or(&command.idempotency_key);
        Self {
            id: message_id(&command.session_id, target),
            raw: crate::log::bytes_of(&command),
            command: Arc::new(command),
            readable: true,
            delayed: false,
        }
    }

    /// Whether it asks for a message of its own.
    pub(crate) fn is_message(&self) -> bool {
        self.readable && !self.is_misrouted() && self.command.command != Command::Cancel
    }

    fn is_misrouted(&self) -> bool {
        partition_for(self.command.session_id.as_bytes(), PARTITIONS) != 0
    }
}

/// The `n`th session name placed on `partition`.
pub(crate) fn name_on(partition: i32, n: usize) -> String {
    let names = (0..).map(|i| format!("session-{i}"));
    names.filter(|name| partition_for(name.as_bytes(), PARTITIONS) == partition).nth(n).unwrap_or_default()
}

pub(crate) fn sessions(rng: &mut Rng) -> Vec<Line> {
    let urls = 1 + rng.below(2);
    let slots = 1 + rng.below(3) as u32;
    (0..3)
        .map(|n| Line {
            id: name_on(0, n).into(),
            config: config(rng, urls, slots),
            exists: n < 2 || rng.chance(60),
            paused: false,
            down: false,
            broken: false,
            connection_at_ms: 0,
            limited_us: i64::MIN / 2,
        })
        .collect()
}

/// Draws the limits of a session.
pub(crate) fn limits(rng: &mut Rng) -> Vec<RateLimit> {
    match rng.below(5) {
        0 => vec![],
        1 => vec![RateLimit { count: 1, per_ms: 3_000, burst: 1 }],
        2 => vec![RateLimit { count: 3, per_ms: 10_000, burst: 3 }],
        3 => vec![RateLimit { count: 60, per_ms: 120_000, burst: 40 }],
        _ => vec![
            RateLimit { count: 2, per_ms: 2_000, burst: 1 },
            RateLimit { count: 10, per_ms: 60_000, burst: 5 },
        ],
    }
}

fn pair_limits(rng: &mut Rng) -> Vec<RateLimit> {
    match rng.below(10) {
        0..2 => vec![RateLimit { count: 1, per_ms: 6_000, burst: 1 }],
        2 => vec![RateLimit { count: 3, per_ms: 10_000, burst: 2 }],
        _ => vec![],
    }
}

fn config(rng: &mut Rng, urls: usize, slots: u32) -> SessionConfig {
    let limits = limits(rng);
    let policies = [InDoubtPolicy::Resend, InDoubtPolicy::Fail, InDoubtPolicy::Hold];
    SessionConfig {
        tenant_id: format!("t{}", rng.below(2)),
        provider: Provider::Wasender,
        account_id: "a".into(),
        base_url: format!("http://{}", rng.below(urls)),
        base_url_in_flight_max: Some(slots),
        limits,
        pair_limits: pair_limits(rng),
        max_in_flight: 1 + rng.below(2) as u32,
        in_doubt_policy: policies[rng.below(3)],
        tenant_weight: 1,
        needs_bridge: rng.chance(60),
        binding_epoch: 0,
        on_rebinding: OnDelete::Move,
    }
}

/// Draws the next request; `past` are those drawn before.
pub(crate) fn request(rng: &mut Rng, now_ms: i64, sessions: &[Line], past: &[Request]) -> Request {
    let session =
        if rng.chance(3) { name_on(0, 7) } else { sessions[rng.below(sessions.len())].id.to_string() };
    let key = format!("k{}", past.len());
    let kind = rng.below(100);
    match kind {
        0..8 if !past.is_empty() => {
            // The same again, or the same key with another body.
            let mut again = past[rng.below(past.len())].clone();
            if kind < 2 && again.readable {
                again =
                    Request::new(OutboundCommand { text: Some("other".into()), ..(*again.command).clone() });
            }
            again
        }
        8..17 => Request::new(cancel(rng, session, &key, past)),
        17..20 => Request { delayed: true, ..Request::new(text(rng, session, key)) },
        36 => Request { readable: false, ..Request::new(text(rng, session, key)) },
        37 => Request::new(OutboundCommand { session_id: name_on(1, 0), ..text(rng, session, key) }),
        20..26 => {
            let at = now_ms + rng.between(-2_000, 40_000);
            Request::new(OutboundCommand { expires_at: Some(at), ..text(rng, session, key) })
        }
        26..31 => {
            let at = now_ms + rng.between(1_000, 60_000);
            Request::new(OutboundCommand { send_at: Some(at), ..text(rng, session, key) })
        }
        31 => Request::new(OutboundCommand { to: Some("nobody".into()), ..text(rng, session, key) }),
        32 => Request::new(OutboundCommand { tenant_id: Some("t1".into()), ..text(rng, session, key) }),
        33..36 => Request::new(OutboundCommand { max_attempts: Some(1), ..text(rng, session, key) }),
        38 => {
            let policies = [InDoubtPolicy::Resend, InDoubtPolicy::Fail, InDoubtPolicy::Hold];
            let policy = policies[rng.below(3)];
            Request::new(OutboundCommand { in_doubt_policy: policy, ..text(rng, session, key) })
        }
        _ => Request::new(text(rng, session, key)),
    }
}

pub(crate) fn text(rng: &mut Rng, session_id: String, idempotency_key: String) -> OutboundCommand {
    // Few texts and recipients, so that messages look alike.
    let text = if rng.chance(60) { "hello".to_owned() } else { idempotency_key.clone() };
    let priorities = [Priority::Normal, Priority::Normal, Priority::Normal, Priority::High, Priority::Low];
    OutboundCommand {
        command: Command::Send,
        session_id,
        idempotency_key,
        to: Some(format!("+1555123000{}", rng.below(3))),
        content_type: ContentType::Text,
        text: Some(text),
        order: if rng.chance(10) { Order::None } else { Order::Chat },
        priority: priorities[rng.below(priorities.len())],
        ..OutboundCommand::default()
    }
}

/// Cancels one of the last messages, or a message still to come.
fn cancel(rng: &mut Rng, session_id: String, key: &str, past: &[Request]) -> OutboundCommand {
    let recent = past.len().saturating_sub(8);
    let target = past[recent..].get(rng.below(12)).filter(|request| request.is_message());
    let (session_id, target) = match target {
        Some(target) => (target.command.session_id.clone(), target.command.idempotency_key.clone()),
        None => (session_id, format!("k{}", past.len() + rng.below(3))),
    };
    OutboundCommand {
        command: Command::Cancel,
        session_id,
        idempotency_key: key.to_owned(),
        target_idempotency_key: Some(target),
        ..OutboundCommand::default()
    }
}
