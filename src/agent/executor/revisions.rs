//! The revisions of a workload, as its controller keeps them. Touches the world by reading.

use crate::agent::target::kind_name;
use crate::crd::WorkloadKind;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// One revision of a workload.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadRevision {
    /// Its number: it grows with each rollout, also with one of an earlier template.
    pub number: i64,
    /// When its template was rolled out first.
    pub created_at: Option<Timestamp>,
    /// The pod template.
    pub template: Value,
}

/// The revisions of a workload, newest first; the present one is among them.
pub async fn of(
    client: &Client,
    namespace: &str,
    workload: &DynamicObject,
) -> Result<Vec<WorkloadRevision>, kube::Error> {
    let kind = workload.types.as_ref().map(|types| types.kind.as_str()).unwrap_or_default();
    let is_deployment = kind == kind_name(WorkloadKind::Deployment);
    // Read as they are served: a template is compared field by field, with those that this client does not know.
    let resource = if is_deployment {
        ApiResource::erase::<ReplicaSet>(&())
    } else {
        ApiResource::erase::<ControllerRevision>(&())
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let is_owned = |object: &DynamicObject| {
        let is_owner = |owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference| {
            Some(&owner.uid) == workload.metadata.uid.as_ref() && owner.controller == Some(true)
        };
        object.owner_references().iter().any(is_owner)
    };
    let revision = |object: &DynamicObject| {
        let (number, template) = if is_deployment {
            let number = object.annotations().get("deployment.kubernetes.io/revision")?.parse().ok()?;
            (number, object.data.pointer("/spec/template")?)
        } else {
            (object.data.get("revision")?.as_i64()?, object.data.pointer("/data/spec/template")?)
        };
        let created_at = object.creation_timestamp().map(|time| time.0);
        Some(WorkloadRevision { number, created_at, template: template.clone() })
    };
    let listed = api.list(&ListParams::default()).await?.items;
    let mut found: Vec<WorkloadRevision> = listed.iter().filter(|it| is_owned(it)).filter_map(revision).collect();
    found.sort_by_key(|it| std::cmp::Reverse(it.number));
    Ok(found)
}
