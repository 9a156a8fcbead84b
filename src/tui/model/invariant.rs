//! One line of the monitor's pane.

use crate::crd::{Invariant, InvariantStatus, RecentSample, VerdictName, type_};
use crate::tui::text::plain;
use jiff::Timestamp;

/// Whether an invariant holds, by its thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Holds,
    /// It does not.
    Violated,
    /// Nobody can say yet.
    Unknown,
    /// It is not checked.
    Suspended,
}

/// One sample, as a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleBar {
    /// How long the answer took, in milliseconds.
    pub latency_milliseconds: u32,
    /// What it meant.
    pub verdict: VerdictName,
}

/// An invariant, made safe and short.
#[derive(Debug, Clone, PartialEq)]
pub struct InvariantRow {
    /// Whether it holds.
    pub state: State,
    /// Why the state is what it is, where that is worth saying: the condition's message.
    pub message: String,
    /// What is asked.
    pub query: String,
    /// What must be true of the answer.
    pub condition: String,
    /// The last value, or the reason why there is none.
    pub value: String,
    /// The last samples, oldest first.
    pub samples: Vec<SampleBar>,
    /// The open ticket, if any.
    pub ticket: Option<String>,
    /// Since when every sample held.
    pub held_since: Option<Timestamp>,
}

impl InvariantRow {
    /// What is shown of an invariant.
    pub fn of(invariant: &Invariant) -> Self {
        let nothing = InvariantStatus::default();
        let status = invariant.status.as_ref().unwrap_or(&nothing);
        let refused = condition(status, type_::ACCEPTED).filter(|(status, _)| *status == "False");
        let held_back = condition(status, type_::HELD_BACK).filter(|(status, _)| *status == "True");
        let flapping = condition(status, type_::FLAPPING).filter(|(status, _)| *status == "True");
        Self {
            state: state(invariant, status),
            message: refused.or(held_back).or(flapping).map(|(_, message)| plain(message, 200)).unwrap_or_default(),
            query: plain(&invariant.spec.query, 200),
            condition: plain(&invariant.spec.condition, 80),
            value: plain(status.value.as_deref().unwrap_or("not asked yet"), 80),
            samples: status.recent_samples.iter().rev().take(30).rev().map(SampleBar::of).collect(),
            ticket: status.ticket.as_deref().map(|name| plain(name, 80)),
            held_since: status.held_since.as_ref().map(|time| time.0),
        }
    }

    /// The last answer's time, in milliseconds.
    pub fn latency_milliseconds(&self) -> Option<u32> {
        self.samples.last().map(|sample| sample.latency_milliseconds)
    }
}

impl SampleBar {
    fn of(sample: &RecentSample) -> Self {
        Self { latency_milliseconds: sample.latency_milliseconds, verdict: sample.verdict }
    }
}

fn state(invariant: &Invariant, status: &InvariantStatus) -> State {
    if invariant.spec.suspend {
        return State::Suspended;
    }
    match condition(status, type_::HOLDING) {
        Some(("True", _)) => State::Holds,
        Some(("False", _)) => State::Violated,
        _ => State::Unknown,
    }
}

fn condition<'a>(status: &'a InvariantStatus, type_: &str) -> Option<(&'a str, &'a str)> {
    let found = status.conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, &found.message))
}

impl State {
    /// The state in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
            Self::Suspended => "suspended",
        }
    }
}
