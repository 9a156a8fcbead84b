//! What failed, how often in a row, and when it may be tried again: after pauses that grow, and never faster. Pure: time
//! is an argument.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// The failures of things that are tried again. One that went well for as long as the longest pause begins anew.
#[derive(Debug)]
pub(super) struct Setbacks<K> {
    first: Duration,
    most: Duration,
    failed: HashMap<K, Setback>,
}

#[derive(Debug, Clone, Copy)]
struct Setback {
    in_a_row: u32,
    until: Instant,
    /// It was told that its time has come.
    is_over: bool,
}

impl<K: Eq + Hash + Clone> Setbacks<K> {
    /// None yet. The first pause is `first`, each further one twice as long, up to `most`.
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failed: HashMap::new() }
    }

    /// It failed; says how often in a row, and how long it pauses.
    pub(super) fn failed(&mut self, key: &K, now: Instant) -> (u32, Duration) {
        let before = self.failed.get(key).filter(|it| now < it.until + self.most).map_or(0, |it| it.in_a_row);
        let in_a_row = before.saturating_add(1);
        let pause = self.first.saturating_mul(2_u32.saturating_pow(before)).min(self.most);
        self.failed.insert(key.clone(), Setback { in_a_row, until: now + pause, is_over: false });
        (in_a_row, pause)
    }

    /// It went well, or there is no such thing any more.
    pub(super) fn forget(&mut self, key: &K) {
        self.failed.remove(key);
    }

    /// Whether it may be tried now.
    pub(super) fn may_try(&self, key: &K, now: Instant) -> bool {
        self.failed.get(key).is_none_or(|it| it.until <= now)
    }

    /// When the next pause is over that [`Setbacks::take_due`] did not tell of.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.failed.values().filter(|it| !it.is_over).map(|it| it.until).min()
    }

    /// Those whose pause is over, each once.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<K> {
        let due = self.failed.iter_mut().filter(|(_, it)| !it.is_over && it.until <= now);
        due.map(|(key, it)| {
            it.is_over = true;
            key.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(10);

    #[test]
    fn pauses_grow_up_to_the_longest_and_begin_anew_after_it_went_well() {
        let (mut setbacks, mut now) = (Setbacks::new(FIRST, MOST), Instant::now());
        for expected in [1, 2, 4, 8, 10, 10] {
            let (_, pause) = setbacks.failed(&"a", now);
            assert_eq!(pause.as_secs(), expected);
            assert!(!setbacks.may_try(&"a", now + pause.checked_sub(Duration::from_millis(1)).unwrap()));
            now += pause;
            assert!(setbacks.may_try(&"a", now));
        }
        now += MOST;
        assert_eq!(setbacks.failed(&"a", now), (1, FIRST));
        setbacks.forget(&"a");
        assert_eq!(setbacks.failed(&"a", now), (1, FIRST));
    }

    #[test]
    fn one_that_pauses_keeps_no_other_waiting_and_is_due_once() {
        let (mut setbacks, now) = (Setbacks::new(FIRST, MOST), Instant::now());
        setbacks.failed(&"a", now);
        assert!(setbacks.may_try(&"b", now));
        assert_eq!((setbacks.next_due(), setbacks.take_due(now)), (Some(now + FIRST), vec![]));
        assert_eq!((setbacks.take_due(now + FIRST), setbacks.next_due()), (vec!["a"], None));
        assert!(setbacks.take_due(now + FIRST).is_empty());
    }
}
