//! Values of which many are equal, kept once.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values below which looking for those that nobody uses any more is not worth it.
const PRUNE_FROM: usize = 64;

/// Values in use, each once. One that nobody uses any more goes when the pool has doubled since the last look.
#[derive(Debug)]
pub struct Pool<T: ?Sized> {
    known: HashSet<Arc<T>>,
    prune_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), prune_at: PRUNE_FROM }
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// The one value that is equal to `value`.
    pub fn share<Q: Borrow<T> + Into<Arc<T>>>(&mut self, value: Q) -> Arc<T> {
        if let Some(known) = self.known.get(value.borrow()) {
            return known.clone();
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.prune_at = self.known.len().saturating_mul(2).max(PRUNE_FROM);
        }
        let shared: Arc<T> = value.into();
        self.known.insert(shared.clone());
        shared
    }

    /// How many there are, those included that nobody uses any more.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one() {
        let mut pool = Pool::<str>::default();
        let (a, b) = (pool.share("acme"), pool.share(String::from("acme")));
        assert!(Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &pool.share("other")));
    }

    #[test]
    fn what_nobody_uses_goes_and_what_is_used_stays() {
        let mut pool = Pool::<str>::default();
        let used: Vec<Arc<str>> = (0..10).map(|n| pool.share(format!("used-{n}"))).collect();
        for n in 0..10_000 {
            pool.share(format!("passing-{n}"));
            assert!(pool.len() <= PRUNE_FROM + 1, "{}", pool.len());
        }
        for (n, one) in used.iter().enumerate() {
            assert!(Arc::ptr_eq(one, &pool.share(format!("used-{n}"))));
        }
    }
}
