//! `sluice session` and `sluice account`.

use std::path::Path;

use axum::http::Method;
use serde_json::{Value, json};
use sluice_schemas::{Account as AccountRecord, Session as SessionRecord};

use super::args::{Account, Cli, Session};
use super::failure::Failure;
use super::inside::{Call, Inside, segment};
use super::output::{Printer, table, time};
use crate::query::view::SessionStatusView;

pub(super) async fn session(cli: &Cli, command: &Session) -> Result<(), Failure> {
    let document = match command {
        Session::Put { file, .. } => Some(read(file)?),
        Session::Pause { reason: Some(reason), .. } => {
            Some(json!({"reason": reason}).to_string().into_bytes())
        }
        _ => None,
    };
    let inside = Inside::open(cli.settings()?).await?;
    let path = |session: &str, rest: &str| format!("/v1/sessions/{}{rest}", segment(session));
    let call = |method, path| (method, path, document.as_deref());
    let (method, path, body) = match command {
        Session::List => return list_sessions(cli, inside).await,
        Session::Show { session } => return show_session(cli, inside, session).await,
        Session::Put { session, .. } => call(Method::PUT, path(session, "")),
        Session::Delete { session } => call(Method::DELETE, path(session, "")),
        Session::Pause { session, .. } => call(Method::POST, path(session, "/pause")),
        Session::Resume { session } => call(Method::POST, path(session, "/resume")),
    };
    write(cli, inside, method, &path, body).await
}

pub(super) async fn account(cli: &Cli, command: &Account) -> Result<(), Failure> {
    let document = match command {
        Account::Put { file, .. } => Some(read(file)?),
        _ => None,
    };
    let inside = Inside::open(cli.settings()?).await?;
    let path = |account: &str| format!("/v1/accounts/{}", segment(account));
    match command {
        Account::List => list_accounts(cli, inside).await,
        Account::Put { account, .. } => {
            write(cli, inside, Method::PUT, &path(account), document.as_deref()).await
        }
        Account::Delete { account } => write(cli, inside, Method::DELETE, &path(account), None).await,
    }
}

/// Reads a document; `-` is standard input.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    result.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    Ok(bytes)
}

async fn write(
    cli: &Cli,
    inside: Inside,
    method: Method,
    path: &str,
    body: Option<&[u8]>,
) -> Result<(), Failure> {
    let answer = inside.call(Call { method, path, body, ..Call::default() }).await;
    inside.close().await;
    Ok(Printer::new(cli.output).print(&answer?, text).map_err(anyhow::Error::from)?)
}

/// One line: the words of an answer.
fn text(answer: &Value) -> String {
    let fields = answer.as_object().into_iter().flatten();
    let words: Vec<String> = fields
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    words.join(" ")
}

/// A session as commands print it: its credentials by name only.
fn session_json(session: &SessionRecord, status: &SessionStatusView) -> Value {
    json!({
        "session_id": session.session_id,
        "tenant_id": session.tenant_id,
        "account_id": session.account_id,
        "provider": session.provider.as_str(),
        "binding_epoch": session.binding_epoch,
        "provider_session_id": session.provider_session_id,
        "phone_number": session.phone_number,
        "secrets": session.secrets.iter().map(|secret| &secret.name).collect::<Vec<_>>(),
        "limits": session.limits,
        "pair_limits": session.pair_limits,
        "updated_at": time(session.updated_at),
        "status": status,
    })
}

fn account_json(account: &AccountRecord, sessions: usize) -> Value {
    json!({
        "account_id": account.account_id,
        "tenant_id": account.tenant_id,
        "provider": account.provider.as_str(),
        "base_url": account.base_url,
        "secrets": account.secrets.iter().map(|secret| &secret.name).collect::<Vec<_>>(),
        "limits": account.limits,
        "sessions": sessions,
        "updated_at": time(account.updated_at),
    })
}

fn status_of(inside: &Inside, session_id: &str) -> SessionStatusView {
    SessionStatusView::of(session_id, &inside.deps.directory.statuses(session_id))
}

async fn list_sessions(cli: &Cli, inside: Inside) -> Result<(), Failure> {
    let mut sessions = inside.deps.directory.sessions();
    sessions.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    let statuses: Vec<_> = sessions.iter().map(|one| status_of(&inside, &one.session_id)).collect();
    inside.close().await;
    let values: Vec<Value> =
        sessions.iter().zip(&statuses).map(|(one, status)| session_json(&one.record(), status)).collect();
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .zip(&statuses)
        .map(|(one, status)| {
            let held = if status.held { "held" } else { "" };
            vec![
                one.session_id.to_string(),
                one.tenant_id.to_string(),
                one.account_id.to_string(),
                one.provider.as_str().to_lowercase(),
                status.connection.to_lowercase(),
                held.to_owned(),
            ]
        })
        .collect();
    let heads = ["SESSION", "TENANT", "ACCOUNT", "PROVIDER", "CONNECTION", "HELD"];
    Ok(Printer::new(cli.output).print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

async fn show_session(cli: &Cli, inside: Inside, session_id: &str) -> Result<(), Failure> {
    let found = inside.deps.directory.session(session_id);
    let status = status_of(&inside, session_id);
    inside.close().await;
    let session = found.ok_or_else(|| Failure::NotFound(format!("there is no session {session_id}")))?;
    let value = session_json(&session.record(), &status);
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    Ok(Printer::new(cli.output).print(&value, pretty).map_err(anyhow::Error::from)?)
}

async fn list_accounts(cli: &Cli, inside: Inside) -> Result<(), Failure> {
    let mut accounts = inside.deps.directory.accounts();
    accounts.sort_by(|a, b| a.record.account_id.cmp(&b.record.account_id));
    let values: Vec<Value> = accounts
        .iter()
        .map(|one| {
            let sessions = inside.deps.directory.sessions_of(&one.record.account_id).len();
            account_json(&one.record, sessions)
        })
        .collect();
    inside.close().await;
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|one| {
            let one = &one.record;
            vec![
                one.account_id.clone(),
                one.tenant_id.clone(),
                one.provider.as_str().to_lowercase(),
                one.base_url.clone(),
            ]
        })
        .collect();
    let heads = ["ACCOUNT", "TENANT", "PROVIDER", "BASE URL"];
    Ok(Printer::new(cli.output).print(&values, |_| table(&heads, &rows)).map_err(anyhow::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_schemas::Secret;

    #[test]
    fn credentials_are_printed_by_name_only() {
        let secret = Secret {
            name: "api_key".into(),
            reference: Some("env:HUNTER2".into()),
            ciphertext: Some(b"hunter2".to_vec()),
            ..Default::default()
        };
        let session = SessionRecord { secrets: vec![secret.clone()], ..Default::default() };
        let account = AccountRecord { secrets: vec![secret], ..Default::default() };
        let status = SessionStatusView::of("s", &[]);
        for printed in [session_json(&session, &status).to_string(), account_json(&account, 0).to_string()] {
            assert!(printed.contains("api_key"), "{printed}");
            assert!(!printed.to_lowercase().contains("hunter2"), "{printed}");
        }
    }
}
