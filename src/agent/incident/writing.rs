//! Writing an attempt to its objects, and putting them back.

use super::{Incident, IncidentError, Pace, offer};
use crate::agent::decide::{Observed, parts};
use crate::agent::executor::{ExecutorError, Marks, ObjectActions, TargetState, by_object, failure, micro};
use crate::agent::observe::standing;
use crate::crd::{ActionRecord, FailedWrite, FailureCause, ObjectReference, PlannerName};
use crate::journal::{self, Entry};
use crate::lifecycle::Event;
use jiff::Timestamp;
use std::collections::HashMap;
use std::time::{Duration, Instant};

impl Incident<'_> {
    /// Writes the objects of the last attempt one after the other; what was written before is not written again.
    pub(super) async fn write(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let Some(attempt) = status.attempts.last() else { return Ok(Pace::Again) };
        let marks = Marks::of(&observed.ticket, attempt.number);
        let (began, mut versions) = (Instant::now(), HashMap::new());
        let changes = by_object(&attempt.actions);
        for change in &changes {
            if !self.is_granted(observed).await? {
                // The next look says what follows.
                return Ok(Pace::Again);
            }
            match self.context.executor.write(&self.key.namespace, change, &marks).await {
                Ok(version) => {
                    versions.insert(change.object.clone(), version);
                }
                Err(error) => return self.not_written(observed, error, !versions.is_empty()).await,
            }
        }
        for change in &changes {
            let version = versions.get(change.object).map_or("", String::as_str);
            self.context.executor.refresh(&self.key.namespace, change, &marks.written, version).await;
        }
        self.written(observed, &attempt.actions, versions, began.elapsed()).await
    }

    async fn written(
        &mut self,
        observed: &Observed,
        actions: &[ActionRecord],
        versions: HashMap<ObjectReference, String>,
        took: Duration,
    ) -> Result<Pace, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let entry = Entry {
            summary: status.proposal.as_ref().map_or_else(|| "Writing the change".to_owned(), |it| it.why.clone()),
            tool: offer::tool(actions).to_owned(),
            input: offer::input(actions),
            outcome: "written; the monitor verifies it".to_owned(),
            took,
        };
        let planner = status.attempts.last().map(|attempt| attempt.planner);
        if let Some(invariant) = observed.invariant.as_ref().filter(|_| planner == Some(PlannerName::Claude)) {
            let (purse, number) = (self.purse(observed, invariant), status.step_count + 1);
            let call = (entry.tool.clone(), entry.input.clone());
            self.margin.describe(self.context.scribe.as_ref(), purse, number, vec![call]);
        }
        let now = Timestamp::now();
        self.happened(observed, Event::Applied, "the change was written; the monitor verifies it", |status| {
            if let Some(attempt) = status.attempts.last_mut() {
                attempt.written_at = Some(micro(now));
                for action in &mut attempt.actions {
                    action.written_resource_version = versions.get(&action.object).cloned();
                }
            }
            journal::push(status, entry, now);
        })
        .await?;
        Ok(Pace::Again)
    }

    async fn not_written(
        &mut self,
        observed: &Observed,
        error: ExecutorError,
        wrote_before: bool,
    ) -> Result<Pace, IncidentError> {
        let (object, cause, words) = match error {
            ExecutorError::Failed { object, cause, words } => (object, cause, words),
            ExecutorError::PreconditionFailed { object } => {
                let conflicts = observed.ticket.status.as_ref().map_or(0, |status| status.conflicts);
                let event = if wrote_before {
                    Event::ForeignFound { wrote_before }
                } else {
                    Event::PreconditionFailed { conflicts: conflicts.saturating_add(1) }
                };
                let message = format!("{} {} changed since the change was planned", object.kind, object.name);
                self.happened(observed, event, &message, |_| ()).await?;
                return Ok(Pace::Again);
            }
        };
        let event = match cause {
            FailureCause::Gone => Event::TargetUnavailable { wrote_before },
            cause if failure::may_pass(cause) => Event::WriteDelayed,
            _ => Event::WriteRefused { wrote_before },
        };
        let failed = failure_of(observed, &object, cause, &words);
        let message = if event == Event::WriteDelayed { failure::delayed(&failed) } else { failure::sentence(&failed) };
        self.happened(observed, event, &message, |status| status.failed_write = Some(failed)).await?;
        Ok(Pace::Again)
    }

    /// Puts the objects of the last attempt back, in reverse order. One that cannot be put back keeps none of the others
    /// from it.
    pub(super) async fn undo(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let Some(attempt) = status.attempts.last() else { return Ok(Pace::Again) };
        let marks = Marks::of(&observed.ticket, attempt.number);
        let mut failures = Vec::new();
        for change in by_object(&attempt.actions).iter().rev() {
            if standing(self.context, &observed.ticket).await?.suspended {
                return Ok(Pace::Again);
            }
            failures.extend(self.undo_one(observed, change, &marks).await);
        }
        // Those that may pass are tried again, and the others with them: nobody knows which of them are the last.
        if let Some(passing) = failures.iter().find(|it| it.retry_at.is_some()) {
            let failed = passing.clone();
            let message = format!("the change is not undone yet: {}", failure::delayed(passing));
            self.happened(observed, Event::WriteDelayed, &message, |status| status.failed_write = Some(failed)).await?;
        } else if !failures.is_empty() {
            let mut whys: Vec<String> = failures.iter().map(failure::sentence).collect();
            let lost = parts(observed, &status, &[TargetState::Foreign, TargetState::Gone]);
            if !lost.is_empty() {
                whys.push(format!("others changed or deleted {lost}"));
            }
            let message = format!("not everything could be put back: {}", whys.join("; "));
            self.happened(observed, Event::UndoConflict, &message, |_| ()).await?;
        }
        Ok(Pace::Again)
    }

    async fn undo_one(&self, observed: &Observed, change: &ObjectActions<'_>, marks: &Marks) -> Option<FailedWrite> {
        match self.context.executor.undo(&self.key.namespace, change, marks).await {
            Ok(None) => None,
            Ok(Some(version)) => {
                self.context.executor.refresh(&self.key.namespace, change, &marks.undone, &version).await;
                None
            }
            // That is none of ours any more; the next look names it.
            Err(ExecutorError::PreconditionFailed { .. } | ExecutorError::Failed { cause: FailureCause::Gone, .. }) => {
                None
            }
            Err(ExecutorError::Failed { object, cause, words }) => Some(failure_of(observed, &object, cause, &words)),
        }
    }
}

fn failure_of(observed: &Observed, object: &ObjectReference, cause: FailureCause, words: &str) -> FailedWrite {
    let before = observed.ticket.status.as_ref().and_then(|status| status.failed_write.as_ref());
    failure::failed(object, cause, words, before, Timestamp::now())
}
