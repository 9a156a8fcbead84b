//! The monitor brings together what a decision about one invariant needs, and starts what follows.

use super::Monitor;
use super::act::Circumstances;
use super::decide::{self, Decision, TicketAction, Urgency};
use super::starting::Before;
use super::watched::Watched;
use super::writing::{MAX_STATUS_WRITES, MAX_WRITES, look_at_target, open, resolve, write_status};
use crate::crd::{InvariantStatus, Target, Ticket};
use crate::outage::Outage;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// Why an invariant is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Something happened that concerns it.
    News,
    /// It is its turn to have its status refreshed.
    Turn,
}

/// A decision with what it was made of.
struct Decided {
    decision: Decision,
    ticket: Option<Arc<Ticket>>,
    outage: Option<Outage>,
    /// What is to be looked at before a ticket is opened.
    look: Option<Target>,
}

impl Monitor {
    /// Decides about one invariant, and starts at most one write.
    pub(super) fn reconsider(&mut self, key: &ObjectKey, occasion: Occasion) {
        self.recount(key);
        if !self.tickets_synced || self.watched.get(key).is_none_or(|watched| watched.acting) {
            return;
        }
        let Some(Decided { decision, ticket, outage, look }) = self.decide(key) else { return };
        self.recount(key);
        if decision.ticket == TicketAction::Leave && !self.writes(key, &decision.status, occasion) {
            return;
        }
        let Some(watched) = self.watched.get_mut(key) else { return };
        watched.acting = true;
        match decision.ticket {
            TicketAction::Leave if self.acting.len() >= MAX_STATUS_WRITES => {
                return self.waiting.push_back(key.clone());
            }
            TicketAction::Open | TicketAction::Resolve if self.acting.len() >= MAX_WRITES => {
                return self.waiting.push_front(key.clone());
            }
            TicketAction::Leave | TicketAction::Open | TicketAction::Resolve => {}
        }
        let (client, key) = (self.client.clone(), key.clone());
        self.acting.push(match (decision.ticket, ticket) {
            (TicketAction::Resolve, Some(ticket)) => resolve(client, key, watched, ticket),
            (TicketAction::Open, _) if let Some(target) = look => look_at_target(client, key, watched, target),
            (TicketAction::Open, _) => {
                let number = self.tickets.next_number(watched.uid());
                if outage.is_some() {
                    self.umbrellas.insert(key.clone());
                }
                open(
                    client,
                    self.analyst.clone(),
                    key,
                    watched,
                    number,
                    Circumstances { outage, flaps: decision.flaps },
                )
            }
            (TicketAction::Leave | TicketAction::Resolve, _) => write_status(client, key, watched, decision.status),
        });
    }

    fn decide(&mut self, key: &ObjectKey) -> Option<Decided> {
        let broken = self.broken_dependencies(key);
        let now = Timestamp::now();
        let watched = self.watched.get(key)?;
        let ticket = self.tickets.open_of(watched.uid()).cloned();
        let may_open = ticket.is_none() && watched.has_crossed();
        let before = self.watched.get_mut(key)?.before_opening((now, self.origin.elapsed()));
        let (starting, look) = match before {
            Before::Wait(message) => (Some(message), None),
            Before::Look(target) => (None, Some(target)),
            Before::Nothing => (None, None),
        };
        let outage =
            if may_open && starting.is_none() && look.is_none() { self.census.outage(&key.namespace) } else { None };
        let umbrella = outage.and_then(|_| self.umbrella(&key.namespace));
        // A start that is over is known by the next look.
        let waits = starting.is_some() || self.watched.get(key)?.start.is_waiting();
        let held_back = !broken.is_empty() || umbrella.is_some() || waits;
        self.watched.get_mut(key)?.prepare(held_back, ticket.as_deref());
        let guards_hold = self.guards_hold(key, ticket.as_deref());
        let cycle = self.dependencies.cycle(key).map(|cycle| &*cycle.text);
        let watched = self.watched.get(key)?;
        let input =
            watched.input(&broken, cycle, umbrella.as_deref(), starting.as_deref(), ticket.as_deref(), guards_hold);
        Some(Decided { decision: decide::decide(&input, now), ticket, outage, look })
    }

    /// Whether a status is to be written now. One that must be soon is given its turn.
    fn writes(&mut self, key: &ObjectKey, status: &InvariantStatus, occasion: Occasion) -> bool {
        let now = self.origin.elapsed();
        let Some(watched) = self.watched.get_mut(key) else { return false };
        match (watched.urgency(status), occasion) {
            (Some(Urgency::Now), _) => true,
            (Some(Urgency::Soon | Urgency::Refresh), Occasion::Turn) => {
                self.refreshes.spend(now);
                true
            }
            (Some(Urgency::Soon), Occasion::News) => {
                if !watched.written.outdated {
                    watched.written.outdated = true;
                    self.refreshes.outdated(key);
                }
                false
            }
            (Some(Urgency::Refresh), Occasion::News) | (None, _) => false,
        }
    }

    /// When the next status has its turn; `None` while too much is written anyway.
    pub(super) fn next_refresh(&self) -> Option<Duration> {
        self.refreshes.next_due().filter(|_| self.acting.len() < MAX_STATUS_WRITES)
    }

    /// Writes the statuses whose turn it is.
    pub(super) fn refresh_due(&mut self) {
        let now = self.origin.elapsed();
        while self.acting.len() < MAX_STATUS_WRITES
            && let Some((key, written_at)) = self.refreshes.take_due(now)
        {
            let Some(watched) = self.watched.get_mut(&key) else { continue };
            let is_its_turn = match written_at {
                Some(written_at) => watched.written.at == written_at,
                None => std::mem::take(&mut watched.written.outdated),
            };
            if !is_its_turn {
                continue;
            }
            if written_at.is_some() {
                // Whatever becomes of this one, there is a next one.
                watched.written.at = now;
                self.refreshes.written(&key, now);
            }
            self.reconsider(&key, Occasion::Turn);
        }
    }

    /// Keeps the count of what is broken in the namespace.
    fn recount(&mut self, key: &ObjectKey) {
        let Some(watched) = self.watched.get_mut(key) else { return };
        let standing = watched.standing();
        self.census.change(&key.namespace, watched.counted, standing);
        watched.counted = standing;
    }

    /// The ticket that stands for all of a namespace, open or being opened.
    fn umbrella(&self, namespace: &str) -> Option<String> {
        let opening =
            self.umbrellas.iter().find(|key| key.namespace == namespace).map(|key| format!("of {}", key.name));
        self.tickets.umbrella(namespace).map(|ticket| ticket.name_any()).or(opening)
    }

    /// When cycles of dependencies are looked for. Not before all invariants are known.
    pub(super) fn next_look_for_cycles(&self) -> Option<Duration> {
        self.dependencies.next_due().filter(|_| self.invariants_synced)
    }

    /// Looks for cycles where dependencies changed.
    pub(super) fn look_for_cycles(&mut self) {
        if self.invariants_synced {
            for key in self.dependencies.look(self.origin.elapsed()) {
                self.reconsider(&key, Occasion::News);
            }
        }
    }

    fn broken_dependencies(&self, key: &ObjectKey) -> Vec<String> {
        let Some(watched) = self.watched.get(key) else { return Vec::new() };
        let names = watched.invariant.spec.depends_on.iter().map(|dependency| &dependency.name);
        names
            .filter(|name| {
                if !self.dependencies.waits_for(key, name) {
                    return false;
                }
                let parent = self.watched.get(&ObjectKey::new(&key.namespace, (*name).clone()));
                parent.is_some_and(Watched::is_broken)
            })
            .cloned()
            .collect()
    }

    /// Every guard of the ticket's attempt holds now. A guard that was deleted guards nothing.
    fn guards_hold(&self, key: &ObjectKey, ticket: Option<&Ticket>) -> bool {
        let status = ticket.and_then(|ticket| ticket.status.as_ref());
        let Some(attempt) = status.and_then(|status| status.attempts.last()) else { return true };
        attempt
            .guards
            .iter()
            .all(|name| self.watched.get(&ObjectKey::new(&key.namespace, name.clone())).is_none_or(Watched::is_holding))
    }
}
