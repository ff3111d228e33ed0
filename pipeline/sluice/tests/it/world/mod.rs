//! One test's own pipeline on real servers: topics under a prefix of its own, the real binary as child processes,
//! the simulated provider with its truth log, and readers of what the pipeline tells.

pub mod laws;
mod read;
mod role;
mod setup;
mod shell;

use std::path::Path;
use std::time::Duration;

pub use read::{Facts, Step, Topic as Follow, end_of, is_end};
pub use role::Role;
pub use setup::{Builder, Ports};
pub use shell::Shell;

use sluice_kafka::producer::Producer;
use sluice_kafka::record::Outgoing;
use sluice_kafka::registry::Codecs;
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{Command, ContentType, InDoubtPolicy, OutboundCommand, Status, ids, placement};
use sluice_testkit::{Port, eventually};
use sluice_whatsapp::wasender::simulator::{Simulator, TruthEntry, Verdict, Window};
use tempfile::TempDir;
use uuid::Uuid;

/// Tenant of every session.
pub const TENANT: &str = "acme";
/// Bearer token of an operator.
pub const OPS: &str = "ops-token";
/// Longest wait for anything: far more than is ever needed.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Longest wait for an acknowledgement.
const ACK: Duration = Duration::from_secs(20);

/// One test's pipeline.
pub struct World {
    /// The provider; its truth log counts.
    pub provider: Simulator,
    /// Every fact about messages.
    pub facts: Facts,
    /// Names of the topics.
    pub names: Names,
    /// Codecs of the topics.
    pub codecs: Codecs,
    /// Settings of this test's clients.
    pub kafka: sluice_kafka::settings::Settings,
    /// Where the roles that listen listen.
    pub ports: Ports,
    /// Settings of the message store, if the test has one.
    pub store: Option<sluice_scylla::Settings>,
    /// Ids of the sessions.
    pub sessions: Vec<String>,
    /// For the API.
    pub http: reqwest::Client,
    /// Limits of every session.
    pub limits: Vec<Window>,
    in_flight: i32,
    settings: Vec<(String, String)>,
    _reserved: Vec<Port>,
    producer: Producer<()>,
    dir: TempDir,
}

/// A message as the test means it.
#[derive(Debug, Clone)]
pub struct Sent {
    pub session: String,
    pub key: String,
    pub to: String,
    pub text: String,
}

impl Sent {
    /// The `n`th message of a session, to one of `chats` recipients. The text is unique in the session.
    pub fn numbered(session: &str, n: usize, chats: usize) -> Self {
        Self {
            session: session.to_owned(),
            key: format!("key-{n}"),
            to: format!("+1555000{:04}", n % chats),
            text: format!("message {n} of {session}"),
        }
    }

    pub fn id(&self) -> Uuid {
        ids::message_id(&self.session, &self.key)
    }

    pub fn command(&self) -> OutboundCommand {
        OutboundCommand {
            command: Command::Send,
            session_id: self.session.clone(),
            tenant_id: Some(TENANT.to_owned()),
            idempotency_key: self.key.clone(),
            to: Some(self.to.clone()),
            content_type: ContentType::Text,
            text: Some(self.text.clone()),
            in_doubt_policy: InDoubtPolicy::Unknown,
            ..OutboundCommand::default()
        }
    }
}

impl World {
    /// A world named for its test.
    pub fn builder(name: &'static str) -> Builder {
        Builder::new(name)
    }

    /// `each` messages for every session, in the order they are to be sent: the sessions in turn.
    pub fn messages(&self, each: std::ops::Range<usize>, chats: usize) -> Vec<Sent> {
        each.flat_map(|n| self.sessions.iter().map(move |session| Sent::numbered(session, n, chats)))
            .collect()
    }

    /// Writes requests straight to the topic, as a platform does, and waits for the acknowledgements.
    pub async fn produce(&self, messages: &[Sent]) {
        let codec = self.codecs.codec::<OutboundCommand>(Topic::OutboundRequests);
        let topic = self.names.get(Topic::OutboundRequests);
        let mut waiting = Vec::new();
        for message in messages {
            let value = codec.encode(&message.command());
            waiting.push(
                self.producer
                    .send_later(Outgoing {
                        topic,
                        partition: Some(self.partition_of(&message.session)),
                        key: Some(message.session.as_bytes()),
                        value: Some(&value),
                        headers: &[],
                    })
                    .expect("queued"),
            );
        }
        for answer in waiting {
            answer.wait(ACK).await.expect("acknowledged");
        }
    }

    /// Writes one request to the topic, and tells whether it was acknowledged. Unlike [`Self::produce`] it may
    /// fail: for a broker that comes and goes.
    pub async fn offer(&self, request: &OutboundCommand) -> bool {
        let value = self.codecs.codec::<OutboundCommand>(Topic::OutboundRequests).encode(request);
        let record = Outgoing {
            topic: self.names.get(Topic::OutboundRequests),
            partition: Some(self.partition_of(&request.session_id)),
            key: Some(request.session_id.as_bytes()),
            value: Some(&value),
            headers: &[],
        };
        self.producer.send_and_wait(record, ACK).await.is_ok()
    }

    /// Writes one record anywhere.
    pub async fn write(&self, topic: Topic, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> i64 {
        let record =
            Outgoing { topic: self.names.get(topic), partition: Some(partition), key, value, headers: &[] };
        self.producer.send_and_wait(record, ACK).await.expect("acknowledged").offset
    }

    /// Where a session lives.
    pub fn partition_of(&self, session: &str) -> i32 {
        placement::partition_for(session.as_bytes(), self.kafka.partitions)
    }

    /// Starts the binary with these roles.
    pub fn run(&self, roles: &str) -> Role {
        Role::start(&self.dir.path().join("sluice.toml"), &self.settings, roles, None)
    }

    /// Starts it with settings of its own, and with a log that goes on over restarts.
    pub fn run_as(&self, roles: &str, settings: &[(&str, &str)], log: &Path) -> Role {
        Role::start(&self.dir.path().join("sluice.toml"), &self.with(settings), roles, Some(log))
    }

    /// Starts the binary with these roles and further settings, by their whole keys.
    pub fn run_with(&self, roles: &str, settings: &[(&str, &str)]) -> Role {
        Role::start(&self.dir.path().join("sluice.toml"), &self.with(settings), roles, None)
    }

    fn with(&self, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let further = settings.iter().map(|(key, value)| (setup::variable(key), (*value).to_owned()));
        self.settings.iter().cloned().chain(further).collect()
    }

    /// What the provider took, in order of arrival.
    pub fn accepted(&self) -> Vec<TruthEntry> {
        let mut truth = self.provider.truth(0);
        truth.retain(|entry| entry.verdict == Verdict::Accepted);
        truth
    }

    /// Waits until the provider has taken so many.
    pub async fn provider_has_taken(&self, count: usize) {
        eventually(LIMIT, "the provider takes messages", || async {
            let taken = self.accepted().len();
            if taken >= count { Ok(()) } else { Err(format!("{taken} of {count}")) }
        })
        .await;
    }

    /// Waits until each of these has an end for the sender: submitted, failed, expired or canceled.
    pub async fn all_end(&self, messages: &[Sent]) {
        eventually(LIMIT, "every message has an end", || async {
            let open: Vec<_> =
                messages.iter().filter(|message| self.facts.end_of(message.id()).is_none()).collect();
            let shown = open.first().map(|first| (first, self.facts.statuses_of(first.id())));
            if open.is_empty() { Ok(()) } else { Err(format!("{} open, the first: {shown:?}", open.len())) }
        })
        .await;
    }

    /// How many attempts are on record as in doubt.
    pub fn doubts(&self) -> usize {
        self.facts.seen().iter().filter(|(_, fact)| fact.status == Status::InDoubt).count()
    }

    /// Asks the edge for something below a session: `pause`, `messages/{id}/cancel`, …
    pub async fn control(&self, session: &str, what: &str) {
        let url = format!("http://{}/v1/sessions/{session}/{what}", self.ports.api);
        let answer = self.http.post(url).bearer_auth(OPS).header("Idempotency-Key", "control").send().await;
        let answer = answer.expect("the edge answers");
        let status = answer.status();
        assert!(status.is_success(), "{what}: {status} {:?}", answer.text().await);
    }

    /// Posts a message to the edge.
    pub async fn post(&self, message: &Sent) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://{}/v1/sessions/{}/messages", self.ports.api, message.session);
        let body = serde_json::json!({"to": message.to, "text": message.text});
        self.http.post(url).bearer_auth(OPS).header("Idempotency-Key", &message.key).json(&body).send().await
    }
}
