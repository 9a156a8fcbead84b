//! What the screen knows: a value that each event changes. No I/O, no clock.
//!
//! Everything that comes from the cluster is made safe and short here, so that the view need not care.

mod incident;
mod invariant;
mod service;

pub use incident::{Incident, PhaseChange, StepLine};
pub use invariant::{InvariantRow, SampleBar, State};
pub use service::{ConfigState, Service};

use super::text::plain;
use crate::crd::{Invariant, Ticket};
use crate::injection::ConfigKey;
use crate::watch::{Change, ObjectKey};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeMap;

/// Incidents kept; older ones that ended are forgotten first.
const KEPT_INCIDENTS: usize = 50;
/// How long the answer to a key is shown.
const NOTICE_SHOWN: SignedDuration = SignedDuration::from_secs(8);

/// Which cluster is shown, and how to look at it from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The server's version, such as `v1.36.3`.
    pub version: String,
    /// The name of the context.
    pub context: String,
    /// The start of a kubectl command line that reaches this cluster, such as `kubectl --kubeconfig /tmp/k`.
    pub kubectl: String,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The namespace of the invariants and tickets; `None` is all namespaces.
    pub namespace: Option<String>,
    /// The service's configuration: what the chaos keys change.
    pub config: ConfigKey,
    /// How long everything must hold before the current configuration counts as good; `None` where this is not known.
    pub good_after: Option<SignedDuration>,
}

/// What can happen to the screen.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and only for a moment")]
pub enum Event {
    /// The watch of the invariants said something.
    Invariant(Update<Invariant>),
    /// The watch of the tickets said something.
    Ticket(Update<Ticket>),
    /// The watch of the service's ConfigMap said something.
    Config(Update<ConfigMap>),
    /// A sentence for the person at the keys: what became of what they asked for.
    Notice(String),
    /// Time passed.
    Clock(Timestamp),
}

/// What a watch said: a change, or why it is interrupted.
pub type Update<K> = Result<Change<K>, String>;

/// The three things that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The invariants.
    Invariants,
    /// The tickets.
    Tickets,
    /// The service's ConfigMap.
    Config,
}

/// Whether there is a configuration to return to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// How long everything must hold is not known here.
    NotShown,
    /// Everything has held for this long of the time that it takes.
    Learning {
        /// So far.
        held: SignedDuration,
        /// In all.
        needed: SignedDuration,
    },
    /// Everything held long enough once.
    Learned,
}

/// The answer to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it says.
    pub text: String,
    /// Since when it is shown.
    pub since: Timestamp,
}

/// What the screen knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Which cluster is shown.
    pub cluster: Cluster,
    /// What of it is shown.
    pub scope: Scope,
    /// The service, by its configuration.
    pub service: Service,
    /// The invariants, by name.
    pub invariants: BTreeMap<ObjectKey, InvariantRow>,
    /// The tickets, oldest first.
    pub incidents: Vec<Incident>,
    /// Watches that are interrupted, with the reason: what is shown of these may be out of date.
    pub interrupted: BTreeMap<Source, String>,
    /// The last answer to a key, for a few seconds.
    pub notice: Option<Notice>,
    /// Whether there is a configuration to return to.
    pub baseline: Baseline,
    /// The time that is shown.
    pub now: Timestamp,
}

impl Model {
    /// Knows nothing of the cluster yet.
    pub fn new(cluster: Cluster, scope: Scope, now: Timestamp) -> Self {
        let baseline = scope.good_after.map_or(Baseline::NotShown, learning_from_start);
        Self {
            cluster,
            scope,
            service: Service::Unseen,
            invariants: BTreeMap::new(),
            incidents: Vec::new(),
            interrupted: BTreeMap::new(),
            notice: None,
            baseline,
            now,
        }
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Invariant(update) => {
                if let Some(change) = self.change(Source::Invariants, update) {
                    self.apply_invariant(change);
                }
            }
            Event::Ticket(update) => {
                if let Some(change) = self.change(Source::Tickets, update) {
                    self.apply_ticket(change);
                }
            }
            Event::Config(update) => {
                if let Some(change) = self.change(Source::Config, update) {
                    self.apply_config(change);
                }
            }
            Event::Notice(text) => self.notice = Some(Notice { text: plain(&text, 200), since: self.now }),
            Event::Clock(now) => {
                self.now = now;
                self.notice.take_if(|notice| now.duration_since(notice.since) >= NOTICE_SHOWN);
            }
        }
        self.baseline = self.next_baseline();
    }

    fn change<K>(&mut self, source: Source, update: Update<K>) -> Option<Change<K>> {
        match update {
            Ok(change) => {
                self.interrupted.remove(&source);
                Some(change)
            }
            Err(reason) => {
                self.interrupted.insert(source, plain(&reason, 200));
                None
            }
        }
    }

    fn apply_invariant(&mut self, change: Change<Invariant>) {
        match change {
            Change::Applied(invariant) => {
                self.invariants.insert(ObjectKey::of(&invariant), InvariantRow::of(&invariant));
            }
            Change::Deleted(key) => {
                self.invariants.remove(&key);
            }
            Change::Synced => {}
        }
    }

    fn apply_ticket(&mut self, change: Change<Ticket>) {
        match change {
            Change::Applied(ticket) => {
                let key = ObjectKey::of(&ticket);
                let previous = self.remove_incident(&key);
                let incident = Incident::of(key, &ticket, previous);
                let place = self.incidents.partition_point(|other| other.order() <= incident.order());
                self.incidents.insert(place, incident);
                self.forget_surplus();
            }
            Change::Deleted(key) => {
                self.remove_incident(&key);
            }
            Change::Synced => {}
        }
    }

    fn apply_config(&mut self, change: Change<ConfigMap>) {
        match change {
            Change::Applied(config) => self.service = Service::of(&config, &self.scope.config.key),
            Change::Deleted(_) => self.service = Service::Absent,
            Change::Synced if self.service == Service::Unseen => self.service = Service::Absent,
            Change::Synced => {}
        }
    }

    fn remove_incident(&mut self, key: &ObjectKey) -> Option<Incident> {
        let place = self.incidents.iter().position(|incident| incident.key == *key)?;
        Some(self.incidents.remove(place))
    }

    fn forget_surplus(&mut self) {
        if self.incidents.len() > KEPT_INCIDENTS {
            let oldest = self.incidents.iter().position(|incident| incident.ended_at.is_some()).unwrap_or(0);
            self.incidents.remove(oldest);
        }
    }

    fn next_baseline(&self) -> Baseline {
        match (self.baseline, self.scope.good_after) {
            (Baseline::Learned, _) => Baseline::Learned,
            (_, None) => Baseline::NotShown,
            (_, Some(needed)) => {
                let held = self.held_by_all();
                if held >= needed { Baseline::Learned } else { Baseline::Learning { held, needed } }
            }
        }
    }

    /// How long every invariant has held; nothing while one does not.
    fn held_by_all(&self) -> SignedDuration {
        let shortest = self.invariants.values().map(|row| match row.held_since {
            Some(since) => self.now.duration_since(since),
            None => SignedDuration::ZERO,
        });
        shortest.min().unwrap_or_default().max(SignedDuration::ZERO)
    }
}

fn learning_from_start(needed: SignedDuration) -> Baseline {
    Baseline::Learning { held: SignedDuration::ZERO, needed }
}

#[cfg(test)]
mod tests;
