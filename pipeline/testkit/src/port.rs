//! TCP ports that no other testkit process will choose while they are held.

use std::fs::File;
use std::net::TcpListener;

use anyhow::{Context, Result, bail};

use crate::cache;

/// Below the range from which Linux takes the ports of outgoing connections (32768 on), so a port stays free
/// while its server is down.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A free port of 127.0.0.1, reserved by a lock file until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves one.
    ///
    /// # Errors
    /// When the cache cannot be written or no port is free.
    pub fn reserve() -> Result<Self> {
        let dir = cache::dir()?.join("ports");
        std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        let width = u128::from(RANGE.end - RANGE.start);
        let start = uuid::Uuid::new_v4().as_u128() % width;
        for step in 0..width {
            let number = RANGE.start + u16::try_from((start + step) % width)?;
            let Some(lock) = cache::try_lock(&dir.join(number.to_string()))? else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let ports: Vec<_> = (0..50).map(|_| Port::reserve().unwrap()).collect();
        let numbers: std::collections::BTreeSet<_> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
