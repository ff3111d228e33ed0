//! Telling "not yet visible" from "not there".
//!
//! A message id says nothing of its age, and the row appears a moment after the edge's 202. So an id that is
//! asked for and not there is *not yet visible* for a while after it was first asked for, and unknown after
//! that: a client that polls right after its 202 waits, and one that mistyped does not wait for ever.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// When each missing id was first asked for; bounded.
#[derive(Debug)]
pub(crate) struct Fresh {
    window: Duration,
    ids_max: usize,
    first_asked: HashMap<String, Instant>,
    order: VecDeque<(String, Instant)>,
}

impl Fresh {
    /// Ids stay fresh for `window`; of more than `ids_max` the oldest are forgotten (and are fresh again).
    pub(crate) fn new(window: Duration, ids_max: usize) -> Self {
        Self { window, ids_max, first_asked: HashMap::new(), order: VecDeque::new() }
    }

    /// Whether `id`, which is not there at `now`, may still come.
    pub(crate) fn is_fresh(&mut self, id: &str, now: Instant) -> bool {
        // An answer of "unknown" is remembered as long again, so that it does not change its mind at once.
        let forget = self.window * 2;
        while let Some((oldest, at)) = self.order.front() {
            if self.order.len() < self.ids_max && now.duration_since(*at) < forget {
                break;
            }
            self.first_asked.remove(oldest);
            self.order.pop_front();
        }
        match self.first_asked.get(id) {
            Some(first) => now.duration_since(*first) < self.window,
            None => {
                self.first_asked.insert(id.to_owned(), now);
                self.order.push_back((id.to_owned(), now));
                !self.window.is_zero()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_missing_id_is_fresh_for_the_window_and_unknown_after_it() {
        let mut fresh = Fresh::new(WINDOW, 10);
        let start = Instant::now();
        assert!(fresh.is_fresh("m", start));
        assert!(fresh.is_fresh("m", start + WINDOW / 2));
        assert!(!fresh.is_fresh("m", start + WINDOW));
        assert!(fresh.is_fresh("m", start + WINDOW * 3), "forgotten: it may have been sent meanwhile");
    }

    #[test]
    fn it_holds_no_more_than_it_may() {
        let mut fresh = Fresh::new(WINDOW, 10);
        let now = Instant::now();
        for i in 0..1_000 {
            fresh.is_fresh(&i.to_string(), now);
        }
        assert!(fresh.first_asked.len() <= 10 && fresh.order.len() <= 10);
    }
}
