//! Time as an argument.

/// Two clocks read at one moment by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now {
    /// CLOCK_REALTIME, microseconds since 1970. Comparable between machines, may jump.
    pub wall_us: i64,
    /// CLOCK_BOOTTIME, microseconds. Never jumps, goes on while the machine sleeps, means nothing elsewhere.
    pub boot_us: u64,
}

impl Now {
    /// Wall clock in milliseconds since 1970.
    pub const fn wall_ms(self) -> i64 {
        self.wall_us.div_euclid(1000)
    }

    /// Time since `earlier` by whichever clock says more: a claim's age must not shrink when one clock jumps.
    pub fn age_us(self, earlier: Self) -> u64 {
        let wall = u64::try_from(self.wall_us.saturating_sub(earlier.wall_us)).unwrap_or(0);
        wall.max(self.boot_us.saturating_sub(earlier.boot_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_the_larger_of_both_clocks() {
        let then = Now { wall_us: 1_000, boot_us: 50 };
        assert_eq!(Now { wall_us: 900, boot_us: 80 }.age_us(then), 30);
        assert_eq!(Now { wall_us: 5_000, boot_us: 60 }.age_us(then), 4_000);
    }
}
