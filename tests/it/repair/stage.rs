//! The stage of the repairs: the demo's service with the two invariants of the original.

use crate::stage::{Operating, PATIENCE, remediation};
use crate::support::eventually;
use harness::crd::{Invariant, Phase, Ticket};
use harness::operator::{Halves, OperatorSettings};
use harness::samples::CONFIG_NAME;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::ops::Deref;

pub(crate) const BASELINE: &str = r#"{"enabled": true, "delay_ms": 0}"#;

/// A stage with what only repairs need.
pub(crate) struct Stage(crate::stage::Stage);

impl Deref for Stage {
    type Target = crate::stage::Stage;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Stage {
    /// A service that nothing watches yet.
    pub(crate) async fn new(name: &str) -> Self {
        Self(crate::stage::Stage::set(name).await)
    }

    /// Both halves of the operator.
    pub(crate) fn operate_both(&self) -> Operating {
        self.operate_with(self.client.clone(), Halves::Both, |_| ())
    }

    /// Some of the operator, on a client and with settings of its own.
    pub(crate) fn operate_with(
        &self,
        client: Client,
        halves: Halves,
        change: impl FnOnce(&mut OperatorSettings),
    ) -> Operating {
        let mut settings = self.settings();
        change(&mut settings);
        Operating::start(client, settings, halves)
    }

    /// The two invariants of the original, with what `more` sets in their `remediation`.
    pub(crate) async fn watch_service(&self, more: &Value) {
        self.watch("healthy", "", "== 200", more).await;
        self.watch("latency", "latency:", "< 200", more).await;
    }

    /// One of them.
    pub(crate) async fn watch(&self, name: &str, scheme: &str, condition: &str, more: &Value) {
        let mut remediation = remediation("Auto");
        remediation["verifyTimeout"] = json!("20s");
        for (field, value) in more.as_object().unwrap() {
            remediation[field] = value.clone();
        }
        let spec = json!({
            "query": format!("{scheme}{}", self.service_url()), "condition": condition, "timeout": "900ms",
            "targetRef": { "kind": "Deployment", "name": "rate-limiter" }, "remediation": remediation,
        });
        self.apply(name, spec).await;
    }

    pub(crate) fn ticket_api(&self) -> Api<Ticket> {
        self.api()
    }

    pub(crate) async fn config_map(&self) -> ConfigMap {
        self.api().get(CONFIG_NAME).await.unwrap()
    }

    pub(crate) async fn patch_config(&self, patch: Value) {
        self.patch::<ConfigMap>(CONFIG_NAME, patch).await;
    }

    pub(crate) async fn patch_ticket(&self, name: &str, patch: Value) {
        self.patch::<Ticket>(name, patch).await;
    }

    pub(crate) async fn patch_invariant(&self, name: &str, patch: Value) {
        self.patch::<Invariant>(name, patch).await;
    }

    /// Patches as a person would.
    async fn patch<K: crate::stage::Watchable>(&self, name: &str, patch: Value) {
        let parameters = PatchParams { field_manager: Some(crate::stage::PERSON.to_owned()), ..PatchParams::default() };
        self.api::<K>().patch(name, &parameters, &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until no ticket is open.
    pub(crate) async fn ended(&self) {
        eventually(PATIENCE, || async {
            let open = |it: &Ticket| !matches!(it.phase(), Phase::Resolved | Phase::Cancelled);
            (!self.tickets().await.iter().any(open)).then_some(())
        })
        .await;
    }
}
