//! Calls on their way to the provider and back, the echoes of what it took, and what an operator sees there.

use sluice_core::outcome::{CallResult, Outcome};
use sluice_core::sender::{Call, Input};
use sluice_schemas::{ContentType, MessageStatus, Source, Status};
use uuid::Uuid;

use crate::provider::{Answer, Arrival, Made};
use crate::world::{At, Event, World};

impl World {
    pub(crate) fn start_call(&mut self, at: At, made: Made) {
        let now = self.owners[at.owner].now(self.now_us);
        if now.boot_us > made.call.start_by_boot_us {
            self.input(0, at, called(&made.call, Outcome::NotMade));
            return;
        }
        self.check_start(&made);
        let line = self.sessions.iter().find(|line| *line.id == *made.call.session_id);
        let knows = line.is_none_or(|line| !line.config.needs_bridge);
        let broken = line.is_some_and(|line| line.broken);
        let (mut answer, ids) = self.provider.answer(&mut self.rng, self.faults, knows);
        if broken {
            answer = Answer { accepts: false, outcome: Outcome::Retryable, ..answer };
        }
        self.input(answer.after_us, at, called(&made.call, answer.outcome.clone()));
        self.check_budget(&made, &answer.outcome);
        // It comes to the provider at some time before its answer.
        let arrives_us = self.rng.between(1_000, answer.after_us.min(2_000_000));
        self.later(arrives_us, Event::Arrive(made, answer.accepts.then_some(ids)));
    }

    /// A call comes to the provider, which takes the message if it has ids for it.
    pub(crate) fn arrive(&mut self, made: &Made, ids: Option<[String; 2]>) {
        let Call { session_id, recipient, .. } = &*made.call;
        self.arrivals.push(Arrival {
            session_id: session_id.clone(),
            recipient: recipient.clone(),
            at_us: self.now_us,
        });
        self.check_rate(&made.call);
        let Some(ids) = ids else { return };
        self.note(|| format!("PROVIDER takes {} as {ids:?}", made.call.message_id));
        self.check_accept(made);
        let line = self.sessions.iter().find(|line| *line.id == *made.call.session_id);
        if line.is_some_and(|line| line.config.needs_bridge) {
            self.send_echoes(&made.call, &ids[1]);
        }
        self.provider.accept(made, ids);
    }

    /// Webhooks come late, doubled, in any order, or not at all.
    fn send_echoes(&mut self, call: &Call, whatsapp_id: &str) {
        let echo = self.echo(call, whatsapp_id);
        let lost = self.faults && self.rng.chance(15);
        let times = if lost { 0 } else { 1 + usize::from(self.faults && self.rng.chance(30)) };
        for _ in 0..times {
            let late = self.faults && self.rng.chance(20);
            let after_us = self.rng.between(1_000, if late { 30_000_000 } else { 2_000_000 });
            self.later(after_us, Event::State(Box::new(echo.clone())));
        }
    }

    fn echo(&self, call: &Call, whatsapp_id: &str) -> MessageStatus {
        let content = sluice_core::content::fingerprint(ContentType::Text, call.command.text.as_deref());
        MessageStatus {
            event_id: format!("echo-{whatsapp_id}"),
            session_id: call.session_id.to_string(),
            status: Status::Sent,
            source: Source::Webhook,
            recipient: Some(call.recipient.to_string()),
            whatsapp_message_id: Some(whatsapp_id.to_owned()),
            content_sha256: Some(content.iter().map(|byte| format!("{byte:02x}")).collect()),
            // WhatsApp tells whole seconds.
            occurred_at: self.now_us / 1_000_000 * 1000,
            ..MessageStatus::default()
        }
    }

    pub(crate) fn look_up(&mut self, at: At, message_id: Uuid, provider_id: &str) {
        let known = self.provider.accepted.iter().find(|accepted| accepted.provider_id == provider_id);
        let found = known.map(|accepted| (accepted.whatsapp_id.clone(), None));
        let found = if self.faults && self.rng.chance(20) { None } else { found };
        let after_us = self.rng.between(20_000, 900_000);
        self.input(after_us, at, Input::LookedUp { message_id, found });
    }

    /// An operator settles an attempt in doubt: what he says was sent he has seen, the rest is his decision.
    pub(crate) fn operate(&mut self) {
        let in_doubt = |stated: &&crate::world::Stated| stated.status.status == Status::InDoubt;
        let doubts: Vec<&MessageStatus> =
            self.statuses.iter().filter(in_doubt).map(|stated| &stated.status).collect();
        let Some(doubt) = doubts.get(self.rng.below(doubts.len().max(1))).map(|doubt| (*doubt).clone())
        else {
            return;
        };
        let claim = (doubt.claim_epoch.unwrap_or(-1), doubt.claim_seq.unwrap_or(-1));
        let sent =
            self.provider.accepted.iter().find(|accepted| {
                accepted.claim == claim && Some(accepted.id.to_string()) == doubt.message_id
            });
        let status = match (sent, self.rng.below(3)) {
            (Some(_), 0 | 1) => Status::Submitted,
            (_, 1) => Status::Retrying,
            _ => Status::Failed,
        };
        let word = MessageStatus {
            event_id: format!("operator-{}", self.statuses.len()),
            message_id: doubt.message_id,
            session_id: doubt.session_id,
            status,
            source: Source::Operator,
            provider_message_id: sent.map(|accepted| accepted.provider_id.clone()),
            claim_epoch: doubt.claim_epoch,
            claim_seq: doubt.claim_seq,
            occurred_at: self.now_us / 1000,
            ..MessageStatus::default()
        };
        self.state(None, word);
    }
}

fn called(call: &Call, outcome: Outcome) -> Input {
    let result = CallResult { outcome, error: None, http_status: None, duration_ms: 5 };
    Input::Called { call: call.id, result }
}
