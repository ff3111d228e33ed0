//! Reads `messages.status` and `messages.state` into the books.

use std::time::Duration;

use anyhow::Context as _;
use sluice_kafka::record::Record;
use sluice_kafka::registry::Codec;
use sluice_kafka::tail::{Event, From, Options, Tail};
use sluice_schemas::topics::Topic;
use sluice_schemas::{MessageState, MessageStatus, codec};
use tokio::task::JoinSet;

use super::books::Books;
use crate::dev::{Dev, Shared, lock};

/// How long closing a reader may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Follows both topics from their beginning, until the set is dropped. A task that ends has failed.
///
/// # Errors
/// If a Kafka setting is wrong.
pub(super) fn follow(dev: &Dev, books: &Shared<Books>) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    let statuses = open(dev, Topic::MessagesStatus)?;
    let codec: Codec<MessageStatus> = dev.deps.codecs.codec(Topic::MessagesStatus);
    let into = books.clone();
    tasks.spawn(read(statuses, codec, move |fact| lock(&into).fact(fact)));
    let states = open(dev, Topic::MessagesState)?;
    let codec: Codec<MessageState> = dev.deps.codecs.codec(Topic::MessagesState);
    let into = books.clone();
    tasks.spawn(read(states, codec, move |state| lock(&into).state(state)));
    Ok(tasks)
}

fn open(dev: &Dev, topic: Topic) -> anyhow::Result<Tail> {
    let kafka = &dev.deps.settings.kafka;
    let tail = Tail::open(kafka, dev.deps.names.get(topic), Options::default())?;
    let partitions = dev.deps.brokers.partitions().context("the brokers have not been looked at")?;
    for partition in 0..partitions {
        tail.assign(partition, From::Beginning);
    }
    Ok(tail)
}

async fn read<T: codec::Record>(
    mut tail: Tail,
    codec: Codec<T>,
    mut take: impl FnMut(T) + Send,
) -> anyhow::Result<()> {
    loop {
        match tail.recv().await.context("the reader of the demo's topics has ended")? {
            Event::Records(batch) => {
                batch.records.iter().filter_map(|record| decode(&codec, record)).for_each(&mut take)
            }
            Event::Rewound { partition, .. } => {
                tokio::time::timeout(CLOSE_WITHIN, tail.close()).await.ok();
                anyhow::bail!(
                    "partition {partition} lost records before the demo read them: the in-process Kafka keeps \
                     5 MiB of each; send fewer messages, or use --kafka"
                );
            }
            Event::Error(error) => tracing::warn!(%error, "the demo's reader; going on"),
            Event::CaughtUp { .. } => {}
        }
    }
}

fn decode<T: codec::Record>(codec: &Codec<T>, record: &Record) -> Option<T> {
    codec
        .decode(record)
        .inspect_err(|error| {
            let (partition, offset) = (&record.partition, record.offset);
            tracing::warn!(%partition, offset, %error, "left out of the books");
        })
        .ok()
}
