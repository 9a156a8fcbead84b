//! One invariant under watch: its parsed check, its record, and the status that was written last.

use super::census::Standing;
use super::decide::{self, Input, Rejection, Urgency, generation};
use super::record::{Judged, Record};
use super::starting::{Before, Start};
use crate::crd::{Connection, Invariant, InvariantStatus, Ticket, VerdictName, reason};
use crate::probe::{Condition, Query};
use crate::question;
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// One invariant under watch.
pub(super) struct Watched {
    /// Without its status, which is kept in `written` or made of `record`.
    pub(super) invariant: Arc<Invariant>,
    pub(super) record: Record,
    /// A check is in flight.
    pub(super) asking: bool,
    /// A write is in flight, or waits for its turn.
    pub(super) acting: bool,
    /// Its status as it was written last.
    pub(super) written: Written,
    /// What is known of the start of its target.
    pub(super) start: Start,
    /// When its last tickets were resolved without a repair, oldest first.
    pub(super) healed: Vec<Timestamp>,
    /// How it was counted last.
    pub(super) counted: Standing,
    check: Result<Check, Rejection>,
    /// The digest of what it asks.
    question: String,
    /// The generation of the spec from which on it asks that.
    question_since: i64,
    was_held_back: bool,
    /// What was to be done before a ticket of it is opened. Until then a breach says nothing of its target.
    before: Before,
}

/// A status as it was written last.
pub(super) struct Written {
    /// When, or when it was first seen or looked at in vain; in monotonic time since the monitor's origin.
    pub(super) at: Duration,
    /// It waits to be put right in its turn.
    pub(super) outdated: bool,
    /// Without samples.
    status: InvariantStatus,
    /// Samples were taken since.
    lacks_samples: bool,
}

impl Written {
    pub(super) fn new(status: InvariantStatus, at: Duration) -> Self {
        let status = InvariantStatus { recent_samples: Vec::new(), ..status };
        Self { at, outdated: false, status, lacks_samples: false }
    }
}

/// What is asked, and what must be true of the answer.
struct Check {
    query: Arc<Query>,
    condition: Arc<Condition>,
}

/// One question.
pub(super) struct Question {
    pub(super) query: Arc<Query>,
    pub(super) condition: Arc<Condition>,
    pub(super) connection: Connection,
    pub(super) timeout: Duration,
}

impl Watched {
    /// `now` in monotonic time since the monitor's origin.
    pub(super) fn new(mut invariant: Invariant, now: Duration) -> Self {
        Self {
            healed: healed(&invariant),
            check: parse(&invariant),
            question: question::digest(&invariant.spec),
            question_since: generation(&invariant),
            written: Written::new(invariant.status.take().unwrap_or_default(), now),
            record: Record::default(),
            asking: false,
            acting: false,
            start: Start::default(),
            counted: Standing::Unasked,
            was_held_back: false,
            before: Before::Nothing,
            invariant: Arc::new(invariant),
        }
    }

    /// The same invariant after a change. Another question begins a new record, and so does a pause.
    pub(super) fn updated(self, mut invariant: Invariant, now: Duration) -> Self {
        let counted = self.counted;
        if self.invariant.uid() != invariant.uid() {
            return Self { counted, ..Self::new(invariant, now) };
        }
        if generation(&*self.invariant) != generation(&invariant) {
            let mut fresh = Self::new(invariant, now);
            if self.asks_the_same_as(&fresh) {
                fresh.record = self.record;
                fresh.question_since = self.question_since;
                fresh.was_held_back = self.was_held_back;
                fresh.start = self.start;
                fresh.before = self.before;
            }
            fresh.healed = self.healed;
            return Self { asking: self.asking, acting: self.acting, written: self.written, counted, ..fresh };
        }
        invariant.status = None;
        Self { invariant: Arc::new(invariant), ..self }
    }

    /// Whether its samples say the same of the other.
    fn asks_the_same_as(&self, other: &Self) -> bool {
        let (one, two) = (&self.invariant.spec, &other.invariant.spec);
        self.question == other.question
            && one.connection == two.connection
            && one.no_data == two.no_data
            && !one.suspend
            && !two.suspend
    }

    /// What counts of it.
    pub(super) fn standing(&self) -> Standing {
        match (self.is_asked(), self.is_broken()) {
            (false, _) => Standing::Unasked,
            (true, true) if self.before != Before::Nothing => Standing::Unasked,
            (true, false) => Standing::Sound,
            (true, true) => Standing::Broken,
        }
    }

    /// Whether it is to be checked at all.
    pub(super) fn is_asked(&self) -> bool {
        self.check.is_ok() && !self.invariant.spec.suspend && self.invariant.metadata.deletion_timestamp.is_none()
    }

    pub(super) fn uid(&self) -> &str {
        self.invariant.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn generation(&self) -> i64 {
        generation(&*self.invariant)
    }

    pub(super) fn interval(&self) -> Duration {
        self.invariant.spec.interval.into()
    }

    /// The question to ask now, unless the last one is not answered yet.
    pub(super) fn begin_asking(&mut self) -> Option<Question> {
        let check = self.check.as_ref().ok()?;
        if self.asking {
            return None;
        }
        self.asking = true;
        let spec = &self.invariant.spec;
        Some(Question {
            query: Arc::clone(&check.query),
            condition: Arc::clone(&check.condition),
            connection: spec.connection,
            timeout: spec.timeout.into(),
        })
    }

    /// Adds a judged sample to the record.
    pub(super) fn add(&mut self, judged: Judged) {
        self.written.lacks_samples = true;
        self.record.add(judged, self.invariant.spec.no_data);
    }

    /// Brings the counts in line with the ticket and the dependencies before a decision.
    pub(super) fn prepare(&mut self, held_back: bool, ticket: Option<&Ticket>) {
        self.record.count_for(decide::counting(ticket), self.asking);
        if self.was_held_back && !held_back {
            self.record.restart_breaches();
        }
        self.was_held_back = held_back;
    }

    /// What to do before a ticket of it is opened. What held once is not starting.
    pub(super) fn before_opening(&mut self, now: (Timestamp, Duration)) -> Before {
        let held =
            self.written.status.held_digest.as_ref() == Some(&self.question) || self.record.last_held_at.is_some();
        self.before = if held { Before::Nothing } else { self.start.before(&self.invariant, now) };
        self.before.clone()
    }

    /// A ticket would be opened if nothing held it back.
    pub(super) fn has_crossed(&self) -> bool {
        self.check.is_ok() && self.record.breaches >= self.invariant.spec.failure_threshold
    }

    pub(super) fn input<'a>(
        &'a self,
        broken_dependencies: &'a [String],
        cycle: Option<&'a str>,
        umbrella: Option<&'a str>,
        starting: Option<&'a str>,
        ticket: Option<&'a Ticket>,
        guards_hold: bool,
    ) -> Input<'a> {
        Input {
            invariant: &self.invariant,
            rejection: self.check.as_ref().err(),
            question: &self.question,
            question_since: self.question_since,
            cycle,
            record: &self.record,
            before: &self.written.status,
            broken_dependencies,
            umbrella,
            starting,
            healed: &self.healed,
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

    /// How soon this status must be written; `None` while there is nothing to say.
    pub(super) fn urgency(&self, status: &InvariantStatus) -> Option<Urgency> {
        // Before the first sample there is nothing to say, unless the spec itself was refused.
        let has_news = self.record.last.is_some() || self.check.is_err() || self.invariant.spec.suspend;
        let differs = self.written.lacks_samples || *status != self.written.status;
        (has_news && differs).then(|| decide::urgency(&self.written.status, status))
    }
}

fn healed(invariant: &Invariant) -> Vec<Timestamp> {
    let status = invariant.status.iter();
    status.flat_map(|status| &status.resolved_without_repair).map(|at| at.0).collect()
}

fn parse(invariant: &Invariant) -> Result<Check, Rejection> {
    let spec = &invariant.spec;
    let query = Query::parse(&spec.query)
        .map_err(|error| Rejection { reason: reason::INVALID_QUERY, message: format!("spec.query: {error}") })?;
    let condition = Condition::parse(&spec.condition).map_err(|error| Rejection {
        reason: reason::INVALID_CONDITION,
        message: format!("spec.condition: {error}"),
    })?;
    Ok(Check { query: Arc::new(query), condition: Arc::new(condition) })
}
