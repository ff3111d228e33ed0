//! The tables as statements.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::PagingState;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlTimestamp;
use sluice_core::fold::Fact;

use super::session::connect_without_keyspace;
use super::statements::Statements;
use crate::error::Error;
use crate::migrations;
use crate::settings::Settings;
use crate::tables::{IdKey, Tables, Write, mirrored_us};
use crate::timeline::{Entry, Position, Timeline};

/// Most buckets remembered as written; then all are forgotten and written again, which is harmless.
const BUCKETS_REMEMBERED_MAX: usize = 20_000;

/// The tables in a cluster.
pub(crate) struct CqlTables {
    session: Session,
    statements: Statements,
    buckets_written: Mutex<HashSet<(Timeline, i64)>>,
}

impl fmt::Debug for CqlTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CqlTables").field("keyspace", &self.session.get_keyspace()).finish_non_exhaustive()
    }
}

impl CqlTables {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self, Error> {
        let session = connect_without_keyspace(settings).await?;
        migrations::check_session(&session, &settings.keyspace).await?;
        session.use_keyspace(&settings.keyspace, true).await?;
        let statements = Statements::prepare(&session).await?;
        Ok(Self { session, statements, buckets_written: Mutex::new(HashSet::new()) })
    }

    pub(crate) async fn ping(&self) -> Result<(), Error> {
        // A read at the configured consistency of a partition that is never written.
        let _: Vec<(String,)> = self.rows(&self.statements.session_facets, "session_status", ("-",)).await?;
        Ok(())
    }

    async fn write(
        &self,
        statement: &PreparedStatement,
        table: &'static str,
        values: impl SerializeRow,
    ) -> Result<(), Error> {
        self.session
            .execute_unpaged(statement, values)
            .await
            .map_err(|error| Error::statement(&format!("a write of {table}"), error))?;
        Ok(())
    }

    async fn rows<T>(
        &self,
        statement: &PreparedStatement,
        table: &'static str,
        values: impl SerializeRow,
    ) -> Result<Vec<T>, Error>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let mut found = Vec::new();
        let mut state = PagingState::start();
        loop {
            let (answer, next) = self
                .session
                .execute_single_page(statement, &values, state)
                .await
                .map_err(|error| Error::statement(&format!("a read of {table}"), error))?;
            found.extend(read_rows::<T>(table, answer)?);
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(found),
                ControlFlow::Continue(next) => state = next,
            }
        }
    }

    async fn bodies(
        &self,
        statement: &PreparedStatement,
        table: &'static str,
        values: impl SerializeRow,
    ) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self.rows(statement, table, values).await?;
        Ok(rows.into_iter().map(|(body,)| body).collect())
    }

    /// Writes that a bucket holds entries, unless this process has lately done so.
    async fn put_bucket(&self, timeline: &Timeline, bucket: i64, at_ms: i64, life: i32) -> Result<(), Error> {
        let key = (timeline.clone(), bucket);
        if self.remembered().contains(&key) {
            return Ok(());
        }
        // The bucket must be found as long as the latest entry it may come to hold.
        let rest_s = (timeline.bucket_end_ms(bucket) - at_ms) / 1_000 + 1;
        let life_s = life.saturating_add(i32::try_from(rest_s).unwrap_or(i32::MAX));
        let row = (
            timeline.kind(),
            timeline.session_id(),
            timeline.chat_id(),
            bucket,
            mirrored_us(timeline.bucket_end_ms(bucket)),
            life_s,
        );
        self.write(&self.statements.put_bucket, "timeline_buckets", row).await?;
        let mut remembered = self.remembered();
        if remembered.len() >= BUCKETS_REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(key);
        Ok(())
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<(Timeline, i64)>> {
        self.buckets_written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the rows of an answer.
pub(crate) fn read_rows<T>(table: &'static str, answer: QueryResult) -> Result<Vec<T>, Error>
where
    T: for<'f, 'm> DeserializeRow<'f, 'm>,
{
    let corrupt = |detail: String| Error::Corrupt { table, detail };
    let answer = answer.into_rows_result().map_err(|error| corrupt(error.to_string()))?;
    let rows = answer.rows::<T>().map_err(|error| corrupt(error.to_string()))?;
    rows.map(|row| row.map_err(|error| corrupt(error.to_string()))).collect()
}

fn row_limit(limit: usize) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

/// Zero means "no expiry" in CQL.
fn ttl_s(write: Write) -> i32 {
    write.ttl_s.unwrap_or(0)
}

fn fact_json(table: &'static str, fact: &Fact) -> Result<String, Error> {
    fact.to_json().map_err(|error| Error::Corrupt { table, detail: error.to_string() })
}

impl Tables for CqlTables {
    async fn put_fact(&self, message_id: &str, fact: &Fact, write: Write) -> Result<(), Error> {
        let body = fact_json("message_facts", fact)?;
        let row = (
            message_id,
            fact.key(),
            fact.kind.as_str(),
            CqlTimestamp(fact.at_ms),
            body,
            write.timestamp_us,
            ttl_s(write),
        );
        self.write(&self.statements.put_fact, "message_facts", row).await
    }

    async fn facts(&self, message_id: &str, limit: usize) -> Result<Vec<String>, Error> {
        self.bodies(&self.statements.facts, "message_facts", (message_id, row_limit(limit))).await
    }

    async fn put_provider_id(&self, id: &IdKey, message_id: &str, write: Write) -> Result<(), Error> {
        let row = (&id.session_id, &id.id, message_id, write.timestamp_us, ttl_s(write));
        self.write(&self.statements.put_provider_id, "provider_ids", row).await
    }

    async fn message_of(&self, id: &IdKey) -> Result<Option<String>, Error> {
        let key = (&id.session_id, &id.id);
        Ok(self.bodies(&self.statements.message_of, "provider_ids", key).await?.pop())
    }

    async fn put_unmatched(&self, id: &IdKey, fact: &Fact, write: Write) -> Result<(), Error> {
        let body = fact_json("unmatched_receipts", fact)?;
        let row = (&id.session_id, &id.id, fact.key(), body, write.timestamp_us, ttl_s(write));
        self.write(&self.statements.put_unmatched, "unmatched_receipts", row).await
    }

    async fn unmatched(&self, id: &IdKey, limit: usize) -> Result<Vec<String>, Error> {
        let key = (&id.session_id, &id.id, row_limit(limit));
        self.bodies(&self.statements.unmatched, "unmatched_receipts", key).await
    }

    async fn put_entry(&self, timeline: &Timeline, entry: &Entry, write: Write) -> Result<(), Error> {
        let Position { at_ms, id } = &entry.position;
        let bucket = timeline.bucket(*at_ms);
        let at = CqlTimestamp(*at_ms);
        self.put_bucket(timeline, bucket, *at_ms, ttl_s(write)).await?;
        match timeline {
            Timeline::Messages { session_id } => {
                let row = (session_id, bucket, at, id, write.timestamp_us, ttl_s(write));
                self.write(&self.statements.put_session_message, "session_messages", row).await
            }
            Timeline::Received { session_id } => {
                let row = (session_id, bucket, at, id, &entry.body, write.timestamp_us, ttl_s(write));
                self.write(&self.statements.put_session_received, "session_received", row).await
            }
            Timeline::Chat { session_id, chat_id } => {
                let row =
                    (session_id, chat_id, bucket, at, id, &entry.body, write.timestamp_us, ttl_s(write));
                self.write(&self.statements.put_chat_received, "chat_received", row).await
            }
        }
    }

    async fn buckets(&self, timeline: &Timeline, from: i64, limit: usize) -> Result<Vec<i64>, Error> {
        let key = (timeline.kind(), timeline.session_id(), timeline.chat_id(), from, row_limit(limit));
        let rows: Vec<(i64,)> = self.rows(&self.statements.buckets, "timeline_buckets", key).await?;
        Ok(rows.into_iter().map(|(bucket,)| bucket).collect())
    }

    async fn entries(
        &self,
        timeline: &Timeline,
        bucket: i64,
        after: &Position,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let at = CqlTimestamp(after.at_ms);
        let limit = row_limit(limit);
        let rows: Vec<(CqlTimestamp, String, String)> = match timeline {
            Timeline::Messages { session_id } => {
                let key = (session_id, bucket, at, &after.id, limit);
                let rows: Vec<(CqlTimestamp, String)> =
                    self.rows(&self.statements.session_messages, "session_messages", key).await?;
                rows.into_iter().map(|(at, id)| (at, id, String::new())).collect()
            }
            Timeline::Received { session_id } => {
                let key = (session_id, bucket, at, &after.id, limit);
                self.rows(&self.statements.session_received, "session_received", key).await?
            }
            Timeline::Chat { session_id, chat_id } => {
                let key = (session_id, chat_id, bucket, at, &after.id, limit);
                self.rows(&self.statements.chat_received, "chat_received", key).await?
            }
        };
        let entry = |(at, id, body): (CqlTimestamp, String, String)| Entry {
            position: Position { at_ms: at.0, id },
            body,
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn put_session_facet(
        &self,
        session_id: &str,
        facet: &str,
        body: &str,
        write: Write,
    ) -> Result<(), Error> {
        let row = (session_id, facet, body, write.timestamp_us);
        self.write(&self.statements.put_session_facet, "session_status", row).await
    }

    async fn session_facets(&self, session_id: &str) -> Result<Vec<String>, Error> {
        self.bodies(&self.statements.session_facets, "session_status", (session_id,)).await
    }

    async fn put_tenant_session(&self, tenant_id: &str, session_id: &str) -> Result<(), Error> {
        self.write(&self.statements.put_tenant_session, "tenant_sessions", (tenant_id, session_id)).await
    }

    async fn tenant_sessions(
        &self,
        tenant_id: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let key = (tenant_id, after, row_limit(limit));
        self.bodies(&self.statements.tenant_sessions, "tenant_sessions", key).await
    }
}
