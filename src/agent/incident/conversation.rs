//! An incident's talk with a planner: what it is told, its next move, and what follows from that.

use super::{Incident, IncidentError, Pace};
use crate::agent::board;
use crate::agent::budget;
use crate::agent::decide::{Observed, diagnosed_for};
use crate::agent::observe::{Standing, standing};
use crate::agent::planner::{Briefing, KnownConfig, Move, Planner, Reply, Session};
use crate::agent::policy::config_entries;
use crate::agent::tools::{Call, Reading};
use crate::crd::{Confidence, Diagnosis, Invariant, Outcome, Phase, PlannerName, TicketStatus};
use crate::history::Revision;
use crate::journal::{self, Entry};
use crate::lifecycle::Event;
use crate::lifecycle::explanation::{self, NOT_KNOWN};
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A planner's session, and the reply that it has not heard yet.
pub(super) struct Talk {
    planner: PlannerName,
    session: Box<dyn Session>,
    /// `None` while a change of it is under way.
    reply: Option<Reply>,
    /// A move that could not be carried out for a passing reason: it is not asked for, and paid, again.
    unfinished: Option<Move>,
}

/// What a move means for its conversation.
enum Heard {
    GoesOn,
    Ends,
}

impl Incident<'_> {
    pub(super) async fn converse(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let Some(invariant) = &observed.invariant else { return Ok(Pace::Again) };
        let status = observed.ticket.status.clone().unwrap_or_default();
        let mut untried = self.context.planners.iter().filter(|it| !status.planners_tried.contains(&it.name()));
        let Some(planner) = untried.next() else {
            let event = Event::PlannerDone { another: false, outcome: Outcome::NoPlan };
            self.happened(observed, event, "no planner is left to try", |_| ()).await?;
            return Ok(Pace::Again);
        };
        let (name, another) = (planner.name(), untried.next().is_some());
        let (mut talk, next) = if let Some(unfinished) = self.take_unfinished(name) {
            unfinished
        } else {
            let (mut talk, reply) = self.talk(observed, invariant, &status, planner.as_ref()).await?;
            let next = self.next_move(&mut *talk.session, reply, planner.as_ref(), invariant, &status).await;
            let Some(next) = next else { return Ok(Pace::Again) };
            self.margin.note_cost(talk.session.take_usage());
            (talk, next)
        };
        // It took its time: what it may do, is asked again.
        let Standing { invariant, suspended } = standing(self.context, &observed.ticket).await?;
        let Some(invariant) = invariant else { return Ok(Pace::Again) };
        if suspended && matches!(next, Move::Change(_)) {
            // Once writes go on, it hears that its change was not made.
            self.talk = Some(talk);
            return Ok(Pace::Again);
        }
        match self.obey(observed, &invariant, &mut talk, next.clone(), (name, another)).await {
            Ok(Heard::GoesOn) => self.talk = Some(talk),
            Ok(Heard::Ends) => {}
            Err(error) => {
                talk.unfinished = Some(next);
                self.talk = Some(talk);
                return Err(error);
            }
        }
        Ok(Pace::Again)
    }

    fn take_unfinished(&mut self, planner: PlannerName) -> Option<(Talk, Move)> {
        let mut talk = self.talk.take_if(|talk| talk.planner == planner && talk.unfinished.is_some())?;
        let next = talk.unfinished.take()?;
        Some((talk, next))
    }

    /// The session to go on with, and what it is to hear.
    async fn talk(
        &mut self,
        observed: &Observed,
        invariant: &Arc<Invariant>,
        status: &TicketStatus,
        planner: &dyn Planner,
    ) -> Result<(Talk, Reply), IncidentError> {
        let begun = self.talk.take().filter(|talk| talk.planner == planner.name());
        let Some(mut talk) = begun else {
            let briefing = self.briefing(observed, invariant).await?;
            let session = planner.start(briefing, self.purse(observed, invariant));
            return Ok((Talk { planner: planner.name(), session, reply: None, unfinished: None }, Reply::Begin));
        };
        let reply = match talk.reply.take() {
            Some(reply) => reply,
            None => {
                Reply::Unmade { briefing: Box::new(self.briefing(observed, invariant).await?), why: why_unmade(status) }
            }
        };
        Ok((talk, reply))
    }

    /// The planner's next move; `None` when the ticket is somebody else's matter before it has made one.
    async fn next_move(
        &mut self,
        session: &mut dyn Session,
        reply: Reply,
        planner: &dyn Planner,
        invariant: &Invariant,
        status: &TicketStatus,
    ) -> Option<Move> {
        let budget = Duration::from(invariant.spec.remediation.budget.duration);
        let left = if planner.is_metered() {
            budget.saturating_sub(diagnosed_for(status, Timestamp::now()))
        } else {
            // It needs neither a network nor money; this is only so that nothing can wait for ever.
            budget
        };
        let out_of_time = || Move::Decline {
            outcome: Outcome::BudgetExhausted,
            diagnosis: Diagnosis {
                summary: format!("the diagnosis took longer than its budget of {} s", budget.as_secs()),
                root_cause: NOT_KNOWN.to_owned(),
                confidence: Confidence::Low,
            },
        };
        if left.is_zero() {
            return Some(out_of_time());
        }
        let (context, key, changes) = (self.context, self.key, &mut self.changes);
        let over = async {
            loop {
                if changes.own.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let phase = context.board.lock().tickets.get(key).map(|ticket| ticket.phase());
                if phase.is_none_or(|phase| phase != Phase::Diagnosing) {
                    return;
                }
            }
        };
        tokio::select! {
            next = session.next(reply) => Some(next),
            () = tokio::time::sleep(left) => Some(out_of_time()),
            () = self.shutdown.cancelled() => None,
            () = over => None,
        }
    }

    async fn obey(
        &mut self,
        observed: &Observed,
        invariant: &Arc<Invariant>,
        talk: &mut Talk,
        next: Move,
        (name, another): (PlannerName, bool),
    ) -> Result<Heard, IncidentError> {
        match next {
            Move::Read(calls) => {
                let readings = self.read(observed, invariant, &calls, name).await?;
                talk.reply = Some(Reply::Readings(readings));
                return Ok(Heard::GoesOn);
            }
            Move::Change(change) => {
                let refusals = self.offer(observed, invariant, &change, name).await?;
                talk.reply = refusals.map(Reply::Refused);
                return Ok(Heard::GoesOn);
            }
            Move::NoActionNeeded(diagnosis) => {
                let message = diagnosis.summary.clone();
                self.happened(observed, Event::NoActionNeeded, &message, |status| {
                    status.planner = Some(name);
                    status.diagnosis = Some(diagnosis);
                })
                .await?;
            }
            Move::HandOver { diagnosis, next_step } => {
                let message = diagnosis.summary.clone();
                let event = Event::PlannerDone { another: false, outcome: Outcome::HandedOver };
                self.margin.next_step = Some(next_step);
                self.happened(observed, event, &message, |status| {
                    status.planner = Some(name);
                    status.diagnosis = Some(diagnosis);
                })
                .await?;
            }
            Move::Decline { outcome, mut diagnosis } => {
                explanation::complete(&mut diagnosis, &observed.ticket);
                let message = diagnosis.summary.clone();
                self.happened(observed, Event::PlannerDone { another, outcome }, &message, |status| {
                    status.diagnosis = Some(diagnosis);
                    status.planner = Some(name);
                    status.planners_tried.push(name);
                })
                .await?;
            }
        }
        Ok(Heard::Ends)
    }

    /// What a planner is told.
    async fn briefing(&self, observed: &Observed, invariant: &Arc<Invariant>) -> Result<Briefing, IncidentError> {
        let mut config = Vec::new();
        for entry in config_entries(&invariant.spec.remediation.allow) {
            let object = self.context.executor.read_config_map(&self.key.namespace, &entry.name).await?;
            let revision = object.map(|object| Revision::of(&object, Timestamp::now(), false));
            config.push(KnownConfig { entry: entry.clone(), revision });
        }
        Ok(Briefing {
            ticket: Arc::clone(&observed.ticket),
            invariant: Arc::clone(invariant),
            // Its own attempts may not be on the board yet.
            reverted: [board::reverted_by(&observed.ticket), self.context.board.reverted(&self.key.namespace)].concat(),
            siblings: self.context.board.siblings(invariant),
            config,
            gitops: self.context.settings.gitops.clone(),
        })
    }

    /// What may be spent on this ticket; a person's retry opens a new purse.
    pub(super) fn purse(&self, observed: &Observed, invariant: &Invariant) -> crate::agent::spending::Purse {
        let status = observed.ticket.status.as_ref();
        let round = status.and_then(|status| status.observed_retry.as_deref()).unwrap_or_default();
        let uid = observed.ticket.uid().unwrap_or_default();
        let limit = budget::of_ticket(&invariant.spec.remediation.budget);
        self.context.spending.purse(format!("{}#{uid}#{round}", self.key), limit)
    }

    /// Executes the calls of a turn side by side; they are in the journal in one write as soon as all are done.
    async fn read(
        &mut self,
        observed: &Observed,
        invariant: &Arc<Invariant>,
        calls: &[Call],
        planner: PlannerName,
    ) -> Result<Vec<Reading>, IncidentError> {
        let first = observed.ticket.status.as_ref().map_or(0, |status| status.step_count) + 1;
        if planner == PlannerName::Claude {
            let purse = self.purse(observed, invariant);
            self.margin.describe_steps(self.context.scribe.as_ref(), purse, first, calls);
        }
        let tools = &self.context.tools;
        let executed = calls.iter().map(|call| async move {
            let began = Instant::now();
            let reading = tools.read(invariant, call).await;
            let entry = Entry {
                summary: call.summary(),
                tool: call.tool().to_owned(),
                input: call.input(),
                outcome: reading.outcome(call),
                took: began.elapsed(),
            };
            (reading, entry)
        });
        let (readings, entries): (Vec<_>, Vec<_>) = futures::future::join_all(executed).await.into_iter().unzip();
        self.happened(observed, Event::ReadRequested, "", |status| {
            status.planner = Some(planner);
            for entry in entries {
                journal::push(status, entry, Timestamp::now());
            }
        })
        .await?;
        Ok(readings)
    }
}

fn why_unmade(status: &TicketStatus) -> String {
    let last = status.attempts.last().and_then(|attempt| attempt.message.clone());
    last.or_else(|| status.message.clone()).unwrap_or_else(|| "it was not made".to_owned())
}

/// Whether a conversation outlives what happened: a change that a planner proposed is its matter until it is settled.
pub(super) fn goes_on(phase: Phase, event: Event) -> bool {
    match phase {
        Phase::Diagnosing => !matches!(event, Event::ClaimWon | Event::PlannerDone { .. }),
        Phase::AwaitingApproval | Phase::Repairing | Phase::Verifying | Phase::RollingBack => true,
        Phase::Open | Phase::Escalated | Phase::Resolved | Phase::Cancelled => false,
    }
}
