//! What is said of targets in every state that a newcomer meets first.

use super::*;
use serde_json::{Value, json};

fn parsed<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn deployment(spec: i64, ready: i64) -> DynamicObject {
    parsed(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" },
        "spec": { "replicas": spec, "selector": { "matchLabels": { "app": "shop" } } },
        "status": { "observedGeneration": 1, "readyReplicas": ready },
    }))
}

fn about(kind: TargetKind) -> Target {
    Target { kind, name: "shop".into() }
}

fn waiting(reason: &str, message: &str) -> Pod {
    let state = json!({ "waiting": { "reason": reason, "message": message } });
    parsed(&json!({ "status": { "containerStatuses": [{
        "name": "main", "image": "shop:2", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }] } }))
}

fn crashing(exit_code: i32, reason: &str) -> Pod {
    let mut pod = json!(waiting("CrashLoopBackOff", "back-off 10s restarting"));
    pod["status"]["containerStatuses"][0]["lastState"] =
        json!({ "terminated": { "exitCode": exit_code, "reason": reason } });
    parsed(&pod)
}

fn slice(ready: &[bool]) -> EndpointSlice {
    let endpoints: Vec<Value> =
        ready.iter().map(|ready| json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } })).collect();
    parsed(&json!({ "addressType": "IPv4", "endpoints": endpoints }))
}

fn service(spec: &Value) -> (String, Option<Service>) {
    ("shop".into(), Some(parsed(&json!({ "spec": spec }))))
}

#[test]
fn a_target_says_what_is_wrong_with_it() {
    let plain = json!({ "selector": { "app": "shop" } });
    let workload = |object: Option<DynamicObject>| Some((about(TargetKind::Deployment), object));
    let unschedulable = parsed(&json!({ "status": { "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
    }] } }));
    let pods = |pods: Vec<Pod>| Seen { pods: Some(pods), ..Seen::default() };
    let table: Vec<(Seen, &[&str])> = vec![
        (Seen::default(), &[]),
        (Seen { service: Some(("shop".into(), None)), ..Seen::default() }, &["Service shop does not exist"]),
        (
            Seen { service: Some(service(&plain)), slices: Some(Vec::new()), ..Seen::default() },
            &["Service shop has no endpoints: its selector app=shop matches no pod"],
        ),
        (
            Seen { service: Some(service(&plain)), slices: Some(vec![slice(&[false, false])]), ..Seen::default() },
            &["Service shop has no ready endpoints (2 not ready)"],
        ),
        (Seen { service: Some(service(&plain)), slices: Some(vec![slice(&[false, true])]), ..Seen::default() }, &[]),
        // What could not be read is not known.
        (Seen { service: Some(service(&plain)), slices: None, ..Seen::default() }, &[]),
        (
            Seen {
                service: Some(service(&json!({ "type": "ExternalName" }))),
                slices: Some(Vec::new()),
                ..Seen::default()
            },
            &[],
        ),
        (Seen { workload: workload(None), ..Seen::default() }, &["Deployment shop does not exist"]),
        (Seen { workload: workload(Some(deployment(0, 0))), ..Seen::default() }, &["Deployment shop is scaled to 0"]),
        (
            Seen { workload: workload(Some(deployment(3, 1))), ..Seen::default() },
            &["Deployment shop has 1 of 3 pods ready"],
        ),
        (
            pods(vec![
                waiting("ImagePullBackOff", "Back-off pulling image \"shop:2\""),
                waiting("ContainerCreating", ""),
            ]),
            &["container main is in ImagePullBackOff: Back-off pulling image \"shop:2\""],
        ),
        (
            pods(vec![crashing(137, "OOMKilled"), crashing(137, "OOMKilled")]),
            &["container main is in CrashLoopBackOff: it ended with exit code 137 (OOMKilled)"],
        ),
        (pods(vec![unschedulable]), &["a pod cannot be scheduled: 0/3 nodes are available"]),
    ];
    for (seen, expected) in table {
        assert_eq!(judge(&seen), expected, "{seen:?}");
    }
}

#[test]
fn only_a_host_that_can_be_a_service_of_the_namespace_is_taken_for_one() {
    let table = [
        ("http://shop/health", Some("shop")),
        ("latency:http://shop:8001/health", Some("shop")),
        ("http://shop.web/", Some("shop")),
        ("http://shop.web.svc/", Some("shop")),
        ("http://shop.web.svc.cluster.local/", Some("shop")),
        ("http://shop.other/", None),
        ("http://shop.other.svc/", None),
        ("https://example.com/", None),
        ("http://127.0.0.1:8001/", None),
        ("http://localhost:8001/", None),
    ];
    for (query, expected) in table {
        assert_eq!(service_name(query, "web").as_deref(), expected, "{query}");
    }
}

#[test]
fn findings_are_few_and_hold_no_secret() {
    let pods =
        (0..20).map(|at| waiting("CreateContainerConfigError", &format!("no key {at}, password=hunter2"))).collect();
    let found = judge(&Seen { pods: Some(pods), ..Seen::default() });
    assert_eq!(found.len(), SHOWN);
    assert!(found.iter().all(|it| it.chars().count() <= 256 && !it.contains("hunter2")), "{found:?}");
}
