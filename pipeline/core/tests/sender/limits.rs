//! Laws of fairness and limits: lanes, circuits, pairs, backlogs, slowing.

use proptest::prelude::*;
use sluice_schemas::{OutboundCommand, Priority};

use crate::world::{World, text};

const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

fn with_priority(key: &str, to: &str, priority: Priority) -> OutboundCommand {
    OutboundCommand { priority, ..text("s1", key, to, key) }
}

/// Sends what waits, one call after the other, and tells the priority of each.
fn drain(world: &mut World) -> Vec<Priority> {
    let mut answered = 0;
    while answered < world.calls.len() {
        world.answer(answered, World::submitted(&answered.to_string()));
        answered += 1;
    }
    world.calls.iter().map(|(call, _)| call.command.priority).collect()
}

/// The longest row of turns a priority let pass while it had something waiting.
fn longest_wait(order: &[Priority], priority: Priority) -> usize {
    let last = order.iter().rposition(|p| *p == priority).unwrap_or(0);
    order[..=last].split(|p| *p == priority).map(<[_]>::len).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever waits in the more urgent lanes, a lane gets at least one of every 8 turns of its session, also
    /// when the messages of all lanes are to one chat.
    #[test]
    fn no_lane_starves(counts in prop::array::uniform3(0..40usize), chats in 1..5usize, lane_has_its_chats: bool) {
        let mut world = World::with_session("s1");
        world.condition("s1", sluice_core::sender::SessionCondition { paused: true, ..Default::default() });
        for (lane, (count, priority)) in counts.into_iter().zip(PRIORITIES).enumerate() {
            for n in 0..count {
                let chat = n % chats + if lane_has_its_chats { lane * 10 } else { 0 };
                world.send(with_priority(&format!("{lane}-{n}"), &format!("+155512300{chat:02}"), priority));
            }
        }
        world.condition("s1", Default::default());
        let order = drain(&mut world);
        prop_assert_eq!(order.len(), counts.iter().sum::<usize>(), "everything is sent");
        // A chat that turns to another lane takes a turn of the session's.
        let most = if lane_has_its_chats { 8 } else { 16 };
        for priority in PRIORITIES {
            let waited = longest_wait(&order, priority);
            prop_assert!(waited < most || priority == Priority::High, "{priority:?} waited {waited}: {order:?}");
        }
    }
}

#[test]
fn an_urgent_message_does_not_wait_in_its_chats_place_in_a_less_urgent_line() {
    let mut world = World::with_session("s1");
    world.send(with_priority("first", "+15551230001", Priority::Normal));
    for n in 2..9 {
        world.send(with_priority(&format!("n{n}"), &format!("+1555123000{n}"), Priority::Normal));
    }
    world.send(with_priority("urgent", "+15551230008", Priority::High));
    world.answer(0, World::submitted("0"));
    assert_eq!(world.texts(), ["first", "urgent"]);
}
