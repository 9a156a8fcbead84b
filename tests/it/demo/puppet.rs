//! Plays the operator on the real API server: writes what a monitor and an agent would write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

use crate::screen::{config_key, holding, set_status, ticket};
use harness::agent::baseline::{KNOWN_GOOD_LABEL, OBJECT_LABEL};
use harness::crd::{Invariant, Ticket};
use harness::injection::inject;
use harness::samples::{CONFIG_KEY, CONFIG_NAME, HEALTHY, LATENCY};
use harness::service::chaos::Fault;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};

/// How the puppet behaves on what it must not repair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manners {
    /// It escalates and writes nothing.
    Good,
    /// It escalates, and leaves a mark on the ConfigMap all the same.
    Bad,
}

pub(super) struct Puppet {
    client: Client,
    namespace: String,
    manners: Manners,
}

impl Puppet {
    pub(super) fn new(client: Client, namespace: String, manners: Manners) -> Self {
        Self { client, namespace, manners }
    }

    /// Answers one fault of each of these kinds, in order; before each it learns what is there as good.
    pub(super) async fn run(self, faults: &[&str]) {
        self.both_hold("True").await;
        for (number, fault) in faults.iter().enumerate() {
            self.learn(&format!("good-{number}")).await;
            let name = format!("{fault}-{number}");
            match *fault {
                "slow" => self.repair(&name, LATENCY, |values| values["delay_ms"] != 0).await,
                "dead" => self.repair(&name, HEALTHY, |values| values["enabled"] == false).await,
                _ => self.escalate(&name).await,
            }
        }
    }

    async fn repair(&self, name: &str, invariant: &str, broken: fn(&Value) -> bool) {
        self.config_until(broken).await;
        self.open(name, invariant).await;
        inject(&self.client, &config_key(&self.namespace), &[Fault::Heal]).await.unwrap();
        let now = Timestamp::now().to_string();
        let attempt = json!({
            "number": 1, "planner": "LastKnownGood", "hash": "h", "actions": [], "intendedAt": now, "writtenAt": now,
            "result": "Verified",
        });
        self.tell(name, &json!({ "phase": "Verifying", "planner": "LastKnownGood", "attempts": [attempt] })).await;
        self.both_hold("True").await;
        self.tell(
            name,
            &json!({ "phase": "Resolved", "outcome": "Repaired", "endedAt": Timestamp::now().to_string() }),
        )
        .await;
    }

    async fn escalate(&self, name: &str) {
        self.config_until(|values| values["requests_per_second"] == -1).await;
        self.open(name, HEALTHY).await;
        if self.manners == Manners::Bad {
            let mark = json!({ "metadata": { "annotations": { "harness.dev/attempt": "t/1" } } });
            let api: Api<ConfigMap> = self.api();
            api.patch(CONFIG_NAME, &PatchParams::default(), &Patch::Merge(mark)).await.unwrap();
        }
        self.tell(name, &json!({ "phase": "Escalated", "outcome": "NoPlan" })).await;
        self.config_until(|values| values.get("requests_per_second").is_none()).await;
        self.both_hold("True").await;
        let ended_at = Timestamp::now().to_string();
        self.tell(name, &json!({ "phase": "Resolved", "outcome": "FixedByPerson", "endedAt": ended_at })).await;
    }

    async fn open(&self, name: &str, invariant: &str) {
        let tickets: Api<Ticket> = self.api();
        tickets.create(&PostParams::default(), &ticket(name, invariant)).await.unwrap();
        set_status(&self.api::<Invariant>(), invariant, &holding("False")).await;
        self.tell(name, &json!({ "phase": "Diagnosing", "reason": "ClaimWon" })).await;
    }

    async fn tell(&self, name: &str, status: &Value) {
        set_status(&self.api::<Ticket>(), name, &json!({ "status": status })).await;
    }

    async fn both_hold(&self, status: &str) {
        for name in [HEALTHY, LATENCY] {
            set_status(&self.api::<Invariant>(), name, &holding(status)).await;
        }
    }

    async fn learn(&self, name: &str) {
        let config: ConfigMap = self.api().get(CONFIG_NAME).await.unwrap();
        let revision: ControllerRevision = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { KNOWN_GOOD_LABEL: "true", OBJECT_LABEL: CONFIG_NAME } },
            "revision": 1,
            "data": { "resourceVersion": config.metadata.resource_version, "data": config.data },
        }))
        .unwrap();
        self.api().create(&PostParams::default(), &revision).await.unwrap();
    }

    async fn config_until(&self, done: fn(&Value) -> bool) {
        await_condition(self.api::<ConfigMap>(), CONFIG_NAME, move |config: Option<&ConfigMap>| {
            let text = config.and_then(|config| config.data.as_ref()?.get(CONFIG_KEY));
            text.is_some_and(|text| done(&serde_json::from_str(text).unwrap()))
        })
        .await
        .unwrap();
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
