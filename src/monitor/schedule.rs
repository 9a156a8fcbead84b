//! When to ask: starts are spread over the interval by the object's UID and stay on that phase for ever.
//! Pure: time is an argument, in monotonic time since an origin that the caller chooses.

use crate::watch::ObjectKey;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Which checks are due when.
#[derive(Debug, Default)]
pub struct Schedule {
    slots: HashMap<ObjectKey, Slot>,
    // Entries of slots that changed since stay in the heap and are skipped when they come up.
    queue: BinaryHeap<Reverse<(Duration, u64, ObjectKey)>>,
    next_id: u64,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    interval: Duration,
}

impl Schedule {
    /// Checks `key` every `interval` from now on, starting within the first interval. The same interval again changes
    /// nothing.
    pub fn set(&mut self, key: &ObjectKey, uid: &str, interval: Duration, now: Duration) {
        if self.slots.get(key).is_some_and(|slot| slot.interval == interval) {
            return;
        }
        self.next_id += 1;
        self.slots.insert(key.clone(), Slot { id: self.next_id, interval });
        self.queue.push(Reverse((first_start(uid, interval, now), self.next_id, key.clone())));
    }

    /// Checks `key` no more.
    pub fn remove(&mut self, key: &ObjectKey) {
        self.slots.remove(key);
    }

    /// When the next check is due.
    pub fn next_due(&mut self) -> Option<Duration> {
        while let Some(Reverse((due, id, key))) = self.queue.peek() {
            if self.slots.get(key).is_some_and(|slot| slot.id == *id) {
                return Some(*due);
            }
            self.queue.pop();
        }
        None
    }

    /// Takes one check that is due at `now`, and plans its next.
    pub fn take_due(&mut self, now: Duration) -> Option<Due> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((due, id, key)) = self.queue.pop()?;
        let interval = self.slots.get(&key)?.interval;
        let late = now.saturating_sub(due);
        let missed = u32::try_from(late.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.queue.push(Reverse((due + interval * (missed + 1), id, key.clone())));
        Some(Due { key, late, missed })
    }
}

/// A check that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// What is to be checked.
    pub key: ObjectKey,
    /// How long it has been due.
    pub late: Duration,
    /// How many of its starts were missed altogether.
    pub missed: u32,
}

/// The first start not before `now` on the phase that belongs to this UID.
fn first_start(uid: &str, interval: Duration, now: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let nanoseconds = interval.as_nanos().max(1);
    let phase = u128::from(hasher.finish()) % nanoseconds;
    let wait = (phase + nanoseconds - now.as_nanos() % nanoseconds) % nanoseconds;
    now + Duration::from_nanos(u64::try_from(wait).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[test]
    fn starts_are_an_interval_apart_without_drift() {
        let mut schedule = Schedule::default();
        schedule.set(&key("a"), "uid", INTERVAL, Duration::ZERO);
        let first = schedule.next_due().unwrap();
        assert!(first < INTERVAL);
        for round in 0..10 {
            let late = first + INTERVAL * round + Duration::from_millis(300);
            let due = schedule.take_due(late).unwrap();
            assert_eq!((due.late, due.missed), (Duration::from_millis(300), 0));
            assert_eq!(schedule.next_due(), Some(first + INTERVAL * (round + 1)));
        }
    }

    #[test]
    fn a_long_stall_counts_the_missed_starts_and_does_not_make_up_for_them() {
        let mut schedule = Schedule::default();
        schedule.set(&key("a"), "uid", INTERVAL, Duration::ZERO);
        let first = schedule.next_due().unwrap();
        assert_eq!(schedule.take_due(first + INTERVAL * 3).unwrap().missed, 3);
        assert_eq!(schedule.next_due(), Some(first + INTERVAL * 4));
    }

    #[test]
    fn a_removed_check_is_never_due_and_a_changed_interval_counts_at_once() {
        let mut schedule = Schedule::default();
        schedule.set(&key("a"), "uid", INTERVAL, Duration::ZERO);
        schedule.set(&key("a"), "uid", INTERVAL * 100, Duration::ZERO);
        schedule.set(&key("b"), "uid", INTERVAL, Duration::ZERO);
        schedule.remove(&key("b"));
        let due = schedule.next_due().unwrap();
        assert_eq!(schedule.take_due(due).unwrap().key, key("a"));
        assert_eq!(schedule.next_due(), Some(due + INTERVAL * 100));
    }

    proptest! {
        #[test]
        fn the_first_start_is_within_one_interval(uid in ".*", now in 0u64..1_000_000_000_000, ms in 1u64..100_000) {
            let (now, interval) = (Duration::from_nanos(now), Duration::from_millis(ms));
            let first = first_start(&uid, interval, now);
            prop_assert!(first >= now && first < now + interval);
        }
    }

    #[test]
    fn many_checks_are_spread_over_the_interval() {
        let mut schedule = Schedule::default();
        for index in 0..5_000 {
            let name = index.to_string();
            schedule.set(&key(&name), &name, INTERVAL, Duration::ZERO);
        }
        let mut starts = [0u32; 50];
        while let Some(due) = schedule.next_due().filter(|due| *due < INTERVAL) {
            schedule.take_due(due);
            starts[usize::try_from(due.as_millis() / 100).unwrap()] += 1;
        }
        assert_eq!(starts.iter().sum::<u32>(), 5_000);
        assert!(starts.iter().all(|count| (50..=150).contains(count)), "{starts:?}");
    }
}
