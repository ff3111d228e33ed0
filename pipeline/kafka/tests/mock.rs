//! The laws on librdkafka's cluster inside the process.
#![allow(clippy::unwrap_used)]

mod laws;

use laws::World;
use sluice_kafka::mock::MockKafka;
use sluice_kafka::settings::{Membership, Settings};

/// Runs a law on a cluster of its own with one topic of two partitions.
fn on_mock<F: Future<Output = ()>>(membership: Membership, law: impl FnOnce(World) -> F) {
    let mock = MockKafka::empty().unwrap();
    mock.create_topic("law", 2).unwrap();
    let settings = Settings { membership, ..mock.settings().clone() };
    let world = World { settings, topic: "law".to_owned() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(law(world));
    runtime.shutdown_background();
    drop(mock);
}

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        $(#[test] fn $law() { on_mock(Membership::Shared, laws::$law); })*
    };
}

// Not here, but on a real broker (`real.rs`): `a_revoked_partition_is_given_back_only_when_released`. The mock's
// coordinator refuses every commit while it waits for members, for seconds; a real one takes them.
laws! {
    records_stand_in_the_order_of_sending_and_every_token_comes_back,
    a_full_queue_gives_the_token_back,
    a_dropped_producer_still_writes_what_was_sent,
    a_record_without_a_partition_lands_where_java_would_put_it,
    a_record_for_no_topic_is_refused_or_reported,
    a_tail_begins_where_it_is_told_under_a_new_generation,
    a_tail_tells_once_that_it_has_reached_the_end,
    a_slow_reader_of_a_tail_loses_nothing,
    a_partition_begins_only_when_started_and_where_told,
    a_partition_that_cannot_start_at_once_starts_in_the_end,
    a_stopped_partition_starts_anew_where_told_and_nothing_stale_follows_the_mark,
    an_owner_that_stops_reading_is_paused_and_loses_nothing,
    an_owner_commits_what_is_done_and_the_next_begins_there,
    how_far_a_group_has_come_is_seen_from_outside_it,
    owners_share_partitions_and_nothing_is_left_out,
    a_table_shows_what_stands_in_the_topic_and_what_changes,
}

#[test]
fn the_mock_has_every_topic_with_one_partition_count() {
    let mock = MockKafka::start().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let topics = sluice_kafka::topics::Topics::open(mock.settings()).unwrap();
    let count = runtime.block_on(topics.session_partitions()).unwrap();
    assert_eq!(count, mock.settings().partitions);
}

#[test]
fn a_process_alone_takes_and_commits_as_in_a_group() {
    on_mock(Membership::Alone, laws::a_partition_begins_only_when_started_and_where_told);
    on_mock(Membership::Alone, laws::an_owner_commits_what_is_done_and_the_next_begins_there);
}

#[test]
fn a_lost_partition_is_gone_at_once_and_comes_back_under_a_new_epoch() {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    use sluice_kafka::group::{self, Event, StartAt};

    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("law", 2, 1).unwrap();
    let settings = Settings { fetch_wait_max_ms: 5, ..Settings::single(&cluster.bootstrap_servers()) };
    let world = World { settings, topic: "law".to_owned() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        laws::fill(&world, 0, 3).await;
        let (mut member, control) = laws::join(&world, group::Options::default());
        let partitions = laws::assigned(&mut member, 2).await;
        for partition in &partitions {
            control.start(partition.clone(), StartAt::Committed);
        }
        laws::group_records(&mut member, 3).await;
        // The coordinator has forgotten the member.
        cluster
            .request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
        let lost = loop {
            match laws::within("the loss", member.recv()).await.unwrap() {
                Event::Lost(partitions) => break partitions,
                Event::Error(error) => eprintln!("{error}"),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(lost.into_iter().collect::<std::collections::BTreeSet<_>>(), partitions);
        let one = partitions.first().unwrap().clone();
        let refused = control.commit(vec![(one.clone(), 1)]).await;
        assert!(matches!(refused, Err(group::Error::NotAssigned(_))), "{refused:?}");
        match laws::within("the return", member.recv()).await.unwrap() {
            Event::Assigned(assignments) => assert!(assignments.iter().all(|again| again.epoch > 2)),
            other => panic!("{other:?}"),
        }
        control.start(one, StartAt::Offset(2));
        assert_eq!(laws::group_records(&mut member, 1).await[0].offset, 2);
        laws::within("close", member.close()).await;
    });
}
