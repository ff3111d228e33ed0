//! The laws of the message store, each run on the in-memory twin and on a real CQL server.

// The whole binary is tests; only functions marked as such are known to the lint.
#![allow(clippy::unwrap_used)]

#[path = "laws/world.rs"]
mod world;

#[path = "laws/facts.rs"]
mod facts;
#[path = "laws/lists.rs"]
mod lists;
#[path = "laws/schema.rs"]
mod schema;
#[path = "laws/sessions.rs"]
mod sessions;

/// Runs each law on both stores.
macro_rules! laws {
    ($($module:ident :: $law:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $law() {
                crate::$module::$law(&crate::world::memory()).await;
            })*
        }
        mod cql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                crate::$module::$law(&crate::world::cql().await).await;
            })*
        }
    };
}

laws! {
    facts::any_order_and_repetition_of_facts_gives_their_fold,
    facts::a_receipt_joins_whichever_side_comes_first,
    facts::a_receipt_and_its_submission_at_the_same_moment_join,
    facts::an_id_is_of_one_session_only,
    facts::of_two_messages_that_claim_an_id_the_earlier_keeps_it,
    facts::a_late_replay_alters_nothing,
    facts::a_fact_older_than_its_life_does_not_come_back,
    facts::a_fact_lives_by_its_own_time,
    facts::an_unmatched_receipt_waits_no_longer_than_its_life,
    facts::what_cannot_be_kept_is_named,
    facts::a_batch_is_answered_in_its_order,
    lists::paging_returns_each_message_once,
    lists::a_sparse_list_is_read_to_its_end,
    lists::a_refused_request_is_listed,
    lists::received_messages_are_listed_once_by_session_and_by_chat,
    lists::a_foreign_cursor_is_refused,
    sessions::the_latest_of_a_facet_stays,
    sessions::the_sessions_of_a_tenant_are_paged_by_id,
}
