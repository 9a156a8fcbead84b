//! What the script knows of the cluster, and what it concludes from it. Pure.

use crate::agent::baseline::{KNOWN_GOOD_LABEL, OBJECT_LABEL};
use crate::crd::{Invariant, Ticket, type_};
use crate::lifecycle::ended;
use crate::tui::model::Event;
use crate::watch::{Change, ObjectKey};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::Value;
use std::collections::BTreeMap;

/// The objects of the demo's namespace, by name.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    invariants: BTreeMap<String, Invariant>,
    tickets: BTreeMap<String, Ticket>,
    /// Every ticket that exists was seen.
    tickets_synced: bool,
    config: Option<ConfigMap>,
    good_revisions: BTreeMap<String, ControllerRevision>,
}

impl Situation {
    /// Takes in what a watch of the screen's feed said.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Invariant(Ok(change)) => apply(&mut self.invariants, change),
            Event::Ticket(Ok(change)) => {
                apply(&mut self.tickets, change);
                self.tickets_synced |= matches!(change, Change::Synced);
            }
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

    /// Whether all of these invariants hold, and none of them has an open ticket.
    pub fn is_calm(&self, invariants: &[&str]) -> bool {
        let all_hold = invariants.iter().all(|name| self.invariants.get(*name).is_some_and(holds));
        let is_open =
            |ticket: &Ticket| invariants.contains(&ticket.spec.invariant_ref.name.as_str()) && !ended(ticket.phase());
        self.tickets_synced && all_hold && !self.tickets.values().any(is_open)
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
            .filter(|(_, ticket)| !ended(ticket.phase()))
            .map(|(name, ticket)| format!("{name} is {:?}", ticket.phase()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn invariant(name: &str, holds: &str) -> Event {
        let invariant = serde_json::from_value(json!({
            "metadata": { "name": name }, "spec": { "query": "http://a/", "condition": "== 200" },
            "status": { "conditions": [{
                "type": "Holding", "status": holds, "reason": "x", "message": "",
                "lastTransitionTime": "2026-11-18T12:00:00Z",
            }]},
        }));
        Event::Invariant(Ok(Change::Applied(invariant.unwrap())))
    }

    fn ticket(name: &str, invariant: &str, phase: &str) -> Event {
        let time = "2026-11-18T12:00:00.000000Z";
        let ticket = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": {
                "invariantRef": { "name": invariant, "uid": "u", "generation": 1 },
                "severity": "Critical", "title": "t", "query": "q", "condition": "c",
                "opening": { "firstBreachAt": time, "openedAt": time, "value": "v", "observed": "o" },
            },
            "status": { "phase": phase },
        }));
        Event::Ticket(Ok(Change::Applied(ticket.unwrap())))
    }

    fn situation(events: &[Event]) -> Situation {
        let mut situation = Situation::default();
        for event in events {
            situation.apply(event);
        }
        situation
    }

    fn synced() -> Event {
        Event::Ticket(Ok(Change::Synced))
    }

    #[test]
    fn it_is_not_calm_before_all_tickets_are_known() {
        let mut situation = situation(&[invariant("a", "True")]);
        assert!(!situation.is_calm(&["a"]));
        situation.apply(&synced());
        assert!(situation.is_calm(&["a"]));
        assert!(!situation.is_calm(&["a", "b"]), "an invariant that was not seen does not hold");
    }

    #[test]
    fn an_escalated_ticket_is_open_and_a_resolved_one_is_not() {
        let mut situation = situation(&[synced(), invariant("a", "True"), ticket("t", "a", "Escalated")]);
        assert!(!situation.is_calm(&["a"]));
        situation.apply(&ticket("t", "a", "Resolved"));
        assert!(situation.is_calm(&["a"]));
        situation.apply(&ticket("u", "elsewhere", "Open"));
        assert!(situation.is_calm(&["a"]), "others' tickets do not matter");
    }

    #[test]
    fn a_ticket_from_before_is_not_the_new_one() {
        let situation = situation(&[ticket("old", "a", "Resolved"), ticket("other", "b", "Open")]);
        assert!(situation.new_ticket("a", &situation.ticket_names()).is_none());
        assert!(situation.new_ticket("a", &[]).is_some());
    }

    #[test]
    fn the_baseline_is_a_good_revision_with_what_the_config_map_has_now() {
        let config = |text: &str| {
            let config = json!({ "metadata": { "name": "config" }, "data": { "key": text } });
            Event::Config(Ok(Change::Applied(serde_json::from_value(config).unwrap())))
        };
        let mut situation = situation(&[config("good")]);
        let revision = json!({
            "metadata": { "name": "r", "labels": { KNOWN_GOOD_LABEL: "true", OBJECT_LABEL: "config" } },
            "revision": 1, "data": { "resourceVersion": "7", "data": { "key": "good" } },
        });
        assert!(!situation.has_baseline());
        situation.apply_revision(&Change::Applied(serde_json::from_value(revision).unwrap()));
        assert!(situation.has_baseline());
        situation.apply(&config("other"));
        assert!(!situation.has_baseline());
    }
}
