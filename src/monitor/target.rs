//! What the Service, the endpoints, the workload and the pods behind an invariant say about its breach.
//!
//! Touches the world by reading, with at most four requests; what follows from it is pure.

use crate::crd::{Invariant, Target, TargetKind};
use crate::probe::Query;
use crate::redact;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerState, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Findings that a ticket shows.
const SHOWN: usize = 8;
/// Pods and slices that are looked at.
const LISTED: u32 = 50;

/// What was read; an outer `None` is what there was no reason, or no permission, to read.
#[derive(Debug, Default)]
struct Seen {
    service: Option<(String, Option<Service>)>,
    slices: Option<Vec<EndpointSlice>>,
    workload: Option<(Target, Option<DynamicObject>)>,
    pods: Option<Vec<Pod>>,
}

/// What is wrong with the target, a sentence each.
pub(super) async fn findings(client: &Client, invariant: &Invariant) -> Vec<String> {
    let namespace = invariant.namespace().unwrap_or_default();
    let about = invariant.spec.target_ref.as_ref();
    let name = service_name(&invariant.spec.query, &namespace)
        .or_else(|| about.filter(|target| target.kind == TargetKind::Service).map(|target| target.name.clone()));
    let service = async {
        let name = name?;
        let service = read_as::<Service>(client, &namespace, &name).await?;
        let slices = match &service {
            Some(_) => list::<EndpointSlice>(client, &namespace, &format!("kubernetes.io/service-name={name}")).await,
            None => None,
        };
        Some((name, service, slices))
    };
    let workload = async {
        let target = about.filter(|target| target.kind != TargetKind::Service)?;
        let object = try_read(client, &namespace, target).await?;
        let pods = match object.as_ref().and_then(selector) {
            Some(selector) => list::<Pod>(client, &namespace, &selector).await,
            None => None,
        };
        Some((target.clone(), object, pods))
    };
    let mut seen = Seen::default();
    let (service, workload) = tokio::join!(service, workload);
    if let Some((name, service, slices)) = service {
        (seen.service, seen.slices) = (Some((name, service)), slices);
    }
    if let Some((target, object, pods)) = workload {
        (seen.workload, seen.pods) = (Some((target, object)), pods);
    }
    judge(&seen)
}

/// The workload or Service that an invariant is about; `None` where it does not exist or cannot be read.
pub(super) async fn read(client: &Client, namespace: &str, target: &Target) -> Option<DynamicObject> {
    try_read(client, namespace, target).await.flatten()
}

async fn try_read(client: &Client, namespace: &str, target: &Target) -> Option<Option<DynamicObject>> {
    let resource = match target.kind {
        TargetKind::Deployment => ApiResource::erase::<Deployment>(&()),
        TargetKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        TargetKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        TargetKind::Service => ApiResource::erase::<Service>(&()),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    known(api.get_opt(&target.name).await, namespace)
}

async fn read_as<K>(client: &Client, namespace: &str, name: &str) -> Option<Option<K>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    known(Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await, namespace)
}

async fn list<K>(client: &Client, namespace: &str, selector: &str) -> Option<Vec<K>>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let parameters = ListParams::default().labels(selector).limit(LISTED);
    known(Api::<K>::namespaced(client.clone(), namespace).list(&parameters).await, namespace).map(|list| list.items)
}

fn known<T>(answer: Result<T, kube::Error>, namespace: &str) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(namespace, %error, "a ticket's target cannot be read")).ok()
}

/// The Service of this namespace that a query asks, if its host can be one.
fn service_name(query: &str, namespace: &str) -> Option<String> {
    let query = Query::parse(query).ok()?;
    let Some(url::Host::Domain(host)) = query.url().host() else { return None };
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next()?;
    let in_namespace = labels.next().is_none_or(|label| label == namespace);
    let in_cluster = labels.next().is_none_or(|label| label == "svc");
    (name != "localhost" && in_namespace && in_cluster).then(|| name.to_owned())
}

/// The label selector of a workload's pods.
fn selector(workload: &DynamicObject) -> Option<String> {
    let selector: LabelSelector = serde_json::from_value(workload.data.pointer("/spec/selector")?.clone()).ok()?;
    let labels = selector.match_labels.unwrap_or_default();
    let terms: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

/// What is wrong, the nearest to the cause first.
fn judge(seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if let Some((target, object)) = &seen.workload {
        found.extend(of_workload(target, object.as_ref()));
    }
    let reasons: BTreeSet<String> = seen.pods.iter().flatten().flat_map(of_pod).collect();
    found.extend(reasons);
    if let Some((name, service)) = &seen.service {
        found.extend(of_service(name, service.as_ref(), seen.slices.as_deref()));
    }
    found.iter().take(SHOWN).map(|finding| redact::line(finding, 256)).collect()
}

fn of_workload(target: &Target, object: Option<&DynamicObject>) -> Option<String> {
    let named = format!("{:?} {}", target.kind, target.name);
    let Some(object) = object else { return Some(format!("{named} does not exist")) };
    let number = |path: &str| object.data.pointer(path).and_then(serde_json::Value::as_i64);
    let (wanted, ready) = if target.kind == TargetKind::DaemonSet {
        (number("/status/desiredNumberScheduled")?, number("/status/numberReady").unwrap_or(0))
    } else {
        (number("/spec/replicas").unwrap_or(1), number("/status/readyReplicas").unwrap_or(0))
    };
    match (wanted, ready) {
        (0, _) if target.kind == TargetKind::DaemonSet => Some(format!("{named} runs on no node")),
        (0, _) => Some(format!("{named} is scaled to 0")),
        // Nobody has looked at it yet: there is no controller, or it is new.
        _ if object.data.pointer("/status/observedGeneration").is_none() => None,
        (wanted, ready) if ready < wanted => Some(format!("{named} has {ready} of {wanted} pods ready")),
        _ => None,
    }
}

fn of_pod(pod: &Pod) -> Vec<String> {
    let Some(status) = &pod.status else { return Vec::new() };
    let containers = status.init_container_statuses.iter().chain(status.container_statuses.iter()).flatten();
    let mut found: Vec<String> = containers
        .filter_map(|container| {
            let name = &container.name;
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
            let reason = waiting.and_then(|it| it.reason.as_deref());
            let reason = reason.filter(|it| !matches!(*it, "ContainerCreating" | "PodInitializing"));
            let ended = container.last_state.as_ref().and_then(last_end);
            match (reason, ended) {
                (Some(reason), Some(ended)) => Some(format!("container {name} is in {reason}: {ended}")),
                (Some(reason), None) => {
                    let image = container.image.as_str();
                    let detail = waiting.and_then(|it| it.message.clone()).unwrap_or_else(|| image.to_owned());
                    Some(format!("container {name} is in {reason}: {}", redact::line(&detail, 160)))
                }
                (None, Some(ended)) if !container.ready => Some(format!("container {name} is not ready: {ended}")),
                (None, _) => None,
            }
        })
        .collect();
    let unschedulable =
        status.conditions.iter().flatten().find(|it| {
            it.type_ == "PodScheduled" && it.status == "False" && it.reason.as_deref() == Some("Unschedulable")
        });
    found.extend(unschedulable.map(|it| {
        format!("a pod cannot be scheduled: {}", redact::line(it.message.as_deref().unwrap_or_default(), 160))
    }));
    found
}

fn last_end(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    let reason = ended.reason.as_deref().filter(|it| *it != "Error").map(|it| format!(" ({it})")).unwrap_or_default();
    Some(format!("it ended with exit code {}{reason}", ended.exit_code))
}

fn of_service(name: &str, service: Option<&Service>, slices: Option<&[EndpointSlice]>) -> Option<String> {
    let Some(service) = service else { return Some(format!("Service {name} does not exist")) };
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let endpoints = || slices.into_iter().flatten().flat_map(|slice| slice.endpoints.iter());
    let ready = |it: &k8s_openapi::api::discovery::v1::Endpoint| {
        // Absent means ready.
        it.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true)
    };
    slices?;
    match (endpoints().count(), endpoints().any(ready)) {
        (0, _) => {
            let labels = spec.selector.iter().flatten().map(|(name, value)| format!("{name}={value}"));
            let labels = labels.collect::<Vec<_>>().join(",");
            let why = if labels.is_empty() { String::new() } else { format!(": its selector {labels} matches no pod") };
            Some(format!("Service {name} has no endpoints{why}"))
        }
        (all, false) => Some(format!("Service {name} has no ready endpoints ({all} not ready)")),
        (_, true) => None,
    }
}

#[cfg(test)]
mod tests;
