//! What the script knows of the cluster, and what it concludes from it. Pure.

use crate::crd::{Invariant, Phase, Ticket, type_};
use crate::lifecycle::ended;
use crate::tui::model::Event;
use crate::watch::{Change, ObjectKey};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// The label of revisions under which everything held.
pub const KNOWN_GOOD_LABEL: &str = "harness.dev/known-good";
/// The label of revisions that says whose they are: the name of the ConfigMap.
pub const OBJECT_LABEL: &str = "harness.dev/object";

/// The objects of the demo's namespace, by name.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    invariants: BTreeMap<String, Invariant>,
    tickets: BTreeMap<String, Ticket>,
    config: Option<ConfigMap>,
    good_revisions: BTreeMap<String, ControllerRevision>,
}

impl Situation {
    /// Takes in what a watch of the screen's feed said.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Invariant(Ok(change)) => apply(&mut self.invariants, change),
            Event::Ticket(Ok(change)) => apply(&mut self.tickets, change),
            Event::Config(Ok(Change::Applied(config))) => self.config = Some(config.clone()),
            Event::Config(Ok(Change::Deleted(_))) => self.config = None,
            Event::Config(Ok(Change::Synced) | Err(_))
            | Event::Invariant(Err(_))
            | Event::Ticket(Err(_))
            | Event::Notice(_)
            | Event::Clock(_) => {}
        }
    }

    /// Takes in what the watch of the good revisions said.
    pub fn apply_revision(&mut self, change: &Change<ControllerRevision>) {
        apply(&mut self.good_revisions, change);
    }

    /// The names of all tickets.
    pub fn ticket_names(&self) -> Vec<String> {
        self.tickets.keys().cloned().collect()
    }

    /// A ticket.
    pub fn ticket(&self, name: &str) -> Option<&Ticket> {
        self.tickets.get(name)
    }

    /// The newest ticket of this invariant that is not among `known`.
    pub fn new_ticket(&self, invariant: &str, known: &[String]) -> Option<&Ticket> {
        self.tickets
            .iter()
            .filter(|(name, ticket)| ticket.spec.invariant_ref.name == invariant && !known.contains(name))
            .map(|(_, ticket)| ticket)
            .max_by_key(|ticket| ticket.spec.opening.opened_at.0)
    }

    /// Whether all of these invariants hold, and no ticket is open.
    pub fn is_calm(&self, invariants: &[&str]) -> bool {
        let all_hold = invariants.iter().all(|name| self.invariants.get(*name).is_some_and(holds));
        all_hold && self.tickets.values().all(|ticket| ended(phase(ticket)))
    }

    /// Whether there is a good revision with exactly what the ConfigMap has now.
    pub fn has_baseline(&self) -> bool {
        let Some(config) = &self.config else { return false };
        let current = serde_json::to_value(config.data.clone().unwrap_or_default()).ok();
        self.good_revisions.values().any(|revision| {
            revision.labels().get(OBJECT_LABEL) == config.metadata.name.as_ref()
                && good_data(revision) == current.as_ref()
        })
    }

    /// The state in a few words, for whoever waited in vain.
    pub fn summary(&self) -> String {
        let broken: Vec<&str> =
            self.invariants.iter().filter(|(_, invariant)| !holds(invariant)).map(|(name, _)| name.as_str()).collect();
        let open: Vec<String> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| !ended(phase(ticket)))
            .map(|(name, ticket)| format!("{name} is {:?}", phase(ticket)))
            .collect();
        let baseline = if self.has_baseline() { "learned" } else { "not learned" };
        format!(
            "{} invariants, not holding: [{}]; open tickets: [{}]; baseline {baseline}",
            self.invariants.len(),
            broken.join(", "),
            open.join(", "),
        )
    }
}

/// Where a ticket is in its life.
pub fn phase(ticket: &Ticket) -> Phase {
    ticket.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

fn apply<K: ResourceExt + Clone>(objects: &mut BTreeMap<String, K>, change: &Change<K>) {
    match change {
        Change::Applied(object) => {
            objects.insert(object.name_any(), object.clone());
        }
        Change::Deleted(ObjectKey { name, .. }) => {
            objects.remove(name);
        }
        Change::Synced => {}
    }
}

fn holds(invariant: &Invariant) -> bool {
    let conditions = invariant.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|condition| condition.type_ == type_::HOLDING && condition.status == "True")
}

fn good_data(revision: &ControllerRevision) -> Option<&Value> {
    let labelled = revision.labels().get(KNOWN_GOOD_LABEL).is_some_and(|value| value == "true");
    if labelled { revision.data.as_ref()?.0.get("data") } else { None }
}
