//! Calls on their way to the provider and back, and the echoes of what it took.

use sluice_core::outcome::{CallResult, Outcome};
use sluice_core::sender::{Call, Input};
use sluice_schemas::{ContentType, MessageStatus, Source, Status};
use uuid::Uuid;

use crate::world::{At, Event, World};

impl World {
    pub(crate) fn start_call(&mut self, at: At, call: Box<Call>, decided_us: i64) {
        let now = self.owners[at.owner].now(self.now_us);
        if now.boot_us > call.start_by_boot_us {
            self.input(0, at, called(&call, Outcome::NotMade));
            return;
        }
        let line = self.sessions.iter().find(|line| *line.id == *call.session_id);
        let knows = line.is_none_or(|line| !line.config.needs_bridge);
        let (answer, ids) = self.provider.answer(&mut self.rng, self.faults, knows);
        if answer.accepts {
            let accepted_us = self.rng.between(1_000, answer.after_us.min(2_000_000));
            self.later(accepted_us, Event::Accept(call.clone(), decided_us, ids));
        }
        self.input(answer.after_us, at, called(&call, answer.outcome));
    }

    pub(crate) fn accept(&mut self, call: Call, decided_us: i64, ids: [String; 2]) {
        self.note(|| format!("PROVIDER takes {} as {ids:?}", call.message_id));
        self.check_accept(&call, decided_us);
        let line = self.sessions.iter().find(|line| *line.id == *call.session_id);
        if line.is_some_and(|line| line.config.needs_bridge) {
            let echo = self.echo(&call, &ids[1]);
            let lost = self.faults && self.rng.chance(15);
            let times = if lost { 0 } else { 1 + usize::from(self.faults && self.rng.chance(30)) };
            for _ in 0..times {
                let late = self.faults && self.rng.chance(20);
                let after_us = self.rng.between(1_000, if late { 30_000_000 } else { 2_000_000 });
                self.later(after_us, Event::Echo(Box::new(echo.clone())));
            }
        }
        self.provider.accept(&call, decided_us, ids);
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
}

fn called(call: &Call, outcome: Outcome) -> Input {
    let result = CallResult { outcome, error: None, http_status: None, duration_ms: 5 };
    Input::Called { call: call.id, result }
}
