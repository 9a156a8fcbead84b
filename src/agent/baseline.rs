//! What is good of a ConfigMap or a workload: the state under which everything about its target held long enough.
//!
//! The rule is pure ([`ripe`]); the revisions are kept as ControllerRevisions, bounded, which only the agent reads.

mod records;
pub mod workload;

use super::target::kind_name;
use crate::crd::{Allow, Connection, Invariant, Target, TargetKind, VerdictName, Workload, WorkloadKind, type_};
use crate::history::Revision;
use crate::probe::{self, Condition, Prober, Query, Verdict};
use crate::watch::ObjectKey;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// On ControllerRevisions that hold a good revision.
pub const KNOWN_GOOD_LABEL: &str = "harness.dev/known-good";
/// How the names of ControllerRevisions that hold a good revision begin. Earlier ones do not.
pub const KNOWN_GOOD_PREFIX: &str = "harness-good-";
/// Names the ConfigMap, or the kind and the name of a workload.
pub const OBJECT_LABEL: &str = "harness.dev/object";
/// When the revision was last found to be good.
pub const LEARNED_ANNOTATION: &str = "harness.dev/learned-at";

/// Invariants of a group that are asked at once.
const LOOKS_AT_ONCE: usize = 8;

/// A good revision.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownGood {
    /// The resourceVersion that the ConfigMap had.
    pub resource_version: String,
    /// Its data.
    pub data: BTreeMap<String, String>,
    /// When it was found to be good.
    pub learned_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    name: String,
    resource_version: String,
    data: BTreeMap<String, String>,
}

/// The invariants that must hold for a ConfigMap to be good: those that let a repair touch it, and all that are about
/// the same target as one of them.
pub fn group<'a>(config: &ObjectKey, invariants: &'a HashMap<ObjectKey, Arc<Invariant>>) -> Vec<&'a Arc<Invariant>> {
    group_of(&config.namespace, invariants, |it| config_names(it).any(|name| name == config.name))
}

/// The invariants that must hold for a workload to be good: also those that are about itself.
pub fn group_of_workload<'a>(
    namespace: &str,
    workload: &Workload,
    invariants: &'a HashMap<ObjectKey, Arc<Invariant>>,
) -> Vec<&'a Arc<Invariant>> {
    group_of(namespace, invariants, |it| {
        let is_target = it.spec.target_ref.as_ref().is_some_and(|target| is_about(target, workload));
        is_target || workloads_of(it).any(|named| named == *workload)
    })
}

fn group_of<'a>(
    namespace: &str,
    invariants: &'a HashMap<ObjectKey, Arc<Invariant>>,
    names: impl Fn(&Invariant) -> bool,
) -> Vec<&'a Arc<Invariant>> {
    let in_namespace = || invariants.iter().filter(|(key, _)| key.namespace == namespace).map(|(_, it)| it);
    let targets: Vec<&Target> =
        in_namespace().filter(|it| names(it)).filter_map(|it| it.spec.target_ref.as_ref()).collect();
    in_namespace()
        .filter(|it| names(it) || it.spec.target_ref.as_ref().is_some_and(|target| targets.contains(&target)))
        .collect()
}

fn is_about(target: &Target, workload: &Workload) -> bool {
    let same_kind = match workload.kind {
        WorkloadKind::Deployment => target.kind == TargetKind::Deployment,
        WorkloadKind::StatefulSet => target.kind == TargetKind::StatefulSet,
    };
    same_kind && target.name == workload.name
}

/// The names of the ConfigMaps that a repair of this invariant may touch.
pub fn config_names(invariant: &Invariant) -> impl Iterator<Item = &str> {
    invariant.spec.remediation.allow.iter().filter_map(|allow| match allow {
        Allow::EditConfig(target) => Some(target.name.as_str()),
        Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => None,
    })
}

/// The workloads that a repair of this invariant may put back into a good state.
pub fn workloads_of(invariant: &Invariant) -> impl Iterator<Item = Workload> {
    invariant.spec.remediation.allow.iter().filter_map(|allow| match allow {
        Allow::Rollback(workload) => Some(workload.clone()),
        Allow::Scale(bounds) => Some(Workload { kind: bounds.kind, name: bounds.name.clone() }),
        Allow::EditConfig(_) | Allow::Restart(_) => None,
    })
}

/// The key of a workload among the objects that are claimed and learned.
pub fn key_of(namespace: &str, workload: &Workload) -> ObjectKey {
    ObjectKey::new(namespace, format!("{}/{}", kind_name(workload.kind), workload.name))
}

/// Since when each invariant holds without a break, by the clock of this process.
#[derive(Debug, Default)]
pub struct Runs {
    seen: HashMap<ObjectKey, (Option<MicroTime>, Timestamp)>,
}

impl Runs {
    /// Notes an invariant's status. A run that begins anew begins now, whatever the clock of the monitor says.
    pub fn note(&mut self, key: &ObjectKey, invariant: &Invariant, now: Timestamp) {
        let held_since = invariant.status.as_ref().and_then(|status| status.held_since.clone());
        match self.seen.get(key) {
            Some((known, _)) if *known == held_since => {}
            Some(_) | None => {
                self.seen.insert(key.clone(), (held_since, now));
            }
        }
    }

    /// Forgets an invariant.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.seen.remove(key);
    }

    fn holding_since(&self, invariant: &Invariant) -> Option<Timestamp> {
        let status = invariant.status.as_ref()?;
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_::HOLDING)?;
        let holds = condition.status == "True"
            && status.verdict == Some(VerdictName::Holds)
            && Some(status.observed_generation) == invariant.metadata.generation;
        let (held_since, seen_at) = self.seen.get(&ObjectKey::of(invariant))?;
        held_since.as_ref().filter(|_| holds).map(|_| *seen_at)
    }
}

/// When a revision is good that everybody runs since then: `None` while something in the group does not hold. Never
/// before each invariant was asked at least once under it, however rarely that is.
pub fn ripe(run_since: Timestamp, group: &[&Arc<Invariant>], runs: &Runs, good_after: Duration) -> Option<Timestamp> {
    let (mut since, mut wait) = (run_since, good_after);
    for invariant in group {
        since = since.max(runs.holding_since(invariant)?);
        wait = wait.max(Duration::from(invariant.spec.interval) + Duration::from(invariant.spec.timeout));
    }
    let good_after = SignedDuration::try_from(wait).ok()?;
    if group.is_empty() { None } else { since.checked_add(good_after).ok() }
}

/// Whether all of the group hold at this very moment, by the agent's own look: the monitor's word may be old.
pub async fn holds_now(prober: &Prober, group: &[Arc<Invariant>]) -> bool {
    let looks = group.iter().cloned().map(|invariant| async move {
        let (Ok(query), Ok(condition)) =
            (Query::parse(&invariant.spec.query), Condition::parse(&invariant.spec.condition))
        else {
            return false;
        };
        let sample = prober.ask(&query, Connection::New, invariant.spec.timeout.into()).await;
        probe::judge(&sample, &condition).verdict == Verdict::Holds
    });
    // The first that does not hold says all there is to know.
    futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).all(|holds| async move { holds }).await
}

/// The newest good revision of a ConfigMap.
pub async fn newest(client: &Client, config: &ObjectKey) -> Result<Option<KnownGood>, kube::Error> {
    let found = records::newest(client, &config.namespace, &config.name).await?;
    Ok(found.and_then(|(stored, learned_at)| {
        let stored: Stored = serde_json::from_value(stored).ok()?;
        Some(KnownGood { resource_version: stored.resource_version, data: stored.data, learned_at })
    }))
}

/// Keeps a revision as the newest good one. Writes nothing if it is that already.
pub async fn keep(client: &Client, config: &ObjectKey, revision: &Revision, now: Timestamp) -> Result<(), kube::Error> {
    let stored = Stored {
        name: config.name.clone(),
        resource_version: revision.resource_version.clone(),
        data: revision.data.clone(),
    };
    records::keep(client, &config.namespace, &config.name, json!(stored), now).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::InvariantStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    const GOOD_AFTER: Duration = Duration::from_secs(10);

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    fn invariant(name: &str, held_since: Option<i64>) -> Arc<Invariant> {
        let spec = serde_json::from_value(json!({
            "query": "http://a/", "condition": "== 200", "targetRef": { "kind": "Deployment", "name": "a" },
            "remediation": { "allow": if name == "editor" { json!([{ "editConfig": { "name": "config", "key": "k" } }]) } else { json!([]) } },
        }))
        .unwrap();
        let mut invariant = Invariant::new(name, spec);
        invariant.metadata.namespace = Some("default".into());
        invariant.metadata.generation = Some(1);
        invariant.status = Some(InvariantStatus {
            observed_generation: 1,
            verdict: Some(if held_since.is_some() { VerdictName::Holds } else { VerdictName::Unknown }),
            held_since: held_since.map(|at| MicroTime(second(at))),
            conditions: vec![Condition {
                type_: type_::HOLDING.into(),
                status: if held_since.is_some() { "True" } else { "Unknown" }.into(),
                reason: "x".into(),
                message: String::new(),
                last_transition_time: Time(second(0)),
                observed_generation: Some(1),
            }],
            ..InvariantStatus::default()
        });
        Arc::new(invariant)
    }

    fn ripe_at(invariants: &[(Arc<Invariant>, i64)], run_since: i64) -> Option<Timestamp> {
        let mut runs = Runs::default();
        let mut all = HashMap::new();
        for (invariant, noted_at) in invariants {
            runs.note(&ObjectKey::of(&**invariant), invariant, second(*noted_at));
            all.insert(ObjectKey::of(&**invariant), Arc::clone(invariant));
        }
        ripe(second(run_since), &group(&ObjectKey::new("default", "config"), &all), &runs, GOOD_AFTER)
    }

    #[test]
    fn a_revision_is_good_when_all_of_its_target_held_since_it_was_there() {
        let all = [(invariant("editor", Some(1)), 5), (invariant("sibling", Some(1)), 7)];
        assert_eq!(ripe_at(&all, 3), Some(second(17)));
        assert_eq!(ripe_at(&all, 9), Some(second(19)));
    }

    #[test]
    fn a_revision_is_not_good_before_each_invariant_was_asked_under_it() {
        let mut rare = (*invariant("editor", Some(1))).clone();
        rare.spec.interval = Duration::from_mins(10).into();
        assert_eq!(ripe_at(&[(Arc::new(rare), 5)], 3), Some(second(5 + 601)));
    }

    #[test]
    fn one_that_does_not_hold_or_is_unknown_keeps_it_from_being_good() {
        let all = [(invariant("editor", Some(1)), 5), (invariant("sibling", None), 7)];
        assert_eq!(ripe_at(&all, 3), None);
    }

    #[test]
    fn without_an_invariant_nothing_is_good() {
        assert_eq!(ripe_at(&[], 3), None);
        assert_eq!(ripe_at(&[(invariant("sibling", Some(1)), 1)], 3), None);
    }

    #[test]
    fn a_break_that_healed_begins_a_new_run() {
        let mut runs = Runs::default();
        let key = ObjectKey::new("default", "editor");
        runs.note(&key, &invariant("editor", Some(1)), second(1));
        runs.note(&key, &invariant("editor", Some(1)), second(5));
        assert_eq!(runs.holding_since(&invariant("editor", Some(1))), Some(second(1)));
        runs.note(&key, &invariant("editor", Some(6)), second(6));
        assert_eq!(runs.holding_since(&invariant("editor", Some(6))), Some(second(6)));
    }
}
