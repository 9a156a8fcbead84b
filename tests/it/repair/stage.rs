//! A namespace with a real service, its configuration, its invariants, and the operator at work on it.

use crate::support;
use harness::cli::install::install_definitions;
use harness::cluster::projector::Projector;
use harness::crd::{Invariant, Phase, Ticket};
use harness::operator::{Halves, OperatorSettings, run_halves};
use harness::service::{Service, Settings};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for anything that works, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) const CONFIG: &str = "config";
pub(crate) const KEY: &str = "service_config.json";
pub(crate) const BASELINE: &str = r#"{"enabled": true, "delay_ms": 0}"#;

pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    port: u16,
    shutdown: CancellationToken,
    directory: TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// One half, or both, of the operator; ends when it is dropped, as a killed process would.
pub(crate) struct Operator {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Operator {
    /// Stops as a process does that is asked to.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    /// A service that reads ConfigMap `config`, and nothing that watches it yet.
    pub(crate) async fn new(name: &str) -> Self {
        let client = support::client();
        install_definitions(&client).await.unwrap();
        let namespace = support::namespace(&client, name).await;
        let directory = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let stage = Self { client, namespace, port: 0, shutdown, directory };
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(CONFIG.into()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(KEY.into(), BASELINE.into()), ("notes.txt".into(), "hello".into())])),
            ..ConfigMap::default()
        };
        stage.configs().create(&PostParams::default(), &map).await.unwrap();
        stage.serve().await
    }

    async fn serve(mut self) -> Self {
        let directory = self.directory.path();
        let projector = Projector::new(self.client.clone(), &self.namespace, CONFIG, directory);
        let settled = projector.settled();
        tokio::spawn(projector.run(self.shutdown.clone()));
        assert!(settled.await);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let service = Service::bind(Settings { config: directory.join(KEY), address }).await.unwrap();
        self.port = service.address().port();
        let shutdown = self.shutdown.clone();
        tokio::spawn(service.serve(async move { shutdown.cancelled().await }));
        self
    }

    pub(crate) fn configs(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn tickets(&self) -> Api<Ticket> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn invariants(&self) -> Api<Invariant> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Both halves of the operator.
    pub(crate) fn operate(&self) -> Operator {
        self.operate_with(self.client.clone(), Halves::Both, |_| ())
    }

    pub(crate) fn operate_with(
        &self,
        client: Client,
        halves: Halves,
        change: impl FnOnce(&mut OperatorSettings),
    ) -> Operator {
        let mut settings = OperatorSettings {
            namespace: Some(self.namespace.clone()),
            allow_loopback: true,
            status_refresh: None,
            good_after: Duration::from_secs(1),
            ticket_ttl: Duration::from_hours(1),
            suspended: false,
        };
        change(&mut settings);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { run_halves(client, settings, halves, stop).await.unwrap() });
        Operator { shutdown, task }
    }

    /// The two invariants of the original, with what `more` sets in their `remediation`.
    pub(crate) async fn watch_service(&self, more: Value) {
        self.watch("healthy", "", "== 200", more.clone()).await;
        self.watch("latency", "latency:", "< 200", more).await;
    }

    pub(crate) async fn watch(&self, name: &str, scheme: &str, condition: &str, more: Value) {
        let mut remediation = json!({
            "mode": "Auto", "verifyTimeout": "20s",
            "allow": [{ "editConfig": { "name": CONFIG, "key": KEY, "paths": ["/enabled", "/delay_ms"] } }],
        });
        remediation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec = json!({
            "query": format!("{scheme}http://localhost:{}/health", self.port), "condition": condition,
            "interval": "1s", "timeout": "900ms", "failureThreshold": 1, "successThreshold": 1,
            "targetRef": { "kind": "Deployment", "name": "rate-limiter" }, "remediation": remediation,
        });
        let invariant = Invariant::new(name, serde_json::from_value(spec).unwrap());
        self.invariants().create(&PostParams::default(), &invariant).await.unwrap();
    }

    /// Waits until the configuration as it is now is known as good.
    pub(crate) async fn learn_baseline(&self) {
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &self.namespace);
        let good = ListParams::default().labels("harness.dev/known-good=true");
        support::eventually(PATIENCE, || async {
            let data = self.config().await.data.map(|data| json!(data));
            let known = api.list(&good).await.unwrap().items;
            known.iter().any(|it| it.data.as_ref().is_some_and(|it| it.0.get("data") == data.as_ref())).then_some(())
        })
        .await;
    }

    pub(crate) async fn config(&self) -> ConfigMap {
        self.configs().get(CONFIG).await.unwrap()
    }

    pub(crate) async fn config_text(&self) -> String {
        self.config().await.data.unwrap()[KEY].clone()
    }

    /// Writes the configuration as a person with kubectl would.
    pub(crate) async fn write_config(&self, text: &str) {
        self.patch_config(json!({ "data": { KEY: text } })).await;
    }

    pub(crate) async fn patch_config(&self, patch: Value) {
        let parameters = PatchParams { field_manager: Some("kubectl-patch".into()), ..PatchParams::default() };
        self.configs().patch(CONFIG, &parameters, &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until a ticket is in a phase, and gives it.
    pub(crate) async fn ticket_in(&self, name: &str, phase: Phase) -> Ticket {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let ticket = self.tickets().get_opt(name).await.unwrap();
            let now = ticket.as_ref().and_then(|it| it.status.as_ref()).map(|status| status.phase).unwrap_or_default();
            let ended = matches!(now, Phase::Resolved | Phase::Cancelled) && now != phase;
            let late = tokio::time::Instant::now() > end;
            assert!(
                !ended && !late,
                "{name} is {now:?} and not {phase:?}: {ticket:#?} {:#?}",
                self.invariant_statuses().await
            );
            match ticket.filter(|it| it.status.is_some() && now == phase) {
                Some(ticket) => return ticket,
                None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    }

    async fn invariant_statuses(&self) -> Vec<Value> {
        let invariants = self.invariants().list(&ListParams::default()).await.unwrap().items;
        invariants.iter().map(|it| json!({ "name": it.name_any(), "status": it.status })).collect()
    }

    pub(crate) async fn patch_ticket(&self, name: &str, patch: Value) {
        let parameters = PatchParams { field_manager: Some("kubectl-patch".into()), ..PatchParams::default() };
        self.tickets().patch(name, &parameters, &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until no ticket is open.
    pub(crate) async fn ended(&self) {
        support::eventually(PATIENCE, || async {
            let open = |it: &Ticket| {
                !matches!(it.status.as_ref().map(|status| status.phase), Some(Phase::Resolved | Phase::Cancelled))
            };
            (!self.all_tickets().await.iter().any(open)).then_some(())
        })
        .await;
    }

    pub(crate) async fn all_tickets(&self) -> Vec<Ticket> {
        let mut tickets = self.tickets().list(&ListParams::default()).await.unwrap().items;
        tickets.sort_by_key(ResourceExt::name_any);
        tickets
    }
}
