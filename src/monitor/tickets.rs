//! The tickets that exist, by invariant. Pure.

use crate::crd::{Evidence, Ticket, TicketStatus};
use crate::lifecycle;
use crate::outage::UMBRELLA_LABEL;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// All tickets that were seen.
#[derive(Debug, Default)]
pub struct Tickets {
    by_key: HashMap<ObjectKey, Arc<Ticket>>,
    by_invariant: HashMap<String, BTreeSet<ObjectKey>>,
    umbrellas: BTreeSet<ObjectKey>,
    /// UIDs of tickets that are gone, the last ones.
    gone: VecDeque<String>,
}

/// So many UIDs of tickets that are gone are remembered: more than there are writes under way.
const REMEMBERED: usize = 1024;

impl Tickets {
    /// Takes a ticket as it is now. An older state than the known one, which a watch may still bring after a write of
    /// ours was answered, is passed over; so is the answer to a write that comes after the watch said that it is gone.
    pub fn put(&mut self, mut ticket: Ticket) {
        let key = ObjectKey::of(&ticket);
        if ticket.metadata.uid.as_ref().is_some_and(|uid| self.gone.contains(uid)) {
            return;
        }
        if let Some(known) = self.by_key.get(&key)
            && known.uid() == ticket.uid()
            && version(known) > version(&ticket)
        {
            return;
        }
        if ticket.labels().contains_key(UMBRELLA_LABEL) {
            self.umbrellas.insert(key.clone());
        }
        shrink(&mut ticket);
        self.by_invariant.entry(ticket.spec.invariant_ref.uid.clone()).or_default().insert(key.clone());
        self.by_key.insert(key, Arc::new(ticket));
    }

    /// Forgets a ticket that is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(ticket) = self.by_key.remove(key) else { return };
        self.umbrellas.remove(key);
        if self.gone.len() == REMEMBERED {
            self.gone.pop_front();
        }
        self.gone.extend(ticket.uid());
        let uid = &ticket.spec.invariant_ref.uid;
        if let Some(keys) = self.by_invariant.get_mut(uid) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_invariant.remove(uid);
            }
        }
    }

    /// A ticket by its key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Ticket>> {
        self.by_key.get(key)
    }

    /// The open ticket of an invariant.
    pub fn open_of(&self, invariant_uid: &str) -> Option<&Arc<Ticket>> {
        self.of(invariant_uid).find(|ticket| !lifecycle::ended(ticket.phase()))
    }

    /// The open ticket that stands for all that is broken in a namespace.
    pub fn umbrella(&self, namespace: &str) -> Option<&Arc<Ticket>> {
        let of_namespace = self.umbrellas.iter().filter(|key| key.namespace == namespace);
        of_namespace.filter_map(|key| self.by_key.get(key)).find(|ticket| !lifecycle::ended(ticket.phase()))
    }

    /// The number of the next ticket of an invariant: one more than the highest that is known.
    pub fn next_number(&self, invariant_uid: &str) -> u32 {
        let number = |ticket: &Arc<Ticket>| ticket.name_any().rsplit_once('-')?.1.parse::<u32>().ok();
        self.of(invariant_uid).filter_map(number).max().unwrap_or(0).saturating_add(1)
    }

    /// Tickets that are kept no longer: they ended before `time`, or `per_invariant` tickets of the same invariant ended
    /// after them.
    pub fn beyond(&self, time: Timestamp, per_invariant: usize) -> Vec<Arc<Ticket>> {
        let mut found = Vec::new();
        for keys in self.by_invariant.values() {
            let tickets = keys.iter().filter_map(|key| self.by_key.get(key));
            let mut ended: Vec<_> = tickets.filter_map(|ticket| Some((ended_at(ticket)?, ticket))).collect();
            ended.sort_by_key(|(ended_at, _)| std::cmp::Reverse(*ended_at));
            let beyond = ended.iter().enumerate().filter(|(rank, (at, _))| *rank >= per_invariant || *at < time);
            found.extend(beyond.map(|(_, (_, ticket))| Arc::clone(ticket)));
        }
        found
    }

    fn of(&self, invariant_uid: &str) -> impl Iterator<Item = &Arc<Ticket>> {
        self.by_invariant.get(invariant_uid).into_iter().flatten().filter_map(|key| self.by_key.get(key))
    }
}

fn ended_at(ticket: &Ticket) -> Option<Timestamp> {
    let status = ticket.status.as_ref().filter(|status| lifecycle::ended(status.phase))?;
    status.ended_at.as_ref().map(|at| at.0)
}

/// Forgets what is not asked of a ticket here: most of its evidence, and once it has ended nearly all. It is then only
/// let go, counted, and deleted in its time.
fn shrink(ticket: &mut Ticket) {
    if let Some(evidence) = &mut ticket.spec.evidence {
        *evidence = Evidence { config: std::mem::take(&mut evidence.config), ..Evidence::default() };
    }
    if lifecycle::ended(ticket.phase()) {
        ticket.spec.evidence = None;
        ticket.status = ticket.status.take().map(|status| TicketStatus {
            phase: status.phase,
            ended_at: status.ended_at,
            ..TicketStatus::default()
        });
    }
}

/// Resource versions are numbers that grow (since Kubernetes 1.35 by contract, before that in fact).
fn version(ticket: &Ticket) -> Option<u64> {
    ticket.resource_version()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ticket(number: u32, phase: &str, ended_at: Option<&str>) -> Ticket {
        serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1",
            "kind": "Ticket",
            "metadata": {
                "name": format!("api-{number}"), "namespace": "shop", "uid": format!("uid-{number}"),
                "resourceVersion": number.to_string(),
            },
            "spec": {
                "invariantRef": { "name": "api", "uid": "uid", "generation": 1 },
                "severity": "Warning", "title": "", "query": "http://api/", "condition": "== 200",
                "opening": {
                    "firstBreachAt": "2026-11-23T12:00:00.000000Z", "openedAt": "2026-11-23T12:00:00.000000Z",
                    "value": "503", "observed": "",
                },
            },
            "status": { "phase": phase, "endedAt": ended_at },
        }))
        .unwrap()
    }

    #[test]
    fn an_answer_that_comes_after_its_ticket_is_gone_does_not_bring_it_back() {
        let mut tickets = Tickets::default();
        tickets.put(ticket(1, "Open", None));
        tickets.remove(&ObjectKey::new("shop", "api-1"));
        tickets.put(ticket(1, "Open", None));
        assert!(tickets.open_of("uid").is_none());
        tickets.put(ticket(2, "Open", None));
        assert!(tickets.open_of("uid").is_some());
    }

    #[test]
    fn tickets_that_ended_long_ago_or_too_many_ago_are_kept_no_longer() {
        let mut tickets = Tickets::default();
        for (number, minute) in [(1, "01"), (2, "02"), (3, "03"), (4, "04")] {
            tickets.put(ticket(number, "Resolved", Some(&format!("2026-11-23T12:{minute}:00.000000Z"))));
        }
        tickets.put(ticket(5, "Open", None));
        let beyond = |time: &str, per_invariant| {
            let mut names: Vec<_> =
                tickets.beyond(time.parse().unwrap(), per_invariant).iter().map(|it| it.name_any()).collect();
            names.sort();
            names
        };
        assert_eq!(beyond("2026-11-23T12:02:30Z", 20), ["api-1", "api-2"]);
        assert_eq!(beyond("2026-11-23T11:00:00Z", 3), ["api-1"]);
        assert_eq!(beyond("2026-11-23T11:00:00Z", 20), Vec::<String>::new());
    }
}
