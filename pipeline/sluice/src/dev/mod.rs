//! `sluice dev`: everything in one process, and nothing to set up.
//!
//! The same roles through the same topics as in production, on librdkafka's in-process cluster, with the
//! message store in memory, the schemas of this build under fixed ids, and a simulated provider that is
//! called over real HTTP and posts real webhooks. Brokers, registry and store can be real ones.
//!
//! The in-process cluster keeps, silently, only the last 5 MiB or 100,000 batches of each partition, and the
//! store in memory a bounded number of messages: dev is for trying, and forgets all when it ends.

pub(crate) mod banner;
pub mod demo;
mod http;
mod ports;
mod registry;
mod seed;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use rand::RngCore as _;
use sluice_kafka::mock::MockKafka;
use sluice_kafka::topics::Topics;
use sluice_scylla::{MemorySettings, MessageStore};
use sluice_whatsapp::wasender::simulator::{Simulator, SimulatorSettings, WebhookSettings};

use self::http::Http;
pub use self::ports::{Addresses, Ports};
use crate::api::auth::token_sha256;
use crate::deps::{self, Deps};
use crate::edge::{self, Edge, Listeners};
use crate::lifecycle::Lifecycle;
use crate::sealing::Secret;
use crate::settings::{Role, Scope, Settings, Token};
use crate::stores::Stores;
use crate::{processor, query, reducer, sender};

/// Settings of dev between the defaults and the operator's own.
pub const SETTINGS: &str = include_str!("dev.toml");
/// The bearer token of the demo tenant.
pub const TOKEN: &str = "dev-token";
/// The demo tenant.
pub const TENANT: &str = "demo";
/// Seeded sessions: `demo-01` and so on.
pub const SESSIONS: u32 = 20;
/// Messages that the store in memory keeps; the oldest give way.
pub const MESSAGES_MAX: usize = 100_000;
/// Requests that the simulated provider's truth log keeps.
const TRUTH_MAX: usize = 500_000;
/// How long the parts may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often readiness is looked at.
const READY_POLL: Duration = Duration::from_millis(5);
/// How often topics that were created are looked for.
const TOPICS_POLL: Duration = Duration::from_millis(100);

/// What `dev` is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Settings, with [`SETTINGS`] in them.
    pub settings: Settings,
    /// Brokers to use instead of the in-process cluster.
    pub kafka: Option<String>,
    /// Schema registry to use instead of the fixed schemas.
    pub registry: Option<String>,
    /// CQL contact points to use instead of the store in memory.
    pub scylla: Option<Vec<String>>,
    /// Ports to listen on.
    pub ports: Ports,
}

/// A running dev process.
#[derive(Debug)]
pub struct Dev {
    /// What its roles share.
    pub deps: Deps,
    /// Where things are.
    pub addresses: Addresses,
    /// The simulated provider.
    pub simulator: Simulator,
    /// From the start until a message could be sent.
    pub ready_after: Duration,
    kafka: Option<MockKafka>,
}

impl Dev {
    /// Starts everything as components of `life`, seeds the demo sessions and waits until all is ready.
    /// Whoever calls it then runs `life`, for as long as this is kept.
    ///
    /// # Errors
    /// If a port is taken, a server given cannot be used, or something is not ready in time.
    pub async fn start(options: Options, life: &mut Lifecycle) -> anyhow::Result<Self> {
        let began = Instant::now();
        let kafka = match options.kafka {
            None => Some(MockKafka::start().context("the in-process Kafka cannot be started")?),
            Some(_) => None,
        };
        let listen = options.ports.listen(&options.settings);
        let settings = settings_of(&options, kafka.as_ref(), listen.admin);
        if kafka.is_none() {
            apply_topics(&settings).await?;
        }
        let listeners = Listeners {
            api: deps::bind("edge.listen", listen.api).await?,
            webhooks: deps::bind("edge.webhook_listen", listen.webhooks).await?,
        };
        let (api, webhooks) = (listeners.api.local_addr()?, listeners.webhooks.local_addr()?);
        let simulator =
            Simulator::on(deps::bind("simulated provider", listen.simulator).await?, simulated())?;

        let mut deps = Deps::open(settings, life).await?;
        deps.stores = Stores::of(store(&options.scylla, &deps.settings).await?);
        let registry = serve_registry(&options.registry, listen.registry, &deps, life).await?;
        start_roles(&deps, listeners, life).await?;
        let addresses = Addresses {
            api,
            webhooks,
            admin: deps.admin,
            kafka: deps.settings.kafka.bootstrap_servers.clone(),
            registry,
            simulator: simulator.admin_url(),
        };
        let mut dev = Self { deps, addresses, simulator, ready_after: Duration::ZERO, kafka };
        tokio::time::timeout(READY_WITHIN, dev.ready())
            .await
            .map_err(|_| anyhow::anyhow!("not ready: {}", dev.deps.readiness.missing().join(", ")))??;
        dev.ready_after = began.elapsed();
        Ok(dev)
    }

    /// Whether the brokers are the in-process ones.
    pub fn is_on_mock_kafka(&self) -> bool {
        self.kafka.is_some()
    }

    /// Lets the in-process Kafka run until the process ends, for a process about to end: the last clients to
    /// close would else complain that it is gone.
    pub(crate) fn leave_kafka_running(&mut self) {
        if let Some(kafka) = self.kafka.take() {
            std::mem::forget(kafka);
        }
    }

    async fn ready(&self) -> anyhow::Result<()> {
        self.deps.brokers.checked().await?;
        self.deps.directory.loaded().await;
        seed::seed(self).await?;
        while !self.deps.readiness.is_ready() {
            tokio::time::sleep(READY_POLL).await;
        }
        Ok(())
    }

    /// A client of the API with the demo tenant's token.
    fn http(&self) -> Http {
        Http::new(self.addresses.api, TOKEN)
    }
}

/// The settings in force: those given, the servers chosen, the demo token, and a sealing key made now.
fn settings_of(options: &Options, kafka: Option<&MockKafka>, admin: std::net::SocketAddr) -> Settings {
    let mut settings = options.settings.clone();
    settings.roles = Role::ALL.to_vec();
    settings.admin.listen = admin;
    match (&options.kafka, kafka) {
        (Some(brokers), _) => settings.kafka.bootstrap_servers.clone_from(brokers),
        (None, Some(mock)) => settings.kafka = mock.settings().clone(),
        (None, None) => {}
    }
    settings.registry.url.clone_from(&options.registry);
    if let Some(nodes) = &options.scylla {
        settings.store.contact_points.clone_from(nodes);
    }
    settings.auth.tokens.push(Token {
        name: "dev".to_owned(),
        sha256: token_sha256(TOKEN),
        tenant_id: TENANT.to_owned(),
        scopes: vec![Scope::Send, Scope::Control, Scope::Read, Scope::Manage],
    });
    if settings.credentials.active_key.is_empty() {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        let key = Secret::new(base64::engine::general_purpose::STANDARD.encode(key));
        // Another run's key must not be taken for this one's where records outlive the run (--kafka).
        let id = format!("dev-{:x}", sluice_kafka::clock::wall_ms());
        settings.credentials.keys.insert(id.clone(), key);
        settings.credentials.active_key = id;
    }
    settings
}

async fn apply_topics(settings: &Settings) -> anyhow::Result<()> {
    let brokers = &settings.kafka.bootstrap_servers;
    let topics = Topics::open(&settings.kafka)?;
    topics.apply().await.with_context(|| format!("--kafka {brokers}: the topics cannot be created"))?;
    // What was created is there for everybody only a moment later.
    let known = async {
        loop {
            match topics.session_partitions().await {
                Ok(_) => return,
                Err(error) => tracing::info!(%error, "waiting for the topics"),
            }
            tokio::time::sleep(TOPICS_POLL).await;
        }
    };
    tokio::time::timeout(READY_WITHIN, known)
        .await
        .map_err(|_| anyhow::anyhow!("--kafka {brokers}: the topics that were created do not appear"))
}

async fn store(scylla: &Option<Vec<String>>, settings: &Settings) -> anyhow::Result<MessageStore> {
    let Some(nodes) = scylla else {
        let memory = MemorySettings { messages_max: MESSAGES_MAX, ..MemorySettings::default() };
        return Ok(MessageStore::memory(&memory)?);
    };
    let nodes = nodes.join(",");
    sluice_scylla::migrate(&settings.store)
        .await
        .with_context(|| format!("--scylla {nodes}: the tables cannot be made"))?;
    MessageStore::connect(&settings.store).await.with_context(|| format!("--scylla {nodes}"))
}

/// The endpoint for programs on this machine, unless there is a real registry. Gives the URL of the one or
/// the other.
async fn serve_registry(
    real: &Option<String>,
    listen: std::net::SocketAddr,
    deps: &Deps,
    life: &mut Lifecycle,
) -> anyhow::Result<String> {
    if let Some(url) = real {
        return Ok(url.clone());
    }
    let listener = deps::bind("schema registry", listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let limit = Duration::from_millis(deps.settings.deployment.stop_timeout_ms);
    life.spawn("registry", limit, registry::serve(listener, deps.names.clone(), life.shutdown()));
    Ok(url)
}

/// Every role, with the reads on the API's listener.
async fn start_roles(deps: &Deps, listeners: Listeners, life: &mut Lifecycle) -> anyhow::Result<()> {
    processor::start(deps, life).await?;
    reducer::start(deps, life).await?;
    sender::start(deps, life).await?;
    let reads = query::router(query::open(deps, life)?);
    let edge = Edge::open(deps)?;
    let limit = Duration::from_millis(deps.settings.deployment.stop_timeout_ms);
    life.spawn("edge", limit, edge::run_with(edge, reads, listeners, life.shutdown()));
    Ok(())
}

/// A provider that is quick and well-behaved. The demo makes it worse.
fn simulated() -> SimulatorSettings {
    SimulatorSettings {
        personal_tokens: vec![seed::PERSONAL_TOKEN.to_owned()],
        limits: seed::provider_windows(),
        webhooks: Some(WebhookSettings::default()),
        truth_max: TRUTH_MAX,
        ..SimulatorSettings::default()
    }
}

/// Something many tasks need.
type Shared<T> = Arc<std::sync::Mutex<T>>;

/// Locks what a panic cannot leave half changed.
fn lock<T>(shared: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
