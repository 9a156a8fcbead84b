//! Whether a change is verified, by the samples that were asked since it is in force.
//!
//! Without a clock: a sample stands for one interval. So time in which nothing was asked (the clock jumped, the machine
//! was suspended, the API server was away) neither verifies a change nor has it undone.

use crate::crd::InvariantSpec;
use std::time::Duration;

/// A change has at least this time to show, unless the invariant says otherwise.
const LEAST: Duration = Duration::from_mins(3);

/// The samples that were asked since a change is in force. Those without an answer are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All that had an answer.
    pub samples: u32,
    /// Holds since the last breach.
    pub holds: u32,
    /// Breaches since the last hold.
    pub breaches: u32,
}

impl Tally {
    /// Adds an answer.
    pub fn add(&mut self, holds: bool) {
        self.samples = self.samples.saturating_add(1);
        let (row, broken) =
            if holds { (&mut self.holds, &mut self.breaches) } else { (&mut self.breaches, &mut self.holds) };
        *row = row.saturating_add(1);
        *broken = 0;
    }
}

/// What samples say of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Nothing yet.
    Pending,
    /// It holds, for long enough.
    Verified,
    /// It does not hold, and had its time.
    Failed,
}

/// What samples say of a change. While holds are counted it never failed.
pub fn judge(spec: &InvariantSpec, tally: Tally) -> Finding {
    let remediation = &spec.remediation;
    let window = Duration::from(remediation.stabilization_window);
    if tally.holds > 0 {
        let holds_long_enough = tally.holds >= spec.success_threshold && between(spec, tally.holds) >= window;
        return if holds_long_enough { Finding::Verified } else { Finding::Pending };
    }
    let (observed, timeout) = (between(spec, tally.samples), timeout(spec));
    let is_broken = tally.breaches >= spec.failure_threshold && observed >= timeout;
    // What holds now and then is never broken by its thresholds; what began to hold in time would be verified by now.
    let had_its_time = tally.breaches > 0 && observed >= timeout + window + interval(spec) * spec.success_threshold;
    if is_broken || had_its_time { Finding::Failed } else { Finding::Pending }
}

/// The observed time that a change has to show: `verifyTimeout`, and at least as long as its thresholds take.
pub fn timeout(spec: &InvariantSpec) -> Duration {
    let both = spec.success_threshold.saturating_add(spec.failure_threshold);
    match spec.remediation.verify_timeout {
        Some(given) => Duration::from(given).max(interval(spec) * spec.success_threshold),
        None => LEAST.max(interval(spec) * both),
    }
}

/// The time from the first to the last of so many samples.
fn between(spec: &InvariantSpec, samples: u32) -> Duration {
    interval(spec) * samples.saturating_sub(1)
}

fn interval(spec: &InvariantSpec) -> Duration {
    Duration::from(spec.interval)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn spec(more: &Value, remediation: &Value) -> InvariantSpec {
        let mut spec = json!({ "query": "http://a/", "condition": "== 200", "remediation": remediation });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    /// What is found after each sample: `h` holds, `b` breaks.
    fn findings(spec: &InvariantSpec, samples: &str) -> Vec<Finding> {
        let mut tally = Tally::default();
        let judged = samples.chars().map(|sample| {
            tally.add(sample == 'h');
            judge(spec, tally)
        });
        judged.collect()
    }

    /// The first finding that is not `Pending`, and after how many samples.
    fn found(spec: &InvariantSpec, samples: &str) -> Option<(usize, Finding)> {
        findings(spec, samples)
            .into_iter()
            .enumerate()
            .find(|(_, it)| *it != Finding::Pending)
            .map(|(at, it)| (at + 1, it))
    }

    #[test]
    fn a_change_is_verified_by_its_thresholds_and_its_window_and_fails_by_observed_time_without_a_hold() {
        use Finding::{Failed, Verified};
        let table = [
            // As many holds as the threshold asks for.
            ("1s", 1, 1, json!({ "verifyTimeout": "2s" }), "bh", Some((2, Verified))),
            ("5s", 2, 3, json!({ "verifyTimeout": "15s" }), "hhh", Some((3, Verified))),
            // The window is longer than the time-out.
            ("1s", 1, 1, json!({ "verifyTimeout": "2s", "stabilizationWindow": "4s" }), "hhhhh", Some((5, Verified))),
            ("1s", 1, 1, json!({ "verifyTimeout": "2s", "stabilizationWindow": "4s" }), "bhhhhh", Some((6, Verified))),
            // The thresholds take longer than the time-out.
            ("5m", 2, 2, json!({}), "hh", Some((2, Verified))),
            ("5m", 2, 2, json!({ "verifyTimeout": "3m" }), "bhh", Some((3, Verified))),
            // Nothing but breaches.
            ("1s", 1, 1, json!({ "verifyTimeout": "2s" }), "bbbb", Some((3, Failed))),
            ("1s", 5, 1, json!({ "verifyTimeout": "2s" }), "bbbbbb", Some((4, Failed))),
            ("5m", 2, 2, json!({}), "bbbbbb", Some((5, Failed))),
            // One breach within the window is not yet a broken invariant; a row of them is.
            ("1s", 2, 1, json!({ "verifyTimeout": "2s", "stabilizationWindow": "9s" }), "hhhhhbb", Some((7, Failed))),
            (
                "1s",
                2,
                1,
                json!({ "verifyTimeout": "2s", "stabilizationWindow": "3s" }),
                "hhhbhhhh",
                Some((8, Verified)),
            ),
            // What holds now and then is given up once it had its time, and at a breach.
            ("1s", 2, 2, json!({ "verifyTimeout": "2s" }), "bhbhbhbh", Some((5, Failed))),
            ("1s", 2, 2, json!({ "verifyTimeout": "2s" }), "bhb", None),
        ];
        for (interval, failure, success, remediation, samples, expected) in table {
            let more = json!({ "interval": interval, "failureThreshold": failure, "successThreshold": success });
            let spec = spec(&more, &remediation);
            assert_eq!(found(&spec, samples), expected, "{more} {remediation} {samples}");
        }
    }

    proptest! {
        #[test]
        fn a_change_that_holds_from_its_first_sample_on_is_never_undone_and_is_verified(
            interval in 1u64..=3600, failure in 1u32..=100, success in 1u32..=100,
            timeout in prop::option::of(1u64..=86400), window in 0u64..=86400,
        ) {
            let more = json!({
                "interval": format!("{interval}s"), "failureThreshold": failure, "successThreshold": success,
            });
            let mut remediation = json!({ "stabilizationWindow": format!("{window}s") });
            if let Some(timeout) = timeout {
                remediation["verifyTimeout"] = json!(format!("{timeout}s"));
            }
            let spec = spec(&more, &remediation);
            let mut tally = Tally::default();
            for _ in 0..=(window / interval + u64::from(success) + 1) {
                tally.add(true);
                prop_assert_ne!(judge(&spec, tally), Finding::Failed);
            }
            prop_assert_eq!(judge(&spec, tally), Finding::Verified);
        }

        #[test]
        fn every_row_of_samples_ends_and_never_fails_while_it_holds(
            interval in 1u64..=60, failure in 1u32..=5, success in 1u32..=5, timeout in 1u64..=60, window in 0u64..=60,
            samples in prop::collection::vec(any::<bool>(), 1..40),
        ) {
            let more = json!({
                "interval": format!("{interval}s"), "failureThreshold": failure, "successThreshold": success,
            });
            let remediation =
                json!({ "verifyTimeout": format!("{timeout}s"), "stabilizationWindow": format!("{window}s") });
            let spec = spec(&more, &remediation);
            let mut tally = Tally::default();
            for holds in samples.iter().cycle().take(200) {
                tally.add(*holds);
                let finding = judge(&spec, tally);
                prop_assert!(finding != Finding::Failed || !holds);
            }
            // In 200 samples there is the time-out, the window and the threshold; it holds long enough or breaks after.
            let mut ended = false;
            let mut tally = Tally::default();
            for holds in samples.iter().cycle().take(400) {
                tally.add(*holds);
                ended |= judge(&spec, tally) != Finding::Pending;
            }
            prop_assert!(ended);
        }
    }
}
