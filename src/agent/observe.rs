//! Looks at everything that counts for one incident.
//!
//! Touches the world by reading: the ticket, its invariant, the namespace, and the objects of the last attempt, each
//! fresh from the API server, because what follows may be a write. Only while it reads, an incident goes on with the
//! ticket as its own last write gave it: what follows then is a write of the ticket, which a newer version refuses.

use super::Context;
use super::baseline::holds_now;
use super::board;
use super::decide::{Facts, Observed, cooldown_until};
use super::executor::{FIELD_MANAGER, Marks, TargetState, brought_back, by_object, is_as_planned, target_state};
use super::incident::objects;
use crate::crd::{
    ActionRecord, Attempt, Invariant, ObjectReference, Phase, PlannerName, SUSPEND_ANNOTATION, Ticket, TicketStatus,
    VerdictName,
};
use crate::gitops;
use crate::lifecycle;
use crate::redact;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The incident as it is now; `None` once the ticket is gone. `written` is the ticket as this incident wrote it a moment
/// ago.
pub async fn observe(
    context: &Context,
    key: &ObjectKey,
    written: Option<Ticket>,
) -> Result<Option<Observed>, kube::Error> {
    let _turn = context.looks.acquire().await;
    let tickets: Api<Ticket> = Api::namespaced(context.client.clone(), &key.namespace);
    let ticket = match written.filter(|ticket| ticket.phase() == Phase::Diagnosing) {
        Some(ticket) => ticket,
        None => match tickets.get_opt(&key.name).await? {
            Some(ticket) => ticket,
            None => return Ok(None),
        },
    };
    let status = ticket.status.clone().unwrap_or_default();
    let Standing { invariant, suspended } =
        if lifecycle::ended(status.phase) { Standing::default() } else { standing(context, &ticket).await? };
    let facts = match &invariant {
        _ if lifecycle::ended(status.phase) => Facts::default(),
        Some(invariant) => facts(context, &ticket, &status, invariant, suspended).await?,
        // What is left to know is whether an unsettled attempt was written.
        None => {
            let Became { targets, other_writes, brought_back: _ } = targets(context, &ticket, &status).await?;
            Facts { targets, other_writes, ..Facts::default() }
        }
    };
    Ok(Some(Observed { ticket: Arc::new(ticket), invariant, facts }))
}

/// What is granted at this moment.
#[derive(Debug, Default)]
pub struct Standing {
    /// The invariant; `None` once it was deleted, or replaced by another of the same name.
    pub invariant: Option<Arc<Invariant>>,
    /// All writes to targets are stopped.
    pub suspended: bool,
}

/// Reads what is granted, afresh. Right before a write, because people take back what they gave, and planners take their
/// time.
pub async fn standing(context: &Context, ticket: &Ticket) -> Result<Standing, kube::Error> {
    let namespace = ticket.namespace().unwrap_or_default();
    let (invariant, in_namespace) =
        tokio::try_join!(invariant(context, ticket), is_namespace_suspended(context, &namespace))?;
    let of_invariant = invariant.as_ref().is_some_and(|it| says_so(it.annotations()));
    Ok(Standing { invariant, suspended: context.settings.suspended || in_namespace || of_invariant })
}

async fn invariant(context: &Context, ticket: &Ticket) -> Result<Option<Arc<Invariant>>, kube::Error> {
    let namespace = ticket.namespace().unwrap_or_default();
    let api: Api<Invariant> = Api::namespaced(context.client.clone(), &namespace);
    let found = api.get_opt(&ticket.spec.invariant_ref.name).await?;
    let same = |it: &Invariant| it.uid().as_deref() == Some(&ticket.spec.invariant_ref.uid);
    Ok(found.filter(|it| same(it) && it.metadata.deletion_timestamp.is_none()).map(Arc::new))
}

async fn facts(
    context: &Context,
    ticket: &Ticket,
    status: &TicketStatus,
    invariant: &Arc<Invariant>,
    suspended: bool,
) -> Result<Facts, kube::Error> {
    let namespace = ticket.namespace().unwrap_or_default();
    let Became { targets, other_writes, brought_back } = targets(context, ticket, status).await?;
    Ok(Facts {
        suspended,
        outage: context.board.outage(&namespace),
        broken_dependencies: context.board.broken_dependencies(invariant),
        answers_well: answers_well(context, ticket, status, invariant).await,
        cooldown_until: cooldown_until(context.board.earlier_attempts(ticket).iter(), invariant),
        targets,
        other_writes,
        brought_back,
        in_force_from: in_force_from(context, ticket, status).await?,
        // Whoever looks again and again knows.
        rollout_watched: Duration::ZERO,
        regressed_guards: regressed_guards(context, &namespace, status),
        blind: is_blind(invariant),
        object_changed: object_changed(context, &namespace, status).await?,
    })
}

async fn is_namespace_suspended(context: &Context, namespace: &str) -> Result<bool, kube::Error> {
    let found = Api::<Namespace>::all(context.client.clone()).get_opt(namespace).await?;
    Ok(found.is_some_and(|it| says_so(it.annotations())))
}

fn says_so(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(SUSPEND_ANNOTATION).is_some_and(|value| value == "true")
}

/// A ticket that waited for another's repair looks for itself, once the target is free, before it is taken up: else it
/// would be diagnosed in the moment between the repair and the monitor's next sample.
async fn answers_well(context: &Context, ticket: &Ticket, status: &TicketStatus, invariant: &Arc<Invariant>) -> bool {
    let waited = matches!(status.reason.as_deref(), Some("WaitingForTarget" | "AwaitingVerdict"));
    let free = context.claims.is_free(&ObjectKey::of(ticket), &objects(invariant));
    status.phase == Phase::Open && waited && free && holds_now(&context.prober, std::slice::from_ref(invariant)).await
}

/// The guards of the last attempt that broke since its change is in force.
fn regressed_guards(context: &Context, namespace: &str, status: &TicketStatus) -> Vec<String> {
    let in_force = status.attempts.last().and_then(|attempt| Some((attempt, attempt.in_force_at.as_ref()?)));
    in_force.map_or_else(Vec::new, |(attempt, since)| {
        context.board.regressed(namespace, attempt.guards.iter().map(String::as_str), since.0)
    })
}

/// The last sample could not be asked, for a reason on the harness's own side.
fn is_blind(invariant: &Invariant) -> bool {
    board::verdict(invariant) == Some(VerdictName::Unknown) && board::holding(invariant) == Some("Unknown")
}

fn unsettled(status: &TicketStatus) -> Option<&Attempt> {
    status.attempts.last().filter(|_| lifecycle::unsettled(status.phase))
}

/// What became of the parts that the last attempt changes.
#[derive(Default)]
struct Became {
    /// In the order of its actions.
    targets: Vec<TargetState>,
    /// What others wrote to them.
    other_writes: Vec<String>,
    /// Who brought the fault back instead of its change.
    brought_back: Option<String>,
}

/// Looks at them.
async fn targets(context: &Context, ticket: &Ticket, status: &TicketStatus) -> Result<Became, kube::Error> {
    let namespace = ticket.namespace().unwrap_or_default();
    let Some(attempt) = unsettled(status) else { return Ok(Became::default()) };
    let marks = Marks::of(ticket, attempt.number);
    let objects = objects_of(context, &namespace, &attempt.actions).await?;
    let state = |it: &ActionRecord| target_state(objects.get(&it.object), it, &marks);
    let targets: Vec<TargetState> = attempt.actions.iter().map(state).collect();
    let foreign = || attempt.actions.iter().zip(&targets).filter(|(_, state)| **state == TargetState::Foreign);
    let other_writes = foreign().filter_map(|(it, _)| other_write(objects.get(&it.object)?, it)).collect();
    // Whatever else a model changed may still have to be undone.
    let all_foreign = targets.iter().all(|it| *it == TargetState::Foreign);
    let counts = status.phase == Phase::Verifying && (all_foreign || attempt.planner == PlannerName::LastKnownGood);
    let mut again = foreign().filter_map(|(it, _)| brought_back(objects.get(&it.object)?, it));
    let brought_back = if counts { again.next() } else { None };
    Ok(Became { targets, other_writes, brought_back })
}

/// Who besides the harness owns the part that an action changes, by the API server's account.
fn other_write(object: &DynamicObject, action: &ActionRecord) -> Option<String> {
    let others = object.managed_fields().iter().filter(|it| it.manager.as_deref() != Some(FIELD_MANAGER));
    let owners = others.filter(|it| gitops::owns(it, action.action, &action.key));
    let last = owners.max_by_key(|it| it.time.as_ref().map(|time| time.0))?;
    let by = redact::line(last.manager.as_deref()?, 128);
    let at = last.time.as_ref().map(|time| format!(" at {:.0}", time.0)).unwrap_or_default();
    Some(format!("{by} wrote {} of {} {}{at}", action.key, action.object.kind, action.object.name))
}

/// The objects of these actions that exist, each read once.
async fn objects_of<'a>(
    context: &Context,
    namespace: &str,
    actions: &'a [ActionRecord],
) -> Result<HashMap<&'a ObjectReference, DynamicObject>, kube::Error> {
    let mut found = HashMap::new();
    for change in by_object(actions) {
        if let Some(object) = context.executor.read(namespace, &change.object.kind, &change.object.name).await? {
            found.insert(change.object, object);
        }
    }
    Ok(found)
}

/// From when on the last attempt's change is in force in every pod.
async fn in_force_from(
    context: &Context,
    ticket: &Ticket,
    status: &TicketStatus,
) -> Result<Option<Timestamp>, kube::Error> {
    let waiting = unsettled(status).filter(|it| status.phase == Phase::Verifying && it.in_force_at.is_none());
    let Some(attempt) = waiting else { return Ok(None) };
    let written_at = attempt.written_at.as_ref().map_or_else(Timestamp::now, |at| at.0);
    let marks = Marks::of(ticket, attempt.number);
    let mut latest = written_at;
    for action in &attempt.actions {
        let namespace = ticket.namespace().unwrap_or_default();
        match context.executor.in_force_from(&namespace, action, &marks.written, written_at).await? {
            Some(from) => latest = latest.max(from),
            // A rollout is under way.
            None => return Ok(None),
        }
    }
    Ok(Some(latest))
}

/// Whether a part that the proposal was made for is not as it was.
async fn object_changed(context: &Context, namespace: &str, status: &TicketStatus) -> Result<bool, kube::Error> {
    let proposal = status.proposal.as_ref().filter(|_| status.phase == Phase::AwaitingApproval);
    let actions = proposal.map_or(&[][..], |proposal| &proposal.actions);
    let objects = objects_of(context, namespace, actions).await?;
    Ok(!actions.iter().all(|action| is_as_planned(objects.get(&action.object), action)))
}
