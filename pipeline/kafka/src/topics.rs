//! What `sluice topics apply|check|print` do, and what every role asks before it starts.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::admin::{ConfigResource, ConfigSource, OwnedResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;
use sluice_schemas::topics::{Placement, Spec, TABLE};

use crate::settings::Settings;

mod print;

pub use print::{Format, print};

/// What can go wrong with topic administration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong.
    #[error("cannot make a Kafka client: {0}")]
    Client(KafkaError),
    /// The brokers cannot be reached, do not answer in time, or refuse.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// A topic could not be created or altered.
    #[error("topic {topic}: {code}")]
    Topic {
        /// Topic.
        topic: String,
        /// What the broker says.
        code: RDKafkaErrorCode,
    },
    /// Topics are missing, or their partition counts do not fit: no role may start.
    #[error("topics are not as they must be: {}", .0.join("; "))]
    Unfit(Vec<String>),
}

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// Physical name.
    pub name: String,
    /// What the key holds.
    pub key: &'static str,
    /// What decides the partition.
    pub placement: &'static str,
    /// Partitions to create it with.
    pub partitions: i32,
    /// Replicas to create it with.
    pub replication_factor: i32,
    /// Broker settings.
    pub settings: BTreeMap<String, String>,
    /// Record type of the values.
    pub record: &'static str,
    /// Who writes and who reads.
    pub flow: &'static str,
    #[serde(skip)]
    session_placed: bool,
}

impl Desired {
    fn of(spec: &Spec, settings: &Settings) -> Self {
        let mut broker: BTreeMap<String, String> = spec.broker_settings().into_iter().collect();
        broker.insert("min.insync.replicas".to_owned(), settings.min_insync_replicas.to_string());
        broker.insert("unclean.leader.election.enable".to_owned(), "false".to_owned());
        broker.extend(settings.topic_settings.get(spec.suffix).cloned().unwrap_or_default());
        Self {
            name: settings.names().get(spec.topic).to_owned(),
            key: spec.key,
            placement: match spec.placement {
                Placement::Session => "session",
                Placement::Key => "key",
            },
            partitions: settings.partitions,
            replication_factor: settings.replication_factor,
            settings: broker,
            record: spec.record,
            flow: spec.flow,
            session_placed: spec.placement == Placement::Session,
        }
    }
}

/// Every topic as it should be.
pub fn desired(settings: &Settings) -> Vec<Desired> {
    TABLE.iter().map(|spec| Desired::of(spec, settings)).collect()
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Partitions.
    pub partitions: i32,
    /// Replicas of the partition that has fewest.
    pub replication_factor: i32,
    /// Settings in force.
    pub settings: BTreeMap<String, String>,
    /// Those of them set on the topic itself.
    pub own: BTreeMap<String, String>,
}

/// What differs from what should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Setting, `partitions` or `replication_factor`.
    pub what: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// Whether `apply` changes it.
    pub applicable: bool,
}

/// How one topic stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its name.
    pub topic: String,
    /// What was found, or done.
    pub state: State,
    /// What differs (before it was altered).
    pub differences: Vec<Difference>,
}

/// State of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Right,
    /// Does not exist.
    Missing,
    /// Differs in what `apply` changes.
    Different,
    /// Differs in what only an operator can change.
    Unfit,
    /// Was created.
    Created,
    /// Was altered.
    Altered,
}

impl Report {
    /// Whether nothing is left to be done.
    pub fn is_right(&self) -> bool {
        matches!(self.state, State::Right | State::Created | State::Altered)
    }
}

/// Compares a topic with what it should be. `partitions` is the count all session-placed topics must have.
fn compare(desired: &Desired, found: Option<&Found>, partitions: i32) -> Report {
    let mut differences = Vec::new();
    let mut differ = |what: &str, wanted: String, found: String, applicable| {
        differences.push(Difference { what: what.to_owned(), wanted, found, applicable });
    };
    let Some(found) = found else {
        return Report { topic: desired.name.clone(), state: State::Missing, differences };
    };
    // Where a session lives is fixed by the count for ever, so it is never changed.
    if desired.session_placed && found.partitions != partitions {
        differ("partitions", partitions.to_string(), found.partitions.to_string(), false);
    }
    if found.replication_factor < desired.replication_factor {
        let wanted = format!("at least {}", desired.replication_factor);
        differ("replication_factor", wanted, found.replication_factor.to_string(), false);
    }
    for (name, wanted) in &desired.settings {
        let is = found.settings.get(name).map_or("", String::as_str);
        if !fits(name, wanted, is) {
            differ(name, wanted.clone(), is.to_owned(), true);
        }
    }
    let state = match differences.iter().all(|difference| difference.applicable) {
        _ if differences.is_empty() => State::Right,
        true => State::Different,
        false => State::Unfit,
    };
    Report { topic: desired.name.clone(), state, differences }
}

/// Whether a setting in force is as good as the one wanted.
fn fits(name: &str, wanted: &str, is: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    match name {
        "min.insync.replicas" => number(is) >= number(wanted),
        // Brokers give the parts of a list in an order of their own.
        "cleanup.policy" => {
            let parts = |text: &str| {
                text.split(',').map(|part| part.trim().to_owned()).collect::<std::collections::BTreeSet<_>>()
            };
            parts(wanted) == parts(is)
        }
        _ => match (wanted.parse::<f64>(), is.parse::<f64>()) {
            (Ok(wanted), Ok(is)) => wanted == is,
            _ => wanted == is,
        },
    }
}

/// The count all session-placed topics have; none if there is none yet or they differ.
fn session_partitions(desired: &[Desired], found: &BTreeMap<String, Found>) -> Option<i32> {
    let mut counts =
        desired.iter().filter(|d| d.session_placed).filter_map(|d| Some(found.get(&d.name)?.partitions));
    let first = counts.next()?;
    counts.all(|count| count == first).then_some(first)
}

/// Administers topics.
pub struct Topics {
    settings: Settings,
    admin: std::sync::Arc<AdminClient<DefaultClientContext>>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

impl Topics {
    /// Opens an administration client.
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let admin = settings.admin().create().map_err(Error::Client)?;
        Ok(Self { settings: settings.clone(), admin: std::sync::Arc::new(admin) })
    }

    /// Compares every topic with what it should be and changes nothing.
    pub async fn check(&self) -> Result<Vec<Report>, Error> {
        let desired = desired(&self.settings);
        let found = self.found(&desired, Detail::Settings).await?;
        let partitions = self.settings.partitions;
        Ok(desired.iter().map(|desired| compare(desired, found.get(&desired.name), partitions)).collect())
    }

    /// Creates missing topics and alters settings that differ. Partition counts and replication factors of
    /// topics that exist are never changed; such topics are reported as unfit.
    ///
    /// If session-placed topics exist with another count than the settings say, nothing is created or
    /// altered: every session would move.
    pub async fn apply(&self) -> Result<Vec<Report>, Error> {
        let desired = desired(&self.settings);
        let found = self.found(&desired, Detail::Settings).await?;
        let mut reports: Vec<Report> = desired
            .iter()
            .map(|desired| compare(desired, found.get(&desired.name), self.settings.partitions))
            .collect();
        let moved = |report: &Report| report.differences.iter().any(|d| d.what == "partitions");
        if reports.iter().any(moved) {
            return Ok(reports);
        }
        for (desired, report) in desired.iter().zip(&mut reports) {
            match report.state {
                State::Missing => {
                    self.create(desired).await?;
                    report.state = State::Created;
                }
                State::Different | State::Unfit if report.differences.iter().any(|d| d.applicable) => {
                    self.alter(desired, &found[&desired.name]).await?;
                    if report.state == State::Different {
                        report.state = State::Altered;
                    }
                }
                _ => {}
            }
        }
        Ok(reports)
    }

    /// What every role asks before it starts: all topics exist and the session-placed ones have one partition
    /// count, which is returned. Needs only metadata, so the mock cluster can answer it too.
    pub async fn session_partitions(&self) -> Result<i32, Error> {
        let desired = desired(&self.settings);
        let found = self.found(&desired, Detail::Metadata).await?;
        let mut unfit: Vec<String> = desired
            .iter()
            .filter(|desired| !found.contains_key(&desired.name))
            .map(|desired| format!("{} does not exist", desired.name))
            .collect();
        let count = session_partitions(&desired, &found);
        if count.is_none() && unfit.is_empty() {
            unfit.extend(desired.iter().filter(|desired| desired.session_placed).map(|desired| {
                let count = found.get(&desired.name).map_or(0, |found| found.partitions);
                format!("{} has {count} partitions", desired.name)
            }));
        }
        match count {
            Some(count) if unfit.is_empty() => Ok(count),
            _ => Err(Error::Unfit(unfit)),
        }
    }

    /// What every role asks before it starts outside dev: besides [`Topics::session_partitions`], replicas
    /// and the settings that keep acknowledged records safe.
    pub async fn durability(&self) -> Result<(), Error> {
        const SAFE: [&str; 3] =
            ["replication_factor", "min.insync.replicas", "unclean.leader.election.enable"];
        let unfit: Vec<String> = self
            .check()
            .await?
            .into_iter()
            .flat_map(|report| report.differences.into_iter().map(move |d| (report.topic.clone(), d)))
            .filter(|(_, difference)| SAFE.contains(&difference.what.as_str()))
            .map(|(topic, d)| format!("{topic}: {} is {}, must be {}", d.what, d.found, d.wanted))
            .collect();
        if unfit.is_empty() { Ok(()) } else { Err(Error::Unfit(unfit)) }
    }

    async fn found(&self, desired: &[Desired], detail: Detail) -> Result<BTreeMap<String, Found>, Error> {
        let mut found = self.metadata(desired).await?;
        if detail == Detail::Settings && !found.is_empty() {
            let names: Vec<&String> = found.keys().collect();
            let specifiers: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
            let described = self.admin.describe_configs(&specifiers, &self.options()).await?;
            for (resource, name) in described.into_iter().zip(found.keys().cloned().collect::<Vec<_>>()) {
                let resource = resource.map_err(|code| Error::Topic { topic: name, code })?;
                if let OwnedResourceSpecifier::Topic(name) = &resource.specifier
                    && let Some(found) = found.get_mut(name)
                {
                    fill(found, &resource);
                }
            }
        }
        Ok(found)
    }

    async fn metadata(&self, desired: &[Desired]) -> Result<BTreeMap<String, Found>, Error> {
        let (admin, timeout) = (std::sync::Arc::clone(&self.admin), self.settings.request_timeout());
        // Asked for all topics: asking for one that is missing could create it.
        let fetch = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, timeout)?;
            let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
            let found = topics.map(|topic| {
                let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
                let found = Found {
                    partitions: topic.partitions().len() as i32,
                    replication_factor: replicas.unwrap_or(0) as i32,
                    ..Found::default()
                };
                (topic.name().to_owned(), found)
            });
            Ok::<BTreeMap<String, Found>, KafkaError>(found.collect())
        });
        let mut found = fetch.await.map_err(|_| KafkaError::Canceled)??;
        found.retain(|name, _| desired.iter().any(|desired| desired.name == *name));
        Ok(found)
    }

    async fn create(&self, desired: &Desired) -> Result<(), Error> {
        let replication = TopicReplication::Fixed(desired.replication_factor);
        let mut topic = NewTopic::new(&desired.name, desired.partitions, replication);
        for (name, value) in &desired.settings {
            topic = topic.set(name, value);
        }
        for result in self.admin.create_topics([&topic], &self.options()).await? {
            match result {
                // Another role's apply was quicker.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Error::Topic { topic, code }),
            }
        }
        Ok(())
    }

    async fn alter(&self, desired: &Desired, found: &Found) -> Result<(), Error> {
        // This request replaces everything set on the topic, so what others have set goes along.
        let mut merged = found.own.clone();
        merged.extend(desired.settings.clone());
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(&desired.name));
        for (name, value) in &merged {
            alter = alter.set(name, value);
        }
        for result in self.admin.alter_configs([&alter], &self.options()).await? {
            result.map_err(|(_, code)| Error::Topic { topic: desired.name.clone(), code })?;
        }
        Ok(())
    }

    fn options(&self) -> AdminOptions {
        let timeout = Some(self.settings.request_timeout());
        AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
    }
}

/// How much is asked of the brokers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Metadata,
    Settings,
}

fn fill(found: &mut Found, resource: &ConfigResource) {
    for entry in &resource.entries {
        let Some(value) = &entry.value else { continue };
        found.settings.insert(entry.name.clone(), value.clone());
        if entry.source == ConfigSource::DynamicTopic && !entry.is_sensitive {
            found.own.insert(entry.name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(desired: &Desired) -> Found {
        Found {
            partitions: desired.partitions,
            replication_factor: desired.replication_factor,
            settings: desired.settings.clone(),
            own: BTreeMap::new(),
        }
    }

    #[test]
    fn a_topic_made_as_desired_is_right() {
        let settings = Settings::default();
        for desired in desired(&settings) {
            assert_eq!(compare(&desired, Some(&like(&desired)), 96).state, State::Right, "{}", desired.name);
        }
    }

    #[test]
    fn a_partition_count_is_never_applied() {
        let desired = &desired(&Settings::default())[0];
        let report = compare(desired, Some(&Found { partitions: 12, ..like(desired) }), 96);
        assert_eq!(report.state, State::Unfit);
        assert!(!report.differences[0].applicable);
    }

    #[test]
    fn more_replicas_and_in_sync_replicas_than_asked_are_right() {
        let desired = &desired(&Settings::default())[0];
        let mut found = like(desired);
        found.replication_factor = 5;
        found.settings.insert("min.insync.replicas".to_owned(), "3".to_owned());
        assert_eq!(compare(desired, Some(&found), 96).state, State::Right);
        found.settings.insert("min.insync.replicas".to_owned(), "1".to_owned());
        assert_eq!(compare(desired, Some(&found), 96).state, State::Different);
    }

    #[test]
    fn session_placed_topics_with_different_counts_have_none() {
        let desired = desired(&Settings::default());
        let mut found: BTreeMap<_, _> = desired.iter().map(|d| (d.name.clone(), like(d))).collect();
        assert_eq!(session_partitions(&desired, &found), Some(96));
        found.get_mut("wa.outbound.ledger").unwrap().partitions = 8;
        assert_eq!(session_partitions(&desired, &found), None);
    }

    #[test]
    fn an_operator_may_set_a_topics_retention() {
        let mut settings = Settings::default();
        let own = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        settings.topic_settings.insert("messages.status".to_owned(), own);
        let desired = desired(&settings);
        let status = desired.iter().find(|d| d.name == "wa.messages.status").unwrap();
        assert_eq!(status.settings["retention.ms"], "1000");
    }
}
