//! One chat's queue: FIFO per lane, one message in flight, and messages that keep their lane waiting.

use std::collections::VecDeque;

use uuid::Uuid;

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
    /// Whether the session's ready queue holds this chat.
    pub(super) is_ready: bool,
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

    /// The lane whose head may go now.
    pub(super) fn ready_lane(&self, now_us: i64) -> Option<Lane> {
        if self.busy.is_some() || self.throttled_until_us > now_us {
            return None;
        }
        Lane::ALL
            .into_iter()
            .find(|lane| !self.lanes[*lane as usize].is_empty() && !self.is_held(*lane, now_us))
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
    pub(super) fn take(&mut self, lane: Lane) -> Option<Uuid> {
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

    #[test]
    fn one_in_flight_and_fifo_per_lane() {
        let mut chat = Chat::default();
        chat.push(Lane::Normal, id(1));
        chat.push(Lane::Normal, id(2));
        chat.push(Lane::High, id(3));
        assert_eq!(chat.ready_lane(0), Some(Lane::High));
        assert_eq!(chat.take(Lane::High), Some(id(3)));
        assert_eq!(chat.ready_lane(0), None);
        chat.release(id(3));
        assert_eq!(chat.take(Lane::Normal), Some(id(1)));
    }

    #[test]
    fn a_throttled_chat_waits_in_every_lane() {
        let mut chat = Chat::default();
        chat.push(Lane::High, id(1));
        chat.throttle(100);
        assert_eq!(chat.ready_lane(50), None);
        assert_eq!(chat.held_until_us(50), Some(100));
        assert_eq!(chat.ready_lane(100), Some(Lane::High));
    }

    #[test]
    fn a_hold_keeps_its_lane_waiting_and_no_other() {
        let mut chat = Chat::default();
        chat.push(Lane::Normal, id(1));
        chat.hold(Lane::Normal, id(9), 100);
        assert_eq!(chat.ready_lane(50), None);
        chat.push(Lane::High, id(2));
        assert_eq!(chat.ready_lane(50), Some(Lane::High));
        assert_eq!(chat.take(Lane::High), Some(id(2)));
        chat.release(id(2));
        assert_eq!(chat.held_until_us(50), Some(100));
        assert_eq!(chat.ready_lane(100), Some(Lane::Normal));
        chat.push_front(Lane::Normal, id(9));
        assert_eq!(chat.take(Lane::Normal), Some(id(9)));
    }
}
