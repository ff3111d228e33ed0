//! What the outcome of a call says of its session, and what others are told of it.

use sluice_schemas::{Connection, Facet, SessionStatus};

use super::attempt::ceil_ms;
use super::session::{Down, Holding, SessionIndex};
use super::{Effect, InFlight, Sender};
use crate::outcome::Outcome;

impl Sender {
    /// A session that cannot send is held; one that does is not.
    pub(super) fn note_session_health(
        &mut self,
        inflight: &InFlight,
        outcome: &Outcome,
        out: &mut Vec<Effect>,
    ) {
        let probe_at_us = self.after_us(self.settings.session_probe_ms);
        let since_ms = self.now.wall_ms();
        let state = self.sessions.get_mut(inflight.session);
        match outcome {
            Outcome::SessionDown { .. } => {
                let was_up = state.down.is_none();
                state.down = Some(Down { since_ms, probe_at_us });
                if was_up {
                    self.state_hold(inflight.session, out);
                }
                self.wake_session(inflight.session, probe_at_us);
            }
            Outcome::Submitted { .. } if state.down.is_some() => {
                state.down = None;
                self.state_hold(inflight.session, out);
            }
            _ => {}
        }
    }

    /// Writes the sender's facet of the session's status.
    pub(super) fn state_hold(&self, session: SessionIndex, out: &mut Vec<Effect>) {
        let state = self.sessions.get(session);
        if self.partitions.get(&state.partition).is_none_or(|part| !part.is_live()) {
            return;
        }
        let now_ms = self.now.wall_ms();
        let down = state.down.map(|down| Holding::Down(down.probe_at_us));
        let shut = state.shut_until_us(self.now.wall_us).map(Holding::CircuitOpen);
        let holding = down.or(shut);
        let status = SessionStatus {
            session_id: state.id.to_string(),
            tenant_id: state.config.as_ref().map(|config| config.tenant_id.clone()),
            facet: Facet::Hold,
            connection: if down.is_some() { Connection::Disconnected } else { Connection::Connected },
            held: holding.is_some(),
            reason: holding.map(|holding| holding.reason().to_owned()),
            until: holding.and_then(Holding::until_us).map(ceil_ms),
            occurred_at: now_ms,
            updated_at: now_ms,
            ..SessionStatus::default()
        };
        out.push(Effect::SessionStatus { partition: state.partition, status: Box::new(status) });
    }
}
