//! A status tells the truth about what the provider did.

use sluice_schemas::{InDoubtPolicy, MessageStatus, Source, Status};
use uuid::Uuid;

use super::is_of;
use crate::world::{SKEW_US, World};

impl World {
    pub(crate) fn check_status(&mut self, epoch: Option<i64>, status: &MessageStatus) {
        let Some(id) = status.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) else { return };
        let taken = self.provider.acceptances(id).next().is_some();
        if status.status == Status::Submitted && !taken {
            self.fail(format!("told to be submitted, but the provider never took it: {id}"));
        }
        // An owner that was fenced and does not know it yet does not know the messages of the new one: it may take
        // the echo of one for that of an equal message. An append per echo would be the remedy, and costs more.
        let stale = epoch.is_some_and(|epoch| self.log.is_fenced_between(epoch, self.log.end()));
        if status.status == Status::ProviderId && !stale {
            let told = status.whatsapp_message_id.as_deref();
            if !self.provider.acceptances(id).any(|a| Some(a.whatsapp_id.as_str()) == told) {
                self.fail(format!("told to have the WhatsApp id of another: {id} {told:?}"));
            }
        }
        self.check_resend(id, status);
    }

    /// Nobody's word but the policy's waits: until the call must have ended, and evidence of it had time to come.
    fn check_patience(&mut self, id: Uuid, status: &MessageStatus, operated: bool) {
        let claim = (status.claim_epoch.unwrap_or(-1), status.claim_seq.unwrap_or(-1));
        let Some(claimed_us) = self.claimed_us.get(&claim) else { return };
        let wait_us = self.settings.doubt_wait_ms() * 1000 - SKEW_US - self.jumped_us;
        if !operated && self.now_us - claimed_us < wait_us {
            self.fail(format!("an attempt in doubt is decided before its time: {id}"));
        }
    }

    /// An attempt in doubt is made again only if the policy, or an operator, says so.
    fn check_resend(&mut self, id: Uuid, status: &MessageStatus) {
        let code = status.error.as_ref().map(|error| error.code.as_str());
        // What was decided is told again to who asks again.
        let detail = status.error.as_ref().and_then(|error| error.detail.as_deref());
        let is_decided =
            matches!(code, Some("in_doubt" | "in_doubt_resend")) && detail != Some("as told before");
        if !is_decided || status.source != Source::Sender {
            return;
        }
        let asked = self.requests.iter().filter(|request| request.is_message() && request.id == id);
        let mut asked = asked.map(|request| request.command.in_doubt_policy);
        let of_session = self
            .sessions
            .iter()
            .find(|line| *line.id == *status.session_id)
            .is_some_and(|line| line.config.in_doubt_policy == InDoubtPolicy::Resend);
        let allowed = asked
            .any(|policy| policy == InDoubtPolicy::Resend || policy == InDoubtPolicy::Unknown && of_session);
        let words = self.statuses.iter().map(|stated| &stated.status);
        let mut words = words.filter(|word| {
            let is_its = (word.claim_epoch, word.claim_seq) == (status.claim_epoch, status.claim_seq);
            word.source == Source::Operator && is_its && is_of(word, id)
        });
        let (operated, retried) =
            (words.clone().next().is_some(), words.any(|word| word.status == Status::Retrying));
        self.check_patience(id, status, operated);
        if code == Some("in_doubt_resend") && !allowed && !retried {
            self.fail(format!("sent again, though neither policy nor operator says so: {id}"));
        }
    }
}
