//! What the pump does with each event: from the ledger, from `messages.status`, from the group, from tasks on the
//! side and from the directory. Each becomes an input of the state machine.

use sluice_core::sender::Input;
use sluice_kafka::group;
use sluice_kafka::producer::Delivery;
use sluice_kafka::record::{Partition, Record};
use sluice_kafka::tail;
use sluice_schemas::Facet;
use sluice_schemas::codec::SchemaRef;
use tokio::sync::broadcast;

use super::ledger::Trouble;
use super::pump::{Notice, Pump, SCHEMA_RETRY};
use super::writer::LedgerTicket;
use super::{requests, sessions};
use crate::directory::Change;

impl Pump {
    pub(super) fn ledger_reported(
        &mut self,
        reports: &mut Vec<Delivery<LedgerTicket>>,
    ) -> anyhow::Result<()> {
        for delivery in reports.drain(..) {
            match (delivery.token, delivery.result) {
                (LedgerTicket::Fence { partition }, Ok(position)) => {
                    self.step(Input::Fenced { partition, offset: position.offset })?;
                    if self.sender.epoch(partition) == Some(position.offset) {
                        let from = self.resumes.from(partition);
                        let from = from.map_or(tail::From::Beginning, tail::From::Offset);
                        self.ledger_following.begin(&self.ledger, partition, from);
                    }
                }
                (LedgerTicket::Fence { partition }, Err(error)) => {
                    tracing::warn!(partition, %error, "fence not written; trying again");
                    self.fence_later(partition, 1_000);
                }
                (LedgerTicket::Entry { .. }, Ok(_)) => {}
                (LedgerTicket::Entry { partition, epoch }, Err(error)) => {
                    tracing::warn!(partition, epoch, %error, "ledger record not written; the partition is taken over anew");
                    self.step(Input::LedgerFailed { partition, epoch })?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_ledger(&mut self, event: tail::Event) -> anyhow::Result<()> {
        match event {
            tail::Event::Records(batch)
                if self.resumes.is_looking(batch.partition)
                    && self.ledger_following.is_present(batch.partition, batch.generation) =>
            {
                self.ledger_looked_at(batch.partition, batch.records.first())?;
            }
            tail::Event::Records(batch) => {
                for record in &batch.records {
                    if !self.ledger_following.is_present(batch.partition, batch.generation) {
                        return Ok(());
                    }
                    self.ledger_record(record)?;
                }
                if self.ledger_following.is_present(batch.partition, batch.generation) {
                    self.step(Input::LedgerPassed { partition: batch.partition, next_offset: batch.next })?;
                }
            }
            tail::Event::CaughtUp { partition, generation, .. }
            | tail::Event::Rewound { partition, generation, .. }
                if self.resumes.is_looking(partition)
                    && self.ledger_following.is_present(partition, generation) =>
            {
                self.ledger_looked_at(partition, None)?;
            }
            tail::Event::CaughtUp { partition, generation, next } => {
                if let Some(next_offset) = next
                    && self.ledger_following.is_present(partition, generation)
                {
                    self.step(Input::LedgerPassed { partition, next_offset })?;
                }
            }
            tail::Event::Rewound { partition, generation, .. } => {
                // The log lost what we, or our local state, had read to: what we know may be wrong.
                if self.ledger_following.is_present(partition, generation) {
                    tracing::warn!(
                        partition,
                        "the ledger has been cut short; the partition is taken over anew"
                    );
                    self.step(Input::StoreStale { partition })?;
                }
            }
            tail::Event::Error(error @ tail::Error::Fatal(_)) => return Err(error.into()),
            tail::Event::Error(error) => tracing::warn!(%error, "ledger tail; going on"),
        }
        Ok(())
    }

    /// The record that tells whether the ledger is the one that the local state has followed.
    fn ledger_looked_at(&mut self, partition: i32, record: Option<&Record>) -> anyhow::Result<()> {
        self.ledger_following.end(&self.ledger, partition);
        let entries = self.reader.entries().clone();
        if record.is_some_and(|record| self.resumes.judge(partition, record, &entries)) {
            self.fence(partition);
            return Ok(());
        }
        self.resumes.forget(partition);
        tracing::warn!(partition, "the local state has followed another ledger; it is made anew");
        self.step(Input::StoreStale { partition })
    }

    fn ledger_record(&mut self, record: &Record) -> anyhow::Result<()> {
        let partition = record.partition.number;
        let own_epoch = self.sender.epoch(partition);
        let schema = match self.reader.read(record, own_epoch) {
            Ok(read) => return self.step(Input::Ledger { partition, read }),
            Err(Trouble::Strange(why)) => {
                tracing::error!(partition, offset = record.offset, why, "ledger record ignored");
                return Ok(());
            }
            Err(Trouble::Entry(name)) => {
                let codec = self.reader.entries().clone();
                tokio::spawn(async move { codec.learn(name).await.err() });
                name
            }
            Err(Trouble::Command(name)) => {
                let codec = self.reader.commands().clone();
                tokio::spawn(async move { codec.learn(name).await.err() });
                name
            }
        };
        // Without the record nothing may be decided: the partition is taken over anew, by when the schema is known.
        tracing::warn!(partition, offset = record.offset, %schema, "schema of a ledger record is being looked up");
        self.step(Input::LedgerFailed { partition, epoch: own_epoch.unwrap_or(-1) })
    }

    pub(super) fn on_status(&mut self, event: tail::Event) -> anyhow::Result<()> {
        match event {
            tail::Event::Records(batch)
                if self.status_following.is_present(batch.partition, batch.generation) =>
            {
                let partition = batch.partition;
                let own_epoch = self.sender.epoch(partition);
                for record in &batch.records {
                    if let Some(status) = self.evidence.fact(record, own_epoch) {
                        self.step(Input::Status { partition, status: Box::new(status) })?;
                    }
                }
                if let Some(asked_ms) = self.evidence.read_to(partition, batch.next) {
                    self.step(Input::StatusCaughtUp { partition, asked_ms })?;
                }
            }
            tail::Event::Error(error @ tail::Error::Fatal(_)) => return Err(error.into()),
            tail::Event::Error(error) => tracing::warn!(%error, "status tail; going on"),
            tail::Event::CaughtUp { partition, generation, next }
                if self.status_following.is_present(partition, generation) =>
            {
                if let Some(asked_ms) = next.and_then(|next| self.evidence.read_to(partition, next)) {
                    self.step(Input::StatusCaughtUp { partition, asked_ms })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn on_notice(&mut self, notice: Notice) -> anyhow::Result<()> {
        match notice {
            Notice::Begin { partition, epoch, at } => {
                if self.assigned.contains(&partition) && self.sender.epoch(partition) == epoch {
                    self.group.control().start(Partition::new(self.requests_topic.clone(), partition), at);
                }
                Ok(())
            }
            Notice::WebhooksProcessed { asked_ms } => {
                self.ask_for_status_ends(asked_ms);
                Ok(())
            }
            Notice::StatusEnd { partition, asked_ms, end } => {
                match self.evidence.end_was(partition, asked_ms, end) {
                    Some(asked_ms) => self.step(Input::StatusCaughtUp { partition, asked_ms }),
                    None => Ok(()),
                }
            }
            Notice::Schema { epoch, record, .. } if self.sender.epoch(record.partition.number) != epoch => {
                Ok(())
            }
            Notice::Schema { record, missing: None, .. } => self.on_request(*record),
            Notice::Schema { record, missing: Some(name), .. } => {
                let request = requests::unregistered(&record, name);
                self.current = Some(*record);
                self.step(Input::Request(request))
            }
        }
    }

    pub(super) fn on_group(&mut self, event: group::Event) -> anyhow::Result<()> {
        match event {
            group::Event::Assigned(list) => {
                for assignment in list {
                    let partition = assignment.partition.number;
                    self.assigned.insert(partition);
                    self.stopping.remove(&partition);
                    if !self.closing {
                        self.step(Input::Assigned { partition })?;
                    }
                }
            }
            group::Event::Revoking(list) => {
                for partition in list {
                    self.fence_at.retain(|_, waiting| *waiting != partition.number);
                    self.step(Input::Revoking { partition: partition.number })?;
                }
            }
            group::Event::Lost(list) => {
                for partition in list {
                    self.assigned.remove(&partition.number);
                    self.step(Input::Lost { partition: partition.number })?;
                }
            }
            group::Event::Records(records) => {
                for record in records {
                    if !self.stopping.contains(&record.partition.number) {
                        self.on_request(record)?;
                    }
                }
            }
            group::Event::Stopped(partition) => {
                self.stopping.remove(&partition.number);
            }
            group::Event::Error(error @ group::Error::Fatal(_)) => return Err(error.into()),
            group::Event::Error(error) => tracing::warn!(%error, "kafka trouble; going on"),
        }
        Ok(())
    }

    fn on_request(&mut self, record: Record) -> anyhow::Result<()> {
        match requests::request(self.reader.commands(), &record) {
            Ok(request) => {
                if request.command.is_ok() {
                    self.dead_letters.alive();
                }
                self.current = Some(record);
                let stepped = self.step(Input::Request(request));
                self.current = None;
                stepped
            }
            Err(name) => {
                let (partition, offset, bytes) = (record.partition.number, record.offset, record.bytes());
                self.look_up_schema(record, name);
                self.step(Input::RequestDelayed { partition, offset, bytes })
            }
        }
    }

    /// Looks a producer's schema up on the side: requests of others pass this one.
    fn look_up_schema(&self, record: Record, name: SchemaRef) {
        let (codec, notices) = (self.reader.commands().clone(), self.notices.0.clone());
        let epoch = self.sender.epoch(record.partition.number);
        tokio::spawn(async move {
            let missing = loop {
                match codec.learn(name).await {
                    Ok(()) => break None,
                    Err(error) if error.dead_letter_reason().is_some() => break Some(name),
                    Err(error) => {
                        tracing::warn!(%error, "schema of a request not looked up yet");
                        tokio::time::sleep(SCHEMA_RETRY).await;
                    }
                }
            };
            let _ = notices.send(Notice::Schema { epoch, record: Box::new(record), missing });
        });
    }

    pub(super) fn on_change(
        &mut self,
        change: Result<Change, broadcast::error::RecvError>,
    ) -> anyhow::Result<()> {
        match change {
            Ok(Change::Session(id)) => {
                self.caller.forget_targets();
                self.look_at_session(&id)
            }
            Ok(Change::Account(id)) => {
                self.caller.forget_targets();
                for session in self.deps.directory.sessions_of(&id) {
                    self.look_at_session(&session)?;
                }
                Ok(())
            }
            Ok(Change::Status(id, Facet::Connection | Facet::Operator)) => self.look_at_condition(&id),
            Ok(Change::Status(..)) => Ok(()),
            Err(broadcast::error::RecvError::Lagged(_)) => {
                self.caller.forget_targets();
                self.look_at_all_sessions()
            }
            Err(broadcast::error::RecvError::Closed) => anyhow::bail!("the directory has ended"),
        }
    }

    pub(super) fn look_at_all_sessions(&mut self) -> anyhow::Result<()> {
        for session in self.deps.directory.sessions() {
            self.look_at_session(&session.session_id)?;
            self.look_at_condition(&session.session_id)?;
        }
        Ok(())
    }

    fn look_at_session(&mut self, session_id: &str) -> anyhow::Result<()> {
        let config = sessions::config(&self.deps.directory, &self.deps.connectors, session_id);
        self.step(Input::Session { session_id: session_id.into(), config: config.map(Box::new) })
    }

    fn look_at_condition(&mut self, session_id: &str) -> anyhow::Result<()> {
        let condition = sessions::condition(&self.deps.directory, session_id);
        self.step(Input::Condition { session_id: session_id.into(), condition })
    }
}
