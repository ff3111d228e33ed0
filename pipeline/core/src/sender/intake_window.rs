//! Requests taken in and not yet settled, in offset order: what may be committed, and when to stop taking.

use std::collections::VecDeque;

/// One request on its way into the ledger.
#[derive(Debug)]
struct Slot {
    offset: i64,
    bytes: usize,
    settled: bool,
    /// Opened before its request could be decoded.
    delayed: bool,
}

/// The window of one partition.
#[derive(Debug, Default)]
pub(super) struct IntakeWindow {
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Everything below is settled.
    frontier: Option<i64>,
    held: bool,
}

impl IntakeWindow {
    /// A request came, at last if it was delayed. False for a repeat, which is to be ignored.
    pub(super) fn take(&mut self, offset: i64, bytes: usize) -> bool {
        let at = self.slots.partition_point(|slot| slot.offset < offset);
        match self.slots.get_mut(at) {
            Some(slot) if slot.offset == offset => std::mem::replace(&mut slot.delayed, false),
            _ => self.open(offset, bytes),
        }
    }

    /// A request came that cannot be decoded yet.
    pub(super) fn delay(&mut self, offset: i64, bytes: usize) {
        if self.open(offset, bytes)
            && let Some(slot) = self.slots.back_mut()
        {
            slot.delayed = true;
        }
    }

    /// A request came. False if its offset is not above the latest one: a repeat to ignore.
    fn open(&mut self, offset: i64, bytes: usize) -> bool {
        let last = self.slots.back().map(|slot| slot.offset).or(self.frontier.map(|next| next - 1));
        if last.is_some_and(|last| offset <= last) {
            return false;
        }
        self.slots.push_back(Slot { offset, bytes, settled: false, delayed: false });
        self.bytes += bytes;
        true
    }

    /// The request at `offset` is settled; the new frontier if it moved.
    pub(super) fn settle(&mut self, offset: i64) -> Option<i64> {
        let at = self.slots.partition_point(|slot| slot.offset < offset);
        match self.slots.get_mut(at) {
            Some(slot) if slot.offset == offset => slot.settled = true,
            _ => return None,
        }
        let before = self.frontier;
        while self.slots.front().is_some_and(|slot| slot.settled) {
            if let Some(slot) = self.slots.pop_front() {
                self.bytes -= slot.bytes;
                self.frontier = Some(slot.offset + 1);
            }
        }
        if self.frontier == before { None } else { self.frontier }
    }

    /// Requests taken in and not settled.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Next offset that may be unsettled, if any request has been settled.
    pub(super) fn frontier(&self) -> Option<i64> {
        self.frontier
    }

    /// Whether intake has to stop (`Some(true)`), may go on (`Some(false)`), or stays as it is.
    pub(super) fn turn(&mut self, records_max: usize, bytes_max: usize) -> Option<bool> {
        let full = self.slots.len() >= records_max || self.bytes >= bytes_max;
        let low = self.slots.len() <= records_max / 2 && self.bytes <= bytes_max / 2;
        if full && !self.held {
            self.held = true;
            Some(true)
        } else if low && self.held {
            self.held = false;
            Some(false)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Settled in any order, the frontier never passes an unsettled request and ends past the last.
        #[test]
        fn the_frontier_is_the_first_unsettled_request(order in Just((0..50i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut window = IntakeWindow::default();
            for offset in 0..50 {
                prop_assert!(window.open(offset, 10));
            }
            let mut settled = [false; 50];
            for offset in order {
                window.settle(offset);
                settled[offset as usize] = true;
                let first = settled.iter().position(|s| !s).unwrap_or(50) as i64;
                prop_assert_eq!(window.frontier().unwrap_or(0), first);
            }
            prop_assert!(window.slots.is_empty());
            prop_assert_eq!(window.bytes, 0);
        }
    }

    #[test]
    fn a_repeated_offset_is_refused() {
        let mut window = IntakeWindow::default();
        assert!(window.open(5, 1));
        assert!(!window.open(5, 1));
        window.settle(5);
        assert!(!window.open(5, 1));
        assert!(window.open(6, 1));
    }

    #[test]
    fn a_delayed_request_holds_the_frontier_until_it_is_settled() {
        let mut window = IntakeWindow::default();
        window.delay(1, 1);
        assert!(window.take(2, 1));
        assert_eq!(window.settle(2), None);
        assert!(window.take(1, 1));
        assert!(!window.take(1, 1), "once only");
        assert_eq!(window.settle(1), Some(3));
    }
}
