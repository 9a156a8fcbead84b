//! The sentences that a ticket says about its outcome: what happened, the cause as far as it is known, and what to do
//! next. Pure.
//!
//! Whoever records an outcome gives the bare fact; here it becomes what a person reads. The match over the outcomes has no
//! wildcard: a new outcome does not compile until it has its sentence.

#[cfg(test)]
mod tests;

use crate::crd::{AttemptResult, Confidence, ConfigEvidence, Diagnosis, Outcome, PathChange, Ticket, TicketStatus};
use crate::gitops::GitOps;
use crate::redact;
use kube::ResourceExt;

/// The root cause of a diagnosis that found none: a guess would be taken for knowledge.
pub const NOT_KNOWN: &str = "not known";

/// The field managers of the harness begin like this.
const OWN_MANAGERS: &str = "harness-";

/// The changes of one key that a cause names.
const NAMED_CHANGES: usize = 3;

/// What is known when a ticket reaches an outcome.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The ticket.
    pub ticket: &'a Ticket,
    /// Its status, as it will be recorded.
    pub status: &'a TicketStatus,
    /// What happened, in a sentence without its full stop.
    pub happened: &'a str,
    /// What others wrote to the objects of the last attempt since it was planned: who, what and when.
    pub others: &'a [String],
    /// What to do next, where somebody knows better than the outcome alone.
    pub next: Option<&'a str>,
}

/// The whole message of a ticket that reaches this outcome.
pub fn explain(outcome: Outcome, known: &Known) -> String {
    let mut parts = vec![sentences(outcome, known).0];
    let cause = cause(known.ticket, known.status);
    match (cause, needs_person(outcome)) {
        // The fact itself often names it already.
        (Some(cause), _) if !parts[0].contains(&cause) => parts.push(format!("Cause: {cause}")),
        (Some(_), _) | (None, false) => {}
        (None, true) => parts.push(format!("Cause: {NOT_KNOWN}; seen: {}", seen(known.ticket))),
    }
    parts.push(format!("Next: {}", next_step(outcome, known)));
    parts.iter().map(|part| format!("{}.", part.trim_end().trim_end_matches('.'))).collect::<Vec<_>>().join(" ")
}

/// What to do next, in one instruction.
pub fn next_step(outcome: Outcome, known: &Known) -> String {
    known.next.filter(|_| needs_person(outcome)).map_or_else(|| sentences(outcome, known).1, str::to_owned)
}

/// Whether somebody must act.
fn needs_person(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Proposed
        | Outcome::NoActionRequired
        | Outcome::NoPlan
        | Outcome::HandedOver
        | Outcome::NeverHeld
        | Outcome::Outage
        | Outcome::Rejected
        | Outcome::ApprovalExpired
        | Outcome::Contested
        | Outcome::Conflicts
        | Outcome::TargetUnavailable
        | Outcome::WriteRefused
        | Outcome::AttemptsExhausted
        | Outcome::BudgetExhausted
        | Outcome::UndoConflict => true,
        Outcome::Repaired
        | Outcome::SelfHealed
        | Outcome::FixedByPerson
        | Outcome::InvariantChanged
        | Outcome::InvariantDeleted
        | Outcome::TicketDeleted => false,
    }
}

/// What happened, and what to do next.
fn sentences(outcome: Outcome, known: &Known) -> (String, String) {
    let Known { ticket, status, happened, .. } = known;
    let (name, namespace) = (ticket.name_any(), ticket.namespace().unwrap_or_default());
    let invariant = &ticket.spec.invariant_ref.name;
    let retry = format!("`harness retry {name} -n {namespace}`");
    let by_hand = format!("repair the service by hand, or ask for another round with {retry}");
    let shown = format!("`kubectl get ticket {name} -n {namespace} -o yaml`");
    let done = "nothing is left to do".to_owned();
    match outcome {
        Outcome::Repaired => (format!("{happened} after {}", attempt(status)), done),
        Outcome::SelfHealed => (
            format!(
                "{happened}; no write of others to its configuration or workload is known since the ticket was opened"
            ),
            done,
        ),
        Outcome::FixedByPerson => (format!("{happened}{}", after(known.others)), done),
        Outcome::InvariantChanged => (
            format!("{happened}, as the invariant asks since it was edited; {} stays in place", attempt(status)),
            format!("see whether that change is still wanted: {shown}"),
        ),
        Outcome::Proposed => (
            (*happened).to_owned(),
            format!(
                "make the proposed change by hand ({shown} shows it), or set spec.remediation.mode of invariant {invariant} to Approve or Auto and {retry}"
            ),
        ),
        Outcome::NoActionRequired => {
            (format!("The planner found that nothing needs to be changed: {happened}"), by_hand)
        }
        Outcome::NoPlan => (format!("No planner has a change to make: {happened}"), by_hand),
        Outcome::HandedOver => (format!("The planner leaves it to a person: {happened}"), by_hand),
        Outcome::NeverHeld => (
            (*happened).to_owned(),
            format!(
                "check its query and condition with `kubectl describe invariant {invariant} -n {namespace}`, or bring the service up"
            ),
        ),
        Outcome::Outage => (
            (*happened).to_owned(),
            format!("look for what the broken invariants share: `kubectl get invariants -n {namespace}`"),
        ),
        Outcome::Rejected => (
            (*happened).to_owned(),
            format!(
                "repair the service another way; the same change is never proposed again, and {retry} looks for another one"
            ),
        ),
        Outcome::ApprovalExpired => (
            (*happened).to_owned(),
            format!(
                "make the change by hand ({shown} shows it): the same is not proposed again, and {retry} looks for another one"
            ),
        ),
        Outcome::Contested => (
            format!("{happened}{}", written_by(known.others)),
            format!("settle with that writer what the value is to be, and then {retry}"),
        ),
        Outcome::Conflicts => {
            (format!("{happened}{}", written_by(known.others)), format!("when nobody writes to it any more, {retry}"))
        }
        Outcome::TargetUnavailable => {
            ((*happened).to_owned(), format!("bring the object back, or let the harness write to it, and then {retry}"))
        }
        Outcome::WriteRefused => (
            (*happened).to_owned(),
            format!("let the write through, or make the change by hand ({shown} shows it), and then {retry}"),
        ),
        Outcome::AttemptsExhausted => (format!("{happened}, and no attempt is left; {}", undone(status)), by_hand),
        Outcome::BudgetExhausted => (
            (*happened).to_owned(),
            format!(
                "repair the service by hand, or raise spec.remediation.budget of invariant {invariant} and {retry}"
            ),
        ),
        Outcome::UndoConflict => (
            format!("{happened}{}", written_by(known.others)),
            format!("compare the object with the attempt in {shown}, and put it right by hand"),
        ),
        Outcome::InvariantDeleted if is_unsettled(status) => {
            ((*happened).to_owned(), format!("see whether the change is still wanted: {shown}"))
        }
        Outcome::InvariantDeleted | Outcome::TicketDeleted => ((*happened).to_owned(), done),
    }
}

/// The last attempt, and what it was for.
fn attempt(status: &TicketStatus) -> String {
    let why = status.proposal.as_ref().map(|proposal| format!(" ({})", proposal.why)).unwrap_or_default();
    status.attempts.last().map_or_else(
        || "a change of the harness".to_owned(),
        |attempt| format!("attempt {} of {:?}{why}", attempt.number, attempt.planner),
    )
}

/// Why the attempts were undone.
fn undone(status: &TicketStatus) -> String {
    let undone = status.attempts.iter().filter(|it| it.number > status.forgiven_attempts);
    let reasons = undone.filter(|it| it.result == AttemptResult::Undone).map(|it| {
        let parts: Vec<String> = it.actions.iter().map(|action| action.object.name.clone()).collect();
        format!("attempt {} on {} did not make it hold", it.number, parts.join(", "))
    });
    let reasons: Vec<String> = reasons.collect();
    if reasons.is_empty() { "none of them made it hold".to_owned() } else { reasons.join(", ") }
}

fn is_unsettled(status: &TicketStatus) -> bool {
    status
        .attempts
        .last()
        .is_some_and(|attempt| matches!(attempt.result, AttemptResult::Unsettled | AttemptResult::LeftInPlace))
}

fn written_by(others: &[String]) -> String {
    if others.is_empty() { String::new() } else { format!(": {}", others.join(", ")) }
}

fn after(others: &[String]) -> String {
    if others.is_empty() { " after others changed it".to_owned() } else { format!(" after {}", others.join(", ")) }
}

fn seen(ticket: &Ticket) -> &str {
    let opening = &ticket.spec.opening;
    if opening.observed.is_empty() { &opening.value } else { &opening.observed }
}

/// The cause as far as it is known: what a planner concluded, else what the evidence says.
pub fn cause(ticket: &Ticket, status: &TicketStatus) -> Option<String> {
    let concluded = status.diagnosis.as_ref().map(|it| &it.root_cause).filter(|cause| is_known(cause));
    concluded.cloned().or_else(|| cause_in_evidence(ticket))
}

/// Models say it in other words.
fn is_known(cause: &str) -> bool {
    !["", NOT_KNOWN, "unknown", "none"].iter().any(|it| cause.trim().eq_ignore_ascii_case(it))
}

/// What the evidence of a ticket says about the cause: what was changed since the invariant last held, and what is wrong
/// with the target.
pub fn cause_in_evidence(ticket: &Ticket) -> Option<String> {
    let evidence = ticket.spec.evidence.as_ref()?;
    let changes = evidence.config.iter().filter(|config| !config.changes.is_empty()).map(changed);
    let found: Vec<String> = changes.chain(evidence.findings.iter().cloned()).collect();
    (!found.is_empty()).then(|| redact::line(&found.join("; "), 256))
}

fn changed(config: &ConfigEvidence) -> String {
    let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "absent".to_owned());
    let describe = |it: &PathChange| {
        let path = if it.path.is_empty() { &config.target.key } else { &it.path };
        format!("{path} from {} to {}", side(&it.before), side(&it.after))
    };
    let changes: Vec<String> = config.changes.iter().take(NAMED_CHANGES).map(describe).collect();
    let at = config.changed_at.as_ref().map(|at| format!(" at {:.0}", at.0)).unwrap_or_default();
    let known = GitOps::default();
    let by = config.changed_by.as_deref().map(|by| match known.tool_of(by) {
        Some(tool) => format!(", which {tool} brought from its source"),
        None if by.starts_with(OWN_MANAGERS) => ", which the harness wrote last".to_owned(),
        None => format!("; {by} wrote the key last{at}"),
    });
    format!("{} changed: {}{}", config.target.name, changes.join(", "), by.unwrap_or_default())
}

/// A diagnosis made of the evidence alone, where no planner made one.
pub fn diagnosis(ticket: &Ticket, happened: &str) -> Option<Diagnosis> {
    let root_cause = cause_in_evidence(ticket)?;
    Some(Diagnosis { summary: redact::line(happened, 2048), root_cause, confidence: Confidence::Low })
}

/// Replaces a cause that was not found by what the evidence says.
pub fn complete(diagnosis: &mut Diagnosis, ticket: &Ticket) {
    if !is_known(&diagnosis.root_cause) {
        diagnosis.root_cause = cause_in_evidence(ticket).unwrap_or_else(|| NOT_KNOWN.to_owned());
    }
}
