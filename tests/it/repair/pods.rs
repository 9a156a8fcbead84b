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
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
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
    let version = attempt.actions[0].written_resource_version.as_ref().unwrap();
    assert_eq!(pod.annotations()[REFRESH_ANNOTATION], format!("{} {CONFIG_NAME}@{version}", mark(&ticket, 1)));
}

#[tokio::test]
async fn a_fault_that_is_injected_reaches_the_pods_at_once_too() {
    let stage = Stage::new("refresh-fault").await;
    mounting_pod(&stage).await;
    let target =
        ConfigKey { namespace: stage.namespace.clone(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() };
    let written = inject(&stage.client, &target, &[Fault::Dead]).await.unwrap();
    let pod = stage.api::<Pod>().get("api").await.unwrap();
    assert_eq!(
        pod.annotations()[REFRESH_ANNOTATION],
        format!("harness-chaos {CONFIG_NAME}@{}", written.resource_version)
    );
}

/// Returns what is learned as good by the time that something which no pod takes, and which was written just now, is.
async fn learned_meanwhile(stage: &Stage) -> Vec<ControllerRevision> {
    let free = json!({ "metadata": { "name": "free" }, "data": { "k": "written after that" } });
    let free: ConfigMap = serde_json::from_value(free).unwrap();
    stage.api::<ConfigMap>().create(&PostParams::default(), &free).await.unwrap();
    let allow = json!([{ "editConfig": { "name": "free", "key": "k" } }]);
    stage.apply("free", json!({ "remediation": { "allow": allow } })).await;
    let labels = ListParams::default().labels(&format!("{KNOWN_GOOD_LABEL}=true"));
    eventually(PATIENCE, || async {
        let known = stage.api::<ControllerRevision>().list(&labels).await.unwrap().items;
        known.iter().any(|it| it.data.as_ref().unwrap().0["data"]["k"].is_string()).then_some(known)
    })
    .await
}

fn is_among(known: &[ControllerRevision], text: &str) -> bool {
    known.iter().any(|it| it.data.as_ref().unwrap().0["data"][CONFIG_KEY] == text)
}

#[tokio::test]
async fn a_change_that_pods_do_not_read_yet_is_not_learned_as_good() {
    let (stage, _operator) = learned_with_a_pod("unread").await;
    // Harmless to the service here; whether it is in the pod is not known before the kubelet has looked.
    let changed = r#"{"enabled": true, "delay_ms": 1}"#;
    stage.write_config(changed).await;
    assert!(!is_among(&learned_meanwhile(&stage).await, changed), "the pod may still read the old one");
}

#[tokio::test]
async fn a_plain_change_after_a_repair_is_not_learned_by_the_marks_that_the_repair_left() {
    let (stage, _operator) = learned_with_a_pod("unread-after-repair").await;
    stage.write_config(SLOW).await;
    stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let changed = r#"{"enabled": true, "delay_ms": 1}"#;
    stage.write_config(changed).await;
    assert!(!is_among(&learned_meanwhile(&stage).await, changed), "the pod may still read the repaired one");
}

/// A pod of a Job that takes the configuration as variables, and whose container started at this time.
async fn pod_with_variables(stage: &Stage, started_at: Timestamp) {
    let pod = json!({
        "metadata": {
            "name": "batch",
            "ownerReferences": [{ "apiVersion": "batch/v1", "kind": "Job", "name": "batch", "uid": "u", "controller": true }],
        },
        "spec": {
            "containers": [{ "name": "main", "image": "app", "envFrom": [{ "configMapRef": { "name": CONFIG_NAME } }] }],
            "automountServiceAccountToken": false,
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    stage.api::<Pod>().create(&PostParams::default(), &pod).await.unwrap();
    started(stage, started_at).await;
}

/// The kubelet's word on when the container started.
async fn started(stage: &Stage, at: Timestamp) {
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "main", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": format!("{at:.0}") } },
    }] } });
    stage.api::<Pod>().patch_status("batch", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn what_pods_take_as_variables_is_learned_once_their_containers_have_started_anew() {
    let stage = Stage::new("variables").await;
    let soon = || Timestamp::now() + SignedDuration::from_secs(2);
    pod_with_variables(&stage, soon()).await;
    stage.watch_service(&json!({})).await;
    let _operator = stage.operate_both();
    stage.learned().await;
    let changed = r#"{"enabled": true, "delay_ms": 1}"#;
    stage.write_config(changed).await;
    assert!(!is_among(&learned_meanwhile(&stage).await, changed), "the container has the old ones");
    started(&stage, soon()).await;
    stage.learned().await;
}

#[tokio::test]
async fn a_pod_of_a_job_that_takes_the_configuration_as_variables_does_not_keep_it_from_being_restored() {
    let stage = Stage::new("job").await;
    pod_with_variables(&stage, Timestamp::now() + SignedDuration::from_secs(2)).await;
    stage.watch_service(&json!({})).await;
    let _operator = stage.operate_both();
    stage.learned().await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let why = &status(&ticket).proposal.as_ref().unwrap().why;
    assert!(why.contains("Job batch reads ConfigMap rate-limiter-config with its next run"), "{why}");
}
