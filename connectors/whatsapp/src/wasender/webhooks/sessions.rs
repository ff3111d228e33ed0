//! What a session's connection came to, and the codes to link it.

use serde_json::Value;
use sluice_schemas::{Connection, Facet, LinkKind, SessionLink, SessionStatus};

use super::Delivery;
use crate::connector::Event;
use crate::json;

/// `session.status`: `{status, reason?}`; the word's case differs between routes and webhooks.
pub(super) fn status(delivery: &Delivery<'_>, data: &Value) -> Vec<Event> {
    let Some(word) = json::text(data, &["status"]) else {
        return vec![delivery.ignored("a session status without a status")];
    };
    let mut status = connection(delivery, connection_of(word), word);
    status.reason = json::text(data, &["reason"]).map(|reason| json::clipped(reason, 200));
    vec![Event::Connection(Box::new(status))]
}

/// `qrcode.updated`: `{qr}`, the raw text of a QR code. The session waits to be scanned.
pub(super) fn qr_code(delivery: &Delivery<'_>, data: &Value) -> Vec<Event> {
    let Some(code) = json::text(data, &["qr", "qrCode", "qrcode"]) else {
        return vec![delivery.ignored("a QR code without a code")];
    };
    vec![
        link(delivery, LinkKind::Qr, code, None),
        Event::Connection(Box::new(connection(delivery, Connection::NeedScan, "need_scan"))),
    ]
}

/// `passkey.updated`: `stage` is `request` (a token for the passkey page), `confirmation` (a code to compare) or
/// `fallback_qr` (linking goes back to QR; its own events follow).
pub(super) fn passkey(delivery: &Delivery<'_>, data: &Value) -> Vec<Event> {
    let code = match json::text(data, &["stage"]) {
        Some("request") => json::text(data, &["token"]),
        Some("confirmation") => json::text(data, &["code"]),
        _ => return vec![delivery.ignored("a passkey stage that needs nobody")],
    };
    let status = connection(delivery, Connection::NeedPasskey, "need_passkey");
    let mut events = vec![Event::Connection(Box::new(status))];
    if let Some(code) = code {
        events.push(link(
            delivery,
            LinkKind::Passkey,
            code,
            json::millis_of(data, &["expiresAt", "expires_at"]),
        ));
    }
    events
}

fn link(delivery: &Delivery<'_>, kind: LinkKind, code: &str, expires_at: Option<i64>) -> Event {
    Event::Link(Box::new(SessionLink {
        session_id: delivery.session_id.to_owned(),
        kind,
        code: code.to_owned(),
        expires_at,
        created_at: delivery.occurred_at(None),
    }))
}

fn connection(delivery: &Delivery<'_>, connection: Connection, word: &str) -> SessionStatus {
    SessionStatus {
        session_id: delivery.session_id.to_owned(),
        tenant_id: delivery.webhook.tenant_id.clone(),
        facet: Facet::Connection,
        connection,
        provider_status: Some(json::clipped(word, 60)),
        occurred_at: delivery.occurred_at(None),
        updated_at: delivery.webhook.received_at,
        ..SessionStatus::default()
    }
}

fn connection_of(word: &str) -> Connection {
    match word.to_ascii_lowercase().as_str() {
        "connected" => Connection::Connected,
        "connecting" => Connection::Connecting,
        "disconnected" => Connection::Disconnected,
        "need_scan" => Connection::NeedScan,
        "need_passkey" => Connection::NeedPasskey,
        "logged_out" => Connection::LoggedOut,
        "expired" => Connection::Expired,
        "banned" => Connection::Banned,
        _ => Connection::Unknown,
    }
}
