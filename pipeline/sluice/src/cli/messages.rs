//! `sluice send` and `sluice message`.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use sluice_kafka::tail::{self, Tail};
use sluice_schemas::topics::Topic;
use sluice_schemas::{MessageStatus, Status, placement};
use uuid::Uuid;

use super::args::{Cli, Message, SendArgs};
use super::failure::Failure;
use super::inside::{Call, Inside, segment};
use super::output::{Printer, time};
use super::trace;

/// Statuses on the way to READ, in their order.
const WAY: [Status; 6] =
    [Status::Accepted, Status::Submitted, Status::Sent, Status::Delivered, Status::Read, Status::Played];

pub(super) async fn send(cli: &Cli, args: &SendArgs) -> Result<(), Failure> {
    let wanted = args.wait.as_deref().map(status_named).transpose()?;
    let key = args.key.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    let inside = Inside::open(cli.settings()?).await?;
    // Statuses are followed from before the request stands in the log, so that none can be missed.
    let follower = match wanted {
        Some(wanted) => Some((wanted, Follower::open(&inside, &args.session).await?)),
        None => None,
    };
    let path = format!("/v1/sessions/{}/messages", segment(&args.session));
    let body = json!({"to": args.to, "text": args.text}).to_string();
    let call =
        Call { method: Method::POST, path: &path, idempotency_key: Some(&key), body: Some(body.as_bytes()) };
    let answer = inside.call(call).await;
    let outcome = match (answer, follower) {
        (Ok(accepted), Some((wanted, follower))) => {
            let limit = Duration::from_secs(args.timeout_s);
            let result = tokio::time::timeout(limit, follower.until(&accepted, wanted)).await;
            result.unwrap_or_else(|_| {
                Err(Failure::Failed(anyhow::anyhow!(
                    "message {} did not come to {} within {} s; it goes on: `sluice message get` shows it",
                    accepted["message_id"].as_str().unwrap_or_default(),
                    wanted.as_str(),
                    args.timeout_s
                )))
            })
        }
        (answer, _) => answer,
    };
    inside.close().await;
    let text = |value: &Value| {
        let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} key={}", field("message_id"), field("status"), field("idempotency_key"))
    };
    Ok(Printer::new(cli.output).print(&outcome?, text).map_err(anyhow::Error::from)?)
}

fn status_named(name: &str) -> Result<Status, Failure> {
    let found = WAY.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(name));
    found.ok_or_else(|| {
        let names: Vec<_> = WAY.iter().map(|status| status.as_str()).collect();
        Failure::Usage(format!("--wait {name}: wait for one of {}", names.join(", ")))
    })
}

/// What a status means for someone who waits for another.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Reached,
    Ended,
    OnTheWay,
}

fn progress(status: Status, wanted: Status) -> Progress {
    let place = |status| WAY.iter().position(|step| *step == status);
    match status {
        Status::Failed | Status::Expired | Status::Canceled | Status::Skipped | Status::DuplicateConflict => {
            Progress::Ended
        }
        _ if place(status).is_some_and(|at| Some(at) >= place(wanted)) => Progress::Reached,
        _ => Progress::OnTheWay,
    }
}

/// Follows the statuses of one session.
struct Follower {
    tail: Tail,
    codec: sluice_kafka::registry::Codec<MessageStatus>,
    whatsapp_ids: Vec<String>,
}

impl Follower {
    async fn open(inside: &Inside, session_id: &str) -> Result<Self, Failure> {
        let deps = &inside.deps;
        let partitions = deps.brokers.checked().await?;
        let topic = deps.names.get(Topic::MessagesStatus);
        let tail =
            Tail::open(&deps.settings.kafka, topic, tail::Options::default()).map_err(anyhow::Error::from)?;
        let number = placement::partition_for(session_id.as_bytes(), partitions);
        let (_, end) = tail.control().watermarks(number).await.map_err(anyhow::Error::from)?;
        tail.assign(number, tail::From::Offset(end));
        Ok(Self { tail, codec: deps.codecs.codec(Topic::MessagesStatus), whatsapp_ids: Vec::new() })
    }

    /// Waits until the message accepted has come to `wanted` or has ended.
    async fn until(mut self, accepted: &Value, wanted: Status) -> Result<Value, Failure> {
        let message_id = accepted["message_id"].as_str().unwrap_or_default().to_owned();
        loop {
            let event = self.tail.recv().await;
            let event = event.ok_or_else(|| anyhow::anyhow!("reading the statuses has ended"))?;
            let tail::Event::Records(records) = event else { continue };
            for record in &records.records {
                let Ok(fact) = self.codec.decode_or_fetch(record).await else { continue };
                if !self.is_of(&fact, &message_id) {
                    continue;
                }
                eprintln!("{} {}", time(fact.occurred_at), fact.status.as_str());
                match progress(fact.status, wanted) {
                    Progress::OnTheWay => {}
                    Progress::Reached => {
                        let mut reached = accepted.clone();
                        reached["status"] = json!(fact.status.as_str());
                        return Ok(reached);
                    }
                    Progress::Ended => {
                        let why = fact.error.map(|error| format!(": {}", error.code)).unwrap_or_default();
                        let ended = format!("message {message_id} is {}{why}", fact.status.as_str());
                        return Err(Failure::Failed(anyhow::anyhow!(ended)));
                    }
                }
            }
        }
    }

    /// Whether a fact is about the message. Receipts name it only by its id in WhatsApp, which an earlier fact
    /// told.
    fn is_of(&mut self, fact: &MessageStatus, message_id: &str) -> bool {
        let whatsapp = fact.whatsapp_message_id.as_ref();
        match &fact.message_id {
            Some(id) if id == message_id => {
                self.whatsapp_ids.extend(whatsapp.cloned());
                true
            }
            Some(_) => false,
            None => whatsapp.is_some_and(|id| self.whatsapp_ids.contains(id)),
        }
    }
}

pub(super) async fn message(cli: &Cli, command: &Message) -> Result<(), Failure> {
    let (method, path) = match command {
        Message::Trace(args) => return trace::run(cli, args).await,
        Message::Get { id } => (Method::GET, format!("/v1/messages/{}", segment(id))),
        Message::Cancel { id, session } => {
            (Method::POST, format!("/v1/sessions/{}/messages/{}/cancel", segment(session), segment(id)))
        }
    };
    let inside = Inside::open(cli.settings()?).await?;
    let answer = inside.call(Call { method, path: &path, ..Call::default() }).await;
    inside.close().await;
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    Ok(Printer::new(cli.output).print(&answer?, pretty).map_err(anyhow::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_step_of_the_way_counts_as_reached_and_an_end_ends_the_wait() {
        assert_eq!(progress(Status::Sent, Status::Submitted), Progress::Reached);
        assert_eq!(progress(Status::Accepted, Status::Submitted), Progress::OnTheWay);
        assert_eq!(progress(Status::InDoubt, Status::Submitted), Progress::OnTheWay);
        assert_eq!(progress(Status::Failed, Status::Read), Progress::Ended);
        assert_eq!(status_named("read").unwrap(), Status::Read);
        assert_eq!(status_named("FAILED").unwrap_err().exit_code(), 2);
    }
}
