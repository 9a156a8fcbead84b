//! The accounts of the chart and its policies, on a real API server of their own: whatever the harness's code did, the
//! API server says no again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod fields;
mod grants;
mod records;

use crate::stage::PATIENCE;
use crate::support::{eventually, start_plane};
use harness::cli::install::{ensure_config_map, install_definitions};
use harness::cluster::control_plane::ControlPlane;
use harness::crd::Ticket;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

const AGENT: &str = "system:serviceaccount:harness-system:harness-agent";
const MONITOR: &str = "system:serviceaccount:harness-system:harness-monitor";
/// The namespace that the chart's default values opt in.
const NAMESPACE: &str = "default";

/// A control plane with the chart's accounts and policies, and something to write to.
async fn guarded() -> (ControlPlane, Client) {
    let plane = start_plane().await;
    let client = plane.client().unwrap();
    install_definitions(&client).await.unwrap();
    let text = std::fs::read_to_string(root().join("deploy/harness.yaml")).unwrap();
    for document in serde_yaml::Deserializer::from_str(&text) {
        let Ok(object) = Value::deserialize(document) else { continue };
        let kind = object["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "CustomResourceDefinition" | "Deployment" | "Service" | "NetworkPolicy" | "") {
            apply(&client, &object).await;
        }
    }
    ensure_config_map(&client, NAMESPACE).await.unwrap();
    let container = json!({ "name": "main", "image": "app:2", "env": [{ "name": "A", "value": "1" }] });
    let template = json!({ "metadata": { "labels": { "app": "a" } }, "spec": { "containers": [container] } });
    let deployment = json!({
        "metadata": { "name": "a" },
        "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "a" } }, "template": template },
    });
    create::<Deployment>(&client, deployment).await;
    let pod = json!({
        "metadata": { "name": "a" },
        "spec": { "containers": [{ "name": "main", "image": "app:2" }], "automountServiceAccountToken": false },
    });
    create::<Pod>(&client, pod).await;
    (plane, client)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

async fn apply(client: &Client, object: &Value) {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let kind = object["kind"].as_str().unwrap();
    let plural = match kind {
        "ValidatingAdmissionPolicy" => "validatingadmissionpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let parameters = PatchParams::apply("test").force();
    api.patch(name, &parameters, &Patch::Apply(object)).await.unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
}

async fn create<K>(client: &Client, object: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &object).await.unwrap();
}

/// The answer to a JSON patch of an object: `Ok`, or the words of the refusal.
async fn patch<K>(client: &Client, name: &str, operations: &Value) -> Result<(), String>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + serde::de::DeserializeOwned
        + Clone
        + std::fmt::Debug,
{
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations.clone()).unwrap());
    let written = Api::<K>::namespaced(client.clone(), NAMESPACE).patch(name, &PatchParams::default(), &patch).await;
    written.map(|_| ()).map_err(|error| error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "it is called with values made in place")]
fn add(path: &str, value: Value) -> Value {
    json!({ "op": "add", "path": path, "value": value })
}

/// Returns when the policies hold the agent: a new policy takes a moment to be in force.
async fn in_force(agent: &Client) {
    let unmarked = json!([add("/data/x", json!("1"))]);
    eventually(PATIENCE, || async {
        patch::<ConfigMap>(agent, CONFIG_NAME, &unmarked).await.err().filter(|error| error.contains("mark"))
    })
    .await;
}

/// The mark that every write of the agent carries.
fn mark(key: &str) -> Value {
    add("/metadata/annotations", json!({ key: "t/1" }))
}

#[tokio::test]
async fn the_api_server_refuses_the_agent_what_its_executor_would_never_write() {
    let (plane, administrator) = guarded().await;
    let agent = plane.user_client(AGENT, None).unwrap();
    in_force(&agent).await;
    let ours = || mark("harness.dev/attempt");
    let data = format!("/data/{CONFIG_KEY}");
    let maps = [
        (json!([ours(), add(&data, json!("{}"))]), None),
        (json!([ours(), add("/data/new", json!("1"))]), Some("the texts of its keys only")),
        (json!([ours(), { "op": "remove", "path": data }]), Some("the texts of its keys only")),
        (json!([ours(), add("/binaryData", json!({ "b": "AA==" }))]), Some("the data of a ConfigMap")),
        (json!([ours(), add("/immutable", json!(true))]), Some("the data of a ConfigMap")),
        (json!([ours(), add("/metadata/labels", json!({ "a": "b" }))]), Some("its mark only")),
        (json!([ours(), add("/metadata/finalizers", json!(["a/b"]))]), Some("its mark only")),
        (
            json!([add("/metadata/annotations", json!({ "harness.dev/attempt": "t/1", "x": "y" }))]),
            Some("its mark only"),
        ),
    ];
    for (operations, refusal) in maps {
        told(patch::<ConfigMap>(&agent, CONFIG_NAME, &operations).await, refusal, &operations);
    }
    let container = "/spec/template/spec/containers/0";
    let restarted = json!({ "kubectl.kubernetes.io/restartedAt": "2026-11-23T10:00:00Z" });
    let workloads = [
        (json!([ours(), add(&format!("{container}/image"), json!("app:1"))]), None),
        (json!([ours(), add("/spec/replicas", json!(3))]), None),
        (json!([ours(), add("/spec/template/metadata/annotations", restarted)]), None),
        (json!([ours(), add("/spec/replicas", json!(0))]), Some("scale a workload to nothing")),
        (json!([ours(), add(&format!("{container}/command"), json!(["sh"]))]), None),
        (json!([ours(), add(&format!("{container}/env/0/value"), json!("2"))]), None),
        (
            json!([ours(), add(&format!("{container}/securityContext"), json!({ "privileged": true }))]),
            Some("of a container"),
        ),
        (
            json!([ours(), add("/spec/template/spec/containers/1", json!({ "name": "x", "image": "x" }))]),
            Some("neither add nor remove"),
        ),
        (json!([ours(), add("/spec/template/spec/serviceAccountName", json!("admin"))]), Some("the containers only")),
        (json!([ours(), add("/spec/template/spec/hostNetwork", json!(true))]), Some("the containers only")),
        (
            json!([
                ours(),
                add("/spec/template/spec/volumes", json!([{ "name": "s", "secret": { "secretName": "s" } }]))
            ]),
            Some("the containers only"),
        ),
        (json!([ours(), add("/spec/template/metadata/annotations/x", json!("y"))]), Some("the last restart only")),
        (json!([ours(), add("/spec/paused", json!(true))]), Some("the replicas and the template only")),
        (json!([add("/spec/replicas", json!(4))]), None),
    ];
    for (operations, refusal) in workloads {
        told(patch::<Deployment>(&agent, "a", &operations).await, refusal, &operations);
    }
    let refresh = || mark("harness.dev/config-refresh");
    let pods = [
        (json!([refresh()]), None),
        (json!([refresh(), add("/spec/containers/0/image", json!("evil"))]), Some("of the object")),
        (json!([refresh(), add("/metadata/labels", json!({ "app": "b" }))]), Some("its mark only")),
    ];
    for (operations, refusal) in pods {
        told(patch::<Pod>(&agent, "a", &operations).await, refusal, &operations);
    }
    // The policies are about the agent: an administrator may do all that.
    let operations = json!([add("/spec/replicas", json!(0))]);
    told(patch::<Deployment>(&administrator, "a", &operations).await, None, &operations);
    plane.stop().await;
}

fn told(answer: Result<(), String>, refusal: Option<&str>, operations: &Value) {
    match (answer, refusal) {
        (Ok(()), None) => {}
        (Err(words), Some(expected)) if words.contains(expected) => {}
        (answer, _) => panic!("{operations}: expected {refusal:?}, got {answer:?}"),
    }
}

#[tokio::test]
async fn what_rbac_gives_the_two_accounts_is_what_people_reviewed_and_holds_no_secret() {
    let (plane, _) = guarded().await;
    let mut listed = serde_json::Map::new();
    for (name, user) in [("monitor", MONITOR), ("agent", AGENT)] {
        let client = plane.user_client(user, None).unwrap();
        for namespace in [NAMESPACE, "harness-system", "kube-system"] {
            let rules = rules(&client, namespace).await;
            assert!(!rules.iter().any(|rule| rule.contains("secrets") || rule.contains('*')), "{rules:?}");
            listed.insert(format!("{name} in {namespace}"), json!(rules));
        }
    }
    insta::assert_yaml_snapshot!(listed);
    plane.stop().await;
}

/// What an account may do in a namespace: the list behind `kubectl auth can-i --list`, without what everybody may do.
async fn rules(client: &Client, namespace: &str) -> Vec<String> {
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let reviewed = Api::<SelfSubjectRulesReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let rules = reviewed.unwrap().status.unwrap().resource_rules;
    let common =
        |group: &str| matches!(group, "authorization.k8s.io" | "authentication.k8s.io" | "certificates.k8s.io");
    let mut lines: Vec<String> = rules
        .into_iter()
        .filter(|rule| !rule.api_groups.iter().flatten().any(|group| common(group)))
        .map(|rule| {
            let named = rule.resource_names.map(|names| format!(" named {}", names.join(","))).unwrap_or_default();
            let group = rule.api_groups.unwrap_or_default().join(",");
            format!("[{group}] {}{named}: {}", rule.resources.unwrap_or_default().join(","), rule.verbs.join(","))
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn people_grant_only_what_they_may_do_and_approve_in_their_own_name() {
    let (plane, administrator) = guarded().await;
    let writer = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "writer" },
        "rules": [
            { "apiGroups": ["harness.dev"], "resources": ["invariants", "tickets"], "verbs": ["*"] },
            { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["patch"] },
        ],
    });
    apply(&administrator, &writer).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "writer" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
    });
    apply(&administrator, &binding).await;
    let jane = plane.user_client("jane", None).unwrap();
    let try_grant = |client: &Client, allow: Value| {
        let object = json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": "i" },
            "spec": { "query": "http://a.example/", "condition": "== 200", "remediation": { "allow": [allow] } },
        });
        let api: Api<harness::crd::Invariant> = Api::namespaced(client.clone(), NAMESPACE);
        async move {
            let applied = api.patch("i", &PatchParams::apply("person").force(), &Patch::Apply(object)).await;
            applied.map(|_| ()).map_err(|error| error.to_string())
        }
    };
    let edit = |name: &str| json!({ "editConfig": { "name": name, "key": "k" } });
    let workload = json!({ "kind": "Deployment", "name": "a" });
    // Another one each time: what is granted already is not asked again.
    let mut number = 0;
    eventually(PATIENCE, || {
        number += 1;
        let granted = try_grant(&jane, edit(&format!("other-{number}")));
        async move { granted.await.err().filter(|error| error.contains("may not patch")) }
    })
    .await;
    try_grant(&jane, edit("mine")).await.unwrap();
    for (allow, words) in [
        (json!({ "restart": workload }), "deployments/a"),
        (json!({ "rollback": workload }), "deployments/a"),
        (json!({ "scale": { "kind": "Deployment", "name": "a", "min": 1, "max": 2 } }), "deployments/a"),
    ] {
        let refused = try_grant(&jane, allow.clone()).await.unwrap_err();
        assert!(refused.contains(words), "{refused}");
        try_grant(&administrator, allow).await.unwrap();
        try_grant(&administrator, edit("mine")).await.unwrap();
    }
    approvals(&plane, &administrator, &jane).await;
    plane.stop().await;
}

async fn whoami(client: &Client) -> String {
    let review = Api::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await;
    review.unwrap().status.unwrap().user_info.unwrap().username.unwrap()
}

/// A ticket, which proposes nothing yet.
fn ticket(approval: Option<Value>) -> Ticket {
    let time = "2026-11-23T10:00:00.000000Z";
    let mut spec = json!({
        "invariantRef": { "name": "i", "uid": "u", "generation": 1 }, "severity": "Critical", "title": "t",
        "query": "http://a.example/", "condition": "== 200",
        "opening": { "firstBreachAt": time, "openedAt": time, "value": "503", "observed": "" },
    });
    if let Some(approval) = approval {
        spec["approval"] = approval;
    }
    serde_json::from_value(json!({ "metadata": { "name": "i-1" }, "spec": spec })).unwrap()
}

/// Has the ticket propose a change of these objects.
async fn propose(administrator: &Client, nonce: &str, objects: &[(&str, &str)]) {
    let action = |(kind, name): &(&str, &str)| {
        json!({
            "object": { "kind": kind, "name": name, "uid": "u" }, "key": "k", "resourceVersion": "1", "diff": "",
            "beforeDigest": "a", "afterDigest": "b",
        })
    };
    let proposal = json!({
        "hash": "0".repeat(64), "nonce": nonce, "why": "w", "proposedAt": "2026-11-23T10:00:00.000000Z",
        "actions": objects.iter().map(action).collect::<Vec<_>>(),
    });
    let patch = Patch::Merge(json!({ "status": { "proposal": proposal } }));
    let api: Api<Ticket> = Api::namespaced(administrator.clone(), NAMESPACE);
    api.patch_status("i-1", &PatchParams::default(), &patch).await.unwrap();
}

fn word(decision: &str, by: &str, nonce: &str) -> Value {
    json!({ "decision": decision, "by": by, "nonce": nonce, "proposalHash": "0".repeat(64) })
}

async fn say(client: &Client, word: Value) -> Result<(), String> {
    let api: Api<Ticket> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({ "spec": { "approval": word } }));
    api.patch("i-1", &PatchParams::default(), &patch).await.map(|_| ()).map_err(|it| it.to_string())
}

/// Who may patch the ConfigMap `mine` and no other answers proposals.
async fn approvals(plane: &ControlPlane, administrator: &Client, jane: &Client) {
    let api = |client: &Client| Api::<Ticket>::namespaced(client.clone(), NAMESPACE);
    let early = ticket(Some(word("Approved", "jane", "n")));
    let refused = api(jane).create(&PostParams::default(), &early).await.unwrap_err();
    assert!(refused.to_string().contains("a new ticket has no approval"), "{refused}");
    api(administrator).create(&PostParams::default(), &ticket(None)).await.unwrap();
    let refused = say(jane, word("Approved", "jane", "n0")).await.unwrap_err();
    assert!(refused.contains("no answer to what the ticket proposes now"), "{refused}");

    propose(administrator, "n1", &[("ConfigMap", "mine")]).await;
    let refused = say(jane, word("Approved", "somebody-else", "n1")).await.unwrap_err();
    assert!(refused.contains("must be your own user name, jane"), "{refused}");
    let refused = say(jane, word("Approved", "jane", "n0")).await.unwrap_err();
    assert!(refused.contains("no answer to what the ticket proposes now"), "{refused}");
    say(jane, word("Approved", "jane", "n1")).await.unwrap();

    // As many actions as a proposal may have, and one of an object that she may not write.
    let most = |last: (&'static str, &'static str)| {
        let mut objects = vec![("ConfigMap", "mine"); 7];
        objects.push(last);
        objects
    };
    for (number, (kind, name)) in
        [("ConfigMap", "other"), ("Deployment", "a"), ("StatefulSet", "a")].into_iter().enumerate()
    {
        let nonce = format!("n2{number}");
        propose(administrator, &nonce, &most((kind, name))).await;
        let refused = say(jane, word("Approved", "jane", &nonce)).await.unwrap_err();
        assert!(
            refused.contains(&format!("the change writes {kind} {name}, which you may not patch yourself")),
            "{refused}"
        );
        // To say no, nobody needs to be allowed to do it.
        say(jane, word("Rejected", "jane", &nonce)).await.unwrap();
    }
    propose(administrator, "n3", &most(("ConfigMap", "mine"))).await;
    say(jane, word("Approved", "jane", "n3")).await.unwrap();
    propose(administrator, "n4", &most(("Deployment", "a"))).await;
    let name = whoami(administrator).await;
    say(administrator, word("Approved", &name, "n4")).await.unwrap();
    // The monitor may patch tickets, for their finalizer; the agent may not even that.
    let monitor = plane.user_client(MONITOR, None).unwrap();
    let refused = say(&monitor, word("Rejected", MONITOR, "n4")).await.unwrap_err();
    assert!(refused.contains("cannot approve its own proposals"), "{refused}");
    let agent = plane.user_client(AGENT, None).unwrap();
    let refused = say(&agent, word("Approved", AGENT, "n4")).await.unwrap_err();
    assert!(refused.contains("forbidden"), "{refused}");
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(agent.clone(), NAMESPACE);
    assert!(secrets.list(&kube::api::ListParams::default()).await.is_err());
    let elsewhere: Api<ConfigMap> = Api::namespaced(agent, "kube-system");
    assert!(elsewhere.list(&kube::api::ListParams::default()).await.is_err());
    let namespaces: Api<Namespace> = Api::all(jane.clone());
    assert!(namespaces.list(&kube::api::ListParams::default()).await.is_err(), "jane is nobody in particular");
}
