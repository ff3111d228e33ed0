//! The laws of a store, on disk and in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sluice_core::sender::store::MemoryStore;

use super::*;

fn settings(directory: &Path) -> Settings {
    Settings {
        directory: directory.to_owned(),
        cache_mbytes_max: 1,
        write_buffer_kbytes_max: 64,
        batch_kbytes_max: 1,
        batch_interval_ms: 1_000,
        resume_age_max_ms: 10_000,
    }
}

fn at(ms: i64) -> Now {
    Now { wall_us: ms * 1_000, boot_us: ms.unsigned_abs() * 1_000 }
}

#[derive(Debug, Clone)]
enum Op {
    Put(u8, u8),
    Remove(u8),
    Scan(u8, u8, usize),
    Commit,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (0..40u8, any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        2 => (0..40u8).prop_map(Op::Remove),
        2 => (0..40u8, 0..40u8, 0..12usize).prop_map(|(from, to, most)| Op::Scan(from, to, most)),
        1 => Just(Op::Commit),
    ];
    prop::collection::vec(op, 1..80)
}

/// Plays `ops` on a store and on an ordered map side by side; commits are at `next_offset`.
fn agrees(
    store: &mut dyn Store,
    ops: &[Op],
    mut model: BTreeMap<Vec<u8>, Vec<u8>>,
    next_offset: i64,
) -> BTreeMap<Vec<u8>, Vec<u8>> {
    for op in ops {
        match op {
            Op::Put(key, value) => {
                store.put(&[b'k', *key], vec![*value]);
                model.insert(vec![b'k', *key], vec![*value]);
            }
            Op::Remove(key) => {
                store.remove(&[b'k', *key]);
                model.remove([b'k', *key].as_slice());
            }
            Op::Scan(from, to, most) => {
                let (from, to) = ([b'k', *from], [b'k', (*to).max(*from)]);
                let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
                let expected: Vec<Pair> = model
                    .range::<[u8], _>(range)
                    .take(*most)
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                assert_eq!(store.scan(&from, &to, *most), expected);
                let all: Vec<Pair> = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                assert_eq!(store.scan(b"k", b"l", 1_000), all);
            }
            Op::Commit => store.commit(at(1), next_offset),
        }
        for key in 0..40u8 {
            assert_eq!(store.get(&[b'k', key]), model.get([b'k', key].as_slice()).cloned());
        }
    }
    assert!(!store.has_failed());
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is put, removed and committed, a store answers as an ordered map does; and reopened it holds just
    /// what was committed, with the offset it was committed with.
    #[test]
    fn a_store_is_an_ordered_map_and_reopens_as_it_was_committed(ops in ops(), lost in ops()) {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = settings(directory.path());
        let committed = {
            let disk = Disk::open(&settings).expect("the database opens");
            let mut store = disk.partition(3, at(0)).store;
            let model = agrees(store.as_mut(), &ops, BTreeMap::new(), 7);
            store.commit(at(1), 42);
            agrees(store.as_mut(), &lost, model.clone(), 43);
            model
        };
        let committed = if lost.iter().any(|op| matches!(op, Op::Commit)) { None } else { Some(committed) };
        let disk = Disk::open(&settings).expect("the database opens again");
        let opened = disk.partition(3, at(2));
        if let Some(committed) = committed {
            prop_assert_eq!(opened.next_offset, Some(42));
            let held: Vec<Pair> = committed.into_iter().collect();
            prop_assert_eq!(opened.store.scan(b"k", b"l", 1_000), held);
        }
        agrees(&mut MemoryStore::default(), &ops, BTreeMap::new(), 7);
    }
}

#[test]
fn a_state_is_taken_up_only_if_it_is_young_of_this_boot_and_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path());
    let disk = Disk::open(&settings).expect("the database opens");
    assert_eq!(disk.partition(0, at(0)).next_offset, None, "nothing was written");
    let mut store = disk.partition(0, at(0)).store;
    store.put(b"k", vec![1]);
    store.commit(at(1_000), 5);
    drop(store);
    assert_eq!(disk.partition(0, at(2_000)).next_offset, Some(5));
    assert_eq!(disk.partition(0, at(12_000)).next_offset, None, "too old: tombstones may be gone");
    assert_eq!(disk.partition(0, at(500)).next_offset, None, "from the future: the clock has been set back");
    assert_eq!(disk.partition(1, at(2_000)).next_offset, None, "that is another partition's");
    let other_boot = Disk { boot_id: "another".into(), ..disk.clone() };
    assert_eq!(
        other_boot.partition(0, at(2_000)).next_offset,
        None,
        "the kernel may not have written it all"
    );
    let mut store = disk.partition(0, at(2_000)).store;
    store.clear();
    assert_eq!(store.get(b"k"), None);
    drop(store);
    assert_eq!(disk.partition(0, at(2_000)).next_offset, None, "cleared");
}

#[test]
fn a_directory_is_one_process_s_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path());
    let _held = Disk::open(&settings).expect("the database opens");
    let error = format!("{:#}", Disk::open(&settings).expect_err("it is in use"));
    assert!(error.contains("sender.store.directory"), "{error}");
}

#[test]
fn puts_that_are_many_or_old_want_to_be_committed() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = Disk::open(&settings(directory.path())).expect("the database opens");
    let mut store = disk.partition(0, at(0)).store;
    assert!(!store.wants_commit(at(10)));
    store.put(b"k", vec![0; 2_000]);
    assert!(store.wants_commit(at(10)), "many");
    store.commit(at(10), 1);
    assert!(!store.wants_commit(at(11)));
    assert!(store.wants_commit(at(1_010)), "old");
}
