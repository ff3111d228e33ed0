//! What roles share: made once per process, handed to each role.

use std::sync::Arc;

use sluice_whatsapp::Registry as Connectors;
use tokio::net::TcpListener;

use crate::directory::Directory;
use crate::lifecycle::{Lifecycle, Readiness};
use crate::sealing::Sealer;
use crate::settings::Settings;
use crate::telemetry::admin;
use crate::telemetry::metrics::Metrics;

/// What roles share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The process's readiness latches.
    pub readiness: Readiness,
    /// Seals and opens credentials.
    pub sealer: Arc<Sealer>,
    /// Accounts, sessions and their condition.
    pub directory: Directory,
    /// The providers of this build.
    pub connectors: Connectors,
}

impl Deps {
    /// Makes what roles share, and starts the admin listener as a component of `life`.
    ///
    /// # Errors
    /// If a port is taken or a credential key cannot be read.
    pub async fn open(settings: Settings, life: &mut Lifecycle) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let sealer = Arc::new(Sealer::new(&settings.credentials)?);
        let listener = bind("admin.listen", settings.admin.listen).await?;
        let limit = std::time::Duration::from_millis(settings.deployment.stop_timeout_ms);
        life.spawn(
            "admin",
            limit,
            admin::serve(listener, metrics.clone(), life.readiness(), life.shutdown()),
        );
        Ok(Self {
            directory: Directory::new(sealer.clone(), metrics.clone()),
            readiness: life.readiness(),
            settings: Arc::new(settings),
            metrics,
            sealer,
            connectors: Connectors::new(Vec::new()),
        })
    }
}

/// Listens on the address of the setting `key`.
///
/// # Errors
/// An error that names the key, if the address cannot be had.
pub async fn bind(key: &'static str, address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    use anyhow::Context as _;
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}
