//! Workloads that are put back into their last good state, without a model.

use super::stage::Stage;
use super::status;
use crate::claude::workloads::{NAME, deployed, deployment, image, replicas};
use crate::stage::{Operating, PATIENCE};
use crate::support::eventually;
use harness::agent::baseline::OBJECT_LABEL;
use harness::crd::{Outcome, Phase};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// A watched deployment whose state is known to be good.
async fn good(name: &str) -> (Stage, Operating, JoinSet<()>) {
    let stage = Stage::new(name).await;
    let controller = deployed(&stage).await;
    let workload = json!({ "kind": "Deployment", "name": NAME });
    let remediation = json!({ "mode": "Auto", "allow": [
        { "rollback": workload }, { "scale": { "kind": "Deployment", "name": NAME, "min": 1, "max": 5 } },
    ] });
    stage.apply("api", json!({ "targetRef": workload, "remediation": remediation })).await;
    let operator = stage.operate_both();
    let labels = ListParams::default().labels(&format!("{OBJECT_LABEL}=Deployment.{NAME}"));
    eventually(PATIENCE, || async {
        let known = stage.api::<ControllerRevision>().list(&labels).await.unwrap().items;
        (!known.is_empty()).then_some(())
    })
    .await;
    (stage, operator, controller)
}

/// Changes the spec as a person would, and breaks the service by that.
async fn break_by(stage: &Stage, manager: &str, spec: Value) {
    let parameters = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(json!({ "spec": spec }));
    stage.api::<Deployment>().patch(NAME, &parameters, &patch).await.unwrap();
    stage.target.answer(503);
}

#[tokio::test]
async fn what_somebody_scaled_to_nothing_is_scaled_back() {
    let (stage, _operator, _controller) = good("good-scale").await;
    break_by(&stage, "kubectl-scale", json!({ "replicas": 0 })).await;
    deployment(&stage, |it| replicas(it) == 2).await;
    stage.target.answer(200);
    let ticket = stage.wait_for_phase("api-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    let cause = &status(&ticket).diagnosis.as_ref().unwrap().root_cause;
    assert!(
        cause.starts_with("kubectl-scale changed the replicas of Deployment rate-limiter from 2 to 0 at "),
        "{cause}"
    );
}

#[tokio::test]
async fn a_bad_image_with_bad_arguments_is_rolled_back_in_one_attempt_with_the_replicas() {
    let (stage, _operator, _controller) = good("good-rollout").await;
    let container = json!({ "name": "main", "image": "app:broken", "args": ["--prot=1"] });
    let template = json!({ "spec": { "containers": [container] } });
    break_by(&stage, "kubectl-set", json!({ "replicas": 1, "template": template })).await;
    let restored = deployment(&stage, |it| image(it) == "app:2" && replicas(it) == 2).await;
    assert_eq!(restored.spec.unwrap().template.spec.unwrap().containers[0].args, None);
    stage.target.answer(200);
    let ticket = stage.wait_for_phase("api-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!(status(&ticket).attempts.len(), 1);
}
