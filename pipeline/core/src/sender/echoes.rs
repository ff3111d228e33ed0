//! What echoes and look-ups tell: the WhatsApp ids of submitted messages, and that an attempt in doubt was made.

use sluice_schemas::ids::event_id;
use sluice_schemas::{MessageStatus, Source, Status};
use uuid::Uuid;

use super::bridge::{Echo, Match, Print, Span, Stage as BridgeStage};
use super::done::Done;
use super::doubt::settled;
use super::facts::Fact;
use super::message::{Doubt, Evidence, Next, Stage};
use super::session::SessionIndex;
use super::{Effect, Note, Planted, Sender, Token};
use crate::content::command_fingerprint;
use crate::recipient::canonical;

impl Sender {
    pub(super) fn echo(&mut self, status: &MessageStatus, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.find(&status.session_id) else { return };
        let (Some(whatsapp_id), Some(content), Some(to)) = (
            &status.whatsapp_message_id,
            &status.content_sha256,
            status.recipient.as_ref().or(status.chat_id.as_ref()),
        ) else {
            return;
        };
        let (Ok(recipient), Some(content)) = (canonical(to), hex32(content)) else { return };
        let echo = Echo {
            whatsapp_id: whatsapp_id.clone(),
            chat_id: status.chat_id.clone(),
            at_ms: status.occurred_at,
            event_id: status.event_id.clone(),
        };
        let span = self.span();
        if self.planted(Planted::EvidenceUsedTwice) {
            self.sessions.work(session).bridge.forget_used();
        }
        let found = self.sessions.work(session).bridge.echo((recipient.as_str().into(), content), echo, span);
        if let Some(found) = found {
            self.matched(session, found, out);
        }
    }

    /// An echo is a message's own.
    pub(super) fn matched(&mut self, session: SessionIndex, found: Match, out: &mut Vec<Effect>) {
        let partition = self.sessions.get(session).partition;
        match found.stage {
            BridgeStage::Calling | BridgeStage::Rival => {}
            BridgeStage::Submitted { provider_message_id } => {
                let told = Told {
                    whatsapp_id: found.echo.whatsapp_id,
                    chat_id: found.echo.chat_id,
                    evidence: Some(found.echo.event_id),
                };
                self.publish_whatsapp_id(session, found.id, provider_message_id, told, out);
            }
            BridgeStage::InDoubt => {
                let echo = Evidence::Echo(Box::new(found.echo));
                self.note_evidence(partition, found.id, echo, out);
            }
        }
    }

    /// Evidence counts once a record of ours written after it is read back: an owner that was fenced off and does
    /// not know it yet does not know either whose echoes come, nor whether the attempt is still the last one.
    pub(super) fn note_evidence(
        &mut self,
        partition: i32,
        id: Uuid,
        evidence: Evidence,
        out: &mut Vec<Effect>,
    ) {
        let Some(doubt) = self.doubt_of(partition, &id) else { return };
        let Some(open) = self.open_mut(partition, &id) else { return };
        open.evidence = Some(evidence);
        if matches!(open.stage, Stage::InDoubt(_)) {
            self.append_doubt(partition, id, doubt, out);
        }
    }

    /// An attempt in doubt was made: its echo came.
    pub(super) fn settle_by_echo(
        &mut self,
        partition: i32,
        id: Uuid,
        doubt: &Doubt,
        echo: Echo,
        out: &mut Vec<Effect>,
    ) {
        out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "evidence" }));
        let fact = Fact {
            status: Status::Submitted,
            claim: Some((doubt.claim_epoch, doubt.claim_seq)),
            whatsapp_message_id: Some(echo.whatsapp_id),
            chat_id: echo.chat_id,
            evidence_event_id: Some(echo.event_id),
            source: Source::Sender,
            occurred_at: Some(echo.at_ms),
            ..Fact::default()
        };
        let next = Next::Done(settled(Status::Submitted, doubt, None));
        self.settle(partition, id, fact, next, out);
    }

    fn publish_whatsapp_id(
        &self,
        session: SessionIndex,
        id: Uuid,
        provider_message_id: String,
        told: Told,
        out: &mut Vec<Effect>,
    ) {
        let state = self.sessions.get(session);
        let partition = state.partition;
        let message_id = id.to_string();
        let now_ms = self.now.wall_ms();
        let status = MessageStatus {
            event_id: event_id(&[&message_id, Status::ProviderId.as_str(), &told.whatsapp_id]).to_string(),
            message_id: Some(message_id),
            session_id: state.id.to_string(),
            tenant_id: state.config.as_ref().map(|config| config.tenant_id.clone()),
            status: Status::ProviderId,
            occurred_at: now_ms,
            observed_at: now_ms,
            source: Source::Reconciler,
            provider: state.config.as_ref().map(|config| config.provider).unwrap_or_default(),
            provider_message_id: Some(provider_message_id),
            whatsapp_message_id: Some(told.whatsapp_id),
            chat_id: told.chat_id,
            evidence_event_id: told.evidence,
            ..MessageStatus::default()
        };
        out.push(Effect::Publish {
            status: Box::new(status),
            partition,
            traceparent: None,
            token: Token::None,
        });
    }

    /// A message may be echoed from now on.
    pub(super) fn add_candidate(&mut self, partition: i32, id: Uuid, since_ms: i64, stage: BridgeStage) {
        let most = self.settings.bridge_candidates_max;
        let Some(open) = self.open_mut(partition, &id) else { return };
        let print = open
            .print
            .get_or_insert_with(|| Box::new((open.recipient.clone(), command_fingerprint(&open.command))));
        let (print, session) = ((**print).clone(), open.session);
        self.sessions.work(session).bridge.add(id, print, since_ms, stage, most);
    }

    /// A message finished before this owner's time may still be echoed.
    pub(super) fn restore_candidate(&mut self, partition: i32, id: Uuid, done: &Done) {
        let Some(echo) = &done.echo else { return };
        let stage = match (&done.provider_message_id, done.outcome) {
            (Some(id), Status::Submitted) => BridgeStage::Submitted { provider_message_id: id.clone() },
            // However it ended, an attempt of it may have been in doubt.
            _ => BridgeStage::Rival,
        };
        // The call began before Done was written, at most by this.
        let since_ms = done.at_ms.saturating_sub(self.call_ms());
        if since_ms < self.span().remembered_since_ms() {
            return;
        }
        let session = self.sessions.of(&echo.session_id, partition);
        let print: Print = (echo.recipient.as_str().into(), echo.content);
        let most = self.settings.bridge_candidates_max;
        self.sessions.work(session).bridge.add(id, print, since_ms, stage, most);
        self.plan_look_up(session);
    }

    /// The same for all that the local state remembers.
    pub(super) fn restore_candidates(&mut self, partition: i32) {
        let since_ms = self.span().remembered_since_ms();
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        for (id, done) in part.local.ended_since(since_ms) {
            self.restore_candidate(partition, id, &done);
        }
    }

    /// Longest time from a claim to the answer of its call.
    fn call_ms(&self) -> i64 {
        let ms = self.settings.claim_ttl_ms.saturating_add(self.settings.call_timeout_ms);
        i64::try_from(ms).unwrap_or(i64::MAX / 2)
    }

    pub(super) fn advance_candidate(
        &mut self,
        partition: i32,
        id: &Uuid,
        stage: BridgeStage,
    ) -> Option<Match> {
        let span = self.span();
        let open = self.open(partition, id)?;
        let (session, print) = (open.session, open.print.as_deref()?.clone());
        let submitted = matches!(stage, BridgeStage::Submitted { .. });
        let found = self.sessions.work(session).bridge.advance(*id, &print, stage, span);
        if submitted && found.is_none() {
            self.plan_look_up(session);
        }
        found
    }

    /// An attempt is given up without evidence: its echo may still come.
    pub(super) fn give_up_candidate(&mut self, partition: i32, id: &Uuid) {
        // A rival only takes uniqueness away: nothing is matched by it.
        let _ = self.advance_candidate(partition, id, BridgeStage::Rival);
    }

    /// The WhatsApp id of a message came with its outcome.
    pub(super) fn candidate_told(
        &mut self,
        partition: i32,
        id: &Uuid,
        whatsapp_id: &str,
        out: &mut Vec<Effect>,
    ) {
        let span = self.span();
        let Some(open) = self.open(partition, id) else { return };
        let (session, Some(print)) = (open.session, open.print.as_deref().cloned()) else { return };
        if let Some(left) = self.sessions.work(session).bridge.told(*id, &print, whatsapp_id, span) {
            self.matched(session, left, out);
        }
    }

    /// A message was not sent, so that no echo can be its own; what it leaves may be unique now.
    pub(super) fn drop_candidate(&mut self, partition: i32, id: &Uuid, out: &mut Vec<Effect>) {
        let span = self.span();
        let Some(open) = self.open(partition, id) else { return };
        let (session, Some(print)) = (open.session, open.print.as_deref().cloned()) else { return };
        if let Some(left) = self.sessions.work(session).bridge.remove(*id, &print, span) {
            self.matched(session, left, out);
        }
    }

    fn plan_look_up(&mut self, session: SessionIndex) {
        let after_ms = i64::try_from(self.settings.look_up_after_ms).unwrap_or(i64::MAX / 2);
        let span = self.span();
        let Some(state) = self.sessions.get_mut(session).at_work_mut() else { return };
        if state.look_up_due_us.is_some() {
            return;
        }
        let Some(oldest_ms) = state.bridge.oldest_ms(span) else { return };
        let due_us = oldest_ms
            .saturating_add(after_ms)
            .saturating_mul(1000)
            .max(state.look_up_free_us)
            .max(self.now.wall_us + 1_000_000);
        state.look_up_due_us = Some(due_us);
        self.look_ups.insert((due_us, session));
        self.floor_us = self.floor_us.min(due_us);
    }

    /// Asks for the WhatsApp ids of messages whose echo did not come, or was not unique.
    pub(super) fn look_up(&mut self, session: SessionIndex, out: &mut Vec<Effect>) {
        let now = self.now;
        let as_ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / 2);
        let before_ms = now.wall_ms() - as_ms(self.settings.look_up_after_ms);
        let span = self.span();
        let per_minute = i64::from(self.settings.look_ups_per_minute.max(1));
        let interval_us = (60_000_000 + per_minute - 1) / per_minute;
        let state = self.sessions.get_mut(session);
        let (partition, session_id) = (state.partition, state.id.clone());
        let is_held = state.holding(now.wall_us).is_some();
        let work = state.work();
        work.bridge.expire(span);
        if !is_held && work.look_up_free_us <= now.wall_us {
            for (id, print, provider_message_id) in work.bridge.overdue(before_ms, span, 1) {
                work.look_up_free_us = now.wall_us.saturating_add(interval_us);
                out.push(Effect::LookUp {
                    partition,
                    message_id: id,
                    session_id: session_id.clone(),
                    provider_message_id,
                });
                self.looking.insert(id, (session, print));
            }
        }
        self.plan_look_up(session);
    }

    pub(super) fn looked_up(
        &mut self,
        id: Uuid,
        found: Option<(String, Option<String>)>,
        out: &mut Vec<Effect>,
    ) {
        let span = self.span();
        let Some((session, print)) = self.looking.remove(&id) else { return };
        let bridge = &mut self.sessions.work(session).bridge;
        let Some((whatsapp_id, chat_id)) = found else {
            bridge.not_found(id, &print);
            self.plan_look_up(session);
            return;
        };
        let Some(BridgeStage::Submitted { provider_message_id }) = bridge.stage_of(id, &print) else {
            return;
        };
        let left = bridge.told(id, &print, &whatsapp_id, span);
        let told = Told { whatsapp_id, chat_id, evidence: None };
        self.publish_whatsapp_id(session, id, provider_message_id, told, out);
        if let Some(left) = left {
            self.matched(session, left, out);
        }
    }

    pub(super) fn span(&self) -> Span {
        let as_ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX / 2);
        Span {
            now_ms: self.now.wall_ms(),
            skew_ms: as_ms(self.settings.evidence_skew_ms),
            window_ms: as_ms(self.settings.bridge_window_ms),
        }
    }
}

/// What an echo or a look-up told.
struct Told {
    whatsapp_id: String,
    chat_id: Option<String>,
    evidence: Option<String>,
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}
