//! Waiting for a condition, with a limit.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Multiplies every time limit of the testkit: for a slow or busy machine.
pub const PATIENCE: &str = "SLUICE_TEST_PATIENCE";

const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(200);

/// `limit`, times `SLUICE_TEST_PATIENCE` when that is set to a number of 1 or more.
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var(PATIENCE).ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1);
    limit.saturating_mul(factor.max(1))
}

/// What a probe of [`eventually`] may answer: settled with a value, or not yet.
pub trait Answer {
    /// The value it settles with.
    type Value;
    /// The value, or why it is not settled yet.
    ///
    /// # Errors
    /// The reason, for the message of the panic when time is up.
    fn settled(self) -> Result<Self::Value, String>;
}

impl<T> Answer for Option<T> {
    type Value = T;
    fn settled(self) -> Result<T, String> {
        self.ok_or_else(|| "it is None".to_owned())
    }
}

impl<T, E: Debug> Answer for Result<T, E> {
    type Value = T;
    fn settled(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

impl Answer for bool {
    type Value = ();
    fn settled(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is false".to_owned()) }
    }
}

/// Asks `probe` until it answers `Some`, `Ok` or `true`, and returns the value.
///
/// # Panics
/// When `limit` (times the patience) is over: says what was waited for and the last reason.
pub async fn eventually<A, F>(limit: Duration, what: &str, mut probe: impl FnMut() -> F) -> A::Value
where
    A: Answer,
    F: Future<Output = A>,
{
    let limit = patient(limit);
    let end = Instant::now() + limit;
    let mut pause = POLL_MIN;
    loop {
        // The poll after the limit still gets a moment, so a slow machine asks at least once.
        let left = end.saturating_duration_since(Instant::now()).max(POLL_MAX);
        let reason = match tokio::time::timeout(left, probe()).await.map(Answer::settled) {
            Ok(Ok(value)) => return value,
            Ok(Err(reason)) => reason,
            Err(_) => "the probe does not answer".to_owned(),
        };
        assert!(Instant::now() < end, "{what}: not within {limit:?}: {reason}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_becomes_true_is_waited_for() {
        let mut asked = 0;
        let value = eventually(Duration::from_secs(10), "third time", || {
            asked += 1;
            let answer = (asked == 3).then_some(asked);
            async move { answer }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "the sky falls: not within 10ms: \"still blue\"")]
    async fn a_condition_that_stays_false_fails_with_its_last_reason() {
        eventually(Duration::from_millis(10), "the sky falls", || async { Err::<(), _>("still blue") }).await;
    }
}
