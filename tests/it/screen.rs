//! The screen's feed, the injection of faults, and the subcommands around them, against the real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

use crate::support::{binary, client, cluster, eventually, namespace, start_plane};
use futures::StreamExt;
use harness::cli::install::{Installed, Overwrite, ensure_config_map, install_definitions, install_invariants};
use harness::crd::{Invariant, Phase, Ticket};
use harness::injection::{ConfigKey, FIELD_MANAGER, InjectionError, inject};
use harness::samples::{CONFIG_KEY, CONFIG_NAME, HEALTHY};
use harness::service::chaos::Fault;
use harness::tui::feed;
use harness::tui::model::{Cluster, Model, Scope, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) fn config_key(namespace: &str) -> ConfigKey {
    ConfigKey { namespace: namespace.to_owned(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() }
}

pub(crate) fn cluster_shown() -> Cluster {
    Cluster { version: "v1".to_owned(), context: "test".to_owned(), kubectl: "kubectl".to_owned() }
}

/// A namespace with the definitions, the samples and nothing else.
pub(crate) async fn prepared(name: &str) -> (Client, String) {
    let client = client();
    let namespace = namespace(&client, name).await;
    install_definitions(&client).await.unwrap();
    ensure_config_map(&client, &namespace).await.unwrap();
    install_invariants(&client, &namespace, 8001, Overwrite::Yes).await.unwrap();
    (client, namespace)
}

pub(crate) fn ticket(name: &str, invariant: &str) -> Ticket {
    let now = Timestamp::now().to_string();
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket",
        "metadata": { "name": name },
        "spec": {
            "invariantRef": { "name": invariant, "uid": "u", "generation": 1 },
            "severity": "Critical", "title": format!("{invariant} broke"), "query": "q", "condition": "c",
            "opening": { "firstBreachAt": now, "openedAt": now, "value": "v", "observed": "o" },
        },
    }))
    .unwrap()
}

pub(crate) fn holding(status: &str) -> Value {
    json!({ "status": { "conditions": [{
        "type": "Holding", "status": status, "reason": "ConditionMet", "message": "",
        "lastTransitionTime": "2026-11-18T12:00:00Z",
    }]}})
}

pub(crate) async fn set_status<K>(api: &Api<K>, name: &str, status: &Value)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn shown(client: &Client, namespace: &str, done: impl Fn(&Model) -> bool) -> Model {
    let scope = Scope { namespace: Some(namespace.to_owned()), config: config_key(namespace), good_after: None };
    let mut events = std::pin::pin!(feed::events(client, &scope));
    let mut model = Model::new(cluster_shown(), scope, Timestamp::now());
    timeout(DEADLINE, async {
        while !done(&model) {
            model.apply(events.next().await.unwrap());
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not shown in time: {model:?}"));
    model
}

async fn config_text(client: &Client, namespace: &str) -> String {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    api.get(CONFIG_NAME).await.unwrap().data.unwrap()[CONFIG_KEY].clone()
}

#[tokio::test]
async fn what_is_in_the_cluster_reaches_the_screen() {
    let (client, namespace) = prepared("screen").await;
    let invariants: Api<Invariant> = Api::namespaced(client.clone(), &namespace);
    set_status(&invariants, HEALTHY, &holding("False")).await;
    let tickets: Api<Ticket> = Api::namespaced(client.clone(), &namespace);
    tickets.create(&PostParams::default(), &ticket("t-1", HEALTHY)).await.unwrap();
    set_status(&tickets, "t-1", &json!({ "status": { "phase": "Diagnosing", "reason": "ClaimWon" } })).await;

    let model = shown(&client, &namespace, |model| {
        model.invariants.len() == 2 && model.incidents.len() == 1 && model.service.summary() == "in order"
    })
    .await;

    let state = model.invariants.iter().find(|(key, _)| key.name == HEALTHY).unwrap().1.state;
    assert_eq!(state, State::Violated);
    assert_eq!(model.incidents[0].phase, Phase::Diagnosing);
}

#[tokio::test]
async fn a_ticket_that_is_deleted_disappears_from_the_screen() {
    let (client, namespace) = prepared("screen").await;
    let tickets: Api<Ticket> = Api::namespaced(client.clone(), &namespace);
    tickets.create(&PostParams::default(), &ticket("t-1", HEALTHY)).await.unwrap();
    let scope = Scope { namespace: Some(namespace.clone()), config: config_key(&namespace), good_after: None };
    let mut events = std::pin::pin!(feed::events(&client, &scope));
    let mut model = Model::new(cluster_shown(), scope, Timestamp::now());
    let mut seen = false;
    timeout(DEADLINE, async {
        while !(seen && model.incidents.is_empty()) {
            model.apply(events.next().await.unwrap());
            if !seen && !model.incidents.is_empty() {
                seen = true;
                tickets.delete("t-1", &DeleteParams::default()).await.unwrap();
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_fault_is_written_by_its_own_field_manager_and_healed_again() {
    let (client, namespace) = prepared("chaos").await;
    let before = config_text(&client, &namespace).await;

    let written = inject(&client, &config_key(&namespace), &[Fault::Slow { milliseconds: 500 }]).await.unwrap();

    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let config = api.get(CONFIG_NAME).await.unwrap();
    assert_eq!(config.resource_version().unwrap(), written.resource_version);
    assert!(config.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)));
    let values: Value = serde_json::from_str(&config_text(&client, &namespace).await).unwrap();
    assert_eq!(values["delay_ms"], 500);
    inject(&client, &config_key(&namespace), &[Fault::Heal]).await.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&config_text(&client, &namespace).await).unwrap(),
        serde_json::from_str::<Value>(&before).unwrap()
    );
}

#[tokio::test]
async fn faults_that_are_written_at_once_do_not_undo_each_other() {
    let (client, namespace) = prepared("chaos").await;
    let target = config_key(&namespace);
    let slow = [Fault::Slow { milliseconds: 500 }];
    let (slow, dead) = tokio::join!(inject(&client, &target, &slow), inject(&client, &target, &[Fault::Dead]));
    slow.unwrap();
    dead.unwrap();
    let values: Value = serde_json::from_str(&config_text(&client, &namespace).await).unwrap();
    assert_eq!((&values["delay_ms"], &values["enabled"]), (&json!(500), &json!(false)));
}

#[tokio::test]
async fn a_fault_without_a_place_says_what_is_missing() {
    let (client, namespace) = prepared("chaos").await;
    let mut target = config_key(&namespace);
    target.key = "other.json".to_owned();
    let error = inject(&client, &target, &[Fault::Dead]).await.unwrap_err();
    assert!(error.to_string().contains("has no key \"other.json\"; it has: service_config.json"), "{error}");
    target.name = "absent".to_owned();
    let error = inject(&client, &target, &[Fault::Dead]).await.unwrap_err();
    assert!(matches!(error, InjectionError::ReadConfigMap { .. }), "{error}");
}

#[tokio::test]
async fn installing_again_changes_nothing_that_people_changed() {
    let (client, namespace) = prepared("init").await;
    inject(&client, &config_key(&namespace), &[Fault::Dead]).await.unwrap();
    let invariants: Api<Invariant> = Api::namespaced(client.clone(), &namespace);
    let parameters = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let edit = json!({ "spec": { "interval": "7s" } });
    invariants.patch(HEALTHY, &parameters, &Patch::Merge(edit)).await.unwrap();

    assert_eq!(ensure_config_map(&client, &namespace).await.unwrap(), Installed::LeftAsItWas);
    let outcomes = install_invariants(&client, &namespace, 8001, Overwrite::No).await.unwrap();

    assert_eq!(
        outcomes.iter().map(|(_, outcome)| *outcome).collect::<Vec<_>>(),
        [Installed::LeftAsItWas, Installed::Applied]
    );
    assert!(config_text(&client, &namespace).await.contains("false"));
    assert_eq!(Duration::from(invariants.get(HEALTHY).await.unwrap().spec.interval), Duration::from_secs(7));
}

/// Runs the harness's own binary on the tests' cluster to its end: its exit code, stdout and stderr.
async fn harness(arguments: &[&str]) -> (Option<i32>, String, String) {
    harness_on(cluster().kubeconfig(), arguments).await
}

/// The same on any cluster.
async fn harness_on(kubeconfig: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let command = Command::new(binary()).args(arguments).env("KUBECONFIG", kubeconfig).kill_on_drop(true).output();
    let output = timeout(DEADLINE, command).await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn init_installs_the_policies_too_or_says_what_their_absence_means() {
    // Policies are for the whole cluster: this one is the test's own.
    let plane = start_plane().await;
    let (code, stdout, stderr) = harness_on(plane.kubeconfig(), &["init", "--namespace", "team"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("validatingadmissionpolicy/harness-init-approvals installed"), "{stdout}");
    assert!(stdout.contains("validatingadmissionpolicybinding/harness-init-grants installed"), "{stdout}");
    assert!(stdout.contains("configmap/rate-limiter-config installed"), "{stdout}");
    assert!(stdout.contains("What is next:"), "{stdout}");
    let (code, stdout, _) = harness_on(plane.kubeconfig(), &["init", "--namespace", "team"]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("configmap/rate-limiter-config is there already; left as it is"), "{stdout}");

    // Somebody who may do all that but install policies.
    let client = plane.client().unwrap();
    let rules =
        json!([{ "apiGroups": ["", "apiextensions.k8s.io", "harness.dev"], "resources": ["*"], "verbs": ["*"] }]);
    let role = json!({ "metadata": { "name": "installer" }, "rules": rules });
    let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" });
    let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "installer" });
    let binding = json!({ "metadata": { "name": "installer" }, "roleRef": reference, "subjects": [subject] });
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &role).await.unwrap();
    Api::all(client).create(&PostParams::default(), &binding).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, plane.user_kubeconfig("jane", None).unwrap()).unwrap();
    let stdout = eventually(DEADLINE, || async {
        let (code, stdout, _) = harness_on(&kubeconfig, &["init", "--namespace", "team"]).await;
        (code == Some(0)).then_some(stdout)
    })
    .await;
    assert!(stdout.contains("nobody verifies the names in approvals"), "{stdout}");
    plane.stop().await;
}

/// The variables of a subcommand as its help shows them, where the binary is started in this directory.
async fn variables_in(directory: &Path) -> String {
    let command = Command::new(binary()).args(["run", "--help"]).current_dir(directory).env_clear().output();
    String::from_utf8(timeout(DEADLINE, command).await.unwrap().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn env_is_read_from_the_working_directory_and_from_no_parent() {
    let parent = tempfile::tempdir().unwrap();
    let child = parent.path().join("child");
    std::fs::create_dir(&child).unwrap();
    std::fs::write(parent.path().join(".env"), "HARNESS_SOURCE=/from-the-file\n").unwrap();
    assert!(variables_in(parent.path()).await.contains("HARNESS_SOURCE=/from-the-file"));
    assert!(!variables_in(&child).await.contains("/from-the-file"));
}

#[tokio::test]
async fn chaos_breaks_and_heals_the_config_map() {
    let (client, namespace) = prepared("chaos").await;
    let (code, stdout, stderr) = harness(&["chaos", "dead", "--namespace", &namespace]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("harness-chaos"), "{stdout}");
    assert!(config_text(&client, &namespace).await.contains("false"));
    harness(&["chaos", "heal", "--namespace", &namespace]).await;
    assert!(!config_text(&client, &namespace).await.contains("false"));
}

#[tokio::test]
async fn watch_prints_changes_where_there_is_no_terminal() {
    let (client, namespace) = prepared("watch").await;
    let mut child = Command::new(binary())
        .args(["watch", "--namespace", &namespace])
        .env("KUBECONFIG", cluster().kubeconfig())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = async |text: &str| {
        timeout(DEADLINE, async { while !lines.next_line().await.unwrap().unwrap().contains(text) {} }).await.unwrap();
    };
    wait_for("service: in order").await;
    inject(&client, &config_key(&namespace), &[Fault::Dead]).await.unwrap();
    wait_for("service: playing dead").await;
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_definitions_that_are_printed_can_be_applied() {
    let (code, stdout, _) = harness(&["crds"]).await;
    assert_eq!(code, Some(0));
    let client = client();
    for document in stdout.split("\n---\n") {
        let definition: Value = serde_yaml::from_str(document).unwrap();
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let api: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
            Api::all(client.clone());
        let parameters = PatchParams::apply("test").force().dry_run();
        api.patch(&name, &parameters, &Patch::Apply(definition)).await.unwrap();
    }
}

#[tokio::test]
async fn completions_know_the_subcommands() {
    let (code, stdout, _) = harness(&["completions", "bash"]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("demo") && stdout.contains("chaos"), "{stdout}");
}

#[tokio::test]
async fn the_screen_says_when_the_harness_is_not_installed() {
    let plane = crate::support::start_plane().await;
    let client = plane.client().unwrap();
    let model = shown(&client, "default", |model| !model.interrupted.is_empty()).await;
    let reason = model.interrupted.values().next().unwrap();
    assert!(reason.contains("`harness init` installs it"), "{reason}");
    plane.stop().await;
}

#[tokio::test]
async fn watches_that_cannot_reach_the_api_server_are_named_with_the_reason() {
    // Nothing listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let config = kube::Config::new(format!("http://127.0.0.1:{port}").parse().unwrap());
    crate::support::install_tls_provider();
    let client = harness::cluster::connect::client(config).unwrap();
    let model = shown(&client, "default", |model| model.interrupted.len() == 3).await;
    assert!(model.interrupted.values().all(|reason| reason.contains("refused")), "{:?}", model.interrupted);
}
