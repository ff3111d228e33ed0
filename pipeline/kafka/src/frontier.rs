//! How far a partition is done: records are finished in any order, and only the contiguous part is committed.

use std::collections::VecDeque;

/// Offsets handed out and not yet committed, of one assignment of one partition.
///
/// Gaps between offsets (compaction, transaction markers) need no filler: the frontier goes from one offset
/// handed out to the next.
#[derive(Debug, Default)]
pub struct Frontier {
    /// In offset order; the first is never done.
    open: VecDeque<(i64, bool)>,
    next: Option<i64>,
}

impl Frontier {
    /// An offset was handed out. Offsets must rise; one that does not is not counted again.
    pub fn take(&mut self, offset: i64) {
        let last = self.open.back().map(|(last, _)| *last).or(self.next.map(|next| next - 1));
        if last.is_none_or(|last| last < offset) {
            self.open.push_back((offset, false));
        }
    }

    /// A record handed out is finished. Offsets that are not open are ignored (finished twice, or of an
    /// earlier assignment).
    pub fn done(&mut self, offset: i64) {
        let Ok(index) = self.open.binary_search_by_key(&offset, |(offset, _)| *offset) else { return };
        self.open[index].1 = true;
        while let Some((offset, true)) = self.open.front() {
            self.next = Some(offset + 1);
            self.open.pop_front();
        }
    }

    /// The offset to commit: every record handed out below it is finished. None before the first is.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// Records handed out and not covered by [`Frontier::next`].
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether every record handed out is finished.
    pub fn is_drained(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_frontier_passes_gaps_and_waits_for_the_slowest() {
        let mut frontier = Frontier::default();
        for offset in [5, 6, 9] {
            frontier.take(offset);
        }
        frontier.done(9);
        frontier.done(6);
        assert_eq!(frontier.next(), None);
        frontier.done(5);
        assert_eq!(frontier.next(), Some(10));
        assert!(frontier.is_drained());
    }

    proptest! {
        /// In any order of finishing: the frontier never passes an open record, never goes back, and ends
        /// after the last.
        #[test]
        fn the_frontier_never_passes_an_open_record(
            offsets in proptest::collection::btree_set(0i64..500, 1..60),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..120),
        ) {
            let mut frontier = Frontier::default();
            offsets.iter().for_each(|offset| frontier.take(*offset));
            let all: Vec<i64> = offsets.iter().copied().collect();
            let mut open: BTreeSet<i64> = offsets.clone();
            let mut before = None;
            let finish = order.iter().map(|index| *index.get(&all)).chain(all.iter().copied());
            for offset in finish {
                frontier.done(offset);
                open.remove(&offset);
                let expected = match open.first() {
                    Some(first) => offsets.range(..first).next_back().map(|last| last + 1),
                    None => offsets.last().map(|last| last + 1),
                };
                prop_assert_eq!(frontier.next(), expected);
                prop_assert!(frontier.next() >= before);
                before = frontier.next();
            }
            prop_assert!(frontier.is_drained());
        }
    }
}
