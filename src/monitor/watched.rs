//! One invariant under watch: its parsed check, its record, and the status that was written last.

use super::decide::{self, Input, Rejection, generation};
use super::record::{Judged, Record};
use crate::crd::{Allow, Invariant, InvariantStatus, Ticket, VerdictName, reason};
use crate::probe::{self, Condition, Observation, Query, Sample, Verdict};
use crate::redact;
use crate::watch::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// The most of an answer's body that is kept as evidence, in characters.
const KEPT_BODY: usize = 1024;

/// One invariant under watch.
pub(super) struct Watched {
    pub(super) invariant: Arc<Invariant>,
    pub(super) record: Record,
    /// A check is in flight.
    pub(super) asking: bool,
    /// A write is in flight.
    pub(super) acting: bool,
    check: Result<(Query, Condition), Rejection>,
    written: InvariantStatus,
    written_at: Timestamp,
    was_held_back: bool,
}

impl Watched {
    pub(super) fn new(invariant: Invariant, now: Timestamp) -> Self {
        Self {
            check: parse(&invariant),
            written: invariant.status.clone().unwrap_or_default(),
            written_at: now,
            record: Record::new(now),
            asking: false,
            acting: false,
            was_held_back: false,
            invariant: Arc::new(invariant),
        }
    }

    /// The same invariant after a change. Another spec begins a new record.
    pub(super) fn updated(self, invariant: Invariant, now: Timestamp) -> Self {
        if self.invariant.uid() != invariant.uid() {
            return Self::new(invariant, now);
        }
        if generation(&*self.invariant) != generation(&invariant) {
            let fresh = Self::new(invariant, now);
            return Self { asking: self.asking, acting: self.acting, written: self.written, ..fresh };
        }
        Self { invariant: Arc::new(invariant), ..self }
    }

    /// Whether it is to be checked at all.
    pub(super) fn is_asked(&self) -> bool {
        self.check.is_ok() && !self.invariant.spec.suspend && self.invariant.metadata.deletion_timestamp.is_none()
    }

    pub(super) fn generation(&self) -> i64 {
        generation(&*self.invariant)
    }

    pub(super) fn interval(&self) -> Duration {
        self.invariant.spec.interval.into()
    }

    pub(super) fn timeout(&self) -> Duration {
        self.invariant.spec.timeout.into()
    }

    /// The ConfigMaps that a repair of this invariant may touch.
    pub(super) fn config_maps(&self) -> impl Iterator<Item = ObjectKey> + '_ {
        let namespace = self.invariant.namespace().unwrap_or_default();
        self.invariant.spec.remediation.allow.iter().filter_map(move |allow| match allow {
            Allow::EditConfig(target) => Some(ObjectKey::new(namespace.clone(), &target.name)),
            Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => None,
        })
    }

    /// The question to ask now, unless the last one is not answered yet.
    pub(super) fn begin_asking(&mut self) -> Option<Query> {
        let (query, _) = self.check.as_ref().ok()?;
        if self.asking {
            return None;
        }
        self.asking = true;
        Some(query.clone())
    }

    /// Judges a sample and adds it to the record; says what it meant.
    pub(super) fn add(&mut self, sample: &Sample) -> VerdictName {
        let Ok((_, condition)) = &self.check else { return VerdictName::Unknown };
        let judged = judged(sample, condition);
        let verdict = judged.verdict;
        self.record.add(judged, self.invariant.spec.no_data);
        verdict
    }

    /// Brings the counts in line with the ticket and the dependencies before a decision.
    pub(super) fn prepare(&mut self, held_back: bool, ticket: Option<&Ticket>, now: Timestamp) {
        self.record.count_for(decide::counting(ticket), now);
        if self.was_held_back && !held_back {
            self.record.restart_breaches();
        }
        self.was_held_back = held_back;
    }

    /// A ticket would be opened if nothing held it back.
    pub(super) fn has_crossed(&self) -> bool {
        self.check.is_ok() && self.record.breaches >= self.invariant.spec.failure_threshold
    }

    pub(super) fn input<'a>(
        &'a self,
        broken_dependencies: &'a [String],
        umbrella: Option<&'a str>,
        ticket: Option<&'a Ticket>,
        guards_hold: bool,
    ) -> Input<'a> {
        Input {
            invariant: &self.invariant,
            rejection: self.check.as_ref().err(),
            record: &self.record,
            before: &self.written,
            broken_dependencies,
            umbrella,
            ticket,
            guards_hold,
        }
    }

    /// Its last sample was a breach.
    pub(super) fn is_broken(&self) -> bool {
        self.record.breaches > 0
    }

    /// Its last sample held.
    pub(super) fn is_holding(&self) -> bool {
        self.record.holds > 0 && self.record.last.as_ref().is_some_and(|last| last.verdict == VerdictName::Holds)
    }

    /// Whether this status must be written now.
    pub(super) fn must_write(&self, status: &InvariantStatus, refresh: Option<Duration>, now: Timestamp) -> bool {
        // Before the first sample there is nothing to say, unless the spec itself was refused.
        let has_news = self.record.last.is_some() || self.check.is_err() || self.invariant.spec.suspend;
        if !has_news || *status == self.written {
            return false;
        }
        let refresh = refresh.and_then(|every| SignedDuration::try_from(every).ok());
        let due = refresh.is_some_and(|every| now.duration_since(self.written_at) >= every);
        due || decide::significant(&self.written, status)
    }

    pub(super) fn written(&mut self, status: InvariantStatus, now: Timestamp) {
        self.written = status;
        self.written_at = now;
    }
}

fn parse(invariant: &Invariant) -> Result<(Query, Condition), Rejection> {
    let spec = &invariant.spec;
    let query = Query::parse(&spec.query)
        .map_err(|error| Rejection { reason: reason::INVALID_QUERY, message: format!("spec.query: {error}") })?;
    let condition = Condition::parse(&spec.condition).map_err(|error| Rejection {
        reason: reason::INVALID_CONDITION,
        message: format!("spec.condition: {error}"),
    })?;
    Ok((query, condition))
}

fn judged(sample: &Sample, condition: &Condition) -> Judged {
    let judgement = probe::judge(sample, condition);
    let body = match &sample.observation {
        Observation::Measured(measurement) if !measurement.body.is_empty() => {
            Some(redact::block(&measurement.body, KEPT_BODY))
        }
        Observation::Measured(_) | Observation::Failed(_) | Observation::Unknown(_) => None,
    };
    Judged {
        started_at: sample.started_at,
        verdict: match judgement.verdict {
            Verdict::Holds => VerdictName::Holds,
            Verdict::Breached => VerdictName::Breached,
            Verdict::Unknown => VerdictName::Unknown,
        },
        value: redact::line(&judgement.value, 256),
        observed: redact::line(&judgement.explanation, 1024),
        body,
        latency_milliseconds: u32::try_from(sample.took.as_micros().div_ceil(1000)).unwrap_or(u32::MAX),
    }
}
