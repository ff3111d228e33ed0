//! Whose webhook it is.

use sluice_schemas::InboundWebhook;

use super::address::Owner;
use crate::directory::Directory;

/// Fields of a body, by JSON pointer, that may name the session at its provider. The edge has already stripped
/// the ones that are credentials.
const HINTS: [&str; 6] =
    ["/sessionId", "/session_id", "/session", "/instance", "/data/session_id", "/data/sessionId"];

/// The owner of `webhook`: the session its path names; else, of its account's sessions, the one that the body
/// names or the only one there is.
pub(super) fn of(webhook: &InboundWebhook, directory: &Directory) -> Option<Owner> {
    if let Some(session_id) = webhook.session_id.as_deref().filter(|id| !id.is_empty()) {
        return Some(owner(session_id, webhook, directory));
    }
    let mut sessions = directory.sessions_of(webhook.account_id.as_deref()?);
    if sessions.len() > 1 {
        let body: serde_json::Value = serde_json::from_slice(&webhook.body).ok()?;
        let hints: Vec<String> = HINTS.iter().filter_map(|pointer| body.pointer(pointer)).map(text).collect();
        let hinted = |id: &str| hints.iter().any(|hint| hint == id);
        sessions.retain(|id| {
            let session = directory.session(id);
            let at_provider = session.as_ref().and_then(|session| session.provider_session_id.as_deref());
            hinted(id) || at_provider.is_some_and(hinted)
        });
    }
    match &sessions[..] {
        [only] => Some(owner(only, webhook, directory)),
        _ => None,
    }
}

fn owner(session_id: &str, webhook: &InboundWebhook, directory: &Directory) -> Owner {
    let tenant = || directory.session(session_id).map(|session| session.tenant_id.to_string());
    Owner { session_id: session_id.to_owned(), tenant_id: webhook.tenant_id.clone().or_else(tenant) }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sealing::Sealer;
    use crate::settings::Credentials;
    use crate::telemetry::metrics::Metrics;
    use sluice_schemas::Session;
    use std::sync::Arc;

    fn directory(sessions: &[(&str, &str)]) -> Directory {
        let credentials = Credentials { active_key: String::new(), keys: Default::default() };
        let sealer = Arc::new(Sealer::new(&credentials).unwrap());
        let directory = Directory::new(sealer, Arc::new(Metrics::new().unwrap()));
        for (id, at_provider) in sessions {
            directory.apply_session(
                id,
                Some(Session {
                    session_id: (*id).into(),
                    tenant_id: format!("tenant-of-{id}"),
                    account_id: "a".into(),
                    provider_session_id: Some((*at_provider).into()),
                    ..Default::default()
                }),
            );
        }
        directory
    }

    fn of_account(body: &str) -> InboundWebhook {
        InboundWebhook { account_id: Some("a".into()), body: body.into(), ..Default::default() }
    }

    #[test]
    fn the_path_wins_and_the_directory_adds_the_tenant() {
        let webhook = InboundWebhook { session_id: Some("s1".into()), ..of_account("not json") };
        let owner = of(&webhook, &directory(&[("s1", "7")])).unwrap();
        assert_eq!((owner.session_id.as_str(), owner.tenant_id.as_deref()), ("s1", Some("tenant-of-s1")));
    }

    #[test]
    fn an_account_with_one_session_needs_no_hint_and_one_with_two_does() {
        let session =
            |webhook: &InboundWebhook, directory: &Directory| of(webhook, directory).map(|o| o.session_id);
        let one = directory(&[("s1", "7")]);
        assert_eq!(session(&of_account("{}"), &one).as_deref(), Some("s1"));
        let two = directory(&[("s1", "7"), ("s2", "8")]);
        assert_eq!(session(&of_account("{}"), &two), None);
        assert_eq!(session(&of_account(r#"{"sessionId":8}"#), &two).as_deref(), Some("s2"));
        assert_eq!(session(&of_account(r#"{"data":{"session_id":"7"}}"#), &two).as_deref(), Some("s1"));
        assert_eq!(session(&of_account("broken"), &two), None);
    }
}
