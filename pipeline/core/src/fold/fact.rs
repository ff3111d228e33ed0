//! One fact about a message, in the form in which it is kept.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use sluice_schemas::{ContentType, MessageStatus, Provider, SendError, Source, Status};

/// How far back from its arrival a fact may be dated, milliseconds: WhatsApp providers redeliver for at most
/// 7 days (Meta's limit, the longest), so an older date is a broken clock.
const BACKDATE_MAX_MS: i64 = 8 * 24 * 3_600_000;

/// The name of a claim: the epoch of the owner that made it, and its number in that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// Epoch of the owner.
    pub epoch: i64,
    /// Number of the claim in the epoch.
    pub seq: i64,
}

/// A fact: what a [`MessageStatus`] says, with its time made sound and without what the fold does not use.
///
/// The serialised form is what the store keeps. It is a pure function of the record and the time the record
/// reached its topic, so a replay writes the same bytes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fact {
    /// Deterministic id of the event.
    pub event_id: String,
    /// What happened.
    #[serde(deserialize_with = "known_or_default")]
    pub kind: Status,
    /// When it happened, milliseconds, within [arrival − 8 d, arrival].
    pub at_ms: i64,
    /// When Sluice saw it, milliseconds, not later than its arrival.
    pub observed_ms: i64,
    /// Who states it.
    #[serde(deserialize_with = "known_or_default")]
    pub source: Source,
    /// The session.
    pub session_id: String,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The producer's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The claim it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Number of the attempt, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The provider.
    #[serde(deserialize_with = "known_or_default")]
    pub provider: Provider,
    /// Id in the provider's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    /// Id in WhatsApp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whatsapp_message_id: Option<String>,
    /// Canonical recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// Group member a receipt is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "known_or_default")]
    pub error: Option<SendError>,
    /// Kind of content.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "known_or_default")]
    pub content_type: ContentType,
    /// Hash over the canonical request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// Template sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_name: Option<String>,
    /// Meta pricing category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pricing_category: Option<String>,
    /// Meta: whether it is charged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billable: Option<bool>,
    /// From the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// From the request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A value as a later version may have kept it: what this one does not know is the default, so that one new
/// symbol does not make a message unreadable while versions are mixed.
fn known_or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

fn is_default(kind: &ContentType) -> bool {
    *kind == ContentType::Unknown
}

fn tie_of(form: &str) -> u16 {
    let digest = Sha256::digest(form.as_bytes());
    u16::from_be_bytes([digest[0], digest[1]]) % 1_000
}

impl Fact {
    /// The fact that `status` states, or nothing when it is of a kind this version does not know, or an operator's
    /// word about an attempt: that tells the sender what to do, and the sender states what comes of it.
    ///
    /// `received_ms` is when the record reached its topic (log append time). Providers' clocks are not
    /// trusted beyond it: a time outside [received − 8 d, received] is moved to the nearer end, and a missing
    /// one is the time Sluice saw it. A log without times (`received_ms` not above 0) leaves that to be
    /// trusted instead.
    pub fn of(status: &MessageStatus, received_ms: i64) -> Option<Self> {
        let is_word = status.source == Source::Operator;
        if status.status == Status::Unknown || status.event_id.is_empty() || is_word {
            return None;
        }
        let claim = status.claim_epoch.zip(status.claim_seq).map(|(epoch, seq)| Claim { epoch, seq });
        let occurred_ms = if status.occurred_at > 0 { status.occurred_at } else { status.observed_at };
        let received_ms = if received_ms > 0 { received_ms } else { status.observed_at };
        let earliest_ms = received_ms.saturating_sub(BACKDATE_MAX_MS);
        Some(Self {
            event_id: status.event_id.clone(),
            kind: status.status,
            at_ms: occurred_ms.clamp(earliest_ms, received_ms),
            observed_ms: status.observed_at.clamp(earliest_ms, received_ms),
            source: status.source,
            session_id: status.session_id.clone(),
            tenant_id: status.tenant_id.clone(),
            idempotency_key: status.idempotency_key.clone(),
            claim,
            attempt: status.attempt,
            provider: status.provider,
            provider_message_id: status.provider_message_id.clone(),
            whatsapp_message_id: status.whatsapp_message_id.clone(),
            recipient: status.recipient.clone(),
            participant: status.participant.clone(),
            error: status.error.clone(),
            content_type: status.content_type,
            body_sha256: status.body_sha256.clone(),
            template_name: status.template_name.clone(),
            pricing_category: status.pricing_category.clone(),
            billable: status.billable,
            campaign_id: status.campaign_id.clone(),
            labels: status.labels.clone(),
        })
    }

    /// The name of the fact inside its message: equal for equal events only.
    ///
    /// Names sort by how few facts of their sort a message can have, so that where the number of facts is
    /// bounded the many (holds, group receipts) give way to the few (ends, submissions).
    pub fn key(&self) -> String {
        let tier = match self.kind {
            _ if self.participant.is_some() => 4,
            Status::Held | Status::Scheduled | Status::Unknown => 3,
            Status::Retrying | Status::InDoubt => 2,
            Status::ProviderId | Status::CancelTooLate | Status::DuplicateConflict => 1,
            Status::Accepted | Status::Submitted | Status::Sent | Status::Delivered => 0,
            Status::Read | Status::Played => 0,
            Status::Failed | Status::Expired | Status::Canceled | Status::Skipped => 0,
        };
        format!("{tier}/{}/{}", self.kind.as_str(), self.event_id)
    }

    /// The form in which the fact is kept.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads the form in which the fact is kept.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// Whether this fact places the message in its session's list: see
    /// [`MessageFacts::listed_ms`](super::MessageFacts::listed_ms).
    pub fn lists(&self) -> bool {
        matches!(
            self.kind,
            Status::Accepted | Status::Failed | Status::Expired | Status::Canceled | Status::Skipped
        )
    }

    /// Whether it is a receipt: WhatsApp's word that the message exists there.
    pub fn is_receipt(&self) -> bool {
        matches!(self.kind, Status::Sent | Status::Delivered | Status::Read | Status::Played)
    }

    /// Whether it ends the message.
    pub fn is_end(&self) -> bool {
        matches!(self.kind, Status::Failed | Status::Expired | Status::Canceled | Status::Skipped)
    }

    /// Which of two records of one event is kept: the earlier; of two at one time, the one with the higher
    /// [`Fact::tie`]. `Less` means `self` is kept.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        self.at_ms.cmp(&other.at_ms).then_with(|| {
            let rank = |fact: &Self| {
                let form = fact.to_json().unwrap_or_default();
                (tie_of(&form), form)
            };
            rank(other).cmp(&rank(self))
        })
    }

    /// A number below 1,000 that depends on the kept form alone. A store that keeps, of two records of one event, the
    /// one with the higher write timestamp adds it to the time as microseconds, and so keeps the one the fold keeps
    /// (but for one pair in a thousand with the same number, where a CQL store keeps the one that expires later, and
    /// of two that expire together the greater).
    pub fn tie(&self) -> u16 {
        tie_of(&self.to_json().unwrap_or_default())
    }
}
