//! The pods that use a ConfigMap: how a change reaches them.
//!
//! A mounted ConfigMap reaches a pod with the kubelet's next look at it, which comes at once when the pod itself changes:
//! so an annotation of the pod is written after the change. What a pod takes through `subPath` or its environment it
//! never gets without a restart.

use crate::crd::{Workload, WorkloadKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

/// Set on pods to the mark of what changed the ConfigMap that they mount.
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

/// How a pod takes a ConfigMap. Pure.
pub fn use_of(pod: &Pod, config_map: &str) -> Use {
    let Some(spec) = &pod.spec else { return Use::None };
    let volumes: Vec<&str> = volumes(spec, config_map);
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let sub_path = containers().flat_map(|it| it.volume_mounts.iter().flatten()).any(|mount| {
        volumes.contains(&mount.name.as_str()) && (mount.sub_path.is_some() || mount.sub_path_expr.is_some())
    });
    let from_key = containers().flat_map(|it| it.env.iter().flatten()).any(|variable| {
        let source = variable.value_from.as_ref().and_then(|source| source.config_map_key_ref.as_ref());
        source.is_some_and(|source| source.name == config_map)
    });
    let from_all = containers()
        .flat_map(|it| it.env_from.iter().flatten())
        .any(|source| source.config_map_ref.as_ref().is_some_and(|source| source.name == config_map));
    if sub_path || from_key || from_all {
        Use::Fixed
    } else if volumes.is_empty() {
        Use::None
    } else {
        Use::Mounted
    }
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
    began_later || pod.annotations().get(REFRESH_ANNOTATION).is_some_and(|found| found == mark)
}

/// The pods of a namespace that run.
pub async fn running(client: &Client, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), namespace).list(&ListParams::default()).await?.items;
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some()
    };
    Ok(pods.into_iter().filter(|pod| !ended(pod)).collect())
}

/// Has the kubelets look at the pods that mount a ConfigMap. A pod that cannot be annotated gets the change later.
pub async fn refresh(client: &Client, field_manager: &str, namespace: &str, config_map: &str, mark: &str) {
    let running = match running(client, namespace).await {
        Ok(running) => running,
        Err(error) => {
            tracing::warn!(namespace, config_map, %error, "pods get the change with their next sync");
            return;
        }
    };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams { field_manager: Some(field_manager.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { REFRESH_ANNOTATION: mark } } }));
    let mounting = running.iter().filter(|pod| use_of(pod, config_map) == Use::Mounted);
    let annotated = mounting.map(|pod| {
        let (api, patch, parameters, name) = (&api, &patch, &parameters, pod.name_any());
        async move {
            if let Err(error) = api.patch_metadata(&name, parameters, patch).await {
                tracing::debug!(pod = name, %error, "a pod was not annotated; it gets the change with the next sync");
            }
        }
    });
    futures::future::join_all(annotated).await;
}

/// The workloads whose pods take a ConfigMap in a way that needs a restart; `None` for a pod without one.
pub async fn needing_restart(
    client: &Client,
    namespace: &str,
    config_map: &str,
) -> Result<Vec<Option<Workload>>, kube::Error> {
    let mut found = Vec::new();
    for pod in running(client, namespace).await?.iter().filter(|pod| use_of(pod, config_map) == Use::Fixed) {
        let workload = workload(client, namespace, pod).await?;
        if !found.contains(&workload) {
            found.push(workload);
        }
    }
    Ok(found)
}

async fn workload(client: &Client, namespace: &str, pod: &Pod) -> Result<Option<Workload>, kube::Error> {
    let Some(owner) = pod.owner_references().iter().find(|owner| owner.controller == Some(true)) else {
        return Ok(None);
    };
    match owner.kind.as_str() {
        "StatefulSet" => Ok(Some(Workload { kind: WorkloadKind::StatefulSet, name: owner.name.clone() })),
        "ReplicaSet" => {
            let set = Api::<ReplicaSet>::namespaced(client.clone(), namespace).get_opt(&owner.name).await?;
            let owner = set.and_then(|it| it.owner_references().iter().find(|it| it.kind == "Deployment").cloned());
            Ok(owner.map(|owner| Workload { kind: WorkloadKind::Deployment, name: owner.name }))
        }
        _ => Ok(None),
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
