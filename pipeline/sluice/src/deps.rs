//! What roles share: made once per process, handed to each role.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sluice_kafka::registry::codecs::Registration;
use sluice_kafka::registry::{self, Codecs, Registry};
use sluice_schemas::topics::Names;
use sluice_whatsapp::Registry as Connectors;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::brokers::{self, Brokers};
use crate::directory::{self, Directory};
use crate::lifecycle::{Lifecycle, Readiness};
use crate::sealing::Sealer;
use crate::settings::Settings;
use crate::stores::Stores;
use crate::telemetry::metrics::Metrics;

/// Wait before the registry is asked again at start.
const REGISTRY_RETRY: Duration = Duration::from_secs(1);

/// What roles share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Deps {
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// Where the admin listener is; another than the setting if that asks for any free port.
    pub admin: SocketAddr,
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
    /// Names of the topics.
    pub names: Arc<Names>,
    /// Codecs of the topics.
    pub codecs: Codecs,
    /// Whether the brokers answer, and how many partitions there are.
    pub brokers: Brokers,
    /// The message store, connected by the first role that asks.
    pub stores: Stores,
}

impl Deps {
    /// Makes what roles share, and starts the admin listener, the watch over the brokers and the directory as
    /// components of `life`. Waits for the schema registry; `/livez` answers meanwhile.
    ///
    /// # Errors
    /// If a port is taken, a setting is wrong, the registry refuses, or shutdown comes first.
    pub async fn open(settings: Settings, life: &mut Lifecycle) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let sealer = Arc::new(Sealer::new(&settings.credentials)?);
        let limit = Duration::from_millis(settings.deployment.stop_timeout_ms);
        let (readiness, shutdown) = (life.readiness(), life.shutdown());

        let listener = bind("admin.listen", settings.admin.listen).await?;
        let admin = listener.local_addr()?;
        life.spawn(
            "admin",
            limit,
            crate::telemetry::admin::serve(listener, metrics.clone(), readiness.clone(), shutdown.clone()),
        );

        let deployment = &settings.deployment;
        let options = brokers::Options {
            probe_interval: Duration::from_millis(deployment.broker_probe_interval_ms),
            probe_timeout: Duration::from_millis(deployment.broker_probe_timeout_ms),
            topics_grace: Duration::from_millis(deployment.topics_grace_ms),
            check_durability: deployment.check_durability,
        };
        let (watcher, brokers) = brokers::watch(&settings.kafka, options, readiness.latch("kafka"))?;
        life.spawn("brokers", limit, watcher.run(shutdown.clone()));

        let latch = readiness.latch("directory");
        let names = settings.kafka.names();
        let codecs = open_codecs(&settings, &names, &shutdown).await?;
        let directory = Directory::new(sealer.clone(), metrics.clone());
        let source = directory::Source {
            kafka: settings.kafka.clone(),
            names: names.clone(),
            codecs: codecs.clone(),
            loaded: latch,
        };
        life.spawn("directory", limit, directory::follow(directory.clone(), source, shutdown));
        Ok(Self {
            directory,
            readiness,
            stores: Stores::cql(settings.store.clone()),
            settings: Arc::new(settings),
            admin,
            metrics,
            sealer,
            connectors: sluice_whatsapp::registry(),
            names: Arc::new(names),
            codecs,
            brokers,
        })
    }
}

async fn open_codecs(
    settings: &Settings,
    names: &Names,
    shutdown: &CancellationToken,
) -> anyhow::Result<Codecs> {
    if settings.registry.url.is_none() {
        return Ok(Codecs::fixed());
    }
    let registry = Registry::open(&settings.registry)?;
    let registration = match settings.deployment.register_schemas {
        true => Registration::Register,
        false => Registration::LookUp,
    };
    loop {
        match Codecs::open(registry.clone(), names, registration).await {
            Ok(codecs) => return Ok(codecs),
            Err(error @ registry::Error::Unavailable(_)) => {
                tracing::warn!(%error, "waiting for the schema registry");
            }
            Err(error) => {
                return Err(error).context("schemas: run `sluice schemas check` to see what does not fit");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(REGISTRY_RETRY) => {}
            () = shutdown.cancelled() => anyhow::bail!("stopped while waiting for the schema registry"),
        }
    }
}

/// Listens on the address of the setting `key`.
///
/// # Errors
/// An error that names the key, if the address cannot be had.
pub async fn bind(key: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{key}: cannot listen on {address}"))
}
