//! One ticket's task: look, decide, act, until the ticket ends.
//!
//! Touches the world through the ledger (the ticket's status), the tools (reading) and the executor (writing). Every
//! write to a target comes after its intent was saved, and a lost answer is looked up instead of being repeated.

mod bookkeeping;
mod offer;

use super::Context;
use super::decide::{Observed, Step, decide};
use super::executor::{ExecutorError, FIELD_MANAGER, TargetState, mark, micro};
use super::journal::{self, Entry};
use super::observe::observe;
use super::planner::{Briefing, Move, Reply, Session};
use super::policy::config_entries;
use super::tools::{Call, Reading};
use crate::crd::{Attempt, Invariant, Outcome, Phase, RETRY_ANNOTATION, Ticket, TicketStatus};
use crate::ledger;
use crate::lifecycle::{self, Effect, Event, Holdup};
use crate::watch::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::{Map, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

/// A step that failed for a passing reason is tried again after this.
const PAUSE: Duration = Duration::from_millis(500);

/// A person's answer is awaited for so long.
const APPROVAL_WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// Why a step was not done. All are tried again from a fresh look.
#[derive(Debug, thiserror::Error)]
enum IncidentError {
    #[error("the ticket or its objects cannot be read or written: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

impl IncidentError {
    /// Somebody else wrote first: a fresh look tells what.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if ledger::is_conflict(error))
    }
}

/// The ConfigMaps that a repair of this invariant may write: what its ticket claims.
pub fn objects(invariant: &Invariant) -> Vec<ObjectKey> {
    let namespace = invariant.namespace().unwrap_or_default();
    let mut found: Vec<ObjectKey> =
        config_entries(&invariant.spec.remediation.allow).map(|it| ObjectKey::new(&*namespace, &it.name)).collect();
    found.sort();
    found.dedup();
    found
}

/// What an incident is woken by.
pub struct Changes {
    /// Its own ticket, or an invariant of its namespace.
    pub own: signal::Receiver<u64>,
    /// What concerns every incident.
    pub common: signal::Receiver<u64>,
}

/// Works on a ticket until it ends, it is gone, or `shutdown`.
pub async fn run(context: &Context, key: &ObjectKey, mut changes: Changes, shutdown: CancellationToken) {
    let mut incident = Incident { context, key, session: None };
    while !shutdown.is_cancelled() {
        changes.own.mark_unchanged();
        changes.common.mark_unchanged();
        let until = match incident.advance().await {
            Ok(Pace::Again) => continue,
            Ok(Pace::Ended) => break,
            Ok(Pace::Wait(until)) => until,
            Err(error) => {
                if !error.is_conflict() {
                    tracing::warn!(ticket = %key, %error, "a step is tried again");
                }
                Timestamp::now().checked_add(SignedDuration::try_from(PAUSE).unwrap_or_default()).ok()
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            Ok(()) = changes.own.changed() => {}
            Ok(()) = changes.common.changed() => {}
            () = sleep_until(until) => {}
        }
    }
    if !shutdown.is_cancelled() && context.claims.release(key) {
        context.wake_all();
    }
}

async fn sleep_until(until: Option<Timestamp>) {
    match until {
        Some(until) => {
            let wait = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
            tokio::time::sleep(wait).await;
        }
        None => std::future::pending().await,
    }
}

/// How to go on.
enum Pace {
    Again,
    Wait(Option<Timestamp>),
    Ended,
}

struct Incident<'a> {
    context: &'a Context,
    key: &'a ObjectKey,
    session: Option<(Box<dyn Session>, Reply)>,
}

impl Incident<'_> {
    async fn advance(&mut self) -> Result<Pace, IncidentError> {
        let Some(observed) = observe(self.context, self.key).await? else { return Ok(Pace::Ended) };
        match decide(&observed, Timestamp::now()) {
            Step::End => Ok(Pace::Ended),
            Step::Wait(until) => Ok(Pace::Wait(until)),
            Step::Happened(event, message) => {
                let attempt = self.approved_attempt(&observed, event);
                self.happened(&observed, event, &message, |status| status.attempts.extend(attempt)).await?;
                Ok(Pace::Again)
            }
            Step::Claim => self.claim(&observed).await,
            Step::Converse => self.converse(&observed).await,
            Step::Write => self.write(&observed).await,
            Step::Undo => self.undo(&observed).await,
        }
    }

    /// An approval turns the proposal into an attempt, whose exact texts were saved with it.
    fn approved_attempt(&self, observed: &Observed, event: Event) -> Option<Attempt> {
        let (status, invariant) = (observed.ticket.status.as_ref()?, observed.invariant.as_ref()?);
        let proposal = status.proposal.as_ref().filter(|_| event == Event::Approved)?;
        let number = status.attempts.last().map_or(0, |attempt| attempt.number) + 1;
        Some(self.attempt(invariant, proposal, status.planner?, number))
    }

    /// Records what follows from an event, in one write.
    async fn happened(
        &mut self,
        observed: &Observed,
        event: Event,
        message: &str,
        edit: impl FnOnce(&mut TicketStatus),
    ) -> Result<Ticket, IncidentError> {
        let phase = observed.ticket.phase();
        let transition = lifecycle::next(phase, event);
        let retry = observed.ticket.annotations().get(RETRY_ANNOTATION).cloned();
        let states = &observed.facts.targets;
        let now = Timestamp::now();
        let ticket =
            ledger::record(&self.context.client, FIELD_MANAGER, &observed.ticket, transition, message, |status| {
                edit(status);
                bookkeeping::settle(status, event, states, message, now);
                bookkeeping::count(status, event, transition, retry, now);
            })
            .await?;
        if transition.phase != Phase::Diagnosing || transition.effect == Effect::StartPlanner {
            self.session = None;
        }
        if transition.effect == Effect::ReleaseClaim && self.context.claims.release(self.key) {
            self.context.wake_all();
        }
        tracing::info!(ticket = %self.key, phase = ?transition.phase, reason = transition.reason, message, "recorded");
        Ok(ticket)
    }

    async fn claim(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let Some(invariant) = &observed.invariant else { return Ok(Pace::Again) };
        match self.context.claims.acquire(self.key, &objects(invariant)) {
            Ok(()) => {
                let won = self.happened(observed, Event::ClaimWon, "an agent has taken this up", |_| ()).await;
                if won.is_err() {
                    self.context.claims.release(self.key);
                }
                won.map(|_| Pace::Again)
            }
            Err(holder) => {
                let status = observed.ticket.status.clone().unwrap_or_default();
                if status.reason.as_deref() != Some("WaitingForTarget") {
                    let message = format!("ticket {} works on an object that this one may change", holder.name);
                    self.happened(observed, Event::HeldUp(Holdup::WaitingForTarget), &message, |_| ()).await?;
                }
                Ok(Pace::Wait(None))
            }
        }
    }

    async fn converse(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let Some(invariant) = &observed.invariant else { return Ok(Pace::Again) };
        let status = observed.ticket.status.clone().unwrap_or_default();
        let untried = |name| !status.planners_tried.contains(&name);
        let Some(planner) = self.context.planners.iter().find(|planner| untried(planner.name())) else {
            let event = Event::PlannerDone { another: false, outcome: Outcome::NoPlan };
            self.happened(observed, event, "no planner is left to try", |_| ()).await?;
            return Ok(Pace::Again);
        };
        let (mut session, reply) = self.session.take().unwrap_or_else(|| {
            let briefing = Briefing {
                ticket: Arc::clone(&observed.ticket),
                invariant: Arc::clone(invariant),
                good_after: self.context.settings.good_after,
                reverted: self.context.board.reverted(&self.key.namespace),
            };
            (planner.start(briefing), Reply::Begin)
        });
        let name = planner.name();
        let next = session.next(reply).await;
        let another = self.context.planners.iter().any(|it| it.name() != name && untried(it.name()));
        match next {
            Move::Read(calls) => {
                let readings = self.read(observed, invariant, &calls, name).await?;
                self.session = Some((session, Reply::Readings(readings)));
            }
            Move::Change(change) => {
                let refusals = self.offer(observed, invariant, &change, name).await?;
                self.session = (!refusals.is_empty()).then_some((session, Reply::Refused(refusals)));
            }
            Move::NoActionNeeded(diagnosis) => {
                let message = diagnosis.summary.clone();
                self.happened(observed, Event::NoActionNeeded, &message, |status| status.diagnosis = Some(diagnosis))
                    .await?;
            }
            Move::Decline { outcome, diagnosis } => {
                let message = diagnosis.summary.clone();
                self.happened(observed, Event::PlannerDone { another, outcome }, &message, |status| {
                    status.diagnosis = Some(diagnosis);
                    status.planner = Some(name);
                    status.planners_tried.push(name);
                })
                .await?;
            }
        }
        Ok(Pace::Again)
    }

    /// Executes calls one after the other; each is in the journal as soon as it is done.
    async fn read(
        &mut self,
        observed: &Observed,
        invariant: &Invariant,
        calls: &[Call],
        planner: crate::crd::PlannerName,
    ) -> Result<Vec<Reading>, IncidentError> {
        let mut observed = observed.clone();
        let mut readings = Vec::with_capacity(calls.len());
        for call in calls {
            let began = Instant::now();
            let reading = self.context.tools.read(invariant, call).await;
            let entry = Entry {
                summary: call.summary(),
                tool: call.tool(),
                input: call.input(),
                outcome: reading.outcome(call),
                took: began.elapsed(),
            };
            let ticket = self
                .happened(&observed, Event::ReadRequested, "", |status| {
                    status.planner = Some(planner);
                    journal::push(status, entry, Timestamp::now());
                })
                .await?;
            observed.ticket = Arc::new(ticket);
            readings.push(reading);
        }
        Ok(readings)
    }

    async fn write(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let Some(attempt) = status.attempts.last() else { return Ok(Pace::Again) };
        let mark = mark(&observed.ticket.name_any(), attempt.number);
        let (began, mut versions) = (Instant::now(), Vec::new());
        for (action, state) in attempt.actions.iter().zip(&observed.facts.targets) {
            if *state != TargetState::Untouched {
                versions.push(action.written_resource_version.clone());
                continue;
            }
            match self.context.executor.write(&self.key.namespace, action, &mark).await {
                Ok(version) => versions.push(Some(version)),
                Err(error) => {
                    let wrote_before = versions.iter().any(Option::is_some);
                    return self.not_written(observed, error, wrote_before, status.conflicts).await;
                }
            }
        }
        let written_at = Timestamp::now();
        let summary = status.proposal.as_ref().map_or_else(|| "Writing the change".to_owned(), |it| it.why.clone());
        let input = json!(
            attempt
                .actions
                .iter()
                .map(|it| json!({ "name": it.object.name, "key": it.key, "changes": it.changes }))
                .collect::<Vec<_>>()
        );
        let entry = Entry {
            summary,
            tool: "edit_config",
            input: Map::from_iter([("edits".to_owned(), input)]),
            outcome: "written; the monitor verifies it".to_owned(),
            took: began.elapsed(),
        };
        self.happened(observed, Event::Applied, "the change was written; the monitor verifies it", |status| {
            if let Some(attempt) = status.attempts.last_mut() {
                attempt.written_at = Some(micro(written_at));
                for (action, version) in attempt.actions.iter_mut().zip(versions) {
                    action.written_resource_version = version;
                }
            }
            journal::push(status, entry, written_at);
        })
        .await?;
        Ok(Pace::Again)
    }

    async fn not_written(
        &mut self,
        observed: &Observed,
        error: ExecutorError,
        wrote_before: bool,
        conflicts: u32,
    ) -> Result<Pace, IncidentError> {
        let message = error.to_string();
        let event = match error {
            // Whether it was written is seen on the object.
            ExecutorError::Unanswered(_) => return Err(error.into()),
            ExecutorError::PreconditionFailed { .. } if !wrote_before => {
                Event::PreconditionFailed { conflicts: conflicts.saturating_add(1) }
            }
            ExecutorError::PreconditionFailed { .. }
            | ExecutorError::TargetUnavailable { .. }
            | ExecutorError::ReadPreImage { .. } => Event::TargetUnavailable { wrote_before },
        };
        self.happened(observed, event, &message, |_| ()).await?;
        Ok(Pace::Again)
    }

    async fn undo(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let Some(attempt) = status.attempts.last() else { return Ok(Pace::Again) };
        let ticket = observed.ticket.name_any();
        for (action, state) in attempt.actions.iter().zip(&observed.facts.targets).rev() {
            if *state == TargetState::Written {
                match self.context.executor.undo(&self.key.namespace, action, &ticket, attempt.number).await {
                    // Somebody else wrote in between: the next look sees it.
                    Ok(()) | Err(ExecutorError::PreconditionFailed { .. }) => {}
                    Err(ExecutorError::Unanswered(error)) => return Err(error.into()),
                    Err(error @ (ExecutorError::TargetUnavailable { .. } | ExecutorError::ReadPreImage { .. })) => {
                        self.happened(observed, Event::UndoConflict, &error.to_string(), |_| ()).await?;
                        return Ok(Pace::Again);
                    }
                }
            }
        }
        Ok(Pace::Again)
    }
}
