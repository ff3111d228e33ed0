//! `POST /send-message`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{self, answer};
use super::faults::Fault;
use super::hooks;
use super::session::Session;
use super::truth::{TruthEntry, Verdict};
use super::window::{TooEarly, Window};
use super::world::{Sent, World, lock, unix_ms};

const NOT_CONNECTED: &str = "Your Whatsapp Session is not connected please connect your session first.";

/// The page of a gateway in front of a provider that is down.
const HTML_502: &str = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>";

/// How long the head of a cut answer has to reach the client, milliseconds.
const HEAD_MS: u64 = 50;

/// Body of a send.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    image_url: Option<Value>,
    video_url: Option<Value>,
    document_url: Option<Value>,
    file_name: Option<String>,
    audio_url: Option<Value>,
    sticker_url: Option<Value>,
    contact: Option<Value>,
    location: Option<Value>,
    poll: Option<Value>,
    reply_to: Option<Value>,
}

impl Request<'_> {
    fn has_content(&self) -> bool {
        let media =
            [&self.image_url, &self.video_url, &self.document_url, &self.audio_url, &self.sticker_url];
        let rich = [&self.contact, &self.location, &self.poll];
        self.text.as_deref().is_some_and(|text| !text.is_empty())
            || media.into_iter().chain(rich).any(Option::is_some)
    }

    /// What WhatsApp would show of it, in its own names. The media URL is WhatsApp's own copy.
    fn message(&self) -> Value {
        let caption = self.text.as_deref();
        let file = |mimetype: &str| json!({"url": "https://mmg.whatsapp.net/x.enc", "mimetype": mimetype, "caption": caption});
        if self.image_url.is_some() {
            json!({"imageMessage": file("image/jpeg")})
        } else if self.video_url.is_some() {
            json!({"videoMessage": file("video/mp4")})
        } else if self.document_url.is_some() {
            let mut document = file("application/pdf");
            document["fileName"] = json!(self.file_name);
            match caption {
                Some(_) => json!({"documentWithCaptionMessage": {"message": {"documentMessage": document}}}),
                None => json!({"documentMessage": document}),
            }
        } else if self.audio_url.is_some() {
            json!({"audioMessage": {"mimetype": "audio/ogg; codecs=opus", "ptt": true}})
        } else if self.sticker_url.is_some() {
            json!({"stickerMessage": {"mimetype": "image/webp"}})
        } else if let Some(contact) = &self.contact {
            json!({"contactMessage": {"displayName": contact["name"], "vcard": ""}})
        } else if let Some(place) = &self.location {
            json!({"locationMessage": {"degreesLatitude": place["latitude"], "degreesLongitude": place["longitude"],
                "name": place["name"], "address": place["address"]}})
        } else if let Some(poll) = &self.poll {
            json!({"pollCreationMessageV3": {"name": poll["question"]}})
        } else if self.reply_to.is_some() {
            json!({"extendedTextMessage": {"text": caption, "contextInfo": {"stanzaId": "quoted"}}})
        } else {
            json!({"conversation": caption})
        }
    }

    /// The text in the truth log: whatever tells one message from another.
    fn shown(&self) -> String {
        if let Some(text) = &self.text {
            return text.to_string();
        }
        let rich = [
            &self.contact,
            &self.location,
            &self.poll,
            &self.image_url,
            &self.video_url,
            &self.document_url,
            &self.audio_url,
            &self.sticker_url,
        ];
        rich.into_iter().flatten().next().map(Value::to_string).unwrap_or_default()
    }
}

/// A send on its way through.
struct Arrival<'a> {
    world: &'a Arc<World>,
    session: &'a Arc<Session>,
    at_ms: u64,
    to: &'a str,
    text: String,
}

pub(super) async fn send(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let session = match api::session(&world, &headers) {
        Ok(session) => session,
        Err(refused) => return refused.into_response(),
    };
    let now_us = world.now_us();
    let place = session.enter();
    let Ok(request) = serde_json::from_slice::<Request<'_>>(&body) else {
        return api::invalid(&[("body", "The body must be a JSON object.")]);
    };
    let arrival = Arrival {
        world: &world,
        session: &session,
        at_ms: unix_ms(),
        to: request.to.as_deref().unwrap_or_default(),
        text: request.shown(),
    };
    if place.is_none() {
        arrival.refused("too many requests at once", |counts| counts.over_concurrency += 1);
        return too_many("Too many concurrent requests for this session.", 1);
    }
    if arrival.to.is_empty() || !request.has_content() {
        arrival.refused("validation", |_| ());
        return invalid_request(arrival.to.is_empty(), request.has_content());
    }
    if !session.is_connected() {
        arrival.refused("session not connected", |_| ());
        return answer(400, json!({"success": false, "message": NOT_CONNECTED}));
    }
    let taken = lock(&session.book).arrivals.take(&session.windows, now_us);
    if let Err(early) = taken {
        arrival.breach();
        return over_limit(early);
    }
    let mut response = match world.faults.strike(&session.id, arrival.to, &arrival.text) {
        None => taken_answer(arrival.to, arrival.accept(&request, None, true)),
        Some(fault) => faulty(&arrival, &request, fault).await,
    };
    if let Some(window) = session.windows.first() {
        rate_headers(&mut response, &session, *window, now_us);
    }
    response
}

async fn faulty(arrival: &Arrival<'_>, request: &Request<'_>, fault: Fault) -> Response {
    let refused = |why: &str| arrival.refused(why, |_| ());
    match fault {
        Fault::Throttle { retry_after_s } => {
            refused("fault: throttle");
            too_many(
                "You have account protection enabled. You can only send 1 message every 5 seconds.",
                retry_after_s,
            )
        }
        Fault::Status { status, body } => {
            refused("fault: status");
            match body {
                Some(body) => (api::status(status), body).into_response(),
                None => answer(status, json!({"success": false, "message": "Server Error"})),
            }
        }
        Fault::Html502 => {
            refused("fault: html_502");
            html(StatusCode::BAD_GATEWAY)
        }
        Fault::HangThenSent { ms } => {
            let msg_id = arrival.accept(request, Some("fault: hang_then_sent"), true);
            pause(arrival.world, ms).await;
            taken_answer(arrival.to, msg_id)
        }
        Fault::HangThenNotSent { ms } => {
            refused("fault: hang_then_not_sent");
            pause(arrival.world, ms).await;
            html(StatusCode::GATEWAY_TIMEOUT)
        }
        Fault::ResetBeforeAccepting => {
            refused("fault: reset_before_accepting");
            cut(Bytes::new())
        }
        Fault::ResetAfterAccepting => {
            arrival.accept(request, Some("fault: reset_after_accepting"), true);
            cut(Bytes::new())
        }
        Fault::ResetMidAnswer => {
            let msg_id = arrival.accept(request, Some("fault: reset_mid_answer"), true);
            let whole = taken_body(arrival.to, msg_id);
            cut(Bytes::from(whole).split_to(20))
        }
        Fault::SessionLoggedOut { recover_after_ms } => {
            refused("fault: session_logged_out");
            log_out(arrival.world, arrival.session, recover_after_ms);
            answer(400, json!({"success": false, "message": NOT_CONNECTED}))
        }
        Fault::NotConnected { status, key } => {
            refused("fault: not_connected");
            answer(status, json!({"success": false, key: NOT_CONNECTED}))
        }
        Fault::Slow { ms } => {
            pause(arrival.world, ms).await;
            taken_answer(arrival.to, arrival.accept(request, Some("fault: slow"), true))
        }
        Fault::NotOnWhatsapp => {
            refused("fault: not_on_whatsapp");
            answer(422, json!({"success": false, "message": "The provided JID does not exist on WhatsApp."}))
        }
        Fault::NoMsgId => {
            arrival.accept(request, Some("fault: no_msg_id"), true);
            answer(200, json!({"success": true, "message": "Message sent"}))
        }
        Fault::FailedLater => {
            // Taken by the provider, refused by WhatsApp: nobody got it.
            refused("fault: failed_later");
            let sent = arrival.sent(request);
            let msg_id = sent.msg_id;
            hooks::failed(arrival.world, arrival.session, sent);
            taken_answer(arrival.to, msg_id)
        }
        Fault::NoWebhooks => {
            taken_answer(arrival.to, arrival.accept(request, Some("fault: no_webhooks"), false))
        }
    }
}

impl Arrival<'_> {
    fn entry(&self, verdict: Verdict, why: Option<&str>) -> TruthEntry {
        TruthEntry {
            seq: 0,
            at_ms: self.at_ms,
            session: self.session.id.to_string(),
            recipient: self.to.to_owned(),
            text: self.text.clone(),
            verdict,
            why: why.map(str::to_owned),
            msg_id: None,
            whatsapp_id: None,
            breach: false,
            double: false,
        }
    }

    fn refused(&self, why: &str, count: impl FnOnce(&mut super::truth::SessionTruth)) {
        self.world.truth.write(self.entry(Verdict::Refused, Some(why)));
        let mut book = lock(&self.session.book);
        book.counts.received += 1;
        book.counts.refused += 1;
        count(&mut book.counts);
    }

    fn breach(&self) {
        let entry = self.entry(Verdict::Refused, Some("over the rate limit"));
        self.world.truth.write(TruthEntry { breach: true, ..entry });
        let mut book = lock(&self.session.book);
        book.counts.received += 1;
        book.counts.refused += 1;
        book.counts.breaches += 1;
    }

    fn sent(&self, request: &Request<'_>) -> Sent {
        let msg_id = self.world.next_msg_id();
        Sent {
            msg_id,
            whatsapp_id: self.world.whatsapp_id(msg_id),
            session: Arc::clone(&self.session.id),
            to: self.to.to_owned(),
            remote_jid: api::jid(self.to),
            message: request.message(),
            at_ms: self.at_ms,
            status: 1,
        }
    }

    /// Sends it to "WhatsApp": truth, store, webhooks. Gives the `msgId`.
    fn accept(&self, request: &Request<'_>, why: Option<&str>, with_webhooks: bool) -> u64 {
        let hooked = with_webhooks && self.world.hooks.are_on() && self.session.webhook_url.is_some();
        let kept = self.world.settings.messages_kept_max > 0;
        let msg_id = if hooked || kept {
            let sent = self.sent(request);
            let msg_id = sent.msg_id;
            if hooked {
                self.world.keep(sent.clone());
                hooks::sent(self.world, self.session, sent);
            } else {
                self.world.keep(sent);
            }
            msg_id
        } else {
            self.world.next_msg_id()
        };
        let entry = TruthEntry {
            msg_id: Some(msg_id),
            whatsapp_id: Some(self.world.whatsapp_id(msg_id)),
            ..self.entry(Verdict::Accepted, why)
        };
        let double = self.world.truth.write(entry);
        let mut book = lock(&self.session.book);
        book.counts.received += 1;
        book.counts.accepted += 1;
        book.counts.doubles += u64::from(double);
        msg_id
    }
}

fn log_out(world: &Arc<World>, session: &Arc<Session>, recover_after_ms: Option<u64>) {
    World::set_status(world, &session.id, "logged_out");
    let Some(ms) = recover_after_ms else { return };
    let (world, id) = (Arc::clone(world), Arc::clone(&session.id));
    tokio::spawn(async move {
        pause(&world, ms).await;
        World::set_status(&world, &id, "connected");
    });
}

/// Waits, but not longer than the simulator runs.
pub(super) async fn pause(world: &World, ms: u64) {
    let wait = tokio::time::sleep(Duration::from_millis(ms));
    // Whether it was cut short does not matter.
    let _ = world.stop.run_until_cancelled(wait).await;
}

fn taken_body(to: &str, msg_id: u64) -> String {
    let jid = serde_json::to_string(to).unwrap_or_default();
    format!(r#"{{"success":true,"data":{{"msgId":{msg_id},"jid":{jid},"status":"in_progress"}}}}"#)
}

fn taken_answer(to: &str, msg_id: u64) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], taken_body(to, msg_id))
        .into_response()
}

fn html(status: StatusCode) -> Response {
    (status, axum::response::Html(HTML_502)).into_response()
}

/// An answer that promises more than it gives: the server ends the connection. With nothing in `begin` not
/// even the head leaves.
fn cut(begin: Bytes) -> Response {
    let failure = || std::io::Error::other("the script ends the connection here");
    let body = if begin.is_empty() {
        Body::from_stream(futures::stream::once(async move { Err::<Bytes, _>(failure()) }))
    } else {
        let head = futures::stream::once(async move { Ok::<_, std::io::Error>(begin) });
        let end = futures::stream::once(async move {
            tokio::time::sleep(Duration::from_millis(HEAD_MS)).await;
            Err(failure())
        });
        Body::from_stream(head.chain(end))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("100"));
    response
}

fn invalid_request(no_recipient: bool, has_content: bool) -> Response {
    let mut problems = Vec::new();
    if no_recipient {
        problems.push(("to", "The to field is required."));
    }
    if !has_content {
        problems.push(("text", "The text field is required when no media is present."));
    }
    api::invalid(&problems)
}

/// A 429 has no `success` field.
fn too_many(message: &str, retry_after_s: u64) -> Response {
    answer(429, json!({"message": message, "retry_after": retry_after_s}))
}

fn over_limit(early: TooEarly) -> Response {
    let seconds = early.wait_us.div_ceil(1_000_000);
    match early.window {
        Window { count: 1, per_ms: 5_000 } => too_many(
            "You have account protection enabled. You can only send 1 message every 5 seconds.",
            seconds,
        ),
        Window { count: 1, per_ms: 60_000 } => {
            too_many("You are on a free trial. You can only send 1 message every 1 minute.", seconds)
        }
        Window { count, per_ms } => too_many(
            &format!("Too many requests. You can only send {count} messages every {per_ms} ms."),
            seconds,
        ),
    }
}

fn rate_headers(response: &mut Response, session: &Session, window: Window, now_us: u64) {
    let left = lock(&session.book).arrivals.left(window, now_us);
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", HeaderValue::from(window.count));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(left));
    headers.insert("x-ratelimit-reset", HeaderValue::from(window.per_ms.div_ceil(1_000)));
}
