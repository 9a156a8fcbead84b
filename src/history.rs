//! What the ConfigMaps that repairs may touch contained, since when, and who wrote them.
//!
//! Touches the world in one way: a watch for each ConfigMap that somebody asked to follow.

mod authorship;
mod fields;

pub use authorship::{Author, author};
pub use fields::writer_of;

use crate::crd::{Allow, Invariant};
use crate::gitops::{self, ManagedBy};
use crate::watch::{Change, ObjectKey, changes};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch as signal;
use tokio::task::AbortHandle;

/// Revisions kept for each ConfigMap.
const KEPT_REVISIONS: usize = 32;

/// One state of a ConfigMap.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// The object's UID.
    pub uid: String,
    /// The object's resourceVersion.
    pub resource_version: String,
    /// Its `data`.
    pub data: BTreeMap<String, String>,
    /// The resourceVersion that the object had when this data was first seen: the others since changed nothing in it.
    pub data_version: String,
    /// When the object was created, to the second.
    pub created_at: Option<Timestamp>,
    /// When this data was first seen here; for the first revision of all this is when the watch began.
    pub seen_at: Timestamp,
    /// It is the first that was seen: what was before, and since when this was so, is not known.
    pub first: bool,
    /// The last writer of each key.
    pub writers: BTreeMap<String, Writer>,
    /// The GitOps tool whose marks the object carries.
    pub managed_by: Option<ManagedBy>,
}

/// Who gave a key its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The field manager.
    pub manager: String,
    /// When it wrote anything to this object last, to the second.
    pub at: Option<Timestamp>,
}

impl Revision {
    /// The state of a ConfigMap that was just read.
    pub fn of(object: &ConfigMap, seen_at: Timestamp, first: bool) -> Self {
        Self {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            data: object.data.clone().unwrap_or_default(),
            data_version: object.resource_version().unwrap_or_default(),
            created_at: object.creation_timestamp().map(|time| time.0),
            seen_at,
            first,
            writers: writers(object.managed_fields()),
            managed_by: gitops::tracked_by(object),
        }
    }

    /// Whether it is the same data of the same object: others write its annotations all the time.
    pub fn is_same_data(&self, other: &Self) -> bool {
        self.uid == other.uid && self.data_version == other.data_version
    }

    /// Takes over since when this data was seen; false: the state before had other data.
    fn goes_on_from(&mut self, before: &Self) -> bool {
        let goes_on = self.uid == before.uid && self.data == before.data;
        if goes_on {
            self.data_version.clone_from(&before.data_version);
            (self.seen_at, self.first) = (before.seen_at, before.first);
        }
        goes_on
    }
}

/// Who wrote each key in `data`, by managed fields. Of several that gave a key the same text it is the first: who only
/// repeats a text changed nothing, though its entry may be newer for another key's sake.
fn writers(entries: &[ManagedFieldsEntry]) -> BTreeMap<String, Writer> {
    let mut writers: BTreeMap<String, Writer> = BTreeMap::new();
    for entry in entries {
        let Some(keys) = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:data")?.as_object()) else {
            continue;
        };
        let writer = Writer {
            manager: entry.manager.clone().unwrap_or_else(|| "unknown".to_owned()),
            at: entry.time.as_ref().map(|time| time.0),
        };
        for key in keys.keys().filter_map(|key| key.strip_prefix("f:")) {
            let known = writers.entry(key.to_owned()).or_insert_with(|| writer.clone());
            if writer.at < known.at {
                *known = writer.clone();
            }
        }
    }
    writers
}

/// The ConfigMaps that a repair of this invariant may touch.
pub fn config_maps_of(invariant: &Invariant) -> Vec<ObjectKey> {
    let namespace = invariant.namespace().unwrap_or_default();
    let allowed = invariant.spec.remediation.allow.iter().filter_map(|allow| match allow {
        Allow::EditConfig(target) => Some(ObjectKey::new(namespace.clone(), &target.name)),
        Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => None,
    });
    allowed.collect()
}

/// The states of the followed ConfigMaps. Cheap to clone; clones share all.
#[derive(Clone)]
pub struct ConfigHistory {
    client: Client,
    followed: Arc<Mutex<HashMap<ObjectKey, Followed>>>,
    changed: signal::Sender<u64>,
}

struct Followed {
    /// How often somebody asked for it.
    followers: usize,
    revisions: VecDeque<Arc<Revision>>,
    watch: AbortHandle,
}

impl Followed {
    fn push(&mut self, mut revision: Revision) {
        if self.revisions.back().is_some_and(|last| revision.goes_on_from(last)) {
            self.revisions.pop_back();
        }
        if self.revisions.len() == KEPT_REVISIONS {
            self.revisions.pop_front();
        }
        self.revisions.push_back(Arc::new(revision));
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl ConfigHistory {
    /// A history that follows nothing yet.
    pub fn new(client: Client) -> Self {
        Self { client, followed: Arc::default(), changed: signal::Sender::new(0) }
    }

    /// Follows `after` from now on, once for each time it is named, and no longer what was named in `before`. What
    /// nobody follows any more is forgotten.
    pub fn follow_instead(&self, before: Vec<ObjectKey>, after: Vec<ObjectKey>) {
        let mut followed = self.lock();
        for key in after {
            followed.entry(key).or_insert_with_key(|key| self.begin(key.clone())).followers += 1;
        }
        for key in before {
            if let Some(entry) = followed.get_mut(&key) {
                entry.followers -= 1;
                if entry.followers == 0 {
                    followed.remove(&key);
                }
            }
        }
    }

    /// The newest state that was seen; `None` while the object does not exist or was not seen yet.
    pub fn latest(&self, key: &ObjectKey) -> Option<Arc<Revision>> {
        self.lock().get(key)?.revisions.back().cloned()
    }

    /// The states that were seen, oldest first; at most 32.
    pub fn revisions(&self, key: &ObjectKey) -> Vec<Arc<Revision>> {
        self.lock().get(key).map(|followed| followed.revisions.iter().cloned().collect()).unwrap_or_default()
    }

    /// The state that was in force at `time`, if that was seen.
    pub fn at(&self, key: &ObjectKey, time: Timestamp) -> Option<Arc<Revision>> {
        self.lock().get(key)?.revisions.iter().rev().find(|revision| revision.seen_at <= time).cloned()
    }

    /// Is marked as changed whenever a followed ConfigMap changes.
    pub fn subscribe(&self) -> signal::Receiver<u64> {
        self.changed.subscribe()
    }

    fn begin(&self, key: ObjectKey) -> Followed {
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let mut stream = Box::pin(changes::<ConfigMap>(api, config));
        // A watch does not keep the history: it ends with the last who wants to know.
        let (followed, changed, followed_key) = (Arc::downgrade(&self.followed), self.changed.clone(), key);
        let client = self.client.clone();
        let task = tokio::spawn(async move {
            while let Some(change) = stream.next().await {
                let Some(followed) = followed.upgrade() else { return };
                Self { client: client.clone(), followed, changed: changed.clone() }.record(&followed_key, change);
            }
        });
        Followed { followers: 0, revisions: VecDeque::new(), watch: task.abort_handle() }
    }

    fn record(&self, key: &ObjectKey, change: Change<ConfigMap>) {
        {
            let mut followed = self.lock();
            let Some(entry) = followed.get_mut(key) else { return };
            match change {
                Change::Applied(object) => {
                    let first = entry.revisions.is_empty();
                    let revision = Revision::of(&object, Timestamp::now(), first);
                    if entry.revisions.back().is_some_and(|last| last.resource_version == revision.resource_version) {
                        return;
                    }
                    entry.push(revision);
                }
                Change::Deleted(_) => entry.revisions.clear(),
                Change::Synced => return,
            }
        }
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Followed>> {
        // A panic while the lock was held cannot leave the map half changed in a way that matters.
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
