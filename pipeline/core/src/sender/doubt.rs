//! Settles attempts nobody knows the outcome of: evidence first, then the policy. And publishes the WhatsApp
//! ids that echoes and look-ups tell.

use sluice_schemas::ids::event_id;
use sluice_schemas::{ErrorClass, InDoubtPolicy, LedgerEntry, MessageStatus, Source, Status};
use uuid::Uuid;

use super::bridge::{Echo, Match, Print, Stage as BridgeStage};
use super::facts::{Fact, error};
use super::message::{Doubt, End, Next, Stage};
use super::session::SessionIndex;
use super::{Effect, Note, Sender, Token};
use crate::content::command_fingerprint;
use crate::recipient::canonical;

impl Sender {
    /// The time to decide has come, or something that bears on it was read.
    pub(super) fn decide(&mut self, partition: i32, id: Uuid, out: &mut Vec<Effect>) {
        let now_ms = self.now.wall_ms();
        let Some(part) = self.partitions.get(&partition) else { return };
        let seen_ms = part.status_seen_ms;
        let Some(open) = part.open.get(&id) else { return };
        let Stage::InDoubt(doubt) = open.stage.clone() else { return };
        if doubt.held || now_ms < doubt.decide_at_ms {
            self.arm(partition, id);
            return;
        }
        if seen_ms < doubt.decide_at_ms {
            // Webhooks up to the time of decision are not all read: `StatusCaughtUp` looks again.
            return;
        }
        let attempts_left = open.attempts < self.attempts_max(open);
        let canceled = open.canceled;
        match self.policy(partition, &id) {
            InDoubtPolicy::Resend if attempts_left && !canceled => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "resend" }));
                self.drop_candidate(partition, &id, out);
                let fact = Fact {
                    status: Status::Retrying,
                    claim: Some((doubt.claim_epoch, doubt.claim_seq)),
                    next_attempt_at: Some(now_ms),
                    error: Some(error(
                        ErrorClass::Uncertain,
                        "in_doubt_resend",
                        "no evidence that it was sent; the policy says to send it again",
                    )),
                    ..Fact::default()
                };
                let next =
                    Next::Queue { not_before_us: self.now.wall_us, reason: "in_doubt_resend".to_owned() };
                self.settle(partition, id, fact, next, out);
            }
            InDoubtPolicy::Hold if !canceled => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "hold" }));
                if let Some(open) = self.open_mut(partition, &id) {
                    open.stage = Stage::InDoubt(Doubt { held: true, ..doubt });
                }
            }
            _ => {
                out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "fail" }));
                self.drop_candidate(partition, &id, out);
                let fact = Fact {
                    status: Status::Failed,
                    claim: Some((doubt.claim_epoch, doubt.claim_seq)),
                    error: Some(error(
                        ErrorClass::Uncertain,
                        "in_doubt",
                        "nobody knows whether it was sent; the policy says to send it no more",
                    )),
                    ..Fact::default()
                };
                self.settle(partition, id, fact, Next::Done(settled(Status::Failed, &doubt, None)), out);
            }
        }
    }

    fn policy(&self, partition: i32, id: &Uuid) -> InDoubtPolicy {
        let Some(open) = self.open(partition, id) else { return InDoubtPolicy::Hold };
        match open.command.in_doubt_policy {
            InDoubtPolicy::Unknown => match &self.sessions.get(open.session).config {
                Some(config) if config.in_doubt_policy != InDoubtPolicy::Unknown => config.in_doubt_policy,
                _ => InDoubtPolicy::Hold,
            },
            asked => asked,
        }
    }

    /// A fact of another writer: a former owner's outcome, or an echo.
    pub(super) fn status(&mut self, partition: i32, status: MessageStatus, out: &mut Vec<Effect>) {
        match status.source {
            Source::Sender => self.testimony(partition, &status, out),
            Source::Webhook if status.status == Status::Sent && status.message_id.is_none() => {
                self.echo(&status, out);
            }
            _ => {}
        }
    }

    /// The doubt an open message is in, also while its statement is on its way.
    fn doubt_of(&self, partition: i32, id: &Uuid) -> Option<Doubt> {
        match &self.open(partition, id)?.stage {
            Stage::InDoubt(doubt) | Stage::Settling(Next::Doubt(doubt)) => Some(doubt.clone()),
            _ => None,
        }
    }

    /// A former owner tells what came of its claim.
    fn testimony(&mut self, partition: i32, status: &MessageStatus, out: &mut Vec<Effect>) {
        let Some(id) = status.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let Some(doubt) = self.doubt_of(partition, &id) else { return };
        if status.claim_epoch != Some(doubt.claim_epoch) || status.claim_seq != Some(doubt.claim_seq) {
            return;
        }
        let fact = Fact {
            status: status.status,
            claim: Some((doubt.claim_epoch, doubt.claim_seq)),
            provider_message_id: status.provider_message_id.clone(),
            whatsapp_message_id: status.whatsapp_message_id.clone(),
            evidence_event_id: Some(status.event_id.clone()),
            error: status.error.clone(),
            occurred_at: Some(status.occurred_at),
            ..Fact::default()
        };
        let next = match status.status {
            Status::Submitted => {
                Next::Done(settled(Status::Submitted, &doubt, status.provider_message_id.clone()))
            }
            Status::Failed => Next::Done(settled(Status::Failed, &doubt, None)),
            Status::Retrying | Status::Held => {
                Next::Queue { not_before_us: self.now.wall_us, reason: "not_sent".to_owned() }
            }
            _ => return,
        };
        out.push(Effect::Note(Note::DoubtSettled { message_id: id, how: "evidence" }));
        self.drop_candidate(partition, &id, out);
        self.settle(partition, id, fact, next, out);
    }

    fn echo(&mut self, status: &MessageStatus, out: &mut Vec<Effect>) {
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
        let skew_ms = self.skew_ms();
        let found =
            self.sessions.get_mut(session).bridge.echo((recipient.as_str().into(), content), echo, skew_ms);
        if let Some(found) = found {
            self.matched(session, found, out);
        }
    }

    /// An echo is a message's own.
    pub(super) fn matched(&mut self, session: SessionIndex, found: Match, out: &mut Vec<Effect>) {
        let partition = self.sessions.get(session).partition;
        match found.stage {
            BridgeStage::Calling => {}
            BridgeStage::Submitted { provider_message_id } => {
                let told = Told {
                    whatsapp_id: found.echo.whatsapp_id,
                    chat_id: found.echo.chat_id,
                    evidence: Some(found.echo.event_id),
                };
                self.publish_whatsapp_id(session, found.id, provider_message_id, told, out);
            }
            BridgeStage::InDoubt => {
                let Some(doubt) = self.doubt_of(partition, &found.id) else { return };
                out.push(Effect::Note(Note::DoubtSettled { message_id: found.id, how: "evidence" }));
                let fact = Fact {
                    status: Status::Submitted,
                    claim: Some((doubt.claim_epoch, doubt.claim_seq)),
                    whatsapp_message_id: Some(found.echo.whatsapp_id),
                    chat_id: found.echo.chat_id,
                    evidence_event_id: Some(found.echo.event_id),
                    source: Source::Sender,
                    occurred_at: Some(found.echo.at_ms),
                    ..Fact::default()
                };
                let next = Next::Done(settled(Status::Submitted, &doubt, None));
                self.settle(partition, found.id, fact, next, out);
            }
        }
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

    pub(super) fn status_caught_up(&mut self, partition: i32, asked_ms: i64, out: &mut Vec<Effect>) {
        let Some(part) = self.partitions.get_mut(&partition) else { return };
        part.status_seen_ms = part.status_seen_ms.max(asked_ms);
        let seen_ms = part.status_seen_ms;
        let mut due = Vec::new();
        let open = &part.open;
        part.in_doubt.retain(|id| match open.get(id).map(|open| &open.stage) {
            Some(Stage::InDoubt(doubt)) => {
                if !doubt.held && doubt.decide_at_ms <= seen_ms {
                    due.push(*id);
                }
                true
            }
            _ => false,
        });
        due.sort_unstable();
        for id in due {
            self.look_again(partition, id, out);
        }
    }

    /// A message may be echoed from now on.
    pub(super) fn add_candidate(&mut self, partition: i32, id: Uuid, since_ms: i64, stage: BridgeStage) {
        let most = self.settings.bridge_candidates_max;
        let Some(open) = self.open_mut(partition, &id) else { return };
        let print = open
            .print
            .get_or_insert_with(|| Box::new((open.recipient.clone(), command_fingerprint(&open.command))));
        let (print, session) = ((**print).clone(), open.session);
        self.sessions.get_mut(session).bridge.add(id, print, since_ms, stage, most);
    }

    /// A message finished before this owner's time may still be echoed.
    pub(super) fn restore_candidate(&mut self, partition: i32, id: Uuid, entry: &LedgerEntry) {
        let window_ms = i64::try_from(self.settings.bridge_window_ms).unwrap_or(i64::MAX / 2);
        let (Some(content), Some(recipient), Some(provider_id), Some(session_id)) =
            (&entry.content_sha256, &entry.recipient, &entry.provider_message_id, &entry.session_id)
        else {
            return;
        };
        if entry.at < self.now.wall_ms() - window_ms {
            return;
        }
        let session = self.sessions.of(session_id, partition);
        let print: Print = (recipient.as_str().into(), super::read::hash32(Some(content)));
        let stage = BridgeStage::Submitted { provider_message_id: provider_id.clone() };
        let most = self.settings.bridge_candidates_max;
        self.sessions.get_mut(session).bridge.add(id, print, entry.at, stage, most);
        self.plan_look_up(session);
    }

    pub(super) fn advance_candidate(
        &mut self,
        partition: i32,
        id: &Uuid,
        stage: BridgeStage,
    ) -> Option<Match> {
        let skew_ms = self.skew_ms();
        let open = self.open(partition, id)?;
        let (session, print) = (open.session, open.print.as_deref()?.clone());
        let submitted = matches!(stage, BridgeStage::Submitted { .. });
        let found = self.sessions.get_mut(session).bridge.advance(*id, &print, stage, skew_ms);
        if submitted && found.is_none() {
            self.plan_look_up(session);
        }
        found
    }

    /// A message is none any more that could be echoed; what it leaves may be unique now.
    pub(super) fn drop_candidate(&mut self, partition: i32, id: &Uuid, out: &mut Vec<Effect>) {
        let skew_ms = self.skew_ms();
        let Some(open) = self.open(partition, id) else { return };
        let (session, Some(print)) = (open.session, open.print.as_deref().cloned()) else { return };
        if let Some(left) = self.sessions.get_mut(session).bridge.remove(*id, &print, skew_ms) {
            self.matched(session, left, out);
        }
    }

    fn plan_look_up(&mut self, session: SessionIndex) {
        let after_ms = i64::try_from(self.settings.look_up_after_ms).unwrap_or(i64::MAX / 2);
        let state = self.sessions.get_mut(session);
        if state.look_up_due_us.is_some() {
            return;
        }
        let Some(oldest_ms) = state.bridge.oldest_ms() else { return };
        let due_us = oldest_ms
            .saturating_add(after_ms)
            .saturating_mul(1000)
            .max(state.look_ups.ready_at_us(0))
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
        let forget_ms = now.wall_ms() - as_ms(self.settings.bridge_window_ms);
        let state = self.sessions.get_mut(session);
        let (partition, session_id) = (state.partition, state.id.clone());
        state.bridge.expire(forget_ms);
        if state.holding(now.wall_us).is_none() && state.look_ups.ready_at_us(0) <= now.wall_us {
            for (id, print, provider_message_id) in state.bridge.overdue(before_ms, 1) {
                state.look_ups.take(now.wall_us);
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
        let skew_ms = self.skew_ms();
        let Some((session, print)) = self.looking.remove(&id) else { return };
        let bridge = &mut self.sessions.get_mut(session).bridge;
        let Some((whatsapp_id, chat_id)) = found else {
            bridge.not_found(id, &print);
            return;
        };
        let Some(BridgeStage::Submitted { provider_message_id }) = bridge.stage_of(id, &print) else {
            return;
        };
        let left = bridge.told(id, &print, &whatsapp_id, skew_ms);
        let told = Told { whatsapp_id, chat_id, evidence: None };
        self.publish_whatsapp_id(session, id, provider_message_id, told, out);
        if let Some(left) = left {
            self.matched(session, left, out);
        }
    }

    fn skew_ms(&self) -> i64 {
        i64::try_from(self.settings.evidence_skew_ms).unwrap_or(0)
    }
}

/// What an echo or a look-up told.
struct Told {
    whatsapp_id: String,
    chat_id: Option<String>,
    evidence: Option<String>,
}

fn settled(outcome: Status, doubt: &Doubt, provider_message_id: Option<String>) -> End {
    End {
        outcome,
        reason: (outcome == Status::Failed).then(|| "in_doubt".to_owned()),
        provider_message_id,
        claim_epoch: doubt.claim_epoch,
        claim_seq: doubt.claim_seq,
    }
}

fn hex32(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}
