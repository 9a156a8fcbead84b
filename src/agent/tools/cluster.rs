//! Reads objects and events of one namespace. Touches the world by reading.

use super::call::ObjectKind;
use super::reading::Reading;
use crate::crd::{Invariant, Ticket};
use crate::redact;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};

/// Objects and events that are asked for at once.
const LISTED: u32 = 200;
/// Events that are shown.
const SHOWN_EVENTS: usize = 25;

fn resource(kind: ObjectKind) -> ApiResource {
    match kind {
        ObjectKind::Pod => ApiResource::erase::<Pod>(&()),
        ObjectKind::Service => ApiResource::erase::<Service>(&()),
        ObjectKind::EndpointSlice => ApiResource::erase::<EndpointSlice>(&()),
        ObjectKind::Deployment => ApiResource::erase::<Deployment>(&()),
        ObjectKind::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
        ObjectKind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
        ObjectKind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
        ObjectKind::Invariant => ApiResource::erase::<Invariant>(&()),
        ObjectKind::Ticket => ApiResource::erase::<Ticket>(&()),
    }
}

fn api(client: &Client, namespace: &str, kind: ObjectKind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// One object, without what says nothing about a fault.
pub(super) async fn get_object(
    client: &Client,
    namespace: &str,
    kind: ObjectKind,
    name: &str,
) -> Result<Reading, kube::Error> {
    let Some(object) = api(client, namespace, kind).get_opt(name).await? else {
        return Ok(Reading::text("not found", format!("there is no {kind:?} {name} in the namespace")));
    };
    let outcome = format!("{kind:?} {name}: {}", state(&object));
    Ok(Reading::text(outcome, yaml(&pruned(object))))
}

/// The objects of a kind, a line each.
pub(super) async fn list_objects(client: &Client, namespace: &str, kind: ObjectKind) -> Result<Reading, kube::Error> {
    let found = api(client, namespace, kind).list(&ListParams::default().limit(LISTED)).await?.items;
    let lines: Vec<String> = found.iter().map(|object| format!("{}: {}", object.name_any(), state(object))).collect();
    let content = if lines.is_empty() { "there are none".to_owned() } else { lines.join("\n") };
    Ok(Reading::text(format!("{} found", lines.len()), content))
}

/// Recent events, newest first.
pub(super) async fn list_events(client: &Client, namespace: &str, about: Option<&str>) -> Result<Reading, kube::Error> {
    let mut parameters = ListParams::default().limit(LISTED);
    if let Some(name) = about {
        parameters = parameters.fields(&format!("involvedObject.name={name}"));
    }
    let mut found = Api::<Event>::namespaced(client.clone(), namespace).list(&parameters).await?.items;
    found.sort_by_key(|event| std::cmp::Reverse(seen_at(event)));
    let lines: Vec<String> = found.iter().take(SHOWN_EVENTS).map(describe).collect();
    let content = if lines.is_empty() { "there are none".to_owned() } else { lines.join("\n") };
    Ok(Reading::text(format!("{} found", found.len()), content))
}

fn seen_at(event: &Event) -> Option<jiff::Timestamp> {
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.first_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

fn describe(event: &Event) -> String {
    let object = &event.involved_object;
    let (kind, name) = (object.kind.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default());
    let at = seen_at(event).map(|time| format!("{time:.0} ")).unwrap_or_default();
    let line = format!(
        "{at}{kind}/{name} {}: {}",
        event.reason.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default()
    );
    redact::line(&line, 300)
}

/// What of an object's status people look at first.
fn state(object: &DynamicObject) -> String {
    const SHOWN: [(&str, &str); 10] = [
        ("/status/phase", "phase"),
        ("/status/reason", "reason"),
        ("/status/outcome", "outcome"),
        ("/status/value", "value"),
        ("/spec/replicas", "replicas"),
        ("/status/readyReplicas", "ready"),
        ("/status/updatedReplicas", "updated"),
        ("/status/containerStatuses/0/ready", "container ready"),
        ("/status/containerStatuses/0/restartCount", "restarts"),
        ("/status/containerStatuses/0/state/waiting/reason", "waiting"),
    ];
    let found = SHOWN.iter().filter_map(|(path, name)| {
        let value = object.data.pointer(path)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{name} {}", redact::line(&text, 64)))
    });
    let line = found.collect::<Vec<_>>().join(", ");
    if line.is_empty() { "exists".to_owned() } else { line }
}

/// An object without managed fields, applied manifests and environment values, which may hold secrets.
fn pruned(object: DynamicObject) -> Value {
    let keep = |annotations: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
        let shown = annotations.iter().filter(|(key, _)| *key != "kubectl.kubernetes.io/last-applied-configuration");
        shown.map(|(key, value)| (key.clone(), json!(value))).collect()
    };
    let mut whole = json!({
        "metadata": {
            "name": object.name_any(),
            "creationTimestamp": object.metadata.creation_timestamp,
            "generation": object.metadata.generation,
            "labels": object.labels(),
            "annotations": keep(object.annotations()),
        },
    });
    let mut data = object.data;
    hide_environment(&mut data);
    if let (Value::Object(whole), Value::Object(data)) = (&mut whole, data) {
        whole.extend(data.into_iter().filter(|(key, _)| key != "metadata"));
    }
    whole
}

/// Empties the `value` of everything in a list called `env`, however deep.
fn hide_environment(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                if name == "env"
                    && let Value::Array(entries) = field
                {
                    for entry in entries.iter_mut().filter(|entry| entry.get("value").is_some()) {
                        entry["value"] = Value::String(redact::MARKER.to_owned());
                    }
                }
                hide_environment(field);
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(hide_environment),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).unwrap_or_else(|_| value.to_string())
}
