//! `sluice dead-letters replay`: dead records go back to the topics they came from, whole.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_kafka::dead_letters::{REPLAY_COUNT, REPLAY_OF, header_bytes};
use sluice_kafka::producer::{Producer, Waiting};
use sluice_kafka::record::Outgoing;
use sluice_schemas::DeadLetter;
use sluice_schemas::topics::{Names, Topic};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::args::ReplayArgs;
use super::dead_letters::{Filter, Letter, at, find, place};
use super::desk::{ACK, Desk};
use super::failure::Failure;
use super::output::{Printer, table};

/// Records under way at once.
const UNDER_WAY_MAX: usize = 200;
/// How often long work says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Why a letter stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It was replayed as often as allowed.
    TooOften,
    /// It came from a topic that is none of ours.
    ForeignTopic,
}

impl Left {
    fn as_str(self) -> &'static str {
        match self {
            Self::TooOften => "replayed too often (--replays-max)",
            Self::ForeignTopic => "from a topic that is none of Sluice's",
        }
    }
}

pub(super) async fn run(desk: &Desk, printer: Printer, args: &ReplayArgs) -> Result<(), Failure> {
    if args.places.is_empty() && args.filter.is_empty() && !args.all {
        return Err(Failure::Usage("give places, a filter, or --all".to_owned()));
    }
    if !args.places.is_empty() && (args.all || !args.filter.is_empty()) {
        return Err(Failure::Usage("give places, or filters, not both".to_owned()));
    }
    let mut reader = desk.reader::<DeadLetter>(Topic::DeadLetters).await?;
    let mut letters = Vec::new();
    if args.places.is_empty() {
        letters = find(&mut reader, &Filter::new(&args.filter, &desk.names), usize::MAX).await?;
    }
    for one in &args.places {
        letters.push(at(&mut reader, one).await?);
    }
    let (mut back, mut left) = (Vec::new(), Vec::new());
    for letter in letters {
        match left_out(&letter.1, &desk.names, args.replays_max) {
            None => back.push(letter),
            Some(why) => left.push((place(&letter.0), why)),
        }
    }
    let written = match args.dry_run {
        true => Ok(()),
        false => write_all(desk, &back, args.rate).await,
    };
    let done = match &written {
        Ok(()) => back.len(),
        Err((done, _)) => *done,
    };
    report(printer, args, &back[..done], &left)?;
    written.map_err(|(done, error)| {
        Failure::Failed(error.context(format!("stopped after {done} of {} records", back.len())))
    })
}

fn left_out(letter: &DeadLetter, names: &Names, replays_max: u32) -> Option<Left> {
    if !Topic::all().any(|topic| names.get(topic) == letter.source_topic) {
        return Some(Left::ForeignTopic);
    }
    let replays = u32::try_from(letter.replay_count).unwrap_or(0);
    (replays >= replays_max).then_some(Left::TooOften)
}

/// Writes them in order, no faster than `rate` a second; how many are acknowledged if it fails.
async fn write_all(desk: &Desk, letters: &[Letter], rate: u32) -> Result<(), (usize, anyhow::Error)> {
    let producer = desk.producer().map_err(|failure| (0, anyhow::anyhow!("{failure}")))?;
    let from = desk.names.get(Topic::DeadLetters);
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut done, mut said) = (0, Instant::now());
    for chunk in letters.chunks(UNDER_WAY_MAX) {
        let mut waiting: Vec<Waiting> = Vec::with_capacity(chunk.len());
        let mut failed = None;
        for letter in chunk {
            ticks.tick().await;
            match write(&producer, from, letter) {
                Ok(sent) => waiting.push(sent),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for sent in waiting {
            sent.wait(ACK).await.map_err(|error| (done, error.into()))?;
            done += 1;
        }
        if let Some(error) = failed {
            return Err((done, error));
        }
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            eprintln!("{done} of {} records are back", letters.len());
        }
    }
    Ok(())
}

/// The record as it was, and where it comes from.
fn write(producer: &Producer<()>, from: &str, (record, letter): &Letter) -> anyhow::Result<Waiting> {
    let origin = format!("{from}/{}", place(record));
    let headers = headers(letter, &origin);
    let list: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let outgoing = Outgoing {
        topic: &letter.source_topic,
        partition: Some(letter.source_partition),
        key: letter.key.as_deref(),
        value: letter.value.as_deref(),
        headers: &list,
    };
    Ok(producer.send_later(outgoing)?)
}

fn headers(letter: &DeadLetter, origin: &str) -> Vec<(String, Vec<u8>)> {
    let kept = letter.headers.iter().filter(|(name, _)| *name != REPLAY_OF && *name != REPLAY_COUNT);
    let mut all: Vec<(String, Vec<u8>)> =
        kept.map(|(name, value)| (name.clone(), header_bytes(value))).collect();
    all.push((REPLAY_OF.to_owned(), origin.as_bytes().to_vec()));
    all.push((REPLAY_COUNT.to_owned(), letter.replay_count.saturating_add(1).to_string().into_bytes()));
    all
}

fn report(
    printer: Printer,
    args: &ReplayArgs,
    back: &[Letter],
    left: &[(String, Left)],
) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = back
        .iter()
        .map(|(record, letter)| {
            vec![
                place(record),
                letter.reason.as_str().to_owned(),
                format!("{}/{}", letter.source_topic, letter.source_partition),
                (letter.replay_count + 1).to_string(),
            ]
        })
        .collect();
    let told = json!({
        "dry_run": args.dry_run,
        "replayed": back.iter().map(|(record, letter)| json!({
            "place": place(record), "reason": letter.reason.as_str(), "topic": letter.source_topic,
            "partition": letter.source_partition, "replay_count": letter.replay_count + 1,
        })).collect::<Vec<_>>(),
        "left_out": left.iter().map(|(place, why)| json!({"place": place, "why": why.as_str()})).collect::<Vec<_>>(),
    });
    let text = |_: &Value| {
        let verb = if args.dry_run { "would go back" } else { "are back" };
        let mut text = format!("{} records {verb}, {} left out\n", back.len(), left.len());
        if !rows.is_empty() {
            text.push_str(&table(&["PLACE", "REASON", "TO", "REPLAY"], &rows));
        }
        for (place, why) in left {
            text.push_str(&format!("{place} left out: {}\n", why.as_str()));
        }
        text
    };
    Ok(printer.print(&told, text).map_err(anyhow::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(replay_count: i32) -> DeadLetter {
        let names = Names::default();
        DeadLetter {
            source_topic: names.get(Topic::OutboundRequests).to_owned(),
            headers: [
                ("a".to_owned(), "1".to_owned()),
                ("b".to_owned(), "base64:/w==".to_owned()),
                (REPLAY_OF.to_owned(), "old".to_owned()),
                (REPLAY_COUNT.to_owned(), replay_count.to_string()),
            ]
            .into(),
            replay_count,
            ..DeadLetter::default()
        }
    }

    #[test]
    fn a_replayed_record_keeps_its_headers_and_says_where_it_comes_from() {
        let expected =
            [("a", &b"1"[..]), ("b", &[0xff]), (REPLAY_OF, b"wa.dead-letters/3/17"), (REPLAY_COUNT, b"3")];
        let made = headers(&letter(2), "wa.dead-letters/3/17");
        let made: Vec<_> = made.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(made, expected);
    }

    #[test]
    fn what_was_replayed_too_often_or_is_not_ours_stays() {
        let names = Names::default();
        assert_eq!(left_out(&letter(2), &names, 3), None);
        assert_eq!(left_out(&letter(3), &names, 3), Some(Left::TooOften));
        let foreign = DeadLetter { source_topic: "billing".into(), ..letter(0) };
        assert_eq!(left_out(&foreign, &names, 3), Some(Left::ForeignTopic));
    }
}
