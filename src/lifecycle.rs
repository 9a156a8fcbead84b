//! The life of a ticket as one pure table: for every phase and every event, what follows.
//!
//! Two writers obey it. The monitor writes `Resolved` and nothing else; the agent writes every other phase; both with
//! the resourceVersion that they read. `Resolved` and `Cancelled` are final. `Escalated` is open: it keeps the
//! invariant's one slot, spends nothing and resolves when the invariant holds.
//!
//! The matches have no wildcard: a new phase or event does not compile until each pair is decided.

mod event;
pub mod explanation;
mod projection;
#[cfg(test)]
mod tests;
pub mod verification;

pub use event::{Effect, Event, Holdup, Leave, Transition};
pub use projection::project;

use crate::crd::{Outcome, Phase};

/// After how many refusals, or failed preconditions, something else is tried.
pub const PATIENCE: u32 = 3;

/// What follows from `event` in `phase`. Total and pure; an event without meaning in a phase changes nothing.
pub fn next(phase: Phase, event: Event) -> Transition {
    match phase {
        Phase::Open => in_open(event),
        Phase::Diagnosing => in_diagnosing(event),
        Phase::AwaitingApproval => in_awaiting_approval(event),
        Phase::Repairing => in_repairing(event),
        Phase::Verifying => in_verifying(event),
        Phase::RollingBack => in_rolling_back(event),
        Phase::Escalated => in_escalated(event),
        Phase::Resolved | Phase::Cancelled => Transition::stay(phase),
    }
}

/// Whether an attempt may be half done in this phase, so that a deleted ticket must be kept until it is settled.
pub fn unsettled(phase: Phase) -> bool {
    match phase {
        Phase::Repairing | Phase::Verifying | Phase::RollingBack => true,
        Phase::Open
        | Phase::Diagnosing
        | Phase::AwaitingApproval
        | Phase::Escalated
        | Phase::Resolved
        | Phase::Cancelled => false,
    }
}

/// Whether a ticket in this phase holds its objects against other tickets.
pub fn holds_claim(phase: Phase) -> bool {
    match phase {
        Phase::Diagnosing | Phase::AwaitingApproval | Phase::Repairing | Phase::Verifying | Phase::RollingBack => true,
        Phase::Open | Phase::Escalated | Phase::Resolved | Phase::Cancelled => false,
    }
}

/// Whether the phase is final.
pub fn ended(phase: Phase) -> bool {
    match phase {
        Phase::Resolved | Phase::Cancelled => true,
        Phase::Open
        | Phase::Diagnosing
        | Phase::AwaitingApproval
        | Phase::Repairing
        | Phase::Verifying
        | Phase::RollingBack
        | Phase::Escalated => false,
    }
}

fn escalated(outcome: Outcome) -> Transition {
    let reason = projection::outcome_reason(outcome);
    Transition::to(Phase::Escalated, reason, Effect::ReleaseClaim).because(outcome)
}

fn cancelled(outcome: Outcome) -> Transition {
    let reason = projection::outcome_reason(outcome);
    Transition::to(Phase::Cancelled, reason, Effect::ReleaseClaim).because(outcome)
}

fn resolved(outcome: Outcome) -> Transition {
    let reason = projection::outcome_reason(outcome);
    Transition::to(Phase::Resolved, reason, Effect::None).because(outcome)
}

fn resolved_without_a_change_of_ours(others_wrote: bool) -> Transition {
    resolved(if others_wrote { Outcome::FixedByPerson } else { Outcome::SelfHealed })
}

fn in_open(event: Event) -> Transition {
    match event {
        Event::Holds { others_wrote, invariant_edited: _ } => resolved_without_a_change_of_ours(others_wrote),
        Event::HeldUp(Holdup::WaitingForTarget) => Transition::to(Phase::Open, "WaitingForTarget", Effect::None),
        Event::HeldUp(Holdup::CoolingDown) => Transition::to(Phase::Open, "CoolingDown", Effect::None),
        Event::HeldUp(Holdup::DependencyBroken) => Transition::to(Phase::Open, "DependencyBroken", Effect::None),
        Event::HeldUp(Holdup::Outage) => Transition::to(Phase::Open, "Outage", Effect::None),
        Event::HeldUp(Holdup::AwaitingVerdict) => Transition::to(Phase::Open, "AwaitingVerdict", Effect::None),
        Event::Suspended => Transition::to(Phase::Open, "Suspended", Effect::None),
        Event::NeverHeld => escalated(Outcome::NeverHeld),
        Event::StandsForOutage => escalated(Outcome::Outage),
        Event::ClaimWon => Transition::to(Phase::Diagnosing, "ClaimWon", Effect::StartPlanner),
        // The exact texts cannot be kept, or the ticket's status is refused.
        Event::WriteRefused { .. } => escalated(Outcome::WriteRefused),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => cancelled(Outcome::TicketDeleted),
        Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::Superseded { .. }
        | Event::BreakerClosed
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteDelayed
        | Event::MarkFound
        | Event::UntouchedFound
        | Event::ForeignFound { .. }
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::Open),
    }
}

fn in_diagnosing(event: Event) -> Transition {
    match event {
        Event::Holds { others_wrote, invariant_edited: _ } => resolved_without_a_change_of_ours(others_wrote),
        Event::PolicyRefused { refusals } if refusals < PATIENCE => Transition::stay(Phase::Diagnosing),
        Event::PolicyRefused { .. } => Transition::to(Phase::Diagnosing, "PolicyRefused", Effect::StartPlanner),
        Event::PlannerDone { another: true, outcome: _ } => {
            Transition::to(Phase::Diagnosing, "NextPlanner", Effect::StartPlanner)
        }
        Event::PlannerDone { another: false, outcome } => escalated(outcome),
        Event::NoActionNeeded => escalated(Outcome::NoActionRequired),
        Event::ChangeProposed(Leave::ProposeOnly) => escalated(Outcome::Proposed),
        Event::ChangeProposed(Leave::NeedsApproval) => {
            Transition::to(Phase::AwaitingApproval, "ApprovalNeeded", Effect::None)
        }
        Event::ChangeProposed(Leave::HeldByBreaker) => {
            Transition::to(Phase::AwaitingApproval, "BreakerOpen", Effect::None)
        }
        Event::ChangeProposed(Leave::Granted) => Transition::to(Phase::Repairing, "ChangeAllowed", Effect::None),
        // The exact texts cannot be kept, or the ticket's status is refused.
        Event::WriteRefused { .. } => escalated(Outcome::WriteRefused),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => cancelled(Outcome::TicketDeleted),
        Event::Suspended => Transition::to(Phase::Diagnosing, "Suspended", Effect::None),
        // Whatever was proposed before is void: the planner starts again from what it sees now.
        Event::NothingNew => Transition { effect: Effect::StartPlanner, ..Transition::stay(Phase::Diagnosing) },
        Event::HeldUp(_)
        | Event::Described
        | Event::ReadRequested
        | Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::Superseded { .. }
        | Event::BreakerClosed
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteDelayed
        | Event::MarkFound
        | Event::UntouchedFound
        | Event::ForeignFound { .. }
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::RetryRequested => Transition::stay(Phase::Diagnosing),
    }
}

fn in_awaiting_approval(event: Event) -> Transition {
    match event {
        Event::Holds { others_wrote, invariant_edited: _ } => resolved_without_a_change_of_ours(others_wrote),
        Event::Approved => Transition::to(Phase::Repairing, "Approved", Effect::None),
        Event::Rejected => escalated(Outcome::Rejected),
        Event::ApprovalExpired => escalated(Outcome::ApprovalExpired),
        Event::Superseded { .. } => Transition::to(Phase::Diagnosing, "Superseded", Effect::StartPlanner),
        Event::BreakerClosed => Transition::to(Phase::Diagnosing, "BreakerClosed", Effect::StartPlanner),
        // The exact texts cannot be kept, or the ticket's status is refused.
        Event::WriteRefused { .. } => escalated(Outcome::WriteRefused),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => cancelled(Outcome::TicketDeleted),
        Event::Suspended => Transition::to(Phase::AwaitingApproval, "Suspended", Effect::None),
        Event::HeldUp(_) => Transition::to(Phase::AwaitingApproval, "DependencyBroken", Effect::None),
        Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteDelayed
        | Event::MarkFound
        | Event::UntouchedFound
        | Event::ForeignFound { .. }
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::AwaitingApproval),
    }
}

fn in_repairing(event: Event) -> Transition {
    match event {
        Event::Applied | Event::MarkFound => Transition::to(Phase::Verifying, "Applied", Effect::None),
        Event::ForeignFound { wrote_before: true } => Transition::to(Phase::RollingBack, "ForeignFound", Effect::None),
        Event::ForeignFound { wrote_before: false } => escalated(Outcome::Contested),
        Event::PreconditionFailed { conflicts } if conflicts < PATIENCE => {
            Transition::to(Phase::Diagnosing, "PreconditionFailed", Effect::StartPlanner)
        }
        Event::PreconditionFailed { .. } => escalated(Outcome::Conflicts),
        Event::Superseded { wrote_before: false } => {
            Transition::to(Phase::Diagnosing, "Superseded", Effect::StartPlanner)
        }
        Event::Superseded { wrote_before: true } => Transition::to(Phase::RollingBack, "Superseded", Effect::None),
        Event::TargetUnavailable { wrote_before: true } => {
            Transition::to(Phase::RollingBack, "TargetUnavailable", Effect::None)
        }
        Event::TargetUnavailable { wrote_before: false } => escalated(Outcome::TargetUnavailable),
        Event::WriteRefused { wrote_before: true } => Transition::to(Phase::RollingBack, "WriteRefused", Effect::None),
        Event::WriteRefused { wrote_before: false } => escalated(Outcome::WriteRefused),
        Event::WriteDelayed => Transition::to(Phase::Repairing, "WriteDelayed", Effect::None),
        Event::Suspended => Transition::to(Phase::Repairing, "Suspended", Effect::None),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => Transition::to(Phase::RollingBack, "TicketDeleted", Effect::None),
        // Only the monitor can say that it holds, and it must not while a write is under way.
        Event::Holds { .. }
        | Event::HeldUp(_)
        | Event::UntouchedFound
        | Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::BreakerClosed
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::Repairing),
    }
}

fn in_verifying(event: Event) -> Transition {
    match event {
        Event::Holds { others_wrote: _, invariant_edited: true } => resolved(Outcome::InvariantChanged),
        Event::Holds { others_wrote: _, invariant_edited: false } => resolved(Outcome::Repaired),
        Event::NotInForce => Transition::to(Phase::Verifying, "NotInForce", Effect::None),
        Event::InForce | Event::SightRegained => Transition::to(Phase::Verifying, "InForce", Effect::None),
        Event::VerifyTimedOut { others_wrote: false } => {
            Transition::to(Phase::RollingBack, "VerifyTimedOut", Effect::None)
        }
        Event::GuardRegressed { others_wrote: false } => {
            Transition::to(Phase::RollingBack, "GuardRegressed", Effect::None)
        }
        Event::VerifyTimedOut { others_wrote: true } | Event::GuardRegressed { others_wrote: true } => {
            escalated(Outcome::Contested)
        }
        Event::BroughtBack => Transition::to(Phase::Diagnosing, "BroughtBack", Effect::StartPlanner),
        Event::Blind => Transition::to(Phase::Verifying, "Blind", Effect::None),
        Event::Suspended => Transition::to(Phase::Verifying, "Suspended", Effect::None),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => Transition::to(Phase::RollingBack, "TicketDeleted", Effect::None),
        Event::HeldUp(_)
        | Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::Superseded { .. }
        | Event::BreakerClosed
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteRefused { .. }
        | Event::WriteDelayed
        | Event::MarkFound
        | Event::UntouchedFound
        | Event::ForeignFound { .. }
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::Verifying),
    }
}

fn in_rolling_back(event: Event) -> Transition {
    match event {
        Event::Restored { attempts_left: true } => {
            Transition::to(Phase::Diagnosing, "AttemptUndone", Effect::StartPlanner)
        }
        Event::Restored { attempts_left: false } => escalated(Outcome::AttemptsExhausted),
        Event::RestoredAfterRefusal => escalated(Outcome::WriteRefused),
        Event::UndoConflict | Event::ForeignFound { .. } => escalated(Outcome::UndoConflict),
        Event::WriteDelayed => Transition::to(Phase::RollingBack, "WriteDelayed", Effect::None),
        Event::Suspended => Transition::to(Phase::RollingBack, "Suspended", Effect::None),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => cancelled(Outcome::TicketDeleted),
        // Only the monitor can say that it holds, and it must not while a write is under way.
        Event::Holds { .. }
        | Event::HeldUp(_)
        | Event::MarkFound
        | Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::Superseded { .. }
        | Event::BreakerClosed
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteRefused { .. }
        | Event::UntouchedFound
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::RollingBack),
    }
}

fn in_escalated(event: Event) -> Transition {
    match event {
        Event::Holds { others_wrote, invariant_edited: _ } => resolved_without_a_change_of_ours(others_wrote),
        Event::RetryRequested => Transition::to(Phase::Open, "RetryRequested", Effect::None),
        Event::InvariantDeleted => cancelled(Outcome::InvariantDeleted),
        Event::TicketDeleted => cancelled(Outcome::TicketDeleted),
        Event::HeldUp(_)
        | Event::NeverHeld
        | Event::StandsForOutage
        | Event::ClaimWon
        | Event::ReadRequested
        | Event::PolicyRefused { .. }
        | Event::PlannerDone { .. }
        | Event::NoActionNeeded
        | Event::ChangeProposed(_)
        | Event::Approved
        | Event::Rejected
        | Event::ApprovalExpired
        | Event::Superseded { .. }
        | Event::BreakerClosed
        | Event::Applied
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { .. }
        | Event::WriteRefused { .. }
        | Event::WriteDelayed
        | Event::MarkFound
        | Event::UntouchedFound
        | Event::ForeignFound { .. }
        | Event::NotInForce
        | Event::InForce
        | Event::VerifyTimedOut { .. }
        | Event::GuardRegressed { .. }
        | Event::BroughtBack
        | Event::Blind
        | Event::SightRegained
        | Event::Restored { .. }
        | Event::RestoredAfterRefusal
        | Event::UndoConflict
        | Event::Suspended
        | Event::Described
        | Event::NothingNew => Transition::stay(Phase::Escalated),
    }
}
