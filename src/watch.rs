//! Watches objects of one kind and says what changed, through lost connections and expired versions.

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt;

/// A namespace and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }

    /// A key from its parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The objects of one namespace, or of all.
pub fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    namespace.map_or_else(|| Api::all(client.clone()), |namespace| Api::namespaced(client.clone(), namespace))
}

/// Follows all objects of a kind in these namespaces; none named: in all. They come without managed fields.
pub fn changes_in<K>(client: &Client, namespaces: &[String]) -> impl Stream<Item = Change<K>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + 'static,
{
    let only = if let [only] = namespaces { Some(only.as_str()) } else { None };
    let wanted = namespaces.to_vec();
    changes(scope(client, only), watcher::Config::default()).filter_map(move |mut change: Change<K>| {
        let covers = |namespace: &str| wanted.is_empty() || wanted.iter().any(|it| it == namespace);
        let is_wanted = match &mut change {
            Change::Applied(object) => {
                prune(object.meta_mut());
                covers(object.meta().namespace.as_deref().unwrap_or_default())
            }
            Change::Deleted(key) => covers(&key.namespace),
            Change::Synced => true,
        };
        async move { is_wanted.then_some(change) }
    })
}

/// Forgets what is not asked of an object that is kept: mostly it is longer than all the rest.
fn prune(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED_ANNOTATION);
    }
}

/// Where `kubectl apply` keeps the whole object as it was given.
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What happened to the watched objects.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// It is there, like this.
    Applied(K),
    /// It is gone.
    Deleted(ObjectKey),
    /// Everything that exists was seen at least once.
    Synced,
}

/// Shorter than the idle time of the load balancers in front of common API servers, so that a connection that one of
/// them dropped is noticed. Seconds.
const WATCH_TIMEOUT_SECONDS: u32 = 200;

/// Follows all objects that `api` and `config` select. An object that cannot be understood is logged and passed over;
/// objects that vanished while the watch was interrupted are reported as deleted; interruptions are logged.
pub fn changes<K>(api: Api<DeserializeGuard<K>>, config: watcher::Config) -> impl Stream<Item = Change<K>> + Send
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + 'static,
{
    attempts(api, config).filter_map(|attempt| async {
        attempt
            .inspect_err(|error| {
                tracing::warn!(kind = %<K as Resource>::kind(&()), %error, "watch interrupted; it is tried again");
            })
            .ok()
    })
}

/// The same as [`changes`], with each interruption given instead of logged: for those who show how fresh what they
/// show is. The watch goes on after an error, with growing pauses.
pub fn attempts<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = Result<Change<K>, watcher::Error>> + Send
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + 'static,
{
    let config = config.timeout(WATCH_TIMEOUT_SECONDS).page_size(500);
    let mut known = Known::default();
    watcher(api, config).default_backoff().flat_map(move |event| {
        let changes = match event {
            Ok(event) => known.changes_of(event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(changes)
    })
}

/// The keys that were reported, so that a fresh list can tell what vanished.
#[derive(Default)]
struct Known {
    reported: HashSet<ObjectKey>,
    listed: HashSet<ObjectKey>,
}

impl Known {
    fn changes_of<K>(&mut self, event: watcher::Event<DeserializeGuard<K>>) -> Vec<Change<K>>
    where
        K: Resource<DynamicType = ()>,
    {
        match event {
            watcher::Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            watcher::Event::InitApply(object) => {
                self.listed.insert(ObjectKey::of(&object));
                self.applied(object)
            }
            watcher::Event::Apply(object) => self.applied(object),
            watcher::Event::Delete(object) => {
                let key = ObjectKey::of(&object);
                self.reported.remove(&key);
                vec![Change::Deleted(key)]
            }
            watcher::Event::InitDone => {
                let vanished: Vec<_> = self.reported.difference(&self.listed).cloned().collect();
                self.reported.retain(|key| self.listed.contains(key));
                vanished.into_iter().map(Change::Deleted).chain([Change::Synced]).collect()
            }
        }
    }

    fn applied<K: Resource<DynamicType = ()>>(&mut self, object: DeserializeGuard<K>) -> Vec<Change<K>> {
        let key = ObjectKey::of(&object);
        match object.0 {
            Ok(object) => {
                self.reported.insert(key);
                vec![Change::Applied(object)]
            }
            Err(invalid) => {
                tracing::warn!(%key, error = %invalid.error, "object cannot be understood; it is passed over");
                Vec::new()
            }
        }
    }
}
