//! The only writer to what people run. It obeys an attempt whose intent and exact pre-image are saved already.
//!
//! Each write tests the resourceVersion that it was planned on and sets the attempt's mark in the same request: a
//! human's edit in between wins, and the mark, not the journal, tells a successor what happened.

mod plan;

pub use plan::{NotPlanned, Planned, hash as proposal_hash};

use super::baseline::PROJECTION_LAG;
use super::target;
use crate::crd::{ATTEMPT_ANNOTATION, Action, ActionRecord, Ticket};
use crate::document;
use crate::history::Revision;
use crate::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The field manager of every write to a target.
pub const FIELD_MANAGER: &str = "harness-agent";

/// On ControllerRevisions that hold the exact texts of an attempt.
pub const PRE_IMAGE_LABEL: &str = "harness.dev/pre-image";

/// After a pod's annotation was written, its kubelet brings the change within this; measured: 0.1 to 0.3 s.
const REFRESH_LAG: SignedDuration = SignedDuration::from_secs(1);

/// Why a change was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The object is not what it was when the change was planned.
    #[error("{name} changed since the change was planned")]
    PreconditionFailed {
        /// The object.
        name: String,
    },
    /// The object is gone, or writing to it is forbidden.
    #[error("{name} cannot be written: {why}")]
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

/// Judges an object by its mark and the part that the action changes. Pure.
pub fn target_state(object: Option<&DynamicObject>, action: &ActionRecord, ticket: &str, attempt: u32) -> TargetState {
    let Some(object) = object.filter(|object| object.uid().as_deref() == Some(&action.object.uid)) else {
        return TargetState::Gone;
    };
    let Some(text) = target::text(object, action.action, &action.key) else {
        return TargetState::Gone;
    };
    let digest = document::digest(&text);
    let found = object.annotations().get(ATTEMPT_ANNOTATION);
    if found == Some(&undone_mark(ticket, attempt)) {
        // A restart is not taken back; it is only not waited for any more.
        let is_back = digest == action.before_digest || action.action == Action::Restart;
        return if is_back { TargetState::Restored } else { TargetState::Foreign };
    }
    if found == Some(&mark(ticket, attempt)) {
        // A workload gets a new version with each change of its status.
        let same_version = action.action != Action::EditConfig
            || action.written_resource_version.as_ref().is_none_or(|it| Some(it) == object.resource_version().as_ref());
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
    pub async fn read(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<DynamicObject>, kube::Error> {
        match self.api(namespace, kind) {
            Some(api) => api.get_opt(name).await,
            None => Ok(None),
        }
    }

    /// Reads a ConfigMap as it is now.
    pub async fn read_config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, kube::Error> {
        Api::<ConfigMap>::namespaced(self.client.clone(), namespace).get_opt(name).await
    }

    fn api(&self, namespace: &str, kind: &str) -> Option<Api<DynamicObject>> {
        let resource = target::resource(kind)?;
        Some(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    /// Saves the exact texts of an action before it is written; gives the name they are kept under. Saving the same
    /// again is no error.
    pub async fn save_pre_image(
        &self,
        ticket: &Ticket,
        attempt: u32,
        index: usize,
        planned: &Planned,
    ) -> Result<String, kube::Error> {
        let namespace = ticket.namespace().unwrap_or_default();
        let digest = document::digest(&format!("{}\0{}", planned.before, planned.after));
        let name = format!("{}-attempt-{attempt}-{index}-{}", ticket.name_any(), &digest[..8]);
        let texts = PreImage { before: planned.before.clone(), after: planned.after.clone() };
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
        let version = if action.action == Action::EditConfig {
            // The version that the change was planned on, whatever the object's version is now.
            action.resource_version.clone()
        } else {
            // The version of a workload changes with its status: what counts is the part that was planned on.
            let text = target::text(&object, action.action, &action.key);
            if text.map(|text| document::digest(&text)) != Some(action.before_digest.clone()) {
                return Err(ExecutorError::PreconditionFailed { name: action.object.name.clone() });
            }
            object.resource_version().unwrap_or_default()
        };
        self.put(namespace, &object, action, &version, Some(&texts.after), mark).await
    }

    /// Writes the text before an action back, on the object as it was looked at. A restart is only marked.
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
        let before = (action.action != Action::Restart).then_some(texts.before.as_str());
        self.put(namespace, &object, action, &version, before, &undone).await.map(|_| ())
    }

    /// Has the pods that mount what an action changed look at it at once.
    pub async fn refresh(&self, namespace: &str, action: &ActionRecord, mark: &str) {
        if action.action == Action::EditConfig {
            pods::refresh(&self.client, FIELD_MANAGER, namespace, &action.object.name, mark).await;
        }
    }

    /// From when on an action that was written at `written_at` is in force; `None`: that is not known yet.
    pub async fn in_force_from(
        &self,
        namespace: &str,
        action: &ActionRecord,
        mark: &str,
        written_at: Timestamp,
    ) -> Result<Option<Timestamp>, kube::Error> {
        let after = |lag| written_at.checked_add(lag).ok();
        if action.action == Action::EditConfig {
            let running = pods::running(&self.client, namespace).await?;
            let mut mounting =
                running.iter().filter(|pod| pods::use_of(pod, &action.object.name) == pods::Use::Mounted);
            let mut is_mounted = false;
            let all_refreshed = mounting.all(|pod| {
                is_mounted = true;
                pods::is_refreshed(pod, mark, written_at)
            });
            return Ok(match (is_mounted, all_refreshed) {
                (false, _) => Some(written_at),
                (true, true) => after(REFRESH_LAG),
                (true, false) => after(PROJECTION_LAG),
            });
        }
        let object = self.read(namespace, &action.object.kind, &action.object.name).await?;
        Ok(object.filter(target::is_rolled_out).map(|_| written_at))
    }

    /// By when a revision of a ConfigMap is what every pod that mounts it reads.
    pub async fn in_pods_by(&self, namespace: &str, name: &str, revision: &Revision) -> Result<Timestamp, kube::Error> {
        // The first revision that was seen is older than that: when it was written, its writers say.
        let written_at = revision.writers.values().filter_map(|writer| writer.at).max().filter(|_| revision.first);
        let written_at = written_at.unwrap_or(revision.seen_at);
        let mark = self.read_config_map(namespace, name).await?;
        let mark = mark.as_ref().and_then(|object| object.annotations().get(ATTEMPT_ANNOTATION)).cloned();
        let is_late = |pod: &Pod| {
            pods::use_of(pod, name) == pods::Use::Mounted
                && !pods::is_refreshed(pod, mark.as_deref().unwrap_or_default(), written_at)
        };
        let late = pods::running(&self.client, namespace).await?.iter().any(is_late);
        let lag = if late { PROJECTION_LAG } else { SignedDuration::ZERO };
        Ok(written_at.checked_add(lag).unwrap_or(Timestamp::MAX))
    }

    async fn target(&self, namespace: &str, action: &ActionRecord) -> Result<DynamicObject, ExecutorError> {
        let name = &action.object.name;
        let read = self.read(namespace, &action.object.kind, name).await;
        read.map_err(|error| classify(error, name))?.ok_or_else(|| ExecutorError::TargetUnavailable {
            name: name.clone(),
            why: "it does not exist any more".to_owned(),
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
        object: &DynamicObject,
        action: &ActionRecord,
        version: &str,
        text: Option<&str>,
        mark: &str,
    ) -> Result<String, ExecutorError> {
        let name = &action.object.name;
        let impossible = |why: &str| ExecutorError::TargetUnavailable { name: name.clone(), why: why.to_owned() };
        let mut operations = vec![
            json!({ "op": "test", "path": "/metadata/uid", "value": action.object.uid }),
            json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version }),
        ];
        if object.metadata.annotations.is_none() {
            operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
        }
        operations
            .push(json!({ "op": "add", "path": pointer("/metadata/annotations", ATTEMPT_ANNOTATION), "value": mark }));
        if let Some(text) = text {
            let changes = target::operations(object, action.action, &action.key, text);
            operations.extend(changes.ok_or_else(|| impossible("it is not as the change was planned for"))?);
        }
        let patch = serde_json::from_value(Value::Array(operations))
            .map_err(|error| impossible(&format!("the patch cannot be made: {error}")))?;
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.api(namespace, &action.object.kind).ok_or_else(|| impossible("its kind is never written"))?;
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

/// Now, as the micro-time that statuses hold.
pub fn micro(now: Timestamp) -> MicroTime {
    MicroTime(now)
}
