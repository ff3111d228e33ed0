//! Laws of the clients, kept by whatever broker they run on. `mock.rs` and `real.rs` run them.
#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluice_kafka::group::{self, Control, Event, GroupConsumer, StartAt};
use sluice_kafka::owner::{self, Owner, Turn};
use sluice_kafka::producer::{Producer, WriteError};
use sluice_kafka::progress::Progress;
use sluice_kafka::record::{Outgoing, Partition, Record};
use sluice_kafka::registry::Codecs;
use sluice_kafka::settings::{ProducerOptions, Settings};
use sluice_kafka::table::{self, Table};
use sluice_kafka::tail::{self, From, Tail};
use sluice_schemas::Account;
use sluice_schemas::placement::partition_for;
use sluice_schemas::topics::Topic;

/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// A topic and how to reach it.
pub struct World {
    pub settings: Settings,
    pub topic: String,
}

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {LIMIT:?}: {what}"),
    }
}

fn record<'a>(topic: &'a str, partition: i32, value: &'a [u8]) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(partition), key: Some(b"k"), value: Some(value), headers: &[] }
}

pub fn producer(world: &World) -> Producer<()> {
    Producer::<()>::open(&world.settings, &ProducerOptions::default()).unwrap().0
}

/// Writes `0..count` to a partition.
pub async fn fill(world: &World, partition: i32, count: usize) {
    let producer = producer(world);
    let mut waiting = Vec::new();
    for n in 0..count {
        waiting.push(producer.send_later(record(&world.topic, partition, n.to_string().as_bytes())).unwrap());
    }
    for one in waiting {
        one.wait(LIMIT).await.unwrap();
    }
}

fn values(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap())
        .collect()
}

pub async fn records_stand_in_the_order_of_sending_and_every_token_comes_back(world: World) {
    let (producer, mut deliveries) =
        Producer::<usize>::open(&world.settings, &ProducerOptions::default()).unwrap();
    const COUNT: usize = 500;
    for n in 0..COUNT {
        let value = n.to_string();
        let headers = [("sluice-event-type", &b"TEST"[..]), ("empty", b"")];
        let outgoing =
            Outgoing { headers: &headers, ..record(&world.topic, (n % 2) as i32, value.as_bytes()) };
        producer.send(outgoing, n).unwrap();
    }
    let mut batch = Vec::new();
    while batch.len() < COUNT {
        within("deliveries", deliveries.collect(&mut batch, 64)).await;
    }
    let tokens: BTreeSet<usize> = batch.iter().map(|delivery| delivery.token).collect();
    assert_eq!(tokens.len(), COUNT);
    for partition in 0..2 {
        let mut of_one = batch.iter().filter(|delivery| delivery.token % 2 == partition as usize);
        let first = of_one.next().unwrap().result.clone().unwrap();
        assert_eq!(first.partition, partition);
        let mut last = first.offset;
        for delivery in of_one {
            let position = delivery.result.clone().unwrap();
            assert!(position.offset > last, "reports of a partition come in its order");
            last = position.offset;
        }
    }
    assert_eq!(producer.flush(LIMIT).await, Ok(()));
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    tail.assign(1, From::Beginning);
    let mut read = Vec::new();
    while read.len() < COUNT / 2 {
        if let tail::Event::Records(records) = within("records", tail.recv()).await.unwrap() {
            read.extend(records.records);
        }
    }
    let expected: Vec<String> = (0..COUNT).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
    assert_eq!(values(&read), expected);
    assert_eq!(read[0].header_str("sluice-event-type"), Some("TEST"));
    assert_eq!(read[0].header("empty"), Some(&b""[..]));
    assert_eq!(read[0].key_str(), Some("k"));
    within("close", tail.close()).await;
}

pub async fn a_full_queue_gives_the_token_back(world: World) {
    let options = ProducerOptions { queue_messages_max: 2, ..ProducerOptions::default() };
    let (producer, mut deliveries) = Producer::<u8>::open(&world.settings, &options).unwrap();
    producer.send(record(&world.topic, 0, b"a"), 1).unwrap();
    producer.send(record(&world.topic, 0, b"b"), 2).unwrap();
    producer.flush(LIMIT).await.unwrap();
    // Reported but not collected still counts: an owner that does not collect is held back.
    let refused = producer.send(record(&world.topic, 0, b"c"), 3).unwrap_err();
    assert_eq!((refused.token, refused.reason), (3, WriteError::QueueFull));
    assert_eq!(within("delivery", deliveries.next()).await.unwrap().token, 1);
    producer.send(record(&world.topic, 0, b"c"), 3).unwrap();
}

pub async fn a_dropped_producer_still_writes_what_was_sent(world: World) {
    let options = ProducerOptions { linger_ms: 200, ..ProducerOptions::default() };
    let (producer, mut deliveries) = Producer::<u8>::open(&world.settings, &options).unwrap();
    for n in 0..3 {
        producer.send(record(&world.topic, 0, b"x"), n).unwrap();
    }
    drop(producer);
    for n in 0..3 {
        let delivery = within("delivery", deliveries.next()).await.unwrap();
        assert_eq!(delivery.token, n);
        assert!(delivery.result.is_ok(), "{:?}", delivery.result);
    }
    assert!(within("the end", deliveries.next()).await.is_none());
}

pub async fn a_record_without_a_partition_lands_where_java_would_put_it(world: World) {
    let producer = producer(&world);
    for key in ["21", "foobar", "abc", "demo-01", "demo-02", "sesión"] {
        let outgoing =
            Outgoing { partition: None, key: Some(key.as_bytes()), ..record(&world.topic, 0, b"x") };
        let position = producer.send_and_wait(outgoing, LIMIT).await.unwrap();
        assert_eq!(position.partition, partition_for(key.as_bytes(), 2), "{key}");
    }
}

pub async fn a_record_for_no_topic_is_refused_or_reported(world: World) {
    let producer = producer(&world);
    let outcome = producer.send_and_wait(record(&world.topic, 999, b"x"), LIMIT).await;
    assert!(matches!(outcome, Err(WriteError::Refused(_))), "{outcome:?}");
}

/// Next event of a tail that is not about records.
async fn next_records(tail: &mut Tail) -> tail::Records {
    loop {
        match within("records of a tail", tail.recv()).await.unwrap() {
            tail::Event::Records(records) => return records,
            tail::Event::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
}

pub async fn a_tail_begins_where_it_is_told_under_a_new_generation(world: World) {
    fill(&world, 0, 20).await;
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    assert_eq!(tail.control().watermarks(0).await.unwrap(), (0, 20));
    let first = tail.assign(0, From::Offset(15));
    let records = next_records(&mut tail).await;
    assert_eq!((records.generation, records.partition), (first, 0));
    assert_eq!(values(&records.records)[0], "15");
    let second = tail.assign(0, From::Beginning);
    assert!(second > first);
    let mut read = Vec::new();
    loop {
        match within("records of the second generation", tail.recv()).await.unwrap() {
            tail::Event::Records(records) if records.generation == second => {
                read.extend(records.records);
                if records.next == 20 {
                    break;
                }
            }
            // What was under way for the first assignment is recognisable.
            tail::Event::Records(records) => assert_eq!(records.generation, first),
            tail::Event::CaughtUp { generation, next, .. } => {
                assert_eq!((generation, next), (first, Some(20)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(values(&read), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    within("close", tail.close()).await;
}

pub async fn a_tail_tells_once_that_it_has_reached_the_end(world: World) {
    fill(&world, 0, 3).await;
    let mut tail = Tail::open(&world.settings, &world.topic, tail::Options::default()).unwrap();
    tail.assign(0, From::Beginning);
    tail.assign(1, From::Beginning);
    let mut ends = BTreeMap::new();
    let mut next = 0;
    while ends.len() < 2 {
        match within("ends", tail.recv()).await.unwrap() {
            tail::Event::Records(records) => next = records.next,
            tail::Event::CaughtUp { partition, next, .. } => {
                assert!(ends.insert(partition, next).is_none());
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(next, 3);
    assert_eq!(ends, BTreeMap::from([(0, Some(3)), (1, None)]));
    // A record written later comes without another notice before it.
    fill(&world, 1, 1).await;
    match within("a later record", tail.recv()).await.unwrap() {
        tail::Event::Records(records) => assert_eq!((records.partition, records.next), (1, 1)),
        other => panic!("{other:?}"),
    }
    within("close", tail.close()).await;
}

pub async fn a_slow_reader_of_a_tail_loses_nothing(world: World) {
    let options = tail::Options { batch_records_max: 7, events_max: 2, ..tail::Options::default() };
    fill(&world, 0, 400).await;
    let mut tail = Tail::open(&world.settings, &world.topic, options).unwrap();
    tail.assign(0, From::Beginning);
    let mut read = Vec::new();
    while read.len() < 400 {
        let records = next_records(&mut tail).await;
        assert!(records.records.len() <= 7);
        read.extend(records.records);
        tokio::task::yield_now().await;
    }
    assert_eq!(values(&read), (0..400).map(|n| n.to_string()).collect::<Vec<_>>());
    within("close", tail.close()).await;
}

pub fn join(world: &World, options: group::Options) -> (GroupConsumer, Control) {
    let member = GroupConsumer::join(&world.settings, "law", &[&world.topic], options).unwrap();
    let control = member.control().clone();
    (member, control)
}

/// Waits until a member has been given `count` partitions; nothing else may happen meanwhile.
pub async fn assigned(member: &mut GroupConsumer, count: usize) -> BTreeSet<Partition> {
    let mut partitions = BTreeSet::new();
    while partitions.len() < count {
        match within("an assignment", member.recv()).await.unwrap() {
            Event::Assigned(assignments) => {
                partitions.extend(assignments.into_iter().map(|assignment| assignment.partition));
            }
            Event::Error(error) => eprintln!("{error}"),
            other => panic!("{other:?}"),
        }
    }
    partitions
}

pub async fn group_records(member: &mut GroupConsumer, count: usize) -> Vec<Record> {
    let mut read = Vec::new();
    while read.len() < count {
        match within("records of a group", member.recv()).await.unwrap() {
            Event::Records(records) => read.extend(records),
            Event::Error(error) => eprintln!("{error}"),
            other => panic!("{other:?}"),
        }
    }
    read
}

pub async fn a_partition_begins_only_when_started_and_where_told(world: World) {
    fill(&world, 0, 10).await;
    fill(&world, 1, 10).await;
    let (mut member, control) = join(&world, group::Options::default());
    let partitions = assigned(&mut member, 2).await;
    let committed = control.committed(partitions.iter().cloned().collect()).await.unwrap();
    assert!(committed.iter().all(|(_, offset)| offset.is_none()));
    let one = Partition::new(world.topic.as_str(), 1);
    control.start(one.clone(), StartAt::Offset(7));
    let read = group_records(&mut member, 3).await;
    // Partition 0 has records too, and was not started.
    assert!(read.iter().all(|record| record.partition == one));
    assert_eq!(values(&read), ["7", "8", "9"]);
    within("a commit", control.commit(vec![(one.clone(), 9)])).await.unwrap();
    assert_eq!(control.committed(vec![one.clone()]).await.unwrap(), [(one.clone(), Some(9))]);
    let stranger = Partition::new(world.topic.as_str(), 55);
    assert!(matches!(control.commit(vec![(stranger, 1)]).await, Err(group::Error::NotAssigned(_))));
    within("close", member.close()).await;

    // The next member begins at what was committed.
    let (mut member, control) = join(&world, group::Options::default());
    assigned(&mut member, 2).await;
    control.start(one, StartAt::Committed);
    assert_eq!(values(&group_records(&mut member, 1).await), ["9"]);
    within("close", member.close()).await;
}

/// Where the group stands is still being asked for when the partition is to begin elsewhere: librdkafka refuses.
pub async fn a_partition_that_cannot_start_at_once_starts_in_the_end(world: World) {
    fill(&world, 0, 10).await;
    let (mut member, control) = join(&world, group::Options::default());
    assigned(&mut member, 2).await;
    let partition = Partition::new(world.topic.as_str(), 0);
    control.start(partition.clone(), StartAt::Committed);
    control.stop(partition.clone());
    control.start(partition.clone(), StartAt::Offset(6));
    loop {
        match within("the mark", member.recv()).await.unwrap() {
            Event::Stopped(stopped) => break assert_eq!(stopped, partition),
            Event::Records(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(values(&group_records(&mut member, 4).await), ["6", "7", "8", "9"]);
    within("close", member.close()).await;
}

pub async fn a_stopped_partition_starts_anew_where_told_and_nothing_stale_follows_the_mark(world: World) {
    fill(&world, 0, 200).await;
    let options = group::Options { batch_records_max: 10, ..group::Options::default() };
    let mut member = GroupConsumer::join(&world.settings, "stopped", &[&world.topic], options).unwrap();
    let control = member.control().clone();
    let partition = Partition::new(&*world.topic, 0);
    let mut read = Vec::new();
    // First from far behind, then from the beginning, then from the middle: what was fetched ahead never shows.
    for begin in [150_i64, 0, 77] {
        let mut started = begin == 150;
        if !started {
            control.stop(partition.clone());
        }
        read.clear();
        while read.len() < 30 {
            match within("an event", member.recv()).await.unwrap() {
                Event::Assigned(list) if list.iter().any(|one| one.partition == partition) => {
                    control.start(partition.clone(), StartAt::Offset(begin));
                }
                Event::Stopped(stopped) => {
                    assert_eq!((stopped, started), (partition.clone(), false));
                    started = true;
                    control.start(partition.clone(), StartAt::Offset(begin));
                }
                Event::Records(records) if started => read.extend(records.iter().map(|record| record.offset)),
                _ => {}
            }
        }
        let expected: Vec<i64> = (begin..).take(read.len()).collect();
        assert_eq!(read, expected);
    }
    within("close", member.close()).await;
}

#[allow(dead_code, reason = "real.rs runs it, mock.rs says why not")]
pub async fn a_revoked_partition_is_given_back_only_when_released(world: World) {
    fill(&world, 0, 5).await;
    fill(&world, 1, 5).await;
    let (mut first, control) = join(&world, group::Options::default());
    for partition in assigned(&mut first, 2).await {
        control.start(partition, StartAt::Committed);
    }
    group_records(&mut first, 10).await;
    let (mut second, second_control) = join(&world, group::Options::default());
    let revoked = loop {
        match within("a revocation", first.recv()).await.unwrap() {
            Event::Revoking(partitions) => break partitions,
            Event::Error(error) => eprintln!("{error}"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(revoked.len(), 1, "cooperative: only what moves is wanted back");
    let moving = revoked[0].clone();
    // The first member still holds it, so the second cannot have it: only a release lets it go.
    within("a commit while revoking", control.commit(vec![(moving.clone(), 2)])).await.unwrap();
    within("a release", control.release(vec![(moving.clone(), Some(3))])).await.unwrap();
    let gained = assigned(&mut second, 1).await;
    assert_eq!(gained, BTreeSet::from([moving.clone()]));
    let refused = within("a late commit", control.commit(vec![(moving.clone(), 5)])).await;
    assert!(matches!(refused, Err(group::Error::NotAssigned(_))), "{refused:?}");
    second_control.start(moving.clone(), StartAt::Committed);
    let read = group_records(&mut second, 2).await;
    assert_eq!(values(&read), ["3", "4"], "the release committed first");

    // When the second leaves, the partition comes home under a new epoch, and begins only when started.
    within("close", second.close()).await;
    let back = assigned(&mut first, 1).await;
    assert_eq!(back, BTreeSet::from([moving.clone()]));
    control.start(moving, StartAt::Offset(4));
    assert_eq!(values(&group_records(&mut first, 1).await), ["4"]);
    within("close", first.close()).await;
}

pub async fn an_owner_that_stops_reading_is_paused_and_loses_nothing(world: World) {
    fill(&world, 0, 300).await;
    let options = group::Options {
        batch_records_max: 10,
        events_max: 1,
        pause_after_ms: 20,
        ..group::Options::default()
    };
    let (mut member, control) = join(&world, options);
    for partition in assigned(&mut member, 2).await {
        control.start(partition, StartAt::Beginning);
    }
    let mut read = group_records(&mut member, 20).await;
    // Long enough for the pause, which must not lose or double what was fetched ahead.
    let until = std::time::Instant::now() + Duration::from_millis(300);
    while std::time::Instant::now() < until {
        control.committed(vec![Partition::new(world.topic.as_str(), 0)]).await.unwrap();
    }
    read.extend(group_records(&mut member, 280).await);
    assert_eq!(values(&read), (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    within("close", member.close()).await;
}

pub async fn an_owner_commits_what_is_done_and_the_next_begins_there(world: World) {
    fill(&world, 0, 50).await;
    let options = owner::Options { commit_interval_ms: 10, ..owner::Options::default() };
    let open = || Owner::join(&world.settings, "owner", &[&world.topic], options).unwrap();
    let mut owner = open();
    let mut seen = 0;
    while seen < 50 {
        if let Turn::Records(records) = within("records of an owner", owner.next()).await.unwrap() {
            seen += records.len();
            // Finished in the wrong order, and the last ten not at all.
            for record in records.iter().rev().filter(|record| record.offset < 40) {
                owner.done(&record.partition, record.offset);
            }
        }
    }
    within("close", owner.close()).await.unwrap();
    let mut owner = open();
    let mut again = Vec::new();
    while again.len() < 10 {
        if let Turn::Records(records) = within("records of the next owner", owner.next()).await.unwrap() {
            again.extend(records);
        }
    }
    assert_eq!(again.first().map(|record| record.offset), Some(40));
    within("close", owner.close()).await.unwrap();
}

pub async fn how_far_a_group_has_come_is_seen_from_outside_it(world: World) {
    let progress = Progress::open(&world.settings, "watched", &world.topic).unwrap();
    let ends = within("ends", progress.ends()).await.unwrap();
    assert_eq!(ends.len(), 2);
    assert_eq!(within("progress", progress.behind(&ends)).await.unwrap(), 0, "an empty topic is done");
    fill(&world, 0, 50).await;
    assert_eq!(
        within("progress", progress.behind(&ends)).await.unwrap(),
        0,
        "what came later does not count"
    );
    let ends = within("ends", progress.ends()).await.unwrap();
    assert_eq!(within("progress", progress.behind(&ends)).await.unwrap(), 50, "nothing was ever committed");

    let options = owner::Options { commit_interval_ms: 10, ..owner::Options::default() };
    let mut owner = Owner::join(&world.settings, "watched", &[&world.topic], options).unwrap();
    let mut seen = 0;
    while seen < 50 {
        if let Turn::Records(records) = within("records of an owner", owner.next()).await.unwrap() {
            seen += records.len();
            for record in records.iter().filter(|record| record.offset < 40) {
                owner.done(&record.partition, record.offset);
            }
        }
    }
    within("close", owner.close()).await.unwrap();
    assert_eq!(within("progress", progress.behind(&ends)).await.unwrap(), 10);
}

pub async fn owners_share_partitions_and_nothing_is_left_out(world: World) {
    fill(&world, 0, 30).await;
    let options = owner::Options { commit_interval_ms: 10, ..owner::Options::default() };
    let open = || Owner::join(&world.settings, "shared", &[&world.topic], options).unwrap();
    let mut first = open();
    let mut seen = BTreeSet::new();
    while seen.len() < 30 {
        if let Turn::Records(records) = within("records", first.next()).await.unwrap() {
            first.done_all(&records);
            seen.extend(records.into_iter().map(|record| record.offset));
        }
    }
    let mut second = open();
    let shared = async {
        while second.partitions() == 0 || first.partitions() != 1 {
            tokio::select! {
                turn = first.next() => drop(turn.unwrap()),
                turn = second.next() => drop(turn.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    within("both own one partition", shared).await;
    within("close", first.close()).await.unwrap();
    within("close", second.close()).await.unwrap();
}

pub async fn a_table_shows_what_stands_in_the_topic_and_what_changes(world: World) {
    let codec = Codecs::fixed().codec::<Account>(Topic::Accounts);
    let producer = producer(&world);
    let write = async |key: &str, value: Option<&[u8]>| {
        let outgoing =
            Outgoing { topic: &world.topic, partition: None, key: Some(key.as_bytes()), value, headers: &[] };
        producer.send_and_wait(outgoing, LIMIT).await.unwrap();
    };
    let account = |id: &str| Account { account_id: id.to_owned(), ..Account::default() };
    write("a", Some(&codec.encode(&account("a")))).await;
    write("b", Some(&codec.encode(&account("b")))).await;
    write("b", None).await;
    write("c", Some(b"\x00not avro")).await;
    let mut table = Table::follow(&world.settings, &world.topic, codec.clone()).unwrap();
    let mut held = BTreeMap::new();
    let mut unusable = Vec::new();
    loop {
        match within("the table", table.recv()).await.unwrap() {
            table::Event::Changes(changes) => {
                for change in changes {
                    match change.value {
                        Some(value) => held.insert(change.key, value),
                        None => held.remove(&change.key),
                    };
                }
            }
            table::Event::Unusable { record, flaw } => {
                unusable.push((record.key_str().unwrap().to_owned(), flaw.to_string()));
            }
            table::Event::Ready => break,
            table::Event::Error(error) => panic!("{error}"),
        }
    }
    assert_eq!(held, BTreeMap::from([("a".to_owned(), account("a"))]));
    assert_eq!(unusable.len(), 1);
    assert_eq!(unusable[0].0, "c");
    write("d", Some(&codec.encode(&account("d")))).await;
    match within("a change", table.recv()).await.unwrap() {
        table::Event::Changes(changes) => assert_eq!(changes[0].value, Some(account("d"))),
        other => panic!("{other:?}"),
    }
}
