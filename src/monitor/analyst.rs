//! Gathers what a ticket says about a breach: one line for people, and the evidence.
//!
//! Touches the world by reading: the ConfigMaps that the invariant's `allow` list names, recent events, and what is behind
//! the invariant.

use super::record::Record;
use super::target;
use crate::crd::{Allow, ConfigEvidence, ConfigMapKey, Evidence, Invariant, PathChange, PathValue, RecentEvent};
use crate::document::{self, Format};
use crate::history::{ConfigHistory, Revision};
use crate::probe::Reading;
use crate::redact;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Events that a ticket shows.
const SHOWN_EVENTS: usize = 10;
/// Events that are looked through for these.
const LISTED_EVENTS: u32 = 500;

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

/// Gathers evidence. Cheap to clone; clones share all.
#[derive(Clone)]
pub struct Analyst {
    client: Client,
    history: ConfigHistory,
    /// The events of each namespace as they were listed last: many tickets may be opened at once.
    listed: Arc<Mutex<HashMap<String, Listed>>>,
}

struct Listed {
    at: Instant,
    /// What they are about, and the events as they came, newest first.
    events: Arc<Vec<(String, RecentEvent)>>,
}

/// A list of events serves all tickets that are opened within this time.
const LISTED_FOR: Duration = Duration::from_secs(2);

impl Analyst {
    /// One that knows what the followed ConfigMaps contained.
    pub fn new(client: Client, history: ConfigHistory) -> Self {
        Self { client, history, listed: Arc::default() }
    }

    /// What is known now. What cannot be read is left out, and logged: a ticket without it is better than none.
    pub async fn evidence(&self, invariant: &Invariant, record: &Record) -> Evidence {
        let namespace = invariant.namespace().unwrap_or_default();
        let mut config = Vec::new();
        for allow in &invariant.spec.remediation.allow {
            match allow {
                Allow::EditConfig(target) => {
                    config.push(self.config_evidence(&namespace, target, record.last_held_at).await);
                }
                Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => {}
            }
        }
        let mut about: Vec<String> = config.iter().map(|evidence| evidence.target.name.clone()).collect();
        about.extend(invariant.spec.target_ref.as_ref().map(|target| target.name.clone()));
        about.push(invariant.name_any());
        let (events, findings) =
            tokio::join!(self.events(&namespace, &about), target::findings(&self.client, invariant));
        Evidence {
            samples: record.recent_samples(),
            body: record.last.as_ref().and_then(|last| last.findings.as_ref()?.body.clone()),
            config,
            events,
            findings,
        }
    }

    async fn config_evidence(
        &self,
        namespace: &str,
        target: &ConfigMapKey,
        last_held_at: Option<Timestamp>,
    ) -> ConfigEvidence {
        let now = read_config(&self.client, namespace, &target.name).await;
        let key = ObjectKey::new(namespace, &target.name);
        let held = last_held_at.and_then(|time| self.history.at(&key, time));
        describe(target, now.as_ref(), held.as_deref())
    }

    /// The newest events about these names.
    async fn events(&self, namespace: &str, about: &[String]) -> Vec<RecentEvent> {
        let mut listed = self.listed.lock().await;
        listed.retain(|_, list| list.at.elapsed() < LISTED_FOR);
        let events = if let Some(list) = listed.get(namespace) {
            Arc::clone(&list.events)
        } else {
            let Some(events) = list_events(&self.client, namespace).await else { return Vec::new() };
            let events = Arc::new(events);
            listed.insert(namespace.to_owned(), Listed { at: Instant::now(), events: Arc::clone(&events) });
            events
        };
        let found = events.iter().filter(|(name, _)| about.contains(name)).take(SHOWN_EVENTS);
        found.map(|(_, event)| shown(event)).collect()
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

/// The evidence about one key: what it is now, and how it differs from when the invariant last held. Pure.
fn describe(target: &ConfigMapKey, now: Option<&Revision>, held: Option<&Revision>) -> ConfigEvidence {
    let text = now.and_then(|revision| revision.data.get(&target.key));
    let writer = now.and_then(|revision| revision.writers.get(&target.key));
    let document = text.and_then(|text| document::parse_key(target, text).ok());
    let values = target.paths.iter().filter_map(|path| {
        let document = document.as_ref()?;
        let found = document.at(&document.resolve(path)?)?;
        Some(PathValue { path: path.clone(), value: redact::value(path, &found) })
    });
    ConfigEvidence {
        target: target.clone(),
        resource_version: now.map(|revision| revision.resource_version.clone()),
        digest: text.map(|text| document::digest(text)),
        values: values.collect(),
        changes: changes(target, held.and_then(|revision| revision.data.get(&target.key)), text),
        changed_by: writer.map(|writer| redact::line(&writer.manager, 128)),
        changed_at: writer.and_then(|writer| writer.at).map(MicroTime),
    }
}

fn changes(target: &ConfigMapKey, held: Option<&String>, now: Option<&String>) -> Vec<PathChange> {
    match (held, now) {
        (Some(held), Some(now)) if held != now => redact::changes(Format::of_key(target, now), held, now),
        _ => Vec::new(),
    }
}

/// The events of a namespace with what they are about, newest first. Those about tickets are left out: they say what the
/// harness itself did.
async fn list_events(client: &Client, namespace: &str) -> Option<Vec<(String, RecentEvent)>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default().limit(LISTED_EVENTS)).await;
    let list = list.inspect_err(|error| {
        tracing::warn!(namespace, %error, "events cannot be read for a ticket's evidence");
    });
    let of_others = list.ok()?.items.into_iter().filter(|it| it.involved_object.kind.as_deref() != Some("Ticket"));
    let mut events: Vec<_> = of_others.map(recent_event).collect();
    events.sort_by_key(|(_, event)| std::cmp::Reverse(event.at.as_ref().map(|at| at.0)));
    Some(events)
}

fn seen_at(event: &Event) -> Option<Timestamp> {
    let times = [event.last_timestamp.as_ref().map(|time| time.0), event.event_time.as_ref().map(|time| time.0)];
    times.into_iter().flatten().max()
}

fn recent_event(event: Event) -> (String, RecentEvent) {
    let at = seen_at(&event).map(MicroTime);
    let object = event.involved_object;
    let (kind, name) = (object.kind.as_deref().unwrap_or("?"), object.name.unwrap_or_default());
    let recent = RecentEvent {
        at,
        object: format!("{kind}/{name}"),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
    };
    (name, recent)
}

/// An event as tickets show it.
fn shown(event: &RecentEvent) -> RecentEvent {
    RecentEvent {
        at: event.at.clone(),
        object: redact::line(&event.object, 320),
        reason: redact::line(&event.reason, 128),
        message: redact::line(&event.message, 256),
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
            data_version: "7".into(),
            created_at: None,
            data: BTreeMap::from([("config.json".into(), text.into())]),
            seen_at: Timestamp::UNIX_EPOCH,
            first: false,
            writers: BTreeMap::new(),
            managed_by: None,
        }
    }

    fn target() -> ConfigMapKey {
        ConfigMapKey { name: "config".into(), key: "config.json".into(), format: None, paths: vec!["/delay_ms".into()] }
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
