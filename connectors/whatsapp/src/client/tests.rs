use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap as Received, StatusCode, Uri, header};
use axum::response::IntoResponse;

use super::*;
use crate::connector::Credential;

/// What a server was asked: path and headers.
type Asked = Arc<Mutex<Vec<(String, Received)>>>;

/// A server that answers `/moved` with a redirect, `/late` with 429 and the rest with 200.
async fn server() -> (String, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let app = Router::new().fallback(move |uri: Uri, headers: Received| {
        log.lock().unwrap().push((uri.path().to_owned(), headers));
        async move {
            match uri.path() {
                "/moved" => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")], "").into_response(),
                "/late" => {
                    let headers = [("Retry-After", "7"), ("X-Powered-By", "nothing to us")];
                    (StatusCode::TOO_MANY_REQUESTS, headers, "slow down").into_response()
                }
                _ => "fine".into_response(),
            }
        }
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, asked)
}

fn post(path: &str) -> HttpCall {
    let credential = Credential::SessionKey;
    HttpCall { method: Method::Post, path: path.into(), credential, body: Some(Bytes::from_static(b"{}")) }
}

#[tokio::test]
async fn credential_content_type_and_trace_go_with_the_call() {
    let (url, asked) = server().await;
    let client = Client::new(&ClientSettings::default()).unwrap();
    let key = Secret::new("k1");
    for scheme in [AuthScheme::Bearer, AuthScheme::Header("apikey")] {
        let target = Target::new(&format!("{url}/"), scheme, &key).unwrap();
        client.call(&target, &post("/send"), Some("00-1-2-01")).await;
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0].1["authorization"], "Bearer k1");
    assert_eq!(asked[1].1["apikey"], "k1");
    assert!(asked[1].1.get("authorization").is_none());
    for (path, headers) in asked.iter() {
        assert_eq!(path, "/send", "a final slash of the base URL makes no second one");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["traceparent"], "00-1-2-01");
        assert_eq!(headers["content-length"], "2");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (url, asked) = server().await;
    let client = Client::new(&ClientSettings::default()).unwrap();
    let target = Target::new(&url, AuthScheme::Bearer, &Secret::new("k")).unwrap();
    let (answer, _) = client.call(&target, &post("/moved"), None).await;
    assert!(matches!(answer, Answer::Http { status: 302, .. }), "{answer:?}");
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn only_headers_that_are_read_are_kept() {
    let (url, _) = server().await;
    let client = Client::new(&ClientSettings::default()).unwrap();
    let target = Target::new(&url, AuthScheme::Bearer, &Secret::new("k")).unwrap();
    let (answer, _) = client.call(&target, &post("/late"), None).await;
    let Answer::Http { status: 429, headers, body } = answer else { panic!("{answer:?}") };
    assert_eq!(headers.get("retry-after").map(String::as_str), Some("7"));
    assert!(headers.contains_key("date") && !headers.contains_key("x-powered-by"));
    assert_eq!(body, "slow down");
}

#[tokio::test]
async fn every_path_reaches_its_own_url_however_many_there_are() {
    let (url, asked) = server().await;
    let client = Client::new(&ClientSettings::default()).unwrap();
    let target = Target::new(&url, AuthScheme::Bearer, &Secret::new("k")).unwrap();
    let paths: Vec<String> = (0..7).chain(0..7).map(|number| format!("/p{number}")).collect();
    for path in &paths {
        client.call(&target, &post(path), None).await;
    }
    let seen: Vec<String> = asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(seen, paths);
}

#[test]
fn what_cannot_work_is_refused_before_any_call() {
    let key = Secret::new("k-secret");
    for base_url in ["", "wasenderapi.com/api", "ftp://host", "http://"] {
        assert!(
            matches!(Target::new(base_url, AuthScheme::Bearer, &key), Err(Error::BaseUrl(_))),
            "{base_url}"
        );
    }
    let broken = Target::new("http://host", AuthScheme::Bearer, &Secret::new("k-secret\n")).unwrap_err();
    assert!(matches!(broken, Error::Credential) && !format!("{broken:?} {broken}").contains("k-secret"));
    let short = ClientSettings { call_timeout_ms: 10, connect_timeout_ms: 10, ..Default::default() };
    assert!(matches!(Client::new(&short), Err(Error::Timeouts { .. })));
}
