use proptest::prelude::*;
use serde_json::json;
use sluice_core::content::command_fingerprint;
use sluice_schemas::{Connection, ContentType, Direction, OutboundCommand, Status};

use super::*;

fn webhook(body: &[u8]) -> InboundWebhook {
    InboundWebhook {
        webhook_id: "w1".into(),
        provider: Provider::Wasender,
        session_id: Some("s1".into()),
        body: body.to_vec(),
        received_at: 1_800_000_000_000,
        ..Default::default()
    }
}

fn read(body: Value) -> Vec<Event> {
    events(&webhook(body.to_string().as_bytes())).unwrap()
}

fn statuses(body: Value) -> Vec<MessageStatus> {
    let only = |event| match event {
        Event::Status(status) => *status,
        other => panic!("{other:?}"),
    };
    read(body).into_iter().map(only).collect()
}

fn key(id: &str) -> Value {
    json!({"id": id, "fromMe": true, "remoteJid": "15551230001@s.whatsapp.net"})
}

#[test]
fn a_receipt_is_read_from_every_shape() {
    let entry = json!({"key": key("A"), "update": {"status": 3}});
    let named = json!({"key": key("A"), "update": {"status": "DELIVERY_ACK"}});
    let shapes = [
        entry.clone(),
        json!([entry]),
        json!({"messages": entry}),
        json!({"messages": [named]}),
        json!([{"messages": [entry]}]),
    ];
    let mut ids = std::collections::BTreeSet::new();
    for (index, data) in shapes.into_iter().enumerate() {
        let timestamp = if index % 2 == 0 { 1_700_000_000_i64 } else { 1_700_000_000_000 };
        let found = statuses(json!({"event": "messages.update", "timestamp": timestamp, "data": data}));
        assert_eq!(found.len(), 1, "shape {index}");
        assert_eq!(found[0].status, Status::Delivered);
        assert_eq!(found[0].occurred_at, 1_700_000_000_000);
        assert_eq!(found[0].recipient.as_deref(), Some("+15551230001"));
        assert_eq!(found[0].whatsapp_message_id.as_deref(), Some("A"));
        ids.insert(found[0].event_id.clone());
    }
    assert_eq!(ids.len(), 1, "the same fact has the same id in every shape");
}

#[test]
fn a_bad_entry_loses_none_of_its_neighbours() {
    let data = json!([{"key": key("A"), "update": {"status": 2}}, null, 7, {"update": {"status": 3}},
        {"key": {"fromMe": true}, "update": {"status": 3}}, {"key": key("B"), "update": {"status": 4}}]);
    let found = read(json!({"event": "messages.update", "data": data}));
    let kinds: Vec<bool> = found.iter().map(|event| matches!(event, Event::Status(_))).collect();
    assert_eq!(kinds, [true, false, false, false, false, true]);
}

#[test]
fn receipts_of_received_messages_and_pending_are_no_statuses() {
    let theirs = json!({"key": {"id": "A", "fromMe": false, "remoteJid": "1@lid"}, "update": {"status": 4}});
    let pending = json!({"key": key("A"), "update": {"status": 1}});
    for data in [theirs, pending] {
        let found = read(json!({"event": "messages.update", "data": data}));
        assert!(matches!(found.as_slice(), [Event::Ignored { .. }]), "{found:?}");
    }
}

#[test]
fn a_group_receipt_gives_a_fact_for_each_time() {
    let found = statuses(json!({"event": "message-receipt.update", "timestamp": 5, "data": {"message": {
        "key": {"id": "A", "fromMe": true, "remoteJid": "1-2@g.us", "participant": "9@s.whatsapp.net"},
        "receipt": {"userJid": "9@s.whatsapp.net", "receiptTimestamp": 1_700_000_000, "readTimestamp": 1_700_000_009}
    }}}));
    let facts: Vec<_> = found.iter().map(|fact| (fact.status, fact.occurred_at)).collect();
    assert_eq!(facts, [(Status::Delivered, 1_700_000_000_000), (Status::Read, 1_700_000_009_000)]);
    assert!(found.iter().all(|fact| fact.participant.as_deref() == Some("9@s.whatsapp.net")));
    assert_ne!(found[0].event_id, found[1].event_id);
}

#[test]
fn a_sent_message_carries_the_fingerprint_of_its_request() {
    let found = statuses(json!({"event": "message.sent", "timestamp": 1_700_000_000,
        "data": {"key": key("A"), "message": {"conversation": "Hello \n"}, "success": true}}));
    let request =
        OutboundCommand { content_type: ContentType::Text, text: Some("Hello".into()), ..Default::default() };
    assert_eq!(found[0].status, Status::Sent);
    assert_eq!(found[0].content_sha256, Some(hex::encode(command_fingerprint(&request))));
    let receipt =
        statuses(json!({"event": "messages.update", "data": {"key": key("A"), "update": {"status": 2}}}));
    assert_ne!(found[0].event_id, receipt[0].event_id, "deduping by id must not lose the fingerprint");
}

#[test]
fn a_failed_send_is_told_by_key_or_by_the_number_in_its_text() {
    let keyed = statuses(
        json!({"event": "message.sent", "data": {"key": key("A"), "success": false, "error": "no"}}),
    );
    assert_eq!((keyed[0].status, keyed[0].whatsapp_message_id.as_deref()), (Status::Failed, Some("A")));
    let text = "Failed to send message: Invalid number JID: +123456787";
    let bare = statuses(json!({"event": "message.sent", "data": {"success": false, "error": text}}));
    assert_eq!((bare[0].status, bare[0].recipient.as_deref()), (Status::Failed, Some("+123456787")));
    let nothing = read(json!({"event": "message.sent", "data": {"success": false, "error": "no"}}));
    assert!(matches!(nothing.as_slice(), [Event::Ignored { .. }]));
    let flat = statuses(json!({"event": "message.sent",
        "data": {"id": "3EB0", "to": "+15551230001", "status": "sent", "type": "text", "content": "Hi"}}));
    assert_eq!(flat[0].whatsapp_message_id.as_deref(), Some("3EB0"));
    assert!(flat[0].content_sha256.is_some());
}

fn received(body: Value) -> ReceivedOne {
    match read(body).as_slice() {
        [Event::Received(message)] => message.clone(),
        other => panic!("{other:?}"),
    }
}

type ReceivedOne = Box<sluice_schemas::ReceivedMessage>;

#[test]
fn one_message_has_one_id_in_overlapping_events() {
    let entry = json!({"key": {"id": "A", "fromMe": false, "remoteJid": "9@lid", "senderPn": "15551230001@s.whatsapp.net"},
        "messageBody": "hi", "message": {"conversation": "hi"}, "pushName": "Ada", "messageTimestamp": 1_700_000_000});
    let one = received(json!({"event": "messages.received", "data": {"messages": entry}}));
    let two = received(json!({"event": "messages.upsert", "data": {"messages": [entry]}}));
    assert_eq!(one.event_id, two.event_id);
    assert_eq!((one.from_e164.as_deref(), one.from_lid.as_deref()), (Some("+15551230001"), Some("9@lid")));
    assert_eq!((one.text.as_deref(), one.sent_at), (Some("hi"), Some(1_700_000_000_000)));
    assert_eq!(one.direction, Direction::Inbound);
}

#[test]
fn own_messages_are_echoes_and_edits_name_their_target() {
    let own = received(json!({"event": "messages.upsert", "data": {"messages": [
        {"key": key("A"), "pushName": "Me", "message": {"conversation": "x"}}]}}));
    assert_eq!(
        (own.direction, own.from_e164.as_deref(), own.from_name.as_deref()),
        (Direction::PhoneEcho, None, None)
    );
    let edit = received(json!({"event": "messages.received", "data": {"messages": {"key":
        {"id": "E", "fromMe": false, "remoteJid": "1@lid"},
        "message": {"protocolMessage": {"type": 14, "key": {"id": "A"}, "editedMessage": {"conversation": "y"}}}}}}));
    assert_eq!((edit.content_type, edit.target_whatsapp_id.as_deref()), (ContentType::Edit, Some("A")));
    assert_eq!(edit.text.as_deref(), Some("y"));
}

#[test]
fn a_reaction_and_its_removal_name_their_target() {
    let of = |text: &str| {
        received(json!({"event": "messages.reaction", "timestamp": 1_700_000_000, "data": [{"key": key("A"),
            "reaction": {"text": text, "key": {"id": "R", "fromMe": false, "remoteJid": "15551230001@s.whatsapp.net"}}}]}))
    };
    let (reaction, removal) = (of("👍"), of(""));
    assert_eq!(
        (reaction.target_whatsapp_id.as_deref(), reaction.whatsapp_message_id.as_deref()),
        (Some("A"), Some("R"))
    );
    assert_eq!((reaction.text.as_deref(), removal.text), (Some("👍"), None));
    assert_eq!(reaction.from_e164.as_deref(), Some("+15551230001"));
}

#[test]
fn connections_and_codes_are_told() {
    let down = read(json!({"event": "session.status", "data": {"status": "LOGGED_OUT", "reason": "phone"}}));
    let [Event::Connection(status)] = down.as_slice() else { panic!("{down:?}") };
    assert_eq!((status.connection, status.reason.as_deref()), (Connection::LoggedOut, Some("phone")));
    let qr = read(json!({"event": "qrcode.updated", "data": {"qr": "2@x"}}));
    assert!(matches!(qr.as_slice(), [Event::Link(_), Event::Connection(_)]), "{qr:?}");
    let odd = read(json!({"event": "session.status", "data": {"status": "sleeping"}}));
    let [Event::Connection(status)] = odd.as_slice() else { panic!("{odd:?}") };
    assert_eq!(status.connection, Connection::Unknown);
}

#[test]
fn what_is_not_known_is_kept_with_its_kind() {
    for (body, kind) in [
        (json!({"event": "chats.upsert", "data": []}), "chats.upsert"),
        (json!({"data": 1}), NO_NAME),
        (
            json!({"event": "messages.received", "data": {"messages": {"message": {"conversation": "x"}}}}),
            "messages.received",
        ),
    ] {
        let found = read(body);
        assert!(matches!(found.as_slice(), [Event::Ignored { kind: k, .. }] if k == kind), "{found:?}");
    }
    assert!(events(&webhook(b"not json")).is_err());
    assert!(events(&InboundWebhook { session_id: None, ..webhook(b"{}") }).is_err());
}

/// JSON built from the words that the reader looks for, so that it gets deep into it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "event",
        "data",
        "messages",
        "message",
        "key",
        "id",
        "remoteJid",
        "fromMe",
        "update",
        "status",
        "receipt",
        "timestamp",
        "protocolMessage",
        "editedMessage",
        "type",
        "reaction",
        "text",
        "conversation",
        "imageMessage",
        "contextInfo",
        "messages.update",
        "messages.received",
        "message.sent",
        "message-receipt.update",
        "messages.reaction",
        "session.status",
        "participant",
        "1@g.us",
        "9@lid",
        "x@s.whatsapp.net",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6).prop_map(|entries| {
                Value::Object(entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

fn any_envelope() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec![
        "messages.update",
        "messages.received",
        "messages.upsert",
        "message.sent",
        "message-receipt.update",
        "messages.reaction",
        "session.status",
        "qrcode.updated",
        "passkey.updated",
        "poll.results",
    ]);
    (kind, any_json(), any::<Option<i64>>())
        .prop_map(|(kind, data, timestamp)| json!({"event": kind, "timestamp": timestamp, "data": data}))
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = events(&webhook(&bytes));
        let _ = super::super::secrets::strip(&bytes);
    }

    #[test]
    fn no_json_makes_it_panic_and_reading_it_twice_is_the_same(body in any_envelope()) {
        let bytes = body.to_string().into_bytes();
        let once = events(&webhook(&bytes)).unwrap();
        prop_assert_eq!(&once, &events(&webhook(&bytes)).unwrap());
        let stripped = super::super::secrets::strip(&bytes);
        prop_assert!(serde_json::from_slice::<Value>(&stripped).is_ok());
    }

    #[test]
    fn no_answer_makes_classification_panic(status in 0u16..700, body in any_json(), reset in ".{0,12}") {
        let headers = [("retry-after".to_owned(), reset.clone()), ("x-ratelimit-reset".to_owned(), reset)].into();
        let answer = crate::connector::Answer::Http { status, headers, body: body.to_string().into() };
        for command in [sluice_schemas::Command::Send, sluice_schemas::Command::Edit] {
            let result = super::super::classify::classify(command, &answer, 1);
            let submitted = matches!(result.outcome, sluice_core::outcome::Outcome::Submitted { .. });
            prop_assert_eq!(submitted, result.error.is_none());
            prop_assert!(!submitted || (200..300).contains(&status));
        }
        let _ = super::super::look_up::read(&answer);
    }
}
