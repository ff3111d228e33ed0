//! One chat's queue: FIFO per lane, one message in flight, and messages that keep their lane waiting.

use std::collections::VecDeque;

use uuid::Uuid;

use super::lanes::LaneTurns;
use super::message::Lane;

/// Unit of order: (session, recipient).
#[derive(Debug, Default)]
pub(super) struct Chat {
    lanes: [VecDeque<Uuid>; 3],
    /// The message that is claimed or called.
    busy: Option<Uuid>,
    /// Messages waiting for retry or in doubt, which keep their lane waiting until a time.
    holds: Vec<Hold>,
    /// The provider asked to wait with this recipient, every lane, wall µs.
    throttled_until_us: i64,
    turns: LaneTurns,
    /// Which of the session's ready queues hold this chat.
    in_line: [bool; 3],
}

#[derive(Debug)]
struct Hold {
    lane: Lane,
    id: Uuid,
    until_us: i64,
}

impl Chat {
    pub(super) fn push(&mut self, lane: Lane, id: Uuid) {
        self.lanes[lane as usize].push_back(id);
    }

    /// Puts a message that was there before back to the head.
    pub(super) fn push_front(&mut self, lane: Lane, id: Uuid) {
        self.holds.retain(|hold| hold.id != id);
        self.lanes[lane as usize].push_front(id);
    }

    /// The lanes whose heads may go now.
    pub(super) fn ready_lanes(&self, now_us: i64) -> [bool; 3] {
        if self.busy.is_some() || self.throttled_until_us > now_us {
            return [false; 3];
        }
        Lane::ALL.map(|lane| !self.lanes[lane as usize].is_empty() && !self.is_held(lane, now_us))
    }

    /// The lanes whose heads may go now and that stand in no ready queue of the session; from now on they do.
    pub(super) fn enter_lines(&mut self, now_us: i64) -> impl Iterator<Item = Lane> + use<> {
        let ready = self.ready_lanes(now_us);
        let before = self.in_line;
        for lane in Lane::ALL {
            self.in_line[lane as usize] |= ready[lane as usize];
        }
        Lane::ALL.into_iter().filter(move |lane| ready[*lane as usize] && !before[*lane as usize])
    }

    /// The session's ready queue of `lane` no longer holds this chat.
    pub(super) fn leave_line(&mut self, lane: Lane) {
        self.in_line[lane as usize] = false;
    }

    /// Whether a ready queue of the session holds this chat.
    pub(super) fn is_in_line(&self) -> bool {
        self.in_line.contains(&true)
    }

    /// What has ended stays so, also when the wall clock is set back: nothing would look at the chat again.
    pub(super) fn end_holds(&mut self, now_us: i64) {
        if self.throttled_until_us <= now_us {
            self.throttled_until_us = i64::MIN;
        }
        for hold in self.holds.iter_mut().filter(|hold| hold.until_us <= now_us) {
            hold.until_us = i64::MIN;
        }
    }

    /// Takes the head of `asked`, or of the lane of the chat that must not wait longer behind it.
    pub(super) fn take_turn(&mut self, asked: Lane, now_us: i64, share_min: u32) -> Option<(Lane, Uuid)> {
        let ready = self.ready_lanes(now_us);
        let lane = self.turns.overdue(ready, share_min).or(ready[asked as usize].then_some(asked))?;
        self.turns.took(lane, ready);
        self.take(lane).map(|id| (lane, id))
    }

    fn is_held(&self, lane: Lane, now_us: i64) -> bool {
        self.holds.iter().any(|hold| hold.lane == lane && hold.until_us > now_us)
    }

    /// Nothing of the chat goes before `until_us`.
    pub(super) fn throttle(&mut self, until_us: i64) {
        self.throttled_until_us = self.throttled_until_us.max(until_us);
    }

    /// When the earliest hold ends, if something waits behind one.
    pub(super) fn held_until_us(&self, now_us: i64) -> Option<i64> {
        let holds = self.holds.iter().map(|hold| hold.until_us);
        holds.chain([self.throttled_until_us]).filter(|until| *until > now_us).min()
    }

    /// Takes the head of `lane` and makes it the message in flight.
    fn take(&mut self, lane: Lane) -> Option<Uuid> {
        let id = self.lanes[lane as usize].pop_front()?;
        self.busy = Some(id);
        Some(id)
    }

    /// The message in flight is no longer so.
    pub(super) fn release(&mut self, id: Uuid) {
        if self.busy == Some(id) {
            self.busy = None;
        }
    }

    /// `id` keeps its lane waiting until `until_us`.
    pub(super) fn hold(&mut self, lane: Lane, id: Uuid, until_us: i64) {
        self.holds.retain(|hold| hold.id != id);
        self.holds.push(Hold { lane, id, until_us });
    }

    /// Forgets a message wherever it stands.
    pub(super) fn forget(&mut self, id: Uuid) {
        self.release(id);
        self.holds.retain(|hold| hold.id != id);
        for lane in &mut self.lanes {
            lane.retain(|queued| *queued != id);
        }
    }

    /// A message finished: forgets it without walking the queues it is known not to be in.
    pub(super) fn finish(&mut self, id: Uuid) {
        self.release(id);
        self.holds.retain(|hold| hold.id != id);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.busy.is_none() && self.holds.is_empty() && self.lanes.iter().all(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn first_ready(chat: &Chat, now_us: i64) -> Option<Lane> {
        let ready = chat.ready_lanes(now_us);
        Lane::ALL.into_iter().find(|lane| ready[*lane as usize])
    }

    #[test]
    fn a_lane_of_a_chat_does_not_starve_behind_a_more_urgent_one() {
        let mut chat = Chat::default();
        chat.push(Lane::Low, id(1));
        for n in 2..20 {
            chat.push(Lane::High, id(n));
        }
        let order: Vec<Uuid> = (0..8)
            .filter_map(|_| {
                let (_, taken) = chat.take_turn(Lane::High, 0, 4)?;
                chat.release(taken);
                Some(taken)
            })
            .collect();
        assert_eq!(order[..5], [id(2), id(3), id(4), id(1), id(5)], "one of every four turns");
        assert_eq!(order.len(), 8);
    }

    #[test]
    fn one_in_flight_and_fifo_per_lane() {
        let mut chat = Chat::default();
        chat.push(Lane::Normal, id(1));
        chat.push(Lane::Normal, id(2));
        chat.push(Lane::High, id(3));
        assert_eq!(first_ready(&chat, 0), Some(Lane::High));
        assert_eq!(chat.take(Lane::High), Some(id(3)));
        assert_eq!(first_ready(&chat, 0), None);
        chat.release(id(3));
        assert_eq!(chat.take(Lane::Normal), Some(id(1)));
    }

    #[test]
    fn a_hold_that_has_ended_is_over_also_when_the_clock_is_set_back() {
        let mut chat = Chat::default();
        chat.push(Lane::Normal, id(1));
        chat.hold(Lane::Normal, id(9), 100);
        chat.throttle(120);
        chat.end_holds(110);
        assert_eq!(chat.ready_lanes(90), [false; 3], "the recipient still waits");
        chat.end_holds(120);
        assert_eq!(chat.ready_lanes(90), [false, true, false]);
    }

    #[test]
    fn a_throttled_chat_waits_in_every_lane() {
        let mut chat = Chat::default();
        chat.push(Lane::High, id(1));
        chat.throttle(100);
        assert_eq!(first_ready(&chat, 50), None);
        assert_eq!(chat.held_until_us(50), Some(100));
        assert_eq!(first_ready(&chat, 100), Some(Lane::High));
    }

    #[test]
    fn a_hold_keeps_its_lane_waiting_and_no_other() {
        let mut chat = Chat::default();
        chat.push(Lane::Normal, id(1));
        chat.hold(Lane::Normal, id(9), 100);
        assert_eq!(first_ready(&chat, 50), None);
        chat.push(Lane::High, id(2));
        assert_eq!(first_ready(&chat, 50), Some(Lane::High));
        assert_eq!(chat.take(Lane::High), Some(id(2)));
        chat.release(id(2));
        assert_eq!(chat.held_until_us(50), Some(100));
        assert_eq!(first_ready(&chat, 100), Some(Lane::Normal));
        chat.push_front(Lane::Normal, id(9));
        assert_eq!(chat.take(Lane::Normal), Some(id(9)));
    }
}
