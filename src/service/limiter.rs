//! One token bucket per key, in bounded memory.
//!
//! At most [`MAX_KEYS`] keys have a bucket of their own. A key leaves once its bucket must be full again, which
//! loses nothing: a new bucket starts full. While all places are taken, the keys without one share one more bucket:
//! a flood of made-up keys limits itself, and never empties or refills the bucket of a key that is known.

use super::config::Rate;
use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many keys have a bucket of their own.
pub(super) const MAX_KEYS: usize = 10_000;
/// How often buckets are looked through for idle ones.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The limiter. A changed rate starts all buckets anew.
#[derive(Debug)]
pub(super) struct Limiter<C: Clock = MonotonicClock> {
    clock: C,
    buckets: Mutex<Option<Buckets<C>>>,
}

/// The limiter's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// One token was taken.
    Allowed {
        /// How many are left.
        remaining: u32,
    },
    /// There was no token.
    Limited {
        /// How long until there is one.
        retry_after: Duration,
    },
}

#[derive(Debug)]
struct Buckets<C: Clock> {
    rate: Rate,
    by_key: HashMap<Box<str>, Bucket<C>>,
    shared: Bucket<C>,
    swept: C::Instant,
}

#[derive(Debug)]
struct Bucket<C: Clock> {
    tokens: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
    used: C::Instant,
}

impl<C: Clock + Clone> Limiter<C> {
    pub(super) fn new(clock: C) -> Self {
        Self { clock, buckets: Mutex::new(None) }
    }

    /// Takes a token from the bucket of this key, if there is one.
    pub(super) fn check(&self, key: &str, rate: Rate) -> Decision {
        let now = self.clock.now();
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = match &mut *guard {
            Some(buckets) if buckets.rate == rate => buckets,
            outdated => outdated.insert(Buckets::new(rate, &self.clock)),
        };
        buckets.sweep(now);
        buckets.of(key, &self.clock).take(now)
    }

    /// How many keys have a bucket of their own.
    pub(super) fn keys(&self) -> usize {
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        guard.as_mut().map_or(0, |buckets| {
            buckets.sweep(self.clock.now());
            buckets.by_key.len()
        })
    }
}

impl<C: Clock + Clone> Buckets<C> {
    fn new(rate: Rate, clock: &C) -> Self {
        Self { rate, by_key: HashMap::new(), shared: Bucket::full(rate, clock), swept: clock.now() }
    }

    fn of(&mut self, key: &str, clock: &C) -> &mut Bucket<C> {
        if !self.by_key.contains_key(key) && self.by_key.len() >= MAX_KEYS {
            return &mut self.shared;
        }
        self.by_key.entry(key.into()).or_insert_with(|| Bucket::full(self.rate, clock))
    }

    fn sweep(&mut self, now: C::Instant) {
        if elapsed(self.swept, now) < SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        let refill = self.rate.refill();
        self.by_key.retain(|_, bucket| elapsed(bucket.used, now) < refill);
    }
}

impl<C: Clock + Clone> Bucket<C> {
    fn full(rate: Rate, clock: &C) -> Self {
        let quota = Quota::per_second(rate.requests_per_second).allow_burst(rate.burst);
        let tokens = RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware();
        Self { tokens, used: clock.now() }
    }

    fn take(&mut self, now: C::Instant) -> Decision {
        self.used = now;
        match self.tokens.check() {
            Ok(state) => Decision::Allowed { remaining: state.remaining_burst_capacity() },
            Err(refusal) => Decision::Limited { retry_after: refusal.wait_time_from(now) },
        }
    }
}

fn elapsed<I: Reference>(earlier: I, now: I) -> Duration {
    now.duration_since(earlier).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::num::NonZeroU32;

    fn rate(requests_per_second: u32, burst: u32) -> Rate {
        let positive = |count| NonZeroU32::new(count).unwrap();
        Rate { requests_per_second: positive(requests_per_second), burst: positive(burst) }
    }

    fn limiter() -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::new(clock.clone()), clock)
    }

    #[test]
    fn a_burst_is_allowed_then_one_request_each_time_a_token_comes_back() {
        let (limiter, clock) = limiter();
        let rate = rate(10, 3);
        for remaining in [2, 1, 0] {
            assert_eq!(limiter.check("a", rate), Decision::Allowed { remaining });
        }
        assert_eq!(limiter.check("a", rate), Decision::Limited { retry_after: Duration::from_millis(100) });
        clock.advance(Duration::from_millis(100));
        assert_eq!(limiter.check("a", rate), Decision::Allowed { remaining: 0 });
    }

    #[test]
    fn past_the_last_place_new_keys_share_one_bucket_and_known_keys_keep_theirs() {
        let (limiter, _clock) = limiter();
        let rate = rate(1, 2);
        for key in 0..MAX_KEYS {
            assert_eq!(limiter.check(&format!("known-{key}"), rate), Decision::Allowed { remaining: 1 });
        }
        assert_eq!(limiter.check("new-1", rate), Decision::Allowed { remaining: 1 });
        assert_eq!(limiter.check("new-2", rate), Decision::Allowed { remaining: 0 });
        assert!(matches!(limiter.check("new-3", rate), Decision::Limited { .. }));
        assert_eq!(limiter.check("known-0", rate), Decision::Allowed { remaining: 0 });
        assert_eq!(limiter.keys(), MAX_KEYS);
    }

    #[test]
    fn idle_keys_leave_once_their_bucket_is_full_again() {
        let (limiter, clock) = limiter();
        let rate = rate(1, 3);
        limiter.check("idle", rate);
        clock.advance(Duration::from_secs(2));
        limiter.check("busy", rate);
        assert_eq!(limiter.keys(), 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(limiter.keys(), 1);
    }

    #[test]
    fn a_changed_rate_starts_all_buckets_anew() {
        let (limiter, _clock) = limiter();
        limiter.check("a", rate(1, 1));
        assert!(matches!(limiter.check("a", rate(1, 1)), Decision::Limited { .. }));
        assert_eq!(limiter.check("a", rate(1, 5)), Decision::Allowed { remaining: 4 });
        assert_eq!(limiter.keys(), 1);
    }

    #[test]
    fn the_extremes_of_a_rate_are_counted_right() {
        let (limiter, _clock) = limiter();
        for rate in [rate(1, 1_000_000), rate(100_000, 1_000_000), rate(100_000, 1)] {
            let remaining = rate.burst.get() - 1;
            assert_eq!(limiter.check("a", rate), Decision::Allowed { remaining });
        }
    }
}
