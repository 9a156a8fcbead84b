//! One ticket, as the agent's pane tells its story.

use crate::crd::{Outcome, Phase, PlannerName, Step, Ticket, TicketStatus};
use crate::tui::text::{between, plain};
use crate::watch::ObjectKey;
use jiff::Timestamp;

/// Phase changes kept of one ticket.
const KEPT_PHASES: usize = 64;
/// Steps kept of one ticket.
const KEPT_STEPS: usize = 100;

/// A ticket, made safe and short.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Which ticket.
    pub key: ObjectKey,
    /// The invariant that broke.
    pub invariant: String,
    /// What broke, in one line.
    pub title: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was resolved or cancelled.
    pub ended_at: Option<Timestamp>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it is there: one word.
    pub reason: String,
    /// The same in a sentence.
    pub message: String,
    /// How it ended, or why it was escalated.
    pub outcome: Option<Outcome>,
    /// Who proposes changes.
    pub planner: Option<PlannerName>,
    /// The believed cause in one line.
    pub root_cause: Option<String>,
    /// What was done, oldest first.
    pub steps: Vec<StepLine>,
    /// The phases that were seen, oldest first.
    pub phases: Vec<PhaseChange>,
}

/// One step of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepLine {
    /// From 1.
    pub number: u32,
    /// What was done, for people.
    pub summary: String,
    /// The same as a call: `http_get(url=http://localhost:8001/health)`.
    pub call: String,
    /// What came of it.
    pub outcome: String,
}

/// A phase that a ticket was seen in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// The phase.
    pub phase: Phase,
    /// Why: one word.
    pub reason: String,
    /// It was seen after this many steps.
    pub after_steps: u32,
}

impl Incident {
    /// What is shown of a ticket, after what was shown of it before.
    pub fn of(key: ObjectKey, ticket: &Ticket, previous: Option<Self>) -> Self {
        let nothing = TicketStatus::default();
        let status = ticket.status.as_ref().unwrap_or(&nothing);
        let reason = plain(status.reason.as_deref().unwrap_or_default(), 64);
        let mut phases = previous.map(|incident| incident.phases).unwrap_or_default();
        note_phase(
            &mut phases,
            PhaseChange { phase: status.phase, reason: reason.clone(), after_steps: status.step_count },
        );
        Self {
            key,
            invariant: plain(&ticket.spec.invariant_ref.name, 80),
            title: plain(status.title.as_ref().unwrap_or(&ticket.spec.title), 200),
            opened_at: ticket.spec.opening.opened_at.0,
            ended_at: status.ended_at.as_ref().map(|time| time.0),
            phase: status.phase,
            reason,
            message: plain(status.message.as_deref().unwrap_or_default(), 300),
            outcome: status.outcome,
            planner: status.planner,
            root_cause: status.diagnosis.as_ref().map(|diagnosis| plain(&diagnosis.root_cause, 200)),
            steps: status.steps.iter().rev().take(KEPT_STEPS).rev().map(StepLine::of).collect(),
            phases,
        }
    }

    /// By this, incidents are shown oldest first.
    pub(super) fn order(&self) -> (Timestamp, &ObjectKey) {
        (self.opened_at, &self.key)
    }

    /// Its phase in words: `Resolved (Repaired) in 4.2 s`, `Escalated (NoPlan)`, `Verifying (InForce)`.
    pub fn verdict(&self) -> String {
        let because = self.outcome.map_or_else(|| self.reason.clone(), |outcome| format!("{outcome:?}"));
        let because = if because.is_empty() { because } else { format!(" ({because})") };
        match self.ended_at {
            Some(ended_at) => format!("{:?}{because} in {}", self.phase, between(self.opened_at, ended_at)),
            None => format!("{:?}{because}", self.phase),
        }
    }
}

fn note_phase(phases: &mut Vec<PhaseChange>, seen: PhaseChange) {
    match phases.last_mut() {
        Some(last) if last.phase == seen.phase && last.reason == seen.reason => {}
        // The same phase, which can say by now why.
        Some(last) if last.phase == seen.phase && last.reason.is_empty() => *last = seen,
        _ => {
            if phases.len() == KEPT_PHASES {
                phases.remove(0);
            }
            phases.push(seen);
        }
    }
}

impl StepLine {
    fn of(step: &Step) -> Self {
        let arguments: Vec<String> = step
            .input
            .iter()
            .take(8)
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{}={}", plain(name, 32), plain(&value, 100))
            })
            .collect();
        Self {
            number: step.number,
            summary: plain(&step.summary, 100),
            call: plain(&format!("{}({})", step.tool, arguments.join(", ")), 200),
            outcome: plain(&step.outcome, 200),
        }
    }
}
