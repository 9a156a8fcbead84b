//! Reads the end of a log, of the target's own pods only. Touches the world by reading.

use super::call::ReadLogs;
use super::reading::Reading;
use crate::crd::{Invariant, Target, TargetKind};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::LogParams;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;

/// Lines that are read.
const LINES: i64 = 80;
/// Bytes that are read.
const BYTES: i64 = 16 * 1024;

/// The end of a pod's log.
pub(super) async fn read(client: &Client, invariant: &Invariant, asked: &ReadLogs) -> Result<Reading, kube::Error> {
    let namespace = invariant.namespace().unwrap_or_default();
    let Some(target) = &invariant.spec.target_ref else {
        return Ok(Reading::refused("PodNotOfTarget", "the invariant names no target, so that no pod belongs to it"));
    };
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let (Some(selector), Some(pod)) =
        (selector(client, &namespace, target).await?, pods.get_opt(asked.pod.as_str()).await?)
    else {
        return Ok(Reading::refused("PodNotOfTarget", "the target or the pod does not exist"));
    };
    if selector.is_empty() || !selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value)) {
        let message = format!("pod {} does not belong to {:?} {}", asked.pod.as_str(), target.kind, target.name);
        return Ok(Reading::refused("PodNotOfTarget", message));
    }
    let parameters = LogParams {
        container: asked.container.as_ref().map(|name| name.as_str().to_owned()),
        previous: asked.previous,
        tail_lines: Some(LINES),
        limit_bytes: Some(BYTES),
        timestamps: true,
        ..LogParams::default()
    };
    let log = pods.logs(asked.pod.as_str(), &parameters).await?;
    let newest_first: Vec<&str> = log.lines().rev().collect();
    Ok(Reading::text(
        format!("{} lines", newest_first.len()),
        format!("newest line first:\n{}", newest_first.join("\n")),
    ))
}

/// The labels that the target's pods carry; `None`: there is no such target.
async fn selector(
    client: &Client,
    namespace: &str,
    target: &Target,
) -> Result<Option<BTreeMap<String, String>>, kube::Error> {
    let labels = |selector: LabelSelector| selector.match_labels.unwrap_or_default();
    let (client, name) = (client.clone(), target.name.as_str());
    Ok(match target.kind {
        TargetKind::Deployment => {
            let found = Api::<Deployment>::namespaced(client, namespace).get_opt(name).await?;
            found.and_then(|it| it.spec).map(|spec| labels(spec.selector))
        }
        TargetKind::StatefulSet => {
            let found = Api::<StatefulSet>::namespaced(client, namespace).get_opt(name).await?;
            found.and_then(|it| it.spec).map(|spec| labels(spec.selector))
        }
        TargetKind::DaemonSet => {
            let found = Api::<DaemonSet>::namespaced(client, namespace).get_opt(name).await?;
            found.and_then(|it| it.spec).map(|spec| labels(spec.selector))
        }
        TargetKind::Service => {
            let found = Api::<Service>::namespaced(client, namespace).get_opt(name).await?;
            found.and_then(|it| it.spec).map(|spec| spec.selector.unwrap_or_default())
        }
    })
}
