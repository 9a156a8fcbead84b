//! The objects that a repair may write, and the parts of them that an action changes, as texts. Pure.
//!
//! Every action replaces one text by another: the text of a key, the number of replicas, what the containers are made of,
//! the time of the last restart. So all are planned, compared, saved and undone alike.

pub mod template;

use crate::crd::{Action, WorkloadKind};
use crate::document;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject};
use serde_json::{Value, json};
use template::Revision;

/// Where `kubectl rollout restart` notes the time: the one annotation of a pod template that a repair writes. The
/// admission policy of the agent holds the same line.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The name of a kind that a repair may write.
pub fn kind_name(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "Deployment",
        WorkloadKind::StatefulSet => "StatefulSet",
    }
}

/// How objects of such a kind are reached; any other kind is none that a repair may write.
pub fn resource(kind: &str) -> Option<ApiResource> {
    match kind {
        "ConfigMap" => Some(ApiResource::erase::<ConfigMap>(&())),
        "Deployment" => Some(ApiResource::erase::<Deployment>(&())),
        "StatefulSet" => Some(ApiResource::erase::<StatefulSet>(&())),
        _ => None,
    }
}

/// The part of a workload that an action changes; a ConfigMap's is the key.
pub fn part(action: Action) -> &'static str {
    match action {
        Action::EditConfig => "data",
        Action::Restart => "restartedAt",
        Action::Rollback => "template",
        Action::Scale => "replicas",
    }
}

/// The part of an object that an action changes, as text; `None`: the object has no such part.
pub fn text(object: &DynamicObject, action: Action, key: &str) -> Option<String> {
    match action {
        Action::EditConfig => object.data.get("data")?.get(key)?.as_str().map(str::to_owned),
        Action::Restart => {
            let path = format!("/spec/template/metadata/annotations/{}", document::escape(RESTARTED_AT));
            Some(object.data.pointer(&path).and_then(Value::as_str).unwrap_or_default().to_owned())
        }
        Action::Rollback => Revision::of(object.data.pointer("/spec/template")?).map(|revision| revision.part),
        // A workload that says nothing has one.
        Action::Scale => Some(object.data.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1).to_string()),
    }
}

/// The text of a part as people are shown it, before it is redacted.
pub fn shown(action: Action, text: &str) -> String {
    match action {
        Action::Rollback => template::shown(text),
        Action::EditConfig | Action::Restart | Action::Scale => text.to_owned(),
    }
}

/// The operations of a JSON patch that give the part another text; `None`: that text is none for this part.
pub fn operations(object: &DynamicObject, action: Action, key: &str, after: &str) -> Option<Vec<Value>> {
    let replace = |path: String, value: Value| json!({ "op": "replace", "path": path, "value": value });
    match action {
        Action::EditConfig => Some(vec![replace(format!("/data/{}", document::escape(key)), json!(after))]),
        Action::Scale => {
            let replicas: u32 = after.parse().ok()?;
            Some(vec![json!({ "op": "add", "path": "/spec/replicas", "value": replicas })])
        }
        Action::Restart => {
            let parent = "/spec/template/metadata/annotations";
            let mut operations = Vec::new();
            if object.data.pointer("/spec/template/metadata").is_none() {
                operations.push(json!({ "op": "add", "path": "/spec/template/metadata", "value": {} }));
            }
            if object.data.pointer(parent).is_none() {
                operations.push(json!({ "op": "add", "path": parent, "value": {} }));
            }
            let path = format!("{parent}/{}", document::escape(RESTARTED_AT));
            operations.push(json!({ "op": "add", "path": path, "value": after }));
            Some(operations)
        }
        Action::Rollback => template::operations(object.data.pointer("/spec/template/spec")?, after),
    }
}

/// Whether a workload's pods are all as its template says, as `kubectl rollout status` judges it.
pub fn is_rolled_out(object: &DynamicObject) -> bool {
    let number = |path: &str| object.data.pointer(path).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let status = |name: &str| number(&format!("/status/{name}")).unwrap_or(0);
    let observed = number("/status/observedGeneration") >= object.metadata.generation;
    let ready = if object.types.as_ref().is_some_and(|types| types.kind == "StatefulSet") {
        status("readyReplicas")
    } else {
        status("availableReplicas")
    };
    observed && status("updatedReplicas") == wanted && status("replicas") == wanted && ready == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(image: &str, more: &Value) -> Value {
        let mut template = json!({
            "metadata": { "labels": { "app": "a" } },
            "spec": { "containers": [{ "name": "main", "image": image }, { "name": "side", "image": "side:1" }] },
        });
        for (path, value) in more.as_object().unwrap() {
            template["spec"][path] = value.clone();
        }
        template
    }

    fn deployment(template: &Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "a", "generation": 3 },
            "spec": { "replicas": 2, "template": template },
            "status": { "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let before = deployment(&template("main:2", &json!({})));
        for (action, after) in [
            (Action::Scale, "4"),
            (Action::Restart, "2026-11-23T10:00:00Z"),
            (Action::Rollback, r#"{"containers":{"main":{"image":"main:1"},"side":{"image":"side:1"}}}"#),
        ] {
            let operations = operations(&before, action, part(action), after).unwrap();
            let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations)).unwrap();
            let mut object = serde_json::to_value(&before).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
            let object: DynamicObject = serde_json::from_value(object).unwrap();
            assert_eq!(text(&object, action, part(action)).as_deref(), Some(after));
        }
        assert_eq!(operations(&before, Action::Scale, "replicas", "-1"), None);
        let one = r#"{"containers":{"main":{"image":"x"}}}"#;
        assert_eq!(operations(&before, Action::Rollback, "template", one), None, "a container is missing");
    }

    #[test]
    fn a_rollout_is_complete_when_every_pod_is_new_and_available() {
        let done = deployment(&template("a", &json!({})));
        assert!(is_rolled_out(&done));
        for (path, value) in [
            ("/status/observedGeneration", 2),
            ("/status/updatedReplicas", 1),
            ("/status/availableReplicas", 1),
            ("/status/replicas", 3),
        ] {
            let mut object = done.clone();
            *object.data.pointer_mut(path).unwrap() = json!(value);
            assert!(!is_rolled_out(&object), "{path}");
        }
    }
}
