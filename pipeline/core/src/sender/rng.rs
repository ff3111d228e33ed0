//! A small seeded generator: jitter must be random between processes and the same again in a simulation.

/// splitmix64 (Steele, Lea, Flood 2014): ample for jitter, useless for secrets.
#[derive(Debug, Clone)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A name that no other process gives.
    pub(super) fn name(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high { low } else { low + self.next() % (high - low + 1) }
    }
}
