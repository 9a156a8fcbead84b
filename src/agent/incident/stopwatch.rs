//! How long something was watched. Pure.

use std::time::Duration;

/// What is watched is looked at at least this often; a longer pause was none in which it was watched.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Adds up the time between looks at the same attempt. Time in which nobody looked (the machine was suspended, the API
/// server gave no answer) does not count.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    attempt: Option<u32>,
    last: Duration,
    watched: Duration,
}

impl Stopwatch {
    /// Counts a look at this attempt, or at none; `now` is monotonic. Gives for how long it was watched.
    pub(super) fn look(&mut self, attempt: Option<u32>, now: Duration) -> Duration {
        if attempt.is_none() || self.attempt != attempt {
            *self = Self { attempt, last: now, watched: Duration::ZERO };
        }
        self.watched += now.saturating_sub(self.last).min(LONGEST_PAUSE);
        self.last = now;
        self.watched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_between_looks_at_the_same_attempt_and_a_long_pause_does_not() {
        let mut stopwatch = Stopwatch::default();
        let table = [
            (Some(1), 10, 0),
            (Some(1), 12, 2),
            (Some(1), 15, 5),
            // An hour without a look.
            (Some(1), 3615, 10),
            (Some(1), 3616, 11),
            (Some(2), 3617, 0),
            (Some(2), 3618, 1),
            (None, 3619, 0),
            (Some(2), 3630, 0),
        ];
        for (attempt, now, expected) in table {
            let watched = stopwatch.look(attempt, Duration::from_secs(now));
            assert_eq!(watched.as_secs(), expected, "{attempt:?} at {now}");
        }
    }
}
