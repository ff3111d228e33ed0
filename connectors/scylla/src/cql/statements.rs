//! Every statement, prepared once.

use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;

use crate::error::Error;

/// Rows fetched at once.
const PAGE_ROWS: i32 = 1_000;

/// The statements.
pub(super) struct Statements {
    pub(super) put_fact: PreparedStatement,
    pub(super) facts: PreparedStatement,
    pub(super) put_provider_id: PreparedStatement,
    pub(super) message_of: PreparedStatement,
    pub(super) put_unmatched: PreparedStatement,
    pub(super) unmatched: PreparedStatement,
    pub(super) put_bucket: PreparedStatement,
    pub(super) buckets: PreparedStatement,
    pub(super) put_session_message: PreparedStatement,
    pub(super) session_messages: PreparedStatement,
    pub(super) put_session_received: PreparedStatement,
    pub(super) session_received: PreparedStatement,
    pub(super) put_chat_received: PreparedStatement,
    pub(super) chat_received: PreparedStatement,
    pub(super) put_session_facet: PreparedStatement,
    pub(super) session_facets: PreparedStatement,
    pub(super) put_tenant_session: PreparedStatement,
    pub(super) tenant_sessions: PreparedStatement,
}

impl Statements {
    pub(super) async fn prepare(session: &Session) -> Result<Self, Error> {
        let prepare = |cql: &'static str| prepare(session, cql);
        Ok(Self {
            put_fact: prepare(
                "INSERT INTO message_facts (message_id, fact, kind, at, body) VALUES (?, ?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            facts: prepare("SELECT body FROM message_facts WHERE message_id = ? LIMIT ?").await?,
            put_provider_id: prepare(
                "INSERT INTO provider_ids (session_id, id, message_id) VALUES (?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            message_of: prepare("SELECT message_id FROM provider_ids WHERE session_id = ? AND id = ?").await?,
            put_unmatched: prepare(
                "INSERT INTO unmatched_receipts (session_id, id, fact, body) VALUES (?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            unmatched: prepare("SELECT body FROM unmatched_receipts WHERE session_id = ? AND id = ? LIMIT ?")
                .await?,
            put_bucket: prepare(
                "INSERT INTO timeline_buckets (kind, session_id, chat_id, bucket) VALUES (?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            buckets: prepare(
                "SELECT bucket FROM timeline_buckets \
                 WHERE kind = ? AND session_id = ? AND chat_id = ? AND bucket <= ? LIMIT ?",
            )
            .await?,
            put_session_message: prepare(
                "INSERT INTO session_messages (session_id, bucket, at, message_id) VALUES (?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            session_messages: prepare(
                "SELECT at, message_id FROM session_messages \
                 WHERE session_id = ? AND bucket = ? AND (at, message_id) < (?, ?) LIMIT ?",
            )
            .await?,
            put_session_received: prepare(
                "INSERT INTO session_received (session_id, bucket, at, event_id, body) VALUES (?, ?, ?, ?, ?) \
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            session_received: prepare(
                "SELECT at, event_id, body FROM session_received \
                 WHERE session_id = ? AND bucket = ? AND (at, event_id) < (?, ?) LIMIT ?",
            )
            .await?,
            put_chat_received: prepare(
                "INSERT INTO chat_received (session_id, chat_id, bucket, at, event_id, body) \
                 VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            chat_received: prepare(
                "SELECT at, event_id, body FROM chat_received \
                 WHERE session_id = ? AND chat_id = ? AND bucket = ? AND (at, event_id) < (?, ?) LIMIT ?",
            )
            .await?,
            put_session_facet: prepare(
                "INSERT INTO session_status (session_id, facet, body) VALUES (?, ?, ?) USING TIMESTAMP ?",
            )
            .await?,
            session_facets: prepare("SELECT body FROM session_status WHERE session_id = ?").await?,
            put_tenant_session: prepare(
                "INSERT INTO tenant_sessions (tenant_id, session_id) VALUES (?, ?) USING TIMESTAMP 0",
            )
            .await?,
            tenant_sessions: prepare(
                "SELECT session_id FROM tenant_sessions WHERE tenant_id = ? AND session_id > ? LIMIT ?",
            )
            .await?,
        })
    }
}

async fn prepare(session: &Session, cql: &'static str) -> Result<PreparedStatement, Error> {
    let mut statement = session.prepare(cql).await.map_err(|error| Error::preparation(cql, error))?;
    // Values and timestamps come from the event: writing a row twice is writing it once.
    statement.set_is_idempotent(true);
    statement.set_page_size(PAGE_ROWS);
    Ok(statement)
}
