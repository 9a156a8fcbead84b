//! Where good revisions are kept: ControllerRevisions, bounded, which only the agent reads. Touches the world.

use super::{KNOWN_GOOD_LABEL, KNOWN_GOOD_PREFIX, LEARNED_ANNOTATION, OBJECT_LABEL};
use crate::agent::executor::FIELD_MANAGER;
use crate::document;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Good revisions kept for each object.
const KEPT: usize = 5;

/// What is noted of a revision and makes it no other one.
const VERSION: &str = "resourceVersion";

/// The newest good revision of an object, and when it was learned. `object` is a ConfigMap's name, or a workload's kind
/// and name.
pub(super) async fn newest(
    client: &Client,
    namespace: &str,
    object: &str,
) -> Result<Option<(Value, Timestamp)>, kube::Error> {
    let found = list(client, namespace, object).await?.into_iter().max_by_key(|it| it.revision);
    Ok(found.and_then(|it| {
        let learned_at = learned_at(&it);
        Some((it.data?.0, learned_at))
    }))
}

/// Keeps a revision as the newest good one. Writes nothing if it is that already.
pub(super) async fn keep(
    client: &Client,
    namespace: &str,
    object: &str,
    revision: Value,
    now: Timestamp,
) -> Result<(), kube::Error> {
    let mut known = list(client, namespace, object).await?;
    known.sort_by_key(|it| std::cmp::Reverse(it.revision));
    let newest = known.first().and_then(|it| it.data.as_ref());
    if newest.is_some_and(|newest| essence(&newest.0) == essence(&revision)) {
        return Ok(());
    }
    let number = known.first().map_or(0, |it| it.revision) + 1;
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let good = controller_revision(object, revision, number, now);
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&parameters, &good).await {
        Ok(_) => {}
        // The same was good once before: it is the newest again.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let promotion = json!({ "revision": number, "metadata": { "annotations": good.metadata.annotations } });
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(&good.name_any(), &parameters, &Patch::Merge(promotion)).await?;
        }
        Err(error) => return Err(error),
    }
    tracing::info!(namespace, object, "a good revision was learned");
    for old in known.iter().filter(|it| it.name_any() != good.name_any()).skip(KEPT - 1) {
        api.delete(&old.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn list(client: &Client, namespace: &str, object: &str) -> Result<Vec<ControllerRevision>, kube::Error> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let selector = format!("{KNOWN_GOOD_LABEL}=true,{OBJECT_LABEL}={}", label_value(object));
    Ok(api.list(&ListParams::default().labels(&selector)).await?.items)
}

/// A revision without what is only noted of it.
fn essence(revision: &Value) -> Value {
    let mut revision = revision.clone();
    if let Some(fields) = revision.as_object_mut() {
        fields.shift_remove(VERSION);
    }
    revision
}

fn controller_revision(object: &str, revision: Value, number: i64, now: Timestamp) -> ControllerRevision {
    let digest = document::digest(&format!("{object}\0{}", essence(&revision)));
    // The name of an object in a cluster is in lower case.
    let shortened: String = object.to_lowercase().chars().take(200).collect();
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{KNOWN_GOOD_PREFIX}{shortened}-{}", &digest[..12])),
            labels: Some(BTreeMap::from([
                (KNOWN_GOOD_LABEL.to_owned(), "true".to_owned()),
                (OBJECT_LABEL.to_owned(), label_value(object)),
            ])),
            annotations: Some(BTreeMap::from([(LEARNED_ANNOTATION.to_owned(), now.to_string())])),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(revision)),
        revision: number,
    }
}

fn learned_at(revision: &ControllerRevision) -> Timestamp {
    let noted = revision.annotations().get(LEARNED_ANNOTATION).and_then(|time| time.parse().ok());
    noted.or(revision.creation_timestamp().map(|time| time.0)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A name as a label value, which is at most 63 characters long.
fn label_value(name: &str) -> String {
    if name.len() <= 63 { name.to_owned() } else { document::digest(name)[..63].to_owned() }
}
