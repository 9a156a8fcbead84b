//! The only writer to what people run. It obeys an attempt whose intent and exact pre-image are saved already.
//!
//! Each write tests the resourceVersion that it was planned on and sets the attempt's mark in the same request: a
//! human's edit in between wins, and the mark, not the journal, tells a successor what happened.

use crate::agent::policy::Edit;
use crate::crd::{ATTEMPT_ANNOTATION, ActionRecord, Ticket};
use crate::document;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The field manager of every write to a target.
pub const FIELD_MANAGER: &str = "harness-agent";

/// On ControllerRevisions that hold the exact texts of an attempt.
pub const PRE_IMAGE_LABEL: &str = "harness.dev/pre-image";

/// Why a change was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The object is not what it was when the change was planned.
    #[error("ConfigMap {name} changed since the change was planned")]
    PreconditionFailed {
        /// The object.
        name: String,
    },
    /// The object is gone, or writing to it is forbidden.
    #[error("ConfigMap {name} cannot be written: {why}")]
    TargetUnavailable {
        /// The object.
        name: String,
        /// Why.
        why: String,
    },
    /// The exact texts of the attempt are not there or cannot be read.
    #[error("the pre-image {revision} cannot be used: {why}")]
    ReadPreImage {
        /// The ControllerRevision.
        revision: String,
        /// Why.
        why: String,
    },
    /// Nothing is known of the write; it is looked at again.
    #[error("the API server gave no usable answer: {0}")]
    Unanswered(#[source] kube::Error),
}

/// The exact texts of one action, kept where only the agent reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreImage {
    /// The text before.
    pub before: String,
    /// The text after.
    pub after: String,
}

/// What became of an action's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// The object or the key is gone.
    Gone,
    /// The key is as it was before the action, and the action's mark is not there.
    Untouched,
    /// The action was written, and nobody wrote to the object since.
    Written,
    /// The action was written and undone.
    Restored,
    /// Somebody else wrote.
    Foreign,
}

/// The mark of an attempt.
pub fn mark(ticket: &str, attempt: u32) -> String {
    format!("{ticket}/{attempt}")
}

/// The mark of an attempt that was undone.
pub fn undone_mark(ticket: &str, attempt: u32) -> String {
    format!("{ticket}/{attempt}/undone")
}

/// Judges an object by its mark and its text. Pure.
pub fn target_state(object: Option<&ConfigMap>, action: &ActionRecord, ticket: &str, attempt: u32) -> TargetState {
    let Some(object) = object.filter(|object| object.uid().as_deref() == Some(&action.object.uid)) else {
        return TargetState::Gone;
    };
    let Some(text) = object.data.as_ref().and_then(|data| data.get(&action.key)) else {
        return TargetState::Gone;
    };
    let digest = document::digest(text);
    let found = object.annotations().get(ATTEMPT_ANNOTATION);
    if found == Some(&undone_mark(ticket, attempt)) {
        return if digest == action.before_digest { TargetState::Restored } else { TargetState::Foreign };
    }
    if found == Some(&mark(ticket, attempt)) {
        let same_version =
            action.written_resource_version.as_ref().is_none_or(|it| Some(it) == object.resource_version().as_ref());
        let ours = digest == action.after_digest && same_version;
        return if ours { TargetState::Written } else { TargetState::Foreign };
    }
    if digest == action.before_digest { TargetState::Untouched } else { TargetState::Foreign }
}

/// Reads and writes targets.
#[derive(Clone)]
pub struct Executor {
    client: Client,
}

impl Executor {
    /// An executor on this API.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads a target as it is now.
    pub async fn read(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, kube::Error> {
        Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name).await
    }

    /// Saves the exact texts of an action before it is written; gives the name they are kept under. Saving the same
    /// again is no error.
    pub async fn save_pre_image(
        &self,
        ticket: &Ticket,
        attempt: u32,
        index: usize,
        edit: &Edit,
    ) -> Result<String, kube::Error> {
        let namespace = ticket.namespace().unwrap_or_default();
        let digest = document::digest(&format!("{}\0{}", edit.before, edit.after));
        let name = format!("{}-attempt-{attempt}-{index}-{}", ticket.name_any(), &digest[..8]);
        let texts = PreImage { before: edit.before.clone(), after: edit.after.clone() };
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(BTreeMap::from([(PRE_IMAGE_LABEL.to_owned(), "true".to_owned())])),
                owner_references: Some(vec![owner(ticket)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(json!(texts))),
            revision: i64::from(attempt),
        };
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match Api::namespaced(self.client.clone(), &namespace).create(&parameters, &revision).await {
            Ok(_) => Ok(name),
            // The name holds a digest of the texts: what has it is the same.
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(name),
            Err(error) => Err(error),
        }
    }

    /// Writes an action of an attempt; gives the object's new resourceVersion.
    pub async fn write(&self, namespace: &str, action: &ActionRecord, mark: &str) -> Result<String, ExecutorError> {
        let texts = self.pre_image(namespace, action).await?;
        let object = self.target(namespace, action).await?;
        // The version that the change was planned on, whatever the object's version is now.
        self.put(namespace, &object, action, &action.resource_version, &texts.after, mark).await
    }

    /// Writes the text before an action back, on the object as it was looked at.
    pub async fn undo(
        &self,
        namespace: &str,
        action: &ActionRecord,
        ticket: &str,
        attempt: u32,
    ) -> Result<(), ExecutorError> {
        let texts = self.pre_image(namespace, action).await?;
        let object = self.target(namespace, action).await?;
        if target_state(Some(&object), action, ticket, attempt) != TargetState::Written {
            return Err(ExecutorError::PreconditionFailed { name: action.object.name.clone() });
        }
        let version = object.resource_version().unwrap_or_default();
        let undone = undone_mark(ticket, attempt);
        self.put(namespace, &object, action, &version, &texts.before, &undone).await.map(|_| ())
    }

    /// Whether any pod mounts the ConfigMap: then a change reaches it only with the kubelet's next projection.
    pub async fn is_mounted(&self, namespace: &str, name: &str) -> Result<bool, kube::Error> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await?;
        Ok(pods.items.iter().any(|pod| mounts(pod, name)))
    }

    async fn target(&self, namespace: &str, action: &ActionRecord) -> Result<ConfigMap, ExecutorError> {
        let name = &action.object.name;
        self.read(namespace, name).await.map_err(|error| classify(error, name))?.ok_or_else(|| {
            ExecutorError::TargetUnavailable { name: name.clone(), why: "it does not exist any more".to_owned() }
        })
    }

    async fn pre_image(&self, namespace: &str, action: &ActionRecord) -> Result<PreImage, ExecutorError> {
        let revision = action.revision.clone().unwrap_or_default();
        let unusable = |why: String| ExecutorError::ReadPreImage { revision: revision.clone(), why };
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), namespace);
        let found = match api.get_opt(&revision).await {
            Ok(found) => found.ok_or_else(|| unusable("it does not exist".to_owned()))?,
            Err(error) => return Err(ExecutorError::Unanswered(error)),
        };
        let data = found.data.ok_or_else(|| unusable("it is empty".to_owned()))?;
        let texts: PreImage = serde_json::from_value(data.0).map_err(|error| unusable(error.to_string()))?;
        let intact = document::digest(&texts.before) == action.before_digest
            && document::digest(&texts.after) == action.after_digest;
        if intact { Ok(texts) } else { Err(unusable("its texts are not those of the attempt".to_owned())) }
    }

    async fn put(
        &self,
        namespace: &str,
        object: &ConfigMap,
        action: &ActionRecord,
        version: &str,
        text: &str,
        mark: &str,
    ) -> Result<String, ExecutorError> {
        let name = &action.object.name;
        let mut operations = vec![
            json!({ "op": "test", "path": "/metadata/uid", "value": action.object.uid }),
            json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version }),
        ];
        if object.meta().annotations.is_none() {
            operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
        }
        operations
            .push(json!({ "op": "add", "path": pointer("/metadata/annotations", ATTEMPT_ANNOTATION), "value": mark }));
        operations.push(json!({ "op": "replace", "path": pointer("/data", &action.key), "value": text }));
        let patch = serde_json::from_value(Value::Array(operations)).map_err(|error| {
            ExecutorError::TargetUnavailable { name: name.clone(), why: format!("the patch cannot be made: {error}") }
        })?;
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let written = api.patch(name, &parameters, &Patch::<()>::Json(patch)).await;
        let written = written.map_err(|error| classify(error, name))?;
        Ok(written.resource_version().unwrap_or_default())
    }
}

/// Sorts a failed request into what follows from it.
fn classify(error: kube::Error, name: &str) -> ExecutorError {
    match &error {
        // A failed `test` of a JSON patch is answered 422, a concurrent write 409.
        kube::Error::Api(status) if status.code == 409 || status.code == 422 => {
            ExecutorError::PreconditionFailed { name: name.to_owned() }
        }
        kube::Error::Api(status) if status.code == 403 || status.code == 404 => {
            ExecutorError::TargetUnavailable { name: name.to_owned(), why: status.message.clone() }
        }
        _ => ExecutorError::Unanswered(error),
    }
}

fn mounts(pod: &Pod, config_map: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let direct = volume.config_map.as_ref().is_some_and(|source| source.name == config_map);
        let projected = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
        direct || projected.into_iter().any(|it| it.config_map.as_ref().is_some_and(|it| it.name == config_map))
    })
}

fn owner(ticket: &Ticket) -> OwnerReference {
    OwnerReference {
        api_version: Ticket::api_version(&()).into_owned(),
        kind: Ticket::kind(&()).into_owned(),
        name: ticket.name_any(),
        uid: ticket.uid().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

fn pointer(parent: &str, key: &str) -> String {
    format!("{parent}/{}", document::escape(key))
}

/// The hash of a proposal: what an approval is bound to, and what is never proposed again after a no.
pub fn proposal_hash(edits: &[Edit]) -> String {
    let mut text = String::new();
    for edit in edits {
        for part in [&edit.name, &edit.key, &edit.before, &edit.after] {
            text.push_str(&document::digest(part));
        }
    }
    document::digest(&text)
}

/// Now, as the micro-time that statuses hold.
pub fn micro(now: Timestamp) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now)
}
