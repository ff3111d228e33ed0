//! `sluice dead-letters`.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_kafka::dead_letters::header_bytes;
use sluice_kafka::record::Record;
use sluice_kafka::registry::codecs::Registration;
use sluice_kafka::registry::{Codec, Codecs, Registry};
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::DeadLetter;
use sluice_schemas::topics::Topic;

use super::args::{Cli, DeadLetters as Command};
use super::failure::Failure;
use super::output::{Printer, table, time};
use crate::settings::Settings;

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let reader = Reader::open(&cli.settings()?).await?;
    let printer = Printer::new(cli.output);
    let reading = async {
        match command {
            Command::List { limit, reason } => list(reader, printer, *limit, reason.as_deref()).await,
            Command::Show { place } => show(reader, printer, place).await,
        }
    };
    let timed = tokio::time::timeout(PATIENCE, reading).await;
    timed.unwrap_or_else(|_| {
        Err(Failure::Failed(anyhow::anyhow!("no answer from Kafka; see `sluice doctor`")))
    })
}

async fn list(mut reader: Reader, printer: Printer, limit: u32, reason: Option<&str>) -> Result<(), Failure> {
    let mut letters = reader.newest(i64::from(limit)).await?;
    letters.retain(|(_, letter)| {
        reason.is_none_or(|wanted| letter.reason.as_str().eq_ignore_ascii_case(wanted))
    });
    letters.sort_by_key(|(_, letter)| letter.dead_at);
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|(record, letter)| {
            vec![
                place(record),
                time(letter.dead_at),
                letter.role.clone(),
                letter.reason.as_str().to_owned(),
                format!("{}/{}/{}", letter.source_topic, letter.source_partition, letter.source_offset),
                letter.session_id.clone().unwrap_or_default(),
                letter.detail.clone(),
            ]
        })
        .collect();
    let values: Vec<Value> = letters
        .iter()
        .map(|(record, letter)| {
            json!({
                "place": place(record), "dead_at": time(letter.dead_at), "role": letter.role,
                "reason": letter.reason.as_str(), "detail": letter.detail, "source_topic": letter.source_topic,
                "source_partition": letter.source_partition, "source_offset": letter.source_offset,
                "session_id": letter.session_id, "message_id": letter.message_id,
            })
        })
        .collect();
    let heads = ["PLACE", "DEAD AT", "ROLE", "REASON", "SOURCE", "SESSION", "DETAIL"];
    Ok(printer.print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

async fn show(mut reader: Reader, printer: Printer, at: &str) -> Result<(), Failure> {
    let parsed = at.split_once('/').and_then(|(p, o)| Some((p.parse::<i32>().ok()?, o.parse::<i64>().ok()?)));
    let (partition, offset) = parsed
        .ok_or_else(|| Failure::Usage(format!("{at}: a place is partition/offset, for example 3/17")))?;
    let missing = || Failure::NotFound(format!("there is no dead letter at {at}"));
    if !(0..reader.partitions).contains(&partition) {
        return Err(missing());
    }
    let (low, end) = reader.tail.control().watermarks(partition).await.map_err(anyhow::Error::from)?;
    if !(low..end).contains(&offset) {
        return Err(missing());
    }
    let (record, letter) = reader.read(partition, offset, offset + 1).await?.pop().ok_or_else(missing)?;
    let headers: Value = letter
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::String(readable(&header_bytes(value)))))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let value = json!({
        "place": place(&record), "dead_at": time(letter.dead_at), "role": letter.role,
        "reason": letter.reason.as_str(), "detail": letter.detail,
        "source_topic": letter.source_topic, "source_partition": letter.source_partition,
        "source_offset": letter.source_offset, "source_timestamp": time(letter.source_timestamp),
        "session_id": letter.session_id, "message_id": letter.message_id,
        "key": letter.key.as_deref().map(readable), "headers": headers,
        "value_bytes": letter.value.as_ref().map(Vec::len),
        "value_hex": letter.value.as_ref().map(hex::encode),
        "value_text": letter.value.as_deref().map(readable),
    });
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    Ok(printer.print(&value, pretty).map_err(anyhow::Error::from)?)
}

fn place(record: &Record) -> String {
    format!("{}/{}", record.partition.number, record.offset)
}

/// Bytes as text, control characters and what is not UTF-8 replaced.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

struct Reader {
    tail: Tail,
    codec: Codec<DeadLetter>,
    partitions: i32,
}

type Letter = (Record, DeadLetter);

impl Reader {
    async fn open(settings: &Settings) -> Result<Self, Failure> {
        let names = settings.kafka.names();
        let codecs = match settings.registry.url {
            None => Codecs::fixed(),
            Some(_) => {
                let registry = Registry::open(&settings.registry).map_err(anyhow::Error::from)?;
                Codecs::open(registry, &names, Registration::LookUp).await.map_err(anyhow::Error::from)?
            }
        };
        let topic = names.get(Topic::DeadLetters);
        let tail =
            Tail::open(&settings.kafka, topic, tail::Options::default()).map_err(anyhow::Error::from)?;
        let partitions = tail.control().partition_count().await.map_err(anyhow::Error::from)?;
        Ok(Self { tail, codec: codecs.codec(Topic::DeadLetters), partitions })
    }

    /// The newest letters of each partition.
    async fn newest(&mut self, limit: i64) -> anyhow::Result<Vec<Letter>> {
        let mut all = Vec::new();
        for partition in 0..self.partitions {
            let (low, end) = self.tail.control().watermarks(partition).await?;
            let from = low.max(end - limit);
            if from < end {
                all.extend(self.read(partition, from, end).await?);
            }
        }
        Ok(all)
    }

    /// The letters of a partition from `from` up to `end`.
    async fn read(&mut self, partition: i32, from: i64, end: i64) -> anyhow::Result<Vec<Letter>> {
        let generation = self.tail.assign(partition, tail::From::Offset(from));
        let mut letters = Vec::new();
        loop {
            let event = self.tail.recv().await.ok_or_else(|| anyhow::anyhow!("reading has ended"))?;
            let done = match event {
                tail::Event::Records(batch) if batch.generation == generation => {
                    for record in batch.records.into_iter().filter(|record| record.offset < end) {
                        let letter = self.codec.decode_or_fetch(&record).await?;
                        letters.push((record, letter));
                    }
                    batch.next >= end
                }
                tail::Event::CaughtUp { generation: of, .. } => of == generation,
                tail::Event::Error(error @ tail::Error::Fatal(_)) => return Err(error.into()),
                _ => false,
            };
            if done {
                self.tail.unassign(partition);
                return Ok(letters);
            }
        }
    }
}
