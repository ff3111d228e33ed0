//! An edge with its sockets and a cluster behind it, and a reader of what it wrote.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::api::auth::token_sha256;
use sluice::deps::Deps;
use sluice::edge::{Edge, Listeners, run};
use sluice::lifecycle::Lifecycle;
use sluice::sealing::Secret;
use sluice::settings::{Scope, Settings, Token};
use sluice_kafka::mock::MockKafka;
use sluice_kafka::record::Record;
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::topics::Topic;
use sluice_testkit::{eventually, patient};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Token of an operator.
pub(crate) const OPS: &str = "ops-token";
/// Token of the tenant acme.
pub(crate) const ACME: &str = "acme-token";
/// Token of the tenant acme that may only read.
pub(crate) const READER: &str = "reader-token";
/// Token of the tenant other.
pub(crate) const OTHER: &str = "other-token";
/// Token of the tenant acme that may manage.
pub(crate) const MANAGER: &str = "manager-token";

const LIMIT: Duration = Duration::from_secs(30);

/// A running edge.
pub(crate) struct World {
    /// The mock cluster, if there is one.
    pub(crate) kafka: Option<MockKafka>,
    pub(crate) api: String,
    pub(crate) webhooks: String,
    pub(crate) admin: String,
    pub(crate) deps: Deps,
    pub(crate) http: reqwest::Client,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Settings of an edge on free ports, with the tokens above.
pub(crate) fn settings() -> Settings {
    let any = "127.0.0.1:0".parse().unwrap();
    let token = |name: &str, tenant: &str, scopes: &[Scope]| Token {
        name: name.into(),
        sha256: token_sha256(name),
        tenant_id: tenant.into(),
        scopes: scopes.to_vec(),
    };
    let mut settings = Settings::default();
    settings.admin.listen = any;
    settings.deployment.check_durability = false;
    settings.auth.tokens = vec![
        token(OPS, "*", &[]),
        token(ACME, "acme", &[]),
        token(READER, "acme", &[Scope::Read]),
        token(MANAGER, "acme", &[Scope::Manage]),
        token(OTHER, "other", &[Scope::Send, Scope::Manage]),
    ];
    settings.credentials.active_key = "k1".into();
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    settings.credentials.keys.insert("k1".into(), Secret::new(key));
    settings
}

impl World {
    /// An edge on a mock cluster, its directory loaded.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// The same, with settings changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let kafka = MockKafka::start().unwrap();
        let mut settings = settings();
        settings.kafka = kafka.settings().clone();
        change(&mut settings);
        let mut world = Self::open(settings).await;
        world.kafka = Some(kafka);
        let loaded = tokio::time::timeout(patient(LIMIT), world.deps.directory.loaded()).await;
        loaded.expect("the directory is loaded");
        world.deps.brokers.checked().await.unwrap();
        world
    }

    /// An edge with these settings, whatever the state of its cluster.
    pub(crate) async fn open(settings: Settings) -> Self {
        let mut life = Lifecycle::new(LIMIT);
        let deps = Deps::open(settings, &mut life).await.unwrap();
        let listeners = Listeners {
            api: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            webhooks: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (api, webhooks) = (url(&listeners.api), url(&listeners.webhooks));
        let shutdown = life.shutdown();
        life.spawn("edge", LIMIT, run(Edge::open(&deps).unwrap(), listeners, shutdown.clone()));
        tokio::spawn(async move {
            if let Err(error) = life.run().await {
                eprintln!("the edge ended: {error}");
            }
        });
        Self {
            kafka: None,
            api,
            webhooks,
            admin: format!("http://{}", deps.admin),
            deps,
            http: reqwest::Client::new(),
            shutdown,
        }
    }

    /// An account and the sessions s1 and s2 of acme, and o1 of other.
    pub(crate) async fn seed(&self) {
        for (tenant, account, sessions) in [("acme", "wa", &["s1", "s2"][..]), ("other", "ow", &["o1"][..])] {
            let body =
                json!({"tenant_id": tenant, "provider": "wasender", "base_url": "http://localhost:1/api"});
            assert_eq!(self.put(OPS, &format!("/v1/accounts/{account}"), body).await.status, 201);
            for session in sessions {
                let secrets = json!({"api_key": format!("key-of-{session}"), "webhook_secret": format!("hook-of-{session}")});
                let body = json!({"tenant_id": tenant, "account_id": account, "secrets": secrets});
                assert_eq!(self.put(OPS, &format!("/v1/sessions/{session}"), body).await.status, 201);
            }
        }
    }

    pub(crate) async fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(self.http.put(self.url(path)).bearer_auth(token).json(&body)).await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(self.http.delete(self.url(path)).bearer_auth(token)).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(self.http.post(self.url(path)).bearer_auth(token).json(&body)).await
    }

    /// Posts a send with its key.
    pub(crate) async fn send(&self, session: &str, key: &str, body: Value) -> Answer {
        let path = format!("/v1/sessions/{session}/messages");
        let request = self.http.post(self.url(&path)).bearer_auth(ACME).header("Idempotency-Key", key);
        self.call(request.json(&body)).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    pub(crate) async fn call(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    /// The first `count` records of a topic that are not about seeding, in no order across partitions.
    pub(crate) async fn records(&self, topic: Topic, count: usize) -> Vec<Record> {
        let kafka = &self.deps.settings.kafka;
        let mut tail = Tail::open(kafka, self.deps.names.get(topic), tail::Options::default()).unwrap();
        for partition in 0..kafka.partitions {
            tail.assign(partition, tail::From::Beginning);
        }
        let mut records = Vec::new();
        let read = async {
            while records.len() < count {
                if let Some(tail::Event::Records(more)) = tail.recv().await {
                    records.extend(more.records);
                }
            }
        };
        let read = tokio::time::timeout(patient(LIMIT), read).await;
        assert!(read.is_ok(), "{} of {count} records came in time", records.len());
        records
    }

    /// Waits until `/readyz` answers this.
    pub(crate) async fn readyz(&self, status: u16) {
        let url = format!("{}/readyz", self.admin);
        eventually(LIMIT, "readyz", || async {
            let now = self.http.get(&url).send().await.map(|answer| answer.status().as_u16());
            match now {
                Ok(now) if now == status => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a problem of this status and type, and gives the pointer and code of its first
    /// error.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, slug: &str) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["type"], format!("urn:sluice:problem:{slug}"), "{self:?}");
        assert_eq!(self.body["status"], status, "{self:?}");
        assert!(!self.header("x-request-id").is_empty(), "{self:?}");
        let text = |name: &str| self.body["errors"][0][name].as_str().unwrap_or_default().to_owned();
        (text("pointer"), text("code"))
    }
}

/// The codecs of the topics.
pub(crate) fn codec<T: sluice_schemas::codec::Record>(
    world: &World,
    topic: Topic,
) -> sluice_kafka::registry::Codec<T> {
    world.deps.codecs.codec(topic)
}
