//! One ticket's task: look, decide, act, until the ticket ends.
//!
//! Touches the world through the ledger (the ticket's status), the tools (reading) and the executor (writing). Every
//! write to a target comes after its intent was saved, and a lost answer is looked up instead of being repeated.

mod bookkeeping;
mod conversation;
mod margin;
mod offer;
mod stopwatch;
mod writing;

use super::decide::{Observed, Step, decide, is_granted, retry_asked};
use super::executor::{FIELD_MANAGER, failure};
use super::observe::{Standing, observe, standing};
use super::target::kind_name;
use super::{Context, breaker, handover};
use crate::crd::{
    Allow, Attempt, AttemptResult, FailureCause, Invariant, ObjectReference, Phase, Ticket, TicketStatus,
};
use crate::ledger::{self, Told};
use crate::lifecycle::explanation::Known;
use crate::lifecycle::{self, Effect, Event, Holdup, Transition};
use crate::redact;
use crate::watch::ObjectKey;
use conversation::Talk;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use margin::{Margin, Pending};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stopwatch::Stopwatch;
use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;

/// A step that failed for a passing reason is tried again after this; each further time after twice as long.
const PAUSE: SignedDuration = SignedDuration::from_millis(500);

/// But never after more than this.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// A person's answer is awaited for so long.
const APPROVAL_WINDOW: SignedDuration = SignedDuration::from_mins(15);

/// Why a step was not done. All are tried again from a fresh look.
#[derive(Debug, thiserror::Error)]
enum IncidentError {
    #[error("the ticket or its objects cannot be read or written: {0}")]
    Api(#[from] kube::Error),
}

impl IncidentError {
    /// Somebody else wrote first: a fresh look tells what.
    fn is_conflict(&self) -> bool {
        let Self::Api(error) = self;
        ledger::is_conflict(error)
    }
}

/// The objects that a repair of this invariant may write: what its ticket claims. A workload's key begins with its
/// kind.
pub fn objects(invariant: &Invariant) -> Vec<ObjectKey> {
    let namespace = invariant.namespace().unwrap_or_default();
    let name = |entry: &Allow| match entry {
        Allow::EditConfig(config) => config.name.clone(),
        Allow::Restart(workload) | Allow::Rollback(workload) => {
            format!("{}/{}", kind_name(workload.kind), workload.name)
        }
        Allow::Scale(bounds) => format!("{}/{}", kind_name(bounds.kind), bounds.name),
    };
    let mut found: Vec<ObjectKey> =
        invariant.spec.remediation.allow.iter().map(|entry| ObjectKey::new(&*namespace, name(entry))).collect();
    found.sort();
    found.dedup();
    found
}

/// What a ticket in mid-incident claims: what its invariant lets it write now, and what its change is about.
pub fn claimed(ticket: &Ticket, invariant: Option<&Invariant>) -> Vec<ObjectKey> {
    let mut found = invariant.map(objects).unwrap_or_default();
    let status = ticket.status.as_ref();
    let attempt = status.and_then(|it| it.attempts.last()).filter(|it| it.result == AttemptResult::Unsettled);
    let namespace = ticket.namespace().unwrap_or_default();
    found.extend(attempt.iter().flat_map(|it| &it.actions).map(|it| object_key(&namespace, &it.object)));
    found.sort();
    found.dedup();
    found
}

/// As [`objects`] names it.
fn object_key(namespace: &str, object: &ObjectReference) -> ObjectKey {
    let is_config_map = object.kind == "ConfigMap";
    ObjectKey::new(
        namespace,
        if is_config_map { object.name.clone() } else { format!("{}/{}", object.kind, object.name) },
    )
}

/// What an incident is woken by.
pub struct Changes {
    /// Its own ticket, or an invariant of its namespace.
    pub own: signal::Receiver<u64>,
    /// What concerns every incident.
    pub common: signal::Receiver<u64>,
}

/// Works on a ticket until it ends, it is gone, or `shutdown`.
pub async fn run(context: &Context, key: &ObjectKey, changes: Changes, shutdown: CancellationToken) {
    let mut incident = Incident {
        context,
        key,
        changes,
        shutdown,
        began: Instant::now(),
        written: None,
        talk: None,
        margin: Margin::default(),
        rollout: Stopwatch::default(),
    };
    let mut failed_in_a_row = 0;
    while !incident.shutdown.is_cancelled() {
        incident.changes.own.mark_unchanged();
        incident.changes.common.mark_unchanged();
        let advanced = incident.advance().await;
        failed_in_a_row = if advanced.is_err() { failed_in_a_row + 1 } else { 0 };
        let (until, rests) = match advanced {
            Ok(Pace::Again) => continue,
            Ok(Pace::Ended) => break,
            Ok(Pace::Wait(until)) => (until, false),
            Ok(Pace::Rest) => (None, true),
            Ok(Pace::Pause(until)) => {
                incident.pause(until).await;
                continue;
            }
            Err(error) if error.is_conflict() => (Timestamp::now().checked_add(PAUSE).ok(), false),
            Err(error) => {
                tracing::warn!(ticket = %key, %error, "a step is tried again");
                incident.pause(Timestamp::now().checked_add(pause_after(failed_in_a_row)).unwrap_or_default()).await;
                continue;
            }
        };
        let written = Arc::clone(&incident.margin.written);
        tokio::select! {
            () = incident.shutdown.cancelled() => {}
            Ok(()) = incident.changes.own.changed() => {}
            Ok(()) = incident.changes.common.changed(), if !rests => {}
            () = written.notified() => {}
            () = sleep_until(until) => {}
        }
    }
    if !incident.shutdown.is_cancelled() && context.claims.release(key) {
        context.wake_all();
    }
}

/// The pause after so many failures in a row.
fn pause_after(failed_in_a_row: u32) -> SignedDuration {
    let doubled = 2_i32.saturating_pow(failed_in_a_row.saturating_sub(1));
    PAUSE.checked_mul(doubled).map_or(LONGEST_PAUSE, |pause| pause.min(LONGEST_PAUSE))
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

/// The attempt whose rollout is under way.
fn rolling_out(observed: &Observed) -> Option<u32> {
    let status = observed.ticket.status.as_ref().filter(|status| status.phase == Phase::Verifying)?;
    let attempt = status.attempts.last().filter(|attempt| attempt.in_force_at.is_none())?;
    observed.facts.in_force_from.is_none().then_some(attempt.number)
}

/// How to go on.
enum Pace {
    Again,
    Wait(Option<Timestamp>),
    /// Until then, whatever else changes, unless the ticket is another's matter.
    Pause(Timestamp),
    /// It waits for a person: nothing that concerns every incident concerns it.
    Rest,
    Ended,
}

struct Incident<'a> {
    context: &'a Context,
    key: &'a ObjectKey,
    changes: Changes,
    shutdown: CancellationToken,
    /// The ticket as it was written last, until the next look.
    written: Option<Ticket>,
    talk: Option<Talk>,
    margin: Margin,
    began: Instant,
    /// How long the rollout of an attempt was watched.
    rollout: Stopwatch,
}

impl Incident<'_> {
    /// Waits until then: what failed would only fail again. A ticket that goes into another phase, or goes, ends it.
    async fn pause(&mut self, until: Timestamp) {
        let (board, key, own) = (&self.context.board, self.key, &mut self.changes.own);
        let matter = || board.lock().tickets.get(key).map(|it| (it.phase(), it.metadata.deletion_timestamp.is_some()));
        let before = matter();
        let changed = async {
            while own.changed().await.is_ok() {
                if matter() != before {
                    return;
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = changed => {}
            () = sleep_until(Some(until)) => {}
        }
    }

    async fn advance(&mut self) -> Result<Pace, IncidentError> {
        let Some(mut observed) = observe(self.context, self.key, self.written.take()).await? else {
            return Ok(Pace::Ended);
        };
        if lifecycle::holds_claim(observed.ticket.phase()) {
            self.follow_claims(&observed.ticket, observed.invariant.as_deref());
        }
        let rolling_out = rolling_out(&observed);
        observed.facts.rollout_watched = self.rollout.look(rolling_out, self.began.elapsed());
        match decide(&observed, Timestamp::now()) {
            Step::End => Ok(Pace::Ended),
            Step::Wait(_) if !self.margin.is_empty() => {
                // Words for people are new, and nothing else will be written soon.
                self.happened(&observed, Event::Described, "", |_| ()).await?;
                Ok(Pace::Again)
            }
            Step::Pause(until) => Ok(Pace::Pause(until)),
            Step::Wait(None) if observed.ticket.phase() == Phase::Escalated => Ok(Pace::Rest),
            Step::Wait(until) => Ok(Pace::Wait(until)),
            Step::Happened(event, message) => {
                let attempt = self.approved_attempt(&observed, event);
                if let Some(attempt) = &attempt {
                    self.count_repair(&observed, attempt).await;
                }
                self.happened(&observed, event, &message, |status| status.attempts.extend(attempt)).await?;
                Ok(Pace::Again)
            }
            Step::Claim => self.claim(&observed).await,
            Step::Converse => self.converse(&observed).await,
            Step::Write | Step::Undo if !self.is_mine(&observed) => self.take_over(&observed).await,
            Step::Write => self.write(&observed).await,
            Step::Undo => self.undo(&observed).await,
        }
    }

    /// Whether the last attempt names this agent as the one that may write it.
    fn is_mine(&self, observed: &Observed) -> bool {
        let attempt = observed.ticket.status.as_ref().and_then(|status| status.attempts.last());
        attempt.is_none_or(|attempt| attempt.holder.as_ref() == Some(&self.context.holder))
    }

    /// Puts the last attempt into this agent's name before anything is written for it. What its predecessor may still
    /// have to say of it comes too late from then on, because it is about an older version of the ticket.
    async fn take_over(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let holder = self.context.holder.clone();
        self.happened(observed, Event::Described, "", |status| {
            if let Some(attempt) = status.attempts.last_mut() {
                attempt.holder = Some(holder);
            }
        })
        .await?;
        Ok(Pace::Again)
    }

    /// An approval turns the proposal into an attempt, whose exact texts were saved with it.
    fn approved_attempt(&self, observed: &Observed, event: Event) -> Option<Attempt> {
        let (status, invariant) = (observed.ticket.status.as_ref()?, observed.invariant.as_ref()?);
        let proposal = status.proposal.as_ref().filter(|_| event == Event::Approved)?;
        let number = status.attempts.last().map_or(0, |attempt| attempt.number) + 1;
        Some(self.attempt(invariant, proposal, status.planner?, number))
    }

    /// A repair that a person allowed counts like any other; their word does not wait for the count.
    async fn count_repair(&self, observed: &Observed, attempt: &Attempt) {
        let objects: Vec<_> = attempt.actions.iter().map(|it| &it.object).collect();
        let name = breaker::attempt(&observed.ticket.uid().unwrap_or_default(), attempt.number);
        if let Err(error) = self.context.breaker.note(&self.key.namespace, &objects, &name).await {
            tracing::warn!(ticket = %self.key, %error, "an approved repair is not counted");
        }
    }

    /// Records what follows from an event, in one write.
    async fn happened(
        &mut self,
        observed: &Observed,
        event: Event,
        message: &str,
        edit: impl FnOnce(&mut TicketStatus),
    ) -> Result<(), IncidentError> {
        let phase = observed.ticket.phase();
        let transition = lifecycle::next(phase, event);
        let retry = retry_asked(&observed.ticket);
        let states = &observed.facts.targets;
        let now = Timestamp::now();
        let next = self.margin.next_step.take();
        let told = Told { happened: message, others: &observed.facts.other_writes, next: next.as_deref() };
        let (mut words, mut early) = (self.margin.take(), Pending::default());
        let recorded =
            ledger::record(&self.context.client, FIELD_MANAGER, &observed.ticket, transition, told, |status| {
                edit(status);
                early = words.write(status);
                bookkeeping::settle(status, event, states, message, now);
                bookkeeping::count(status, event, transition, retry, now);
                if let Some(outcome) = transition.outcome.filter(|_| transition.phase == Phase::Escalated) {
                    let Told { happened, others, next } = told;
                    let known = Known { ticket: &observed.ticket, status, happened, others, next };
                    status.handover = Some(handover::text(outcome, &known));
                }
            })
            .await;
        self.margin.put_back(early);
        let recorded = match recorded {
            Err(error) if is_refused(&error) => self.record_in_short(observed, event, message, &error).await,
            recorded => recorded.map(|ticket| (ticket, transition)),
        };
        let (ticket, transition) = match recorded {
            Ok(recorded) => recorded,
            Err(error) => {
                self.margin.next_step = next;
                self.margin.put_back(words);
                return Err(error.into());
            }
        };
        if !conversation::goes_on(transition.phase, event) {
            self.talk = None;
        }
        if transition.effect == Effect::ReleaseClaim && self.context.claims.release(self.key) {
            self.context.wake_all();
        }
        tracing::info!(ticket = %self.key, phase = ?transition.phase, reason = transition.reason, message, "recorded");
        self.written = Some(ticket);
        Ok(())
    }

    /// Records what follows without what is new in it: the API server refuses this status, and would refuse it again.
    /// Before a write that is for a person; after it, the attempt must be settled all the same.
    async fn record_in_short(
        &self,
        observed: &Observed,
        event: Event,
        message: &str,
        refused: &kube::Error,
    ) -> Result<(Ticket, Transition), kube::Error> {
        let words = redact::line(&failure::words(refused), 512);
        tracing::warn!(ticket = %self.key, words, "the API server refused the status of a ticket");
        let phase = observed.ticket.phase();
        let (event, message) = match phase {
            Phase::Open | Phase::Diagnosing | Phase::AwaitingApproval => (
                Event::WriteRefused { wrote_before: false },
                format!("the API server refused what was to be recorded in this ticket: {words}"),
            ),
            Phase::Repairing
            | Phase::Verifying
            | Phase::RollingBack
            | Phase::Escalated
            | Phase::Resolved
            | Phase::Cancelled => (event, message.to_owned()),
        };
        let transition = lifecycle::next(phase, event);
        let (retry, now) = (retry_asked(&observed.ticket), Timestamp::now());
        let edit = |status: &mut TicketStatus| {
            bookkeeping::settle(status, event, &observed.facts.targets, &message, now);
            bookkeeping::count(status, event, transition, retry, now);
        };
        let client = &self.context.client;
        let told = Told { happened: &message, ..Told::default() };
        let ticket = ledger::record(client, FIELD_MANAGER, &observed.ticket, transition, told, edit).await?;
        Ok((ticket, transition))
    }

    /// What is claimed follows an edited `allow` list.
    fn follow_claims(&self, ticket: &Ticket, invariant: Option<&Invariant>) {
        if self.context.claims.follow(self.key, &claimed(ticket, invariant)) {
            self.context.wake_all();
        }
    }

    /// Whether the change that is under way may still be written, by what is read now.
    async fn is_granted(&self, observed: &Observed) -> Result<bool, IncidentError> {
        let Standing { invariant, suspended } = standing(self.context, &observed.ticket).await?;
        let status = observed.ticket.status.as_ref();
        Ok(status.is_some_and(|status| is_granted(status, invariant.as_deref(), suspended)))
    }

    async fn claim(&mut self, observed: &Observed) -> Result<Pace, IncidentError> {
        let Some(invariant) = &observed.invariant else { return Ok(Pace::Again) };
        match self.context.claims.acquire(self.key, &objects(invariant)) {
            Ok(()) => {
                let won = self.happened(observed, Event::ClaimWon, "an agent has taken this up", |_| ()).await;
                if won.is_err() {
                    self.context.claims.release(self.key);
                }
                if observed.ticket.status.as_ref().is_none_or(|status| status.title.is_none()) {
                    let purse = self.purse(observed, invariant);
                    self.margin.write_headline(self.context.scribe.as_ref(), purse, Arc::clone(&observed.ticket));
                }
                won.map(|()| Pace::Again)
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
}

/// Whether the API server will never take what was to be recorded.
fn is_refused(error: &kube::Error) -> bool {
    matches!(
        failure::cause(error),
        Some(FailureCause::TooLarge | FailureCause::Invalid | FailureCause::Denied | FailureCause::Immutable)
    )
}
