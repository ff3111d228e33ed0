//! The demo account and its sessions: put through the API, and known to the simulated provider.

use anyhow::Context as _;
use futures::future::try_join_all;
use serde_json::json;
use sluice_whatsapp::wasender::simulator::{SessionSettings, Window};

use super::http::Call;
use super::{Dev, SESSIONS, TENANT};

/// The account.
const ACCOUNT: &str = "demo-wasender";
/// Its token at the simulated provider.
pub(super) const PERSONAL_TOKEN: &str = "demo-personal-token";
/// Sends of a session in a minute that Sluice allows itself: a paid plan's 256 with room for clocks and
/// networks.
const SENDS_PER_MINUTE: u32 = 250;

/// The id of a demo session, from 1.
pub(super) fn session_id(number: u32) -> String {
    format!("demo-{number:02}")
}

/// What the simulated provider allows a session: a paid plan, and no bunching, so that a breach would show
/// soon.
pub(super) fn provider_windows() -> Vec<Window> {
    vec![Window { count: 256, per_ms: 60_000 }, Window { count: 10, per_ms: 2_000 }]
}

/// Puts the account and the sessions.
///
/// # Errors
/// If the API refuses one.
pub(super) async fn seed(dev: &Dev) -> anyhow::Result<()> {
    let account = json!({
        "provider": "wasender",
        "base_url": dev.simulator.base_url(),
        "secrets": {"personal_token": PERSONAL_TOKEN},
    });
    put(dev, Call::put(format!("/v1/accounts/{ACCOUNT}"), account)).await?;
    try_join_all((1..=SESSIONS).map(|number| session(dev, number))).await?;
    Ok(())
}

async fn session(dev: &Dev, number: u32) -> anyhow::Result<()> {
    let id = session_id(number);
    let (api_key, webhook_secret) = (format!("key-of-{id}"), format!("webhook-secret-of-{id}"));
    dev.simulator.add_session(SessionSettings {
        api_key: api_key.clone(),
        session_id: id.clone(),
        webhook_url: Some(format!("http://{}/webhooks/wasender/{id}", dev.addresses.webhooks)),
        webhook_secret: webhook_secret.clone(),
        ..SessionSettings::default()
    });
    let body = json!({
        "tenant_id": TENANT,
        "account_id": ACCOUNT,
        "phone_number": format!("+15550001{number:03}"),
        "secrets": {"api_key": api_key, "webhook_secret": webhook_secret},
        "limits": [{"count": SENDS_PER_MINUTE, "per_ms": 60_000}],
    });
    put(dev, Call::put(format!("/v1/sessions/{id}"), body)).await
}

async fn put(dev: &Dev, call: Call) -> anyhow::Result<()> {
    let reply = dev.http().call(&call).await.with_context(|| format!("cannot put {}", call.path))?;
    anyhow::ensure!(matches!(reply.status, 200 | 201), "cannot put {}: {}", call.path, reply.body);
    Ok(())
}
