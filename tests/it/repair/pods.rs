//! Pods that mount what a repair changes.

use super::stage::Stage;
use super::{SLOW, mark, status};
use crate::stage::{Operating, PATIENCE};
use crate::support::eventually;
use harness::agent::baseline::KNOWN_GOOD_LABEL;
use harness::crd::Phase;
use harness::injection::{ConfigKey, inject};
use harness::pods::REFRESH_ANNOTATION;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use harness::service::chaos::Fault;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::json;

async fn mounting_pod(stage: &Stage) {
    let pod = json!({
        "metadata": { "name": "api" },
        "spec": {
            "containers": [{
                "name": "main", "image": "app", "volumeMounts": [{ "name": "config", "mountPath": "/config" }],
            }],
            "volumes": [{ "name": "config", "configMap": { "name": CONFIG_NAME } }],
            "automountServiceAccountToken": false,
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    stage.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
}

/// A service in such a pod, whose configuration is known to be good.
async fn learned_with_a_pod(name: &str) -> (Stage, Operating) {
    let stage = Stage::new(name).await;
    mounting_pod(&stage).await;
    stage.watch_service(&json!({})).await;
    let operator = stage.operate_both();
    stage.learned().await;
    (stage, operator)
}

#[tokio::test]
async fn pods_that_mount_the_changed_config_map_are_annotated_so_that_their_kubelets_look_at_once() {
    let (stage, _operator) = learned_with_a_pod("refresh").await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let attempt = &status(&ticket).attempts[0];
    let lag = attempt.in_force_at.as_ref().unwrap().0.duration_since(attempt.written_at.as_ref().unwrap().0);
    assert!(lag.as_secs() < 60, "it did not wait for the kubelet's next sync: {lag}");
    let pod = stage.api::<Pod>().get("api").await.unwrap();
    assert_eq!(pod.annotations()[REFRESH_ANNOTATION], mark(&ticket, 1));
}

#[tokio::test]
async fn a_fault_that_is_injected_reaches_the_pods_at_once_too() {
    let stage = Stage::new("refresh-fault").await;
    mounting_pod(&stage).await;
    let target =
        ConfigKey { namespace: stage.namespace.clone(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() };
    let written = inject(&stage.client, &target, &[Fault::Dead]).await.unwrap();
    let pod = stage.api::<Pod>().get("api").await.unwrap();
    assert_eq!(pod.annotations()[REFRESH_ANNOTATION], format!("harness-chaos.{}", written.resource_version));
}

#[tokio::test]
async fn a_change_that_pods_do_not_read_yet_is_not_learned_as_good() {
    let (stage, _operator) = learned_with_a_pod("unread").await;
    // Harmless to the service here; whether it is in the pod is not known before the kubelet has looked.
    let changed = r#"{"enabled": true, "delay_ms": 1}"#;
    stage.write_config(changed).await;
    // What no pod mounts is learned meanwhile.
    let free = json!({ "metadata": { "name": "free" }, "data": { "k": "written after that" } });
    let free: ConfigMap = serde_json::from_value(free).unwrap();
    stage.api::<ConfigMap>().create(&PostParams::default(), &free).await.unwrap();
    let allow = json!([{ "editConfig": { "name": "free", "key": "k" } }]);
    stage.apply("free", json!({ "remediation": { "allow": allow } })).await;
    let labels = ListParams::default().labels(&format!("{KNOWN_GOOD_LABEL}=true"));
    let known = eventually(PATIENCE, || async {
        let known = stage.api::<ControllerRevision>().list(&labels).await.unwrap();
        known.items.iter().any(|it| it.data.as_ref().unwrap().0["data"]["k"].is_string()).then_some(known)
    })
    .await;
    let learned = known.items.iter().any(|it| it.data.as_ref().unwrap().0["data"][CONFIG_KEY] == changed);
    assert!(!learned, "the pod may still read the old one");
}
