//! `sluice in-doubt`: lists attempts nobody knows the outcome of, and lets an operator settle one.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_core::sender::ledger::Key;
use sluice_kafka::clock;
use sluice_kafka::record::Outgoing;
use sluice_kafka::tail;
use sluice_schemas::ids::event_id;
use sluice_schemas::topics::Topic;
use sluice_schemas::{ErrorClass, LedgerEntry, MessageStatus, SendError, Source, Status, headers, placement};
use uuid::Uuid;

use super::args::{Cli, InDoubt as Command, ResolveArgs, Verdict};
use super::desk::{ACK, Desk, Reader};
use super::failure::Failure;
use super::ledger::{Doubt, Ledger, Standing};
use super::output::{Printer, table, time};

pub(super) async fn run(cli: &Cli, command: &Command) -> Result<(), Failure> {
    let desk = Desk::open(cli.settings()?).await?;
    match command {
        Command::List { session, older_than } => {
            list(&desk, Printer::new(cli.output), session.as_deref(), *older_than).await
        }
        Command::Resolve(args) => resolve(&desk, Printer::new(cli.output), args).await,
    }
}

async fn list(
    desk: &Desk,
    printer: Printer,
    session: Option<&str>,
    older_than_ms: Option<i64>,
) -> Result<(), Failure> {
    let mut reader = desk.reader::<LedgerEntry>(Topic::OutboundLedger).await?;
    let partitions = match session {
        Some(session) => {
            let one = placement::partition_for(session.as_bytes(), reader.partitions);
            one..one + 1
        }
        None => 0..reader.partitions,
    };
    let now_ms = clock::wall_ms();
    let mut doubts = Vec::new();
    for partition in partitions {
        doubts.extend(read(&mut reader, partition).await?.doubts());
    }
    doubts.retain(|doubt| {
        session.is_none_or(|session| doubt.session_id == session)
            && older_than_ms.is_none_or(|ms| now_ms - doubt.claimed_at_ms >= ms)
    });
    doubts.sort_by_key(|doubt| (doubt.claimed_at_ms, doubt.id));
    let rows: Vec<Vec<String>> = doubts.iter().map(|doubt| row(doubt, now_ms)).collect();
    let values: Vec<Value> = doubts.iter().map(|doubt| value(doubt, now_ms)).collect();
    let heads = ["MESSAGE", "SESSION", "RECIPIENT", "CLAIM", "CLAIMED AT", "ATTEMPTS", "WAITS FOR"];
    Ok(printer.print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

/// What the ledger says of a partition.
async fn read(reader: &mut Reader<LedgerEntry>, partition: i32) -> Result<Ledger, Failure> {
    let mut ledger = Ledger::default();
    let take = |record: &sluice_kafka::record::Record, entry| {
        if let Some(key) = record.key.as_deref().and_then(Key::parse) {
            ledger.take(key, entry);
        }
    };
    reader.scan(partition, tail::From::Beginning, take).await?;
    Ok(ledger)
}

fn waits_for(doubt: &Doubt, now_ms: i64) -> String {
    if now_ms < doubt.decide_at_ms {
        format!("evidence, until {}", time(doubt.decide_at_ms))
    } else {
        "evidence, an operator, or the processor to catch up".to_owned()
    }
}

fn row(doubt: &Doubt, now_ms: i64) -> Vec<String> {
    vec![
        doubt.id.to_string(),
        doubt.session_id.clone(),
        doubt.recipient.clone(),
        format!("{}/{}", doubt.claim_epoch, doubt.claim_seq),
        time(doubt.claimed_at_ms),
        doubt.attempts.to_string(),
        waits_for(doubt, now_ms),
    ]
}

fn value(doubt: &Doubt, now_ms: i64) -> Value {
    json!({
        "message_id": doubt.id.to_string(), "session_id": doubt.session_id, "recipient": doubt.recipient,
        "claim_epoch": doubt.claim_epoch, "claim_seq": doubt.claim_seq, "claimed_at": time(doubt.claimed_at_ms),
        "decide_at": time(doubt.decide_at_ms), "age_ms": now_ms - doubt.claimed_at_ms,
        "attempts": doubt.attempts, "canceled": doubt.canceled, "waits_for": waits_for(doubt, now_ms),
    })
}

async fn resolve(desk: &Desk, printer: Printer, args: &ResolveArgs) -> Result<(), Failure> {
    let id = Uuid::try_parse(&args.id)
        .map_err(|_| Failure::Usage(format!("{}: a message id is a UUID", args.id)))?;
    if args.provider_message_id.is_some() && args.verdict != Verdict::Sent {
        return Err(Failure::Usage("--provider-message-id goes with --as sent".to_owned()));
    }
    let mut ledger = desk.reader::<LedgerEntry>(Topic::OutboundLedger).await?;
    let partition = placement::partition_for(args.session.as_bytes(), ledger.partitions);
    let doubt = in_doubt(&read(&mut ledger, partition).await?, id, args)?;
    let word = word(&doubt, args);
    // Followed from before the word stands in the log, so that what comes of it cannot be missed.
    let mut statuses = desk.reader::<MessageStatus>(Topic::MessagesStatus).await?;
    let (_, from) = statuses.bounds(partition).await?;
    let offset = write(desk, partition, &word).await?;
    let mut told = json!({
        "message_id": id.to_string(), "session_id": doubt.session_id, "as": args.verdict.as_str(),
        "claim_epoch": doubt.claim_epoch, "claim_seq": doubt.claim_seq, "event_id": word.event_id,
        "status_partition": partition, "status_offset": offset,
    });
    if args.wait {
        let limit = Duration::from_secs(args.timeout_s);
        let settled = statuses.until(partition, from, |status| settles(&doubt, status));
        let settled = tokio::time::timeout(limit, settled).await.map_err(|_| {
            anyhow::anyhow!(
                "the word stands in the log, but no sender has settled message {id} within {} s: is one running? It \
                 will when it does",
                args.timeout_s
            )
        })??;
        told["settled"] = json!(settled.as_str());
        if settled != word.status {
            let otherwise = format!("message {id} was settled otherwise: it is {}", settled.as_str());
            return Err(Failure::Refused(otherwise));
        }
    }
    let text = |told: &Value| match told["settled"].as_str() {
        Some(settled) => format!("{id} settled: {settled}"),
        None => {
            format!("{id}: the word stands in the log; `sluice message trace {id}` shows what comes of it")
        }
    };
    Ok(printer.print(&told, text).map_err(anyhow::Error::from)?)
}

/// The doubt of the message, or why there is none to settle.
fn in_doubt(ledger: &Ledger, id: Uuid, args: &ResolveArgs) -> Result<Doubt, Failure> {
    if let Some(session) = ledger.session_of(&id).filter(|session| *session != args.session) {
        return Err(Failure::Refused(format!("message {id} is one of session {session}")));
    }
    match ledger.standing(&id) {
        Standing::InDoubt(doubt) if doubt.canceled && args.verdict == Verdict::Resend => Err(
            Failure::Refused(format!("message {id} is canceled: it can be settled as sent or failed only")),
        ),
        Standing::InDoubt(doubt) => Ok(doubt),
        Standing::Done(outcome) => {
            Err(Failure::Refused(format!("message {id} is not in doubt: it is {}", outcome.as_str())))
        }
        Standing::Open(_) => Err(Failure::Refused(format!(
            "message {id} is not in doubt: it waits, or its call is under way. If its sender died, the next one \
             states the doubt when it takes over"
        ))),
        Standing::Unknown => Err(Failure::NotFound(format!(
            "the ledger knows no message {id} of session {}; what ended long ago is in `sluice message get`",
            args.session
        ))),
    }
}

/// The operator's word as a fact.
fn word(doubt: &Doubt, args: &ResolveArgs) -> MessageStatus {
    let id = doubt.id.to_string();
    let claim = (doubt.claim_epoch.to_string(), doubt.claim_seq.to_string());
    let now_ms = clock::wall_ms();
    let note = args.note.as_ref().map(|note| SendError {
        class: ErrorClass::Uncertain,
        code: "operator".to_owned(),
        detail: Some(note.clone()),
        ..SendError::default()
    });
    MessageStatus {
        event_id: event_id(&[&id, "OPERATOR", args.verdict.as_str(), &claim.0, &claim.1]).to_string(),
        message_id: Some(id),
        session_id: doubt.session_id.clone(),
        status: args.verdict.status(),
        occurred_at: now_ms,
        observed_at: now_ms,
        source: Source::Operator,
        provider_message_id: args.provider_message_id.clone(),
        claim_epoch: Some(doubt.claim_epoch),
        claim_seq: Some(doubt.claim_seq),
        error: note,
        ..MessageStatus::default()
    }
}

async fn write(desk: &Desk, partition: i32, word: &MessageStatus) -> Result<i64, Failure> {
    let value = desk.codecs.codec(Topic::MessagesStatus).encode(word);
    let id = word.message_id.as_deref().unwrap_or_default();
    let record = Outgoing {
        topic: desk.names.get(Topic::MessagesStatus),
        partition: Some(partition),
        key: Some(word.session_id.as_bytes()),
        value: Some(&value),
        headers: &[
            (headers::SOURCE, word.source.as_str().as_bytes()),
            (headers::EVENT_TYPE, word.status.as_str().as_bytes()),
            (headers::SESSION_ID, word.session_id.as_bytes()),
            (headers::MESSAGE_ID, id.as_bytes()),
        ],
    };
    let position = desk.producer()?.send_and_wait(record, ACK).await.map_err(anyhow::Error::from)?;
    Ok(position.offset)
}

/// The status with which a sender settles the doubt, whoever's word it took.
fn settles(doubt: &Doubt, status: &MessageStatus) -> Option<Status> {
    let is_sender = status.source == Source::Sender;
    let of_message = status.message_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) == Some(doubt.id);
    let of_claim = (status.claim_epoch, status.claim_seq) == (Some(doubt.claim_epoch), Some(doubt.claim_seq));
    let is_end =
        matches!(status.status, Status::Submitted | Status::Failed | Status::Retrying | Status::Held);
    (is_sender && of_message && of_claim && is_end).then_some(status.status)
}
