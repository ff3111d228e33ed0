//! The registry client on a real registry (Apicurio), and on a scripted one for what that cannot be made
//! to do.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_kafka::record::{Headers, Partition, Record};
use sluice_kafka::registry::codecs::Registration;
use sluice_kafka::registry::subjects::{self, State};
use sluice_kafka::registry::{Codec, Codecs, DecodeError, Error, Registry};
use sluice_kafka::settings::RegistrySettings;
use sluice_schemas::codec::{Record as _, SchemaRef, VALUE_SCHEMA_HEADER};
use sluice_schemas::topics::{Names, Topic};
use sluice_schemas::{Account, DeadLetterReason};
use sluice_testkit::EphemeralPrefix;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn settings(url: &str) -> RegistrySettings {
    RegistrySettings { url: Some(url.to_owned()), ..RegistrySettings::default() }
}

async fn apicurio() -> Registry {
    Registry::open(&settings(&sluice_testkit::registry().await)).unwrap()
}

fn names(test: &str) -> Names {
    Names::new(EphemeralPrefix::new(test).as_str(), &Default::default())
}

fn record(value: Vec<u8>, headers: Headers) -> Record {
    Record {
        partition: Partition::new("t", 0),
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(value.into()),
        headers,
    }
}

/// Our account schema with one more nullable field at the end, as a later version would have it.
fn newer_account_schema() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(Account::SCHEMA).unwrap();
    schema["fields"].as_array_mut().unwrap().push(serde_json::json!({
        "name": "note", "type": ["null", "string"], "default": null
    }));
    schema.to_string()
}

#[tokio::test]
async fn registering_twice_gives_the_same_ids_and_check_agrees() {
    let (registry, names) = (apicurio().await, names("register"));
    assert!(subjects::check(&registry, &names).await.unwrap().iter().all(|s| s.state == State::Missing));
    let refused = Codecs::open(registry.clone(), &names, Registration::LookUp).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let first = subjects::register(&registry, &names).await.unwrap();
    assert!(first.iter().all(|subject| subject.is_right() && subject.id.is_some()));
    let again = subjects::register(&registry, &names).await.unwrap();
    assert_eq!(first, again);
    let checked = subjects::check(&registry, &names).await.unwrap();
    assert_eq!(checked, first);
    let codecs = Codecs::open(registry, &names, Registration::LookUp).await.unwrap();
    assert_eq!(Some(codecs.codec::<Account>(Topic::Accounts).id()), first[Topic::Accounts as usize].id);
}

#[tokio::test]
async fn a_record_of_a_newer_writer_is_decoded_after_asking_once() {
    let (registry, names) = (apicurio().await, names("newer"));
    let codecs = Codecs::open(registry.clone(), &names, Registration::Register).await.unwrap();
    let codec: Codec<Account> = codecs.codec(Topic::Accounts);
    let newer = newer_account_schema();
    let id = registry.register(&names.subject(Topic::Accounts), &newer).await.unwrap();
    assert_ne!(id, codec.id());
    let account = Account { account_id: "a".to_owned(), max_in_flight: Some(3), ..Account::default() };
    let mut value = codec.encode(&account);
    value[1..5].copy_from_slice(&id.to_be_bytes());
    value.extend([2, 2, b'x']); // note: the second branch, a text of one byte
    let record = record(value, Headers::default());
    assert!(matches!(codec.decode(&record), Err(DecodeError::Unknown(SchemaRef::Id(n))) if n == id));
    assert_eq!(codec.decode_or_fetch(&record).await.unwrap(), account);
    assert_eq!(codec.decode(&record).unwrap(), account, "known from now on");
}

#[tokio::test]
async fn an_incompatible_schema_is_refused() {
    let (registry, names) = (apicurio().await, names("incompatible"));
    subjects::register(&registry, &names).await.unwrap();
    let subject = names.subject(Topic::Accounts);
    let broken = r#"{"type":"record","name":"Account","namespace":"sluice.v1",
        "fields":[{"name":"new_and_required","type":"string"}]}"#;
    assert!(matches!(registry.check(&subject, broken).await, Err(Error::Incompatible { .. })));
    let registered = registry.register(&subject, broken).await;
    assert!(matches!(registered, Err(Error::Incompatible { .. })), "{registered:?}");
}

#[tokio::test]
async fn a_schema_id_nobody_registered_is_a_dead_letter() {
    let codec = Codec::<Account>::new(1, apicurio().await);
    let record = record(vec![0, 0x7f, 0xff, 0xff, 0xf0, 0], Headers::default());
    let error = codec.decode_or_fetch(&record).await.unwrap_err();
    assert!(matches!(error, DecodeError::NotRegistered(SchemaRef::Id(0x7fff_fff0))), "{error}");
    assert_eq!(error.dead_letter_reason(), Some(DeadLetterReason::UnknownSchema));
}

#[tokio::test]
async fn wrong_bytes_are_dead_letters_and_a_registry_that_is_down_is_not() {
    let codec = Codec::<Account>::new(1, Registry::open(&settings("http://127.0.0.1:1")).unwrap());
    let reason = async |value: &[u8]| {
        let record = record(value.to_vec(), Headers::default());
        codec.decode_or_fetch(&record).await.unwrap_err().dead_letter_reason()
    };
    assert_eq!(reason(b"{\"json\":1}").await, Some(DeadLetterReason::WrongMagic));
    assert_eq!(reason(b"").await, Some(DeadLetterReason::WrongMagic));
    assert_eq!(reason(&[0, 0, 0, 0, 1, 200]).await, Some(DeadLetterReason::Undecodable));
    assert_eq!(reason(&[0, 0, 0, 0, 9, 0]).await, None, "id 9 cannot be looked up now: try again");
}

/// Answers every request with what `answer` makes of its first line and credentials; counts them.
async fn scripted(answer: fn(&str) -> (u16, String)) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            counter.fetch_add(1, Ordering::SeqCst);
            let (status, body) = answer(&String::from_utf8_lossy(&head));
            let answer = format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, asked)
}

#[tokio::test]
async fn readers_that_miss_one_schema_ask_once_and_by_guid_too() {
    const GUID: &str = "89791762-2336-186f-9674-299b90a8e2e3";
    let (url, asked) = scripted(|head| {
        assert!(head.starts_with(&format!("GET /base/schemas/guids/{GUID} ")), "{head}");
        (200, serde_json::json!({ "schema": newer_account_schema() }).to_string())
    })
    .await;
    let codec = Codec::<Account>::new(1, Registry::open(&settings(&url)).unwrap());
    let account = Account { account_id: "g".to_owned(), ..Account::default() };
    let mut value = codec.encode(&account).split_off(5);
    value.push(0); // note: null
    let mut header = vec![1];
    header.extend_from_slice(uuid::Uuid::parse_str(GUID).unwrap().as_bytes());
    let record = record(value, Headers::pack([(VALUE_SCHEMA_HEADER, Some(&header[..]))]));
    let (one, other) = tokio::join!(codec.decode_or_fetch(&record), codec.decode_or_fetch(&record));
    assert_eq!((one.unwrap(), other.unwrap()), (account.clone(), account));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_not_found_is_not_asked_for_again_at_once() {
    let (url, asked) = scripted(|_| (404, r#"{"error_code":40403,"message":"no"}"#.to_owned())).await;
    let registry = Registry::open(&settings(&url)).unwrap();
    for _ in 0..3 {
        assert!(matches!(registry.schema(SchemaRef::Id(5)).await, Err(Error::NotFound(_))));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let hasty = RegistrySettings { negative_cache_ms: 0, ..settings(&url) };
    let registry = Registry::open(&hasty).unwrap();
    for _ in 0..2 {
        assert!(registry.schema(SchemaRef::Id(5)).await.is_err());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn credentials_go_with_every_request_and_into_no_error() {
    let (url, _) = scripted(|head| {
        // user:hunter2
        assert!(head.to_ascii_lowercase().contains("authorization: basic "), "{head}");
        assert!(head.contains("dXNlcjpodW50ZXIy"), "{head}");
        (401, "<html>no</html>".to_owned())
    })
    .await;
    let settings = RegistrySettings {
        username: Some("user".to_owned()),
        password: Some("hunter2".to_owned()),
        ..settings(&url)
    };
    let registry = Registry::open(&settings).unwrap();
    let error = registry.schema(SchemaRef::Id(5)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { status: 401, .. }), "{error}");
    assert!(!format!("{error} {error:?} {registry:?}").contains("hunter2"));
}

#[test]
fn credentials_in_the_url_are_refused() {
    for url in ["http://user:pw@host/x", "ftp://host", "nonsense"] {
        assert!(matches!(Registry::open(&settings(url)), Err(Error::Settings(_))), "{url}");
    }
}

#[tokio::test]
async fn the_fixed_registry_knows_the_topic_table() {
    let registry = Registry::fixed();
    let names = Names::default();
    let codecs = Codecs::open(registry.clone(), &names, Registration::LookUp).await.unwrap();
    let account = Account { account_id: "a".to_owned(), ..Account::default() };
    let codec: Codec<Account> = codecs.codec(Topic::Accounts);
    assert_eq!(codec.id(), Codecs::fixed().codec::<Account>(Topic::Accounts).id());
    assert_eq!(codec.decode_bytes(&codec.encode(&account), None).unwrap(), account);
    assert!(subjects::check(&registry, &names).await.unwrap().iter().all(|subject| subject.is_right()));
    assert_eq!(&*registry.schema(SchemaRef::Id(codec.id())).await.unwrap(), Account::SCHEMA);
}
