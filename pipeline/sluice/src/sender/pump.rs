//! The one task that owns the sender's state machine.
//!
//! The order of its `select!` is the proof that nothing starves: shutdown, then what ends work (timers, call
//! results, acks, the ledger read back, evidence, controls), and new requests last. Each input is stepped and its
//! effects carried out before the next is taken, so effects leave in the order they were decided.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluice_core::sender::{Effect, Input, Note, Sender, Token};
use sluice_core::time::Now;
use sluice_kafka::clock;
use sluice_kafka::group::{self, GroupConsumer, StartAt};
use sluice_kafka::record::{Partition, Record};
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::codec::SchemaRef;
use sluice_schemas::headers;
use sluice_schemas::topics::Topic;
use sluice_whatsapp::client::Client;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::calls::Caller;
use super::disk::Disk;
use super::evidence::Evidence;
use super::ledger::{Following, Reader};
use super::notes;
use super::resume::Resumes;
use super::start::{self, Rewind};
use super::watermarks::Watermarks;
use super::writer::{Reports, Writer};
use crate::dead_letters::{Cause, DeadLetters, Limits};
use crate::deps::Deps;

/// Results, reports and notices taken at once.
const TAKE_MAX: usize = 1_000;
/// Wait before a schema that cannot be looked up is asked for again.
pub(super) const SCHEMA_RETRY: Duration = Duration::from_secs(1);

/// What tasks on the side tell the pump.
pub(super) enum Notice {
    /// Where the group stands on a partition that was taken over under `epoch`: begin there.
    Begin { partition: i32, epoch: Option<i64>, at: StartAt },
    /// The webhooks that stood in the log at this time are processed.
    WebhooksProcessed { asked_ms: i64 },
    /// The end of a partition of `messages.status`, asked for after the webhooks of `asked_ms` were processed.
    StatusEnd { partition: i32, asked_ms: i64, end: i64 },
    /// A schema was looked up, or is not registered: take the request again, if the partition is still held
    /// under `epoch`. Else it is read again.
    Schema { epoch: Option<i64>, record: Box<Record>, missing: Option<SchemaRef> },
}

/// The pump.
pub(super) struct Pump {
    pub(super) deps: Deps,
    pub(super) sender: Sender,
    pub(super) out: Vec<Effect>,
    pub(super) writer: Writer,
    pub(super) reports: Reports,
    pub(super) requests_topic: Arc<str>,
    pub(super) group: GroupConsumer,
    pub(super) ledger: Tail,
    pub(super) ledger_following: Following,
    pub(super) resumes: Resumes,
    /// Since when partitions are being taken over.
    pub(super) taking_over: HashMap<i32, Instant>,
    pub(super) status: Tail,
    pub(super) status_following: Following,
    pub(super) reader: Reader,
    pub(super) evidence: Evidence,
    pub(super) watermarks: Watermarks,
    pub(super) caller: Caller,
    pub(super) results: mpsc::UnboundedReceiver<Input>,
    pub(super) notices: (mpsc::UnboundedSender<Notice>, mpsc::UnboundedReceiver<Notice>),
    pub(super) dead_letters: DeadLetters,
    /// Partitions the group assigns to us.
    pub(super) assigned: BTreeSet<i32>,
    /// Partitions whose records, up to the mark that they are stopped, are of a tenure that is over.
    pub(super) stopping: BTreeSet<i32>,
    /// Partitions to fence again, and when.
    pub(super) fence_at: BTreeMap<Instant, i32>,
    /// Next offsets to commit.
    pub(super) commits: HashMap<i32, i64>,
    /// The request being stepped, for effects about its bytes.
    pub(super) current: Option<Record>,
    pub(super) closing: bool,
}

impl Pump {
    pub(super) fn open(deps: &Deps, partitions: i32) -> anyhow::Result<Self> {
        let settings = &deps.settings.sender;
        let kafka = &deps.settings.kafka;
        let decisions = settings.decisions(&deps.settings.deployment);
        let ledger_timeout_ms = decisions.ledger_timeout_ms;
        let owner = format!("{}/{}", kafka.client_id, uuid::Uuid::new_v4());
        let mut sender = Sender::new(decisions, owner, partitions, rand::random());
        if !settings.store.directory.as_os_str().is_empty() {
            let disk = Disk::open(&settings.store)?;
            sender = sender.with_stores(Box::new(move |partition, now| disk.partition(partition, now)));
        }
        let (writer, reports) =
            Writer::open(kafka, deps.names.clone(), &deps.codecs, (ledger_timeout_ms, settings.linger_ms))?;
        let requests_topic: Arc<str> = deps.names.get(Topic::OutboundRequests).into();
        let client = Client::new(&settings.client).context("sender.client")?;
        let (caller, results) =
            Caller::new(client, deps.connectors.clone(), deps.directory.clone(), deps.metrics.clone());
        Ok(Self {
            group: GroupConsumer::join(
                kafka,
                "sender",
                &[&requests_topic],
                group::Options { fetch: Some(settings.intake_fetch), ..group::Options::default() },
            )?,
            ledger: Tail::open(
                kafka,
                deps.names.get(Topic::OutboundLedger),
                tail::Options { fetch: Some(settings.ledger_fetch), ..tail::Options::default() },
            )?,
            status: Tail::open(
                kafka,
                deps.names.get(Topic::MessagesStatus),
                tail::Options { fetch: Some(settings.evidence_fetch), ..tail::Options::default() },
            )?,
            ledger_following: Following::default(),
            resumes: Resumes::default(),
            taking_over: HashMap::new(),
            status_following: Following::default(),
            reader: Reader::new(&deps.codecs),
            evidence: Evidence::new(&deps.codecs),
            watermarks: Watermarks::new(kafka, &deps.names, settings.watermark, deps.metrics.clone()),
            notices: mpsc::unbounded_channel(),
            dead_letters: DeadLetters::new(
                "sender",
                &deps.names,
                &deps.codecs,
                deps.metrics.clone(),
                Limits { ratio_max: settings.dead_ratio_max, window_records: settings.dead_window_records },
            ),
            assigned: BTreeSet::new(),
            stopping: BTreeSet::new(),
            fence_at: BTreeMap::new(),
            commits: HashMap::new(),
            current: None,
            closing: false,
            out: Vec::new(),
            deps: deps.clone(),
            requests_topic,
            sender,
            writer,
            reports,
            caller,
            results,
        })
    }

    /// Sends until `shutdown`, then gives every partition back clean.
    ///
    /// # Errors
    /// When the role cannot go on. What is not settled is taken up by the next owner.
    pub(super) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut changes = self.deps.directory.changes();
        self.look_at_all_sessions()?;
        let settings = self.deps.settings.sender.clone();
        let mut commit_ticks = ticks(settings.commit_interval_ms);
        let mut evidence_ticks = ticks(settings.evidence_interval_ms);
        let mut deadline = None;
        let (mut results, mut fact_reports) = (Vec::new(), Vec::new());
        let (mut claim_reports, mut intake_reports) = (Vec::new(), Vec::new());
        tracing::info!(role = "sender", "sending");
        loop {
            if self.closing && (self.sender.is_idle() || deadline.is_some_and(|at| Instant::now() >= at)) {
                break;
            }
            let wake = self.next_wake(deadline);
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.closing => {
                    deadline = Some(Instant::now() + Duration::from_millis(settings.drain_timeout_ms));
                    self.begin_closing()?;
                }
                () = tokio::time::sleep_until(wake) => self.on_wake()?,
                _ = commit_ticks.tick() => self.commit(),
                _ = evidence_ticks.tick() => self.housekeep()?,
                n = self.results.recv_many(&mut results, TAKE_MAX) => {
                    anyhow::ensure!(n > 0, "the calls' channel is closed");
                    for input in results.drain(..) {
                        self.step(input)?;
                    }
                }
                _ = self.reports.claims.collect(&mut claim_reports, TAKE_MAX) => self.ledger_reported(&mut claim_reports)?,
                _ = self.reports.intake.collect(&mut intake_reports, TAKE_MAX) => self.ledger_reported(&mut intake_reports)?,
                _ = self.reports.facts.collect(&mut fact_reports, TAKE_MAX) => {
                    for delivery in fact_reports.drain(..) {
                        if let Some((token, offset)) = self.writer.reported(delivery)
                            && token != Token::None
                        {
                            self.step(Input::Acked { token, offset })?;
                        }
                    }
                    self.writer.resume();
                }
                event = self.ledger.recv() => self.on_ledger(event.context("the ledger tail has ended")?)?,
                event = self.status.recv() => self.on_status(event.context("the status tail has ended")?)?,
                notice = self.notices.1.recv() => if let Some(notice) = notice { self.on_notice(notice)? },
                change = changes.recv() => self.on_change(change)?,
                event = self.group.recv() => self.on_group(event.context("the group member has ended")?)?,
            }
        }
        self.close().await;
        Ok(())
    }

    async fn close(mut self) {
        self.commit();
        self.writer.flusher().flush(Duration::from_secs(5)).await;
        if !self.sender.is_idle() {
            tracing::warn!(gauges = ?self.sender.gauges(), "stopped with work under way; the next owner settles it");
        }
        let closing = async {
            tokio::join!(self.group.close(), self.ledger.close(), self.status.close());
        };
        if tokio::time::timeout(Duration::from_secs(5), closing).await.is_err() {
            tracing::warn!("the consumers did not close in time");
        }
    }

    fn next_wake(&self, deadline: Option<Instant>) -> Instant {
        let now = Instant::now();
        let wall_us = clock::now().wall_us;
        let far = now + Duration::from_secs(3_600);
        let sender = self.sender.next_wake_us().map(|at| {
            now + Duration::from_micros(u64::try_from(at.saturating_sub(wall_us)).unwrap_or(0))
                .min(Duration::from_secs(3_600))
        });
        let fence = self.fence_at.first_key_value().map(|(at, _)| *at);
        let waiting = self.writer.has_waiting().then(|| now + Duration::from_millis(20));
        [sender, fence, waiting, deadline].into_iter().flatten().min().unwrap_or(far)
    }

    fn on_wake(&mut self) -> anyhow::Result<()> {
        self.writer.resume();
        let now = Instant::now();
        while let Some(entry) = self.fence_at.first_entry().filter(|entry| *entry.key() <= now) {
            let partition = entry.remove();
            if self.assigned.contains(&partition) && !self.closing {
                self.step(Input::Assigned { partition })?;
            }
        }
        self.step(Input::Tick)
    }

    /// Steps the machine and carries out what follows, at once and in order.
    pub(super) fn step(&mut self, input: Input) -> anyhow::Result<()> {
        let reading = clock::now();
        let now = Now { wall_us: reading.wall_us, boot_us: reading.boot_us };
        let mut out = std::mem::take(&mut self.out);
        self.sender.step(now, input, &mut out);
        let mut done = Ok(());
        for effect in out.drain(..) {
            if done.is_ok() {
                done = self.carry_out(effect);
            }
        }
        self.out = out;
        done
    }

    fn carry_out(&mut self, effect: Effect) -> anyhow::Result<()> {
        match effect {
            Effect::Append { partition, epoch, key, entry, urgent } => {
                if !self.writer.entry(partition, epoch, &key, entry.as_deref(), urgent) {
                    self.fail_later(partition, epoch);
                }
            }
            Effect::Publish { status, partition, traceparent, token } => {
                let epoch = self.sender.epoch(partition);
                self.writer.status(partition, epoch, &status, traceparent.as_deref(), token);
            }
            Effect::Call(call) => self.caller.call(call),
            Effect::LookUp { message_id, session_id, provider_message_id, .. } => {
                self.caller.look_up(&session_id, message_id, &provider_message_id);
            }
            Effect::Fence { partition, resume: None } => {
                self.resumes.forget(partition);
                self.taking_over.insert(partition, Instant::now());
                self.fence(partition);
            }
            Effect::Fence { partition, resume: Some(resume) } => {
                let from = tail::From::Offset(resume.identity.offset);
                self.resumes.look(partition, resume);
                self.taking_over.insert(partition, Instant::now());
                self.ledger_following.begin(&self.ledger, partition, from);
            }
            Effect::FenceLater { partition, after_ms } => self.fence_later(partition, after_ms),
            Effect::Own { partition, position, status_from_ms } => {
                self.own(partition, position, status_from_ms)
            }
            Effect::Commit { partition, offset } => {
                self.commits.insert(partition, offset);
            }
            Effect::HoldIntake { partition, hold } => {
                let partition = Partition::new(self.requests_topic.clone(), partition);
                if hold {
                    self.group.control().pause(partition)
                } else {
                    self.group.control().resume(partition)
                }
            }
            Effect::Drop { partition } => self.drop_partition(partition),
            Effect::GiveBack { partition } => self.give_back(partition),
            Effect::DeadLetter { reason, detail, token, .. } => {
                self.dead_letter(Cause::new(reason, detail), token)?
            }
            Effect::Reroute { to_partition, hops, token, .. } => self.reroute(to_partition, hops, token),
            Effect::SessionStatus { partition, status } => self.writer.facet(partition, &status),
            Effect::Note(note) => {
                if let Note::Restored { partition, .. } = &note
                    && let Some(since) = self.taking_over.remove(partition)
                {
                    let took = since.elapsed();
                    self.deps.metrics.restore_seconds.observe(took.as_secs_f64());
                    tracing::info!(
                        partition,
                        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                        "ledger read"
                    );
                }
                notes::take(&self.deps.metrics, &note);
            }
            Effect::StoreFailed { partition } => {
                anyhow::bail!(
                    "the local state of partition {partition} cannot be read or written; see the entry before"
                )
            }
        }
        Ok(())
    }

    /// A ledger record could not be queued: told like a failed one, but not inside the step that wrote it.
    fn fail_later(&self, partition: i32, epoch: i64) {
        self.caller.tell(Input::LedgerFailed { partition, epoch });
    }

    pub(super) fn fence_later(&mut self, partition: i32, after_ms: u64) {
        let mut at = Instant::now() + Duration::from_millis(after_ms);
        while self.fence_at.contains_key(&at) {
            at += Duration::from_micros(1);
        }
        self.fence_at.insert(at, partition);
    }

    /// A partition is restored: take requests and follow the facts.
    fn own(&mut self, partition: i32, position: Option<i64>, status_from_ms: i64) {
        self.evidence.begin(partition);
        self.status_following.begin(&self.status, partition, tail::From::Timestamp(status_from_ms.max(0)));
        let requests = Partition::new(self.requests_topic.clone(), partition);
        let (control, notices) = (self.group.control().clone(), self.notices.0.clone());
        let epoch = self.sender.epoch(partition);
        let rewind = match self.deps.settings.sender.rewind_allowed {
            true => Rewind::Allowed,
            false => Rewind::Forbidden,
        };
        tokio::spawn(async move {
            let at = loop {
                match control.committed(vec![requests.clone()]).await {
                    Ok(committed) => {
                        let committed = committed.first().and_then(|(_, offset)| *offset);
                        break start::at(partition, committed, position, rewind);
                    }
                    Err(group::Error::Closed | group::Error::Fatal(_)) => return,
                    Err(error) => {
                        tracing::warn!(partition, %error, "committed offset not known yet");
                        tokio::time::sleep(SCHEMA_RETRY).await;
                    }
                }
            };
            let _ = notices.send(Notice::Begin { partition, epoch, at });
        });
    }

    pub(super) fn fence(&mut self, partition: i32) {
        if !self.writer.fence(partition, &self.sender.fence_entry()) {
            self.fence_later(partition, 1_000);
        }
    }

    fn drop_partition(&mut self, partition: i32) {
        self.resumes.forget(partition);
        self.ledger_following.end(&self.ledger, partition);
        self.status_following.end(&self.status, partition);
        self.commits.remove(&partition);
        if self.assigned.contains(&partition) {
            self.stopping.insert(partition);
            self.group.control().stop(Partition::new(self.requests_topic.clone(), partition));
        }
    }

    /// Nothing of ours is under way on the partition: once all we wrote is acknowledged the group gets it back.
    fn give_back(&mut self, partition: i32) {
        self.resumes.forget(partition);
        self.ledger_following.end(&self.ledger, partition);
        self.status_following.end(&self.status, partition);
        self.assigned.remove(&partition);
        let offset = self.commits.remove(&partition);
        let requests = Partition::new(self.requests_topic.clone(), partition);
        let (control, flusher, closing) = (self.group.control().clone(), self.writer.flusher(), self.closing);
        if closing {
            // Leaving the group gives it back; only the offset has to stand.
            if let Some(offset) = offset {
                self.commits.insert(partition, offset);
            }
            return;
        }
        tokio::spawn(async move {
            flusher.flush(Duration::from_secs(10)).await;
            if let Err(error) = control.release(vec![(requests, offset)]).await {
                tracing::warn!(partition, %error, "last offset not committed; those requests are read again");
            }
        });
    }

    fn dead_letter(&mut self, cause: Cause, token: Token) -> anyhow::Result<()> {
        let Some(record) = self.current.take() else { return Ok(()) };
        let letter = self.dead_letters.letter(&record, cause)?;
        let headers = letter.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        self.writer.copy(Topic::DeadLetters, None, (letter.key, letter.value), headers, token);
        Ok(())
    }

    fn reroute(&mut self, to_partition: i32, hops: u32, token: Token) {
        let Some(record) = self.current.take() else { return };
        let mut list: Vec<(&'static str, Vec<u8>)> = vec![(headers::HOPS, hops.to_string().into_bytes())];
        for name in [
            headers::TENANT_ID,
            headers::SESSION_ID,
            headers::MESSAGE_ID,
            headers::EVENT_TYPE,
            headers::TRACEPARENT,
            sluice_schemas::codec::VALUE_SCHEMA_HEADER,
        ] {
            if let Some(value) = record.header(name) {
                list.push((name, value.to_vec()));
            }
        }
        let key = record.key.map(|key| key.to_vec()).unwrap_or_default();
        let value = record.value.map(|value| value.to_vec()).unwrap_or_default();
        self.writer.copy(Topic::OutboundRequests, Some(to_partition), (key, value), list, token);
    }

    fn commit(&mut self) {
        if self.commits.is_empty() {
            return;
        }
        let offsets = self
            .commits
            .drain()
            .map(|(partition, offset)| (Partition::new(self.requests_topic.clone(), partition), offset))
            .collect();
        let answer = self.group.control().commit(offsets);
        tokio::spawn(async move {
            if let Err(error) = answer.await {
                // Repeating is safe: the ledger knows these requests.
                tracing::warn!(%error, "request offsets not committed");
            }
        });
    }

    fn housekeep(&mut self) -> anyhow::Result<()> {
        let gauges = self.sender.gauges();
        let metrics = &self.deps.metrics;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.partitions.with_label_values(&["owned"]).set(count(gauges.owned));
        metrics.partitions.with_label_values(&["restoring"]).set(count(gauges.restoring));
        metrics.open_messages.with_label_values(&["open"]).set(count(gauges.open));
        metrics.open_messages.with_label_values(&["resident"]).set(count(gauges.resident));
        metrics.open_messages.with_label_values(&["calling"]).set(count(gauges.calls));
        metrics.sessions_slowed.set(count(gauges.sessions_slowed));
        metrics.circuits_open.with_label_values(&["session"]).set(count(gauges.session_circuits_open));
        metrics.circuits_open.with_label_values(&["base_url"]).set(count(gauges.base_url_circuits_open));
        metrics.in_doubt_open.set(i64::try_from(gauges.in_doubt).unwrap_or(i64::MAX));
        let age_ms =
            gauges.in_doubt_since_ms.map_or(0, |since| clock::wall_ms().saturating_sub(since).max(0));
        metrics.in_doubt_oldest_seconds.set(age_ms as f64 / 1_000.0);
        if self.sender.partitions_in_doubt().is_empty() {
            self.watermarks.end();
            return Ok(());
        }
        let notices = self.notices.0.clone();
        self.watermarks.begin(move |asked_ms| {
            let _ = notices.send(Notice::WebhooksProcessed { asked_ms });
        })?;
        Ok(())
    }

    /// The webhooks of `asked_ms` are processed: what they told stands in `messages.status` below its present end.
    pub(super) fn ask_for_status_ends(&self, asked_ms: i64) {
        for partition in self.sender.partitions_in_doubt() {
            let (control, notices) = (self.status.control().clone(), self.notices.0.clone());
            tokio::spawn(async move {
                match control.watermarks(partition).await {
                    Ok((_, end)) => drop(notices.send(Notice::StatusEnd { partition, asked_ms, end })),
                    // The next round asks again.
                    Err(error) => {
                        tracing::warn!(partition, %error, "the end of the statuses is not known yet")
                    }
                }
            });
        }
    }

    fn begin_closing(&mut self) -> anyhow::Result<()> {
        self.closing = true;
        self.fence_at.clear();
        for partition in self.assigned.clone() {
            self.group.control().pause(Partition::new(self.requests_topic.clone(), partition));
            self.step(Input::Revoking { partition })?;
        }
        Ok(())
    }
}

fn ticks(interval_ms: u64) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
