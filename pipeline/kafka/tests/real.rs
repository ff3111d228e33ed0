//! The laws on a real Kafka, and what only a real one has: topic settings, broker time, compaction's gaps.
#![allow(clippy::unwrap_used)]

mod laws;

use std::time::Duration;

use laws::{World, within};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use sluice_kafka::group::{self, StartAt};
use sluice_kafka::owner::{self, Owner, Turn};
use sluice_kafka::record::{Outgoing, Partition};
use sluice_kafka::settings::Settings;
use sluice_kafka::tail::{self, From, Tail};
use sluice_kafka::topics::{Error, State, Topics};
use sluice_testkit::{EphemeralPrefix, OwnKafka, kafka, unique};

async fn create(settings: &Settings, topic: &str, options: &[(&str, &str)]) {
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", &settings.bootstrap_servers);
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let mut new = NewTopic::new(topic, 2, TopicReplication::Fixed(1));
    for (name, value) in options {
        new = new.set(name, value);
    }
    let timeout = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    admin.create_topics([&new], &timeout).await.unwrap().remove(0).unwrap();
}

/// A topic of two partitions and a group of the test's own.
async fn world(options: &[(&str, &str)]) -> World {
    let topic = unique("law");
    let settings =
        Settings { group_prefix: format!("{topic}-"), ..Settings::single(kafka().await.bootstrap()) };
    create(&settings, &topic, options).await;
    World { settings, topic }
}

macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                laws::$law(world(&[]).await).await;
            }
        )*
    };
}

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
    a_revoked_partition_is_given_back_only_when_released,
    an_owner_that_stops_reading_is_paused_and_loses_nothing,
    an_owner_commits_what_is_done_and_the_next_begins_there,
    how_far_a_group_has_come_is_seen_from_outside_it,
    owners_share_partitions_and_nothing_is_left_out,
    a_table_shows_what_stands_in_the_topic_and_what_changes,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_cannot_begin_while_the_broker_is_away_begins_when_it_is_back() {
    let kafka = OwnKafka::start().await;
    let topic = unique("law");
    let settings = Settings { request_timeout_ms: 1_000, ..Settings::single(kafka.bootstrap()) };
    create(&settings, &topic, &[]).await;
    let world = World { settings, topic };
    laws::fill(&world, 0, 3).await;
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    kafka.stop().await;
    let generation = tail.assign(0, From::Timestamp(0));
    loop {
        // Asked for while it is away.
        match within("the question fails", tail.recv()).await.unwrap() {
            tail::Event::Error(tail::Error::Temporary(rdkafka::error::KafkaError::MetadataFetch(_))) => break,
            tail::Event::Error(tail::Error::Temporary(_)) => {}
            event => panic!("{event:?}"),
        }
    }
    kafka.start_again().await;
    loop {
        match within("it begins", tail.recv()).await.unwrap() {
            tail::Event::Records(records) => {
                assert_eq!((records.partition, records.generation), (0, generation));
                break;
            }
            tail::Event::Error(tail::Error::Temporary(_)) => {}
            event => panic!("{event:?}"),
        }
    }
    tail.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_that_begins_at_a_time_to_come_begins_at_the_end() {
    let world = world(&[("message.timestamp.type", "LogAppendTime")]).await;
    laws::fill(&world, 0, 3).await;
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    tail.assign(0, From::Timestamp(i64::MAX / 2));
    let tail::Event::CaughtUp { next: Some(3), .. } = within("the end", tail.recv()).await.unwrap() else {
        panic!("it begins at the end, and says where that is")
    };
    laws::fill(&world, 0, 1).await;
    let tail::Event::Records(records) = within("records", tail.recv()).await.unwrap() else { panic!() };
    assert_eq!(records.records[0].offset, 3);
    tail.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_finds_the_offset_of_a_time() {
    let world = world(&[("message.timestamp.type", "LogAppendTime")]).await;
    laws::fill(&world, 0, 3).await;
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    tail.assign(0, From::Timestamp(0));
    let tail::Event::Records(records) = within("records", tail.recv()).await.unwrap() else { panic!() };
    let last = records.records.last().unwrap().timestamp_ms;
    assert!(last > 1_700_000_000_000, "the broker's time");
    assert_eq!(tail.control().offset_at(0, 0).await.unwrap(), Some(0));
    assert_eq!(tail.control().offset_at(0, last + 60_000).await.unwrap(), None);
    within("close", tail.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_makes_the_topics_and_a_second_apply_finds_nothing_to_do() {
    let prefix = EphemeralPrefix::new("apply");
    let settings =
        Settings { topic_prefix: prefix.as_str().to_owned(), ..Settings::single(kafka().await.bootstrap()) };
    let topics = Topics::open(&settings).unwrap();
    assert!(matches!(topics.session_partitions().await, Err(Error::Unfit(_))));
    let missing = topics.check().await.unwrap();
    assert!(missing.iter().all(|report| report.state == State::Missing));
    let created = topics.apply().await.unwrap();
    assert!(created.iter().all(|report| report.state == State::Created));
    // The controller has them at once; the broker's metadata follows.
    sluice_testkit::eventually(Duration::from_secs(30), "all topics to be right", || async {
        topics.check().await.unwrap().iter().all(|report| report.state == State::Right)
    })
    .await;
    assert!(topics.apply().await.unwrap().iter().all(|report| report.state == State::Right));
    assert_eq!(topics.session_partitions().await.unwrap(), settings.partitions);
    topics.durability().await.unwrap();

    // A setting of ours that differs is put right; what an operator has set besides stays.
    let mut other = settings.clone();
    other.topic_settings.insert(
        "messages.status".to_owned(),
        [("retention.ms".to_owned(), "3600000".to_owned()), ("flush.ms".to_owned(), "12345".to_owned())]
            .into(),
    );
    let altered = Topics::open(&other).unwrap().apply().await.unwrap();
    let status = altered.iter().find(|report| report.topic.ends_with("messages.status")).unwrap();
    assert_eq!(status.state, State::Altered);
    sluice_testkit::eventually(Duration::from_secs(30), "the setting to be put right", || async {
        let report = topics.apply().await.unwrap();
        report.iter().all(|report| report.state == State::Right)
    })
    .await;
    let still = Topics::open(&other).unwrap().check().await.unwrap();
    let status = still.iter().find(|report| report.topic.ends_with("messages.status")).unwrap();
    assert!(status.differences.iter().all(|difference| difference.what == "retention.ms"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_refuses_another_partition_count_and_changes_nothing() {
    let prefix = EphemeralPrefix::new("count");
    let settings =
        Settings { topic_prefix: prefix.as_str().to_owned(), ..Settings::single(kafka().await.bootstrap()) };
    create(&settings, &prefix.topic("outbound.requests"), &[]).await;
    let topics = Topics::open(&settings).unwrap();
    sluice_testkit::eventually(Duration::from_secs(30), "the odd topic to be seen", || async {
        topics.check().await.unwrap()[0].state == State::Unfit
    })
    .await;
    let reports = topics.apply().await.unwrap();
    assert_eq!(reports[0].state, State::Unfit);
    assert!(reports[1..].iter().all(|report| report.state == State::Missing), "nothing was created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_replicas_are_not_durable() {
    let prefix = EphemeralPrefix::new("replicas");
    let single =
        Settings { topic_prefix: prefix.as_str().to_owned(), ..Settings::single(kafka().await.bootstrap()) };
    Topics::open(&single).unwrap().apply().await.unwrap();
    let strict = Settings { replication_factor: 3, min_insync_replicas: 2, ..single };
    let topics = Topics::open(&strict).unwrap();
    sluice_testkit::eventually(Duration::from_secs(30), "the topics to be seen", || async {
        topics.session_partitions().await
    })
    .await;
    let Err(Error::Unfit(unfit)) = topics.durability().await else { panic!("must not be durable") };
    assert!(unfit.iter().any(|text| text.contains("replication_factor is 1")));
    assert!(unfit.iter().any(|text| text.contains("min.insync.replicas is 1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_go_on_after_the_broker_was_away() {
    let broker = OwnKafka::start().await;
    let settings = Settings::single(broker.bootstrap());
    create(&settings, "law", &[]).await;
    let world = World { settings, topic: "law".to_owned() };
    laws::fill(&world, 0, 5).await;
    let mut tail = Tail::open(&world.settings, "law", tail::Options::default()).unwrap();
    tail.assign(0, From::Beginning);
    let (mut member, control) = laws::join(&world, group::Options::default());
    for partition in laws::assigned(&mut member, 2).await {
        control.start(partition, StartAt::Committed);
    }
    assert_eq!(laws::group_records(&mut member, 5).await.len(), 5);
    let producer = laws::producer(&world);

    broker.stop().await;
    let outgoing = || Outgoing {
        topic: "law",
        partition: Some(0),
        key: Some(b"k"),
        value: Some(b"written while away"),
        headers: &[],
    };
    let waiting = producer.send_later(outgoing()).unwrap();
    let one = Partition::new("law", 0);
    let refused = within("a commit while away", control.commit(vec![(one.clone(), 3)])).await;
    assert!(refused.is_err(), "a commit is not acknowledged by nobody");

    broker.start_again().await;
    waiting.wait(Duration::from_secs(60)).await.unwrap();
    let mut next = 0;
    while next < 6 {
        if let tail::Event::Records(records) = within("records after", tail.recv()).await.unwrap() {
            next = records.next;
        }
    }
    // The member may have been thrown out meanwhile; then its partitions come again.
    let mut seen = false;
    while !seen {
        match within("the record after", member.recv()).await.unwrap() {
            group::Event::Records(records) => seen = records.iter().any(|record| record.offset == 5),
            group::Event::Assigned(assignments) => {
                for assignment in assignments {
                    control.start(assignment.partition, StartAt::Committed);
                }
            }
            group::Event::Revoking(partitions) => {
                drop(control.release(partitions.into_iter().map(|partition| (partition, None)).collect()));
            }
            group::Event::Lost(_) | group::Event::Stopped(_) | group::Event::Error(_) => {}
        }
    }
    sluice_testkit::eventually(Duration::from_secs(60), "a commit after", || {
        control.commit(vec![(one.clone(), 6)])
    })
    .await;
    within("close", member.close()).await;
    within("close", tail.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_told_to_reread_begins_before_what_is_committed() {
    let world = world(&[("message.timestamp.type", "LogAppendTime")]).await;
    laws::fill(&world, 0, 10).await;
    let options = owner::Options { reread_ms: Some(3_600_000), ..owner::Options::default() };
    for _ in 0..2 {
        let mut owner = Owner::join(&world.settings, "reread", &[&world.topic], options).unwrap();
        let mut offsets = Vec::new();
        while offsets.len() < 10 {
            if let Turn::Records(records) = within("records", owner.next()).await.unwrap() {
                owner.done_all(&records);
                offsets.extend(records.iter().map(|record| record.offset));
            }
        }
        assert_eq!(offsets, (0..10).collect::<Vec<i64>>());
        within("close", owner.close()).await.unwrap();
    }
}
