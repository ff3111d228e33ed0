//! What an answer to a call means. Text counts for more than the HTTP status: the same failure comes with 400,
//! 409 and even 200, under `message` or `error` (provider documentation, and captures of integrators).

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_core::outcome::{CallResult, Outcome, ThrottleScope};
use sluice_schemas::{Command, Connection, ErrorClass, SendError};

use crate::connector::Answer;
use crate::json;

/// An outcome with its stable code.
struct Verdict {
    outcome: Outcome,
    code: &'static str,
}

impl Verdict {
    fn permanent(code: &'static str) -> Self {
        Self { outcome: Outcome::Permanent, code }
    }

    fn unknown(code: &'static str) -> Self {
        Self { outcome: Outcome::Unknown, code }
    }

    fn down(connection: Connection, code: &'static str) -> Self {
        Self { outcome: Outcome::SessionDown { connection }, code }
    }

    fn throttled(retry_after_ms: Option<u64>) -> Self {
        Self {
            outcome: Outcome::Throttled { scope: ThrottleScope::Session, retry_after_ms },
            code: "throttled",
        }
    }
}

/// What the body says, as far as it is JSON.
struct Said {
    value: Value,
    /// `message`, else `error`, as it came.
    text: String,
    /// The same in lower case.
    lower: String,
    success: Option<bool>,
}

pub(super) fn classify(command: Command, answer: &Answer, duration_ms: u64) -> CallResult {
    let (mut verdict, http_status, detail) = match answer {
        Answer::NotConnected { detail } => {
            (Verdict { outcome: Outcome::Retryable, code: "not_connected" }, None, detail.clone())
        }
        Answer::Broken { detail, status } => (Verdict::unknown("call_broken"), *status, detail.clone()),
        Answer::Http { status, headers, body } => {
            let said = read(body);
            let detail = detail(*status, headers, said.as_ref());
            let verdict = match &said {
                Some(said) => of_json(command, *status, headers, said),
                None => of_other(*status, headers),
            };
            (verdict, Some(*status), detail)
        }
    };
    // Edit, revoke, read and presence can be repeated and nobody notices, so doubt only means another try.
    if command != Command::Send && verdict.outcome == Outcome::Unknown {
        verdict.outcome = Outcome::Retryable;
    }
    let error = error(&verdict, detail);
    CallResult { outcome: verdict.outcome, error, http_status, duration_ms }
}

fn read(body: &[u8]) -> Option<Said> {
    let value: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
    let text = json::text(&value, &["message", "error"]).unwrap_or_default().to_owned();
    let lower = text.to_lowercase();
    let success = value.get("success").and_then(Value::as_bool);
    Some(Said { value, text, lower, success })
}

fn of_json(command: Command, status: u16, headers: &BTreeMap<String, String>, said: &Said) -> Verdict {
    let ok = (200..300).contains(&status);
    if ok && said.success != Some(false) {
        return accepted(command, said);
    }
    if status == 401 {
        return Verdict::down(Connection::Unknown, "credential_refused");
    }
    if status == 429 || (status < 500 && json::any(&said.value, &["retry_after", "retryAfter"]).is_some()) {
        return Verdict::throttled(retry_after_ms(Some(&said.value), headers));
    }
    if let Some(verdict) = of_text(said) {
        return verdict;
    }
    match status {
        // Refusals of a message come under `error`, refusals of the caller under `message`.
        403 if said.value.get("message").is_none() => Verdict::permanent("refused"),
        402 | 403 => Verdict::down(Connection::Unknown, "forbidden"),
        404 => Verdict::permanent("not_found"),
        408 => Verdict::unknown("provider_timeout"),
        413 => Verdict::permanent("request_too_large"),
        422 => Verdict::permanent("invalid_request"),
        200..=299 | 400..=499 => Verdict::permanent("refused"),
        300..=399 => Verdict::down(Connection::Unknown, "unexpected_redirect"),
        _ => Verdict::unknown("provider_error"),
    }
}

fn accepted(command: Command, said: &Said) -> Verdict {
    let data = said.value.get("data").unwrap_or(&Value::Null);
    let provider_message_id = json::id(data, &["msgId", "msg_id"]);
    // An answer without msgId leaves nothing to find the message by: not known to be sent.
    if command == Command::Send && provider_message_id.is_none() {
        return Verdict::unknown("accepted_without_id");
    }
    if said.success != Some(true) && provider_message_id.is_none() {
        return Verdict::unknown("unreadable_answer");
    }
    Verdict { outcome: Outcome::Submitted { provider_message_id, whatsapp_message_id: None }, code: "" }
}

/// Failures known by what they say, whatever the HTTP status.
fn of_text(said: &Said) -> Option<Verdict> {
    let has = |part: &str| said.lower.contains(part);
    if has("does not exist on whatsapp") || has("not on whatsapp") || has("not registered on whatsapp") {
        return Some(Verdict::permanent("recipient_not_on_whatsapp"));
    }
    if has("session") && (has("logged out") || has("logged_out")) {
        return Some(Verdict::down(Connection::LoggedOut, "session_logged_out"));
    }
    if (has("session") && has("not connected")) || has("connect your session first") {
        return Some(Verdict::down(Connection::Disconnected, "session_not_connected"));
    }
    if has("session") && has("not found") {
        return Some(Verdict::down(Connection::Unknown, "session_not_found"));
    }
    if has("active subscription") || has("subscription is required") || has("subscription has expired") {
        return Some(Verdict::down(Connection::Unknown, "subscription_required"));
    }
    if has("trial") && has("bulk") {
        return Some(Verdict::permanent("account_limit"));
    }
    let waits =
        ["too many requests", "too many messages", "rate limit", "account protection", "you can only send"];
    if waits.into_iter().any(has) || (has("daily") && has("limit")) {
        return Some(Verdict::throttled(None));
    }
    if has("timed out") || has("timeout") {
        return Some(Verdict::unknown("provider_timeout"));
    }
    None
}

/// Answers that are not JSON: gateways, or a base URL that is not Wasender's.
fn of_other(status: u16, headers: &BTreeMap<String, String>) -> Verdict {
    match status {
        401 => Verdict::down(Connection::Unknown, "credential_refused"),
        402 | 403 => Verdict::down(Connection::Unknown, "forbidden"),
        // A wrong base URL must not fail a whole backlog for good.
        404 | 405 => Verdict::down(Connection::Unknown, "endpoint_not_found"),
        300..=399 => Verdict::down(Connection::Unknown, "unexpected_redirect"),
        429 => Verdict::throttled(retry_after_ms(None, headers)),
        408 => Verdict::unknown("provider_timeout"),
        413 => Verdict::permanent("request_too_large"),
        400..=499 => Verdict::permanent("refused"),
        500..=599 => Verdict::unknown("provider_error"),
        _ => Verdict::unknown("unreadable_answer"),
    }
}

/// The wait asked for: body, then `Retry-After` (seconds or a date), then `X-RateLimit-Reset` (seconds left,
/// or a Unix time). Dates count from the answer's own `Date`, so that no clock of ours takes part.
fn retry_after_ms(body: Option<&Value>, headers: &BTreeMap<String, String>) -> Option<u64> {
    let seconds = |seconds: f64| (seconds >= 0.0).then(|| (seconds.min(1.0e9) * 1_000.0).ceil() as u64);
    let hint = body
        .and_then(|value| json::any(value, &["retry_after", "retryAfter"]))
        .and_then(json::number)
        .and_then(seconds);
    if hint.is_some() {
        return hint;
    }
    let answered_at = headers.get("date").and_then(|text| http_date(text));
    let until = |unix: f64| seconds((unix - answered_at? as f64).max(0.0));
    if let Some(text) = headers.get("retry-after") {
        let wait = match text.trim().parse::<f64>() {
            Ok(wait) => seconds(wait),
            Err(_) => http_date(text).and_then(|unix| until(unix as f64)),
        };
        if wait.is_some() {
            return wait;
        }
    }
    let reset: f64 = headers.get("x-ratelimit-reset")?.trim().parse().ok()?;
    match reset {
        // No rate window is years long: this is a time.
        r if r > 1.0e11 => until(r / 1_000.0),
        r if r > 1.0e8 => until(r),
        r => seconds(r),
    }
}

fn http_date(text: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(text.trim()).ok().map(|time| time.timestamp())
}

fn detail(status: u16, headers: &BTreeMap<String, String>, said: Option<&Said>) -> String {
    let Some(said) = said else {
        let kind = headers.get("content-type").map_or("an unknown type", String::as_str);
        return format!("HTTP {status} with a body of {} that is not JSON", json::clipped(kind, 60));
    };
    let mut detail = format!("HTTP {status}");
    if !said.text.is_empty() {
        detail.push_str(": ");
        detail.push_str(&said.text);
    }
    if let Some(fields) = said.value.get("errors").and_then(Value::as_object) {
        for (name, problems) in fields {
            let problem = match problems {
                Value::Array(list) => list.iter().find_map(Value::as_str).unwrap_or("is wrong"),
                Value::String(text) => text,
                _ => "is wrong",
            };
            detail.push_str(&format!("; {name}: {problem}"));
        }
    }
    json::clipped(&detail, 400)
}

fn error(verdict: &Verdict, detail: String) -> Option<SendError> {
    let (class, retryable) = match verdict.outcome {
        // `NotMade` is for the caller of the client; no answer means it.
        Outcome::Submitted { .. } | Outcome::NotMade => return None,
        Outcome::Throttled { .. } => (ErrorClass::Throttled, true),
        Outcome::Retryable => (ErrorClass::Retryable, true),
        Outcome::Permanent => (ErrorClass::Permanent, false),
        Outcome::SessionDown { .. } => (ErrorClass::SessionDown, true),
        Outcome::Unknown => (ErrorClass::Uncertain, false),
    };
    Some(SendError {
        class,
        code: verdict.code.to_owned(),
        provider_code: None,
        detail: Some(detail),
        retryable,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, headers: &[(&str, &str)], body: &str) -> CallResult {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let answer = Answer::Http { status, headers, body: body.as_bytes().to_vec().into() };
        classify(Command::Send, &answer, 3)
    }

    fn code(result: &CallResult) -> &str {
        result.error.as_ref().map_or("", |error| &error.code)
    }

    fn wait_ms(result: &CallResult) -> Option<u64> {
        match result.outcome {
            Outcome::Throttled { scope: ThrottleScope::Session, retry_after_ms } => retry_after_ms,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_a_success_with_its_id_is_submitted() {
        let taken =
            http(200, &[], r#"{"success":true,"data":{"msgId":77,"jid":"+1","status":"in_progress"}}"#);
        let Outcome::Submitted { provider_message_id, .. } = &taken.outcome else { panic!("{taken:?}") };
        assert_eq!(provider_message_id.as_deref(), Some("77"));
        assert_eq!(taken.error, None);
        for body in [r#"{"success":true}"#, "", "OK", "[]", r#"{"success":true,"data":{"msgId":null}}"#] {
            assert_eq!(http(200, &[], body).outcome, Outcome::Unknown, "{body}");
        }
    }

    #[test]
    fn a_session_that_is_not_connected_is_known_by_its_text() {
        for key in ["message", "error"] {
            for status in [200, 400, 409, 500] {
                let body = format!(
                    r#"{{"success":false,"{key}":"Your Whatsapp Session is not connected please connect your session first."}}"#
                );
                let result = http(status, &[], &body);
                assert_eq!(
                    result.outcome,
                    Outcome::SessionDown { connection: Connection::Disconnected },
                    "{status} {key}"
                );
                assert_eq!(code(&result), "session_not_connected");
            }
        }
    }

    #[test]
    fn a_wait_is_read_wherever_it_stands() {
        for (body, ms) in [("5", 5_000), ("2.5", 2_500), ("\"7\"", 7_000), ("0", 0)] {
            let body =
                format!(r#"{{"message":"You have account protection enabled.","retry_after":{body}}}"#);
            assert_eq!(wait_ms(&http(429, &[], &body)), Some(ms));
        }
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(wait_ms(&http(429, &[("retry-after", "12")], "{}")), Some(12_000));
        let later = ("retry-after", "Wed, 21 Oct 2026 07:28:09 GMT");
        assert_eq!(wait_ms(&http(429, &[date, later], "x")), Some(9_000));
        assert_eq!(wait_ms(&http(429, &[("x-ratelimit-reset", "30")], "{}")), Some(30_000));
        let unix = http_date(date.1).unwrap() + 4;
        assert_eq!(wait_ms(&http(429, &[date, ("x-ratelimit-reset", &unix.to_string())], "{}")), Some(4_000));
        assert_eq!(wait_ms(&http(429, &[("x-ratelimit-reset", &unix.to_string())], "{}")), None);
        assert_eq!(wait_ms(&http(429, &[], r#"{"retry_after":"soon"}"#)), None);
        assert_eq!(
            wait_ms(&http(400, &[], r#"{"success":false,"message":"slow","retry_after":3}"#)),
            Some(3_000)
        );
    }

    #[test]
    fn refusals_and_doubts_are_told_apart() {
        let lid = r#"{"success":false,"message":"The provided JID does not exist on WhatsApp."}"#;
        let down = Outcome::SessionDown { connection: Connection::Unknown };
        for (status, body, outcome, expected) in [
            (401, r#"{"success":false,"message":"Invalid API key"}"#, down.clone(), "credential_refused"),
            (401, "", down.clone(), "credential_refused"),
            (422, lid, Outcome::Permanent, "recipient_not_on_whatsapp"),
            (
                422,
                r#"{"success":false,"message":"Validation failed"}"#,
                Outcome::Permanent,
                "invalid_request",
            ),
            (404, r#"{"success":false,"error":"Message not found"}"#, Outcome::Permanent, "not_found"),
            (404, "<html>", down.clone(), "endpoint_not_found"),
            (301, "", down.clone(), "unexpected_redirect"),
            (
                403,
                r#"{"success":false,"message":"Active subscription or trial is required to use the API"}"#,
                down,
                "subscription_required",
            ),
            (
                400,
                r#"{"success":false,"message":"You are on a trial plan and cannot send bulk message to more than 3 recipients."}"#,
                Outcome::Permanent,
                "account_limit",
            ),
            (400, r#"{"success":false,"error":"no"}"#, Outcome::Permanent, "refused"),
            (
                403,
                r#"{"success":false,"error":"You are not authorized to modify this message."}"#,
                Outcome::Permanent,
                "refused",
            ),
            (200, r#"{"success":false,"error":"no"}"#, Outcome::Permanent, "refused"),
            (200, r#"{"success":false,"error":"Sending timed out"}"#, Outcome::Unknown, "provider_timeout"),
            (
                422,
                r#"{"success":false,"message":"The poll has too many options."}"#,
                Outcome::Permanent,
                "invalid_request",
            ),
            (408, "{}", Outcome::Unknown, "provider_timeout"),
            (500, r#"{"success":false,"message":"Server Error"}"#, Outcome::Unknown, "provider_error"),
            (502, "<html><h1>502</h1></html>", Outcome::Unknown, "provider_error"),
            (503, r#"{"message":"busy","retry_after":1}"#, Outcome::Unknown, "provider_error"),
        ] {
            let result = http(status, &[], body);
            assert_eq!((&result.outcome, code(&result)), (&outcome, expected), "{status} {body}");
        }
    }

    #[test]
    fn what_never_connected_was_not_sent_and_what_broke_is_in_doubt() {
        let refused = Answer::NotConnected { detail: "connection refused".into() };
        assert_eq!(classify(Command::Send, &refused, 1).outcome, Outcome::Retryable);
        let broken = Answer::Broken { detail: "reset".into(), status: Some(200) };
        assert_eq!(classify(Command::Send, &broken, 1).outcome, Outcome::Unknown);
        assert_eq!(classify(Command::Edit, &broken, 1).outcome, Outcome::Retryable);
    }

    #[test]
    fn a_command_other_than_send_needs_no_id() {
        let body = r#"{"success":true,"message":"Message deleted"}"#;
        let answer =
            Answer::Http { status: 200, headers: Default::default(), body: body.as_bytes().to_vec().into() };
        assert!(matches!(classify(Command::Revoke, &answer, 1).outcome, Outcome::Submitted { .. }));
        assert_eq!(classify(Command::Send, &answer, 1).outcome, Outcome::Unknown);
    }
}
