//! A planner's change on its way to the executor: judged by policy, shown in the ticket, its intent and exact texts
//! saved before anything is written.

use super::{APPROVAL_WINDOW, Incident, IncidentError};
use crate::agent::decide::Observed;
use crate::agent::executor::{micro, proposal_hash};
use crate::agent::journal::{self, Entry};
use crate::agent::planner::Change;
use crate::agent::policy::{self, Edit, Refusal};
use crate::crd::{
    ActionRecord, Attempt, AttemptResult, Invariant, ObjectReference, PlannerName, Proposal, TicketStatus,
};
use crate::document;
use crate::history::Revision;
use crate::lifecycle::{self, Effect, Event, Leave};
use crate::redact;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::{Map, json};
use std::time::Duration;

impl Incident<'_> {
    /// Takes a planner's change as far as it may go. Gives the refusals that the planner is to hear.
    pub(super) async fn offer(
        &mut self,
        observed: &Observed,
        invariant: &Invariant,
        change: &Change,
        planner: PlannerName,
    ) -> Result<Vec<Refusal>, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let mut refusals = refusals(invariant, &status, &change.edits);
        let mut objects = Vec::new();
        for edit in &change.edits {
            match self.context.executor.read(&self.key.namespace, &edit.name).await? {
                Some(object) if text(&object, &edit.key) == Some(&edit.before) => objects.push(object),
                Some(_) | None => refusals.push(stale(edit)),
            }
        }
        if !refusals.is_empty() {
            return self.refuse(observed, change, planner, refusals).await;
        }
        let managed_by = objects.iter().find_map(|it| Revision::of(it, Timestamp::now(), false).managed_by);
        let leave = policy::leave(invariant.spec.remediation.mode, managed_by.is_some());
        let number = status.attempts.last().map_or(0, |attempt| attempt.number) + 1;
        let mut actions: Vec<ActionRecord> = change.edits.iter().zip(&objects).map(|(e, o)| action(e, o)).collect();
        if leave != Leave::ProposeOnly {
            for (index, (edit, action)) in change.edits.iter().zip(&mut actions).enumerate() {
                let saved = self.context.executor.save_pre_image(&observed.ticket, number, index, edit).await?;
                action.revision = Some(saved);
            }
        }
        let proposal = self.proposal(invariant, change, actions, leave);
        let approval = format!("approve {} -n {}", self.key.name, self.key.namespace);
        let message = message(leave, managed_by, &proposal, &change.diagnosis.root_cause, &approval);
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
        Ok(Vec::new())
    }

    async fn refuse(
        &mut self,
        observed: &Observed,
        change: &Change,
        planner: PlannerName,
        refusals: Vec<Refusal>,
    ) -> Result<Vec<Refusal>, IncidentError> {
        let status = observed.ticket.status.clone().unwrap_or_default();
        let event = Event::PolicyRefused { refusals: status.refusals.saturating_add(1) };
        let reasons = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let entry = Entry {
            summary: change.why.clone(),
            tool: "edit_config",
            input: Map::new(),
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
        Ok(if gives_up { Vec::new() } else { refusals })
    }

    fn proposal(&self, invariant: &Invariant, change: &Change, actions: Vec<ActionRecord>, leave: Leave) -> Proposal {
        let now = Timestamp::now();
        let hash = proposal_hash(&change.edits);
        let awaits = leave == Leave::NeedsApproval;
        Proposal {
            why: redact::line(&change.why, 1024),
            proposed_at: micro(now),
            expires_at: awaits.then(|| micro(now.checked_add(APPROVAL_WINDOW).unwrap_or(Timestamp::MAX))),
            invariant_generation: invariant.metadata.generation.unwrap_or_default(),
            approve_command: awaits.then(|| approve_command(&self.key.namespace, &self.key.name, &hash)),
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
            actions: proposal.actions.clone(),
            guards,
            excluded_guards,
            intended_at: micro(Timestamp::now()),
            written_at: None,
            in_force_at: None,
            blind_seconds: 0,
            blind_since: None,
            settled_at: None,
            result: AttemptResult::Unsettled,
            message: None,
        }
    }
}

fn text<'a>(object: &'a ConfigMap, key: &str) -> Option<&'a String> {
    object.data.as_ref()?.get(key)
}

fn stale(edit: &Edit) -> Refusal {
    Refusal {
        code: "Stale",
        message: format!("{} of ConfigMap {} is not what the change was planned on", edit.key, edit.name),
    }
}

fn refusals(invariant: &Invariant, status: &TicketStatus, edits: &[Edit]) -> Vec<Refusal> {
    let allow = &invariant.spec.remediation.allow;
    let mut refusals: Vec<Refusal> = edits.iter().filter_map(|edit| policy::judge(allow, edit).err()).collect();
    if status.declined_hashes.contains(&proposal_hash(edits)) {
        let message = "a person said no to this very change, or did not answer".to_owned();
        refusals.push(Refusal { code: "DeclinedBefore", message });
    }
    refusals
}

fn action(edit: &Edit, object: &ConfigMap) -> ActionRecord {
    ActionRecord {
        object: ObjectReference {
            kind: "ConfigMap".to_owned(),
            name: edit.name.clone(),
            uid: object.uid().unwrap_or_default(),
        },
        key: edit.key.clone(),
        resource_version: object.resource_version().unwrap_or_default(),
        diff: redact::diff(&edit.before, &edit.after, 4096),
        changes: redact::changes(&edit.before, &edit.after),
        before_digest: document::digest(&edit.before),
        after_digest: document::digest(&edit.after),
        revision: None,
        written_resource_version: None,
    }
}

fn message(leave: Leave, managed_by: Option<&str>, proposal: &Proposal, cause: &str, approval: &str) -> String {
    match (leave, managed_by) {
        (Leave::Granted, _) => format!("{cause}; {}", proposal.why),
        (Leave::NeedsApproval, _) => {
            format!("{cause}; a person must approve the change: harness {approval} --hash {}", proposal.hash)
        }
        (Leave::ProposeOnly, Some(tool)) => {
            format!("{cause}; the object is managed by {tool}, which would write it back: change it at its source")
        }
        (Leave::ProposeOnly, None) => format!("{cause}; mode Observe: the proposed change is not made"),
    }
}

fn proposed_entry(proposal: &Proposal, leave: Leave) -> Entry {
    let edits: Vec<_> = proposal
        .actions
        .iter()
        .map(|it| json!({ "name": it.object.name, "key": it.key, "changes": it.changes }))
        .collect();
    let outcome = match leave {
        Leave::NeedsApproval => "proposed; a person must approve it",
        Leave::ProposeOnly | Leave::Granted => "proposed; not made",
    };
    Entry {
        summary: proposal.why.clone(),
        tool: "edit_config",
        input: Map::from_iter([("edits".to_owned(), json!(edits))]),
        outcome: outcome.to_owned(),
        took: Duration::ZERO,
    }
}

/// The line that approves it without the harness at hand. The shell fills in the time, the person the name.
fn approve_command(namespace: &str, ticket: &str, hash: &str) -> String {
    format!(
        "kubectl -n {namespace} patch ticket {ticket} --type merge -p '{{\"spec\":{{\"approval\":{{\"decision\":\
         \"Approved\",\"by\":\"YOUR-USER-NAME\",\"at\":\"'\"$(date -u +%FT%TZ)\"'\",\"proposalHash\":\"{hash}\"}}}}}}'"
    )
}
