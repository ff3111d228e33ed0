//! Where an event goes: topic, key, placement and headers, decided by one pure function.

use sluice_schemas::headers;
use sluice_schemas::topics::Topic;
use sluice_schemas::{
    Facet, InboundWebhook, MessageStatus, ReceivedMessage, SessionLink, SessionStatus, Source,
};
use sluice_whatsapp::connector::Event;

use crate::directory::status_key;

/// A record to write, with everything but its encoding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    /// Which topic.
    pub(crate) topic: Topic,
    /// The key.
    pub(crate) key: String,
    /// The session, whose hash decides the partition.
    pub(crate) session_id: String,
    /// Headers, for filters that do not decode.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The value.
    pub(crate) value: Value,
}

/// The value of an [`Output`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// To `messages.status`.
    Status(Box<MessageStatus>),
    /// To `messages.received`.
    Received(Box<ReceivedMessage>),
    /// To `sessions.status`.
    Connection(Box<SessionStatus>),
    /// To `sessions.links`.
    Link(Box<SessionLink>),
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Addressed {
    /// It is written.
    To(Box<Output>),
    /// It is only counted, under the provider's name of its kind.
    Counted {
        /// The provider's name of the kind.
        kind: String,
    },
}

/// The session that a webhook is about, as the processor found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The session.
    pub(crate) session_id: String,
    /// Its tenant, when the directory knows it.
    pub(crate) tenant_id: Option<String>,
}

/// Addresses one event of `webhook`.
///
/// The session is the owner's whatever the connector wrote; ids of the webhook, the tenant and the trace are
/// put in where the connector left them out.
pub(crate) fn address(event: Event, webhook: &InboundWebhook, owner: &Owner) -> Addressed {
    match event {
        Event::Status(status) => to(status_output(*status, webhook, owner)),
        Event::Received(received) => to(received_output(*received, webhook, owner)),
        Event::Connection(status) => to(connection_output(*status, webhook, owner)),
        Event::Link(link) => to(link_output(*link, owner)),
        Event::Ignored { kind, .. } => Addressed::Counted { kind },
    }
}

fn to(output: Output) -> Addressed {
    Addressed::To(Box::new(output))
}

fn common_headers(owner: &Owner, event_type: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::with_capacity(6);
    if let Some(tenant) = &owner.tenant_id {
        all.push((headers::TENANT_ID, tenant.clone()));
    }
    all.push((headers::SESSION_ID, owner.session_id.clone()));
    all.push((headers::EVENT_TYPE, event_type.to_owned()));
    all
}

fn with_trace(mut all: Vec<(&'static str, String)>, webhook: &InboundWebhook) -> Vec<(&'static str, String)> {
    if let Some(trace) = webhook.headers.get(headers::TRACEPARENT) {
        all.push((headers::TRACEPARENT, trace.clone()));
    }
    all
}

fn status_output(mut status: MessageStatus, webhook: &InboundWebhook, owner: &Owner) -> Output {
    status.session_id.clone_from(&owner.session_id);
    status.tenant_id = status.tenant_id.or_else(|| owner.tenant_id.clone());
    status.source = Source::Webhook;
    status.provider = webhook.provider;
    status.webhook_id.get_or_insert_with(|| webhook.webhook_id.clone());
    let mut all = common_headers(owner, status.status.as_str());
    all.push((headers::SOURCE, Source::Webhook.as_str().to_owned()));
    if let Some(id) = &status.message_id {
        all.push((headers::MESSAGE_ID, id.clone()));
    }
    Output {
        topic: Topic::MessagesStatus,
        key: owner.session_id.clone(),
        session_id: owner.session_id.clone(),
        headers: with_trace(all, webhook),
        value: Value::Status(Box::new(status)),
    }
}

fn received_output(mut received: ReceivedMessage, webhook: &InboundWebhook, owner: &Owner) -> Output {
    received.session_id.clone_from(&owner.session_id);
    received.tenant_id = received.tenant_id.or_else(|| owner.tenant_id.clone());
    received.provider = webhook.provider;
    if received.webhook_id.is_empty() {
        received.webhook_id.clone_from(&webhook.webhook_id);
    }
    let all = common_headers(owner, received.direction.as_str());
    Output {
        topic: Topic::MessagesReceived,
        key: owner.session_id.clone(),
        session_id: owner.session_id.clone(),
        headers: with_trace(all, webhook),
        value: Value::Received(Box::new(received)),
    }
}

fn connection_output(mut status: SessionStatus, webhook: &InboundWebhook, owner: &Owner) -> Output {
    status.session_id.clone_from(&owner.session_id);
    status.tenant_id = status.tenant_id.or_else(|| owner.tenant_id.clone());
    status.facet = Facet::Connection;
    let all = common_headers(owner, status.connection.as_str());
    Output {
        topic: Topic::SessionsStatus,
        key: status_key(&owner.session_id, Facet::Connection),
        session_id: owner.session_id.clone(),
        headers: with_trace(all, webhook),
        value: Value::Connection(Box::new(status)),
    }
}

fn link_output(mut link: SessionLink, owner: &Owner) -> Output {
    link.session_id.clone_from(&owner.session_id);
    Output {
        topic: Topic::SessionsLinks,
        key: owner.session_id.clone(),
        session_id: owner.session_id.clone(),
        headers: common_headers(owner, link.kind.as_str()),
        value: Value::Link(Box::new(link)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::{Connection, Provider, Status};

    fn webhook() -> InboundWebhook {
        InboundWebhook {
            webhook_id: "w1".into(),
            provider: Provider::Wasender,
            headers: [("traceparent".to_owned(), "00-a-b-01".to_owned())].into(),
            ..Default::default()
        }
    }

    fn owner() -> Owner {
        Owner { session_id: "s1".into(), tenant_id: Some("t1".into()) }
    }

    fn output(event: Event) -> Output {
        match address(event, &webhook(), &owner()) {
            Addressed::To(output) => *output,
            Addressed::Counted { kind } => panic!("{kind} was only counted"),
        }
    }

    #[test]
    fn a_receipt_goes_to_the_status_topic_under_its_session() {
        let status = MessageStatus { status: Status::Read, ..Default::default() };
        let output = output(Event::Status(Box::new(status)));
        assert_eq!((output.topic, output.key.as_str()), (Topic::MessagesStatus, "s1"));
        assert_eq!(
            output.headers,
            vec![
                (headers::TENANT_ID, "t1".to_owned()),
                (headers::SESSION_ID, "s1".to_owned()),
                (headers::EVENT_TYPE, "READ".to_owned()),
                (headers::SOURCE, "WEBHOOK".to_owned()),
                (headers::TRACEPARENT, "00-a-b-01".to_owned()),
            ]
        );
        let Value::Status(status) = output.value else { panic!("not a status") };
        assert_eq!(status.webhook_id.as_deref(), Some("w1"));
        assert_eq!(status.tenant_id.as_deref(), Some("t1"));
        assert_eq!(status.source, Source::Webhook);
    }

    #[test]
    fn a_connection_is_keyed_by_session_and_facet_but_placed_by_session() {
        let status = SessionStatus { connection: Connection::LoggedOut, ..Default::default() };
        let output = output(Event::Connection(Box::new(status)));
        assert_eq!(output.topic, Topic::SessionsStatus);
        assert_eq!((output.key.as_str(), output.session_id.as_str()), ("s1/connection", "s1"));
    }

    #[test]
    fn an_incoming_message_and_a_code_go_to_their_own_topics() {
        let received = output(Event::Received(Box::default()));
        assert_eq!((received.topic, received.key.as_str()), (Topic::MessagesReceived, "s1"));
        let link = output(Event::Link(Box::default()));
        assert_eq!((link.topic, link.key.as_str()), (Topic::SessionsLinks, "s1"));
    }

    #[test]
    fn an_unknown_kind_is_counted_and_not_written() {
        let event = Event::Ignored { kind: "contacts.upsert".into(), why: "not needed" };
        assert_eq!(
            address(event, &webhook(), &owner()),
            Addressed::Counted { kind: "contacts.upsert".into() }
        );
    }
}
