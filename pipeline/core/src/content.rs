//! Two hashes over a request: one to refuse another body under the same key, one to know our own message
//! again when a provider echoes it.

use sha2::{Digest, Sha256};
use sluice_schemas::codec::Datum;
use sluice_schemas::{ContentType, OutboundCommand};

/// Hash over the canonical fields of a request: everything the recipient would notice, nothing about when,
/// how urgently or under which label it is sent. Two requests with one key and different hashes are a
/// `duplicate_conflict`.
pub fn body_hash(command: &OutboundCommand) -> [u8; 32] {
    let canonical = OutboundCommand {
        tenant_id: None,
        to: command.to.as_deref().map(|to| crate::recipient::canonical(to).unwrap_or_else(|_| to.to_owned())),
        priority: Default::default(),
        order: Default::default(),
        send_at: None,
        expires_at: None,
        in_doubt_policy: Default::default(),
        max_attempts: None,
        expectations: Vec::new(),
        condition: None,
        campaign_id: None,
        labels: Default::default(),
        ..command.clone()
    };
    let mut bytes = Vec::with_capacity(256);
    canonical.put(&mut bytes);
    Sha256::digest(&bytes).into()
}

/// Fingerprint of content as an echo shows it: the kind and the text or caption. A media URL is no part of
/// it, because providers echo their own copy's URL.
///
/// Connectors call this on echoes, the sender on requests; both must come to the same bytes.
pub fn fingerprint(content_type: ContentType, text: Option<&str>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(content_type.as_str().as_bytes());
    hash.update([0]);
    hash.update(text.unwrap_or_default().trim_end().as_bytes());
    hash.finalize().into()
}

/// The fingerprint of a request.
pub fn command_fingerprint(command: &OutboundCommand) -> [u8; 32] {
    let text = match command.content_type {
        ContentType::Location => command.location.as_ref().and_then(|l| l.name.as_deref()),
        ContentType::Contacts => command.contacts.first().map(|c| c.name.as_str()),
        ContentType::Poll => command.poll.as_ref().map(|p| p.question.as_str()),
        _ => command.text.as_deref().or_else(|| command.media.as_ref().and_then(|m| m.caption.as_deref())),
    };
    fingerprint(command.content_type, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> OutboundCommand {
        OutboundCommand {
            session_id: "s".into(),
            idempotency_key: "k".into(),
            to: Some("+15551234567".into()),
            content_type: ContentType::Text,
            text: Some(text.into()),
            ..Default::default()
        }
    }

    #[test]
    fn the_body_hash_ignores_when_and_how_but_not_what() {
        let plain = text("hi");
        let later = OutboundCommand { send_at: Some(5), campaign_id: Some("c".into()), ..plain.clone() };
        let spelled = OutboundCommand { to: Some("1 555 123 4567".into()), ..plain.clone() };
        assert_eq!(body_hash(&plain), body_hash(&later));
        assert_eq!(body_hash(&plain), body_hash(&spelled));
        assert_ne!(body_hash(&plain), body_hash(&text("ho")));
    }
}
