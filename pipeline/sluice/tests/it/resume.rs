//! The local state on disk: taken up again after a kill, made anew when it is gone or of another ledger.

use crate::world::{LIMIT, World};

const FROM_STATE: &str = "sluice_restores_total{from=\"state\"}";
const FROM_LEDGER: &str = "sluice_restores_total{from=\"ledger\"}";

async fn world(name: &'static str, directory: &std::path::Path) -> World {
    World::builder(name)
        .sessions(4)
        .limit(20, 1_000)
        // Far less than what waits, so that nearly all of it is on disk only.
        .setting("sender.decisions.session_resident_max", 4)
        .setting("sender.decisions.session_resident_min", 2)
        .setting("sender.store.directory", directory.display())
        .setting("sender.store.batch_interval_ms", 50)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sender_takes_its_local_state_up_again_and_one_without_rebuilds_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let world = world("resume", &state).await;
    let _around = world.run("edge,processor");
    let messages = world.messages(0..50, 5);
    world.produce(&messages).await;

    let mut sender = world.run("sender");
    world.provider_has_taken(40).await;
    assert_eq!(sender.metric(FROM_STATE).await, 0.0, "there was none");
    sender.process.kill9();

    let mut sender = world.run("sender");
    world.provider_has_taken(90).await;
    assert!(sender.metric(FROM_STATE).await > 0.0, "{}", sender.last_lines());
    sender.process.kill9();

    std::fs::remove_dir_all(&state).expect("the state is deleted");
    let sender = world.run("sender");
    world.all_end(&messages).await;
    assert_eq!(sender.metric(FROM_STATE).await, 0.0);
    assert!(sender.metric(FROM_LEDGER).await > 0.0);
    world.laws_hold(&messages);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_has_followed_another_ledger_is_not_taken_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let one = world("one", directory.path()).await;
    let first = one.messages(0..5, 2);
    one.produce(&first).await;
    let mut sender = one.run("sender");
    one.all_end(&first).await;
    sender.process.sigterm();
    assert_eq!(sender.process.wait_exit(LIMIT).await, 0);

    // The same sessions, keys and directory; topics of their own.
    let other = world("other", directory.path()).await;
    let again = other.messages(0..5, 2);
    other.produce(&again).await;
    let sender = other.run("sender");
    other.all_end(&again).await;
    assert_eq!(sender.metric(FROM_STATE).await, 0.0, "{}", sender.last_lines());
    other.laws_hold(&again);
}
