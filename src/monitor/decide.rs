//! What follows from what the monitor knows of one invariant. Pure: no client, no clock.

#[cfg(test)]
mod tests;

use super::flapping;
use super::record::{Counting, Record};
use crate::crd::{
    AttemptResult, FailedAttempt, Invariant, InvariantStatus, Phase, Ticket, VerdictName, reason, set_condition, type_,
};
use crate::lifecycle;
use crate::lifecycle::verification::{self, Finding};
use crate::probe::Reading;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::ResourceExt;

/// Why a query or a condition was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// A reason of the Accepted condition.
    pub reason: &'static str,
    /// Where, what was found and what was expected.
    pub message: String,
}

/// What the monitor knows of one invariant.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The invariant.
    pub invariant: &'a Invariant,
    /// Why it cannot be asked, if it cannot.
    pub rejection: Option<&'a Rejection>,
    /// The digest of its question.
    pub question: &'a str,
    /// The generation of the spec from which on it asks this.
    pub question_since: i64,
    /// The cycle of dependencies that it is in.
    pub cycle: Option<&'a str>,
    /// Its samples.
    pub record: &'a Record,
    /// The status that was written last.
    pub before: &'a InvariantStatus,
    /// Names of the invariants that it depends on and that are broken.
    pub broken_dependencies: &'a [String],
    /// Half of its namespace is broken with it, and an open ticket stands for all of that: its name.
    pub umbrella: Option<&'a str>,
    /// Its target is only just starting: how far it is.
    pub starting: Option<&'a str>,
    /// When its last tickets were resolved without a repair, oldest first.
    pub healed: &'a [Timestamp],
    /// Its open ticket.
    pub ticket: Option<&'a Ticket>,
    /// Every guard of the ticket's attempt holds.
    pub guards_hold: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The status as it should be.
    pub status: InvariantStatus,
    /// What to do about the ticket.
    pub ticket: TicketAction,
    /// It heals by itself and breaks again.
    pub flaps: bool,
}

/// What to do about the ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TicketAction {
    /// Nothing.
    Leave,
    /// Open one.
    Open,
    /// Resolve the open one.
    Resolve,
}

/// What follows.
pub fn decide(input: &Input, now: Timestamp) -> Decision {
    let holding = holding(input);
    let flaps = flaps(input, now);
    Decision { status: status(input, holding, flaps, now), ticket: ticket_action(input, flaps), flaps }
}

/// From where on holds count, by the phase of the open ticket.
pub fn counting(ticket: Option<&Ticket>) -> Counting {
    let Some(ticket) = ticket else { return Counting::Nothing };
    let uid = ticket.uid().unwrap_or_default();
    let status = ticket.status.as_ref();
    match ticket.phase() {
        Phase::Open | Phase::Diagnosing | Phase::AwaitingApproval => Counting::Unchanged { ticket: uid },
        Phase::Escalated => Counting::Escalated { ticket: uid },
        Phase::Verifying => match status.and_then(|status| status.attempts.last()) {
            Some(attempt) if attempt.in_force_at.is_some() && attempt.result == AttemptResult::Unsettled => {
                Counting::Attempt { ticket: uid, number: attempt.number }
            }
            Some(_) | None => Counting::Nothing,
        },
        Phase::Repairing | Phase::RollingBack | Phase::Resolved | Phase::Cancelled => Counting::Nothing,
    }
}

/// Whether it holds by its thresholds; `None`: not known.
fn holding(input: &Input) -> Option<bool> {
    let spec = &input.invariant.spec;
    let last = input.record.last.as_ref()?;
    if last.verdict == VerdictName::Unknown && spec.no_data == crate::crd::NoData::Unknown {
        return None;
    }
    if input.record.holds >= spec.success_threshold {
        return Some(true);
    }
    if input.record.breaches >= spec.failure_threshold {
        return Some(false);
    }
    // Between the thresholds it stays what it was, as long as that was about this question.
    if input.before.observed_generation < input.question_since {
        return None;
    }
    match condition_status(input.before, type_::HOLDING) {
        Some("True") => Some(true),
        Some("False") => Some(false),
        _ => None,
    }
}

fn ticket_action(input: &Input, flaps: bool) -> TicketAction {
    let spec = &input.invariant.spec;
    if input.rejection.is_some() {
        return TicketAction::Leave;
    }
    match input.ticket {
        None => {
            let crossed = input.record.breaches >= spec.failure_threshold;
            let may_open = !spec.suspend && may_begin(input);
            if crossed && may_open { TicketAction::Open } else { TicketAction::Leave }
        }
        Some(ticket) => {
            if may_resolve(input, flaps, ticket) {
                TicketAction::Resolve
            } else {
                TicketAction::Leave
            }
        }
    }
}

/// Nothing holds a ticket back.
fn may_begin(input: &Input) -> bool {
    input.broken_dependencies.is_empty() && input.umbrella.is_none() && input.starting.is_none()
}

/// Whether it heals by itself and breaks again. While the ticket of that is open it stays so.
fn flaps(input: &Input, now: Timestamp) -> bool {
    let stays = input.ticket.is_some() && condition_status(input.before, type_::FLAPPING) == Some("True");
    stays || flapping::is_flapping(input.healed, now)
}

fn may_resolve(input: &Input, flaps: bool, ticket: &Ticket) -> bool {
    let (spec, tally) = (&input.invariant.spec, input.record.tally());
    if lifecycle::ended(ticket.phase()) || tally.holds < spec.success_threshold {
        return false;
    }
    match counting(Some(ticket)) {
        Counting::Nothing => false,
        Counting::Unchanged { .. } | Counting::Escalated { .. } => !flaps || flapping::is_calm(spec, tally.holds),
        Counting::Attempt { .. } => input.guards_hold && verification::judge(spec, tally) == Finding::Verified,
    }
}

/// The attempt that is being verified, if its samples say that it failed.
fn failed_attempt(input: &Input) -> Option<FailedAttempt> {
    match counting(input.ticket) {
        Counting::Attempt { ticket, number } => {
            let failed = verification::judge(&input.invariant.spec, input.record.tally()) == Finding::Failed;
            failed.then_some(FailedAttempt { ticket, number })
        }
        Counting::Nothing | Counting::Unchanged { .. } | Counting::Escalated { .. } => None,
    }
}

fn status(input: &Input, holding: Option<bool>, flaps: bool, now: Timestamp) -> InvariantStatus {
    let generation = generation(input.invariant);
    let mut status = InvariantStatus {
        observed_generation: generation,
        conditions: input.before.conditions.clone(),
        value: input.record.last.as_ref().map(|last| last.reading.to_string()),
        verdict: input.record.last.as_ref().map(|last| last.verdict),
        held_since: input.record.held_since.map(MicroTime),
        held_generation: if holding == Some(true) { generation } else { input.before.held_generation },
        held_digest: held_digest(input, holding),
        resolved_without_repair: input.healed.iter().copied().map(MicroTime).collect(),
        failed_attempt: failed_attempt(input),
        ticket: input.ticket.map(ResourceExt::name_any),
        // Whoever writes it adds them.
        recent_samples: Vec::new(),
    };
    let mut set = |type_: &str, status_value: &str, reason: &str, message: &str| {
        let condition = Condition {
            type_: type_.to_owned(),
            status: status_value.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(now),
            observed_generation: Some(generation),
        };
        set_condition(&mut status.conditions, condition);
    };
    if let Some(rejection) = input.rejection {
        set(type_::ACCEPTED, "False", rejection.reason, &rejection.message);
        set(type_::HOLDING, "Unknown", rejection.reason, "the invariant is not accepted, so it is not checked");
    } else {
        match input.cycle {
            Some(cycle) => set(type_::ACCEPTED, "False", reason::DEPENDENCY_CYCLE, &cycle_message(cycle)),
            None => set(type_::ACCEPTED, "True", reason::PARSED, "query and condition are understood"),
        }
        let (value, why) = holding_condition(input, holding);
        set(type_::HOLDING, value, &why, &holding_message(input));
    }
    let held_back_before = input.before.conditions.iter().any(|it| it.type_ == type_::HELD_BACK);
    if let Some(starting) = input.starting.filter(|_| input.record.breaches > 0) {
        set(type_::HELD_BACK, "True", reason::STARTING, starting);
    } else if let Some(umbrella) = input.umbrella {
        let message = format!("ticket {umbrella} stands for all that is broken in this namespace");
        set(type_::HELD_BACK, "True", reason::OUTAGE, &message);
    } else if !input.invariant.spec.depends_on.is_empty() || held_back_before {
        if input.broken_dependencies.is_empty() || input.record.breaches == 0 {
            set(type_::HELD_BACK, "False", reason::NO_DEPENDENCY_BROKEN, "");
        } else {
            let names = input.broken_dependencies.join(", ");
            set(type_::HELD_BACK, "True", reason::DEPENDENCY_BROKEN, &format!("broken too: {names}"));
        }
    }
    if flaps {
        set(type_::FLAPPING, "True", reason::BREAKS_AGAIN, &flapping::message());
    } else if condition_status(input.before, type_::FLAPPING).is_some() {
        set(type_::FLAPPING, "False", reason::STEADY, "");
    }
    status
}

/// The question that it held with last.
fn held_digest(input: &Input, holding: Option<bool>) -> Option<String> {
    let before = input.before;
    // A version that knew generations only says by these that it held with the present question.
    let known_by_generation = before.held_digest.is_none()
        && before.held_generation > 0
        && before.held_generation == generation(input.invariant);
    if holding == Some(true) || known_by_generation {
        return Some(input.question.to_owned());
    }
    before.held_digest.clone()
}

fn cycle_message(cycle: &str) -> String {
    format!(
        "spec.dependsOn: {cycle}; they are checked, and none of them waits for another of them: remove one of these \
         dependencies"
    )
}

fn holding_condition(input: &Input, holding: Option<bool>) -> (&'static str, String) {
    if input.invariant.spec.suspend {
        return ("Unknown", reason::SUSPENDED.to_owned());
    }
    match holding {
        Some(true) => ("True", reason::CONDITION_MET.to_owned()),
        Some(false) => ("False", breach_reason(input)),
        None => match input.record.last.as_ref() {
            // The reason of a blind sample stands where its value would.
            Some(last) if last.verdict == VerdictName::Unknown => ("Unknown", last.reading.to_string()),
            Some(_) | None => ("Unknown", reason::TOO_FEW_SAMPLES.to_owned()),
        },
    }
}

/// `ConditionNotMet`, or the reason why the target could not be reached, which stands where the value would.
fn breach_reason(input: &Input) -> String {
    match input.record.last.as_ref().map(|last| &last.reading) {
        Some(reason @ (Reading::Failed(_) | Reading::Unknown(_))) => reason.to_string(),
        Some(Reading::Value(_)) | None => reason::CONDITION_NOT_MET.to_owned(),
    }
}

fn holding_message(input: &Input) -> String {
    if input.invariant.spec.suspend {
        return "spec.suspend is set: it is not checked".to_owned();
    }
    let spec = &input.invariant.spec;
    match input.record.last.as_ref() {
        // Only what the verdict depends on, so that a changing value alone is no reason to write.
        Some(last) => last
            .findings
            .as_ref()
            .map_or_else(|| format!("{} {}", spec.query, spec.condition), |findings| findings.observed.clone()),
        None => "not asked yet".to_owned(),
    }
}

/// How soon a status must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Now.
    Now,
    /// Soon, in its turn: what is written says something outdated that nobody is misled by at once.
    Soon,
    /// With the next refresh, if there is one.
    Refresh,
}

/// How soon the change from `before` to `after` must be written.
pub fn urgency(before: &InvariantStatus, after: &InvariantStatus) -> Urgency {
    if before.observed_generation != after.observed_generation
        || before.held_generation != after.held_generation
        || before.failed_attempt != after.failed_attempt
        || before.ticket != after.ticket
        || before.verdict != after.verdict
        || !same_conditions(&before.conditions, &after.conditions)
    {
        return Urgency::Now;
    }
    // With the same verdict: this monitor is a successor, and knows of no time before its own.
    let same = before.held_since == after.held_since && before.held_digest == after.held_digest;
    if same { Urgency::Refresh } else { Urgency::Soon }
}

/// Whether the same types are there with the same statuses and reasons, in whatever order. The message counts only where
/// no sample changes it.
fn same_conditions(before: &[Condition], after: &[Condition]) -> bool {
    let same = |one: &Condition, other: &Condition| {
        one.status == other.status
            && one.reason == other.reason
            && (one.type_ != type_::ACCEPTED || one.message == other.message)
    };
    before.len() == after.len()
        && after.iter().all(|one| before.iter().any(|other| one.type_ == other.type_ && same(one, other)))
}

fn condition_status<'a>(status: &'a InvariantStatus, type_: &str) -> Option<&'a str> {
    status.conditions.iter().find(|condition| condition.type_ == type_).map(|condition| condition.status.as_str())
}

/// The generation of an object's spec.
pub fn generation(object: &impl ResourceExt) -> i64 {
    object.meta().generation.unwrap_or_default()
}
