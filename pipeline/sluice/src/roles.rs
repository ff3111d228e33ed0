//! Which function starts which role.

use crate::deps::Deps;
use crate::lifecycle::Lifecycle;
use crate::settings::Role;

/// Starts the roles of the settings as components of `life`.
///
/// # Errors
/// If a role cannot start.
pub async fn start(deps: &Deps, life: &mut Lifecycle) -> anyhow::Result<()> {
    for role in deps.settings.roles.clone() {
        match role {
            Role::Edge => crate::edge::start(deps, life).await?,
            Role::Processor => crate::processor::start(deps, life).await?,
            Role::Reducer => crate::reducer::start(deps, life).await?,
            Role::Query => crate::query::start(deps, life).await?,
            Role::Sender => crate::sender::start(deps, life).await?,
        }
    }
    Ok(())
}
