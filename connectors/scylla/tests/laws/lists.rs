//! Laws of lists: each thing once, newest first, however the pages are cut.

use std::collections::BTreeSet;

use sluice_schemas::{ReceivedMessage, Status};
use sluice_scylla::{Arrived, Error, MessageStore, PageRequest};

use crate::world::*;

/// Pages of a list to its end, with what `between` does after each.
async fn message_pages(
    store: &MessageStore,
    session_id: &str,
    limit: usize,
    between: impl AsyncFn(usize),
) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut request = PageRequest { limit, cursor: None };
    loop {
        let page = store.messages(session_id, &request).await.unwrap();
        assert!(page.items.len() <= limit);
        pages.push(page.items.into_iter().map(|state| state.message_id).collect());
        let Some(next) = page.next else { return pages };
        request.cursor = Some(next);
        between(pages.len()).await;
    }
}

pub(crate) async fn paging_returns_each_message_once(store: &MessageStore) {
    let session_id = session();
    let start_ms = now_ms() - 3 * 3_600_000;
    // 57 messages over some two hours, every third at the time of the one before.
    let at_ms = |index: i64| start_ms + (index - i64::from(index % 3 == 2)) * 131_000;
    let key = |index: i64| format!("k{index:02}");
    let mut batch = Vec::new();
    for index in 0..57 {
        batch.push(fact(&session_id, &key(index), Status::Accepted, at_ms(index)));
        if index % 5 == 0 {
            // Accepted again by another owner, a bucket later.
            batch.push(fact(&session_id, &key(index), Status::Accepted, at_ms(index) + 16 * 60_000));
        }
    }
    let batch: Vec<_> =
        batch.into_iter().map(|record| Arrived { record, received_ms: start_ms + 3 * 3_600_000 }).collect();
    store.record_all(&batch).await.unwrap();

    let newer = |round: usize| {
        let newer = fact(&session_id, &format!("new{round}"), Status::Accepted, now_ms());
        async move { drop(store.record(&newer, now_ms()).await.unwrap()) }
    };
    for limit in [1, 10, 57, 200] {
        let pages = message_pages(store, &session_id, limit, |round| newer(round + 1_000 * limit)).await;
        let read: Vec<String> = pages.concat();
        let old: Vec<_> = (0..57).map(|index| (at_ms(index), message_id(&session_id, &key(index)))).collect();
        let listed: Vec<&String> = read.iter().filter(|id| old.iter().any(|(_, old)| old == *id)).collect();
        let mut expected: Vec<_> = old.iter().collect();
        expected.sort_by(|one, other| other.cmp(one));
        let expected: Vec<&String> = expected.into_iter().map(|(_, id)| id).collect();
        assert_eq!(listed, expected, "pages of {limit}");
        assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), read.len(), "pages of {limit}: none twice");
    }
}

pub(crate) async fn a_sparse_list_is_read_to_its_end(store: &MessageStore) {
    let session_id = session();
    let start_ms = now_ms() - 10 * DAY_MS;
    // One message every 40 minutes: each in a bucket of its own, most buckets between them empty.
    let batch: Vec<_> = (0..300)
        .map(|index| {
            let at_ms = start_ms + index * 40 * 60_000;
            let record = fact(&session_id, &index.to_string(), Status::Accepted, at_ms);
            Arrived { record, received_ms: at_ms }
        })
        .collect();
    store.record_all(&batch).await.unwrap();
    let pages = message_pages(store, &session_id, 120, async |_| {}).await;
    let expected: Vec<_> = (0..300).rev().map(|index| message_id(&session_id, &index.to_string())).collect();
    assert_eq!(pages.concat(), expected);
}

pub(crate) async fn a_refused_request_is_listed(store: &MessageStore) {
    let session_id = session();
    let at_ms = now_ms() - 5_000;
    store.record(&fact(&session_id, "refused", Status::Failed, at_ms), at_ms).await.unwrap();
    for (kind, after_ms) in [(Status::Accepted, 1_000), (Status::Failed, 2_000)] {
        store.record(&fact(&session_id, "failed", kind, at_ms + after_ms), at_ms + 3_000).await.unwrap();
    }
    let pages = message_pages(store, &session_id, 10, async |_| {}).await;
    assert_eq!(pages.concat(), [message_id(&session_id, "failed"), message_id(&session_id, "refused")]);
}

fn received(session_id: &str, chat_id: &str, event: i64, sent_ms: i64) -> ReceivedMessage {
    ReceivedMessage {
        event_id: format!("{session_id}/{event:03}"),
        session_id: session_id.to_owned(),
        chat_id: chat_id.to_owned(),
        text: Some(format!("text {event}")),
        sent_at: Some(sent_ms),
        received_at: sent_ms + 700,
        webhook_id: format!("webhook {event}"),
        ..ReceivedMessage::default()
    }
}

async fn received_pages(
    store: &MessageStore,
    session_id: &str,
    chat_id: Option<&str>,
) -> Vec<ReceivedMessage> {
    let mut found = Vec::new();
    let mut request = PageRequest { limit: 7, cursor: None };
    loop {
        let page = store.received(session_id, chat_id, &request).await.unwrap();
        assert!(page.items.len() <= 7);
        found.extend(page.items);
        let Some(next) = page.next else { return found };
        request.cursor = Some(next);
    }
}

pub(crate) async fn received_messages_are_listed_once_by_session_and_by_chat(store: &MessageStore) {
    let session_id = session();
    let start_ms = now_ms() - 20 * DAY_MS;
    let chats = ["15550001@s.whatsapp.net", "120363@g.us"];
    // 60 messages over 18 days: several buckets of the session, and several of each chat.
    let messages: Vec<_> = (0..60)
        .map(|event| {
            let chat_id = chats[usize::try_from(event % 2).unwrap()];
            received(&session_id, chat_id, event, start_ms + event * 26_000_000)
        })
        .collect();
    for message in messages.iter().rev() {
        store.record_received(message, message.received_at + 50).await.unwrap();
    }
    // The provider delivers webhooks again, later: nothing moves, and the first delivery stays.
    for message in messages.iter().take(20) {
        let received_at = message.received_at + DAY_MS;
        let again = ReceivedMessage { received_at, webhook_id: "again".to_owned(), ..message.clone() };
        store.record_received(&again, received_at).await.unwrap();
    }
    let newest_first: Vec<_> = messages.into_iter().rev().collect();
    assert_eq!(received_pages(store, &session_id, None).await, newest_first);
    for chat_id in chats {
        let of_chat: Vec<_> =
            newest_first.iter().filter(|message| message.chat_id == chat_id).cloned().collect();
        assert_eq!(received_pages(store, &session_id, Some(chat_id)).await, of_chat);
    }
    assert!(received_pages(store, &session_id, Some("nobody")).await.is_empty());
}

pub(crate) async fn a_foreign_cursor_is_refused(store: &MessageStore) {
    let request = PageRequest { limit: 10, cursor: Some("not a cursor".to_owned()) };
    assert!(matches!(store.messages("s", &request).await, Err(Error::Cursor)));
    assert!(matches!(store.received("s", None, &request).await, Err(Error::Cursor)));
    assert!(matches!(store.sessions("t", &request).await, Err(Error::Cursor)));
}
