//! Which record each request becomes: topic, key, placement, headers, value. Pure; [`super::writer`] only
//! carries.

use sluice_kafka::registry::{Codec, Codecs};
use sluice_schemas::topics::{REQUEST_BYTES_MAX, Topic};
use sluice_schemas::{
    Account, Command, Facet, InboundWebhook, OutboundCommand, Session, SessionAction, SessionCommand,
    SessionStatus, headers, ids,
};

use crate::directory::status_key;

/// What the broker's frame, the key and the headers may take of a request's limit, bytes.
const FRAME_BYTES: usize = 8 * 1024;
/// Largest encoded request, bytes.
pub(super) const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX as usize - FRAME_BYTES;

/// A record to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    /// Where to.
    pub(super) topic: Topic,
    /// Its key.
    pub(super) key: String,
    /// What decides its partition (murmur2 of this).
    pub(super) placed_by: String,
    /// Its value; none is a tombstone.
    pub(super) value: Option<Vec<u8>>,
    /// Its headers.
    pub(super) headers: Vec<(&'static str, String)>,
}

/// Makes records. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Records {
    commands: Codec<OutboundCommand>,
    sessions: Codec<Session>,
    accounts: Codec<Account>,
    statuses: Codec<SessionStatus>,
    session_commands: Codec<SessionCommand>,
    webhooks: Codec<InboundWebhook>,
}

impl Records {
    pub(super) fn new(codecs: &Codecs) -> Self {
        Self {
            commands: codecs.codec(Topic::OutboundRequests),
            sessions: codecs.codec(Topic::Sessions),
            accounts: codecs.codec(Topic::Accounts),
            statuses: codecs.codec(Topic::SessionsStatus),
            session_commands: codecs.codec(Topic::SessionsCommands),
            webhooks: codecs.codec(Topic::WebhooksInbound),
        }
    }

    /// A request. Its message id is that of the message it is about.
    pub(super) fn command(&self, command: &OutboundCommand, traceparent: &str) -> Write {
        let message_id = match command.command {
            Command::Send => ids::message_id(&command.session_id, &command.idempotency_key).to_string(),
            _ => command.target_message_id.clone().unwrap_or_default(),
        };
        let mut headers = tenant(command.tenant_id.as_deref());
        headers.extend([
            (headers::SESSION_ID, command.session_id.clone()),
            (headers::MESSAGE_ID, message_id),
            (headers::EVENT_TYPE, command.command.as_str().to_owned()),
            (headers::TRACEPARENT, traceparent.to_owned()),
        ]);
        Write {
            topic: Topic::OutboundRequests,
            key: command.session_id.clone(),
            placed_by: command.session_id.clone(),
            value: Some(self.commands.encode(command)),
            headers,
        }
    }

    pub(super) fn session(&self, session: &Session) -> Write {
        self.about_session(
            Topic::Sessions,
            session.session_id.clone(),
            &session.session_id,
            &session.tenant_id,
            "PUT",
            Some(self.sessions.encode(session)),
        )
    }

    pub(super) fn session_gone(&self, session_id: &str, tenant_id: &str) -> Write {
        self.about_session(Topic::Sessions, session_id.to_owned(), session_id, tenant_id, "DELETE", None)
    }

    pub(super) fn account(&self, account: &Account) -> Write {
        self.about_account(
            &account.account_id,
            &account.tenant_id,
            "PUT",
            Some(self.accounts.encode(account)),
        )
    }

    pub(super) fn account_gone(&self, account_id: &str, tenant_id: &str) -> Write {
        self.about_account(account_id, tenant_id, "DELETE", None)
    }

    /// The facet that only the edge and the CLI write.
    pub(super) fn pause(&self, status: &SessionStatus, tenant_id: &str) -> Write {
        let key = status_key(&status.session_id, Facet::Operator);
        let value = Some(self.statuses.encode(status));
        let event_type = Facet::Operator.as_str();
        self.about_session(Topic::SessionsStatus, key, &status.session_id, tenant_id, event_type, value)
    }

    pub(super) fn pause_gone(&self, session_id: &str, tenant_id: &str) -> Write {
        let key = status_key(session_id, Facet::Operator);
        let event_type = Facet::Operator.as_str();
        self.about_session(Topic::SessionsStatus, key, session_id, tenant_id, event_type, None)
    }

    pub(super) fn session_command(&self, command: &SessionCommand) -> Write {
        let event_type = match command.action {
            SessionAction::Unknown => "UNKNOWN",
            action => action.as_str(),
        };
        self.about_session(
            Topic::SessionsCommands,
            command.session_id.clone(),
            &command.session_id,
            command.tenant_id.as_deref().unwrap_or_default(),
            event_type,
            Some(self.session_commands.encode(command)),
        )
    }

    /// A webhook, under its session, else its account.
    pub(super) fn webhook(&self, webhook: &InboundWebhook, traceparent: &str) -> Write {
        let key = webhook.session_id.clone().or_else(|| webhook.account_id.clone()).unwrap_or_default();
        let mut headers = tenant(webhook.tenant_id.as_deref());
        headers.extend(webhook.session_id.clone().map(|id| (headers::SESSION_ID, id)));
        headers.extend([
            (headers::EVENT_TYPE, webhook.provider.as_str().to_owned()),
            (headers::TRACEPARENT, traceparent.to_owned()),
        ]);
        Write {
            topic: Topic::WebhooksInbound,
            placed_by: key.clone(),
            key,
            value: Some(self.webhooks.encode(webhook)),
            headers,
        }
    }

    fn about_session(
        &self,
        topic: Topic,
        key: String,
        session_id: &str,
        tenant_id: &str,
        event_type: &str,
        value: Option<Vec<u8>>,
    ) -> Write {
        let mut headers = tenant(Some(tenant_id));
        headers.extend([
            (headers::SESSION_ID, session_id.to_owned()),
            (headers::EVENT_TYPE, event_type.to_owned()),
        ]);
        Write { topic, key, placed_by: session_id.to_owned(), value, headers }
    }

    fn about_account(
        &self,
        account_id: &str,
        tenant_id: &str,
        event_type: &str,
        value: Option<Vec<u8>>,
    ) -> Write {
        let mut headers = tenant(Some(tenant_id));
        headers.push((headers::EVENT_TYPE, event_type.to_owned()));
        Write {
            topic: Topic::Accounts,
            key: account_id.to_owned(),
            placed_by: account_id.to_owned(),
            value,
            headers,
        }
    }
}

fn tenant(tenant_id: Option<&str>) -> Vec<(&'static str, String)> {
    tenant_id.filter(|id| !id.is_empty()).map(|id| (headers::TENANT_ID, id.to_owned())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::Provider;

    fn header<'a>(write: &'a Write, name: &str) -> Option<&'a str> {
        write.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_send_is_keyed_and_placed_by_its_session_and_names_its_message() {
        let records = Records::new(&Codecs::fixed());
        let command = OutboundCommand {
            command: Command::Send,
            session_id: "demo-01".into(),
            tenant_id: Some("acme".into()),
            idempotency_key: "order-1".into(),
            ..Default::default()
        };
        let write = records.command(&command, "00-1-1-01");
        assert_eq!(
            (write.topic, &write.key[..], &write.placed_by[..]),
            (Topic::OutboundRequests, "demo-01", "demo-01")
        );
        assert_eq!(header(&write, headers::MESSAGE_ID), Some("9d59d6c6-fdc0-5ae7-a88d-4054d84997f2"));
        assert_eq!(header(&write, headers::TENANT_ID), Some("acme"));
        assert_eq!(header(&write, headers::EVENT_TYPE), Some("SEND"));
        assert_eq!(header(&write, headers::TRACEPARENT), Some("00-1-1-01"));
    }

    #[test]
    fn a_pause_has_its_own_key_and_lives_with_its_session() {
        let records = Records::new(&Codecs::fixed());
        let status = SessionStatus { session_id: "s".into(), facet: Facet::Operator, ..Default::default() };
        let write = records.pause(&status, "acme");
        assert_eq!((&write.key[..], &write.placed_by[..]), ("s/operator", "s"));
        assert_eq!(records.pause_gone("s", "acme").value, None);
    }

    #[test]
    fn a_webhook_is_keyed_by_its_session_else_by_its_account() {
        let records = Records::new(&Codecs::fixed());
        let of_session = InboundWebhook {
            provider: Provider::Wasender,
            session_id: Some("s".into()),
            account_id: Some("a".into()),
            ..Default::default()
        };
        assert_eq!(records.webhook(&of_session, "t").key, "s");
        let of_account = InboundWebhook { session_id: None, ..of_session };
        assert_eq!(records.webhook(&of_account, "t").key, "a");
    }
}
