//! What the agent knows of all invariants and tickets, as the watches bring it.

use super::baseline::{Runs, config_names, key_of, workloads_of};
use super::breaker::{self, Repair, Told};
use super::planner::{Reverted, Sibling};
use crate::crd::{
    ActionRecord, Attempt, AttemptResult, FailedAttempt, Invariant, ObjectReference, Ticket, VerdictName, Workload,
    reason, type_,
};
use crate::outage::Outage;
use crate::question;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All invariants and tickets that were seen.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Notify,
}

/// The objects on the board.
#[derive(Debug, Default)]
pub struct State {
    /// Invariants by key.
    pub invariants: HashMap<ObjectKey, Arc<Invariant>>,
    /// Tickets by key.
    pub tickets: HashMap<ObjectKey, Arc<Ticket>>,
    /// Since when each invariant holds.
    pub runs: Runs,
}

impl Board {
    /// The objects, for as long as the guard lives. Not to be held across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or removal of each map.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something changed which may let a revision be good.
    pub fn note_change(&self) {
        self.changed.notify_one();
    }

    /// Returns when something changed since it returned last. One waits for it.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Which of these invariants are broken, by the monitor's word.
    pub fn broken<'a>(&self, namespace: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let state = self.lock();
        let is_broken = |name: &&str| {
            let invariant = state.invariants.get(&ObjectKey::new(namespace, *name));
            invariant.is_some_and(|it| holding(it) == Some("False"))
        };
        names.filter(is_broken).map(str::to_owned).collect()
    }

    /// Which of the invariants that this one depends on are broken, by the monitor's word. Those of a cycle do not wait
    /// for each other.
    pub fn broken_dependencies(&self, invariant: &Invariant) -> Vec<String> {
        let namespace = invariant.namespace().unwrap_or_default();
        let names = invariant.spec.depends_on.iter().map(|it| it.name.as_str());
        let mut broken = self.broken(&namespace, names);
        if is_in_cycle(invariant) {
            let state = self.lock();
            broken.retain(|name| {
                let other = state.invariants.get(&ObjectKey::new(&*namespace, name.as_str()));
                !other.is_some_and(|it| is_in_cycle(it))
            });
        }
        broken
    }

    /// Which of these invariants broke after `since`: by the monitor's word they are broken, and as many samples as that
    /// takes were asked after that time. A check that was under way when a repair came says nothing about the repair.
    pub fn regressed<'a>(
        &self,
        namespace: &str,
        names: impl Iterator<Item = &'a str>,
        since: Timestamp,
    ) -> Vec<String> {
        let mut broken = self.broken(namespace, names);
        let state = self.lock();
        broken.retain(|name| {
            state.invariants.get(&ObjectKey::new(namespace, name.as_str())).is_some_and(|it| breaches_since(it, since))
        });
        broken
    }

    /// Whether so much of a namespace is broken, by the monitor's word, that the cause lies elsewhere.
    pub fn outage(&self, namespace: &str) -> Option<Outage> {
        let state = self.lock();
        let counts = |it: &Invariant| !it.spec.suspend && !is_starting(it);
        let asked = || state.invariants.iter().filter(|(key, it)| key.namespace == namespace && counts(it));
        let broken = asked().filter(|(_, it)| verdict(it) == Some(VerdictName::Breached)).count();
        Outage::of(broken, asked().count())
    }

    /// What the tickets of a namespace say of the repairs of an object.
    pub fn repairs(&self, namespace: &str, object: &ObjectReference) -> Told {
        let state = self.lock();
        let mut told = Told::default();
        for ticket in state.tickets.values().filter(|it| it.namespace().as_deref() == Some(namespace)) {
            let uid = ticket.metadata.uid.as_deref().unwrap_or_default();
            let same = |it: &ActionRecord| it.object.kind == object.kind && it.object.name == object.name;
            for made in attempts(ticket).iter().filter(|it| it.actions.iter().any(same)) {
                let attempt = breaker::attempt(uid, made.number);
                match &made.written_at {
                    Some(at) => told.written.push(Repair { attempt, at: at.0 }),
                    None if made.result == AttemptResult::NotWritten => told.not_written.push(attempt),
                    None => {}
                }
            }
        }
        told
    }

    /// The guards of a repair: those that hold now and must go on holding, and those that do not count.
    pub fn guards(&self, invariant: &Invariant) -> (Vec<String>, Vec<String>) {
        let namespace = invariant.namespace().unwrap_or_default();
        let mut names: Vec<String> = match &invariant.spec.remediation.guards {
            Some(names) => names.clone(),
            None => self.siblings(invariant).into_iter().map(|it| it.name).collect(),
        };
        let state = self.lock();
        names.sort();
        names.truncate(64);
        names.into_iter().partition(|name| {
            let guard = state.invariants.get(&ObjectKey::new(&*namespace, name.clone()));
            guard.is_some_and(|it| holding(it) == Some("True") && verdict(it) == Some(VerdictName::Holds))
        })
    }

    /// The other invariants of the same target, by name.
    pub fn siblings(&self, invariant: &Invariant) -> Vec<Sibling> {
        let state = self.lock();
        let same_target = |it: &&Arc<Invariant>| {
            it.namespace() == invariant.namespace()
                && it.spec.target_ref.is_some()
                && it.spec.target_ref == invariant.spec.target_ref
                && it.uid() != invariant.uid()
        };
        let sibling = |it: &Arc<Invariant>| Sibling {
            name: it.name_any(),
            query: it.spec.query.clone(),
            condition: it.spec.condition.clone(),
            holding: holding(it).map(str::to_owned),
            value: it.status.as_ref().and_then(|status| status.value.clone()),
        };
        let mut found: Vec<Sibling> = state.invariants.values().filter(same_target).map(sibling).collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Attempts of all other tickets of the same invariant.
    pub fn earlier_attempts(&self, ticket: &Ticket) -> Vec<Attempt> {
        let state = self.lock();
        let of_same = state
            .tickets
            .values()
            .filter(|it| it.spec.invariant_ref.uid == ticket.spec.invariant_ref.uid && it.uid() != ticket.uid());
        of_same.flat_map(|it| attempts(it)).cloned().collect()
    }

    /// What repairs in a namespace took away.
    pub fn reverted(&self, namespace: &str) -> Vec<Reverted> {
        let state = self.lock();
        let of_namespace = state.tickets.values().filter(|it| it.namespace().as_deref() == Some(namespace));
        of_namespace.flat_map(|ticket| reverted_by(ticket)).collect()
    }

    /// The workloads that some repair may put back into a good state, each with its key.
    pub fn workloads(&self) -> Vec<(ObjectKey, Workload)> {
        let state = self.lock();
        let of_all = state
            .invariants
            .iter()
            .flat_map(|(key, it)| workloads_of(it).map(|workload| (key_of(&key.namespace, &workload), workload)));
        let mut found: Vec<_> = of_all.collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found.dedup_by(|(one, _), (other, _)| one == other);
        found
    }

    /// The ConfigMaps that some repair may touch.
    pub fn config_maps(&self) -> Vec<ObjectKey> {
        let state = self.lock();
        let mut found: Vec<ObjectKey> = state
            .invariants
            .iter()
            .flat_map(|(key, it)| config_names(it).map(|name| ObjectKey::new(&key.namespace, name)))
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

/// What the repairs of a ticket took away that were verified, or were not because it was brought back.
pub fn reverted_by(ticket: &Ticket) -> Vec<Reverted> {
    let evidence = ticket.spec.evidence.as_ref();
    let writer = |name: &str, key: &str| {
        let of_key = evidence?.config.iter().find(|it| it.target.name == name && it.target.key == key);
        of_key?.changed_by.clone()
    };
    let counts = |it: &&Attempt| matches!(it.result, AttemptResult::Verified | AttemptResult::Overwritten);
    let mut found = Vec::new();
    for attempt in attempts(ticket).iter().filter(counts) {
        let Some(written_at) = &attempt.written_at else { continue };
        for action in &attempt.actions {
            found.extend(action.changes.iter().map(|change| Reverted {
                ticket: ticket.name_any(),
                name: action.object.name.clone(),
                path: if change.path.is_empty() { action.key.clone() } else { change.path.clone() },
                value: change.before.clone(),
                by: writer(&action.object.name, &action.key),
                written_at: written_at.0,
            }));
        }
    }
    found
}

fn attempts(ticket: &Ticket) -> &[Attempt] {
    ticket.status.as_ref().map_or(&[], |status| &status.attempts)
}

/// Whether the samples that opened the present row of breaches were all asked at or after `since`.
fn breaches_since(invariant: &Invariant, since: Timestamp) -> bool {
    let samples = invariant.status.iter().flat_map(|status| status.recent_samples.iter().rev());
    let row = samples.take_while(|sample| sample.verdict != VerdictName::Holds && sample.at.0 >= since).count();
    u32::try_from(row).is_ok_and(|row| row >= invariant.spec.failure_threshold)
}

/// By the monitor's word its target is only just starting.
fn is_starting(invariant: &Invariant) -> bool {
    let mut conditions = invariant.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|it| it.type_ == type_::HELD_BACK && it.status == "True" && it.reason == reason::STARTING)
}

/// The monitor refused its dependencies: it depends on itself through others.
fn is_in_cycle(invariant: &Invariant) -> bool {
    let mut conditions = invariant.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|it| it.type_ == type_::ACCEPTED && it.reason == reason::DEPENDENCY_CYCLE)
}

/// The attempt that the monitor saw fail.
pub fn failed_attempt(invariant: &Invariant) -> Option<&FailedAttempt> {
    invariant.status.as_ref()?.failed_attempt.as_ref()
}

/// The status of the Holding condition.
pub fn holding(invariant: &Invariant) -> Option<&str> {
    let conditions = &invariant.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == type_::HOLDING).map(|condition| condition.status.as_str())
}

/// Whether an incident may decide otherwise after this change of an invariant.
pub fn concerns_incidents(before: &Invariant, after: &Invariant) -> bool {
    before.uid() != after.uid()
        || before.metadata.generation != after.metadata.generation
        || before.metadata.deletion_timestamp != after.metadata.deletion_timestamp
        || before.annotations() != after.annotations()
        || holding(before) != holding(after)
        || verdict(before) != verdict(after)
        || is_in_cycle(before) != is_in_cycle(after)
        || question::was_held(before) != question::was_held(after)
        || failed_attempt(before) != failed_attempt(after)
}

/// Forgets the samples of an invariant that holds: they are asked only of those that do not.
pub fn shrink(invariant: &mut Invariant) {
    if let Some(status) = invariant.status.as_mut().filter(|status| status.verdict == Some(VerdictName::Holds)) {
        status.recent_samples = Vec::new();
    }
}

/// What the last sample meant.
pub fn verdict(invariant: &Invariant) -> Option<VerdictName> {
    invariant.status.as_ref()?.verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_breaches_that_were_asked_after_a_repair_speak_against_it() {
        let sample = |second: u32, verdict: &str| json!({ "at": format!("2026-11-23T12:00:{second:02}.000000Z"), "verdict": verdict, "value": "x", "latencyMilliseconds": 1 });
        let invariant: Invariant = serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1",
            "kind": "Invariant",
            "metadata": { "name": "guard", "namespace": "shop" },
            "spec": { "query": "http://shop/", "condition": "== 200", "failureThreshold": 2 },
            "status": {
                "conditions": [{
                    "type": "Holding", "status": "False", "reason": "TimedOut", "message": "",
                    "lastTransitionTime": "2026-11-23T12:00:12Z",
                }],
                "recentSamples": [sample(2, "Holds"), sample(7, "Breached"), sample(12, "Breached")],
            },
        }))
        .unwrap();
        let board = Board::default();
        board.lock().invariants.insert(ObjectKey::of(&invariant), Arc::new(invariant));
        let regressed = |second: &str| {
            let since = format!("2026-11-23T12:00:{second}Z").parse().unwrap();
            board.regressed("shop", ["guard", "gone"].into_iter(), since)
        };
        assert_eq!(regressed("07"), ["guard"]);
        assert_eq!(regressed("08"), Vec::<String>::new());
    }
}
