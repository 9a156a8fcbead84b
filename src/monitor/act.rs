//! The monitor's writes. They obey a decision and decide nothing themselves.

use super::analyst::{self, Analyst};
use super::decide::generation;
use super::flapping;
use super::others;
use super::record::Record;
use crate::crd::{
    AttemptResult, Invariant, InvariantReference, InvariantStatus, Opening, Phase, Ticket, TicketSpec, TicketStatus,
    UNSETTLED_FINALIZER,
};
use crate::journal::{self, Entry};
use crate::ledger::{self, Told};
use crate::lifecycle::{self, Effect, Event, Transition};
use crate::outage::{Outage, UMBRELLA_LABEL};
use crate::{question, redact};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The monitor's field manager.
pub const FIELD_MANAGER: &str = "harness-monitor";

/// A write that was not done. All are tried again when the next sample or change comes.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The status of an invariant.
    #[error("the status of invariant {name} cannot be written: {source}")]
    WriteStatus {
        /// The invariant.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A new ticket.
    #[error("a ticket for invariant {name} cannot be opened: {source}")]
    OpenTicket {
        /// The invariant.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// A change of a ticket.
    #[error("ticket {name} cannot be changed: {source}")]
    ChangeTicket {
        /// The ticket.
        name: String,
        /// Why.
        source: kube::Error,
    },
    /// The harness itself broke down over it.
    #[error("the harness broke down over a write, which is a defect: {0}")]
    BrokeDown(String),
}

impl ActError {
    /// Somebody else wrote first: nothing is wrong, the next look decides again.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::WriteStatus { source, .. } | Self::OpenTicket { source, .. } | Self::ChangeTicket { source, .. } => {
                ledger::is_conflict(source)
            }
            Self::BrokeDown(_) => false,
        }
    }
}

/// Writes the status of an invariant, which the monitor alone owns.
pub async fn write_status(client: &Client, invariant: &Invariant, status: &InvariantStatus) -> Result<(), ActError> {
    let name = invariant.name_any();
    let object = Applied {
        api_version: Invariant::api_version(&()),
        kind: Invariant::kind(&()),
        // The UID keeps this from making a status for another invariant of the same name.
        metadata: ObjectMeta { name: Some(name.clone()), uid: invariant.uid(), ..ObjectMeta::default() },
        status,
    };
    let resource = Invariant::url_path(&(), invariant.namespace().as_deref());
    let request = Request::new(resource)
        .patch_subresource("status", &name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object))
        .map_err(kube::Error::BuildRequest);
    let written = async {
        // The answer repeats all that is known here: it is not taken apart.
        client.request::<IgnoredAny>(request?).await
    };
    written.await.map(|_| ()).map_err(|source| ActError::WriteStatus { name, source })
}

/// What is applied of an invariant.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied<'a> {
    api_version: Cow<'a, str>,
    kind: Cow<'a, str>,
    metadata: ObjectMeta,
    status: &'a InvariantStatus,
}

/// What a new ticket stands for besides one breach.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// All that is broken in the namespace.
    pub outage: Option<Outage>,
    /// A row of breaches that heal by themselves.
    pub flaps: bool,
}

/// Opens the ticket `INVARIANT-N`, with N not below `number`. An open ticket of the same invariant that has the name
/// already is adopted: it was opened by a predecessor, or by ourselves before the answer was lost.
pub async fn open_ticket(
    client: &Client,
    analyst: &Analyst,
    invariant: &Invariant,
    record: &Record,
    mut number: u32,
    Circumstances { outage, flaps }: Circumstances,
) -> Result<Ticket, ActError> {
    let failed = |source| ActError::OpenTicket { name: invariant.name_any(), source };
    let api: Api<Ticket> = Api::namespaced(client.clone(), &invariant.namespace().unwrap_or_default());
    let mut spec = ticket_spec(analyst, invariant, record).await;
    if let Some(outage) = outage {
        spec.title = redact::line(&format!("{outage}; first seen: {}", spec.title), 256);
    }
    if flaps {
        spec.title = redact::line(&format!("{} (flapping: it heals by itself and breaks again)", spec.title), 256);
    }
    let labels = outage.map(|_| BTreeMap::from([(UMBRELLA_LABEL.to_owned(), "true".to_owned())]));
    let created = loop {
        let name = format!("{}-{number}", invariant.name_any());
        let ticket = Ticket {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: labels.clone(),
                finalizers: Some(vec![UNSETTLED_FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec: spec.clone(),
            status: None,
        };
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match api.create(&parameters, &ticket).await {
            Ok(ticket) => break ticket,
            Err(kube::Error::Api(response)) if response.is_already_exists() => {
                if let Some(existing) = api.get_opt(&name).await.map_err(failed)?.filter(|it| adoptable(it, invariant))
                {
                    return Ok(existing);
                }
                number += 1;
            }
            Err(source) => return Err(failed(source)),
        }
    };
    let (reason, message) =
        if flaps { ("Flapping", flapping::message()) } else { ("ThresholdCrossed", created.spec.title.clone()) };
    let transition = Transition { phase: Phase::Open, reason: Some(reason), outcome: None, effect: Effect::None };
    let told = Told { happened: &message, ..Told::default() };
    match write_transition(client, &created, transition, told, |_| ()).await {
        Ok(ticket) => Ok(ticket),
        // The agent was faster, or will be: an absent status is Open. A ticket that is gone already is an error.
        Err(ActError::ChangeTicket { source: kube::Error::Api(status), .. }) if status.is_conflict() => Ok(created),
        Err(error) => Err(error),
    }
}

fn adoptable(ticket: &Ticket, invariant: &Invariant) -> bool {
    let phase = ticket.phase();
    Some(&ticket.spec.invariant_ref.uid) == invariant.uid().as_ref() && !lifecycle::ended(phase)
}

async fn ticket_spec(analyst: &Analyst, invariant: &Invariant, record: &Record) -> TicketSpec {
    let now = Timestamp::now();
    let last = record.last.as_ref();
    TicketSpec {
        invariant_ref: InvariantReference {
            name: invariant.name_any(),
            uid: invariant.uid().unwrap_or_default(),
            generation: generation(invariant),
        },
        target_ref: invariant.spec.target_ref.clone(),
        severity: invariant.spec.severity,
        title: analyst::title(invariant, record),
        query: invariant.spec.query.clone(),
        condition: invariant.spec.condition.clone(),
        opening: Opening {
            first_breach_at: MicroTime(record.first_breach_at.unwrap_or(now)),
            opened_at: MicroTime(now),
            value: last.map(|last| last.reading.to_string()).unwrap_or_default(),
            observed: last
                .and_then(|last| last.findings.as_ref())
                .map(|findings| findings.observed.clone())
                .unwrap_or_default(),
        },
        evidence: Some(analyst.evidence(invariant, record).await),
        approval: None,
    }
}

/// Resolves a ticket whose invariant holds.
pub async fn resolve_ticket(client: &Client, ticket: &Ticket, invariant: &Invariant) -> Result<Ticket, ActError> {
    let status = ticket.status.clone().unwrap_or_default();
    let made_for = status.proposal.as_ref().map(|proposal| proposal.invariant_generation);
    let asks_otherwise = || question::digest_of_ticket(ticket) != question::digest(&invariant.spec);
    let others = others::wrote_since(client, ticket).await;
    let event = Event::Holds {
        others_wrote: !others.is_empty(),
        invariant_edited: made_for.is_some_and(|made_for| made_for != generation(invariant)) && asks_otherwise(),
    };
    let transition = lifecycle::next(status.phase, event);
    let message = format!("{} {} holds again", invariant.spec.query, invariant.spec.condition);
    let told = Told { happened: &message, others: &others, next: None };
    write_transition(client, ticket, transition, told, |status| {
        if let Some(attempt) = status.attempts.last_mut().filter(|it| it.result == AttemptResult::Unsettled) {
            let now = Timestamp::now();
            let took = attempt.in_force_at.as_ref().map(|at| now.duration_since(at.0));
            attempt.result = AttemptResult::Verified;
            attempt.settled_at = Some(MicroTime(now));
            journal::push(status, verification(invariant, took.unwrap_or_default()), now);
        }
    })
    .await
}

/// The last step of a repair: the monitor's word.
fn verification(invariant: &Invariant, took: jiff::SignedDuration) -> Entry {
    Entry {
        summary: "Verifying that the invariant holds again".to_owned(),
        tool: "verify".to_owned(),
        input: Map::from_iter([("invariant".to_owned(), Value::from(invariant.name_any()))]),
        outcome: format!("it holds: {} {}", invariant.spec.query, invariant.spec.condition),
        took: took.unsigned_abs(),
    }
}

/// Lets go of a ticket that has no unsettled attempt; gives it as it is then.
pub async fn remove_finalizer(client: &Client, ticket: &Ticket) -> Result<Ticket, ActError> {
    let failed = |source| ActError::ChangeTicket { name: ticket.name_any(), source };
    let api: Api<Ticket> = Api::namespaced(client.clone(), &ticket.namespace().unwrap_or_default());
    let kept: Vec<_> = ticket.finalizers().iter().filter(|it| *it != UNSETTLED_FINALIZER).collect();
    let patch = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": ticket.resource_version() },
        { "op": "replace", "path": "/metadata/finalizers", "value": kept },
    ]);
    let patch: Patch<()> =
        Patch::Json(serde_json::from_value(patch).map_err(|error| failed(kube::Error::SerdeError(error)))?);
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(&ticket.name_any(), &parameters, &patch).await.map_err(failed)
}

/// Deletes a ticket whose time is over, if it is still the one that was looked at.
pub async fn delete_ticket(client: &Client, ticket: &Ticket) -> Result<(), ActError> {
    let api: Api<Ticket> = Api::namespaced(client.clone(), &ticket.namespace().unwrap_or_default());
    let preconditions = kube::api::Preconditions { uid: ticket.uid(), resource_version: ticket.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let name = ticket.name_any();
    api.delete(&name, &parameters).await.map(|_| ()).map_err(|source| ActError::ChangeTicket { name, source })
}

/// Writes a transition into a ticket's status.
async fn write_transition(
    client: &Client,
    ticket: &Ticket,
    transition: Transition,
    told: Told<'_>,
    edit: impl FnOnce(&mut TicketStatus),
) -> Result<Ticket, ActError> {
    ledger::record(client, FIELD_MANAGER, ticket, transition, told, edit)
        .await
        .map_err(|source| ActError::ChangeTicket { name: ticket.name_any(), source })
}
