//! Gathers what a ticket says about a breach: one line for people, and the evidence.
//!
//! Touches the world by reading: the ConfigMaps that the invariant's `allow` list names, and recent events.

use super::record::Record;
use crate::crd::{Allow, ConfigEvidence, ConfigMapKey, Evidence, Invariant, PathChange, PathValue, RecentEvent};
use crate::document;
use crate::history::{ConfigHistory, Revision};
use crate::probe::Reading;
use crate::redact;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Events that a ticket shows.
const SHOWN_EVENTS: usize = 10;

/// One line: what broke, and what was expected.
pub fn title(invariant: &Invariant, record: &Record) -> String {
    let name = invariant.name_any();
    let got = match record.last.as_ref() {
        None => "no answer".to_owned(),
        Some(last) => match &last.reading {
            Reading::Unknown(reason) => format!("could not be asked ({reason})"),
            Reading::Failed(reason) => reason.to_string(),
            Reading::Value(value) => format!("is {value}"),
        },
    };
    redact::line(&format!("{name}: {got}, expected {}", invariant.spec.condition), 256)
}

/// What is known now. What cannot be read is left out, and logged: a ticket without it is better than none.
pub async fn evidence(client: &Client, history: &ConfigHistory, invariant: &Invariant, record: &Record) -> Evidence {
    let namespace = invariant.namespace().unwrap_or_default();
    let mut config = Vec::new();
    for allow in &invariant.spec.remediation.allow {
        match allow {
            Allow::EditConfig(target) => {
                config.push(config_evidence(client, history, &namespace, target, record.last_held_at).await);
            }
            Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => {}
        }
    }
    let mut about: Vec<String> = config.iter().map(|evidence| evidence.target.name.clone()).collect();
    about.extend(invariant.spec.target_ref.as_ref().map(|target| target.name.clone()));
    about.push(invariant.name_any());
    Evidence {
        samples: record.recent_samples(),
        body: record.last.as_ref().and_then(|last| last.findings.as_ref()?.body.clone()),
        config,
        events: events(client, &namespace, &about).await,
    }
}

/// Reads a ConfigMap; `None` where it does not exist or cannot be read.
pub async fn read_config(client: &Client, namespace: &str, name: &str) -> Option<Revision> {
    match Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name).await {
        Ok(object) => object.map(|object| Revision::of(&object, Timestamp::now(), false)),
        Err(error) => {
            tracing::warn!(namespace, name, %error, "ConfigMap cannot be read for a ticket's evidence");
            None
        }
    }
}

async fn config_evidence(
    client: &Client,
    history: &ConfigHistory,
    namespace: &str,
    target: &ConfigMapKey,
    last_held_at: Option<Timestamp>,
) -> ConfigEvidence {
    let now = read_config(client, namespace, &target.name).await;
    let key = ObjectKey::new(namespace, &target.name);
    let held = last_held_at.and_then(|time| history.at(&key, time));
    describe(target, now.as_ref(), held.as_deref())
}

/// The evidence about one key: what it is now, and how it differs from when the invariant last held. Pure.
fn describe(target: &ConfigMapKey, now: Option<&Revision>, held: Option<&Revision>) -> ConfigEvidence {
    let text = now.and_then(|revision| revision.data.get(&target.key));
    let writer = now.and_then(|revision| revision.writers.get(&target.key));
    let value = text.and_then(|text| document::parse(text).ok());
    let values = target.paths.iter().filter_map(|path| {
        let found = value.as_ref()?.pointer(path)?;
        Some(PathValue { path: path.clone(), value: redact::value(path, found) })
    });
    ConfigEvidence {
        target: target.clone(),
        resource_version: now.map(|revision| revision.resource_version.clone()),
        digest: text.map(|text| document::digest(text)),
        values: values.collect(),
        changes: changes(held.and_then(|revision| revision.data.get(&target.key)), text),
        changed_by: writer.map(|writer| redact::line(&writer.manager, 128)),
        changed_at: writer.and_then(|writer| writer.at).map(MicroTime),
    }
}

fn changes(held: Option<&String>, now: Option<&String>) -> Vec<PathChange> {
    match (held, now) {
        (Some(held), Some(now)) if held != now => redact::changes(held, now),
        _ => Vec::new(),
    }
}

async fn events(client: &Client, namespace: &str, about: &[String]) -> Vec<RecentEvent> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut found = match api.list(&ListParams::default().limit(500)).await {
        Ok(list) => list.items,
        Err(error) => {
            tracing::warn!(namespace, %error, "events cannot be read for a ticket's evidence");
            return Vec::new();
        }
    };
    found.retain(|event| event.involved_object.name.as_ref().is_some_and(|name| about.contains(name)));
    found.sort_by_key(|event| std::cmp::Reverse(seen_at(event)));
    found.iter().take(SHOWN_EVENTS).map(recent_event).collect()
}

fn seen_at(event: &Event) -> Option<Timestamp> {
    let times = [event.last_timestamp.as_ref().map(|time| time.0), event.event_time.as_ref().map(|time| time.0)];
    times.into_iter().flatten().max()
}

fn recent_event(event: &Event) -> RecentEvent {
    let object = &event.involved_object;
    let (kind, name) = (object.kind.as_deref().unwrap_or("?"), object.name.as_deref().unwrap_or("?"));
    RecentEvent {
        at: seen_at(event).map(MicroTime),
        object: redact::line(&format!("{kind}/{name}"), 320),
        reason: redact::line(event.reason.as_deref().unwrap_or_default(), 128),
        message: redact::line(event.message.as_deref().unwrap_or_default(), 256),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn revision(text: &str) -> Revision {
        Revision {
            uid: "uid".into(),
            resource_version: "7".into(),
            data: BTreeMap::from([("config.json".into(), text.into())]),
            seen_at: Timestamp::UNIX_EPOCH,
            first: false,
            writers: BTreeMap::new(),
            managed_by: None,
        }
    }

    fn target() -> ConfigMapKey {
        ConfigMapKey { name: "config".into(), key: "config.json".into(), paths: vec!["/delay_ms".into()] }
    }

    #[test]
    fn the_evidence_names_what_changed_since_it_last_held() {
        let found = describe(
            &target(),
            Some(&revision(r#"{"delay_ms": 500, "password": "b"}"#)),
            Some(&revision(r#"{"delay_ms": 0, "password": "a"}"#)),
        );
        let change = |path: &str, before: &str, after: &str| PathChange {
            path: path.into(),
            before: Some(before.into()),
            after: Some(after.into()),
        };
        assert_eq!(
            found.changes,
            [change("/delay_ms", "0", "500"), change("/password", redact::MARKER, redact::MARKER)]
        );
        assert_eq!(found.values, [PathValue { path: "/delay_ms".into(), value: "500".into() }]);
    }

    #[test]
    fn a_missing_config_map_is_evidence_too() {
        let found = describe(&target(), None, None);
        assert_eq!((found.resource_version, found.digest), (None, None));
    }
}
