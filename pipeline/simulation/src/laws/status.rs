//! A status tells the truth about what the provider did.

use sluice_schemas::{InDoubtPolicy, MessageStatus, Source, Status};
use uuid::Uuid;

use super::is_of;
use crate::world::World;

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

    /// An attempt in doubt is made again only if the policy, or an operator, says so.
    fn check_resend(&mut self, id: Uuid, status: &MessageStatus) {
        if status.error.as_ref().is_none_or(|error| error.code != "in_doubt_resend") {
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
        let mut words = self.statuses.iter().map(|stated| &stated.status);
        let operated = words.any(|word| {
            let is_its = (word.claim_epoch, word.claim_seq) == (status.claim_epoch, status.claim_seq);
            word.source == Source::Operator && word.status == Status::Retrying && is_its && is_of(word, id)
        });
        if !allowed && !operated {
            self.fail(format!("sent again, though neither policy nor operator says so: {id}"));
        }
    }
}
