//! A token bucket for each key, in bounded memory.

use super::config::Config;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Keys with a bucket of their own. Past it, buckets that are full again are dropped; if that is not enough, new keys
/// share one bucket.
const MAX_KEYS: usize = 100_000;

/// The bucket of those that found no room. No request can name it: keys are not empty.
const SHARED_KEY: &str = "";

type Buckets = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// What came of taking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There was one.
    Yes {
        /// How many are left.
        remaining: u32,
    },
    /// There was none.
    No {
        /// When there will be one.
        wait: Duration,
    },
}

/// The buckets.
#[derive(Default)]
pub struct Limiter {
    // Made anew when the rate or the burst changes: then every key begins with a full bucket.
    current: Mutex<Option<(Config, Arc<Buckets>)>>,
    clock: DefaultClock,
}

impl Limiter {
    /// Takes one token of a key's bucket.
    pub fn take(&self, key: &str, config: &Config) -> Taken {
        let buckets = self.buckets(config);
        if buckets.len() >= MAX_KEYS {
            buckets.retain_recent();
        }
        let key = if buckets.len() >= MAX_KEYS { SHARED_KEY } else { key };
        match buckets.check_key(&key.to_owned()) {
            Ok(state) => Taken::Yes { remaining: state.remaining_burst_capacity() },
            Err(until) => Taken::No { wait: until.wait_time_from(self.clock.now()) },
        }
    }

    /// How many keys have a bucket now.
    pub fn keys(&self) -> usize {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map_or(0, |(_, buckets)| buckets.len())
    }

    fn buckets(&self, config: &Config) -> Arc<Buckets> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, buckets)) = current.as_ref()
            && (known.requests_per_second.to_bits(), known.burst)
                == (config.requests_per_second.to_bits(), config.burst)
        {
            return Arc::clone(buckets);
        }
        let buckets = Arc::new(RateLimiter::keyed(quota(config)).with_middleware::<StateInformationMiddleware>());
        *current = Some((*config, Arc::clone(&buckets)));
        buckets
    }
}

fn quota(config: &Config) -> Quota {
    let burst = NonZeroU32::new(config.burst).unwrap_or(NonZeroU32::MIN);
    // The configuration keeps the rate above zero; one a day is the slowest that makes sense.
    let period = Duration::try_from_secs_f64(1.0 / config.requests_per_second).unwrap_or(Duration::from_hours(24));
    Quota::with_period(period.max(Duration::from_nanos(1)))
        .unwrap_or_else(|| Quota::per_second(burst))
        .allow_burst(burst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(requests_per_second: f64, burst: u32) -> Config {
        Config { requests_per_second, burst, ..Config::parse("{}").unwrap() }
    }

    #[test]
    fn a_bucket_holds_its_burst_and_each_key_has_its_own() {
        let (limiter, config) = (Limiter::default(), config(0.001, 2));
        assert_eq!(limiter.take("a", &config), Taken::Yes { remaining: 1 });
        assert_eq!(limiter.take("a", &config), Taken::Yes { remaining: 0 });
        assert!(matches!(limiter.take("a", &config), Taken::No { wait } if wait > Duration::from_mins(10)));
        assert_eq!(limiter.take("b", &config), Taken::Yes { remaining: 1 });
    }

    #[test]
    fn a_changed_rate_counts_at_once() {
        let limiter = Limiter::default();
        limiter.take("a", &config(0.001, 1));
        assert!(matches!(limiter.take("a", &config(0.001, 1)), Taken::No { .. }));
        assert_eq!(limiter.take("a", &config(0.001, 3)), Taken::Yes { remaining: 2 });
    }

    #[test]
    fn past_the_bound_new_keys_share_one_bucket() {
        let (limiter, config) = (Limiter::default(), config(0.001, 2));
        for index in 0..MAX_KEYS {
            limiter.take(&index.to_string(), &config);
        }
        assert_eq!(limiter.take("late", &config), Taken::Yes { remaining: 1 });
        assert_eq!(limiter.take("later", &config), Taken::Yes { remaining: 0 });
        assert!(limiter.keys() <= MAX_KEYS + 1);
    }
}
