//! Everything the sender writes: ledger records (intake and claims by producers of their own), statuses, dead
//! letters, re-produced requests and session facets.
//!
//! A ledger record that fails is reported and never repeated: the partition is taken over anew, and what the log
//! holds then counts. Everything else is repeated until it is acknowledged; repeating is harmless because event
//! ids are deterministic.

use std::collections::VecDeque;
use std::sync::Arc;

use sluice_core::sender::Token;
use sluice_core::sender::ledger::Key;
use sluice_kafka::producer::{Deliveries, Delivery, Producer, WriteError};
use sluice_kafka::record::Outgoing;
use sluice_kafka::registry::{Codec, Codecs};
use sluice_kafka::settings::{ProducerOptions, Settings as Kafka};
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{LedgerEntry, MessageStatus, SessionStatus, headers};

/// What a ledger record's delivery report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerTicket {
    /// Our fence of a partition.
    Fence {
        /// Partition.
        partition: i32,
    },
    /// Any other record.
    Entry {
        /// Partition.
        partition: i32,
        /// Epoch it was written under.
        epoch: i64,
    },
}

/// A record that is repeated until it is acknowledged.
#[derive(Debug)]
struct Owned {
    topic: Topic,
    partition: Option<i32>,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(&'static str, Vec<u8>)>,
}

/// What a fact's delivery report is about.
#[derive(Debug, Clone)]
pub(super) struct FactTicket {
    token: Token,
    record: Arc<Owned>,
}

/// The producers, and what waits for room in them.
pub(super) struct Writer {
    names: Arc<Names>,
    entries: Codec<LedgerEntry>,
    statuses: Codec<MessageStatus>,
    facets: Codec<SessionStatus>,
    intake: Producer<LedgerTicket>,
    claims: Producer<LedgerTicket>,
    facts: Producer<FactTicket>,
    waiting: VecDeque<FactTicket>,
}

/// The reports of the producers.
pub(super) struct Reports {
    pub(super) intake: Deliveries<LedgerTicket>,
    pub(super) claims: Deliveries<LedgerTicket>,
    pub(super) facts: Deliveries<FactTicket>,
}

impl Writer {
    pub(super) fn open(
        kafka: &Kafka,
        names: Arc<Names>,
        codecs: &Codecs,
        (ledger_timeout_ms, linger_ms): (u64, u64),
    ) -> anyhow::Result<(Self, Reports)> {
        let options = ProducerOptions {
            message_timeout_ms: u32::try_from(ledger_timeout_ms).unwrap_or(u32::MAX),
            linger_ms: u32::try_from(linger_ms).unwrap_or(u32::MAX),
            ..ProducerOptions::default()
        };
        let (intake, intake_reports) = Producer::open(kafka, &options)?;
        let (claims, claim_reports) = Producer::open(kafka, &options)?;
        let (facts, fact_reports) = Producer::open(kafka, &options)?;
        let writer = Self {
            names,
            entries: codecs.codec(Topic::OutboundLedger),
            statuses: codecs.codec(Topic::MessagesStatus),
            facets: codecs.codec(Topic::SessionsStatus),
            intake,
            claims,
            facts,
            waiting: VecDeque::new(),
        };
        Ok((writer, Reports { intake: intake_reports, claims: claim_reports, facts: fact_reports }))
    }

    /// Appends a fence; false if it could not even be queued.
    pub(super) fn fence(&self, partition: i32, entry: &LedgerEntry) -> bool {
        let value = self.entries.encode(entry);
        self.append(&self.claims, partition, &Key::Fence, Some(&value), -1, LedgerTicket::Fence { partition })
    }

    /// Appends a ledger record; false if it could not even be queued.
    pub(super) fn entry(
        &self,
        partition: i32,
        epoch: i64,
        key: &Key,
        entry: Option<&LedgerEntry>,
        urgent: bool,
    ) -> bool {
        let producer = if urgent { &self.claims } else { &self.intake };
        let value = entry.map(|entry| self.entries.encode(entry));
        self.append(
            producer,
            partition,
            key,
            value.as_deref(),
            epoch,
            LedgerTicket::Entry { partition, epoch },
        )
    }

    fn append(
        &self,
        producer: &Producer<LedgerTicket>,
        partition: i32,
        key: &Key,
        value: Option<&[u8]>,
        epoch: i64,
        ticket: LedgerTicket,
    ) -> bool {
        let key = key.to_string();
        let epoch = epoch.to_string();
        let record = Outgoing {
            topic: self.names.get(Topic::OutboundLedger),
            partition: Some(partition),
            key: Some(key.as_bytes()),
            value,
            headers: &[(headers::EPOCH, epoch.as_bytes())],
        };
        match producer.send(record, ticket) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(partition, key, error = %error.reason, "ledger record not queued");
                false
            }
        }
    }

    /// Publishes a status until it is acknowledged.
    pub(super) fn status(
        &mut self,
        partition: i32,
        epoch: Option<i64>,
        status: &MessageStatus,
        traceparent: Option<&str>,
        token: Token,
    ) {
        let mut list: Vec<(&'static str, Vec<u8>)> = Vec::with_capacity(7);
        list.push((headers::SOURCE, status.source.as_str().into()));
        list.push((headers::EVENT_TYPE, status.status.as_str().into()));
        list.push((headers::SESSION_ID, status.session_id.as_bytes().into()));
        if let Some(tenant) = &status.tenant_id {
            list.push((headers::TENANT_ID, tenant.as_bytes().into()));
        }
        if let Some(message) = &status.message_id {
            list.push((headers::MESSAGE_ID, message.as_bytes().into()));
        }
        if let Some(epoch) = epoch {
            list.push((headers::EPOCH, epoch.to_string().into_bytes()));
        }
        if let Some(trace) = traceparent {
            list.push((headers::TRACEPARENT, trace.as_bytes().into()));
        }
        let record = Owned {
            topic: Topic::MessagesStatus,
            partition: Some(partition),
            key: status.session_id.as_bytes().to_vec(),
            value: self.statuses.encode(status),
            headers: list,
        };
        self.fact(FactTicket { token, record: Arc::new(record) });
    }

    /// Writes the sender's facet of a session's status.
    pub(super) fn facet(&mut self, partition: i32, status: &SessionStatus) {
        let record = Owned {
            topic: Topic::SessionsStatus,
            partition: Some(partition),
            key: crate::directory::status_key(&status.session_id, status.facet).into_bytes(),
            value: self.facets.encode(status),
            headers: vec![(headers::SESSION_ID, status.session_id.as_bytes().into())],
        };
        self.fact(FactTicket { token: Token::None, record: Arc::new(record) });
    }

    /// Writes a record as it stands, to any topic.
    pub(super) fn copy(
        &mut self,
        topic: Topic,
        partition: Option<i32>,
        (key, value): (Vec<u8>, Vec<u8>),
        headers: Vec<(&'static str, Vec<u8>)>,
        token: Token,
    ) {
        let record = Owned { topic, partition, key, value, headers };
        self.fact(FactTicket { token, record: Arc::new(record) });
    }

    fn fact(&mut self, ticket: FactTicket) {
        // Order within a partition is the order of the calls: nothing overtakes what waits.
        if !self.waiting.is_empty() {
            self.waiting.push_back(ticket);
        } else if let Err(ticket) = self.send_fact(ticket) {
            self.waiting.push_back(ticket);
        }
    }

    fn send_fact(&self, ticket: FactTicket) -> Result<(), FactTicket> {
        let record = ticket.record.clone();
        let list: Vec<(&str, &[u8])> = record.headers.iter().map(|(k, v)| (*k, v.as_slice())).collect();
        let outgoing = Outgoing {
            topic: self.names.get(record.topic),
            partition: record.partition,
            key: Some(&record.key),
            value: Some(&record.value),
            headers: &list,
        };
        self.facts.send(outgoing, ticket).map_err(|error| {
            if error.reason != WriteError::QueueFull {
                tracing::warn!(error = %error.reason, topic = ?record.topic, "fact not queued; it will be tried again");
            }
            error.token
        })
    }

    /// Sends what waited for room.
    pub(super) fn resume(&mut self) {
        while let Some(ticket) = self.waiting.pop_front() {
            if let Err(ticket) = self.send_fact(ticket) {
                self.waiting.push_front(ticket);
                return;
            }
        }
    }

    /// Takes a fact's report: its token and offset if it stands, else it is sent again.
    pub(super) fn reported(&mut self, delivery: Delivery<FactTicket>) -> Option<(Token, i64)> {
        match delivery.result {
            Ok(position) => Some((delivery.token.token, position.offset)),
            Err(error) => {
                tracing::warn!(%error, topic = ?delivery.token.record.topic, "fact not acknowledged; sent again");
                self.waiting.push_back(delivery.token);
                None
            }
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Handles to wait for everything written so far.
    pub(super) fn flusher(&self) -> Flusher {
        Flusher { claims: self.claims.clone(), intake: self.intake.clone(), facts: self.facts.clone() }
    }
}

/// Waits until everything written so far is reported.
pub(super) struct Flusher {
    claims: Producer<LedgerTicket>,
    intake: Producer<LedgerTicket>,
    facts: Producer<FactTicket>,
}

impl Flusher {
    pub(super) async fn flush(self, limit: std::time::Duration) {
        let (claims, intake, facts) =
            tokio::join!(self.claims.flush(limit), self.intake.flush(limit), self.facts.flush(limit));
        for left in [claims, intake, facts].into_iter().filter_map(Result::err) {
            tracing::warn!(left, "records not acknowledged when giving partitions back");
        }
    }
}
