//! `sluice dead-letters`: listing and showing; `replay` puts them back.

use std::collections::VecDeque;

use serde_json::{Value, json};
use sluice_kafka::clock;
use sluice_kafka::dead_letters::header_bytes;
use sluice_kafka::record::Record;
use sluice_kafka::tail;
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{DeadLetter, headers};

use super::args::{Cli, DeadLetters as Command, LetterFilter};
use super::desk::{Desk, Reader};
use super::failure::Failure;
use super::output::{Printer, table, time};
use super::replay;

/// A dead letter and the record that carries it.
pub(super) type Letter = (Record, DeadLetter);

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let desk = Desk::open(cli.settings()?).await?;
    let printer = Printer::new(cli.output);
    match command {
        Command::List { limit, filter } => list(&desk, printer, *limit, filter).await,
        Command::Show { place } => show(&desk, printer, place).await,
        Command::Replay(args) => replay::run(&desk, printer, args).await,
    }
}

/// What a filter means on these topics at this time.
pub(super) struct Filter<'a> {
    asked: &'a LetterFilter,
    names: &'a Names,
    now_ms: i64,
}

impl<'a> Filter<'a> {
    pub(super) fn new(asked: &'a LetterFilter, names: &'a Names) -> Self {
        Self { asked, names, now_ms: clock::wall_ms() }
    }

    /// Where reading begins.
    fn from(&self) -> tail::From {
        self.asked
            .since
            .map_or(tail::From::Beginning, |since| tail::From::Timestamp(since.ms(self.now_ms).max(0)))
    }

    pub(super) fn fits(&self, letter: &DeadLetter) -> bool {
        let asked = self.asked;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let is_of_topic = asked.topic.as_deref().is_none_or(|wanted| {
            let named = Topic::all().find(|topic| topic.spec().suffix == wanted);
            letter.source_topic == wanted
                || named.is_some_and(|topic| self.names.get(topic) == letter.source_topic)
        });
        let wanted_reason = asked.reason.as_deref();
        is_of_topic
            && wanted_reason.is_none_or(|wanted| letter.reason.as_str().eq_ignore_ascii_case(wanted))
            && is(&asked.session, letter.session_id.as_deref())
            && is(&asked.tenant, letter.headers.get(headers::TENANT_ID).map(String::as_str))
            && asked.since.is_none_or(|since| letter.dead_at >= since.ms(self.now_ms))
            && asked.until.is_none_or(|until| letter.dead_at < until.ms(self.now_ms))
    }
}

/// The letters that fit, the newest `limit` of each partition, by the time of death.
pub(super) async fn find(
    reader: &mut Reader<DeadLetter>,
    filter: &Filter<'_>,
    limit: usize,
) -> Result<Vec<Letter>, Failure> {
    let mut all = Vec::new();
    for partition in 0..reader.partitions {
        let (low, end) = reader.bounds(partition).await?;
        let newest = end.saturating_sub(i64::try_from(limit).unwrap_or(i64::MAX)).max(low);
        let from = if filter.asked.is_empty() { tail::From::Offset(newest) } else { filter.from() };
        let mut kept = VecDeque::new();
        let take = |record: &Record, letter: Option<DeadLetter>| {
            if let Some(letter) = letter.filter(|letter| filter.fits(letter)) {
                kept.push_back((record.clone(), letter));
                if kept.len() > limit {
                    kept.pop_front();
                }
            }
        };
        reader.scan_to(partition, (from, low), end, take).await?;
        all.extend(kept);
    }
    all.sort_by_key(|(_, letter)| letter.dead_at);
    Ok(all)
}

/// The letter at a place.
pub(super) async fn at(reader: &mut Reader<DeadLetter>, place: &str) -> Result<Letter, Failure> {
    let parsed =
        place.split_once('/').and_then(|(p, o)| Some((p.parse::<i32>().ok()?, o.parse::<i64>().ok()?)));
    let (partition, offset) = parsed
        .ok_or_else(|| Failure::Usage(format!("{place}: a place is partition/offset, for example 3/17")))?;
    let missing = || Failure::NotFound(format!("there is no dead letter at {place}"));
    if !(0..reader.partitions).contains(&partition) {
        return Err(missing());
    }
    let (low, end) = reader.bounds(partition).await?;
    if !(low..end).contains(&offset) {
        return Err(missing());
    }
    let mut found = None;
    let take = |record: &Record, letter: Option<DeadLetter>| {
        found = letter.filter(|_| record.offset == offset).map(|letter| (record.clone(), letter));
    };
    reader.scan_to(partition, (tail::From::Offset(offset), offset), offset + 1, take).await?;
    found.ok_or_else(missing)
}

async fn list(desk: &Desk, printer: Printer, limit: u32, filter: &LetterFilter) -> Result<(), Failure> {
    let mut reader = desk.reader::<DeadLetter>(Topic::DeadLetters).await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let letters = find(&mut reader, &Filter::new(filter, &desk.names), limit).await?;
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
                "replay_count": letter.replay_count,
            })
        })
        .collect();
    let heads = ["PLACE", "DEAD AT", "ROLE", "REASON", "SOURCE", "SESSION", "DETAIL"];
    Ok(printer.print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

async fn show(desk: &Desk, printer: Printer, place_text: &str) -> Result<(), Failure> {
    let mut reader = desk.reader::<DeadLetter>(Topic::DeadLetters).await?;
    let (record, letter) = at(&mut reader, place_text).await?;
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
        "replay_of": letter.replay_of, "replay_count": letter.replay_count,
        "key": letter.key.as_deref().map(readable), "headers": headers,
        "value_bytes": letter.value.as_ref().map(Vec::len),
        "value_hex": letter.value.as_ref().map(hex::encode),
        "value_text": letter.value.as_deref().map(readable),
    });
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    Ok(printer.print(&value, pretty).map_err(anyhow::Error::from)?)
}

/// Where a letter stands, as it is printed.
pub(super) fn place(record: &Record) -> String {
    format!("{}/{}", record.partition.number, record.offset)
}

/// Bytes as text, control characters and what is not UTF-8 replaced.
pub(super) fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::when::When;

    fn filter() -> LetterFilter {
        LetterFilter { topic: None, reason: None, session: None, tenant: None, since: None, until: None }
    }

    #[test]
    fn each_filter_lets_through_what_it_names_and_nothing_else() {
        let names = Names::default();
        let letter = DeadLetter {
            source_topic: names.get(Topic::OutboundRequests).to_owned(),
            session_id: Some("s1".into()),
            headers: [(headers::TENANT_ID.to_owned(), "acme".to_owned())].into(),
            dead_at: 100,
            ..DeadLetter::default()
        };
        let some = |text: &str| Some(text.to_owned());
        let cases = [
            (filter(), true),
            (LetterFilter { topic: some("outbound.requests"), ..filter() }, true),
            (LetterFilter { topic: some("wa.outbound.requests"), ..filter() }, true),
            (LetterFilter { topic: some("webhooks.inbound"), ..filter() }, false),
            (LetterFilter { reason: some("unknown"), ..filter() }, true),
            (LetterFilter { reason: some("UNDECODABLE"), ..filter() }, false),
            (LetterFilter { session: some("s1"), tenant: some("acme"), ..filter() }, true),
            (LetterFilter { session: some("s2"), ..filter() }, false),
            (LetterFilter { tenant: some("other"), ..filter() }, false),
            (LetterFilter { since: Some(When::At(100)), until: Some(When::At(101)), ..filter() }, true),
            (LetterFilter { since: Some(When::At(101)), ..filter() }, false),
            (LetterFilter { until: Some(When::At(100)), ..filter() }, false),
        ];
        for (asked, fits) in cases {
            assert_eq!(Filter::new(&asked, &names).fits(&letter), fits, "{asked:?}");
        }
    }
}
