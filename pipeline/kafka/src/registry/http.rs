//! The Confluent Schema Registry API over HTTP.
//!
//! Paths and error codes: Confluent "Schema Registry API Reference"; Apicurio's `ccompat/v7` answers the same
//! paths. GUID look-up: `GET /schemas/guids/{guid}` (Confluent Platform 8).

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sluice_schemas::codec::SchemaRef;

use super::Error;
use crate::settings::RegistrySettings;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Of an error body, shown to people.
const DETAIL_BYTES_MAX: usize = 300;

pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Option<(String, Option<String>)>,
}

/// Shows no credentials.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
}

#[derive(Deserialize)]
struct Compatible {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    error_code: u32,
    message: String,
}

impl Client {
    pub(super) fn new(url: &str, settings: &RegistrySettings) -> Result<Self, Error> {
        let wrong = |what: String| Error::Settings(what);
        let parsed = reqwest::Url::parse(url).map_err(|error| wrong(format!("url: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong("url: neither http nor https".to_owned()));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(wrong("url: credentials belong into username and password".to_owned()));
        }
        let mut builder = reqwest::Client::builder()
            .timeout(Duration::from_millis(settings.request_timeout_ms))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).map_err(|error| wrong(format!("ca_file: {error}")))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| wrong(format!("ca_file: {error}")))?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(|error| wrong(error.to_string()))?;
        let credentials = settings.username.clone().map(|user| (user, settings.password.clone()));
        Ok(Self { http, base: url.trim_end_matches('/').to_owned(), credentials })
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        let mut url = reqwest::Url::parse(&self.base).map_err(|error| Error::Settings(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| Error::Settings("url: cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(path);
        let request = self.http.request(method, url).header("accept", CONTENT_TYPE);
        Ok(match &self.credentials {
            Some((user, password)) => request.basic_auth(user, password.as_deref()),
            None => request,
        })
    }

    /// Sends a request and reads its answer; `what` names the thing asked for.
    async fn answer<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
        what: &str,
    ) -> Result<T, Error> {
        let unavailable = |error: reqwest::Error| Error::Unavailable(error.without_url().to_string());
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let body = response.bytes().await.map_err(unavailable)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Error::Answer(error.to_string()));
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let detail: String = problem.message.chars().take(DETAIL_BYTES_MAX).collect();
        Err(match status {
            StatusCode::NOT_FOUND => Error::NotFound(what.to_owned()),
            StatusCode::CONFLICT => Error::Incompatible { subject: what.to_owned(), detail },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Error::Unavailable(status.to_string())
            }
            _ if status.is_server_error() => Error::Unavailable(format!("{status} {detail}")),
            _ => {
                let detail = format!("{} {detail}", problem.error_code);
                Error::Refused { status: status.as_u16(), detail }
            }
        })
    }

    fn with_schema(&self, path: &[&str], schema: &str) -> Result<RequestBuilder, Error> {
        let body = json!({ "schema": schema, "schemaType": "AVRO" }).to_string();
        Ok(self.request(Method::POST, path)?.header("content-type", CONTENT_TYPE).body(body))
    }

    pub(super) async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let request = self.with_schema(&["subjects", subject], schema)?;
        self.answer::<Id>(request, subject).await.map(|found| found.id)
    }

    pub(super) async fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        let request = self.with_schema(&["subjects", subject, "versions"], schema)?;
        self.answer::<Id>(request, subject).await.map(|found| found.id)
    }

    pub(super) async fn check(&self, subject: &str, schema: &str) -> Result<(), Error> {
        let path = ["compatibility", "subjects", subject, "versions"];
        let request = self.with_schema(&path, schema)?.query(&[("verbose", "true")]);
        match self.answer::<Compatible>(request, subject).await {
            Ok(Compatible { is_compatible: true, .. }) | Err(Error::NotFound(_)) => Ok(()),
            Ok(Compatible { messages, .. }) => {
                let detail = messages.join("; ").chars().take(DETAIL_BYTES_MAX).collect();
                Err(Error::Incompatible { subject: subject.to_owned(), detail })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn compatibility(&self, subject: &str) -> Result<Option<String>, Error> {
        match self.answer::<Level>(self.request(Method::GET, &["config", subject])?, subject).await {
            Ok(found) => Ok(Some(found.level)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), Error> {
        let body = json!({ "compatibility": level }).to_string();
        let request = self.request(Method::PUT, &["config", subject])?;
        let request = request.header("content-type", CONTENT_TYPE).body(body);
        self.answer::<serde_json::Value>(request, subject).await.map(drop)
    }

    pub(super) async fn schema(&self, name: SchemaRef) -> Result<String, Error> {
        let (kind, text) = match name {
            SchemaRef::Id(id) => ("ids", id.to_string()),
            SchemaRef::Guid(guid) => ("guids", guid.to_string()),
        };
        let request = self.request(Method::GET, &["schemas", kind, &text])?;
        self.answer::<Schema>(request, &name.to_string()).await.map(|found| found.schema)
    }

    pub(super) async fn ping(&self) -> Result<(), Error> {
        let request = self.request(Method::GET, &["subjects"])?;
        self.answer::<serde_json::Value>(request, "its subjects").await.map(drop)
    }
}
