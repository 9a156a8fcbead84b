//! A stage for whole scenarios: a namespace of the real API server with the definitions in it, a target that the test
//! controls, the demo's service fed by its ConfigMap, and the real operator in this process.
//!
//! Whatever it starts ends when it is dropped, or with the runtime of the test.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod operating;
mod service;
pub(crate) mod target;

pub(crate) use operating::Operating;

use crate::support::{client, eventually, namespace};
use futures::StreamExt;
use harness::agent::Planning;
use harness::cli::install::{ensure_config_map, install_definitions};
use harness::crd::{Invariant, Phase, Ticket};
use harness::gitops::GitOps;
use harness::lease;
use harness::operator::{Halves, OperatorSettings};
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use harness::vitals::Vitals;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use service::Serving;
use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;
use target::Target;
use tokio::time::timeout;

/// How long anything may take to come true. Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The field manager of what a person does in a test.
pub(crate) const PERSON: &str = "person";

/// All that a scenario needs. Its fields are stopped in this order when it is dropped.
pub(crate) struct Stage {
    pub(crate) operator: Option<Operating>,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// A target that answers as the test says.
    pub(crate) target: Target,
    service: Serving,
}

impl Stage {
    /// A stage in a namespace of its own whose name begins with `name`, without an operator yet.
    pub(crate) async fn set(name: &str) -> Self {
        Self::set_on(client(), name).await
    }

    /// The same on any control plane.
    pub(crate) async fn set_on(client: Client, name: &str) -> Self {
        let namespace = namespace(&client, name).await;
        install_definitions(&client).await.unwrap();
        ensure_config_map(&client, &namespace).await.unwrap();
        let service = Serving::start(&client, &namespace).await;
        Self { operator: None, client, namespace, target: Target::start().await, service }
    }

    /// A stage with the monitor alone.
    pub(crate) async fn monitored(name: &str) -> Self {
        Self::set(name).await.operated(Halves::Monitor)
    }

    /// The stage with these halves of the operator, by the settings of [`Stage::settings`].
    pub(crate) fn operated(mut self, halves: Halves) -> Self {
        self.operator = Some(self.operate(halves, self.settings()));
        self
    }

    /// Settings for quick tests: loopback allowed, revisions good after 1 s, statuses written only for news.
    pub(crate) fn settings(&self) -> OperatorSettings {
        OperatorSettings {
            namespaces: vec![self.namespace.clone()],
            vitals: Vitals::default(),
            allow_loopback: true,
            status_refresh: None,
            good_after: Duration::from_secs(1),
            ticket_ttl: Duration::from_hours(1),
            tickets_per_invariant: 20,
            suspended: false,
            lease_duration: lease::DURATION,
            home: self.namespace.clone(),
            planning: Planning { model: None, last_known_good: true },
            gitops: GitOps::default(),
        }
    }

    /// Starts an operator with other settings, or one more; it ends when it is dropped.
    pub(crate) fn operate(&self, halves: Halves, settings: OperatorSettings) -> Operating {
        Operating::start(self.client.clone(), settings, halves)
    }

    /// Stops the stage's operator and waits for its end.
    pub(crate) async fn stop_operator(&mut self) {
        self.operator.take().expect("an operator runs").stop().await;
    }

    /// The URL of the demo service's health check.
    pub(crate) fn service_url(&self) -> String {
        self.service.url()
    }

    /// An Api of this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The manifest of an invariant `name` that asks the target every second for a 200 and needs one sample of a kind,
    /// with the fields of `spec` on top of that.
    pub(crate) fn manifest(&self, name: &str, spec: &Value) -> Value {
        let mut whole = json!({
            "query": self.target.url(), "condition": "== 200", "interval": "1s", "timeout": "1s",
            "failureThreshold": 1, "successThreshold": 1,
        });
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": name }, "spec": whole,
        })
    }

    /// Applies [`Stage::manifest`] as a person would.
    pub(crate) async fn apply(&self, name: &str, spec: Value) -> Invariant {
        self.try_apply(name, spec).await.unwrap()
    }

    /// The same, where the API server may refuse it.
    pub(crate) async fn try_apply(&self, name: &str, spec: Value) -> Result<Invariant, kube::Error> {
        let parameters = PatchParams::apply(PERSON).force();
        self.api().patch(name, &parameters, &Patch::Apply(self.manifest(name, &spec))).await
    }

    /// Changes fields of an invariant's spec.
    pub(crate) async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api::<Invariant>().patch(name, &by_person(), &patch).await.unwrap();
    }

    /// Deletes an object, whatever is there to delete.
    pub(crate) async fn delete<K: Watchable>(&self, name: &str) {
        self.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Writes the demo service's configuration as a person would.
    pub(crate) async fn break_config(&self, config: &Value) {
        self.write_config(&config.to_string()).await;
    }

    /// The same with any text.
    pub(crate) async fn write_config(&self, text: &str) {
        let patch = Patch::Merge(json!({ "data": { CONFIG_KEY: text } }));
        self.api::<ConfigMap>().patch(CONFIG_NAME, &by_person(), &patch).await.unwrap();
    }

    /// Returns when the demo service's configuration, as it is now, was learned to be good.
    pub(crate) async fn learned(&self) {
        let text = self.config().await;
        let is_known =
            |good: &ControllerRevision| good.data.as_ref().is_some_and(|it| it.0["data"][CONFIG_KEY] == text);
        eventually(PATIENCE, || async {
            let revisions = self.api::<ControllerRevision>().list(&ListParams::default()).await.unwrap();
            revisions.items.iter().any(is_known).then_some(())
        })
        .await;
    }

    /// The text of the demo service's configuration.
    pub(crate) async fn config(&self) -> String {
        self.api::<ConfigMap>().get(CONFIG_NAME).await.unwrap().data.unwrap()[CONFIG_KEY].clone()
    }

    /// The invariant once it is as wanted.
    pub(crate) async fn invariant(&self, name: &str, wanted: impl Fn(&Invariant) -> bool) -> Invariant {
        self.seen(name, wanted).await
    }

    /// The invariant once its condition of this type has this status.
    pub(crate) async fn condition(&self, name: &str, type_: &str, status: &str) -> Invariant {
        self.seen(name, |invariant| condition(invariant, type_).is_some_and(|it| it.status == status)).await
    }

    /// The invariant once it was seen to hold.
    pub(crate) async fn holding(&self, name: &str) -> Invariant {
        self.condition(name, "Holding", "True").await
    }

    /// The ticket once it is there and as wanted.
    pub(crate) async fn ticket(&self, name: &str, wanted: impl Fn(&Ticket) -> bool) -> Ticket {
        self.seen(name, wanted).await
    }

    /// The ticket once it is in this phase.
    pub(crate) async fn wait_for_phase(&self, name: &str, wanted: Phase) -> Ticket {
        self.seen(name, |ticket: &Ticket| ticket.phase() == wanted).await
    }

    /// All tickets, by name.
    pub(crate) async fn tickets(&self) -> Vec<Ticket> {
        self.api().list(&ListParams::default()).await.unwrap().items
    }

    /// Returns when the object does not exist any more.
    pub(crate) async fn gone<K: Watchable>(&self, name: &str) {
        self.until(name, |found: Option<&K>| found.is_none()).await;
    }

    async fn seen<K: Watchable>(&self, name: &str, wanted: impl Fn(&K) -> bool) -> K {
        self.until(name, |found: Option<&K>| found.is_some_and(&wanted)).await.unwrap()
    }

    /// Watches one object until it, or its absence, is as wanted.
    async fn until<K: Watchable>(&self, name: &str, wanted: impl Fn(Option<&K>) -> bool) -> Option<K> {
        // A watch may be refused for a moment, after the definitions were installed.
        let mut states = pin!(watch_object(self.api::<K>(), name).default_backoff());
        let wait = async {
            loop {
                if let Some(Ok(state)) = states.next().await
                    && wanted(state.as_ref())
                {
                    break state;
                }
            }
        };
        let Ok(found) = timeout(PATIENCE, wait).await else {
            panic!("{name} is not as wanted: {:#?}", self.api::<K>().get_opt(name).await)
        };
        found
    }
}

/// What a namespace holds and can be watched.
pub(crate) trait Watchable:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + 'static
{
}

impl<K> Watchable for K where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static
{
}

/// A condition of an invariant.
pub(crate) fn condition<'a>(
    invariant: &'a Invariant,
    type_: &str,
) -> Option<&'a k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    invariant.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// The names of objects, as they come.
pub(crate) fn names<K: ResourceExt>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}

/// A remediation that may edit the whole of the demo service's `/enabled` and `/delay_ms`, in this mode.
pub(crate) fn remediation(mode: &str) -> Value {
    json!({
        "mode": mode,
        "allow": [{ "editConfig": { "name": CONFIG_NAME, "key": CONFIG_KEY, "paths": ["/enabled", "/delay_ms"] } }],
    })
}

fn by_person() -> PatchParams {
    PatchParams { field_manager: Some(PERSON.to_owned()), ..PatchParams::default() }
}
