//! Topics as they should be, as they are, and what differs. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sluice_schemas::topics::{Placement, Spec, TABLE};

use crate::settings::Settings;

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
    pub(super) session_placed: bool,
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
pub(super) fn compare(desired: &Desired, found: Option<&Found>, partitions: i32) -> Report {
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
            let parts =
                |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<BTreeSet<_>>();
            parts(wanted) == parts(is)
        }
        _ => match (wanted.parse::<f64>(), is.parse::<f64>()) {
            (Ok(wanted), Ok(is)) => wanted == is,
            _ => wanted == is,
        },
    }
}

/// The count all session-placed topics have; none if there is none yet or they differ.
pub(super) fn session_partitions(desired: &[Desired], found: &BTreeMap<String, Found>) -> Option<i32> {
    let mut counts =
        desired.iter().filter(|d| d.session_placed).filter_map(|d| Some(found.get(&d.name)?.partitions));
    let first = counts.next()?;
    counts.all(|count| count == first).then_some(first)
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
