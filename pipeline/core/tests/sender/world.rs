//! One sender on a model log.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use sluice_core::outcome::{CallResult, Outcome};
use sluice_core::sender::ledger::{Key, Read};
use sluice_core::sender::{
    Call, Effect, Input, Request, Sender, SessionCondition, SessionConfig, Settings, Token,
};
use sluice_core::time::Now;
use sluice_schemas::codec::Datum;
use sluice_schemas::ids::message_id;
use sluice_schemas::wire::Reader;
use sluice_schemas::{
    Command, ContentType, EntryKind, InDoubtPolicy, LedgerEntry, MessageStatus, OnDelete, OutboundCommand,
    Provider, RateLimit, Source, Status,
};

struct Record {
    key: Key,
    epoch: i64,
    entry: Option<LedgerEntry>,
}

pub(crate) struct World {
    settings: Settings,
    pub(crate) sender: Sender,
    pub(crate) now: Now,
    log: Vec<Record>,
    next_read: usize,
    tailing: bool,
    pub(crate) pause_reads: bool,
    pub(crate) hold_acks: bool,
    /// Appends that never reach the log.
    pub(crate) lose: Option<fn(&Key, Option<&LedgerEntry>) -> bool>,
    held: Vec<Token>,
    requests: i64,
    pub(crate) statuses: Vec<MessageStatus>,
    /// Calls of the present sender, with their start, wall µs.
    pub(crate) calls: Vec<(Call, i64)>,
    pub(crate) committed: Option<i64>,
    pub(crate) effects_seen: Vec<Effect>,
}

pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        tenant_id: "t1".into(),
        provider: Provider::Wasender,
        account_id: "a1".into(),
        base_url: "http://provider".into(),
        base_url_in_flight_max: None,
        limits: vec![RateLimit { count: 1_000, per_ms: 1_000, burst: 500 }],
        pair_limits: vec![],
        max_in_flight: 1,
        in_doubt_policy: InDoubtPolicy::Hold,
        tenant_weight: 1,
        needs_bridge: false,
        binding_epoch: 0,
        on_rebinding: OnDelete::Move,
    }
}

pub(crate) fn text(session: &str, key: &str, to: &str, text: &str) -> OutboundCommand {
    OutboundCommand {
        command: Command::Send,
        session_id: session.into(),
        idempotency_key: key.into(),
        to: Some(to.into()),
        content_type: ContentType::Text,
        text: Some(text.into()),
        ..OutboundCommand::default()
    }
}

pub(crate) fn scheduled(session: &str, key: &str, at_ms: i64) -> OutboundCommand {
    OutboundCommand { send_at: Some(at_ms), ..text(session, key, "+15551230001", "later") }
}

pub(crate) fn cancel(session: &str, target: &str, key: &str) -> OutboundCommand {
    OutboundCommand {
        command: Command::Cancel,
        session_id: session.into(),
        idempotency_key: key.into(),
        target_idempotency_key: Some(target.into()),
        ..OutboundCommand::default()
    }
}

fn fresh_sender(settings: &Settings) -> Sender {
    Sender::new(settings.clone(), "test", 1, 7)
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_settings(|_| {})
    }

    pub(crate) fn with_settings(change: impl Fn(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let mut world = Self {
            sender: fresh_sender(&settings),
            settings,
            now: Now { wall_us: 1_700_000_000_000_000, boot_us: 1_000_000_000 },
            log: Vec::new(),
            next_read: 0,
            tailing: false,
            pause_reads: false,
            hold_acks: false,
            lose: None,
            held: Vec::new(),
            requests: 0,
            statuses: Vec::new(),
            calls: Vec::new(),
            committed: None,
            effects_seen: Vec::new(),
        };
        world.input(Input::Assigned { partition: 0 });
        world
    }

    pub(crate) fn with_session(id: &str) -> Self {
        let mut world = Self::new();
        world.put(id, |_| {});
        world
    }

    pub(crate) fn put(&mut self, id: &str, change: impl Fn(&mut SessionConfig)) {
        let mut session = config();
        change(&mut session);
        self.input(Input::Session { session_id: id.into(), config: Some(Box::new(session)) });
    }

    pub(crate) fn delete(&mut self, id: &str) {
        self.input(Input::Session { session_id: id.into(), config: None });
    }

    pub(crate) fn condition(&mut self, id: &str, condition: SessionCondition) {
        self.input(Input::Condition { session_id: id.into(), condition });
    }

    pub(crate) fn send(&mut self, command: OutboundCommand) {
        let mut raw = Vec::new();
        command.put(&mut raw);
        let offset = self.requests;
        self.requests += 1;
        self.input(Input::Request(Request {
            partition: 0,
            offset,
            timestamp_ms: self.now.wall_ms(),
            hops: 0,
            traceparent: None,
            raw: Bytes::from(raw),
            command: Ok(Arc::new(command)),
        }));
    }

    pub(crate) fn submitted(id: &str) -> Outcome {
        Outcome::Submitted { provider_message_id: Some(id.into()), whatsapp_message_id: None }
    }

    fn result(outcome: Outcome) -> CallResult {
        CallResult { outcome, error: None, http_status: Some(200), duration_ms: 5 }
    }

    pub(crate) fn answer(&mut self, call: usize, outcome: Outcome) {
        let id = self.calls[call].0.id;
        self.input(Input::Called { call: id, result: Self::result(outcome) });
    }

    /// What a sender that lost its partition says of its call.
    pub(crate) fn late_outcome(
        mut former: (Sender, Vec<Call>),
        call: usize,
        outcome: Outcome,
        now: Now,
    ) -> MessageStatus {
        let mut out = Vec::new();
        former.0.step(now, Input::Lost { partition: 0 }, &mut out);
        let call = former.1[call].id;
        former.0.step(now, Input::Called { call, result: Self::result(outcome) }, &mut out);
        assert!(!out.iter().any(|e| matches!(e, Effect::Append { .. })), "it writes no more to the ledger");
        out.into_iter()
            .find_map(|effect| match effect {
                Effect::Publish { status, .. } => Some(*status),
                _ => None,
            })
            .expect("the true status is told")
    }

    pub(crate) fn echo(&mut self, session: &str, recipient: &str, text: &str, whatsapp_id: &str) {
        let content = sluice_core::content::fingerprint(ContentType::Text, Some(text));
        let status = MessageStatus {
            event_id: whatsapp_id.into(),
            session_id: session.into(),
            status: Status::Sent,
            source: Source::Webhook,
            recipient: Some(recipient.into()),
            whatsapp_message_id: Some(whatsapp_id.into()),
            content_sha256: Some(content.iter().map(|b| format!("{b:02x}")).collect()),
            occurred_at: self.now.wall_ms(),
            ..MessageStatus::default()
        };
        self.input(Input::Status { partition: 0, status: Box::new(status) });
    }

    pub(crate) fn status_caught_up(&mut self) {
        let asked_ms = self.now.wall_ms();
        self.input(Input::StatusCaughtUp { partition: 0, asked_ms });
    }

    pub(crate) fn pass_ms(&mut self, ms: i64) {
        let end = self.now.wall_us + ms * 1000;
        while let Some(at) = self.sender.next_wake_us().filter(|at| *at <= end) {
            let step = (at - self.now.wall_us).max(0);
            self.now.wall_us += step;
            self.now.boot_us += step as u64;
            self.input(Input::Tick);
        }
        self.now.boot_us += (end - self.now.wall_us) as u64;
        self.now.wall_us = end;
        self.input(Input::Tick);
    }

    /// The process dies and another takes over.
    pub(crate) fn crash(&mut self) {
        self.take_sender();
        self.restart();
    }

    pub(crate) fn take_sender(&mut self) -> (Sender, Vec<Call>) {
        let former = std::mem::replace(&mut self.sender, fresh_sender(&self.settings));
        (former, std::mem::take(&mut self.calls).into_iter().map(|(call, _)| call).collect())
    }

    pub(crate) fn restart(&mut self) {
        self.effects_seen.clear();
        self.tailing = false;
        self.input(Input::Assigned { partition: 0 });
    }

    /// A former owner's late Accepted record comes after everything, and compaction removes the earlier one.
    pub(crate) fn move_accepted_to_the_end(&mut self) {
        let at = self.log.iter().position(|record| matches!(record.key, Key::Accepted(_))).expect("accepted");
        let record = self.log.remove(at);
        self.log.push(record);
    }

    /// A former owner's Done of a request it refused lands late.
    pub(crate) fn foreign_refusal(&mut self, session: &str, key: &str) {
        let entry = LedgerEntry {
            outcome: Status::Failed,
            reason: Some("queue_full".into()),
            kind: sluice_schemas::EntryKind::Done,
            ..LedgerEntry::default()
        };
        let key = Key::Done(message_id(session, key));
        self.log.push(Record { key, epoch: -1, entry: Some(entry) });
    }

    /// A record of a former owner lands late.
    pub(crate) fn foreign_accept(&mut self, command: &OutboundCommand) {
        let mut request = Vec::new();
        command.put(&mut request);
        let entry = LedgerEntry {
            kind: EntryKind::Accepted,
            at: self.now.wall_ms(),
            session_id: Some(command.session_id.clone()),
            request: Some(request),
            recipient: command.to.clone(),
            body_sha256: Some(sluice_core::content::body_hash(command).to_vec()),
            ..LedgerEntry::default()
        };
        let id = message_id(&command.session_id, &command.idempotency_key);
        self.log.push(Record { key: Key::Accepted(id), epoch: -7, entry: Some(entry) });
    }

    pub(crate) fn foreign_fence(&mut self) {
        self.log.push(Record { key: Key::Fence, epoch: -1, entry: Some(LedgerEntry::default()) });
    }

    pub(crate) fn resume_reads(&mut self) {
        self.pause_reads = false;
        self.run(VecDeque::new());
    }

    pub(crate) fn release_acks(&mut self) {
        self.hold_acks = false;
        for token in std::mem::take(&mut self.held) {
            self.input(Input::Acked { token, offset: 0 });
        }
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.run(VecDeque::from([input]));
    }

    fn run(&mut self, mut inputs: VecDeque<Input>) {
        loop {
            let input = match inputs.pop_front() {
                Some(input) => input,
                None if self.tailing && !self.pause_reads && self.next_read < self.log.len() => {
                    self.read_next()
                }
                None => return,
            };
            let mut out = Vec::new();
            self.sender.step(self.now, input, &mut out);
            for effect in out {
                self.effects_seen.push(effect.clone());
                inputs.extend(self.carry_out(effect));
            }
        }
    }

    fn read_next(&mut self) -> Input {
        let offset = self.next_read;
        self.next_read += 1;
        let record = &self.log[offset];
        let command = record
            .entry
            .as_ref()
            .and_then(|entry| entry.request.as_deref())
            .and_then(|raw| OutboundCommand::read(&mut Reader::new(raw)).ok())
            .map(Arc::new);
        Input::Ledger {
            partition: 0,
            read: Read {
                offset: offset as i64,
                key: record.key,
                epoch: record.epoch,
                entry: record.entry.clone().map(Box::new),
                command,
            },
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Fence { .. } => {
                self.log.push(Record { key: Key::Fence, epoch: -1, entry: Some(self.sender.fence_entry()) });
                self.tailing = true;
                self.next_read = 0;
                return Some(Input::Fenced { partition: 0, offset: self.log.len() as i64 - 1 });
            }
            Effect::Append { epoch, key, entry, .. } => {
                if self.lose.is_some_and(|lost| lost(&key, entry.as_deref())) {
                    return None;
                }
                self.log.push(Record { key, epoch, entry: entry.map(|e| *e) });
            }
            Effect::Publish { status, token, .. } => {
                self.statuses.push(*status);
                if self.hold_acks {
                    self.held.push(token);
                } else {
                    return Some(Input::Acked { token, offset: self.statuses.len() as i64 });
                }
            }
            Effect::DeadLetter { token, .. } | Effect::Reroute { token, .. } => {
                return Some(Input::Acked { token, offset: 0 });
            }
            Effect::Call(call) => self.calls.push((*call, self.now.wall_us)),
            Effect::Commit { offset, .. } => self.committed = Some(offset),
            Effect::Drop { .. } | Effect::GiveBack { .. } => self.tailing = false,
            _ => {}
        }
        None
    }

    /// Statuses told of a message, in order.
    pub(crate) fn told(&self, key: &str) -> Vec<Status> {
        let ids: Vec<String> =
            ["s1", "s2", "nowhere"].iter().map(|s| message_id(s, key).to_string()).collect();
        self.statuses
            .iter()
            .filter(|s| s.message_id.as_ref().is_some_and(|id| ids.contains(id)))
            .map(|s| s.status)
            .collect()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.statuses
            .iter()
            .filter(|s| matches!(s.status, Status::Failed | Status::Expired))
            .filter_map(|s| s.error.as_ref().map(|e| e.code.clone()))
            .collect()
    }

    pub(crate) fn texts(&self) -> Vec<String> {
        self.calls.iter().filter_map(|(call, _)| call.command.text.clone()).collect()
    }

    /// From when on `messages.status` is read for the partition owned last, ms.
    pub(crate) fn status_from_ms(&self) -> Option<i64> {
        self.effects_seen.iter().rev().find_map(|effect| match effect {
            Effect::Own { status_from_ms, .. } => Some(*status_from_ms),
            _ => None,
        })
    }

    pub(crate) fn given_back(&self) -> bool {
        self.effects_seen.iter().any(|e| matches!(e, Effect::GiveBack { .. }))
    }

    pub(crate) fn log_kinds(&self) -> Vec<String> {
        self.log.iter().filter_map(|r| r.entry.as_ref()).map(|e| e.kind.as_str().to_owned()).collect()
    }

    /// Kinds of keys that compaction would keep, without the first fence.
    pub(crate) fn live_keys(&self) -> Vec<String> {
        let mut live: Vec<String> = Vec::new();
        for (i, record) in self.log.iter().enumerate() {
            let last = self.log[i + 1..].iter().all(|later| later.key != record.key);
            if last && record.entry.is_some() && i > 0 && record.key != Key::Identity {
                let key = record.key.to_string();
                live.push(key.split_inclusive('/').next().unwrap_or(&key).to_owned());
            }
        }
        live.sort();
        live.dedup();
        live
    }
}
