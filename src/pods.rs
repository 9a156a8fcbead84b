//! The pods that use a ConfigMap: how a change reaches them.
//!
//! A mounted ConfigMap reaches a pod with the kubelet's next look at it, which comes at once when the pod itself changes:
//! so an annotation of the pod is written after the change. What a pod takes through `subPath` or its environment it
//! never gets without a restart.

mod version;

pub use version::{Version, run_by_all_since};

use crate::crd::{Workload, WorkloadKind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

/// A mounted ConfigMap reaches a pod with the kubelet's next projection; measured: up to 83 s.
pub const PROJECTION_LAG: SignedDuration = SignedDuration::from_secs(90);

/// After a pod's annotation was written, its kubelet brings the change within this; measured: 0.1 to 0.3 s.
pub const REFRESH_LAG: SignedDuration = SignedDuration::from_secs(1);

/// Set on pods to the mark of what changed a ConfigMap that they mount, and the version that this gave:
/// `MARK CONFIGMAP@RESOURCEVERSION`, with as many versions as that changed ConfigMaps of the pod.
pub const REFRESH_ANNOTATION: &str = "harness.dev/config-refresh";

/// How a pod takes a ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Not at all.
    None,
    /// As files that follow the ConfigMap.
    Mounted,
    /// In a way that needs a restart.
    Fixed,
}

/// How a container takes a ConfigMap in a way that needs a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    /// A file that a volume had when the container started.
    SubPath,
    /// Variables that were set when the container started.
    Environment,
}

/// How a pod takes a ConfigMap. Pure.
pub fn use_of(pod: &Pod, config_map: &str) -> Use {
    if fixed_uses(pod, config_map).next().is_some() {
        Use::Fixed
    } else if has_volume(pod, config_map) {
        Use::Mounted
    } else {
        Use::None
    }
}

/// The containers that take a ConfigMap in a way that needs a restart.
fn fixed_uses<'a>(pod: &'a Pod, config_map: &'a str) -> impl Iterator<Item = (&'a str, Fixed)> {
    let spec = pod.spec.iter();
    spec.flat_map(move |spec| {
        let volumes = volumes(spec, config_map);
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        containers.flat_map(move |it| {
            let by_path = has_sub_path(it, &volumes).then_some(Fixed::SubPath);
            let by_environment = has_variable(it, config_map).then_some(Fixed::Environment);
            by_path.into_iter().chain(by_environment).map(|fixed| (it.name.as_str(), fixed))
        })
    })
}

fn has_sub_path(container: &Container, volumes: &[&str]) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| {
        volumes.contains(&mount.name.as_str()) && (mount.sub_path.is_some() || mount.sub_path_expr.is_some())
    })
}

fn has_variable(container: &Container, config_map: &str) -> bool {
    let of_key = container.env.iter().flatten().any(|variable| {
        let source = variable.value_from.as_ref().and_then(|source| source.config_map_key_ref.as_ref());
        source.is_some_and(|source| source.name == config_map)
    });
    let mut of_all = container.env_from.iter().flatten().filter_map(|source| source.config_map_ref.as_ref());
    of_key || of_all.any(|source| source.name == config_map)
}

fn has_volume(pod: &Pod, config_map: &str) -> bool {
    pod.spec.as_ref().is_some_and(|spec| !volumes(spec, config_map).is_empty())
}

fn volumes<'a>(spec: &'a PodSpec, config_map: &str) -> Vec<&'a str> {
    let of_map = spec.volumes.iter().flatten().filter(|volume| {
        let direct = volume.config_map.as_ref().is_some_and(|source| source.name == config_map);
        let projected = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        direct || projected.into_iter().any(|it| it.config_map.as_ref().is_some_and(|it| it.name == config_map))
    });
    of_map.map(|volume| volume.name.as_str()).collect()
}

/// Whether a change made at `written_at` under this mark has had its way to the pod smoothed, or needs none.
pub fn is_refreshed(pod: &Pod, mark: &str, written_at: Timestamp) -> bool {
    // Times of creation are whole seconds.
    let began_later = pod.creation_timestamp().is_some_and(|created| created.0 >= written_at);
    began_later || refreshed_under(pod, mark).is_some()
}

/// The refresh annotation, if it was set under this mark.
fn refreshed_under<'a>(pod: &'a Pod, mark: &str) -> Option<&'a str> {
    let found = pod.annotations().get(REFRESH_ANNOTATION)?;
    found.split(' ').next().filter(|first| *first == mark).map(|_| found.as_str())
}

/// When a pod was annotated after this version of a ConfigMap, if it was; to the second.
fn looked_at(pod: &Pod, config_map: &str, resource_version: &str) -> Option<Timestamp> {
    let wanted = brought(config_map, resource_version);
    let mut versions = pod.annotations().get(REFRESH_ANNOTATION)?.split(' ').skip(1);
    versions.find(|it| *it == wanted)?;
    let pointer = format!("/f:metadata/f:annotations/f:{}", crate::document::escape(REFRESH_ANNOTATION));
    let writers = pod
        .managed_fields()
        .iter()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(&pointer).is_some()));
    writers.filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max()
}

fn brought(config_map: &str, resource_version: &str) -> String {
    format!("{config_map}@{resource_version}")
}

/// The pods of a namespace, whatever their state.
pub async fn all(client: &Client, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    Ok(Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?.items)
}

/// The pods of a namespace that run.
pub async fn running(client: &Client, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
    };
    Ok(all(client, namespace).await?.into_iter().filter(|pod| !ended(pod)).collect())
}

/// A write to a ConfigMap that pods are to see.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// The ConfigMap.
    pub config_map: &'a str,
    /// The resourceVersion that the write gave.
    pub resource_version: &'a str,
    /// What wrote.
    pub mark: &'a str,
}

/// Has the kubelets look at the pods that mount a ConfigMap. A pod that cannot be annotated gets the change later.
pub async fn refresh(client: &Client, field_manager: &str, namespace: &str, written: Written<'_>) {
    let config_map = written.config_map;
    let running = match running(client, namespace).await {
        Ok(running) => running,
        Err(error) => {
            tracing::warn!(namespace, config_map, %error, "pods get the change with their next sync");
            return;
        }
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams { field_manager: Some(field_manager.to_owned()), ..PatchParams::default() };
    let with_volume = running.iter().filter(|pod| has_volume(pod, config_map));
    let annotated = with_volume.map(|pod| {
        let (api, parameters, name) = (&api, &parameters, pod.name_any());
        let annotation = json!({ REFRESH_ANNOTATION: refreshment(pod, written) });
        async move {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": annotation } }));
            if let Err(error) = api.patch_metadata(&name, parameters, &patch).await {
                tracing::debug!(pod = name, %error, "a pod was not annotated; it gets the change with the next sync");
            }
        }
    });
    futures::future::join_all(annotated).await;
}

/// The annotation that says so to a pod, beside what else was brought under the same mark.
fn refreshment(pod: &Pod, written: Written<'_>) -> String {
    let Written { config_map, resource_version, mark } = written;
    let others = refreshed_under(pod, mark).into_iter().flat_map(|found| found.split(' ').skip(1));
    let of_others = |it: &&str| it.split_once('@').is_some_and(|(name, _)| name != config_map);
    let mut words: Vec<&str> = std::iter::once(mark).chain(others.filter(of_others)).collect();
    let this = brought(config_map, resource_version);
    words.push(&this);
    words.join(" ")
}

/// Whose pods take a ConfigMap in a way that needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumer {
    /// A workload that can be restarted.
    Workload(Workload),
    /// Anything else.
    Other {
        /// Its kind; `Pod` for a pod without a controller.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Who takes a ConfigMap in a way that needs a restart.
pub async fn needing_restart(client: &Client, namespace: &str, config_map: &str) -> Result<Vec<Consumer>, kube::Error> {
    let mut found = Vec::new();
    for pod in running(client, namespace).await?.iter().filter(|pod| use_of(pod, config_map) == Use::Fixed) {
        let consumer = consumer(client, namespace, pod).await?;
        if !found.contains(&consumer) {
            found.push(consumer);
        }
    }
    Ok(found)
}

async fn consumer(client: &Client, namespace: &str, pod: &Pod) -> Result<Consumer, kube::Error> {
    let other = |kind: &str, name: &str| Consumer::Other { kind: kind.to_owned(), name: name.to_owned() };
    let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else {
        return Ok(other("Pod", &pod.name_any()));
    };
    match owner.kind.as_str() {
        "StatefulSet" => Ok(Consumer::Workload(Workload { kind: WorkloadKind::StatefulSet, name: owner.name.clone() })),
        "ReplicaSet" => {
            let set = Api::<ReplicaSet>::namespaced(client.clone(), namespace).get_opt(&owner.name).await?;
            let above = set.and_then(|it| it.owner_references().iter().find(|it| it.controller == Some(true)).cloned());
            Ok(match above {
                Some(above) if above.kind == "Deployment" => {
                    Consumer::Workload(Workload { kind: WorkloadKind::Deployment, name: above.name })
                }
                Some(above) => other(&above.kind, &above.name),
                None => other(&owner.kind, &owner.name),
            })
        }
        kind => Ok(other(kind, &owner.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"][0]["name"] = json!("main");
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    #[test]
    fn what_follows_the_config_map_and_what_needs_a_restart_is_told_apart() {
        let volume = json!([{ "name": "v", "configMap": { "name": "config" } }]);
        let projected = json!([{ "name": "v", "projected": { "sources": [{ "configMap": { "name": "config" } }] } }]);
        let mount = |more: Value| {
            let mut mount = json!({ "name": "v", "mountPath": "/etc" });
            mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([{ "volumeMounts": [mount] }])
        };
        let table = [
            (json!({ "volumes": volume, "containers": mount(json!({})) }), Use::Mounted),
            (json!({ "volumes": projected, "containers": mount(json!({})) }), Use::Mounted),
            (json!({ "volumes": volume, "containers": mount(json!({ "subPath": "a" })) }), Use::Fixed),
            (json!({ "containers": [{ "envFrom": [{ "configMapRef": { "name": "config" } }] }] }), Use::Fixed),
            (
                json!({ "containers": [{ "env": [
                    { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "k" } } },
                ] }] }),
                Use::Fixed,
            ),
            (json!({ "containers": [{ "envFrom": [{ "configMapRef": { "name": "other" } }] }] }), Use::None),
            (json!({ "containers": [{}] }), Use::None),
        ];
        for (spec, expected) in table {
            assert_eq!(use_of(&pod(spec.clone()), "config"), expected, "{spec}");
        }
    }
}
