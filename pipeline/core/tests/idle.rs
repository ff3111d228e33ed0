//! What a session that has nothing to send costs in memory. Alone in its process, so that nothing else counts.
#![cfg(target_os = "linux")]

use sluice_core::sender::{Input, Sender, SessionCondition, SessionConfig, Settings};
use sluice_core::time::Now;
use sluice_schemas::{Connection, InDoubtPolicy, OnDelete, Provider, RateLimit};

const SESSIONS: usize = 100_000;
/// 100,000 idle sessions may cost 100 MiB in all, and the directory has its part of that.
const BYTES_MAX: usize = 256;

/// Bytes of memory the process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says how much");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

fn config() -> SessionConfig {
    SessionConfig {
        tenant_id: "acme".into(),
        provider: Provider::Wasender,
        account_id: "acme-main".into(),
        base_url: "https://provider.example".into(),
        base_url_in_flight_max: None,
        limits: vec![RateLimit { count: 1, per_ms: 5_000, burst: 1 }],
        pair_limits: vec![RateLimit { count: 1, per_ms: 6_000, burst: 1 }],
        max_in_flight: 1,
        in_doubt_policy: InDoubtPolicy::Hold,
        tenant_weight: 1,
        needs_bridge: true,
        binding_epoch: 0,
        on_rebinding: OnDelete::Move,
    }
}

#[test]
fn an_idle_session_costs_little() {
    let now = Now { wall_us: 1_700_000_000_000_000, boot_us: 1_000_000_000 };
    let connected =
        SessionCondition { paused: false, connection: Connection::Connected, connection_at_ms: 1_000 };
    let mut sender = Sender::new(Settings::default(), "test", 96, 7);
    let mut out = Vec::new();
    let before = resident();
    for n in 0..SESSIONS {
        let session_id: std::sync::Arc<str> = format!("acme-session-{n:06}").into();
        let config = Some(Box::new(config()));
        sender.step(now, Input::Session { session_id: session_id.clone(), config }, &mut out);
        sender.step(now, Input::Condition { session_id, condition: connected }, &mut out);
    }
    let each = (resident() - before) / SESSIONS;
    assert!(out.is_empty(), "nothing follows from it");
    assert_eq!(sender.sizes().sessions_at_work, 0);
    assert!(each <= BYTES_MAX, "{each} bytes for each session, more than {BYTES_MAX}");
    println!("{each} bytes for each idle session");
}
