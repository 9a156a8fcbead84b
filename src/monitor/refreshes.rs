//! Which statuses are written although nothing but values and samples changed, and when: the oldest first, and never more
//! than so many a second for the whole process. Pure: time is an argument, since an origin that the caller chooses.

use crate::watch::ObjectKey;
use std::collections::VecDeque;
use std::time::Duration;

/// Between two of these writes: 20 a second, however many invariants there are.
const SPACING: Duration = Duration::from_millis(50);

/// The statuses that wait for their refresh.
#[derive(Debug)]
pub struct Refreshes {
    /// A status may be so old; `None`: as old as it gets.
    every: Option<Duration>,
    /// Statuses that say something outdated and can wait a little, in the order in which that was noticed.
    outdated: VecDeque<ObjectKey>,
    /// The others with when they were written, oldest first.
    aging: VecDeque<(Duration, ObjectKey)>,
    /// No such write before this.
    next: Duration,
}

impl Refreshes {
    /// No status waits yet.
    pub fn new(every: Option<Duration>) -> Self {
        Self { every, outdated: VecDeque::new(), aging: VecDeque::new(), next: Duration::ZERO }
    }

    /// A status was written, or seen for the first time. Whoever takes it later compares this time with that of the
    /// last write it knows of.
    pub fn written(&mut self, key: &ObjectKey, at: Duration) {
        if self.every.is_some() {
            self.aging.push_back((at, key.clone()));
        }
    }

    /// A status says something outdated that need not be put right at once.
    pub fn outdated(&mut self, key: &ObjectKey) {
        self.outdated.push_back(key.clone());
    }

    /// When [`Refreshes::take_due`] will give something.
    pub fn next_due(&self) -> Option<Duration> {
        if !self.outdated.is_empty() {
            return Some(self.next);
        }
        let (written_at, _) = self.aging.front()?;
        Some(self.next.max(*written_at + self.every?))
    }

    /// Takes what is due, with when it was written if it is due by its age.
    pub fn take_due(&mut self, now: Duration) -> Option<(ObjectKey, Option<Duration>)> {
        if self.next_due()? > now {
            return None;
        }
        if let Some(key) = self.outdated.pop_front() {
            return Some((key, None));
        }
        self.aging.pop_front().map(|(written_at, key)| (key, Some(written_at)))
    }

    /// What was taken is being written now.
    pub fn spend(&mut self, now: Duration) {
        self.next = now + SPACING;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> ObjectKey {
        ObjectKey::new("shop", number.to_string())
    }

    const EVERY: Duration = Duration::from_mins(1);

    #[test]
    fn however_many_are_due_twenty_a_second_are_written_and_each_in_its_turn() {
        let mut refreshes = Refreshes::new(Some(EVERY));
        (0..10_000).for_each(|number| refreshes.written(&key(number), Duration::from_millis(number.into())));
        let (mut now, mut written) = (EVERY * 2, Vec::new());
        while now < EVERY * 3 {
            while let Some((taken, _)) = refreshes.take_due(now) {
                refreshes.spend(now);
                refreshes.written(&taken, now);
                written.push(taken);
            }
            now += Duration::from_millis(1);
        }
        assert_eq!(written, (0..60 * 20).map(key).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_refreshed_before_its_time_or_at_all_when_that_is_off() {
        let mut refreshes = Refreshes::new(Some(EVERY));
        refreshes.written(&key(1), Duration::from_secs(5));
        assert_eq!(refreshes.next_due(), Some(EVERY + Duration::from_secs(5)));
        assert_eq!(refreshes.take_due(EVERY), None);
        let mut off = Refreshes::new(None);
        off.written(&key(1), Duration::ZERO);
        assert_eq!(off.next_due(), None);
    }

    #[test]
    fn what_is_outdated_goes_first_and_shares_the_budget() {
        let mut refreshes = Refreshes::new(Some(EVERY));
        refreshes.written(&key(1), Duration::ZERO);
        refreshes.outdated(&key(2));
        assert_eq!(refreshes.take_due(EVERY), Some((key(2), None)));
        refreshes.spend(EVERY);
        assert_eq!(refreshes.take_due(EVERY), None);
        assert_eq!(refreshes.take_due(EVERY + SPACING), Some((key(1), Some(Duration::ZERO))));
    }
}
