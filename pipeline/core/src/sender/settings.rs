//! Settings of the sender's decisions.

use serde::{Deserialize, Serialize};

/// Limits and times of the sender. Every one is documented in `defaults.toml` too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A claim not used within this time is dropped and made anew, milliseconds.
    pub claim_ttl_ms: u64,
    /// How long before the limits allow its call a message is claimed, milliseconds: about what a claim takes to be
    /// read back.
    pub claim_lead_ms: u64,
    /// Longest an HTTP call may take, milliseconds; from the client's settings.
    #[serde(skip)]
    pub call_timeout_ms: u64,
    /// Longest a ledger record may wait for its ack, milliseconds.
    pub ledger_timeout_ms: u64,
    /// How long evidence is waited for after the times above, before an attempt in doubt is decided, ms.
    pub doubt_grace_ms: u64,
    /// Attempts per message unless the request asks for fewer.
    pub attempts_max: u32,
    /// First pause before a retry, milliseconds; doubles each time, with full jitter.
    pub backoff_first_ms: u64,
    /// Longest pause before a retry, milliseconds.
    pub backoff_max_ms: u64,
    /// Longest wait taken from a provider's hint, milliseconds.
    pub throttle_max_ms: u64,
    /// Wait after a throttling answer that gives no hint, milliseconds.
    pub throttle_default_ms: u64,
    /// How many times slower than its limits a session goes at most while it is throttled; the interval doubles with
    /// each throttling answer.
    pub slowing_max: u32,
    /// Time without a throttling answer in which a slowed session's interval halves, milliseconds.
    pub slowing_recovery_ms: u64,
    /// How long a message waiting for retry or in doubt keeps its chat waiting, milliseconds.
    pub order_hold_max_ms: u64,
    /// A lane with something to send gets at least one of so many turns of its session, and of its chat.
    pub lane_share_min: u32,
    /// Recipients a session remembers for its pair limits; when so many have no full bucket, others wait.
    pub session_pairs_max: usize,
    /// How long messages of an unknown session wait for it to appear, milliseconds.
    pub unknown_session_hold_ms: u64,
    /// A session that is down is tried again after this time even if nothing says it is back, milliseconds.
    pub session_probe_ms: u64,
    /// Calls in a row that fail (no connection, 5xx, no answer) before a circuit opens: that of their session, and that
    /// of their base URL if `circuit_sessions_min` sessions are among them.
    pub circuit_failures: u32,
    /// Distinct sessions that must fail in a row before the circuit of their base URL opens.
    pub circuit_sessions_min: usize,
    /// How long a circuit is open before one call is tried, milliseconds; doubles with each that fails, with jitter.
    pub circuit_open_ms: u64,
    /// Longest a circuit is open before a call is tried, milliseconds.
    pub circuit_open_max_ms: u64,
    /// Life of a message without `expires_at`, milliseconds; from `deployment`.
    #[serde(skip)]
    pub ttl_ms: u64,
    /// How long a finished message is remembered to refuse it a second time, milliseconds; from `deployment`.
    #[serde(skip)]
    pub dedupe_window_ms: u64,
    /// HTTP calls at once per base URL, unless the account sets it.
    pub base_url_in_flight_max: u32,
    /// Request bytes of one partition taken in but not yet in the ledger.
    pub intake_bytes_max: usize,
    /// Requests of one partition taken in but not yet in the ledger.
    pub intake_records_max: usize,
    /// Messages of one lane of a session that wait in memory; those behind them are in the local state only.
    pub session_resident_max: usize,
    /// The same once `resident_max` messages are in memory in all.
    pub session_resident_min: usize,
    /// Messages of one lane of a session that may be in memory when all of them wait behind others of their chats.
    pub session_resident_held_max: usize,
    /// Messages in memory in all, about, of this process.
    pub resident_max: usize,
    /// How often the queues are looked through for messages whose time is up though their requests did not say when,
    /// milliseconds.
    pub expiry_sweep_ms: u64,
    /// Messages that may wait in one session; more are refused with `queue_full`.
    pub session_backlog_max: usize,
    /// Bytes of requests that may wait in one session.
    pub session_backlog_bytes_max: usize,
    /// How long a session may need at its limits for what is in its queues, seconds.
    pub session_backlog_s_max: u64,
    /// Messages that may wait in all sessions of one tenant that this process owns.
    pub tenant_backlog_max: usize,
    /// Bytes of requests that may wait in all sessions of one tenant that this process owns.
    pub tenant_backlog_bytes_max: usize,
    /// Without an echo, the WhatsApp id of a submitted message is asked for after this time, milliseconds.
    pub look_up_after_ms: u64,
    /// Look-ups per session and minute.
    pub look_ups_per_minute: u32,
    /// How long a submitted message waits for its WhatsApp id, milliseconds.
    pub bridge_window_ms: u64,
    /// Submitted messages of one session that may wait for their WhatsApp id; the oldest gives way.
    pub bridge_candidates_max: usize,
    /// How much earlier than its claim an echo may be stamped (clock skew, whole seconds), milliseconds.
    pub evidence_skew_ms: u64,
    /// Least and most time before a lost partition that is still assigned is fenced again, milliseconds.
    pub refence_min_ms: u64,
    /// See `refence_min_ms`.
    pub refence_max_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            claim_ttl_ms: 5_000,
            claim_lead_ms: 50,
            call_timeout_ms: 30_000,
            ledger_timeout_ms: 30_000,
            doubt_grace_ms: 20_000,
            attempts_max: 5,
            backoff_first_ms: 1_000,
            backoff_max_ms: 300_000,
            throttle_max_ms: 300_000,
            throttle_default_ms: 10_000,
            slowing_max: 8,
            slowing_recovery_ms: 60_000,
            order_hold_max_ms: 60_000,
            lane_share_min: 8,
            session_pairs_max: 100_000,
            unknown_session_hold_ms: 60_000,
            session_probe_ms: 60_000,
            circuit_failures: 5,
            circuit_sessions_min: 3,
            circuit_open_ms: 5_000,
            circuit_open_max_ms: 60_000,
            ttl_ms: 72 * 3_600_000,
            dedupe_window_ms: 7 * 86_400_000,
            base_url_in_flight_max: 256,
            intake_bytes_max: 16 * 1024 * 1024,
            intake_records_max: 20_000,
            session_resident_max: 256,
            session_resident_min: 8,
            session_resident_held_max: 4_096,
            resident_max: 100_000,
            expiry_sweep_ms: 30_000,
            session_backlog_max: 1_000_000,
            session_backlog_bytes_max: 4 * 1024 * 1024 * 1024,
            session_backlog_s_max: 90 * 86_400,
            tenant_backlog_max: 10_000_000,
            tenant_backlog_bytes_max: 16 * 1024 * 1024 * 1024,
            look_up_after_ms: 30_000,
            look_ups_per_minute: 10,
            bridge_window_ms: 600_000,
            bridge_candidates_max: 1_000,
            evidence_skew_ms: 5_000,
            refence_min_ms: 1_000,
            refence_max_ms: 5_000,
        }
    }
}

impl Settings {
    /// How long after a claim its outcome may still become known from this or a former owner, milliseconds:
    /// the claim's life, the call, the status record.
    pub fn doubt_wait_ms(&self) -> i64 {
        let ms = self.claim_ttl_ms + self.call_timeout_ms + self.ledger_timeout_ms + self.doubt_grace_ms;
        i64::try_from(ms).unwrap_or(i64::MAX)
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("sender.{key} {what}")]
pub struct Invalid {
    /// Key below `sender`.
    pub key: &'static str,
    /// What is wrong and the remedy.
    pub what: &'static str,
}

impl Settings {
    /// Refuses settings under which a promise would break.
    pub fn check(&self) -> Result<(), Invalid> {
        let refuse = |key, what| Err(Invalid { key, what });
        if self.claim_ttl_ms == 0 {
            return refuse("claim_ttl_ms", "is 0: no claim could ever be used; 5000 is usual");
        }
        if self.claim_lead_ms >= self.claim_ttl_ms / 2 {
            return refuse(
                "claim_lead_ms",
                "must be below half of claim_ttl_ms: claims would be too old to use",
            );
        }
        if self.attempts_max == 0 {
            return refuse("attempts_max", "is 0: nothing would ever be sent; set 1 or more");
        }
        if self.base_url_in_flight_max == 0 {
            return refuse("base_url_in_flight_max", "is 0: nothing would ever be sent; set 1 or more");
        }
        if self.circuit_failures == 0 || self.circuit_sessions_min == 0 {
            return refuse("circuit_failures", "and circuit_sessions_min must be above 0; 5 and 3 are usual");
        }
        if self.circuit_open_ms == 0 || self.circuit_open_ms > self.circuit_open_max_ms {
            return refuse("circuit_open_ms", "must be above 0 and not above circuit_open_max_ms");
        }
        let backlogs = [
            self.session_backlog_max,
            self.session_backlog_bytes_max,
            self.tenant_backlog_max,
            self.tenant_backlog_bytes_max,
        ];
        if backlogs.contains(&0) || self.session_backlog_s_max == 0 {
            return refuse(
                "session_backlog_max",
                "and the other backlog caps must be above 0: nothing could wait",
            );
        }
        if self.slowing_max == 0 || self.slowing_recovery_ms == 0 {
            return refuse(
                "slowing_max",
                "and slowing_recovery_ms must be above 0; slowing_max = 1 slows nothing",
            );
        }
        if self.session_pairs_max == 0 {
            return refuse(
                "session_pairs_max",
                "is 0: no session with pair limits could send; 100000 is usual",
            );
        }
        if self.lane_share_min < 4 {
            return refuse(
                "lane_share_min",
                "is below 4: three lanes need a turn each, and HIGH more; 8 is usual",
            );
        }
        if self.intake_records_max == 0 || self.intake_bytes_max == 0 {
            return refuse("intake_records_max", "and intake_bytes_max must be above 0");
        }
        if self.session_resident_min == 0 || self.session_resident_max < self.session_resident_min {
            return refuse("session_resident_min", "must be above 0 and not above session_resident_max");
        }
        if self.refence_min_ms > self.refence_max_ms {
            return refuse("refence_min_ms", "is above refence_max_ms");
        }
        if self.dedupe_window_ms < self.ttl_ms {
            return refuse("dedupe_window_ms", "is below ttl_ms: a message could outlive its own key");
        }
        Ok(())
    }
}
