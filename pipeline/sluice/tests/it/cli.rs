//! The commands as a user runs them: what they print, and the exit codes that say what they found.

use serde_json::Value;
use sluice_schemas::topics::Topic;
use sluice_testkit::eventually;

use super::world::{LIMIT, Shell, World};

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_what_they_found_and_exit_accordingly() {
    let world = World::builder("cli").with_store().start().await;
    let shell = Shell::of(&world).await;
    for args in [&["topics", "check"][..], &["schemas", "check"], &["store", "check"]] {
        let answer = shell.sluice(args);
        assert_eq!(answer.code, 0, "{args:?}: {}{}", answer.stdout, answer.stderr);
    }
    let sessions = shell.sluice(&["session", "list", "-o", "json"]).json();
    assert_eq!(sessions[0]["session_id"], "s0");
    assert_eq!(shell.sluice(&["session", "show", "nobody"]).code, 3);
    assert_eq!(shell.sluice(&["send", "--session", "s0"]).code, 2);
    let unknown = shell.sluice(&["send", "--session", "nobody", "--to", "+15551234567", "--text", "x"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    assert_eq!(shell.sluice_in("never_migrated", &["store", "check"]).code, 4);

    let bad = [9, 9, 9];
    world.write(Topic::WebhooksInbound, 0, Some(b"s0"), Some(&bad)).await;
    let _processor = world.run("processor");
    let letters = eventually(LIMIT, "the broken record is listed", || async {
        let answer = shell.sluice(&["dead-letters", "list", "-o", "json"]);
        let found = (answer.code == 0).then(|| answer.json()).filter(|all| all[0].is_object());
        found.ok_or(answer.stderr)
    })
    .await;
    assert_eq!(letters[0]["reason"], "WRONG_MAGIC");
    let place = letters[0]["place"].as_str().expect("a place");
    let letter = shell.sluice(&["dead-letters", "show", place, "-o", "json"]).json();
    assert_eq!((&letter["value_hex"], &letter["role"]), (&Value::from("090909"), &Value::from("processor")));
    assert_eq!(shell.sluice(&["dead-letters", "show", "0/999999"]).code, 3);
}
