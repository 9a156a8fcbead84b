//! What an event changes in a ticket's status besides its phase. Pure.

use crate::agent::decide::diagnosed_for;
use crate::agent::executor::{TargetState, micro};
use crate::agent::planner::ModelCalls;
use crate::claude::NanoDollars;
use crate::crd::{Attempt, AttemptResult, Phase, TicketStatus};
use crate::lifecycle::{Effect, Event, Transition};
use jiff::Timestamp;

/// Attempts and declined hashes that a ticket keeps.
const KEPT: usize = 32;

/// What an event means for the last attempt.
pub(super) fn settle(status: &mut TicketStatus, event: Event, targets: &[TargetState], message: &str, now: Timestamp) {
    let (phase, failed) = (status.phase, status.failed_write.clone());
    let Some(attempt) = status.attempts.last_mut().filter(|it| it.result == AttemptResult::Unsettled) else { return };
    let anything_written = targets.contains(&TargetState::Written);
    let left = if anything_written { AttemptResult::LeftInPlace } else { AttemptResult::NotWritten };
    match event {
        Event::InForce => attempt.in_force_at = Some(micro(now)),
        Event::Restored { .. } | Event::RestoredAfterRefusal => end(attempt, AttemptResult::Undone, message, now),
        Event::WriteRefused { wrote_before: true } => attempt.refusal = failed,
        Event::TicketDeleted if phase == Phase::RollingBack => end(attempt, AttemptResult::Undone, message, now),
        Event::UndoConflict
        | Event::VerifyTimedOut { others_wrote: true }
        | Event::GuardRegressed { others_wrote: true } => end(attempt, AttemptResult::LeftInPlace, message, now),
        Event::BroughtBack => end(attempt, AttemptResult::Overwritten, message, now),
        Event::ForeignFound { wrote_before: false }
        | Event::Superseded { wrote_before: false }
        | Event::PreconditionFailed { .. }
        | Event::TargetUnavailable { wrote_before: false }
        | Event::WriteRefused { wrote_before: false }
        | Event::InvariantDeleted => end(attempt, left, message, now),
        // Where a successor found the mark, when it was written is not known, but it was before now.
        Event::Applied | Event::MarkFound => {
            attempt.written_at.get_or_insert(micro(now));
        }
        Event::Holds { .. }
        | Event::HeldUp(_)
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
        | Event::Superseded { wrote_before: true }
        | Event::BreakerClosed
        | Event::TargetUnavailable { wrote_before: true }
        | Event::ForeignFound { wrote_before: true }
        | Event::WriteDelayed
        | Event::UntouchedFound
        | Event::NotInForce
        | Event::Blind
        | Event::SightRegained
        | Event::VerifyTimedOut { others_wrote: false }
        | Event::GuardRegressed { others_wrote: false }
        | Event::Suspended
        | Event::TicketDeleted
        | Event::RetryRequested
        | Event::Described
        | Event::NothingNew => {}
    }
}

fn end(attempt: &mut Attempt, result: AttemptResult, message: &str, now: Timestamp) {
    attempt.result = result;
    attempt.settled_at = Some(micro(now));
    attempt.message = Some(message.chars().take(1024).collect());
}

/// The clock of the diagnosis runs in its phase only.
fn count_diagnosis(status: &mut TicketStatus, next: Phase, now: Timestamp) {
    match (status.phase, next) {
        (Phase::Diagnosing, Phase::Diagnosing) => {}
        (Phase::Diagnosing, _) => {
            let spent = diagnosed_for(status, now).as_millis();
            status.diagnosed_milliseconds = u32::try_from(spent).unwrap_or(u32::MAX);
        }
        (_, Phase::Diagnosing) => status.diagnosing_at = Some(micro(now)),
        (_, _) => {}
    }
}

/// What an event means for the counters of the round.
pub(super) fn count(
    status: &mut TicketStatus,
    event: Event,
    transition: Transition,
    retry: Option<String>,
    now: Timestamp,
) {
    count_diagnosis(status, transition.phase, now);
    // What was in the way of one phase's writes says nothing of the next one's; a suspension stops the clock.
    if transition.phase != status.phase || event == Event::Suspended {
        status.failed_write = None;
    }
    match event {
        Event::ClaimWon => {
            status.diagnosed_milliseconds = 0;
            status.planners_tried.clear();
            status.refusals = 0;
        }
        Event::PolicyRefused { refusals } => {
            status.refusals = if transition.effect == Effect::StartPlanner { 0 } else { refusals };
        }
        Event::PlannerDone { .. } => status.refusals = 0,
        Event::PreconditionFailed { conflicts } => {
            status.conflicts = conflicts;
            status.planners_tried.clear();
        }
        Event::Restored { .. } | Event::BroughtBack => status.planners_tried.clear(),
        Event::Superseded { wrote_before: false } | Event::BreakerClosed => {
            status.proposal = None;
            status.planners_tried.clear();
        }
        Event::Rejected | Event::ApprovalExpired => {
            status.declined_hashes.extend(status.proposal.as_ref().map(|it| it.hash.clone()));
        }
        Event::RetryRequested => {
            status.observed_retry = retry;
            status.forgiven_attempts = status.attempts.last().map_or(0, |attempt| attempt.number);
            status.planners_tried.clear();
            status.refusals = 0;
            status.conflicts = 0;
            status.diagnosing_at = None;
            status.proposal = None;
        }
        _ => {}
    }
    let too_many = status.attempts.len().saturating_sub(KEPT);
    status.attempts.drain(..too_many);
    let too_many = status.declined_hashes.len().saturating_sub(KEPT);
    status.declined_hashes.drain(..too_many);
}

/// Adds what models cost to what the ticket shows.
pub(super) fn charge(status: &mut TicketStatus, calls: &ModelCalls) {
    let usage = status.usage.get_or_insert_default();
    if !usage.models.contains(&calls.model) && usage.models.len() < 8 {
        usage.models.push(calls.model.clone());
        usage.models.sort();
    }
    usage.calls = usage.calls.saturating_add(calls.calls);
    usage.input_tokens += calls.usage.total_input().saturating_sub(calls.usage.cache_read_input_tokens);
    usage.cache_read_tokens += calls.usage.cache_read_input_tokens;
    usage.output_tokens += calls.usage.output_tokens;
    let before: NanoDollars = usage.dollars.parse().unwrap_or_default();
    usage.dollars = before.saturating_add(calls.cost).decimal();
}
