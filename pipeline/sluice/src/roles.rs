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
            Role::Sender | Role::Processor | Role::Reducer | Role::Query => {
                anyhow::bail!("the role {role} is not in this build");
            }
        }
    }
    Ok(())
}
