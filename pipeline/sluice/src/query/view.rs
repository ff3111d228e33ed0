//! What the reads answer with: records of the store as JSON for people and programs, times in RFC 3339.

use serde::Serialize;
use sluice_schemas::{MessageState, ReceivedMessage, SendError, SessionStatus};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A time, RFC 3339 in UTC with milliseconds.
pub(crate) fn time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// What is known of a message.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct MessageView {
    /// The message.
    #[schema(example = "9d59d6c6-fdc0-5ae7-a88d-4054d84997f2")]
    pub(crate) message_id: String,
    /// The session it goes out from.
    pub(crate) session_id: String,
    /// The key the producer chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
    /// The join of all facts, for example `DELIVERED`.
    #[schema(example = "DELIVERED")]
    pub(crate) status: String,
    /// True when the sender will do no more; receipts may still follow.
    pub(crate) terminal: bool,
    /// Rises with each fact.
    pub(crate) revision: i64,
    /// Canonical recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// The provider.
    pub(crate) provider: String,
    /// Id given by the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_message_id: Option<String>,
    /// Id in WhatsApp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) whatsapp_message_id: Option<String>,
    /// Kind of content.
    pub(crate) content_type: String,
    /// Template sent, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) template_name: Option<String>,
    /// First time of each fact: status name in lower case → RFC 3339.
    pub(crate) times: BTreeMap<String, String>,
    /// Attempts known of.
    pub(crate) attempts: i32,
    /// Error of the latest failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ErrorView>,
    /// True while an attempt is in doubt and unsettled.
    pub(crate) in_doubt: bool,
    /// True when the recipient may have got it twice.
    pub(crate) possible_duplicate: bool,
    /// From the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) campaign_id: Option<String>,
    /// From the request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    /// Group members that have it.
    pub(crate) group_delivered: i32,
    /// Group members that read it.
    pub(crate) group_read: i32,
    /// When the latest fact was observed.
    pub(crate) updated_at: String,
}

/// Why an attempt or a message failed.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ErrorView {
    /// Stable code, for example `recipient_not_on_whatsapp`.
    pub(crate) code: String,
    /// What it means for the sender.
    pub(crate) class: String,
    /// Code given by the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_code: Option<String>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
    /// True when a later attempt may succeed.
    pub(crate) retryable: bool,
}

impl From<SendError> for ErrorView {
    fn from(error: SendError) -> Self {
        Self {
            code: error.code,
            class: error.class.as_str().to_owned(),
            provider_code: error.provider_code,
            detail: error.detail,
            retryable: error.retryable,
        }
    }
}

impl From<MessageState> for MessageView {
    fn from(state: MessageState) -> Self {
        let times = [
            ("accepted", state.accepted_at),
            ("scheduled", state.scheduled_at),
            ("submitted", state.submitted_at),
            ("sent", state.sent_at),
            ("delivered", state.delivered_at),
            ("read", state.read_at),
            ("played", state.played_at),
            ("failed", state.failed_at),
            ("expired", state.expired_at),
            ("canceled", state.canceled_at),
            ("skipped", state.skipped_at),
            ("in_doubt", state.in_doubt_at),
        ];
        Self {
            times: times
                .into_iter()
                .filter_map(|(name, at)| at.map(|at| (name.to_owned(), time(at))))
                .collect(),
            message_id: state.message_id,
            session_id: state.session_id,
            idempotency_key: state.idempotency_key,
            status: state.status.as_str().to_owned(),
            terminal: state.terminal,
            revision: state.revision,
            to: state.recipient,
            provider: state.provider.as_str().to_owned(),
            provider_message_id: state.provider_message_id,
            whatsapp_message_id: state.whatsapp_message_id,
            content_type: state.content_type.as_str().to_owned(),
            template_name: state.template_name,
            attempts: state.attempts,
            error: state.last_error.map(ErrorView::from),
            in_doubt: state.in_doubt,
            possible_duplicate: state.possible_duplicate,
            campaign_id: state.campaign_id,
            labels: state.labels,
            group_delivered: state.group_delivered,
            group_read: state.group_read,
            updated_at: time(state.updated_at),
        }
    }
}

/// A message that came in, or an echo of one that went out.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ReceivedView {
    /// Deterministic id of this event.
    pub(crate) event_id: String,
    /// The session it came to.
    pub(crate) session_id: String,
    /// INBOUND, PHONE_ECHO or API_ECHO.
    pub(crate) direction: String,
    /// The chat.
    pub(crate) chat_id: String,
    /// Id in WhatsApp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) whatsapp_message_id: Option<String>,
    /// Sender, E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Name the sender gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from_name: Option<String>,
    /// The group, when it came to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group_id: Option<String>,
    /// Kind of content.
    pub(crate) content_type: String,
    /// Text or caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// WhatsApp id of the message it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to_whatsapp_id: Option<String>,
    /// Our message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to_message_id: Option<String>,
    /// When it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_at: Option<String>,
    /// When Sluice got it.
    pub(crate) received_at: String,
}

impl From<ReceivedMessage> for ReceivedView {
    fn from(message: ReceivedMessage) -> Self {
        let caption = message.media.and_then(|media| media.caption);
        Self {
            event_id: message.event_id,
            session_id: message.session_id,
            direction: message.direction.as_str().to_owned(),
            chat_id: message.chat_id,
            whatsapp_message_id: message.whatsapp_message_id,
            from: message.from_e164.or(message.from_lid),
            from_name: message.from_name,
            group_id: message.group_id,
            content_type: message.content_type.as_str().to_owned(),
            text: message.text.or(caption),
            reply_to_whatsapp_id: message.reply_to_whatsapp_id,
            reply_to_message_id: message.reply_to_message_id,
            sent_at: message.sent_at.map(time),
            received_at: time(message.received_at),
        }
    }
}

/// The condition of a session, one entry a facet.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SessionStatusView {
    /// The session.
    pub(crate) session_id: String,
    /// Whether it can send, as the provider last said, for example `CONNECTED`.
    pub(crate) connection: String,
    /// True while the sender holds it or an operator has paused it.
    pub(crate) held: bool,
    /// Each side of its condition.
    pub(crate) facets: Vec<FacetView>,
}

/// One side of a session's condition.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct FacetView {
    /// CONNECTION, HOLD, LOAD, POLL or OPERATOR.
    pub(crate) facet: String,
    /// What the provider says (CONNECTION, POLL).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<String>,
    /// Held or paused (HOLD, OPERATOR).
    pub(crate) held: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When the hold ends, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<String>,
    /// Messages waiting (LOAD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backlog_messages: Option<i64>,
    /// Seconds of sending at its rate (LOAD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backlog_seconds: Option<i64>,
    /// Messages in doubt (LOAD).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_doubt: Option<i64>,
    /// When it became so.
    pub(crate) since: String,
}

impl SessionStatusView {
    /// The view of a session's facets, in any order.
    pub(crate) fn of(session_id: &str, facets: &[SessionStatus]) -> Self {
        use sluice_schemas::{Connection, Facet};
        let latest = facets
            .iter()
            .filter(|facet| matches!(facet.facet, Facet::Connection | Facet::Poll))
            .max_by_key(|facet| (facet.occurred_at, facet.facet == Facet::Connection));
        Self {
            session_id: session_id.to_owned(),
            connection: latest.map_or(Connection::Unknown, |facet| facet.connection).as_str().to_owned(),
            held: facets.iter().any(|facet| facet.held),
            facets: facets.iter().map(FacetView::from).collect(),
        }
    }
}

impl From<&SessionStatus> for FacetView {
    fn from(status: &SessionStatus) -> Self {
        use sluice_schemas::Facet;
        let tells_connection = matches!(status.facet, Facet::Connection | Facet::Poll);
        Self {
            facet: status.facet.as_str().to_owned(),
            connection: tells_connection.then(|| status.connection.as_str().to_owned()),
            held: status.held,
            reason: status.reason.clone(),
            until: status.until.map(time),
            backlog_messages: status.backlog_messages,
            backlog_seconds: status.backlog_seconds,
            in_doubt: status.in_doubt,
            since: time(status.occurred_at),
        }
    }
}

/// A code to link a session with a phone.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct QrView {
    /// The session.
    pub(crate) session_id: String,
    /// Form of the code: QR or PAIRING_CODE.
    pub(crate) kind: String,
    /// The code itself: draw a QR of this text, or type it.
    pub(crate) code: String,
    /// When it came.
    pub(crate) created_at: String,
    /// When it stops working.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

/// One page of messages.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct MessagePage {
    /// Newest first.
    pub(crate) items: Vec<MessageView>,
    /// Give it as `cursor` to get the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// One page of received messages.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct ReceivedPage {
    /// Newest first.
    pub(crate) items: Vec<ReceivedView>,
    /// Give it as `cursor` to get the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// The condition of a tenant's sessions.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct SessionStatusPage {
    /// By session id.
    pub(crate) items: Vec<SessionStatusView>,
    /// Give it as `cursor` to get the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::{Connection, Facet, Status};

    #[test]
    fn a_view_has_the_times_that_are_known_and_no_others() {
        let state = MessageState {
            message_id: "m".into(),
            status: Status::Sent,
            accepted_at: Some(0),
            sent_at: Some(1500),
            ..Default::default()
        };
        let view = MessageView::from(state);
        assert_eq!(view.status, "SENT");
        let times: Vec<_> = view.times.iter().map(|(name, at)| (name.as_str(), at.as_str())).collect();
        assert_eq!(times, [("accepted", "1970-01-01T00:00:00.000Z"), ("sent", "1970-01-01T00:00:01.500Z")]);
    }

    #[test]
    fn the_later_of_webhook_and_poll_says_whether_a_session_is_connected() {
        let facet = |facet, connection, occurred_at| SessionStatus {
            facet,
            connection,
            occurred_at,
            ..Default::default()
        };
        let facets = [
            facet(Facet::Connection, Connection::Connected, 5),
            facet(Facet::Poll, Connection::LoggedOut, 9),
            SessionStatus { facet: Facet::Operator, held: true, ..Default::default() },
        ];
        let view = SessionStatusView::of("s", &facets);
        assert_eq!((view.connection.as_str(), view.held, view.facets.len()), ("LOGGED_OUT", true, 3));
    }
}
