//! Maps by message id. Ids are hashes already, and each step looks several of them up: two multiplications mix them
//! with what only this process knows, so that nobody can choose ids that fall together.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use uuid::Uuid;

/// A map by message id.
pub(super) type ById<V> = HashMap<Uuid, V, Seeds>;

/// What only this process knows; another for each map.
#[derive(Debug, Clone)]
pub(super) struct Seeds(u64, u64);

impl Default for Seeds {
    fn default() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }
}

/// Mixes the halves of an id, and whatever else stands beside it in a key.
#[derive(Debug)]
pub(super) struct Mixer {
    mixed: u64,
    seed: u64,
}

fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ ((product >> 64) as u64)
}

impl BuildHasher for Seeds {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { mixed: self.0, seed: self.1 }
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.mixed = mix(self.mixed ^ word, self.seed | 1);
    }

    /// The length of an id is that of any other.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_differ_in_one_bit_fall_apart() {
        let seeds = Seeds::default();
        let hashes: std::collections::HashSet<u64> =
            (0..128).map(|bit| seeds.hash_one(Uuid::from_u128(7 ^ (1 << bit)))).collect();
        assert_eq!(hashes.len(), 128);
        let low: std::collections::HashSet<u64> =
            (0..1_000).map(|n| seeds.hash_one(Uuid::from_u128(n)) & 0xffff).collect();
        assert!(low.len() > 950, "{} of 1000 places", low.len());
    }

    #[test]
    fn each_map_has_an_order_of_its_own() {
        let id = Uuid::from_u128(7);
        assert_ne!(Seeds::default().hash_one(id), Seeds::default().hash_one(id));
    }
}
