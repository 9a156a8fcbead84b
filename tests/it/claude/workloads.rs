//! Restarts, rollbacks and changes of scale: written, waited for, verified, undone.

use super::conversation::in_turn;
use super::{planning, status};
use crate::double::{Double, Turn};
use crate::repair::mark;
use crate::repair::stage::Stage;
use crate::stage::Operating;
use futures::StreamExt;
use harness::crd::{Action, AttemptResult, Outcome, Phase};
use harness::operator::Halves;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(crate) const NAME: &str = "rate-limiter";

fn template(image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": NAME } },
        "spec": { "containers": [{ "name": "main", "image": image }] },
    })
}

/// A deployment with an earlier revision, and what a controller does for it: its status follows its spec.
pub(crate) async fn deployed(stage: &Stage) -> JoinSet<()> {
    let selector = json!({ "matchLabels": { "app": NAME } });
    let deployment = json!({
        "metadata": { "name": NAME }, "spec": { "replicas": 2, "selector": selector, "template": template("app:2") },
    });
    let api: Api<Deployment> = stage.api();
    let created = api.create(&PostParams::default(), &of(deployment)).await.unwrap();
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "Deployment", "name": NAME, "controller": true, "uid": created.metadata.uid,
    }]);
    for (revision, image) in [("1", "app:1"), ("2", "app:2")] {
        let set = json!({
            "metadata": {
                "name": format!("{NAME}-{revision}"), "ownerReferences": owner,
                "annotations": { "deployment.kubernetes.io/revision": revision },
            },
            "spec": { "selector": selector, "template": template(image) },
        });
        stage.api::<ReplicaSet>().create(&PostParams::default(), &of(set)).await.unwrap();
    }
    let mut controller = JoinSet::new();
    controller.spawn(async move {
        let mut states = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects().boxed();
        while let Some(state) = states.next().await {
            let Ok(it) = state else { continue };
            let (generation, replicas) = (it.metadata.generation, it.spec.as_ref().unwrap().replicas);
            if it.status.as_ref().and_then(|status| status.observed_generation) != generation {
                let followed = json!({ "status": {
                    "observedGeneration": generation, "replicas": replicas, "updatedReplicas": replicas,
                    "readyReplicas": replicas, "availableReplicas": replicas,
                } });
                api.patch_status(NAME, &PatchParams::default(), &Patch::Merge(followed)).await.unwrap();
            }
        }
    });
    controller
}

fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

struct Scene {
    stage: Stage,
    _double: Double,
    _operator: Operating,
    _controller: JoinSet<()>,
}

/// A watched deployment whose model asks for this change once, and then hands over.
async fn scene(name: &str, tool: &'static str, more: Value) -> Scene {
    let brain = in_turn(move |_, turn| match turn {
        0 => {
            let mut input = json!({ "kind": "Deployment", "name": NAME, "reason": "It may help" });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Turn::new().thinking().tool(tool, input)
        }
        _ => Turn::new().tool(
            "escalate",
            json!({ "summary": "no", "root_cause": "unknown", "next_step": "look", "confidence": "Low" }),
        ),
    });
    let (stage, double) = (Stage::new(name).await, Double::start(brain).await);
    let controller = deployed(&stage).await;
    let workload = json!({ "kind": "Deployment", "name": NAME });
    let remediation = json!({
        "mode": "Auto", "verifyTimeout": "3s", "allow": [
            { "restart": workload }, { "rollback": workload },
            { "scale": { "kind": "Deployment", "name": NAME, "min": 1, "max": 5 } },
        ],
    });
    stage.apply("api", json!({ "targetRef": workload, "remediation": remediation })).await;
    let operator =
        stage.operate_with(stage.client.clone(), Halves::Both, |settings| settings.planning = planning(&double));
    stage.holding("api").await;
    stage.target.answer(503);
    Scene { stage, _double: double, _operator: operator, _controller: controller }
}

/// The deployment once it is as wanted.
pub(crate) async fn deployment(stage: &Stage, wanted: impl Fn(&Deployment) -> bool) -> Deployment {
    crate::support::eventually(crate::stage::PATIENCE, || async {
        Some(stage.api::<Deployment>().get(NAME).await.unwrap()).filter(&wanted)
    })
    .await
}

pub(crate) fn replicas(it: &Deployment) -> i32 {
    it.spec.as_ref().unwrap().replicas.unwrap()
}

pub(crate) fn image(it: &Deployment) -> &str {
    it.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap()
}

fn restarted_at(it: &Deployment) -> Option<String> {
    let metadata = it.spec.as_ref()?.template.metadata.as_ref()?;
    metadata.annotations.as_ref()?.get("kubectl.kubernetes.io/restartedAt").cloned()
}

#[tokio::test]
async fn a_change_of_scale_that_helps_is_kept() {
    let scene = scene("scale", "scale_workload", json!({ "replicas": 4 })).await;
    let scaled = deployment(&scene.stage, |it| replicas(it) == 4).await;
    scene.stage.target.answer(200);
    let ticket = scene.stage.wait_for_phase("api-1", Phase::Resolved).await;
    assert_eq!(scaled.annotations()["harness.dev/attempt"], mark(&ticket, 1));
    let status = status(&ticket);
    assert_eq!((status.outcome, status.attempts[0].actions[0].action), (Some(Outcome::Repaired), Action::Scale));
    assert_eq!(status.attempts[0].actions[0].object.kind, "Deployment");
    assert_eq!(replicas(&deployment(&scene.stage, |_| true).await), 4);
}

#[tokio::test]
async fn a_change_of_scale_that_does_not_help_is_undone() {
    let scene = scene("scale-undo", "scale_workload", json!({ "replicas": 4 })).await;
    let ticket = scene.stage.wait_for_phase("api-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::Undone);
    let restored = deployment(&scene.stage, |_| true).await;
    assert_eq!(replicas(&restored), 2);
    assert_eq!(restored.annotations()["harness.dev/attempt"], format!("{}/undone", mark(&ticket, 1)));
}

#[tokio::test]
async fn a_rollback_sets_the_images_of_the_revision_before_and_nothing_else() {
    let scene = scene("rollback", "rollback_workload", json!({})).await;
    let rolled_back = deployment(&scene.stage, |it| image(it) == "app:1").await;
    assert_eq!(replicas(&rolled_back), 2);
    scene.stage.target.answer(200);
    let ticket = scene.stage.wait_for_phase("api-1", Phase::Resolved).await;
    let changes = &status(&ticket).attempts[0].actions[0].changes;
    let change = (changes[0].before.as_deref(), changes[0].after.as_deref());
    assert_eq!(change, (Some("\"app:2\""), Some("\"app:1\"")));
}

#[tokio::test]
async fn a_restart_is_written_once_and_not_repeated_by_its_undo() {
    let scene = scene("restart", "restart_workload", json!({})).await;
    let restarted = restarted_at(&deployment(&scene.stage, |it| restarted_at(it).is_some()).await);
    let ticket = scene.stage.wait_for_phase("api-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::Undone);
    let after = deployment(&scene.stage, |_| true).await;
    assert_eq!(restarted_at(&after), restarted);
    assert_eq!(after.annotations()["harness.dev/attempt"], format!("{}/undone", mark(&ticket, 1)));
}

#[tokio::test]
async fn what_a_person_scales_meanwhile_is_not_undone() {
    let scene = scene("scale-contested", "scale_workload", json!({ "replicas": 4 })).await;
    deployment(&scene.stage, |it| replicas(it) == 4).await;
    let patch = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    scene.stage.api::<Deployment>().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    let ticket = scene.stage.wait_for_phase("api-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Contested));
    assert_eq!(replicas(&deployment(&scene.stage, |_| true).await), 5);
}
