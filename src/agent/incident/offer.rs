//! A planner's change on its way to the executor: judged by policy, shown in the ticket, its intent and exact texts
//! saved before anything is written.

use super::{APPROVAL_WINDOW, Incident, IncidentError, object_key};
use crate::agent::breaker::{self, Counted};
use crate::agent::change::ProposedChange;
use crate::agent::decide::Observed;
use crate::agent::executor::{Planned, failure, micro, proposal_hash};
use crate::agent::planner::Change;
use crate::agent::policy::{self, Brake, Refusal};
use crate::crd::{
    Action, ActionRecord, Attempt, AttemptResult, Invariant, Mode, ObjectReference, PlannerName, Proposal, TicketStatus,
};
use crate::gitops::ManagedBy;
use crate::journal::{self, Entry};
use crate::lifecycle::{self, Effect, Event, Leave};
use crate::redact;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

impl Incident<'_> {
    /// Takes a planner's change as far as it may go. Gives the refusals that the planner is to hear; `None`
    /// once the change is on its way, or the planner had its turn.
    pub(super) async fn offer(
        &mut self,
        observed: &Observed,
        invariant: &Invariant,
        change: &Change,
        planner: PlannerName,
    ) -> Result<Option<Vec<Refusal>>, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let exact = match self.plan(invariant, &status, &change.changes).await? {
            Ok(exact) => exact,
            Err(refusals) => return self.refuse(observed, change, planner, refusals).await,
        };
        let change = &noted(change, &exact);
        if let Some(refusal) = self.claim_all(observed, invariant, &exact) {
            return self.refuse(observed, change, planner, vec![refusal]).await;
        }
        let managed_by = exact.iter().find_map(|it| it.managed_by.clone());
        let number = status.attempts.last().map_or(0, |attempt| attempt.number) + 1;
        let brake = if managed_by.is_none() { self.brake(observed, invariant, &exact, number).await } else { None };
        let leave = policy::leave(invariant.spec.remediation.mode, managed_by.is_some(), brake.as_ref());
        let hash = proposal_hash(&exact);
        let mut actions = Vec::with_capacity(exact.len());
        for (index, planned) in exact.iter().enumerate() {
            let mut action = planned.record.clone();
            if leave != Leave::ProposeOnly {
                match self.context.executor.save_pre_image(&observed.ticket, number, index, planned).await {
                    Ok(saved) => action.revision = Some(saved),
                    Err(error) => return self.not_kept(observed, change, planner, error).await,
                }
            }
            actions.push(action);
        }
        let mut proposal = self.proposal(invariant, change, hash, actions, leave);
        wait_for_breaker(&mut proposal, brake.as_ref());
        let approval = format!("approve {} -n {}", self.key.name, self.key.namespace);
        let message =
            message(leave, managed_by.as_ref(), brake.as_ref(), &proposal, &change.diagnosis.root_cause, &approval);
        if leave == Leave::ProposeOnly {
            self.margin.next_step = managed_by.map(|tool| format!("{}, and change it there", tool.look_at()));
        }
        let entry = (leave != Leave::Granted).then(|| proposed_entry(&proposal, leave));
        let attempt = (leave == Leave::Granted).then(|| self.attempt(invariant, &proposal, planner, number));
        self.happened(observed, Event::ChangeProposed(leave), &message, |status| {
            status.planner = Some(planner);
            status.diagnosis = Some(change.diagnosis.clone());
            status.proposal = Some(proposal);
            status.attempts.extend(attempt);
            if let Some(entry) = entry {
                journal::push(status, entry, Timestamp::now());
            }
        })
        .await?;
        Ok(None)
    }

    /// The exact texts of a change cannot be kept, so that it could not be undone: it is not made.
    async fn not_kept(
        &mut self,
        observed: &Observed,
        change: &Change,
        planner: PlannerName,
        error: kube::Error,
    ) -> Result<Option<Vec<Refusal>>, IncidentError> {
        if failure::cause(&error).is_none_or(failure::may_pass) {
            return Err(error.into());
        }
        let words = redact::line(&failure::words(&error), 512);
        let message = format!("{}; the exact texts of the change cannot be kept: {words}", change.diagnosis.root_cause);
        self.happened(observed, Event::WriteRefused { wrote_before: false }, &message, |status| {
            status.planner = Some(planner);
            status.diagnosis = Some(change.diagnosis.clone());
        })
        .await?;
        Ok(None)
    }

    /// Claims what the changes write: an `allow` list that was edited may name objects that another ticket works on.
    fn claim_all(&self, observed: &Observed, invariant: &Invariant, planned: &[Planned]) -> Option<Refusal> {
        self.follow_claims(&observed.ticket, Some(invariant));
        let written: Vec<_> = planned.iter().map(|it| object_key(&self.key.namespace, &it.record.object)).collect();
        let holder = self.context.claims.acquire(self.key, &written).err()?;
        let message = format!("ticket {} works on an object that the change writes", holder.name);
        Some(Refusal { code: "ClaimedByAnother", message })
    }

    /// Makes the changes exact, as far as the `allow` list permits all of them; else says why not.
    async fn plan(
        &self,
        invariant: &Invariant,
        status: &TicketStatus,
        changes: &[ProposedChange],
    ) -> Result<Result<Vec<Planned>, Vec<Refusal>>, IncidentError> {
        let allow = &invariant.spec.remediation.allow;
        let mut refusals: Vec<Refusal> = changes.iter().filter_map(|it| policy::judge(allow, it).err()).collect();
        let mut planned: Vec<Planned> = Vec::new();
        if refusals.is_empty() {
            for change in changes {
                match self.context.executor.plan(&self.key.namespace, allow, change).await {
                    Ok(exact) => planned.extend(exact),
                    Err(Ok(refusal)) => refusals.push(refusal),
                    Err(Err(error)) => return Err(error.into()),
                }
            }
            planned = in_order(planned);
            refusals.extend(clash(&planned));
            refusals.extend(too_many(&planned));
        }
        if refusals.is_empty() && status.declined_hashes.contains(&proposal_hash(&planned)) {
            let message = "a person said no to this very change, or did not answer".to_owned();
            refusals.push(Refusal { code: "DeclinedBefore", message });
        }
        Ok(if refusals.is_empty() { Ok(planned) } else { Err(refusals) })
    }

    /// What keeps these changes from being made without a person. If nothing does, they are counted as repairs.
    async fn brake(
        &self,
        observed: &Observed,
        invariant: &Invariant,
        planned: &[Planned],
        number: u32,
    ) -> Option<Brake> {
        if let Some(outage) = observed.facts.outage {
            return Some(Brake::Outage(outage));
        }
        if invariant.spec.remediation.mode != Mode::Auto {
            return None;
        }
        let namespace = &self.key.namespace;
        let limit = usize::try_from(invariant.spec.remediation.max_repairs_per_hour).unwrap_or(usize::MAX);
        let objects: BTreeSet<&ObjectReference> = planned.iter().map(|it| &it.record.object).collect();
        let counted = objects.into_iter().map(|object| {
            let told = self.context.board.repairs(namespace, object);
            Counted { object, told }
        });
        let counted: Vec<Counted> = counted.collect();
        let attempt = breaker::attempt(&observed.ticket.uid().unwrap_or_default(), number);
        match self.context.breaker.admit(namespace, &counted, &attempt, limit).await {
            Ok(Ok(())) => None,
            Ok(Err(open)) => Some(Brake::Breaker(open)),
            Err(error) => Some(Brake::Uncounted(error.to_string())),
        }
    }

    async fn refuse(
        &mut self,
        observed: &Observed,
        change: &Change,
        planner: PlannerName,
        refusals: Vec<Refusal>,
    ) -> Result<Option<Vec<Refusal>>, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let event = Event::PolicyRefused { refusals: status.refusals.saturating_add(1) };
        let reasons = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let entry = Entry {
            summary: change.why.clone(),
            tool: change.changes.first().map_or("edit_config", ProposedChange::tool).to_owned(),
            input: change.changes.iter().map(ProposedChange::shown).collect(),
            outcome: format!("refused: {reasons}"),
            took: Duration::ZERO,
        };
        let gives_up = lifecycle::next(status.phase, event).effect == Effect::StartPlanner;
        self.happened(observed, event, &reasons, |status| {
            status.planner = Some(planner);
            journal::push(status, entry, Timestamp::now());
            if gives_up {
                status.planners_tried.push(planner);
            }
        })
        .await?;
        Ok((!gives_up).then_some(refusals))
    }

    fn proposal(
        &self,
        invariant: &Invariant,
        change: &Change,
        hash: String,
        actions: Vec<ActionRecord>,
        leave: Leave,
    ) -> Proposal {
        let now = Timestamp::now();
        let awaits = matches!(leave, Leave::NeedsApproval | Leave::HeldByBreaker);
        let nonce = awaits.then(nonce);
        Proposal {
            why: redact::line(&change.why, 1024),
            proposed_at: micro(now),
            expires_at: awaits.then(|| micro(now.checked_add(APPROVAL_WINDOW).unwrap_or(Timestamp::MAX))),
            breaker_closes_at: None,
            invariant_generation: invariant.metadata.generation.unwrap_or_default(),
            approve_command: nonce
                .as_deref()
                .map(|nonce| approve_command(&self.key.namespace, &self.key.name, &hash, nonce)),
            nonce,
            hash,
            actions,
        }
    }

    /// The attempt that makes a proposal true. Guards are those that hold now, just before the write.
    pub(super) fn attempt(
        &self,
        invariant: &Invariant,
        proposal: &Proposal,
        planner: PlannerName,
        number: u32,
    ) -> Attempt {
        let (guards, excluded_guards) = self.context.board.guards(invariant);
        Attempt {
            number,
            planner,
            hash: proposal.hash.clone(),
            nonce: proposal.nonce.clone(),
            actions: proposal.actions.clone(),
            guards,
            excluded_guards,
            holder: Some(self.context.holder.clone()),
            intended_at: micro(Timestamp::now()),
            written_at: None,
            in_force_at: None,
            settled_at: None,
            result: AttemptResult::Unsettled,
            refusal: None,
            message: None,
        }
    }
}

/// A proposal that a breaker holds does not expire before that closes.
fn wait_for_breaker(proposal: &mut Proposal, brake: Option<&Brake>) {
    if let Some(Brake::Breaker(open)) = brake {
        let closes_at = micro(open.closes_at);
        proposal.expires_at = proposal.expires_at.take().max(Some(closes_at.clone()));
        proposal.breaker_closes_at = Some(closes_at);
    }
}

/// What pods read is written before they are restarted, and each workload is restarted once, however many changes ask
/// for it.
fn in_order(planned: Vec<Planned>) -> Vec<Planned> {
    let is_restart = |it: &Planned| it.record.action == Action::Restart;
    let mut ordered: Vec<Planned> = Vec::new();
    for change in planned {
        let is_repeated = is_restart(&change)
            && ordered.iter().any(|other| is_restart(other) && other.record.object == change.record.object);
        if !is_repeated {
            ordered.push(change);
        }
    }
    ordered.sort_by_key(|it| it.record.action != Action::EditConfig);
    ordered
}

/// The change with what people must know of it besides: who will read it later than others.
fn noted(change: &Change, planned: &[Planned]) -> Change {
    let notes: BTreeSet<&String> = planned.iter().flat_map(|it| &it.notes).collect();
    let why = notes.into_iter().fold(change.why.clone(), |why, note| format!("{why}; {note}"));
    Change { why, ..change.clone() }
}

/// The most parts that an attempt changes, as the definition of tickets says.
const MAX_ACTIONS: usize = 8;

fn too_many(planned: &[Planned]) -> Option<Refusal> {
    (planned.len() > MAX_ACTIONS).then(|| Refusal {
        code: "TooManyChanges",
        message: format!("{} parts would be changed in one attempt, and at most {MAX_ACTIONS} may", planned.len()),
    })
}

/// Each part of an object gets one new text in an attempt.
fn clash(planned: &[Planned]) -> Option<Refusal> {
    let part = |it: &Planned| (it.record.object.clone(), it.record.action, it.record.key.clone());
    let twice = planned.iter().enumerate().find(|(at, it)| planned[..*at].iter().any(|other| part(other) == part(it)));
    twice.map(|(_, it)| Refusal {
        code: "OneChangePerPart",
        message: format!(
            "{} of {} {} would be changed twice in one attempt",
            it.record.key, it.record.object.kind, it.record.object.name
        ),
    })
}

fn message(
    leave: Leave,
    managed_by: Option<&ManagedBy>,
    brake: Option<&Brake>,
    proposal: &Proposal,
    cause: &str,
    approval: &str,
) -> String {
    let brake = brake.map(|brake| format!("{brake}; ")).unwrap_or_default();
    match (leave, managed_by) {
        (Leave::Granted, _) => format!("{cause}; {}", proposal.why),
        (Leave::NeedsApproval | Leave::HeldByBreaker, _) => {
            format!("{brake}{cause}; a person must approve the change: harness {approval} --hash {}", proposal.hash)
        }
        (Leave::ProposeOnly, Some(tool)) => format!("{tool} manages the object and would write it back"),
        (Leave::ProposeOnly, None) => "In mode Observe the proposed change is not made".to_owned(),
    }
}

fn proposed_entry(proposal: &Proposal, leave: Leave) -> Entry {
    let outcome = match leave {
        Leave::NeedsApproval | Leave::HeldByBreaker => "proposed; a person must approve it",
        Leave::ProposeOnly | Leave::Granted => "proposed; not made",
    };
    Entry {
        summary: proposal.why.clone(),
        tool: tool(&proposal.actions).to_owned(),
        input: input(&proposal.actions),
        outcome: outcome.to_owned(),
        took: Duration::ZERO,
    }
}

/// The tool that stands for an attempt in the journal.
pub(super) fn tool(actions: &[ActionRecord]) -> &'static str {
    match actions.first().map(|it| it.action) {
        Some(Action::EditConfig) | None => "edit_config",
        Some(Action::Restart) => "restart_workload",
        Some(Action::Rollback) => "rollback_workload",
        Some(Action::Scale) => "scale_workload",
    }
}

/// What an attempt does, as the journal shows it.
pub(super) fn input(actions: &[ActionRecord]) -> Map<String, Value> {
    let changes: Vec<Value> =
        actions.iter().map(|it| json!({ "name": it.object.name, "key": it.key, "changes": it.changes })).collect();
    Map::from_iter([("edits".to_owned(), json!(changes))])
}

/// 128 random bits. Two proposals never have the same, and nobody answers one that was not made yet.
fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The line that approves it without the harness at hand. The person fills in the name.
fn approve_command(namespace: &str, ticket: &str, hash: &str, nonce: &str) -> String {
    format!(
        "kubectl -n {namespace} patch ticket {ticket} --type merge -p '{{\"spec\":{{\"approval\":{{\"decision\":\
         \"Approved\",\"by\":\"YOUR-USER-NAME\",\"nonce\":\"{nonce}\",\"proposalHash\":\"{hash}\"}}}}}}'"
    )
}
