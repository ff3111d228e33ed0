//! Sessions, accounts, pausing.

use serde_json::json;
use sluice_schemas::topics::Topic;
use sluice_schemas::{Facet, Session, SessionAction, SessionCommand};

use crate::world::{ACME, MANAGER, OPS, OTHER, World, codec};

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_never_in_the_clear_in_the_log_and_opens_in_the_directory() {
    let world = World::start().await;
    world.seed().await;
    for record in world.records(Topic::Sessions, 3).await {
        let value = record.value.clone().unwrap();
        assert!(!String::from_utf8_lossy(&value).contains("-of-"), "a sealed record shows its credential");
    }
    assert_eq!(world.deps.directory.secret("s1", "api_key").unwrap().expose(), "key-of-s1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_keeps_the_credentials_it_does_not_name_and_null_takes_one_away() {
    let world = World::start().await;
    world.seed().await;
    let directory = &world.deps.directory;
    let body = json!({"account_id": "wa", "secrets": {"webhook_secret": null, "extra": "e"}, "phone_number": "+1555"});
    let answer = world.put(MANAGER, "/v1/sessions/s1", body).await;
    assert_eq!((answer.status, &answer.body["status"]), (200, &json!("updated")), "{answer:?}");
    assert_eq!(directory.secret("s1", "api_key").unwrap().expose(), "key-of-s1");
    assert_eq!(directory.secret("s1", "webhook_secret"), None);
    assert_eq!(directory.secret("s1", "extra").unwrap().expose(), "e");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binding_epoch_rises_only_when_a_session_moves() {
    let world = World::start().await;
    world.seed().await;
    let put =
        async |body| world.put(OPS, "/v1/sessions/s1", body).await.body["binding_epoch"].as_i64().unwrap();
    assert_eq!(put(json!({"account_id": "wa", "phone_number": "+1555"})).await, 0);
    assert_eq!(put(json!({"account_id": "wa", "provider_session_id": "7"})).await, 1);
    assert_eq!(put(json!({"account_id": "wa", "provider_session_id": "7"})).await, 1);
    let second = json!({"tenant_id": "acme", "provider": "wasender", "base_url": "http://localhost:1"});
    assert_eq!(world.put(OPS, "/v1/accounts/wb", second).await.status, 201);
    assert_eq!(put(json!({"account_id": "wb", "provider_session_id": "7"})).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_belongs_to_one_tenant_for_ever() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"tenant_id": "other", "account_id": "ow"});
    world.put(OPS, "/v1/sessions/s1", body).await.problem(409, "id-taken");
    world.put(OTHER, "/v1/sessions/s1", json!({"account_id": "ow"})).await.problem(409, "id-taken");
    let foreign =
        world.put(MANAGER, "/v1/sessions/new", json!({"tenant_id": "other", "account_id": "ow"})).await;
    foreign.problem(403, "forbidden");
    let account = world.put(MANAGER, "/v1/sessions/new", json!({"account_id": "ow"})).await;
    assert_eq!(account.problem(400, "invalid-request"), ("/account_id".into(), "unknown_account".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_may_refer_to_files_and_variables() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({"account_id": "wa", "secrets": {"api_key": "file:/etc/hostname"}});
    let refused = world.put(MANAGER, "/v1/sessions/s1", body.clone()).await.problem(400, "invalid-request");
    assert_eq!(refused, ("/secrets/api_key".into(), "not_allowed".into()));
    assert_eq!(world.put(OPS, "/v1/sessions/s1", body).await.status, 200);
    let session = world.deps.directory.session("s1").unwrap();
    let record = session.record();
    let record = record.secrets.iter().find(|secret| secret.name == "api_key").unwrap();
    assert_eq!(record.reference.as_deref(), Some("file:/etc/hostname"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_session_or_account_is_refused_with_a_pointer() {
    let world = World::start().await;
    world.seed().await;
    let cases = [
        ("/v1/sessions/s1", json!({"account_id": "wa", "limits": [{"count": 0, "per_ms": 1}]}), "/limits/0"),
        (
            "/v1/sessions/s1",
            json!({"account_id": "wa", "pair_limits": [{"count": 1, "per_ms": 6_000}, {"count": 1, "per_ms": 0}]}),
            "/pair_limits/1",
        ),
        (
            "/v1/sessions/s1",
            json!({"account_id": "wa", "limits": [{"count": 1, "per_ms": 1, "burst": 2}]}),
            "/limits/0",
        ),
        ("/v1/sessions/s1", json!({"account_id": "wa", "max_in_flight": 0}), "/max_in_flight"),
        ("/v1/sessions/s1", json!({"account_id": "nope"}), "/account_id"),
        ("/v1/sessions/s1", json!({"account_id": "wa", "paused": true}), "/paused"),
        ("/v1/sessions/bad%20id", json!({"account_id": "wa"}), "path:id"),
        ("/v1/accounts/new", json!({"provider": "pigeon", "base_url": "https://x"}), "/provider"),
        ("/v1/accounts/new", json!({"provider": "wasender", "base_url": "file:///x"}), "/base_url"),
        ("/v1/accounts/new", json!({"provider": "wasender", "base_url": "https://user@host"}), "/base_url"),
    ];
    for (path, body, pointer) in cases {
        let answer = world.put(MANAGER, path, body.clone()).await;
        assert_eq!(answer.problem(400, "invalid-request").0, pointer, "{path} {body}");
    }
    world.put(ACME, "/v1/sessions/s1", json!({"account_id": "wa"})).await.problem(403, "forbidden");
    let nobody = world.put(OPS, "/v1/sessions/fresh", json!({"account_id": "wa"})).await;
    assert_eq!(nobody.problem(400, "invalid-request").0, "/tenant_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_a_put_and_ends_with_resume_or_delete() {
    let world = World::start().await;
    world.seed().await;
    let directory = &world.deps.directory;
    let paused = world.post(ACME, "/v1/sessions/s1/pause", json!({"reason": "campaign stopped"})).await;
    assert_eq!((paused.status, &paused.body["paused"]), (200, &json!(true)), "{paused:?}");
    assert!(directory.is_paused("s1"));
    let status = directory.status("s1", Facet::Operator).unwrap();
    assert_eq!(status.reason.as_deref(), Some("campaign stopped"));
    assert_eq!(world.put(MANAGER, "/v1/sessions/s1", json!({"account_id": "wa"})).await.status, 200);
    assert!(directory.is_paused("s1"));

    let resumed = world.call(world.http.post(world.url("/v1/sessions/s1/resume")).bearer_auth(ACME)).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    assert!(!directory.is_paused("s1"));

    assert_eq!(world.post(ACME, "/v1/sessions/s1/pause", json!({})).await.status, 200);
    assert_eq!(world.delete(MANAGER, "/v1/sessions/s1").await.status, 200);
    world.delete(MANAGER, "/v1/sessions/s1").await.problem(404, "unknown-session");
    assert_eq!(world.put(MANAGER, "/v1/sessions/s1", json!({"account_id": "wa"})).await.status, 201);
    let gone =
        tokio::time::timeout(std::time::Duration::from_secs(20), directory.until(|d| !d.is_paused("s1")));
    gone.await.expect("a new session does not begin paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_goes_only_when_no_session_needs_it() {
    let world = World::start().await;
    world.seed().await;
    world.delete(OPS, "/v1/accounts/wa").await.problem(409, "account-in-use");
    for session in ["s1", "s2"] {
        assert_eq!(world.delete(OPS, &format!("/v1/sessions/{session}")).await.status, 200);
    }
    assert_eq!(world.delete(OPS, "/v1/accounts/wa").await.status, 200);
    world.delete(OPS, "/v1/accounts/wa").await.problem(404, "unknown-account");
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_and_disconnect_become_commands() {
    let world = World::start().await;
    world.seed().await;
    assert_eq!(world.post(ACME, "/v1/sessions/s1/connect", json!({})).await.status, 202);
    assert_eq!(world.post(ACME, "/v1/sessions/s1/disconnect", json!({})).await.status, 202);
    let codec = codec::<SessionCommand>(&world, Topic::SessionsCommands);
    let records = world.records(Topic::SessionsCommands, 2).await;
    let actions: Vec<_> = records.iter().map(|record| codec.decode(record).unwrap().action).collect();
    assert_eq!(actions, [SessionAction::Connect, SessionAction::Disconnect]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_session_is_what_was_asked_for() {
    let world = World::start().await;
    world.seed().await;
    let body = json!({
        "account_id": "wa", "provider_session_id": "42", "phone_number": "+15551234567", "max_in_flight": 2,
        "limits": [{"count": 50, "per_ms": 86_400_000, "burst": 5}, {"count": 1, "per_ms": 60_000}],
        "pair_limits": [{"count": 1, "per_ms": 6_000}],
        "in_doubt_policy": "fail", "tenant_weight": 3, "on_delete": "move", "settings": {"a": "b"}
    });
    assert_eq!(world.put(MANAGER, "/v1/sessions/s9", body).await.status, 201);
    let record: Session = world.deps.directory.session("s9").unwrap().record();
    assert_eq!((record.tenant_id.as_str(), record.provider.as_str()), ("acme", "WASENDER"));
    assert_eq!(
        record.limits.iter().map(|l| (l.count, l.per_ms, l.burst)).collect::<Vec<_>>(),
        [(50, 86_400_000, 5), (1, 60_000, 1)]
    );
    assert_eq!(
        record.pair_limits.iter().map(|l| (l.count, l.per_ms, l.burst)).collect::<Vec<_>>(),
        [(1, 6_000, 1)]
    );
    assert_eq!((record.in_doubt_policy.as_str(), record.on_delete.as_str()), ("FAIL", "MOVE"));
    assert_eq!((record.tenant_weight, record.max_in_flight), (Some(3), Some(2)));
}
