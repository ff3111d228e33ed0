//! The statuses the sender states. Event ids are deterministic, so stating a fact twice states it once.

use sluice_schemas::ids::event_id;
use sluice_schemas::{ErrorClass, MessageStatus, SendError, Source, Status};
use uuid::Uuid;

use super::message::Open;
use super::{Effect, Sender, Token};

/// What a status says beside what the message says.
#[derive(Debug, Default)]
pub(super) struct Fact {
    pub(super) status: Status,
    pub(super) claim: Option<(i64, i64)>,
    pub(super) attempt: Option<u32>,
    pub(super) error: Option<SendError>,
    pub(super) http_status: Option<u16>,
    pub(super) duration_ms: Option<u64>,
    pub(super) provider_message_id: Option<String>,
    pub(super) whatsapp_message_id: Option<String>,
    pub(super) chat_id: Option<String>,
    pub(super) next_attempt_at: Option<i64>,
    pub(super) wait: Option<(&'static str, Option<i64>)>,
    pub(super) evidence_event_id: Option<String>,
    pub(super) source: Source,
    /// When it happened, ms; now if not told.
    pub(super) occurred_at: Option<i64>,
}

/// An error of ours.
pub(super) fn error(class: ErrorClass, code: &str, detail: &str) -> SendError {
    SendError {
        class,
        code: code.to_owned(),
        provider_code: None,
        detail: Some(detail.to_owned()),
        retryable: false,
    }
}

impl Sender {
    /// States `fact` about an open message.
    pub(super) fn publish(
        &self,
        partition: i32,
        id: Uuid,
        open: &Open,
        fact: Fact,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        let status = Box::new(self.status_of(partition, id, open, fact));
        out.push(Effect::Publish { status, partition, traceparent: open.traceparent.clone(), token });
    }

    /// The status that tells `fact` about a message.
    pub(super) fn status_of(&self, partition: i32, id: Uuid, open: &Open, fact: Fact) -> MessageStatus {
        let command = &open.command;
        let session = self.sessions.get(open.session);
        let message_id = id.to_string();
        let event_id = match (fact.status, &fact.claim) {
            (Status::ProviderId, _) => event_id(&[
                &message_id,
                fact.status.as_str(),
                fact.whatsapp_message_id.as_deref().unwrap_or_default(),
            ]),
            (_, Some((epoch, seq))) => {
                event_id(&[&message_id, fact.status.as_str(), &epoch.to_string(), &seq.to_string()])
            }
            (_, None) => event_id(&[&message_id, fact.status.as_str()]),
        };
        let first = fact.status == Status::Accepted;
        let now_ms = self.now.wall_ms();
        MessageStatus {
            event_id: event_id.to_string(),
            message_id: Some(message_id),
            session_id: command.session_id.clone(),
            tenant_id: if session.tenant.is_empty() {
                command.tenant_id.clone()
            } else {
                Some(session.tenant.to_string())
            },
            idempotency_key: Some(command.idempotency_key.clone()),
            status: fact.status,
            occurred_at: fact.occurred_at.unwrap_or(now_ms),
            observed_at: now_ms,
            source: if fact.source == Source::Unknown { Source::Sender } else { fact.source },
            provider: session.config.as_ref().map(|config| config.provider).unwrap_or_default(),
            provider_message_id: fact.provider_message_id,
            whatsapp_message_id: fact.whatsapp_message_id,
            recipient: Some(open.recipient.to_string()),
            chat_id: fact.chat_id,
            participant: None,
            claim_epoch: fact.claim.map(|(epoch, _)| epoch),
            claim_seq: fact.claim.map(|(_, seq)| seq),
            attempt: fact.attempt.map(|n| i32::try_from(n).unwrap_or(i32::MAX)),
            next_attempt_at: fact.next_attempt_at,
            wait_reason: fact.wait.map(|(reason, _)| reason.to_owned()),
            wait_until: fact.wait.and_then(|(_, until)| until),
            error: fact.error,
            http_status: fact.http_status.map(i32::from),
            duration_ms: fact.duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            evidence_event_id: fact.evidence_event_id,
            content_sha256: None,
            content_type: command.content_type,
            body_sha256: first.then(|| hex::encode(open.body_hash)),
            template_name: command.template.as_ref().filter(|_| first).map(|t| t.name.clone()),
            pricing_category: None,
            billable: None,
            campaign_id: command.campaign_id.clone(),
            labels: command.labels.clone(),
            webhook_id: None,
            request_partition: Some(partition),
            request_offset: Some(open.request_offset),
        }
    }

    /// States `fact` about an open message by its id; nothing if it is gone.
    pub(super) fn publish_by_id(
        &self,
        partition: i32,
        id: Uuid,
        fact: Fact,
        token: Token,
        out: &mut Vec<Effect>,
    ) {
        if let Some(open) = self.open(partition, &id) {
            self.publish(partition, id, open, fact, token, out);
        }
    }
}
