//! The webhook listener: verifies, strips secrets, writes, and answers 200 after the brokers'
//! acknowledgement.
//!
//! Temporary trouble is always a 503 with `Retry-After`: some providers never repeat after a 4xx, and none
//! can know better than we what is temporary here.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use sha2::{Digest, Sha256};
use sluice_kafka::clock::wall_ms;
use sluice_schemas::topics::WEBHOOK_BYTES_MAX;
use sluice_schemas::{InboundWebhook, Provider, Signature};
use sluice_whatsapp::connector::RawWebhook;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::Shared;
use super::incoming::{Ids, read_body};
use super::manage::provider_named;
use super::trace;
use crate::api::{Kind, Problem};
use crate::directory::{Secrets, Target};

/// Credentials that may sign a webhook: the present one, the one before it (rotation), and Meta's.
const SIGNING_SECRETS: [&str; 3] = ["webhook_secret", "webhook_secret_previous", "app_secret"];
/// Headers kept: none of them can hold a credential.
const KEPT_HEADERS: [&str; 5] =
    ["content-type", "user-agent", "x-webhook-timestamp", "x-webhook-request-id", "x-webhook-hmac-algorithm"];
/// Longest suffix kept, bytes.
const SUFFIX_BYTES_MAX: usize = 64;
/// Longest kept header value or query, bytes.
const KEPT_BYTES_MAX: usize = 1_024;

/// `POST /webhooks/{provider}/{session_or_account}`.
pub(super) async fn receive(
    State(edge): State<Shared>,
    Ids((provider, id)): Ids<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    let call = Call { id, rest: String::new(), query, headers };
    answer(&edge, &provider, call, body).await
}

/// The same with a secret, a suffix, or both behind it.
pub(super) async fn receive_below(
    State(edge): State<Shared>,
    Ids((provider, id, rest)): Ids<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, Problem> {
    let call = Call { id, rest, query, headers };
    answer(&edge, &provider, call, body).await
}

struct Call {
    id: String,
    /// Path after the id, without the slash.
    rest: String,
    query: Option<String>,
    headers: HeaderMap,
}

async fn answer(edge: &Shared, provider: &str, call: Call, body: Body) -> Result<&'static str, Problem> {
    let provider = provider_named(provider).filter(|provider| edge.connectors.get(*provider).is_some());
    let label = provider.map_or("unknown", Provider::as_str).to_ascii_lowercase();
    let result = match provider {
        Some(provider) => take(edge, provider, call, body).await,
        None => Err(Problem::new(Kind::UnknownProvider)),
    };
    let outcome = match &result {
        Ok(_) => "accepted",
        Err(problem) => match problem.kind {
            Kind::WebhookRefused => "unsigned",
            Kind::TooLarge => "too_large",
            Kind::UnknownSession | Kind::UnknownProvider => "unknown",
            _ => "unavailable",
        },
    };
    edge.metrics.webhooks.with_label_values(&[&label, outcome]).inc();
    result
}

async fn take(edge: &Shared, provider: Provider, call: Call, body: Body) -> Result<&'static str, Problem> {
    let target = target(edge, provider, &call.id)?;
    let connector = edge.connectors.get(provider).ok_or(Kind::UnknownProvider)?;
    let bytes_max = edge.settings.webhook_bytes_max.min(WEBHOOK_BYTES_MAX as usize);
    let body = read_body(body, bytes_max).await?;

    let secrets = signing_secrets(&target);
    let known: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
    let lower = lower_headers(&call.headers);
    let first = call.rest.split('/').next().filter(|segment| !segment.is_empty());
    let raw = RawWebhook { headers: &lower, body: &body, path_secret: first };
    let signature = connector.verify(raw, &known).map_err(|refused| {
        let webhook_target = &call.id;
        tracing::warn!(%refused, provider = provider.as_str(), webhook_target, "webhook refused");
        Problem::new(Kind::WebhookRefused).detail(refused.to_string())
    })?;

    let webhook = record(provider, &target, &call, &known, connector.strip_secrets(&body), &body, signature);
    edge.writer.write(&edge.records.webhook(&webhook, &trace::parent(&call.headers))).await?;
    tracing::debug!(
        webhook_id = webhook.webhook_id,
        session_id = webhook.session_id,
        account_id = webhook.account_id,
        "webhook accepted"
    );
    Ok("ok\n")
}

/// Whose webhook it is, from memory.
fn target(edge: &Shared, provider: Provider, id: &str) -> Result<Target, Problem> {
    edge.loaded()?;
    if let Some(target) = edge.directory.webhook_target(provider, id) {
        return Ok(target);
    }
    let grace = Duration::from_millis(edge.settings.unknown_session_grace_ms);
    let is_young = edge.directory.loaded_at().is_none_or(|at| at.elapsed() < grace);
    if is_young {
        return Err(Problem::new(Kind::Starting)
            .detail("the session is not known yet")
            .retry_after_s(edge.settings.retry_after_s));
    }
    Err(Problem::new(Kind::UnknownSession))
}

fn signing_secrets(target: &Target) -> Vec<String> {
    let pick = |secrets: &Secrets| {
        let named = SIGNING_SECRETS.iter().filter_map(|name| secrets.get(name));
        named.filter(|secret| !secret.is_empty()).map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
    };
    match target {
        Target::Session(session, account) => {
            let mut secrets = pick(&session.secrets);
            secrets.extend(account.iter().flat_map(|account| pick(&account.secrets)));
            secrets
        }
        Target::Account(account) => pick(&account.secrets),
    }
}

fn lower_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    text.collect()
}

fn record(
    provider: Provider,
    target: &Target,
    call: &Call,
    secrets: &[&str],
    stripped: Vec<u8>,
    body: &[u8],
    signature: Signature,
) -> InboundWebhook {
    let (session_id, account_id, tenant_id) = match target {
        Target::Session(session, _) => (
            Some(session.session_id.to_string()),
            session.account_id.to_string(),
            session.tenant_id.to_string(),
        ),
        Target::Account(account) => {
            (None, account.record.account_id.clone(), account.record.tenant_id.clone())
        }
    };
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = call.headers.get(*name)?.to_str().ok()?;
        (value.len() <= KEPT_BYTES_MAX).then(|| ((*name).to_owned(), value.to_owned()))
    });
    InboundWebhook {
        webhook_id: Uuid::now_v7().to_string(),
        provider,
        account_id: Some(account_id),
        session_id,
        tenant_id: Some(tenant_id),
        path_suffix: suffix(&call.rest, secrets),
        query: call.query.as_deref().and_then(|query| safe_query(query, secrets)),
        headers: kept.collect(),
        body: stripped,
        body_sha256: sha256_hex(body),
        signature,
        received_at: wall_ms(),
        spooled: false,
    }
}

fn sha256_hex(body: &[u8]) -> String {
    let mut text = [0; 64];
    // 32 bytes are always 64 digits.
    let _ = hex::encode_to_slice(Sha256::digest(body), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// What follows the secret in the path, when it can be no secret itself: words of small letters, as the event
/// names that Evolution appends.
fn suffix(rest: &str, secrets: &[&str]) -> Option<String> {
    let is_secret =
        |segment: &str| secrets.iter().any(|secret| bool::from(secret.as_bytes().ct_eq(segment.as_bytes())));
    let kept: Vec<&str> =
        rest.split('/').filter(|segment| !segment.is_empty() && !is_secret(segment)).collect();
    let suffix = kept.join("/");
    let is_plain = suffix.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'/'));
    (!suffix.is_empty() && suffix.len() <= SUFFIX_BYTES_MAX && is_plain).then_some(suffix)
}

/// The query without parameters that name or hold a secret.
fn safe_query(query: &str, secrets: &[&str]) -> Option<String> {
    const NAMES: [&str; 5] = ["secret", "token", "key", "password", "signature"];
    let is_safe = |pair: &&str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.to_ascii_lowercase();
        !NAMES.iter().any(|part| name.contains(part)) && !secrets.iter().any(|secret| value.contains(secret))
    };
    let kept = query.split('&').filter(|pair| !pair.is_empty()).filter(is_safe).collect::<Vec<_>>().join("&");
    (!kept.is_empty() && kept.len() <= KEPT_BYTES_MAX).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_path_or_query_is_kept() {
        assert_eq!(suffix("s3cret/messages-upsert", &["s3cret"]), Some("messages-upsert".into()));
        assert_eq!(suffix("0ld5ecret/messages-upsert", &["s3cret"]), None);
        assert_eq!(suffix("", &["s3cret"]), None);
        assert_eq!(safe_query("a=1&token=x&b=s3cret&apikey=9", &["s3cret"]), Some("a=1".into()));
        assert_eq!(safe_query("secret=1", &[]), None);
    }
}
