//! Builds a world.

use std::time::Duration;

use sluice::api::auth::token_sha256;
use sluice::sealing::{Sealer, Secret, session_owner};
use sluice::settings::Credentials;
use sluice_kafka::clock::wall_ms;
use sluice_kafka::producer::Producer;
use sluice_kafka::registry::Codecs;
use sluice_kafka::registry::codecs::Registration;
use sluice_kafka::settings::{ProducerOptions, RegistrySettings, Settings};
use sluice_kafka::topics::{Report, Topics};
use sluice_schemas::topics::Topic;
use sluice_schemas::{Account, InDoubtPolicy, Provider, RateLimit, Session, placement};
use sluice_testkit::{self as testkit, EphemeralPrefix, OwnKafka, Port, eventually, unique};
use sluice_whatsapp::wasender::simulator::{SessionSettings, Simulator, SimulatorSettings, Window};

use super::{Facts, OPS, World};

/// The one account.
const ACCOUNT: &str = "wa";
/// A sealing key of tests: 32 bytes in base64.
const SEALING_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Where the roles that listen listen: `host:port`.
#[derive(Debug, Clone)]
pub struct Ports {
    pub api: String,
    pub webhooks: String,
    pub query: String,
}

/// What a world is to have.
pub struct Builder {
    name: &'static str,
    sessions: usize,
    limits: Vec<Window>,
    in_flight: i32,
    in_doubt_policy: InDoubtPolicy,
    bootstrap: Option<String>,
    with_store: bool,
    provider: SimulatorSettings,
    settings: Vec<(String, String)>,
}

impl Builder {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            sessions: 1,
            limits: vec![Window { count: 1_000, per_ms: 1_000 }],
            in_flight: 1,
            in_doubt_policy: InDoubtPolicy::Resend,
            bootstrap: None,
            with_store: false,
            provider: SimulatorSettings::default(),
            settings: Vec::new(),
        }
    }

    /// So many sessions: `s0`, `s1`, …
    pub fn sessions(mut self, count: usize) -> Self {
        self.sessions = count;
        self
    }

    /// The limit of every session, at the provider and in its record.
    pub fn limit(mut self, count: u32, per_ms: u64) -> Self {
        self.limits = vec![Window { count, per_ms }];
        self
    }

    /// Calls at once of every session.
    pub fn in_flight(mut self, count: i32) -> Self {
        self.in_flight = count;
        self
    }

    /// What is done with an attempt in doubt; to send again if not told.
    pub fn in_doubt(mut self, policy: InDoubtPolicy) -> Self {
        self.in_doubt_policy = policy;
        self
    }

    /// On a broker of the test's own.
    pub fn on(mut self, kafka: &OwnKafka) -> Self {
        self.bootstrap = Some(kafka.bootstrap().to_owned());
        self
    }

    /// With a message store.
    pub fn with_store(mut self) -> Self {
        self.with_store = true;
        self
    }

    /// With these settings of the provider.
    pub fn provider(mut self, settings: SimulatorSettings) -> Self {
        self.provider = settings;
        self
    }

    /// One more setting of the processes, by its whole key.
    pub fn setting(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((variable(key), value.to_string()));
        self
    }

    /// Makes topics, schemas, tables, the provider, the account and the sessions. Starts no process.
    pub async fn start(self) -> World {
        let bootstrap = match &self.bootstrap {
            Some(bootstrap) => bootstrap.clone(),
            None => testkit::kafka().await.bootstrap().to_owned(),
        };
        let prefix = EphemeralPrefix::new(self.name);
        let kafka = Settings {
            topic_prefix: prefix.as_str().to_owned(),
            group_prefix: prefix.as_str().to_owned(),
            ..Settings::single(&bootstrap)
        };
        let registry =
            RegistrySettings { url: Some(testkit::registry().await), ..RegistrySettings::default() };
        let names = kafka.names();
        let topics = Topics::open(&kafka).expect("an admin client");
        eventually(Duration::from_secs(60), "topics applied", || async { topics.apply().await }).await;
        // A broker knows a new topic a moment after it has made it.
        eventually(Duration::from_secs(60), "every topic is known", || async {
            topics.check().await.is_ok_and(|reports| reports.iter().all(Report::is_right))
        })
        .await;
        let opened = sluice_kafka::registry::Registry::open(&registry).expect("a registry client");
        let codecs =
            Codecs::open(opened, &names, Registration::Register).await.expect("schemas are registered");
        let store = match self.with_store {
            true => Some(migrated().await),
            false => None,
        };

        let provider = Simulator::start(self.provider.clone()).await.expect("the simulated provider starts");
        // Reserved, because a role that listens comes back to its port after it was killed.
        let reserved: Vec<_> = (0..3).map(|_| Port::reserve().expect("a free port")).collect();
        let address = |n: usize| format!("127.0.0.1:{}", reserved[n].number());
        let ports = Ports { api: address(0), webhooks: address(1), query: address(2) };
        let dir = tempfile::Builder::new().prefix("sluice-it-").tempdir().expect("a directory");
        let toml = settings_toml(&kafka, &registry, store.as_ref(), &ports);
        std::fs::write(dir.path().join("sluice.toml"), toml).expect("settings are written");

        let producer = Producer::<()>::open(&kafka, &ProducerOptions::default()).expect("a producer").0;
        let facts =
            Facts::follow(&kafka, names.get(Topic::MessagesStatus), codecs.codec(Topic::MessagesStatus));
        let sessions = (0..self.sessions).map(|n| format!("s{n}")).collect();
        let world = World {
            provider,
            facts,
            names,
            codecs,
            kafka,
            ports,
            store,
            sessions,
            http: reqwest::Client::new(),
            limits: self.limits.clone(),
            in_flight: self.in_flight,
            settings: self.settings.clone(),
            _reserved: reserved,
            producer,
            dir,
        };
        world.put_account(&world.provider.base_url()).await;
        for session in &world.sessions {
            world.put_session(session, self.in_doubt_policy).await;
        }
        world
    }
}

impl World {
    /// Puts the account, which is reached at `base_url`.
    pub async fn put_account(&self, base_url: &str) {
        let account = Account {
            account_id: ACCOUNT.to_owned(),
            tenant_id: super::TENANT.to_owned(),
            provider: Provider::Wasender,
            base_url: base_url.to_owned(),
            updated_at: wall_ms(),
            ..Account::default()
        };
        let value = self.codecs.codec(Topic::Accounts).encode(&account);
        let partition = placement::partition_for(ACCOUNT.as_bytes(), self.kafka.partitions);
        self.write(Topic::Accounts, partition, Some(ACCOUNT.as_bytes()), Some(&value)).await;
    }

    /// Puts a session, at the provider too.
    pub async fn put_session(&self, session: &str, in_doubt_policy: InDoubtPolicy) {
        let (api_key, webhook_secret) = (format!("key-of-{session}"), format!("hook-of-{session}"));
        self.provider.add_session(SessionSettings {
            api_key: api_key.clone(),
            session_id: session.to_owned(),
            webhook_url: Some(format!("http://{}/webhooks/wasender/{session}", self.ports.webhooks)),
            webhook_secret: webhook_secret.clone(),
            limits: Some(self.limits.clone()),
            ..SessionSettings::default()
        });
        let sealer = sealer();
        let seal = |name: &str, value: String| {
            sealer.seal(&session_owner(session), name, &Secret::new(value)).expect("sealed")
        };
        let limit = |window: &Window| RateLimit {
            count: i32::try_from(window.count).expect("a count"),
            per_ms: i64::try_from(window.per_ms).expect("a window"),
            burst: 1,
        };
        let record = Session {
            session_id: session.to_owned(),
            tenant_id: super::TENANT.to_owned(),
            account_id: ACCOUNT.to_owned(),
            provider: Provider::Wasender,
            binding_epoch: 1,
            secrets: vec![seal("api_key", api_key), seal("webhook_secret", webhook_secret)],
            limits: self.limits.iter().map(limit).collect(),
            max_in_flight: Some(self.in_flight),
            in_doubt_policy,
            updated_at: wall_ms(),
            ..Session::default()
        };
        let value = self.codecs.codec(Topic::Sessions).encode(&record);
        self.write(Topic::Sessions, self.partition_of(session), Some(session.as_bytes()), Some(&value)).await;
    }
}

/// The environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    format!("SLUICE__{}", key.to_ascii_uppercase().replace('.', "__"))
}

fn sealer() -> Sealer {
    let keys = [("k1".to_owned(), Secret::new(SEALING_KEY))].into();
    Sealer::new(&Credentials { active_key: "k1".to_owned(), keys }).expect("a sealer")
}

async fn migrated() -> sluice_scylla::Settings {
    let settings = sluice_scylla::Settings {
        contact_points: vec![testkit::cql().await],
        keyspace: unique("it"),
        replication_factor: 1,
        consistency: sluice_scylla::Consistency::LocalOne,
        // Changing a schema on a busy machine takes Cassandra long.
        connect_timeout_ms: 60_000,
        request_timeout_ms: 60_000,
        ..sluice_scylla::Settings::default()
    };
    sluice_scylla::migrate(&settings).await.expect("tables are made");
    settings
}

fn settings_toml(
    kafka: &Settings,
    registry: &RegistrySettings,
    store: Option<&sluice_scylla::Settings>,
    ports: &Ports,
) -> String {
    let store = store.map_or_else(String::new, |store| {
        format!(
            "store.contact_points = [{:?}]\nstore.keyspace = {:?}\nstore.replication_factor = 1\n\
             store.consistency = \"LOCAL_ONE\"\n",
            store.contact_points[0], store.keyspace
        )
    });
    format!(
        r#"{store}
kafka.bootstrap_servers = "{bootstrap}"
kafka.topic_prefix = "{prefix}"
kafka.group_prefix = "{prefix}"
kafka.partitions = 8
kafka.replication_factor = 1
kafka.min_insync_replicas = 1
kafka.fetch_wait_max_ms = 50
kafka.tail_fetch_wait_max_ms = 20
kafka.session_timeout_ms = 6000
registry.url = "{registry}"
deployment.check_durability = false
deployment.broker_probe_interval_ms = 500
deployment.broker_probe_timeout_ms = 1000
auth.tokens = [{{ name = "ops", sha256 = "{token}", tenant_id = "*" }}]
credentials.active_key = "k1"
credentials.keys.k1 = "{SEALING_KEY}"
edge.listen = "{api}"
edge.webhook_listen = "{webhooks}"
query.listen = "{query}"
edge.ack_timeout_ms = 2000
edge.request_timeout_ms = 4000
log.format = "text"
reducer.reread_ms = 60000
sender.evidence_interval_ms = 200
sender.client.connect_timeout_ms = 1000
sender.client.call_timeout_ms = 3000
sender.decisions.claim_ttl_ms = 2000
sender.decisions.ledger_timeout_ms = 5000
sender.decisions.doubt_grace_ms = 2000
sender.decisions.backoff_first_ms = 100
sender.decisions.backoff_max_ms = 1000
sender.decisions.unknown_session_hold_ms = 2000
sender.decisions.session_probe_ms = 60000
sender.decisions.refence_min_ms = 200
sender.decisions.refence_max_ms = 500
"#,
        bootstrap = kafka.bootstrap_servers,
        prefix = kafka.topic_prefix,
        registry = registry.url.as_deref().unwrap_or_default(),
        token = token_sha256(OPS),
        api = ports.api,
        webhooks = ports.webhooks,
        query = ports.query,
    )
}
