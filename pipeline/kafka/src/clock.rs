//! Reading the clocks: the one place where the shell asks what time it is.
//!
//! `core` takes time as an argument (`sluice_core::time::Now`, made of the two fields here).

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Two clocks read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// CLOCK_REALTIME, microseconds since 1970. Comparable between machines, may jump.
    pub wall_us: i64,
    /// CLOCK_BOOTTIME, microseconds. Never jumps, goes on while the machine sleeps, means nothing elsewhere.
    pub boot_us: u64,
}

/// Both clocks, read one after the other.
pub fn now() -> Reading {
    let wall_us = micros(clock_gettime(ClockId::Realtime));
    Reading { wall_us, boot_us: u64::try_from(micros(clock_gettime(ClockId::Boottime))).unwrap_or(0) }
}

/// CLOCK_REALTIME in milliseconds since 1970.
pub fn wall_ms() -> i64 {
    micros(clock_gettime(ClockId::Realtime)).div_euclid(1_000)
}

fn micros(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clocks_go_forward() {
        let before = super::now();
        let after = super::now();
        assert!(after.boot_us >= before.boot_us && before.boot_us > 0);
        assert!(super::wall_ms() > 1_700_000_000_000);
    }
}
