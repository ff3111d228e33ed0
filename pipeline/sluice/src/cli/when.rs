//! Times and spans as people write them on the command line.

/// A span: a number and `s`, `m`, `h` or `d`. Milliseconds.
pub(crate) fn span_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text}: write a span as 90s, 15m, 2h or 7d");
    let unit_ms = match text.chars().last() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * unit_ms)
}

/// A time: RFC 3339 (`2026-01-31T12:00:00Z`), or a span before now (`2h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Milliseconds since 1970.
    At(i64),
    /// Milliseconds before now.
    Ago(i64),
}

impl When {
    /// Milliseconds since 1970.
    pub(crate) fn ms(self, now_ms: i64) -> i64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now_ms.saturating_sub(ms),
        }
    }
}

/// Reads a [`When`].
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(When::At(at.timestamp_millis()));
    }
    span_ms(text).map(When::Ago).map_err(|_| {
        format!("{text}: write a time as 2026-01-31T12:00:00Z, or as a span before now: 90s, 15m, 2h, 7d")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_unit_and_a_time_may_be_one_before_now() {
        assert_eq!(span_ms("90s"), Ok(90_000));
        assert_eq!(span_ms("7d"), Ok(604_800_000));
        for bad in ["", "7", "d", "-1h", "1w", "1é"] {
            assert!(span_ms(bad).is_err() && when(bad).is_err(), "{bad}");
        }
        assert_eq!(when("2h").map(|at| at.ms(10_000_000)), Ok(2_800_000));
        assert_eq!(when("1970-01-01T00:00:07+00:00").map(|at| at.ms(1)), Ok(7_000));
    }
}
