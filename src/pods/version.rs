//! Which version of a ConfigMap a pod is known to run. Pure.
//!
//! In doubt it is not known: what is learned as good is put back later, by the harness and without a person.

use super::{Fixed, PROJECTION_LAG, REFRESH_LAG, Use, fixed_uses, has_volume, looked_at, use_of};
use crate::history::Revision;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;

/// The API server and the kubelets note whole seconds: what has such a time came within a second after it.
const WHOLE_SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A version of a ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version<'a> {
    /// The ConfigMap.
    pub config_map: &'a str,
    /// The resourceVersion that it had when it came.
    pub resource_version: &'a str,
    /// It was written at this time at the latest.
    pub written_by: Timestamp,
}

impl<'a> Version<'a> {
    /// The version that a revision is.
    pub fn of(config_map: &'a str, revision: &'a Revision) -> Self {
        let noted_at = revision.writers.values().filter_map(|writer| writer.at).max();
        // What takes the ConfigMap could not start before that was there.
        let is_the_first_ever = noted_at.is_some() && noted_at == revision.created_at;
        let by_note = noted_at.map(|at| if is_the_first_ever { at } else { later(at, WHOLE_SECOND) });
        // The first revision that was seen may be much older than the first look at it.
        let seen_at = (!revision.first).then_some(revision.seen_at);
        let written_by = [by_note, seen_at].into_iter().flatten().max().unwrap_or(revision.seen_at);
        Self { config_map, resource_version: &revision.data_version, written_by }
    }
}

/// Since when every one of these pods that takes the ConfigMap is known to run this version of it: a time that may be
/// to come. The pod of which that is not known, and no time will tell, is the error.
pub fn run_by_all_since<'a>(pods: &'a [Pod], version: Version<'_>) -> Result<Timestamp, &'a Pod> {
    let mut latest = version.written_by;
    for pod in pods.iter().filter(|pod| !has_ended(pod) && use_of(pod, version.config_map) != Use::None) {
        latest = latest.max(run_since(pod, version).ok_or(pod)?);
    }
    Ok(latest)
}

/// Whether nothing of a pod runs any more. One that is being deleted serves to its end.
fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn run_since(pod: &Pod, version: Version<'_>) -> Option<Timestamp> {
    let Version { config_map, resource_version, written_by } = version;
    let began_at = pod.creation_timestamp().map(|time| time.0).filter(|at| *at >= written_by);
    let projected_by = later(written_by, PROJECTION_LAG);
    let mut since = written_by;
    if has_volume(pod, config_map) {
        // Its kubelet has looked since, or must have.
        let looked_by =
            looked_at(pod, config_map, resource_version).map(|at| later(later(at, WHOLE_SECOND), REFRESH_LAG));
        since = [began_at, looked_by].into_iter().flatten().fold(projected_by, Timestamp::min);
    }
    for (container, fixed) in fixed_uses(pod, config_map) {
        // It has what was there when it started; of a volume, what had come into that by then.
        let from = match fixed {
            Fixed::Environment => written_by,
            Fixed::SubPath => began_at.unwrap_or(projected_by),
        };
        since = since.max(started_at(pod, container).filter(|at| *at >= from)?);
    }
    Some(since)
}

/// When a container started last; `None` while it does not run.
fn started_at(pod: &Pod, container: &str) -> Option<Timestamp> {
    let status = pod.status.as_ref()?;
    let mut of_all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let state = of_all.find(|it: &&ContainerStatus| it.name == container)?.state.as_ref()?;
    let running = state.running.as_ref().and_then(|state| state.started_at.as_ref());
    let ended = state.terminated.as_ref().and_then(|state| state.started_at.as_ref());
    running.or(ended).map(|time| time.0)
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
