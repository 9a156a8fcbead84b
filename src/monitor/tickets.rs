//! The tickets that exist, by invariant. Pure.

use crate::crd::Ticket;
use crate::lifecycle;
use crate::outage::UMBRELLA_LABEL;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// All tickets that were seen.
#[derive(Debug, Default)]
pub struct Tickets {
    by_key: HashMap<ObjectKey, Arc<Ticket>>,
    by_invariant: HashMap<String, BTreeSet<ObjectKey>>,
}

impl Tickets {
    /// Takes a ticket as it is now. An older state than the known one, which a watch may still bring after a write of
    /// ours was answered, is passed over.
    pub fn put(&mut self, ticket: Ticket) {
        let key = ObjectKey::of(&ticket);
        if let Some(known) = self.by_key.get(&key)
            && known.uid() == ticket.uid()
            && version(known) > version(&ticket)
        {
            return;
        }
        self.by_invariant.entry(ticket.spec.invariant_ref.uid.clone()).or_default().insert(key.clone());
        self.by_key.insert(key, Arc::new(ticket));
    }

    /// Forgets a ticket that is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(ticket) = self.by_key.remove(key) else { return };
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
        let mut open = self.by_key.values().filter(|ticket| !lifecycle::ended(ticket.phase()));
        open.find(|it| it.namespace().as_deref() == Some(namespace) && it.labels().contains_key(UMBRELLA_LABEL))
    }

    /// The number of the next ticket of an invariant: one more than the highest that is known.
    pub fn next_number(&self, invariant_uid: &str) -> u32 {
        let number = |ticket: &Arc<Ticket>| ticket.name_any().rsplit_once('-')?.1.parse::<u32>().ok();
        self.of(invariant_uid).filter_map(number).max().unwrap_or(0).saturating_add(1)
    }

    /// Tickets that ended before `time`.
    pub fn ended_before(&self, time: Timestamp) -> impl Iterator<Item = &Arc<Ticket>> {
        self.by_key.values().filter(move |ticket| {
            let ended_at = ticket.status.as_ref().and_then(|status| status.ended_at.as_ref());
            lifecycle::ended(ticket.phase()) && ended_at.is_some_and(|ended_at| ended_at.0 < time)
        })
    }

    fn of(&self, invariant_uid: &str) -> impl Iterator<Item = &Arc<Ticket>> {
        self.by_invariant.get(invariant_uid).into_iter().flatten().filter_map(|key| self.by_key.get(key))
    }
}

/// Resource versions are numbers that grow (since Kubernetes 1.35 by contract, before that in fact).
fn version(ticket: &Ticket) -> Option<u64> {
    ticket.resource_version()?.parse().ok()
}
