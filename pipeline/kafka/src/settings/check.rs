//! What must hold in the settings, checked before any broker is touched.

use rdkafka::error::KafkaError;
use sluice_schemas::topics::TABLE;

use super::{Prefetch, ProducerOptions, Settings, is_secret};

/// Properties whose value is decided here; what an operator sets for them would have no effect.
const OURS: [&str; 14] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "client.id",
    "group.id",
    "group.protocol",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "isolation.level",
    "auto.offset.reset",
    "partitioner",
    "partition.assignment.strategy",
];

impl Settings {
    /// What is wrong with the settings, found without touching a broker: each entry names the key and the
    /// remedy. Empty if nothing is.
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        must(
            !self.bootstrap_servers.trim().is_empty(),
            "bootstrap_servers is empty: name at least one broker",
        );
        must(self.partitions > 0, "partitions must be at least 1");
        must(self.replication_factor > 0, "replication_factor must be at least 1");
        let in_sync = self.min_insync_replicas > 0 && self.min_insync_replicas <= self.replication_factor;
        must(in_sync, "min_insync_replicas must be between 1 and replication_factor");
        must(
            self.session_timeout_ms <= self.max_poll_interval_ms,
            "max_poll_interval_ms must not be below session_timeout_ms",
        );
        let beats = self.heartbeat_interval_ms;
        must(
            (100..=self.session_timeout_ms / 3).contains(&beats),
            "heartbeat_interval_ms must be at least 100, and at most a third of session_timeout_ms",
        );
        must(self.request_timeout_ms > 0, "request_timeout_ms must be above 0");
        for topics in [self.topic_names.keys().collect::<Vec<_>>(), self.topic_settings.keys().collect()] {
            for suffix in topics {
                let known = TABLE.iter().any(|spec| spec.suffix == *suffix);
                must(known, &format!("{suffix} is none of Sluice's topics: see `sluice topics print`"));
            }
        }
        for name in self.properties.keys() {
            let ours = OURS.contains(&name.as_str());
            must(!ours, &format!("properties: {name} cannot be set: Sluice relies on its value"));
        }
        for config in [
            self.producer(&ProducerOptions::default()),
            self.group_consumer("check", None),
            self.tail(None, Prefetch::Much),
        ] {
            // Names and values are librdkafka's to judge; the error names the property, and its value only if
            // it is not valid, so it is left out.
            if let Err(KafkaError::ClientConfig(_, description, name, _)) = config.create_native_config() {
                let detail = if is_secret(&name) { "not valid" } else { description.as_str() };
                wrong.push(format!("properties: {name}: {detail}"));
            }
        }
        wrong.dedup();
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named_before_a_broker_is_touched() {
        assert_eq!(Settings::default().check(), Vec::<String>::new());
        let names = |settings: Settings, part: &str| {
            let wrong = settings.check();
            assert!(wrong.iter().any(|text| text.contains(part)), "{part}: {wrong:?}");
        };
        names(Settings { bootstrap_servers: " ".to_owned(), ..Settings::default() }, "bootstrap_servers");
        names(Settings { min_insync_replicas: 4, ..Settings::default() }, "min_insync_replicas");
        names(Settings { heartbeat_interval_ms: 5_001, ..Settings::default() }, "heartbeat_interval_ms");
        names(Settings { heartbeat_interval_ms: 99, ..Settings::default() }, "heartbeat_interval_ms");
        names(with("acks", "1"), "acks");
        names(with("no.such.property", "1"), "no.such.property");
        names(with("socket.timeout.ms", "soon"), "socket.timeout.ms");
        let mut typo = Settings::default();
        typo.topic_names.insert("outbound.request".to_owned(), "x".to_owned());
        names(typo, "outbound.request is none");
    }

    fn with(name: &str, value: &str) -> Settings {
        let mut settings = Settings::default();
        settings.properties.insert(name.to_owned(), value.to_owned());
        settings
    }
}
