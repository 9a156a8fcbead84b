//! What a person who takes a ticket over needs to know: what was seen, tried and undone, and what to try next. Pure.

use super::prompt::describe_attempt;
use crate::crd::{Outcome, Step, TicketStatus};
use crate::lifecycle::explanation::{self, Known};
use crate::redact;

/// The steps that are told.
const STEPS: usize = 12;

/// The handover of a ticket that is being escalated.
pub fn text(outcome: Outcome, known: &Known) -> String {
    let (ticket, status) = (known.ticket, known.status);
    let spec = &ticket.spec;
    let mut lines = vec![
        format!("Broken: {} {} ({})", spec.query, spec.condition, spec.opening.observed),
        format!("Why a person is needed: {}", known.happened),
    ];
    if let Some(diagnosis) = &status.diagnosis {
        lines.push(format!("Believed cause ({:?} confidence): {}", diagnosis.confidence, diagnosis.root_cause));
        if diagnosis.summary != known.happened {
            lines.push(format!("Found: {}", diagnosis.summary));
        }
    }
    let seen = &status.steps[status.steps.len().saturating_sub(STEPS)..];
    if !seen.is_empty() {
        lines.push("Seen:".to_owned());
        lines.extend(
            seen.iter().map(|it: &Step| format!("  {}. {}: {}", it.number, it.summary, redact::line(&it.outcome, 120))),
        );
    }
    if !status.attempts.is_empty() {
        lines.push("Tried:".to_owned());
        lines.extend(status.attempts.iter().map(|attempt| format!("  {}", describe_attempt(attempt))));
    }
    let next = match (&known.next, &status.proposal) {
        (Some(next), _) => (*next).to_owned(),
        (None, Some(proposal)) if !was_tried(status, &proposal.hash) => {
            format!("the proposed change: {}", proposal.why)
        }
        (None, _) => format!(
            "{}; the ticket resolves by itself once {} holds",
            explanation::next_step(outcome, known),
            spec.invariant_ref.name
        ),
    };
    lines.push(format!("Next: {next}"));
    redact::block(&lines.join("\n"), 4096)
}

fn was_tried(status: &TicketStatus, hash: &str) -> bool {
    status.attempts.iter().any(|attempt| attempt.hash == hash)
}
