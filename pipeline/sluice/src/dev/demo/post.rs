//! Sends what is planned through the API: one connection per session, in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::books::Books;
use super::plan::{Planned, Timing};
use crate::dev::http::{Call, Http, Reply};
use crate::dev::{Dev, SESSIONS, Shared, lock, seed};

/// Times a request is made again when the answer is 503 or there is none.
const TRIES_MAX: u32 = 20;
/// Pause before it is made again.
const PAUSE: Duration = Duration::from_millis(250);

/// Sends everything; what was accepted or refused stands in the books.
///
/// # Errors
/// If the API cannot be reached.
pub(super) async fn post(dev: &Dev, plan: &Arc<Vec<Planned>>, books: &Shared<Books>) -> anyhow::Result<()> {
    let sessions = (1..=SESSIONS).map(seed::session_id);
    let posted = sessions.map(|session| post_session(dev.http(), session, plan, books));
    try_join_all(posted).await?;
    Ok(())
}

async fn post_session(
    mut http: Http,
    session: String,
    plan: &[Planned],
    books: &Shared<Books>,
) -> anyhow::Result<()> {
    for planned in plan.iter().filter(|planned| planned.session == session) {
        let call = request(planned);
        for _ in 0..=u32::from(planned.twice) {
            let reply = repeat(&mut http, &call).await?;
            lock(books).answered(planned.id, told(planned, &reply));
        }
        if matches!(planned.timing, Timing::Canceled(_)) {
            let path = format!("/v1/sessions/{session}/messages/{}/cancel", planned.id);
            let reply = repeat(&mut http, &Call::post(path)).await?;
            if reply.status != 202 {
                lock(books).answered(planned.id, Err(format!("cancel: {} {}", reply.status, reply.body)));
            }
        }
    }
    Ok(())
}

/// Whether a request was accepted, under the id that anybody can compute.
fn told(planned: &Planned, reply: &Reply) -> Result<(), String> {
    if reply.status != 202 {
        return Err(format!("{} {}", reply.status, reply.body));
    }
    let id = reply.body.get("message_id").and_then(Value::as_str);
    match id {
        Some(id) if id == planned.id.to_string() => Ok(()),
        other => Err(format!("accepted under the id {other:?}")),
    }
}

fn request(planned: &Planned) -> Call {
    let mut body = json!({"to": planned.to, "text": planned.text});
    let at = |wait: Duration| {
        let wait = chrono::TimeDelta::from_std(wait).unwrap_or_default();
        json!((chrono::Utc::now() + wait).to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    };
    match planned.timing {
        Timing::Now => {}
        Timing::After(wait) | Timing::Canceled(wait) => body["send_at"] = at(wait),
        Timing::Within(wait) => body["expires_at"] = at(wait),
    }
    if let Some(policy) = planned.in_doubt_policy {
        body["in_doubt_policy"] = json!(policy);
    }
    Call {
        method: Method::POST,
        path: format!("/v1/sessions/{}/messages", planned.session),
        key: Some(planned.key.clone()),
        body: Some(body),
    }
}

/// Makes a call until it is answered with something else than 503. The key makes that harmless.
async fn repeat(http: &mut Http, call: &Call) -> anyhow::Result<Reply> {
    let mut tries = 0;
    loop {
        tries += 1;
        match http.call(call).await {
            Ok(reply) if reply.status != 503 || tries >= TRIES_MAX => return Ok(reply),
            Err(error) if tries >= TRIES_MAX => {
                return Err(error).with_context(|| format!("{} {}", call.method, call.path));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What the reads tell of each message: status and revision; none if they know none.
///
/// # Errors
/// If the API cannot be reached.
pub(super) async fn read_all(dev: &Dev, ids: &[Uuid]) -> anyhow::Result<Vec<(Uuid, Option<View>)>> {
    let share = ids.len().div_ceil(SESSIONS as usize).max(1);
    let read = ids.chunks(share).map(|ids| read_some(dev.http(), ids));
    Ok(try_join_all(read).await?.concat())
}

/// What the reads tell of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Its status.
    pub(super) status: String,
    /// How many facts it is made of.
    pub(super) revision: i64,
}

async fn read_some(mut http: Http, ids: &[Uuid]) -> anyhow::Result<Vec<(Uuid, Option<View>)>> {
    let mut views = Vec::with_capacity(ids.len());
    for id in ids {
        let reply = repeat(&mut http, &Call::get(format!("/v1/messages/{id}"))).await?;
        let view = (reply.status == 200).then(|| View {
            status: reply.body["status"].as_str().unwrap_or_default().to_owned(),
            revision: reply.body["revision"].as_i64().unwrap_or_default(),
        });
        views.push((*id, view));
    }
    Ok(views)
}
