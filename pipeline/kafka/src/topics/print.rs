//! The topic table as text, JSON, or Strimzi resources.

use std::fmt::Write as _;

use super::{Desired, Error, desired};
use crate::settings::Settings;

/// How to print the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Columns for people.
    Table,
    /// A JSON array.
    Json,
    /// `KafkaTopic` resources (Strimzi, API `kafka.strimzi.io/v1beta2`) for this cluster.
    Strimzi {
        /// Name of the Strimzi `Kafka` resource.
        cluster: String,
    },
}

/// Prints the table for these settings.
pub fn print(settings: &Settings, format: &Format) -> Result<String, Error> {
    let topics = desired(settings);
    Ok(match format {
        Format::Table => table(&topics),
        Format::Json => {
            let mut json = serde_json::to_string_pretty(&topics).unwrap_or_default();
            json.push('\n');
            json
        }
        Format::Strimzi { cluster } => topics.iter().map(|topic| strimzi(topic, cluster)).collect(),
    })
}

fn table(topics: &[Desired]) -> String {
    let mut rows: Vec<[String; 7]> =
        vec![["TOPIC", "KEY", "PLACEMENT", "PARTITIONS", "RF", "RECORD", "FLOW"].map(str::to_owned)];
    rows.extend(topics.iter().map(|topic| {
        [
            topic.name.clone(),
            topic.key.to_owned(),
            topic.placement.to_owned(),
            topic.partitions.to_string(),
            topic.replication_factor.to_string(),
            topic.record.to_owned(),
            topic.flow.to_owned(),
        ]
    }));
    let widths: Vec<usize> =
        (0..7).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn strimzi(topic: &Desired, cluster: &str) -> String {
    // Resource names are DNS labels; the real name is in topicName.
    let name: String = topic
        .name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .collect();
    let mut out = format!(
        "---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\nmetadata:\n  name: {}\n  labels:\n    \
         strimzi.io/cluster: {}\nspec:\n  topicName: {}\n  partitions: {}\n  replicas: {}\n  config:\n",
        quoted(&name),
        quoted(cluster),
        quoted(&topic.name),
        topic.partitions,
        topic.replication_factor
    );
    for (setting, value) in &topic.settings {
        let _ = writeln!(out, "    {setting}: {}", quoted(value));
    }
    out
}

/// A YAML double-quoted scalar; JSON strings are valid ones.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_is_printed_in_every_format() {
        let settings = Settings::default();
        let strimzi = Format::Strimzi { cluster: "kafka".to_owned() };
        for format in [Format::Table, Format::Json, strimzi] {
            let text = print(&settings, &format).unwrap();
            for topic in desired(&settings) {
                assert!(text.contains(&topic.name), "{format:?} {}", topic.name);
            }
        }
    }

    #[test]
    fn json_and_strimzi_carry_the_settings() {
        let settings = Settings::default();
        let json: serde_json::Value =
            serde_json::from_str(&print(&settings, &Format::Json).unwrap()).unwrap();
        assert_eq!(json[1]["settings"]["cleanup.policy"], "compact");
        let yaml = print(&settings, &Format::Strimzi { cluster: "kafka".to_owned() }).unwrap();
        assert!(yaml.contains("    cleanup.policy: \"compact\"\n"));
        assert!(yaml.contains("  partitions: 96\n"));
    }
}
