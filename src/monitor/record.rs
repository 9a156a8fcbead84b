//! What the monitor remembers of one invariant: its last samples and the rows of breaches and holds.
//! Pure: samples go in, counts come out.

use crate::crd::{NoData, RecentSample, VerdictName};
use crate::lifecycle::verification::Tally;
use crate::probe::Reading;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use std::collections::VecDeque;

/// Samples kept, and shown in the status.
const KEPT_SAMPLES: usize = 30;

/// One judged sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// When the question was asked.
    pub started_at: Timestamp,
    /// What the answer meant.
    pub verdict: VerdictName,
    /// What the answer gave; redacted.
    pub reading: Reading,
    /// How long it took, in milliseconds, rounded up.
    pub latency_milliseconds: u32,
    /// What a ticket would say about it; absent where it holds, since then nobody asks.
    pub findings: Option<Box<Findings>>,
}

/// What a ticket says about a sample that does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// What was observed, in a sentence; redacted.
    pub observed: String,
    /// The start of the answer's body, if there was one; redacted.
    pub body: Option<String>,
}

/// A sample as it is remembered: ten thousand invariants remember thirty each.
#[derive(Debug, Clone, PartialEq)]
struct Past {
    at_microsecond: i64,
    reading: Reading,
    latency_milliseconds: u32,
    verdict: VerdictName,
}

/// From where on samples count for a ticket. A change of it starts the count anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Counting {
    /// There is no ticket, or none that may resolve now.
    #[default]
    Nothing,
    /// A ticket that nothing was changed for.
    Unchanged {
        /// Its UID.
        ticket: String,
    },
    /// A ticket whose attempt is in force.
    Attempt {
        /// Its UID.
        ticket: String,
        /// The attempt's number.
        number: u32,
    },
    /// A ticket that waits for a person.
    Escalated {
        /// Its UID.
        ticket: String,
    },
}

/// The rows and the last samples of one invariant.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Consecutive breaches; samples without an answer neither count nor interrupt.
    pub breaches: u32,
    /// Consecutive holds, likewise.
    pub holds: u32,
    /// When the first breach of the present row was seen.
    pub first_breach_at: Option<Timestamp>,
    /// Since when every sample held.
    pub held_since: Option<Timestamp>,
    /// When it was last seen to hold.
    pub last_held_at: Option<Timestamp>,
    /// The last sample.
    pub last: Option<Judged>,
    recent: VecDeque<Past>,
    counting: Counting,
    /// A question was under way when counting began: its answer does not count.
    under_way: bool,
    tally: Tally,
}

impl Record {
    /// Adds a sample.
    pub fn add(&mut self, sample: Judged, no_data: NoData) {
        let counts_as = match (sample.verdict, no_data) {
            (VerdictName::Unknown, NoData::Violated) => VerdictName::Breached,
            (VerdictName::Unknown, NoData::Holding) => VerdictName::Holds,
            (verdict, _) => verdict,
        };
        self.count(counts_as);
        match counts_as {
            VerdictName::Holds => self.hold(sample.started_at),
            VerdictName::Breached => self.breach(sample.started_at),
            VerdictName::Unknown => self.held_since = None,
        }
        if self.recent.len() == KEPT_SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(Past::of(&sample));
        self.last = Some(sample);
    }

    fn hold(&mut self, at: Timestamp) {
        self.breaches = 0;
        self.first_breach_at = None;
        self.holds = self.holds.saturating_add(1);
        self.held_since.get_or_insert(at);
        self.last_held_at = Some(at);
    }

    fn breach(&mut self, at: Timestamp) {
        self.holds = 0;
        self.held_since = None;
        self.breaches = self.breaches.saturating_add(1);
        self.first_breach_at.get_or_insert(at);
    }

    fn count(&mut self, verdict: VerdictName) {
        let asked_before = std::mem::take(&mut self.under_way);
        if self.counting == Counting::Nothing || asked_before {
            return;
        }
        match verdict {
            VerdictName::Holds => self.tally.add(true),
            VerdictName::Breached => self.tally.add(false),
            VerdictName::Unknown => {}
        }
    }

    /// Says for what samples count from now on. What was asked before, and is still `under_way`, does not count for it.
    pub fn count_for(&mut self, counting: Counting, under_way: bool) {
        if self.counting != counting {
            self.counting = counting;
            self.under_way = under_way;
            self.tally = Tally::default();
        }
    }

    /// Breaches are counted anew: what the invariant depends on has only just recovered.
    pub fn restart_breaches(&mut self) {
        self.breaches = 0;
        self.first_breach_at = None;
    }

    /// The last samples, oldest first.
    pub fn recent_samples(&self) -> Vec<RecentSample> {
        self.recent.iter().map(Past::shown).collect()
    }

    /// The samples that count for the ticket.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

impl Past {
    fn of(sample: &Judged) -> Self {
        Self {
            at_microsecond: sample.started_at.as_microsecond(),
            reading: sample.reading.clone(),
            latency_milliseconds: sample.latency_milliseconds,
            verdict: sample.verdict,
        }
    }

    fn shown(&self) -> RecentSample {
        RecentSample {
            // It was a time before it was a number.
            at: MicroTime(Timestamp::from_microsecond(self.at_microsecond).unwrap_or_default()),
            verdict: self.verdict,
            value: self.reading.to_string(),
            latency_milliseconds: self.latency_milliseconds,
        }
    }
}
