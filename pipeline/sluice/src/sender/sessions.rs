//! What the directory says of a session, as the state machine needs it.

use sluice_core::sender::rate::share_of;
use sluice_core::sender::{SessionCondition, SessionConfig};
use sluice_schemas::{Facet, InDoubtPolicy};
use sluice_whatsapp::Registry as Connectors;

use crate::directory::Directory;

/// The configuration of a session; none if it, its account or its connector is not there.
pub(super) fn config(
    directory: &Directory,
    connectors: &Connectors,
    session_id: &str,
) -> Option<SessionConfig> {
    let session = directory.session(session_id)?;
    let account = directory.account(&session.account_id)?;
    let connector = connectors.get(session.provider)?;
    let defaults = connector.defaults();
    let record = session.record();
    let sessions = directory.session_count(&record.account_id);
    let of_session = if record.limits.is_empty() { defaults.limits } else { record.limits };
    let of_account = account.record.limits.iter().map(|limit| share_of(limit, sessions));
    let positive = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
    Some(SessionConfig {
        tenant_id: record.tenant_id,
        provider: record.provider,
        account_id: record.account_id,
        base_url: account.record.base_url.clone(),
        base_url_in_flight_max: account.record.max_in_flight.and_then(positive),
        limits: of_session.into_iter().chain(of_account).collect(),
        pair_limits: record.pair_limits,
        max_in_flight: record.max_in_flight.and_then(positive).unwrap_or(defaults.max_in_flight),
        in_doubt_policy: match record.in_doubt_policy {
            InDoubtPolicy::Unknown => defaults.in_doubt_policy,
            policy => policy,
        },
        tenant_weight: record.tenant_weight.and_then(positive).unwrap_or(1),
        needs_bridge: defaults.needs_bridge,
        binding_epoch: record.binding_epoch,
        on_rebinding: record.on_delete,
    })
}

/// The condition of a session.
pub(super) fn condition(directory: &Directory, session_id: &str) -> SessionCondition {
    let connection = directory.status(session_id, Facet::Connection);
    SessionCondition {
        paused: directory.is_paused(session_id),
        connection: connection.as_ref().map(|status| status.connection).unwrap_or_default(),
        connection_at_ms: connection.map_or(0, |status| status.occurred_at),
    }
}
