//! The topic table in its printed forms.

use std::fmt::Write as _;

use serde::Serialize;
use sluice_schemas::topics::{Names, Placement, Retention, Spec, TABLE};

use super::output;

/// One topic as it is printed.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(crate) struct Row {
    /// Physical name.
    pub(crate) name: String,
    /// What the key holds.
    pub(crate) key: &'static str,
    /// What decides the partition: `session` or `key`.
    pub(crate) placement: &'static str,
    /// Partitions.
    pub(crate) partitions: i32,
    /// Copies.
    pub(crate) replication: i32,
    /// How old records go.
    pub(crate) retention: String,
    /// Record type.
    pub(crate) record: &'static str,
    /// Registry subject.
    pub(crate) subject: String,
    /// Who writes and who reads.
    pub(crate) flow: &'static str,
    /// Broker settings.
    pub(crate) settings: Vec<(String, String)>,
}

/// Size of the deployment, as far as the topics show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Partitions of every topic.
    pub(crate) partitions: i32,
    /// Copies of every partition.
    pub(crate) replication: i32,
    /// `min.insync.replicas`.
    pub(crate) min_insync: i32,
}

/// The table for these names and this size.
pub(crate) fn rows(names: &Names, size: Size) -> Vec<Row> {
    TABLE.iter().map(|spec| row(spec, names, size)).collect()
}

fn row(spec: &Spec, names: &Names, size: Size) -> Row {
    let mut settings = spec.broker_settings();
    settings.push(("min.insync.replicas".to_owned(), size.min_insync.to_string()));
    settings.push(("unclean.leader.election.enable".to_owned(), "false".to_owned()));
    Row {
        name: names.get(spec.topic).to_owned(),
        key: spec.key,
        placement: match spec.placement {
            Placement::Session => "session",
            Placement::Key => "key",
        },
        partitions: size.partitions,
        replication: size.replication,
        retention: retention(spec.retention),
        record: spec.record,
        subject: names.subject(spec.topic),
        flow: spec.flow,
        settings,
    }
}

fn retention(retention: Retention) -> String {
    match retention {
        Retention::Time { ms } => period(ms),
        Retention::Compacted => "compacted".to_owned(),
        Retention::CompactedFor { ms } => format!("compacted, {}", period(ms)),
    }
}

fn period(ms: i64) -> String {
    const HOUR_MS: i64 = 3_600_000;
    if ms % (24 * HOUR_MS) == 0 {
        format!("{} d", ms / (24 * HOUR_MS))
    } else {
        format!("{} h", ms / HOUR_MS)
    }
}

/// Columns for people.
pub(crate) fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.key.to_owned(),
                row.placement.to_owned(),
                row.partitions.to_string(),
                row.replication.to_string(),
                row.retention.clone(),
                row.record.to_owned(),
                row.flow.to_owned(),
            ]
        })
        .collect();
    output::table(
        &["TOPIC", "KEY", "PLACEMENT", "PARTITIONS", "COPIES", "RETENTION", "RECORD", "FLOW"],
        &cells,
    )
}

/// `KafkaTopic` resources of the Strimzi operator (apiVersion `kafka.strimzi.io/v1beta2`), as YAML.
pub(crate) fn strimzi(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let _ = write!(
            out,
            "---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\nmetadata:\n  name: {}\n  labels:\n    \
             strimzi.io/cluster: kafka\nspec:\n  topicName: {}\n  partitions: {}\n  replicas: {}\n  config:\n",
            resource_name(&row.name),
            row.name,
            row.partitions,
            row.replication,
        );
        for (name, value) in &row.settings {
            let _ = writeln!(out, "    {name}: \"{value}\"");
        }
    }
    out
}

/// A Kubernetes resource name (RFC 1123 subdomain) for a topic.
fn resource_name(topic: &str) -> String {
    topic.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { partitions: 96, replication: 3, min_insync: 2 };

    #[test]
    fn every_topic_is_in_every_form() {
        let names = Names::default();
        let rows = rows(&names, SIZE);
        assert_eq!(rows.len(), TABLE.len());
        let (text, yaml) = (text(&rows), strimzi(&rows));
        for spec in TABLE {
            let name = names.get(spec.topic);
            assert!(text.contains(name), "{name} is missing in the table");
            assert!(yaml.contains(&format!("  topicName: {name}\n")), "{name} is missing for Strimzi");
        }
    }

    #[test]
    fn the_ledger_is_compacted_and_stamped_by_the_broker() {
        let rows = rows(&Names::default(), SIZE);
        let ledger = rows.iter().find(|row| row.name == "wa.outbound.ledger").expect("the ledger");
        for (name, value) in [
            ("cleanup.policy", "compact"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
        ] {
            assert!(ledger.settings.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
    }

    #[test]
    fn a_resource_name_is_one_that_kubernetes_takes() {
        assert_eq!(resource_name("WA_x.Status"), "wa-x.status");
    }
}
