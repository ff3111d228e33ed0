//! The latest code to link each session with, from `sessions.links`, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sluice_schemas::SessionLink;

/// The latest code of each session. Cheap to clone; all clones are one.
///
/// Holds one code a session; expired ones go when the session's next comes or when they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Links {
    latest: Arc<RwLock<HashMap<String, SessionLink>>>,
}

impl Links {
    /// Takes in a record; a code older than the known one is left out.
    pub fn apply(&self, link: SessionLink) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        match latest.get(&link.session_id) {
            Some(known) if known.created_at > link.created_at => {}
            _ => {
                latest.insert(link.session_id.clone(), link);
            }
        }
    }

    /// The code of a session that still works at `now_ms`.
    pub fn get(&self, session_id: &str, now_ms: i64) -> Option<SessionLink> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.get(session_id).filter(|link| link.expires_at.is_none_or(|at| at > now_ms)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(code: &str, created_at: i64, expires_at: Option<i64>) -> SessionLink {
        SessionLink {
            session_id: "s".into(),
            code: code.into(),
            created_at,
            expires_at,
            ..Default::default()
        }
    }

    #[test]
    fn the_latest_code_that_still_works_is_given() {
        let links = Links::default();
        assert_eq!(links.get("s", 0), None);
        links.apply(link("second", 20, Some(100)));
        links.apply(link("first", 10, None));
        assert_eq!(links.get("s", 99).map(|link| link.code).as_deref(), Some("second"));
        assert_eq!(links.get("s", 100), None, "it has expired");
    }
}
