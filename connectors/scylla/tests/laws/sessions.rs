//! Laws of session statuses.

use sluice_schemas::{Connection, Facet, SessionStatus};
use sluice_scylla::{MessageStore, PageRequest};
use sluice_testkit as testkit;

use crate::world::*;

fn status(session_id: &str, facet: Facet, connection: Connection, updated_ms: i64) -> SessionStatus {
    SessionStatus {
        session_id: session_id.to_owned(),
        facet,
        connection,
        updated_at: updated_ms,
        ..SessionStatus::default()
    }
}

pub(crate) async fn the_latest_of_a_facet_stays(store: &MessageStore) {
    let at_ms = now_ms() - 10_000;
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
        let session_id = session();
        let told = [
            status(&session_id, Facet::Connection, Connection::Connected, at_ms),
            status(&session_id, Facet::Connection, Connection::LoggedOut, at_ms + 2),
            status(&session_id, Facet::Poll, Connection::NeedScan, at_ms + 1),
        ];
        for index in order {
            store.record_session(&told[index], at_ms + 100).await.unwrap();
        }
        let facets = store.session(&session_id).await.unwrap();
        assert_eq!(facets, [told[1].clone(), told[2].clone()], "{order:?}");
    }
    // A clock that ran far ahead is outlasted by what is written once it is set right.
    let session_id = session();
    let ahead = status(&session_id, Facet::Poll, Connection::Banned, at_ms + 30 * DAY_MS);
    let right = status(&session_id, Facet::Poll, Connection::Connected, at_ms + 50);
    store.record_session(&ahead, at_ms).await.unwrap();
    store.record_session(&right, at_ms + 60).await.unwrap();
    assert_eq!(store.session(&session_id).await.unwrap(), [right]);
    assert!(store.session("nobody").await.unwrap().is_empty());
}

pub(crate) async fn the_sessions_of_a_tenant_are_paged_by_id(store: &MessageStore) {
    let tenant = testkit::unique("tenant");
    let session_id = |index: usize| format!("{tenant}/{index:02}");
    for index in (0..23).rev() {
        let mut status = status(&session_id(index), Facet::Hold, Connection::Unknown, now_ms());
        status.tenant_id = Some(tenant.clone());
        store.record_session(&status, now_ms()).await.unwrap();
    }
    let mut found = Vec::new();
    let mut request = PageRequest { limit: 5, cursor: None };
    loop {
        let page = store.sessions(&tenant, &request).await.unwrap();
        assert!(page.items.len() <= 5);
        found.extend(page.items.into_iter().map(|facets| facets[0].session_id.clone()));
        let Some(next) = page.next else { break };
        request.cursor = Some(next);
    }
    assert_eq!(found, (0..23).map(session_id).collect::<Vec<_>>());
    let other = store.sessions(&testkit::unique("tenant"), &PageRequest::default()).await.unwrap();
    assert!(other.items.is_empty());
}
