//! What `sluice topics apply|check|print` do, and what every role asks before it starts.

use std::collections::BTreeMap;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::admin::{ConfigResource, ConfigSource, OwnedResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::settings::Settings;

mod compare;
mod print;

pub use compare::{Desired, Difference, Found, Report, State, desired};
use compare::{compare, session_partitions};
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
