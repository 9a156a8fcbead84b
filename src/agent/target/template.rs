//! The part of a pod template that a rollback puts back. Pure.
//!
//! A rollback means what `kubectl rollout undo` means, narrowed to what containers are made of and run: never to what
//! they may do. Where an earlier revision differs in anything else of the pod's spec (a volume, a port, a probe, the
//! security context, the service account, a container more or less), it is not put back at all: half of a revision is a
//! template that nobody ever ran. Labels and annotations of the template stay as they are now.

use crate::document::{self, Difference, Format};
use serde_json::{Map, Value, json};

/// The lists of containers of a pod's spec in which a rollback writes; containers are told apart by name. None is ever
/// added or removed. The admission policy of the agent holds the same line.
pub const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

/// The whole of what a rollback writes of a container. The admission policy of the agent holds the same line.
pub const CONTAINER_FIELDS: [&str; 6] = ["image", "command", "args", "env", "envFrom", "resources"];

/// A pod template, parted into what a rollback puts back and all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// What a rollback puts back, as JSON: list, container, field.
    pub part: String,
    /// The digest of the rest of the pod's spec.
    pub rest: String,
}

impl Revision {
    /// Parts a template; `None`: it is none.
    pub fn of(template: &Value) -> Option<Self> {
        let mut spec = template.get("spec")?.as_object()?.clone();
        let mut part = Map::new();
        for list in CONTAINER_LISTS {
            let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
            let mut fields_by_name = Map::new();
            for container in containers.iter_mut() {
                let (name, fields) = take_fields(container)?;
                fields_by_name.insert(name, Value::Object(fields));
            }
            part.insert(list.to_owned(), Value::Object(fields_by_name));
        }
        let rest = document::digest(&sorted(&Value::Object(spec)).to_string());
        part.contains_key("containers").then(|| Self { part: Value::Object(part).to_string(), rest })
    }

    /// What differs in the part from another, as people are shown it.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let parsed = |revision: &Self| document::parse(&shown(&revision.part), Format::Json);
        match (parsed(self), parsed(other)) {
            (Ok(one), Ok(other)) => document::differences(&one, &other),
            (Err(_), _) | (_, Err(_)) => Vec::new(),
        }
    }
}

/// Takes what a rollback puts back out of a container.
fn take_fields(container: &mut Value) -> Option<(String, Map<String, Value>)> {
    let name = container.get("name")?.as_str()?.to_owned();
    let container = container.as_object_mut()?;
    let taken = CONTAINER_FIELDS.iter().filter_map(|field| {
        let value = container.shift_remove(*field)?;
        Some(((*field).to_owned(), sorted(&value)))
    });
    Some((name, taken.collect()))
}

/// The same value with the keys of all objects in order: who serves a template spells it as it likes.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The part for people: variables by their names, so that what is secret by its name is told by that.
pub fn shown(part: &str) -> String {
    let Ok(mut part) = serde_json::from_str::<Value>(part) else { return part.to_owned() };
    let lists = part.as_object_mut().into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut);
    for container in lists.flat_map(Map::values_mut) {
        let Some(variables) = container.get_mut("env").filter(|env| env.is_array()) else { continue };
        let named = variables.as_array().into_iter().flatten().filter_map(|variable| {
            let value = variable.get("value").or_else(|| variable.get("valueFrom")).cloned();
            Some((variable.get("name")?.as_str()?.to_owned(), value.unwrap_or_default()))
        });
        *variables = Value::Object(named.collect());
    }
    serde_json::to_string_pretty(&part).unwrap_or_default()
}

/// The operations of a JSON patch that put a part into the containers of a workload's template; `None`: its containers
/// are others.
pub fn operations(spec: &Value, part: &str) -> Option<Vec<Value>> {
    let wanted: Value = serde_json::from_str(part).ok()?;
    let wanted = wanted.as_object()?;
    let is_known = |list: &String| CONTAINER_LISTS.contains(&list.as_str());
    if !wanted.keys().all(is_known) {
        return None;
    }
    let mut operations = Vec::new();
    for list in CONTAINER_LISTS {
        let (present, fields_by_name) = (spec.get(list).and_then(Value::as_array), wanted.get(list));
        let fields_by_name = fields_by_name.map_or_else(|| Some(Map::new()), |it| it.as_object().cloned())?;
        if present.map_or(0, Vec::len) != fields_by_name.len() {
            return None;
        }
        for (at, container) in present.into_iter().flatten().enumerate() {
            let fields = fields_by_name.get(container["name"].as_str()?)?.as_object()?;
            if !fields.keys().all(|field| CONTAINER_FIELDS.contains(&field.as_str())) {
                return None;
            }
            let path = format!("/spec/template/spec/{list}/{at}");
            operations.extend(CONTAINER_FIELDS.iter().filter_map(|field| {
                let path = format!("{path}/{field}");
                match (container.get(field), fields.get(*field)) {
                    (now, Some(wanted)) if now.map(sorted).as_ref() == Some(wanted) => None,
                    (_, Some(wanted)) => Some(json!({ "op": "add", "path": path, "value": wanted })),
                    (Some(_), None) => Some(json!({ "op": "remove", "path": path })),
                    (None, None) => None,
                }
            }));
        }
    }
    Some(operations)
}

/// The newest of these earlier templates in which a rollback would change something, if it may be put back. `templates`
/// are newest first.
pub fn earlier(present: &Revision, templates: &[Value]) -> Result<Revision, &'static str> {
    let mut earlier = templates.iter().filter_map(Revision::of);
    let found = earlier.find(|it| it.part != present.part).ok_or("NoEarlierRevision")?;
    if found.rest == present.rest { Ok(found) } else { Err("RevisionDiffersInMore") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(main: &Value) -> Value {
        let mut container =
            json!({ "name": "main", "image": "main:1", "args": ["--a"], "ports": [{ "containerPort": 1 }] });
        container.as_object_mut().unwrap().extend(main.as_object().unwrap().clone());
        json!({
            "metadata": { "labels": { "app": "a" } },
            "spec": {
                "initContainers": [{ "name": "first", "image": "first:1" }],
                "containers": [container, { "name": "side", "image": "side:1" }],
                "serviceAccountName": "a",
            },
        })
    }

    fn revision(template: &Value) -> Revision {
        Revision::of(template).unwrap()
    }

    /// The template after the patch that puts the part of another into it.
    fn rolled_back(present: &Value, part: &str) -> Option<Value> {
        let operations = operations(&present["spec"], part)?;
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations)).unwrap();
        let mut workload = json!({ "spec": { "template": present } });
        json_patch::patch(&mut workload, &patch).unwrap();
        Some(workload["spec"]["template"].clone())
    }

    #[test]
    fn what_containers_are_made_of_and_run_is_put_back() {
        let earlier = template(&json!({ "env": [{ "name": "A", "value": "1" }] }));
        let table = [
            json!({ "image": "main:2" }),
            json!({ "args": ["--b"] }),
            json!({ "command": ["sh"] }),
            json!({ "env": [{ "name": "A", "value": "2" }] }),
            json!({ "envFrom": [{ "configMapRef": { "name": "c" } }] }),
            json!({ "resources": { "limits": { "memory": "1Mi" } } }),
        ];
        for more in table {
            let present = template(&more);
            let found = super::earlier(&revision(&present), std::slice::from_ref(&earlier)).unwrap();
            let after = rolled_back(&present, &found.part).unwrap();
            assert_eq!(revision(&after), revision(&earlier), "{more}");
        }
    }

    #[test]
    fn a_revision_that_differs_in_anything_else_of_the_pod_is_not_put_back() {
        let present = revision(&template(&json!({})));
        let privileged = template(&json!({ "image": "main:0", "securityContext": { "privileged": true } }));
        let mounting = template(&json!({ "image": "main:0", "volumeMounts": [{ "name": "v", "mountPath": "/" }] }));
        let probed = template(&json!({ "image": "main:0", "livenessProbe": { "tcpSocket": { "port": 1 } } }));
        let mut of_another_account = template(&json!({ "image": "main:0" }));
        of_another_account["spec"]["serviceAccountName"] = json!("admin");
        let mut on_the_host = template(&json!({ "image": "main:0" }));
        on_the_host["spec"]["hostNetwork"] = json!(true);
        let mut smaller = template(&json!({ "image": "main:0" }));
        smaller["spec"]["containers"].as_array_mut().unwrap().pop();
        for earlier in [privileged, mounting, probed, of_another_account, on_the_host, smaller] {
            assert_eq!(
                super::earlier(&present, std::slice::from_ref(&earlier)),
                Err("RevisionDiffersInMore"),
                "{earlier}"
            );
        }
        let same = template(&json!({}));
        assert_eq!(super::earlier(&present, &[same]), Err("NoEarlierRevision"));
    }

    #[test]
    fn labels_annotations_and_the_spelling_of_a_template_do_not_count() {
        let present =
            template(&json!({ "image": "main:2", "resources": { "limits": { "cpu": "1", "memory": "1Mi" } } }));
        let mut same =
            template(&json!({ "image": "main:2", "resources": { "limits": { "memory": "1Mi", "cpu": "1" } } }));
        same["metadata"] = json!({ "annotations": { "kubectl.kubernetes.io/restartedAt": "x" }, "labels": { "pod-template-hash": "h" } });
        assert_eq!(revision(&present), revision(&same));
        let oldest = template(&json!({ "image": "main:1" }));
        assert_eq!(super::earlier(&revision(&present), &[same, oldest.clone()]), Ok(revision(&oldest)));
    }

    #[test]
    fn people_see_variables_by_name() {
        let before = revision(&template(
            &json!({ "env": [{ "name": "PASSWORD", "value": "hunter2" }, { "name": "L", "value": "1" }] }),
        ));
        let after = revision(&template(
            &json!({ "env": [{ "name": "PASSWORD", "value": "correct" }, { "name": "L", "value": "2" }] }),
        ));
        let paths: Vec<_> = before.differences(&after).into_iter().map(|it| it.path).collect();
        assert_eq!(paths, ["/containers/main/env/L", "/containers/main/env/PASSWORD"]);
        let told = format!(
            "{:?}{}",
            crate::redact::changes(Format::Json, &shown(&before.part), &shown(&after.part)),
            crate::redact::diff(&shown(&before.part), &shown(&after.part), 4096)
        );
        assert!(!told.contains("hunter2") && !told.contains("correct"), "{told}");
    }

    #[test]
    fn a_part_that_is_not_of_these_containers_and_fields_is_refused() {
        let present = template(&json!({}));
        for part in [
            r#"{"containers":{"main":{"image":"x"}},"initContainers":{"first":{}}}"#,
            r#"{"containers":{"main":{"image":"x"},"other":{}},"initContainers":{"first":{}}}"#,
            r#"{"containers":{"main":{"image":"x"},"side":{}}}"#,
            r#"{"containers":{"main":{"securityContext":{}},"side":{}},"initContainers":{"first":{}}}"#,
            r#"{"containers":{"main":{},"side":{}},"initContainers":{"first":{}},"ephemeralContainers":{}}"#,
            "nonsense",
        ] {
            assert_eq!(rolled_back(&present, part), None, "{part}");
        }
    }

    fn container() -> impl Strategy<Value = Value> {
        let field = prop_oneof![
            Just("image"),
            Just("command"),
            Just("args"),
            Just("env"),
            Just("envFrom"),
            Just("resources"),
            Just("ports"),
            Just("securityContext"),
            Just("volumeMounts"),
            Just("imagePullPolicy"),
        ];
        prop::collection::btree_map(field, 0..3u8, 0..6).prop_map(|fields| {
            Value::Object(fields.into_iter().map(|(field, value)| (field.to_owned(), json!(value))).collect())
        })
    }

    proptest! {
        #[test]
        fn whatever_is_rolled_back_only_the_listed_fields_change(now in container(), before in container()) {
            let (present, earlier) = (template(&now), template(&before));
            let after = rolled_back(&present, &revision(&earlier).part).unwrap();
            prop_assert_eq!(&revision(&after).rest, &revision(&present).rest);
            prop_assert_eq!(&revision(&after).part, &revision(&earlier).part);
        }
    }
}
