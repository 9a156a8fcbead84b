//! Writes to targets: read afresh, judge, and write that very version, or nothing.

use super::state::{Marks, ObjectActions, TargetState, target_state};
use super::{Executor, ExecutorError, FIELD_MANAGER, failure};
use crate::agent::target;
use crate::crd::{ATTEMPT_ANNOTATION, Action, ActionRecord, FailureCause};
use crate::document;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

/// An object that others write all the time is read, judged and written so often before that is left for later.
const TRIES: u32 = 5;

/// What a write does to one part of an object: an action, and the text that the part gets; `None` leaves it.
type PartChange<'a> = (&'a ActionRecord, Option<String>);

impl Executor {
    /// Writes the actions of an attempt on one object; gives the object's new resourceVersion. What was written before
    /// is not written again.
    pub async fn write(
        &self,
        namespace: &str,
        change: &ObjectActions<'_>,
        marks: &Marks,
    ) -> Result<String, ExecutorError> {
        let mut parts: Vec<PartChange> = Vec::new();
        for action in &change.actions {
            parts.push((action, Some(self.pre_image(namespace, action).await?.after)));
        }
        for _ in 0..TRIES {
            let object = self.target(namespace, change).await?;
            let all = |state| change.actions.iter().all(|it| target_state(Some(&object), it, marks) == state);
            if all(TargetState::Written) {
                return Ok(object.resource_version().unwrap_or_default());
            }
            if !all(TargetState::Untouched) {
                return Err(ExecutorError::PreconditionFailed { object: change.object.clone() });
            }
            if let Some(version) = self.put(namespace, &object, change, &parts, &marks.written).await? {
                return Ok(version);
            }
        }
        Err(change.failed(FailureCause::Busy, String::new()))
    }

    /// Puts back, in one write, what of an object is still as the attempt wrote it; gives the object's new
    /// resourceVersion if there was any. A restart is only marked.
    pub async fn undo(
        &self,
        namespace: &str,
        change: &ObjectActions<'_>,
        marks: &Marks,
    ) -> Result<Option<String>, ExecutorError> {
        for _ in 0..TRIES {
            let object = self.target(namespace, change).await?;
            let mut parts: Vec<PartChange> = Vec::new();
            for action in change.actions.iter().rev() {
                if target_state(Some(&object), action, marks) == TargetState::Written {
                    let before = self.pre_image(namespace, action).await?.before;
                    parts.push((action, (action.action != Action::Restart).then_some(before)));
                }
            }
            if parts.is_empty() {
                return Ok(None);
            }
            let version = self.put(namespace, &object, change, &parts, &marks.undone).await?;
            if version.is_some() {
                return Ok(version);
            }
        }
        Err(change.failed(FailureCause::Busy, String::new()))
    }

    async fn target(&self, namespace: &str, change: &ObjectActions<'_>) -> Result<DynamicObject, ExecutorError> {
        match self.read(namespace, &change.object.kind, &change.object.name).await {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(change.failed(FailureCause::Gone, "it does not exist any more".to_owned())),
            Err(error) => {
                let cause = failure::cause(&error).unwrap_or(FailureCause::Unavailable);
                Err(change.failed(cause, failure::words(&error)))
            }
        }
    }

    /// Writes to the very version that was judged; `None`: others wrote meanwhile.
    async fn put(
        &self,
        namespace: &str,
        object: &DynamicObject,
        change: &ObjectActions<'_>,
        parts: &[PartChange<'_>],
        mark: &str,
    ) -> Result<Option<String>, ExecutorError> {
        let impossible = |why: &str| change.failed(FailureCause::Invalid, why.to_owned());
        let patch = patch(object, parts, mark).ok_or_else(|| impossible("it is not as the change was planned for"))?;
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let api = self.api(namespace, &change.object.kind).ok_or_else(|| impossible("its kind is never written"))?;
        match api.patch(&change.object.name, &parameters, &patch).await {
            Ok(written) => Ok(Some(written.resource_version().unwrap_or_default())),
            Err(error) => match failure::cause(&error) {
                Some(cause) => Err(change.failed(cause, failure::words(&error))),
                None => Ok(None),
            },
        }
    }
}

impl ObjectActions<'_> {
    fn failed(&self, cause: FailureCause, words: String) -> ExecutorError {
        ExecutorError::Failed { object: self.object.clone(), cause, words }
    }
}

/// The one patch of an object: its version tested, all parts written, the mark set. `None`: a part cannot have that
/// text.
fn patch(object: &DynamicObject, parts: &[PartChange<'_>], mark: &str) -> Option<Patch<()>> {
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": object.uid() }),
        json!({ "op": "test", "path": "/metadata/resourceVersion", "value": object.resource_version() }),
    ];
    if object.metadata.annotations.is_none() {
        operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    let path = format!("/metadata/annotations/{}", document::escape(ATTEMPT_ANNOTATION));
    operations.push(json!({ "op": "add", "path": path, "value": mark }));
    for (action, text) in parts {
        if let Some(text) = text {
            operations.extend(target::operations(object, action.action, &action.key, text)?);
        }
    }
    serde_json::from_value(Value::Array(operations)).ok().map(Patch::Json)
}
