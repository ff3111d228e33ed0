//! A Kafka inside the test process, and ways to put records in and to wait for records out.

use std::time::Duration;

use sluice_kafka::mock::MockKafka;
use sluice_kafka::producer::Producer;
use sluice_kafka::record::{Outgoing, Record};
use sluice_kafka::registry::Codecs;
use sluice_kafka::settings::{ProducerOptions, Settings};
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::codec;
use sluice_schemas::placement::partition_for;
use sluice_schemas::topics::Topic;

/// A record that is waited for comes within this time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) mock: MockKafka,
    pub(crate) codecs: Codecs,
    producer: Producer<()>,
}

impl World {
    pub(crate) fn start() -> Self {
        let mock = MockKafka::start().unwrap();
        let (producer, _) = Producer::open(mock.settings(), &ProducerOptions::default()).unwrap();
        Self { codecs: Codecs::fixed(), mock, producer }
    }

    pub(crate) fn kafka(&self) -> &Settings {
        self.mock.settings()
    }

    /// Puts `value` under the key `session`, on the session's partition.
    pub(crate) async fn put(&self, topic: Topic, session: &str, value: &[u8]) {
        let names = self.kafka().names();
        let outgoing = Outgoing {
            topic: names.get(topic),
            partition: Some(partition_for(session.as_bytes(), self.kafka().partitions)),
            key: Some(session.as_bytes()),
            value: Some(value),
            headers: &[("sluice-session-id", session.as_bytes())],
        };
        self.producer.send_and_wait(outgoing, PATIENCE).await.unwrap();
    }

    /// Encodes and puts.
    pub(crate) async fn put_record<T: codec::Record>(&self, topic: Topic, session: &str, record: &T) {
        let value = self.codecs.codec::<T>(topic).encode(record);
        self.put(topic, session, &value).await;
    }

    /// Reads `topic` from its beginning until `enough` of it is there.
    pub(crate) async fn read_until<T: codec::Record>(
        &self,
        topic: Topic,
        enough: impl Fn(&[(Record, T)]) -> bool,
    ) -> Vec<(Record, T)> {
        let codec = self.codecs.codec::<T>(topic);
        let names = self.kafka().names();
        let mut tail = Tail::open(self.kafka(), names.get(topic), tail::Options::default()).unwrap();
        for number in 0..self.kafka().partitions {
            tail.assign(number, tail::From::Beginning);
        }
        let mut all = Vec::new();
        let reading = async {
            while !enough(&all) {
                if let Some(tail::Event::Records(records)) = tail.recv().await {
                    let decoded = records.records.into_iter().map(|record| {
                        let value = codec.decode(&record).unwrap();
                        (record, value)
                    });
                    all.extend(decoded);
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reading).await.is_ok();
        assert!(in_time, "{}: not enough came: {all:#?}", names.get(topic));
        all
    }
}
