//! The phase, its reason and the conditions of a ticket are all written here, from one transition.

use super::Transition;
use crate::crd::{Outcome, Phase, TicketStatus, set_condition, type_};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

/// Records a transition in the status: phase, reason, message, outcome, end time and conditions.
pub fn project(status: &mut TicketStatus, generation: i64, transition: Transition, message: &str, now: Timestamp) {
    status.observed_generation = generation;
    status.phase = transition.phase;
    if let Some(reason) = transition.reason {
        status.reason = Some(reason.to_owned());
        status.message = (!message.is_empty()).then(|| message.chars().take(2048).collect());
    }
    match transition.phase {
        Phase::Resolved | Phase::Cancelled => {
            status.outcome = transition.outcome.or(status.outcome);
            status.ended_at.get_or_insert(MicroTime(now));
        }
        Phase::Escalated => status.outcome = transition.outcome.or(status.outcome),
        Phase::Open
        | Phase::Diagnosing
        | Phase::AwaitingApproval
        | Phase::Repairing
        | Phase::Verifying
        | Phase::RollingBack => status.outcome = None,
    }
    for condition in conditions(status, generation, now) {
        set_condition(&mut status.conditions, condition);
    }
}

fn conditions(status: &TicketStatus, generation: i64, now: Timestamp) -> [Condition; 3] {
    let condition = |type_: &str, holds: bool, reason: String, message: String| Condition {
        type_: type_.to_owned(),
        status: if holds { "True" } else { "False" }.to_owned(),
        reason,
        message,
        last_transition_time: Time(now),
        observed_generation: Some(generation),
    };
    // The ticket's own reason and message belong to the condition that is about its phase; the others speak of what they
    // are about.
    let reason = || status.reason.clone().unwrap_or_else(|| format!("{:?}", status.phase));
    let message = || status.message.clone().unwrap_or_default();
    let phase = format!("{:?}", status.phase);
    let resolved = match status.phase {
        Phase::Resolved => condition(type_::RESOLVED, true, reason(), message()),
        Phase::Cancelled => condition(type_::RESOLVED, false, reason(), message()),
        Phase::Open
        | Phase::Diagnosing
        | Phase::AwaitingApproval
        | Phase::Repairing
        | Phase::Verifying
        | Phase::RollingBack
        | Phase::Escalated => {
            let message = "the invariant does not hold again yet, as far as the monitor saw".to_owned();
            condition(type_::RESOLVED, false, phase.clone(), message)
        }
    };
    let escalated = if status.phase == Phase::Escalated {
        condition(type_::ESCALATED, true, reason(), message())
    } else {
        let message = if status.phase == Phase::AwaitingApproval {
            "a person is needed only to say yes or no to the proposal"
        } else {
            "no person is needed"
        };
        condition(type_::ESCALATED, false, phase, message.to_owned())
    };
    let unverified = has_unverified_change(status);
    let (reason, message) = last_attempt(status);
    [resolved, escalated, condition(type_::UNVERIFIED_CHANGE, unverified, reason.to_owned(), message)]
}

/// What there is to say of the last attempt.
fn last_attempt(status: &TicketStatus) -> (&'static str, String) {
    use crate::crd::AttemptResult::{LeftInPlace, NotWritten, Overwritten, Undone, Unsettled, Verified};
    let Some(attempt) = status.attempts.last() else { return ("NoAttempt", "nothing was changed".to_owned()) };
    let mut objects: Vec<String> =
        attempt.actions.iter().map(|it| format!("{} {}", it.object.kind, it.object.name)).collect();
    objects.dedup();
    let (number, objects) = (attempt.number, objects.join(", "));
    match attempt.result {
        Unsettled => ("AttemptUnsettled", format!("attempt {number} on {objects} is neither verified nor undone yet")),
        LeftInPlace => {
            ("AttemptLeftInPlace", format!("attempt {number} on {objects} did not verify and was not undone"))
        }
        Overwritten => ("AttemptOverwritten", format!("others wrote over attempt {number} on {objects}")),
        Verified => ("AttemptVerified", format!("attempt {number} on {objects} was verified")),
        Undone => ("AttemptUndone", format!("attempt {number} on {objects} was undone")),
        NotWritten => ("AttemptNotWritten", format!("attempt {number} on {objects} was not written")),
    }
}

/// A change of the last attempt is in the target, and neither verified nor undone.
fn has_unverified_change(status: &TicketStatus) -> bool {
    use crate::crd::AttemptResult::{LeftInPlace, NotWritten, Overwritten, Undone, Unsettled, Verified};
    status.attempts.last().is_some_and(|attempt| match attempt.result {
        Unsettled | LeftInPlace => status.phase != Phase::Resolved,
        Verified | Undone | NotWritten | Overwritten => false,
    })
}

/// The PascalCase word for an outcome, as `status.reason` and the conditions show it.
pub(super) fn outcome_reason(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Repaired => "Repaired",
        Outcome::SelfHealed => "SelfHealed",
        Outcome::FixedByPerson => "FixedByPerson",
        Outcome::InvariantChanged => "InvariantChanged",
        Outcome::Proposed => "Proposed",
        Outcome::NoActionRequired => "NoActionRequired",
        Outcome::NoPlan => "NoPlan",
        Outcome::Outage => "Outage",
        Outcome::HandedOver => "HandedOver",
        Outcome::NeverHeld => "NeverHeld",
        Outcome::Rejected => "Rejected",
        Outcome::ApprovalExpired => "ApprovalExpired",
        Outcome::Contested => "Contested",
        Outcome::Conflicts => "Conflicts",
        Outcome::TargetUnavailable => "TargetUnavailable",
        Outcome::WriteRefused => "WriteRefused",
        Outcome::AttemptsExhausted => "AttemptsExhausted",
        Outcome::BudgetExhausted => "BudgetExhausted",
        Outcome::UndoConflict => "UndoConflict",
        Outcome::InvariantDeleted => "InvariantDeleted",
        Outcome::TicketDeleted => "TicketDeleted",
    }
}
