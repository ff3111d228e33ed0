use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use sluice_core::content::command_fingerprint;
use sluice_core::outcome::{CallResult, Outcome, ThrottleScope};
use sluice_schemas::{
    Command, Connection, Contact, ContentType, InboundWebhook, Location, Media, MessageStatus,
    OutboundCommand, Poll, Provider, Signature, Status,
};
use tokio::sync::mpsc;

use super::*;
use crate::client::{AuthScheme, Client, ClientSettings, Lapsed, Target};
use crate::connector::{
    Answer, Connector, Credential, Event, HttpCall, LookedUp, Method, RawWebhook, SendContext,
};
use crate::secret::Secret;
use crate::wasender::Wasender;

const KEY: &str = "key-one";
const SECRET: &str = "hook-secret";
const TO: &str = "+15551230001";
/// A time limit that is only met when something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    simulator: Simulator,
    client: Client,
    target: Target,
    hooks: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Rig {
    async fn with(limits: Vec<Window>, webhooks: Option<WebhookSettings>) -> Self {
        let settings = SimulatorSettings { webhooks, info_delay_ms: 0, ..SimulatorSettings::default() };
        let simulator = Simulator::start(settings).await.unwrap();
        let (url, hooks) = receiver().await;
        simulator.add_session(SessionSettings {
            api_key: KEY.into(),
            session_id: "one".into(),
            webhook_url: Some(url),
            webhook_secret: SECRET.into(),
            limits: Some(limits),
            ..SessionSettings::default()
        });
        let target = Target::new(&simulator.base_url(), AuthScheme::Bearer, &Secret::new(KEY)).unwrap();
        let settings = ClientSettings { connect_timeout_ms: 500, call_timeout_ms: 700, ..Default::default() };
        Self { simulator, client: Client::new(&settings).unwrap(), target, hooks }
    }

    async fn plain() -> Self {
        Self::with(Vec::new(), None).await
    }

    async fn call(&self, command: &OutboundCommand, context: &SendContext) -> CallResult {
        let call = Wasender.build(command, context).unwrap();
        let (answer, duration_ms) = self.client.call(&self.target, &call, None).await;
        Wasender.classify_command(command.command, &answer, duration_ms)
    }

    async fn send(&self, text: &str) -> CallResult {
        self.call(&text_to(TO, text), &context_to(TO)).await
    }

    async fn hook(&mut self) -> (HeaderMap, Bytes) {
        tokio::time::timeout(PATIENCE, self.hooks.recv()).await.expect("a webhook in time").unwrap()
    }

    async fn statuses(&mut self, count: usize) -> Vec<MessageStatus> {
        let mut statuses = Vec::new();
        while statuses.len() < count {
            let (_, body) = self.hook().await;
            for event in read(&body) {
                match event {
                    Event::Status(status) => statuses.push(*status),
                    other => panic!("{other:?}"),
                }
            }
        }
        statuses
    }
}

/// A webhook receiver on a free port.
async fn receiver() -> (String, mpsc::UnboundedReceiver<(HeaderMap, Bytes)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let app = axum::Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: Bytes| {
            let sender = sender.clone();
            async move {
                let _ = sender.send((headers, body));
            }
        }),
    );
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, receiver)
}

fn read(body: &[u8]) -> Vec<Event> {
    let webhook = InboundWebhook {
        webhook_id: "w".into(),
        provider: Provider::Wasender,
        session_id: Some("one".into()),
        body: Wasender.strip_secrets(body),
        received_at: 1_800_000_000_000,
        ..Default::default()
    };
    assert!(!String::from_utf8_lossy(&webhook.body).contains(KEY), "the key is stripped");
    Wasender.events(&webhook).unwrap()
}

fn text_to(to: &str, text: &str) -> OutboundCommand {
    OutboundCommand {
        command: Command::Send,
        session_id: "one".into(),
        idempotency_key: text.into(),
        to: Some(to.into()),
        content_type: ContentType::Text,
        text: Some(text.into()),
        ..Default::default()
    }
}

fn context_to(to: &str) -> SendContext {
    SendContext { recipient: to.into(), ..Default::default() }
}

fn quick() -> Option<WebhookSettings> {
    Some(WebhookSettings {
        sent_after_ms: 0,
        delivered_after_ms: 5,
        read_after_ms: 10,
        jitter_ms: 0,
        ..WebhookSettings::default()
    })
}

fn code(result: &CallResult) -> &str {
    result.error.as_ref().map_or("", |error| &error.code)
}

#[tokio::test]
async fn a_message_is_sent_told_read_and_found_again() {
    let mut rig = Rig::with(Vec::new(), quick()).await;
    let result = rig.send("hello").await;
    let Outcome::Submitted { provider_message_id: Some(msg_id), .. } = result.outcome else {
        panic!("{result:?}")
    };

    let told = rig.statuses(4).await;
    let mut kinds: Vec<Status> = told.iter().map(|status| status.status).collect();
    kinds.sort();
    assert_eq!(kinds, [Status::Sent, Status::Sent, Status::Delivered, Status::Read]);
    let echo = told.iter().find(|status| status.content_sha256.is_some()).unwrap();
    assert_eq!(echo.recipient.as_deref(), Some(TO));
    assert_eq!(echo.content_sha256, Some(hex::encode(command_fingerprint(&text_to(TO, "hello")))));

    let look_up = Wasender.look_up(&msg_id).unwrap();
    let (answer, _) = rig.client.call(&rig.target, &look_up, None).await;
    let LookedUp::Found { whatsapp_message_id, .. } = Wasender.read_look_up(&answer) else {
        panic!("{answer:?}")
    };
    assert_eq!(Some(&whatsapp_message_id), echo.whatsapp_message_id.as_ref());
    assert_ne!(whatsapp_message_id, msg_id);
    let truth = rig.simulator.truth(0);
    assert_eq!((truth.len(), truth[0].text.as_str(), truth[0].verdict), (1, "hello", Verdict::Accepted));
}

#[tokio::test]
async fn every_content_comes_back_with_the_fingerprint_of_its_request() {
    let mut rig = Rig::with(Vec::new(), quick()).await;
    let media = |caption: Option<&str>| {
        Some(Media {
            url: Some("https://files.example/a".into()),
            filename: Some("a.pdf".into()),
            caption: caption.map(str::to_owned),
            ..Default::default()
        })
    };
    let of = |content_type| OutboundCommand { content_type, text: None, ..text_to(TO, "") };
    let requests = [
        OutboundCommand { text: Some("a \n".into()), ..of(ContentType::Text) },
        OutboundCommand { reply_to: Some("5".into()), text: Some("re".into()), ..of(ContentType::Text) },
        OutboundCommand { media: media(Some("cap")), ..of(ContentType::Image) },
        OutboundCommand { media: media(None), ..of(ContentType::Video) },
        OutboundCommand { media: media(Some("doc")), ..of(ContentType::Document) },
        OutboundCommand { media: media(None), ..of(ContentType::Document) },
        OutboundCommand { media: media(None), ..of(ContentType::Audio) },
        OutboundCommand { media: media(None), ..of(ContentType::Sticker) },
        OutboundCommand {
            location: Some(Location {
                latitude: 1.0,
                longitude: 2.0,
                name: Some("here".into()),
                address: None,
            }),
            ..of(ContentType::Location)
        },
        OutboundCommand {
            contacts: vec![Contact { name: "Ada".into(), phone: Some("+441".into()), ..Default::default() }],
            ..of(ContentType::Contacts)
        },
        OutboundCommand {
            poll: Some(Poll {
                question: "q?".into(),
                options: vec!["a".into(), "b".into()],
                multi_select: false,
            }),
            ..of(ContentType::Poll)
        },
    ];
    for request in requests {
        let result = rig.call(&request, &context_to(TO)).await;
        assert!(matches!(result.outcome, Outcome::Submitted { .. }), "{result:?}");
        let told = rig.statuses(4).await;
        let echo = told.iter().find(|status| status.content_sha256.is_some()).unwrap();
        assert_eq!(echo.content_type, request.content_type);
        assert_eq!(echo.content_sha256, Some(hex::encode(command_fingerprint(&request))), "{request:?}");
    }
}

#[tokio::test]
async fn webhooks_carry_the_shared_secret() {
    let mut rig = Rig::with(Vec::new(), quick()).await;
    rig.send("hello").await;
    let (headers, body) = rig.hook().await;
    let headers: BTreeMap<String, String> = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let webhook = RawWebhook { headers: &headers, body: &body, path_secret: None };
    assert_eq!(Wasender.verify(webhook, &[SECRET]), Ok(Signature::SharedSecret));
    assert!(Wasender.verify(webhook, &["another"]).is_err());
}

#[tokio::test]
async fn lost_doubled_and_disordered_webhooks_keep_their_ids() {
    let accidents = WebhookSettings { doubling: 1.0, disorder: 1.0, array: 1.0, ..quick().unwrap() };
    let mut rig = Rig::with(Vec::new(), Some(accidents)).await;
    rig.send("hello").await;
    let told = rig.statuses(8).await;
    let ids: std::collections::BTreeSet<&str> = told.iter().map(|status| status.event_id.as_str()).collect();
    assert_eq!(ids.len(), 4, "the same fact told twice has one id");
    rig.simulator.set_webhooks(Some(WebhookSettings { loss: 1.0, ..quick().unwrap() }));
    rig.send("nobody hears").await;
    let all_lost = || rig.simulator.summary().webhooks.lost == 4;
    tokio::time::timeout(PATIENCE, async {
        while !all_lost() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_and_counted_as_a_breach() {
    let hour = Window { count: 2, per_ms: 3_600_000 };
    let rig = Rig::with(vec![hour], None).await;
    for text in ["a", "b"] {
        assert!(matches!(rig.send(text).await.outcome, Outcome::Submitted { .. }));
    }
    let over = rig.send("c").await;
    let Outcome::Throttled { scope: ThrottleScope::Session, retry_after_ms: Some(wait_ms) } = over.outcome
    else {
        panic!("{over:?}")
    };
    assert!((1..=3_600_000).contains(&wait_ms));
    let one = rig.simulator.summary().sessions["one"].clone();
    assert_eq!((one.received, one.accepted, one.refused, one.breaches, one.doubles), (3, 2, 1, 1, 0));
}

#[tokio::test]
async fn each_fault_comes_to_its_outcome_and_its_truth() {
    let rig = Rig::plain().await;
    let cases = [
        (Fault::Throttle { retry_after_s: 3 }, "throttled", Verdict::Refused),
        (Fault::Status { status: 500, body: None }, "provider_error", Verdict::Refused),
        (Fault::Html502, "provider_error", Verdict::Refused),
        (Fault::HangThenSent { ms: 5_000 }, "call_broken", Verdict::Accepted),
        (Fault::HangThenNotSent { ms: 5_000 }, "call_broken", Verdict::Refused),
        (Fault::ResetBeforeAccepting, "call_broken", Verdict::Refused),
        (Fault::ResetAfterAccepting, "call_broken", Verdict::Accepted),
        (Fault::ResetMidAnswer, "call_broken", Verdict::Accepted),
        (Fault::NotConnected { status: 200, key: "error".into() }, "session_not_connected", Verdict::Refused),
        (
            Fault::NotConnected { status: 409, key: "message".into() },
            "session_not_connected",
            Verdict::Refused,
        ),
        (Fault::NotOnWhatsapp, "recipient_not_on_whatsapp", Verdict::Refused),
        (Fault::NoMsgId, "accepted_without_id", Verdict::Accepted),
        (Fault::Slow { ms: 1 }, "", Verdict::Accepted),
        (Fault::FailedLater, "", Verdict::Refused),
        (Fault::NoWebhooks, "", Verdict::Accepted),
    ];
    for (index, (fault, expected, verdict)) in cases.into_iter().enumerate() {
        rig.simulator.add_fault(FaultRule::next(1, fault.clone()));
        let result = rig.send(&format!("m{index}")).await;
        assert_eq!(code(&result), expected, "{fault:?}: {result:?}");
        let uncertain = ["call_broken", "provider_error", "accepted_without_id"].contains(&expected);
        assert_eq!(result.outcome == Outcome::Unknown, uncertain, "{fault:?}");
        let truth = rig.simulator.truth(0);
        let last = truth.last().unwrap();
        assert_eq!((last.text.as_str(), last.verdict), (format!("m{index}").as_str(), verdict), "{fault:?}");
    }
    assert_eq!(rig.simulator.truth(0).len(), 15, "one request each: the client tries nothing again");
}

#[tokio::test]
async fn the_head_of_a_cut_answer_is_told() {
    let rig = Rig::plain().await;
    rig.simulator.add_fault(FaultRule::always(Fault::ResetMidAnswer));
    let call = Wasender.build(&text_to(TO, "x"), &context_to(TO)).unwrap();
    let (answer, _) = rig.client.call(&rig.target, &call, None).await;
    assert!(matches!(answer, Answer::Broken { status: Some(200), .. }), "{answer:?}");
}

#[tokio::test]
async fn a_logged_out_session_tells_so_and_comes_back() {
    let mut rig = Rig::with(Vec::new(), quick()).await;
    rig.simulator.add_fault(FaultRule::next(1, Fault::SessionLoggedOut { recover_after_ms: Some(1) }));
    assert_eq!(rig.send("x").await.outcome, Outcome::SessionDown { connection: Connection::Disconnected });
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let (_, body) = rig.hook().await;
        for event in read(&body) {
            let Event::Connection(status) = event else { panic!("{event:?}") };
            seen.push(status.connection);
        }
    }
    // Two webhooks on two connections may overtake each other.
    seen.sort();
    assert_eq!(seen, [Connection::Connected, Connection::LoggedOut]);
    assert!(matches!(rig.send("x").await.outcome, Outcome::Submitted { .. }));
}

#[tokio::test]
async fn a_double_is_counted_once_for_each_repetition() {
    let rig = Rig::plain().await;
    for text in ["same", "same", "other", "same"] {
        rig.send(text).await;
    }
    let summary = rig.simulator.summary();
    assert_eq!((summary.total.accepted, summary.total.doubles, summary.doubles_exact), (4, 2, true));
}

#[tokio::test]
async fn keys_are_checked_by_kind() {
    let rig = Rig::plain().await;
    let call = |method, path: &str| HttpCall {
        method,
        path: path.into(),
        credential: Credential::AccountToken,
        body: None,
    };
    let with =
        |key: &str| Target::new(&rig.simulator.base_url(), AuthScheme::Bearer, &Secret::new(key)).unwrap();
    let status = async |key: &str, method, path: &str| {
        let (answer, _) = rig.client.call(&with(key), &call(method, path), None).await;
        match answer {
            Answer::Http { status, .. } => status,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(status("pat-simulator", Method::Get, "/status").await, 401);
    assert_eq!(status(KEY, Method::Get, "/status").await, 200);
    assert_eq!(status(KEY, Method::Get, "/whatsapp-sessions").await, 401);
    assert_eq!(status("pat-simulator", Method::Get, "/whatsapp-sessions").await, 200);
    assert_eq!(status("pat-simulator", Method::Get, "/whatsapp-sessions/one/message-logs").await, 200);
    assert_eq!(status("pat-simulator", Method::Get, "/whatsapp-sessions/none").await, 404);
    let wrong = Target::new(&rig.simulator.base_url(), AuthScheme::Bearer, &Secret::new("nope")).unwrap();
    let send = Wasender.build(&text_to(TO, "x"), &context_to(TO)).unwrap();
    let (answer, _) = rig.client.call(&wrong, &send, None).await;
    let result = Wasender.classify(&answer, 1);
    assert_eq!(code(&result), "credential_refused");
}

#[tokio::test]
async fn edits_revokes_reads_and_typing_are_taken() {
    let rig = Rig::plain().await;
    let Outcome::Submitted { provider_message_id, .. } = rig.send("first").await.outcome else { panic!() };
    let target = SendContext {
        target_provider_id: provider_message_id,
        target_whatsapp_id: Some("3EB0".into()),
        ..context_to(TO)
    };
    for command in [Command::Edit, Command::MarkRead, Command::Typing, Command::Revoke] {
        let result = rig.call(&OutboundCommand { command, ..text_to(TO, "second") }, &target).await;
        assert!(matches!(result.outcome, Outcome::Submitted { .. }), "{command:?} {result:?}");
    }
    let gone = SendContext { target_provider_id: Some("1".into()), ..target };
    let result = rig.call(&OutboundCommand { command: Command::Edit, ..text_to(TO, "x") }, &gone).await;
    assert_eq!((&result.outcome, code(&result)), (&Outcome::Permanent, "not_found"));
}

#[tokio::test]
async fn a_group_gets_a_receipt_for_each_member() {
    let mut rig = Rig::with(Vec::new(), quick()).await;
    let group = "1203630@g.us";
    rig.call(&text_to(group, "hi all"), &context_to(group)).await;
    let told = rig.statuses(6).await;
    let members: std::collections::BTreeSet<_> =
        told.iter().filter_map(|status| status.participant.clone()).collect();
    assert_eq!(members.len(), 2);
    assert_eq!(told.iter().filter(|status| status.status == Status::Read).count(), 2);
    assert!(told.iter().all(|status| status.recipient.as_deref() == Some(group)));
}

#[tokio::test]
async fn sessions_faults_inbound_and_truth_are_steered_over_http() {
    let simulator = Simulator::start(SimulatorSettings {
        auto_sessions: Some(AutoSessions { key_prefix: "auto-".into(), ..AutoSessions::default() }),
        ..SimulatorSettings::default()
    })
    .await
    .unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let admin = simulator.admin_url();
    let put = async |path: &str, body: Value| {
        let response = http.post(format!("{admin}{path}")).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    };
    let (url, mut hooks) = receiver().await;
    put(
        "/sessions",
        json!({"api_key": KEY, "session_id": "one", "webhook_url": url, "webhook_secret": SECRET,
        "limits": [{"count": 1, "per_ms": 3_600_000}]}),
    )
    .await;
    put("/faults", json!({"kind": "html_502", "session": "two", "times": 1})).await;
    let misspelt = json!({"kind": "html_502", "sesion": "two"});
    let refused = http.post(format!("{admin}/faults")).json(&misspelt).send().await.unwrap();
    assert_eq!(refused.status(), 422, "a misspelt condition strikes nobody");
    put("/inbound", json!({"session": "one", "from": TO, "text": "question", "name": "Ada", "lid": "7@lid"}))
        .await;
    let (_, body) = tokio::time::timeout(PATIENCE, hooks.recv()).await.unwrap().unwrap();
    let events = read(&body);
    let [Event::Received(message)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((message.from_e164.as_deref(), message.text.as_deref()), (Some(TO), Some("question")));

    let send = async |key: &str, text: &str| {
        let body = json!({"to": TO, "text": text});
        let response =
            http.post(format!("{}/send-message", simulator.base_url())).bearer_auth(key).json(&body);
        response.send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(KEY, "a").await, 200);
    assert_eq!(send(KEY, "a").await, 429);
    assert_eq!(send("auto-two", "a").await, 502);
    assert_eq!(send("auto-two", "a").await, 200);
    let lines = http.get(format!("{admin}/truth?since=1")).send().await.unwrap().text().await.unwrap();
    let entries: Vec<TruthEntry> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(entries[0].breach && entries[2].session == "two");
    let summary = http.get(format!("{admin}/truth/summary")).send().await.unwrap().text().await.unwrap();
    let summary: Summary = serde_json::from_str(&summary).unwrap();
    assert_eq!((summary.total.accepted, summary.total.breaches), (2, 1));
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let rig = Rig::plain().await;
    rig.simulator.add_session(SessionSettings {
        api_key: KEY.into(),
        session_id: "one".into(),
        concurrency_max: Some(1),
        ..SessionSettings::default()
    });
    rig.simulator.add_fault(FaultRule::next(1, Fault::HangThenSent { ms: 600_000 }));
    let first = rig.send("a");
    let second = async {
        while rig.simulator.truth(0).is_empty() {
            tokio::task::yield_now().await;
        }
        rig.send("b").await
    };
    let (_, second) = tokio::join!(first, second);
    assert_eq!(code(&second), "throttled");
    assert_eq!(rig.simulator.summary().sessions["one"].over_concurrency, 1);
}

#[tokio::test]
async fn a_call_whose_time_has_run_out_sends_no_byte() {
    let rig = Rig::plain().await;
    let call = Wasender.build(&text_to(TO, "late"), &context_to(TO)).unwrap();
    let late = rig.client.call_if(&rig.target, &call, None, Box::new(|| false)).await;
    assert_eq!(late, Err(Lapsed));
    let revoke = HttpCall { method: Method::Delete, path: "/messages/1".into(), body: None, ..call.clone() };
    assert_eq!(rig.client.call_if(&rig.target, &revoke, None, Box::new(|| false)).await, Err(Lapsed));
    assert_eq!(rig.simulator.truth(0), [], "nothing arrived");
    let in_time =
        rig.client.call_if(&rig.target, &call, Some("00-aa-bb-01"), Box::new(|| true)).await.unwrap();
    assert!(matches!(Wasender.classify(&in_time.0, 1).outcome, Outcome::Submitted { .. }), "{in_time:?}");
    assert_eq!(rig.simulator.truth(0).len(), 1);
}

#[tokio::test]
async fn a_refused_connection_was_surely_not_sent() {
    let rig = Rig::plain().await;
    let free = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let call = Wasender.build(&text_to(TO, "x"), &context_to(TO)).unwrap();
    for base_url in [format!("http://{free}/api"), "http://no-such-host.invalid/api".to_owned()] {
        let target = Target::new(&base_url, AuthScheme::Bearer, &Secret::new(KEY)).unwrap();
        let (answer, _) = rig.client.call(&target, &call, None).await;
        assert!(matches!(answer, Answer::NotConnected { .. }), "{base_url} {answer:?}");
        assert!(!format!("{answer:?} {target:?}").contains(KEY));
    }
}

#[tokio::test]
async fn an_answer_over_the_limit_is_cut_and_in_doubt() {
    let rig = Rig::plain().await;
    let client =
        Client::new(&ClientSettings { response_bytes_max: 10, ..ClientSettings::default() }).unwrap();
    let call = Wasender.build(&text_to(TO, "x"), &context_to(TO)).unwrap();
    let (answer, _) = client.call(&rig.target, &call, None).await;
    assert!(matches!(answer, Answer::Broken { status: Some(200), .. }), "{answer:?}");
}

#[test]
fn no_debug_shows_a_key() {
    let session =
        SessionSettings { api_key: KEY.into(), webhook_secret: SECRET.into(), ..Default::default() };
    let shown = format!("{session:?} {:?}", Secret::new(KEY));
    assert!(!shown.contains(KEY) && !shown.contains(SECRET), "{shown}");
}
