//! What follows from what was observed of one incident. Pure: no client, no clock.

#[cfg(test)]
mod tests;

use super::board;
use super::executor::{TargetState, failure};
use crate::crd::{ActionRecord, Attempt, AttemptResult, FailedAttempt, Phase};
use crate::crd::{Approval, ApprovalDecision, Invariant, Proposal, RETRY_ANNOTATION, Ticket, TicketStatus};
use crate::document;
use crate::lifecycle::{self, Event, Holdup, verification};
use crate::outage::{Outage, UMBRELLA_LABEL};
use crate::question;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// An incident as it was seen.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The ticket.
    pub ticket: Arc<Ticket>,
    /// The invariant; `None` once it was deleted, or replaced by another of the same name.
    pub invariant: Option<Arc<Invariant>>,
    /// What else counts.
    pub facts: Facts,
}

/// What counts besides the ticket and the invariant.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own; no two exclude each other")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// All writes to targets are stopped.
    pub suspended: bool,
    /// So much of the namespace is broken at once that the cause lies elsewhere.
    pub outage: Option<Outage>,
    /// Invariants that this one depends on and that are broken.
    pub broken_dependencies: Vec<String>,
    /// It waited for another ticket's repair, and by the agent's own look it holds since.
    pub answers_well: bool,
    /// An earlier attempt failed too recently; until when.
    pub cooldown_until: Option<Timestamp>,
    /// What became of the targets of the last attempt, in the order of its actions.
    pub targets: Vec<TargetState>,
    /// Since when the last attempt's change is, or will be, in force where it is read; `None` while a rollout is under
    /// way.
    pub in_force_from: Option<Timestamp>,
    /// Who brought back what the last attempt took away, and where: instead of its change, the fault is there again.
    pub brought_back: Option<String>,
    /// For how long the rollout of the last attempt was watched; time without a look does not count.
    pub rollout_watched: Duration,
    /// Guards of the last attempt that are broken now.
    pub regressed_guards: Vec<String>,
    /// What others wrote to the objects of the last attempt since it was planned: who, what and when.
    pub other_writes: Vec<String>,
    /// The invariant cannot be asked.
    pub blind: bool,
    /// The object of the proposal is not what it was.
    pub object_changed: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Something happened: record what follows.
    Happened(Event, String),
    /// Try to get the objects that a repair may write.
    Claim,
    /// Hear the planner's next move.
    Converse,
    /// Write what the attempt intends.
    Write,
    /// Write the pre-images back.
    Undo,
    /// Wait for a change, or until then.
    Wait(Option<Timestamp>),
    /// A write was refused for now: wait until then, whatever else changes.
    Pause(Timestamp),
    /// The ticket has ended.
    End,
}

/// What follows.
pub fn decide(observed: &Observed, now: Timestamp) -> Step {
    let status = observed.ticket.status.clone().unwrap_or_default();
    if lifecycle::ended(status.phase) {
        return Step::End;
    }
    let deleting = observed.ticket.metadata.deletion_timestamp.is_some();
    if deleting && status.phase != Phase::RollingBack {
        return Step::Happened(Event::TicketDeleted, "the ticket was deleted".to_owned());
    }
    let Some(invariant) = observed.invariant.as_deref().filter(|_| !deleting) else {
        if deleting {
            return in_rolling_back(observed, &status, u32::MAX, now);
        }
        return Step::Happened(Event::InvariantDeleted, deleted_message(&status));
    };
    match status.phase {
        Phase::Open => in_open(observed, &status, invariant, now),
        Phase::Diagnosing => in_diagnosing(observed, &status, now),
        Phase::AwaitingApproval => in_awaiting_approval(observed, &status, invariant, now),
        Phase::Repairing => in_repairing(observed, &status, invariant, now),
        Phase::Verifying => in_verifying(observed, &status, invariant, now),
        Phase::RollingBack => in_rolling_back(observed, &status, invariant.spec.remediation.max_attempts, now),
        Phase::Escalated => in_escalated(observed, &status),
        Phase::Resolved | Phase::Cancelled => Step::End,
    }
}

fn deleted_message(status: &TicketStatus) -> String {
    let unverified = status.attempts.last().filter(|_| lifecycle::unsettled(status.phase));
    match unverified {
        Some(attempt) => {
            let objects: Vec<&str> = attempt.actions.iter().map(|it| it.object.name.as_str()).collect();
            format!("the invariant was deleted; attempt {} on {} was not verified", attempt.number, objects.join(", "))
        }
        None => "the invariant was deleted".to_owned(),
    }
}

/// Records a reason to wait once, and then waits.
fn hold(status: &TicketStatus, event: Event, message: String, until: Option<Timestamp>) -> Step {
    let reason = lifecycle::next(status.phase, event).reason;
    if reason.is_some() && status.reason.as_deref() != reason {
        Step::Happened(event, message)
    } else {
        Step::Wait(until)
    }
}

/// The longest value of the retry annotation that the status holds. Characters.
const MAX_RETRY: usize = 256;

/// A rollout is looked at again after this.
const ROLLOUT_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// Nothing is watched that tells when the suspension of a namespace is lifted.
fn look_again(now: Timestamp) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_secs(10)).ok()
}

fn in_open(observed: &Observed, status: &TicketStatus, invariant: &Invariant, now: Timestamp) -> Step {
    let facts = &observed.facts;
    if facts.suspended {
        return hold(status, Event::Suspended, "writes are suspended".to_owned(), look_again(now));
    }
    if observed.ticket.labels().contains_key(UMBRELLA_LABEL) {
        let why =
            facts.outage.map_or_else(|| "much of this namespace was broken at once".to_owned(), |it| it.to_string());
        let message = format!("{why}: the cause lies elsewhere, and nothing is repaired one by one");
        return Step::Happened(Event::StandsForOutage, message);
    }
    if let Some(outage) = facts.outage {
        return hold(status, Event::HeldUp(Holdup::Outage), outage.to_string(), look_again(now));
    }
    if !question::was_held(invariant) {
        let message = "the invariant never held in its present form, so that there is no good state to return to";
        return Step::Happened(Event::NeverHeld, message.to_owned());
    }
    if !facts.broken_dependencies.is_empty() {
        let message = format!("broken too: {}", facts.broken_dependencies.join(", "));
        return hold(status, Event::HeldUp(Holdup::DependencyBroken), message, None);
    }
    match facts.cooldown_until {
        Some(until) if until > now => {
            let message = format!("an earlier attempt failed; the next one begins at {until:.0}");
            hold(status, Event::HeldUp(Holdup::CoolingDown), message, Some(until))
        }
        Some(_) | None if facts.answers_well => {
            let message = "it answers well since another ticket's repair; the monitor decides".to_owned();
            let pause = signed(Duration::from(invariant.spec.interval) + Duration::from(invariant.spec.timeout));
            hold(status, Event::HeldUp(Holdup::AwaitingVerdict), message, now.checked_add(pause).ok())
        }
        Some(_) | None => Step::Claim,
    }
}

fn in_diagnosing(observed: &Observed, status: &TicketStatus, now: Timestamp) -> Step {
    if observed.facts.suspended {
        return hold(status, Event::Suspended, "writes are suspended".to_owned(), look_again(now));
    }
    Step::Converse
}

/// The time that was spent on diagnosis in this round; waiting for people, writing and verifying do not count.
pub fn diagnosed_for(status: &TicketStatus, now: Timestamp) -> Duration {
    let before = Duration::from_millis(status.diagnosed_milliseconds.into());
    let since = status.diagnosing_at.as_ref().filter(|_| status.phase == Phase::Diagnosing);
    let running = since.and_then(|at| Duration::try_from(now.duration_since(at.0)).ok());
    before + running.unwrap_or_default()
}

/// A person's word on this very proposal, if there is one that was not used yet. By the nonce: the same change that is
/// proposed again needs another word, whenever the first was given.
pub fn word_on<'a>(ticket: &'a Ticket, proposal: &Proposal) -> Option<&'a Approval> {
    let nonce = proposal.nonce.as_ref()?;
    let mut attempts = ticket.status.iter().flat_map(|status| &status.attempts);
    let is_used = attempts.any(|it| it.nonce.as_ref() == Some(nonce));
    let answers = |word: &&Approval| word.nonce.as_ref() == Some(nonce) && word.proposal_hash == proposal.hash;
    ticket.spec.approval.as_ref().filter(|_| !is_used).filter(answers)
}

fn in_awaiting_approval(observed: &Observed, status: &TicketStatus, invariant: &Invariant, now: Timestamp) -> Step {
    let Some(proposal) = &status.proposal else {
        return Step::Happened(Event::Superseded { wrote_before: false }, "the proposal is gone".to_owned());
    };
    let word = word_on(&observed.ticket, proposal);
    if let Some(word) = word.filter(|word| word.decision == ApprovalDecision::Rejected) {
        let reason = word.reason.as_deref().unwrap_or("no reason was given");
        return Step::Happened(Event::Rejected, format!("{} said no: {reason}", word.by));
    }
    let closes_at = proposal.breaker_closes_at.as_ref().map(|at| at.0);
    if closes_at.is_some_and(|closes_at| now >= closes_at) && word.is_none() {
        let message = "the breaker is closed again: the change is planned anew";
        return Step::Happened(Event::BreakerClosed, message.to_owned());
    }
    let expires_at = proposal.expires_at.as_ref().map_or(now, |at| at.0);
    if now >= expires_at {
        return Step::Happened(Event::ApprovalExpired, format!("nobody answered until {expires_at:.0}"));
    }
    let edited = Some(generation(invariant)) != granted_generation(status);
    if observed.facts.object_changed || edited {
        let what = if edited { "the invariant" } else { "the object" };
        return Step::Happened(
            Event::Superseded { wrote_before: false },
            format!("{what} changed since the proposal was made"),
        );
    }
    if observed.facts.suspended {
        return hold(status, Event::Suspended, "writes are suspended".to_owned(), Some(expires_at));
    }
    if !observed.facts.broken_dependencies.is_empty() {
        let message = format!("broken too: {}", observed.facts.broken_dependencies.join(", "));
        return hold(status, Event::HeldUp(Holdup::DependencyBroken), message, Some(expires_at));
    }
    match word {
        Some(word) => Step::Happened(Event::Approved, format!("approved by {}", word.by)),
        None => Step::Wait(Some(closes_at.map_or(expires_at, |closes_at| closes_at.min(expires_at)))),
    }
}

fn in_repairing(observed: &Observed, status: &TicketStatus, invariant: &Invariant, now: Timestamp) -> Step {
    let targets = &observed.facts.targets;
    let any = |state| targets.contains(&state);
    if !targets.is_empty() && targets.iter().all(|it| *it == TargetState::Written) {
        return Step::Happened(Event::MarkFound, "the change was written".to_owned());
    }
    let wrote_before = any(TargetState::Written);
    if any(TargetState::Gone) {
        let message = format!("{} does not exist any more", parts(observed, status, &[TargetState::Gone]));
        return Step::Happened(Event::TargetUnavailable { wrote_before }, message);
    }
    let others = [TargetState::Foreign, TargetState::Restored];
    if others.into_iter().any(any) {
        let message = format!("others wrote to {} since the change was planned", parts(observed, status, &others));
        return Step::Happened(Event::ForeignFound { wrote_before }, message);
    }
    if Some(generation(invariant)) != granted_generation(status) {
        let message = "the invariant was edited after the change was granted: it is judged anew".to_owned();
        return Step::Happened(Event::Superseded { wrote_before }, message);
    }
    if observed.facts.suspended {
        return hold(status, Event::Suspended, "writes are suspended".to_owned(), look_again(now));
    }
    match obstacle(status, now) {
        Obstacle::None => Step::Write,
        Obstacle::Until(retry_at) => Step::Pause(retry_at),
        Obstacle::TooLong(why) => Step::Happened(Event::WriteRefused { wrote_before }, why),
    }
}

/// What is in the way of a write that is due.
enum Obstacle {
    None,
    Until(Timestamp),
    TooLong(String),
}

/// Whether the write that is due may be tried, by what became of it before.
fn obstacle(status: &TicketStatus, now: Timestamp) -> Obstacle {
    let Some(failed) = &status.failed_write else { return Obstacle::None };
    if failed.since.0.checked_add(failure::DEADLINE).is_ok_and(|deadline| now >= deadline) {
        let minutes = failure::DEADLINE.as_mins();
        return Obstacle::TooLong(format!("given up after {minutes} minutes: {}", failure::sentence(failed)));
    }
    match &failed.retry_at {
        Some(retry_at) if retry_at.0 > now => Obstacle::Until(retry_at.0),
        Some(_) | None => Obstacle::None,
    }
}

/// The parts of the last attempt that are in one of these states, by name.
pub fn parts(observed: &Observed, status: &TicketStatus, became: &[TargetState]) -> String {
    let actions = status.attempts.last().map_or(&[][..], |attempt| &attempt.actions);
    let found = actions.iter().zip(&observed.facts.targets).filter(|(_, state)| became.contains(state));
    let name = |action: &ActionRecord| format!("{} of {} {}", action.key, action.object.kind, action.object.name);
    found.map(|(action, _)| name(action)).collect::<Vec<_>>().join(", ")
}

fn in_verifying(observed: &Observed, status: &TicketStatus, invariant: &Invariant, now: Timestamp) -> Step {
    let facts = &observed.facts;
    let Some(attempt) = status.attempts.last() else {
        return Step::Happened(Event::VerifyTimedOut { others_wrote: true }, "the attempt is gone".to_owned());
    };
    if let Some(what) = facts.brought_back.as_ref().filter(|_| !facts.suspended) {
        let message = format!("{what} before the change was verified; it is looked at as a new fault");
        return Step::Happened(Event::BroughtBack, message);
    }
    if attempt.in_force_at.is_none() {
        return not_in_force(observed, status, invariant, now);
    }
    if facts.suspended {
        let message = "writes are suspended: the change is neither verified nor undone".to_owned();
        return hold(status, Event::Suspended, message, look_again(now));
    }
    if facts.blind {
        let message = "the invariant cannot be asked; the verification waits".to_owned();
        return hold(status, Event::Blind, message, None);
    }
    if matches!(status.reason.as_deref(), Some("Blind" | "Suspended")) {
        return Step::Happened(Event::SightRegained, "the verification goes on".to_owned());
    }
    let others_wrote = facts.targets.iter().any(|it| *it != TargetState::Written);
    if !facts.regressed_guards.is_empty() {
        let message = format!("broken since the change: {}", facts.regressed_guards.join(", "));
        return Step::Happened(Event::GuardRegressed { others_wrote }, message);
    }
    // The monitor counts the samples: only it knows in which time there were any.
    let uid = observed.ticket.uid();
    let is_this = |it: &FailedAttempt| Some(&it.ticket) == uid.as_ref() && it.number == attempt.number;
    if !board::failed_attempt(invariant).is_some_and(is_this) {
        return Step::Wait(None);
    }
    let seconds = verification::timeout(&invariant.spec).as_secs();
    let message = format!("the invariant did not hold within {seconds}s of the change, in which it was asked");
    Step::Happened(Event::VerifyTimedOut { others_wrote }, message)
}

/// A change that is not in force where it is read: samples do not count yet.
fn not_in_force(observed: &Observed, status: &TicketStatus, invariant: &Invariant, now: Timestamp) -> Step {
    match observed.facts.in_force_from {
        Some(from) if from <= now => Step::Happened(Event::InForce, "the change is in force".to_owned()),
        Some(from) => {
            let message = format!("pods mount the changed ConfigMap; it reaches them by {from:.0}");
            hold(status, Event::NotInForce, message, Some(from))
        }
        None => {
            let timeout = verification::timeout(&invariant.spec);
            if observed.facts.rollout_watched >= timeout {
                let others_wrote = observed.facts.targets.iter().any(|it| *it != TargetState::Written);
                let message = format!("the rollout was not complete within {}s of the change", timeout.as_secs());
                return Step::Happened(Event::VerifyTimedOut { others_wrote }, message);
            }
            let message = "the rollout of the change is under way".to_owned();
            hold(status, Event::NotInForce, message, now.checked_add(ROLLOUT_PAUSE).ok())
        }
    }
}

fn in_rolling_back(observed: &Observed, status: &TicketStatus, max_attempts: u32, now: Timestamp) -> Step {
    let targets = &observed.facts.targets;
    // What is still ours is put back first, whatever became of the rest.
    if targets.contains(&TargetState::Written) {
        if observed.facts.suspended {
            let message = "writes are suspended: the change is not undone yet".to_owned();
            return hold(status, Event::Suspended, message, look_again(now));
        }
        return match obstacle(status, now) {
            Obstacle::None => Step::Undo,
            Obstacle::Until(retry_at) => Step::Pause(retry_at),
            Obstacle::TooLong(why) => Step::Happened(Event::UndoConflict, format!("the change stands: {why}")),
        };
    }
    let lost = parts(observed, status, &[TargetState::Foreign, TargetState::Gone]);
    if !lost.is_empty() {
        return Step::Happened(Event::UndoConflict, not_put_back(&lost, targets));
    }
    if observed.ticket.metadata.deletion_timestamp.is_some() {
        return Step::Happened(Event::TicketDeleted, "the ticket was deleted; its change was undone".to_owned());
    }
    if let Some(refusal) = status.attempts.last().and_then(|attempt| attempt.refusal.as_ref()) {
        let message = format!("{}; what was written of the attempt was put back", failure::sentence(refusal));
        return Step::Happened(Event::RestoredAfterRefusal, message);
    }
    let counts = |it: &&Attempt| {
        it.number > status.forgiven_attempts
            && !matches!(it.result, AttemptResult::NotWritten | AttemptResult::Overwritten)
    };
    let made = u32::try_from(status.attempts.iter().filter(counts).count()).unwrap_or(u32::MAX);
    let message = format!("attempt {made} of {max_attempts} was undone");
    Step::Happened(Event::Restored { attempts_left: made < max_attempts }, message)
}

fn not_put_back(lost: &str, targets: &[TargetState]) -> String {
    let rest = if targets.contains(&TargetState::Restored) { "; the rest was put back" } else { "" };
    format!("others changed or deleted {lost}, which is left as it is now{rest}")
}

fn in_escalated(observed: &Observed, status: &TicketStatus) -> Step {
    match retry_asked(&observed.ticket) {
        Some(wanted) if status.observed_retry.as_ref() != Some(&wanted) => {
            Step::Happened(Event::RetryRequested, "another round was asked for".to_owned())
        }
        Some(_) | None => Step::Wait(None),
    }
}

/// The round that a person asked for, as the status notes it: the value of the annotation, or the digest of one that is
/// too long for that.
pub fn retry_asked(ticket: &Ticket) -> Option<String> {
    let value = ticket.annotations().get(RETRY_ANNOTATION)?;
    Some(if value.chars().count() <= MAX_RETRY { value.clone() } else { document::digest(value) })
}

fn generation(invariant: &Invariant) -> i64 {
    invariant.metadata.generation.unwrap_or_default()
}

/// The generation of the invariant that granted the change that is under way.
fn granted_generation(status: &TicketStatus) -> Option<i64> {
    status.proposal.as_ref().map(|proposal| proposal.invariant_generation)
}

/// Whether a change that was granted may still be written: by the invariant and the suspension as they are read now.
pub fn is_granted(status: &TicketStatus, invariant: Option<&Invariant>, suspended: bool) -> bool {
    !suspended && invariant.is_some_and(|it| Some(generation(it)) == granted_generation(status))
}

/// Until when an invariant rests after attempts that failed: the latest of them counts.
pub fn cooldown_until<'a>(attempts: impl Iterator<Item = &'a Attempt>, invariant: &Invariant) -> Option<Timestamp> {
    let cooldown = signed(invariant.spec.remediation.cooldown.into());
    let failed = attempts.filter(|it| match it.result {
        AttemptResult::Undone | AttemptResult::LeftInPlace => true,
        AttemptResult::Unsettled | AttemptResult::Verified | AttemptResult::NotWritten | AttemptResult::Overwritten => {
            false
        }
    });
    failed.filter_map(|it| it.settled_at.as_ref()?.0.checked_add(cooldown).ok()).max()
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
