//! Grants: whoever changes an invariant that lets something be written may write that themselves; and every maximum
//! that the schemas document can be created with the policies in force.

use super::{NAMESPACE, apply, guarded};
use crate::stage::PATIENCE;
use crate::support::eventually;
use harness::crd::{Invariant, Ticket, definitions};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[tokio::test]
async fn every_documented_maximum_can_be_created_with_the_policies_in_force() {
    let (plane, administrator) = guarded().await;
    let jane = tenant(&plane, &administrator).await;
    let spec = spec_schema("invariants.harness.dev");
    for kind in ["editConfig", "restart", "rollback", "scale"] {
        let mut object = invariant(&kind.to_lowercase(), &json!({}));
        object["spec"] = largest(&spec, kind, &mut 0).unwrap();
        object["spec"]["remediation"]["mode"] = json!("Auto");
        assert_eq!(object["spec"]["remediation"]["allow"].as_array().map(Vec::len), Some(16), "{kind}");
        assert_eq!(write(&administrator, &object).await, Ok(()), "{kind}");
        // Each entry is asked about, up to the last.
        for number in [0, 7, 15] {
            let mut one = object.clone();
            one["metadata"]["name"] = json!("one");
            for (at, other) in one["spec"]["remediation"]["allow"].as_array_mut().unwrap().iter_mut().enumerate() {
                if at != number {
                    *other = json!({ "editConfig": { "name": "mine", "key": format!("k{at}") } });
                }
            }
            let refused = write(&jane, &one).await;
            assert!(refused.as_ref().is_err_and(|it| it.contains(&format!("allow[{number}]"))), "{kind}: {refused:?}");
        }
    }
    let mut mine = invariant("mine", &json!({}));
    let keys = (0..16).map(|number| json!({ "editConfig": { "name": "mine", "key": format!("k{number}") } }));
    mine["spec"]["remediation"] = json!({ "allow": keys.collect::<Vec<_>>() });
    assert_eq!(write(&jane, &mine).await, Ok(()));

    let mut ticket = largest(&spec_schema("tickets.harness.dev"), "", &mut 0).unwrap();
    ticket.as_object_mut().unwrap().remove("approval");
    let ticket: Ticket = serde_json::from_value(json!({ "metadata": { "name": "t" }, "spec": ticket })).unwrap();
    let api = Api::<Ticket>::namespaced(administrator, NAMESPACE);
    api.create(&PostParams::default(), &ticket).await.unwrap();
    plane.stop().await;
}

/// The schema of a definition's spec.
fn spec_schema(definition: &str) -> Value {
    let definition = definitions().into_iter().find(|it| it.name_any() == definition).unwrap();
    let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
    version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// A value with every list and every text as long as the schema lets it be, and of each choice the given one; `None`
/// for what has no length, and is not needed. All texts are different.
fn largest(schema: &Value, choice: &str, number: &mut usize) -> Option<Value> {
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().rfind(|it| !it.is_null()).cloned();
    }
    let most = |field: &str| {
        let most = schema[field].as_u64().unwrap_or_else(|| panic!("without {field}: {schema:#}"));
        usize::try_from(most).unwrap()
    };
    *number += 1;
    match schema["type"].as_str()? {
        "array" => {
            let items = (0..most("maxItems")).map(|_| largest(&schema["items"], choice, number));
            Some(Value::Array(items.collect::<Option<_>>().unwrap()))
        }
        "object" => {
            let is_choice = schema["oneOf"].is_array();
            let required: Vec<&str> =
                schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let fields = schema["properties"].as_object()?.iter().filter(|(field, _)| !is_choice || *field == choice);
            let values = fields.filter_map(|(field, schema)| {
                let needed = required.contains(&field.as_str()).then(|| json!(1));
                Some((field.clone(), largest(schema, choice, number).or(needed)?))
            });
            Some(values.collect())
        }
        "string" if schema["format"] == "date-time" => Some(json!("2026-11-23T10:00:00.000000Z")),
        "string" => {
            let (begin, filling) = match schema["pattern"].as_str().unwrap_or_default() {
                "" => (format!("{number:08}"), "x"),
                pattern if pattern.starts_with("^(/(") => (format!("/{number:08}"), "x"),
                pattern if pattern.contains("https?") => ("http://a.example/".to_owned(), "x"),
                "^[0-9a-f]{64}$" => (String::new(), "0"),
                "^[0-9]+(\\.[0-9]{1,4})?$" => (String::new(), "1"),
                // A length of time: what matters of it is another kind of limit.
                _ => return None,
            };
            let most = most("maxLength");
            let begin = &begin[..begin.len().min(most)];
            Some(json!(format!("{begin}{}", filling.repeat(most - begin.len()))))
        }
        _ => None,
    }
}

#[tokio::test]
async fn whoever_may_not_write_what_an_invariant_grants_may_change_nothing_that_decides_when_it_is_written() {
    let (plane, administrator) = guarded().await;
    let jane = tenant(&plane, &administrator).await;
    let granting = json!({ "mode": "Observe", "allow": [{ "editConfig": { "name": "theirs", "key": "k" } }] });
    let mut theirs = invariant("theirs", &json!({ "remediation": granting, "suspend": true }));
    theirs["metadata"]["annotations"] = json!({ "harness.dev/suspend": "true" });
    assert_eq!(write(&administrator, &theirs).await, Ok(()));
    let changes = json!({
        "description": "other", "query": "http://b.example/", "condition": "== 503", "interval": "7s",
        "timeout": "10ms", "connection": "Reuse", "failureThreshold": 1, "successThreshold": 7, "noData": "Violated",
        "severity": "Info", "dependsOn": [{ "name": "a" }], "suspend": false,
        "targetRef": { "kind": "Deployment", "name": "a" }, "remediation": { "mode": "Auto" },
    });
    for field in spec_schema("invariants.harness.dev")["properties"].as_object().unwrap().keys() {
        let value = changes.get(field).cloned().unwrap_or_else(|| json!("7s"));
        let refused = change::<Invariant>(&jane, "theirs", json!({ "spec": { field: value } })).await;
        assert!(refused.as_ref().is_err_and(|words| words.contains("may not patch")), "{field}: {refused:?}");
    }
    for remediation in [
        json!({ "guards": ["a"] }),
        json!({ "verifyTimeout": "1h" }),
        json!({ "allow": [{ "editConfig": { "name": "theirs", "key": "other" } }] }),
    ] {
        let refused = change::<Invariant>(&jane, "theirs", json!({ "spec": { "remediation": remediation } })).await;
        assert!(refused.is_err_and(|words| words.contains("may not patch")), "{remediation}");
    }
    let lifted = json!({ "metadata": { "annotations": { "harness.dev/suspend": null } } });
    let refused = change::<Invariant>(&jane, "theirs", lifted.clone()).await;
    assert!(refused.is_err_and(|words| words.contains("may not patch")), "a suspension is lifted");
    assert_eq!(change::<Invariant>(&administrator, "theirs", lifted).await, Ok(()));
    // What takes grants away, and what grants nothing, asks for no right.
    for change_of in [
        json!({ "metadata": { "labels": { "team": "a" } } }),
        json!({ "metadata": { "annotations": { "harness.dev/suspend": "true" } } }),
        json!({ "spec": { "remediation": { "allow": [] } } }),
        json!({ "spec": { "query": "http://b.example/" } }),
    ] {
        assert_eq!(change::<Invariant>(&jane, "theirs", change_of.clone()).await, Ok(()), "{change_of}");
    }
    plane.stop().await;
}

fn invariant(name: &str, more: &Value) -> Value {
    let mut spec = json!({ "query": "http://a.example/", "condition": "== 200" });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": name }, "spec": spec,
    })
}

async fn write(client: &Client, invariant: &Value) -> Result<(), String> {
    let name = invariant["metadata"]["name"].as_str().unwrap();
    let api = Api::<Invariant>::namespaced(client.clone(), NAMESPACE);
    let written = api.patch(name, &PatchParams::apply("person").force(), &Patch::Apply(invariant)).await;
    written.map(|_| ()).map_err(|error| error.to_string())
}

async fn change<K>(client: &Client, name: &str, change: Value) -> Result<(), String>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let api = Api::<K>::namespaced(client.clone(), NAMESPACE);
    let changed = api.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
    changed.map(|_| ()).map_err(|error| error.to_string())
}

/// Somebody who may write invariants, and patch the ConfigMap `mine`; the policies are in force.
async fn tenant(plane: &harness::cluster::control_plane::ControlPlane, administrator: &Client) -> Client {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "tenant" },
        "rules": [
            { "apiGroups": ["harness.dev"], "resources": ["invariants"], "verbs": ["*"] },
            { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["patch"] },
        ],
    });
    apply(administrator, &role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "tenant" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "tenant" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    });
    apply(administrator, &binding).await;
    let jane = plane.user_client("jane", None).unwrap();
    // Another one each time: what is granted already is not asked again.
    let mut number = 0;
    eventually(PATIENCE, || {
        number += 1;
        let key = format!("k{number}");
        let allow = json!({ "allow": [{ "editConfig": { "name": "theirs", "key": key } }] });
        let invariant = invariant("probe", &json!({ "remediation": allow }));
        let jane = jane.clone();
        async move { write(&jane, &invariant).await.err().filter(|error| error.contains("may not patch")) }
    })
    .await;
    jane
}
