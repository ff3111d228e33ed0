//! What must hold between settings, checked before any port or broker is touched.

use std::collections::BTreeSet;

use super::{Role, Settings};
use crate::sealing::Sealer;

/// Checks settings against each other.
///
/// # Errors
/// One line for each thing that is wrong; each names the key and the remedy.
pub fn check(settings: &Settings) -> Result<(), Vec<String>> {
    let mut wrong = Vec::new();
    limits(settings, &mut wrong);
    sending(settings, &mut wrong);
    reading(settings, &mut wrong);
    listeners(settings, &mut wrong);
    tokens(settings, &mut wrong);
    if let Err(error) = Sealer::new(&settings.credentials) {
        wrong.push(format!("credentials: {error}"));
    }
    if let Err(error) = settings.store.validate() {
        wrong.push(error.to_string());
    }
    let deployment = &settings.deployment;
    if deployment.dedupe_window_ms < deployment.ttl_ms {
        wrong.push(
            "deployment.dedupe_window_ms must be at least deployment.ttl_ms: raise it, or lower the ttl, or a \
             message that is still open could be taken for new"
                .to_owned(),
        );
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// `delete.retention.ms` of the ledger, as the topic table has it.
const LEDGER_DELETE_RETENTION_MS: i64 = 604_800_000;

/// What the sender's promises rest on.
fn sending(settings: &Settings, wrong: &mut Vec<String>) {
    let sender = &settings.sender;
    if let Err(error) = sender.decisions(&settings.deployment).check() {
        wrong.push(error.to_string().replacen("sender.", "sender.decisions.", 1));
    }
    for (key, value) in [
        ("sender.evidence_interval_ms", sender.evidence_interval_ms),
        ("sender.watermark.interval_ms", sender.watermark.interval_ms),
        ("sender.watermark.warn_after_ms", sender.watermark.warn_after_ms),
    ] {
        if value == 0 {
            wrong.push(format!("{key} must be more than 0"));
        }
    }
    let store = &sender.store;
    for (key, value) in [
        ("write_buffer_kbytes_max", store.write_buffer_kbytes_max),
        ("batch_kbytes_max", store.batch_kbytes_max as u64),
        ("cache_mbytes_max", store.cache_mbytes_max),
    ] {
        if value == 0 {
            wrong.push(format!("sender.store.{key} must be more than 0"));
        }
    }
    if store.resume_age_max_ms > LEDGER_DELETE_RETENTION_MS / 2 {
        wrong.push(
            "sender.store.resume_age_max_ms must be at most 302400000, half of the ledger's delete.retention.ms: an \
             older state could have missed tombstones"
                .to_owned(),
        );
    }
    if sender.client.connect_timeout_ms >= sender.decisions.claim_ttl_ms {
        wrong.push(
            "sender.client.connect_timeout_ms must be below sender.decisions.claim_ttl_ms, or a slow connect could \
             outlive its claim"
                .to_owned(),
        );
    }
    if sender.client.call_timeout_ms <= sender.client.connect_timeout_ms {
        wrong.push("sender.client.call_timeout_ms must be above sender.client.connect_timeout_ms".to_owned());
    }
}

/// Bounds of the roles that read topics.
fn reading(settings: &Settings, wrong: &mut Vec<String>) {
    for (role, limits) in [("processor", &settings.processor.limits), ("reducer", &settings.reducer.limits)] {
        let positive = [
            ("in_flight_records_max", limits.in_flight_records_max as u64),
            ("in_flight_bytes_max", limits.in_flight_bytes_max as u64),
            ("batches_max", limits.batches_max as u64),
            ("batch_records_max", limits.batch_records_max as u64),
            ("commit_interval_ms", limits.commit_interval_ms),
            ("drain_timeout_ms", limits.drain_timeout_ms),
        ];
        for (key, _) in positive.into_iter().filter(|(_, value)| *value == 0) {
            wrong.push(format!("{role}.limits.{key} must be more than 0"));
        }
    }
    for (role, ratio, window) in [
        ("sender", settings.sender.dead_ratio_max, settings.sender.dead_window_records),
        ("processor", settings.processor.dead_ratio_max, settings.processor.dead_window_records),
        ("reducer", settings.reducer.dead_ratio_max, settings.reducer.dead_window_records),
    ] {
        if !(0.0..=1.0).contains(&ratio) {
            wrong.push(format!("{role}.dead_ratio_max must be between 0 and 1"));
        }
        if window == 0 {
            wrong.push(format!("{role}.dead_window_records must be more than 0"));
        }
    }
    if settings.reducer.limits.batches_max > 1 {
        wrong.push(
            "reducer.limits.batches_max must be 1: raise batch_records_max instead, or an older state of a message \
             could be published after a newer one"
                .to_owned(),
        );
    }
}

fn limits(settings: &Settings, wrong: &mut Vec<String>) {
    let edge = &settings.edge;
    let positive = [
        ("edge.body_bytes_max", edge.body_bytes_max as u64),
        ("edge.batch_bytes_max", edge.batch_bytes_max as u64),
        ("edge.batch_lines_max", edge.batch_lines_max as u64),
        ("edge.header_bytes_max", edge.header_bytes_max as u64),
        ("edge.webhook_bytes_max", edge.webhook_bytes_max as u64),
        ("edge.request_timeout_ms", edge.request_timeout_ms),
        ("edge.ack_timeout_ms", edge.ack_timeout_ms),
        ("edge.in_flight_max", edge.in_flight_max as u64),
        ("deployment.ttl_ms", settings.deployment.ttl_ms as u64),
        ("deployment.stop_timeout_ms", settings.deployment.stop_timeout_ms),
        ("deployment.broker_probe_interval_ms", settings.deployment.broker_probe_interval_ms),
        ("deployment.broker_probe_timeout_ms", settings.deployment.broker_probe_timeout_ms),
    ];
    for (key, value) in positive {
        if value == 0 {
            wrong.push(format!("{key} must be more than 0"));
        }
    }
    if edge.ack_timeout_ms >= edge.request_timeout_ms {
        wrong.push(
            "edge.ack_timeout_ms must be less than edge.request_timeout_ms: lower it, so that a broker that does \
             not answer becomes a 503 and not a cut request"
                .to_owned(),
        );
    }
    let webhook_limit = sluice_schemas::topics::WEBHOOK_BYTES_MAX as usize;
    if edge.webhook_bytes_max > webhook_limit {
        wrong
            .push(format!("edge.webhook_bytes_max must be at most {webhook_limit}: the topic takes no more"));
    }
}

fn listeners(settings: &Settings, wrong: &mut Vec<String>) {
    let mut all = vec![("admin.listen", settings.admin.listen)];
    if settings.roles.contains(&Role::Edge) {
        all.push(("edge.listen", settings.edge.listen));
        all.push(("edge.webhook_listen", settings.edge.webhook_listen));
    }
    if settings.roles.contains(&Role::Query) {
        all.push(("query.listen", settings.query.listen));
    }
    for (i, (key, address)) in all.iter().enumerate() {
        for (other, taken) in &all[..i] {
            // Port 0 asks for any free port, so two of them are not the same.
            if address == taken && address.port() != 0 {
                wrong.push(format!("{key} and {other} are both {address}: give each its own port"));
            }
        }
    }
}

fn tokens(settings: &Settings, wrong: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for (i, token) in settings.auth.tokens.iter().enumerate() {
        let key = format!("auth.tokens[{i}]");
        if token.name.is_empty() || !names.insert(&token.name) {
            wrong.push(format!("{key}.name must be given and be unique: it names the caller in logs"));
        }
        if hex::decode(&token.sha256).map_or(true, |bytes| bytes.len() != 32) {
            wrong.push(format!("{key}.sha256 must be 64 hex digits: printf %s \"$TOKEN\" | sha256sum"));
        }
        if token.tenant_id.is_empty() {
            wrong.push(format!("{key}.tenant_id must be a tenant, or \"*\" for an operator of all tenants"));
        }
    }
}
