//! `sluice message trace`: what the topics tell of one message, in order of time.

use std::collections::HashSet;

use serde_json::{Value, json};
use sluice_core::sender::ledger::Key;
use sluice_kafka::clock;
use sluice_kafka::record::Record;
use sluice_kafka::tail;
use sluice_schemas::topics::Topic;
use sluice_schemas::{InboundWebhook, LedgerEntry, MessageState, MessageStatus, OutboundCommand, placement};
use uuid::Uuid;

use super::args::{Cli, TraceArgs};
use super::desk::Desk;
use super::failure::Failure;
use super::output::{Printer, table, time};

/// One thing a topic tells.
#[derive(Debug, Clone)]
struct Step {
    at_ms: i64,
    topic: &'static str,
    place: String,
    what: String,
    detail: String,
}

impl Step {
    fn of(record: &Record, topic: Topic, what: impl Into<String>, detail: Vec<(&str, String)>) -> Self {
        let words: Vec<String> = detail
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Self {
            at_ms: record.timestamp_ms,
            topic: topic.spec().suffix,
            place: format!("{}/{}", record.partition.number, record.offset),
            what: what.into(),
            detail: words.join(" "),
        }
    }
}

pub(super) async fn run(cli: &Cli, args: &TraceArgs) -> Result<(), Failure> {
    let id = Uuid::try_parse(&args.id)
        .map_err(|_| Failure::Usage(format!("{}: a message id is a UUID", args.id)))?;
    let desk = Desk::open(cli.settings()?).await?;
    let mut trace = Trace { desk, id, since_ms: args.since.ms(clock::wall_ms()).max(0), steps: Vec::new() };
    let session = trace.state().await?;
    let session = args.session.clone().or(session).ok_or_else(|| {
        Failure::NotFound(format!(
            "messages.state knows no message {id}: give its --session, or wait for the reducer"
        ))
    })?;
    trace.of_session(&session).await?;
    let mut steps = trace.steps;
    if steps.is_empty() {
        return Err(Failure::NotFound(format!("no topic knows message {id} of session {session}")));
    }
    steps.sort_by_key(|step| step.at_ms);
    print(Printer::new(cli.output), &steps)
}

fn print(printer: Printer, steps: &[Step]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = steps
        .iter()
        .map(|step| {
            let Step { topic, place, what, detail, .. } = step;
            vec![time(step.at_ms), (*topic).to_owned(), place.clone(), what.clone(), detail.clone()]
        })
        .collect();
    let values: Vec<Value> = steps
        .iter()
        .map(|step| {
            json!({
                "at": time(step.at_ms), "topic": step.topic, "place": step.place, "what": step.what,
                "detail": step.detail,
            })
        })
        .collect();
    let heads = ["TIME", "TOPIC", "PLACE", "WHAT", "DETAIL"];
    Ok(printer.print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

struct Trace {
    desk: Desk,
    id: Uuid,
    since_ms: i64,
    steps: Vec<Step>,
}

impl Trace {
    /// The folded states; the session they name.
    async fn state(&mut self) -> Result<Option<String>, Failure> {
        let id = self.id.to_string();
        let mut reader = self.desk.reader::<MessageState>(Topic::MessagesState).await?;
        let partition = placement::partition_for(id.as_bytes(), reader.partitions);
        let (steps, mut session) = (&mut self.steps, None);
        let take = |record: &Record, state: Option<MessageState>| {
            let Some(state) = state.filter(|state| state.message_id == id) else { return };
            steps.push(Step::of(
                record,
                Topic::MessagesState,
                state.status.as_str(),
                vec![
                    ("revision", state.revision.to_string()),
                    ("in_doubt", if state.in_doubt { "true".to_owned() } else { String::new() }),
                ],
            ));
            session = Some(state.session_id);
        };
        reader.scan(partition, tail::From::Beginning, take).await?;
        Ok(session)
    }

    async fn of_session(&mut self, session: &str) -> Result<(), Failure> {
        let mut request = self.ledger(session).await?;
        let (from_status, webhooks) = self.statuses(session).await?;
        request = request.or(from_status);
        if let Some(offset) = request {
            self.request(session, offset).await?;
        }
        self.webhooks(&webhooks).await
    }

    /// The ledger's records; the offset of the request.
    async fn ledger(&mut self, session: &str) -> Result<Option<i64>, Failure> {
        let mut reader = self.desk.reader::<LedgerEntry>(Topic::OutboundLedger).await?;
        let partition = placement::partition_for(session.as_bytes(), reader.partitions);
        let (id, steps, mut request) = (self.id, &mut self.steps, None);
        let take = |record: &Record, entry: Option<LedgerEntry>| {
            let Some(key) = record.key.as_deref().and_then(Key::parse) else { return };
            let of = match key {
                Key::Accepted(of) | Key::Done(of) | Key::Cancel(of) | Key::State(of, _) => of,
                Key::Fence | Key::Released | Key::Identity => return,
            };
            if of != id {
                return;
            }
            let Some(entry) = entry else {
                steps.push(Step::of(
                    record,
                    Topic::OutboundLedger,
                    "tombstone",
                    vec![("key", key.to_string())],
                ));
                return;
            };
            request = request.or(entry.request_offset.filter(|offset| *offset >= 0));
            steps.push(Step::of(record, Topic::OutboundLedger, entry.kind.as_str(), entry_detail(&entry)));
        };
        reader.scan(partition, tail::From::Beginning, take).await?;
        Ok(request)
    }

    /// The facts, receipts without our id too; the offset of the request, and the webhooks that told some.
    async fn statuses(&mut self, session: &str) -> Result<(Option<i64>, HashSet<String>), Failure> {
        let mut reader = self.desk.reader::<MessageStatus>(Topic::MessagesStatus).await?;
        let partition = placement::partition_for(session.as_bytes(), reader.partitions);
        let id = self.id.to_string();
        let (mut own, mut nameless) = (Vec::new(), Vec::new());
        let take = |record: &Record, status: Option<MessageStatus>| {
            let Some(status) = status.filter(|status| status.session_id == session) else { return };
            match &status.message_id {
                Some(of) if *of == id => own.push((record.clone(), status)),
                Some(_) => {}
                None => nameless.push((record.clone(), status)),
            }
        };
        reader.scan(partition, tail::From::Timestamp(self.since_ms), take).await?;
        // A receipt names the message by an id that one of its own facts tells, earlier or later.
        let ids = |pick: fn(&MessageStatus) -> &Option<String>| -> HashSet<String> {
            own.iter().filter_map(|(_, status)| pick(status).clone()).collect()
        };
        let whatsapp = ids(|status| &status.whatsapp_message_id);
        let provider = ids(|status| &status.provider_message_id);
        let evidence = ids(|status| &status.evidence_event_id);
        nameless.retain(|(_, status)| {
            status.whatsapp_message_id.as_ref().is_some_and(|id| whatsapp.contains(id))
                || status.provider_message_id.as_ref().is_some_and(|id| provider.contains(id))
                || evidence.contains(&status.event_id)
        });
        let (mut request, mut webhooks) = (None, HashSet::new());
        for (record, status) in own.iter().chain(&nameless) {
            request = request.or(status.request_offset.filter(|offset| *offset >= 0));
            webhooks.extend(status.webhook_id.clone());
            self.steps.push(Step::of(
                record,
                Topic::MessagesStatus,
                status.status.as_str(),
                status_detail(status),
            ));
        }
        Ok((request, webhooks))
    }

    /// The request itself, if it is still there.
    async fn request(&mut self, session: &str, offset: i64) -> Result<(), Failure> {
        let mut reader = self.desk.reader::<OutboundCommand>(Topic::OutboundRequests).await?;
        let partition = placement::partition_for(session.as_bytes(), reader.partitions);
        let (low, end) = reader.bounds(partition).await?;
        if !(low..end).contains(&offset) {
            return Ok(());
        }
        let steps = &mut self.steps;
        let take = |record: &Record, command: Option<OutboundCommand>| {
            let Some(command) = command.filter(|_| record.offset == offset) else { return };
            let detail = vec![
                ("key", command.idempotency_key.clone()),
                ("to", command.to.clone().unwrap_or_default()),
                ("content", command.content_type.as_str().to_owned()),
                ("send_at", command.send_at.map(time).unwrap_or_default()),
                ("expires_at", command.expires_at.map(time).unwrap_or_default()),
            ];
            steps.push(Step::of(record, Topic::OutboundRequests, command.command.as_str(), detail));
        };
        reader.scan_to(partition, (tail::From::Offset(offset), offset), offset + 1, take).await
    }

    /// The webhooks that told some of the facts.
    async fn webhooks(&mut self, wanted: &HashSet<String>) -> Result<(), Failure> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut reader = self.desk.reader::<InboundWebhook>(Topic::WebhooksInbound).await?;
        let steps = &mut self.steps;
        for partition in 0..reader.partitions {
            let take = |record: &Record, webhook: Option<InboundWebhook>| {
                let Some(webhook) = webhook.filter(|webhook| wanted.contains(&webhook.webhook_id)) else {
                    return;
                };
                let detail = vec![
                    ("webhook_id", webhook.webhook_id),
                    ("signature", webhook.signature.as_str().to_owned()),
                    ("bytes", webhook.body.len().to_string()),
                ];
                steps.push(Step::of(record, Topic::WebhooksInbound, webhook.provider.as_str(), detail));
            };
            reader.scan(partition, tail::From::Timestamp(self.since_ms), take).await?;
        }
        Ok(())
    }
}

fn claim(epoch: Option<i64>, seq: Option<i64>) -> String {
    seq.map(|seq| epoch.map_or_else(|| seq.to_string(), |epoch| format!("{epoch}/{seq}"))).unwrap_or_default()
}

fn entry_detail(entry: &LedgerEntry) -> Vec<(&'static str, String)> {
    let named = entry.outcome != sluice_schemas::Status::Unknown;
    vec![
        ("epoch", entry.epoch.to_string()),
        ("claim", claim(entry.claim_epoch.or(Some(entry.epoch)), entry.claim_seq)),
        ("attempt", entry.attempt.map(|n| n.to_string()).unwrap_or_default()),
        ("not_before", entry.not_before.map(time).unwrap_or_default()),
        ("outcome", if named { entry.outcome.as_str().to_owned() } else { String::new() }),
        ("reason", entry.reason.clone().unwrap_or_default()),
        ("provider_message_id", entry.provider_message_id.clone().unwrap_or_default()),
        ("canceled", if entry.canceled { "true".to_owned() } else { String::new() }),
    ]
}

fn status_detail(status: &MessageStatus) -> Vec<(&'static str, String)> {
    let error = status.error.as_ref();
    vec![
        ("source", status.source.as_str().to_owned()),
        ("claim", claim(status.claim_epoch, status.claim_seq)),
        ("attempt", status.attempt.map(|n| n.to_string()).unwrap_or_default()),
        ("http", status.http_status.map(|n| n.to_string()).unwrap_or_default()),
        ("provider_message_id", status.provider_message_id.clone().unwrap_or_default()),
        ("whatsapp_message_id", status.whatsapp_message_id.clone().unwrap_or_default()),
        ("waits_for", status.wait_reason.clone().unwrap_or_default()),
        ("until", status.wait_until.map(time).unwrap_or_default()),
        ("evidence", status.evidence_event_id.clone().unwrap_or_default()),
        ("error", error.map(|error| error.code.clone()).unwrap_or_default()),
        (
            "detail",
            error.and_then(|error| error.detail.clone()).map(|text| format!("{text:?}")).unwrap_or_default(),
        ),
        ("webhook", status.webhook_id.clone().unwrap_or_default()),
    ]
}
