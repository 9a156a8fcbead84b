//! What would only be noise has no ticket, or one.

use crate::stage::{Stage, condition, names};
use crate::support::eventually;
use harness::crd::{Invariant, Phase, Ticket};
use harness::operator::Halves;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

#[tokio::test]
async fn what_heals_by_itself_and_breaks_again_has_one_ticket_that_stays() {
    let stage = Stage::monitored("flapping").await;
    stage.apply("answers", json!({})).await;
    stage.holding("answers").await;
    for number in 1..=3 {
        stage.target.answer(503);
        stage.wait_for_phase(&format!("answers-{number}"), Phase::Open).await;
        stage.target.answer(200);
        stage.wait_for_phase(&format!("answers-{number}"), Phase::Resolved).await;
    }
    let flapping = stage.condition("answers", "Flapping", "True").await;
    assert_eq!(condition(&flapping, "Flapping").unwrap().reason, "BreaksAgain");
    stage.target.answer(503);
    let ticket = stage.ticket("answers-4", |it| it.status.is_some()).await;
    assert!(ticket.spec.title.contains("flapping"), "{}", ticket.spec.title);
    let status = ticket.status.unwrap();
    assert_eq!((status.phase, status.reason.as_deref()), (Phase::Open, Some("Flapping")));
    assert!(status.message.unwrap().contains("stays open until it has held for 15 minutes"));
    for status in [200, 503, 200] {
        stage.target.answer(status);
        stage.condition("answers", "Holding", if status == 200 { "True" } else { "False" }).await;
        stage.target.asked_again(2).await;
    }
    assert_eq!(stage.ticket("answers-4", |_| true).await.phase(), Phase::Open);
    assert_eq!(stage.tickets().await.len(), 4);
}

#[tokio::test]
async fn a_successor_knows_that_it_flaps() {
    let mut stage = Stage::monitored("flapping-on").await;
    stage.apply("answers", json!({})).await;
    stage.holding("answers").await;
    for number in 1..=3 {
        stage.target.answer(503);
        stage.wait_for_phase(&format!("answers-{number}"), Phase::Open).await;
        stage.target.answer(200);
        stage.wait_for_phase(&format!("answers-{number}"), Phase::Resolved).await;
    }
    for number in 1..=3 {
        stage.delete::<Ticket>(&format!("answers-{number}")).await;
        stage.gone::<Ticket>(&format!("answers-{number}")).await;
    }
    stage.condition("answers", "Flapping", "True").await;
    stage.stop_operator().await;
    let stage = stage.operated(Halves::Monitor);
    stage.target.answer(503);
    let invariant = stage.invariant("answers", |it| it.status.as_ref().is_some_and(|it| it.ticket.is_some())).await;
    let ticket = stage.ticket(&invariant.status.unwrap().ticket.unwrap(), |it| it.status.is_some()).await;
    assert_eq!(ticket.status.unwrap().reason.as_deref(), Some("Flapping"));
}

fn held_back(invariant: &Invariant) -> Option<(&str, &str, &str)> {
    let condition = condition(invariant, "HeldBack")?;
    Some((&condition.status, &condition.reason, &condition.message))
}

#[tokio::test]
async fn within_its_initial_delay_what_never_held_has_no_ticket() {
    let stage = Stage::monitored("delay").await;
    stage.target.answer(503);
    stage.apply("answers", json!({ "initialDelay": "1h" })).await;
    let waiting = stage.condition("answers", "HeldBack", "True").await;
    let (_, reason, message) = held_back(&waiting).unwrap();
    assert_eq!(reason, "Starting");
    assert!(message.contains("spec.initialDelay"), "{message}");
    stage.target.asked_again(3).await;
    assert!(stage.tickets().await.is_empty());
    stage.edit("answers", json!({ "initialDelay": "0s" })).await;
    stage.wait_for_phase("answers-1", Phase::Open).await;
    stage.condition("answers", "HeldBack", "False").await;

    // What held once breaks at once.
    stage.target.answer(200);
    stage.apply("held", json!({ "initialDelay": "1h" })).await;
    stage.holding("held").await;
    stage.target.answer(503);
    stage.wait_for_phase("held-1", Phase::Open).await;
}

fn deployment(name: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "example.invalid/slow:1" }] },
            },
        },
    })
}

#[tokio::test]
async fn the_first_rollout_of_a_target_is_waited_for_and_breaches_count_from_its_end() {
    let stage = Stage::monitored("starting").await;
    let deployments = stage.api::<Deployment>();
    let slow = serde_json::from_value(deployment("slow")).unwrap();
    deployments.create(&PostParams::default(), &slow).await.unwrap();
    stage.target.answer(503);
    stage.apply("answers", json!({ "targetRef": { "kind": "Deployment", "name": "slow" } })).await;
    let waiting = stage.condition("answers", "HeldBack", "True").await;
    let (_, reason, message) = held_back(&waiting).unwrap();
    assert_eq!(reason, "Starting");
    assert!(message.starts_with("Deployment slow is starting: 0 of 1 pods are ready; it has until"), "{message}");
    stage.target.asked_again(3).await;
    assert!(stage.tickets().await.is_empty());
    // One that is not there is not waited for.
    stage.apply("absent", json!({ "targetRef": { "kind": "Deployment", "name": "absent" } })).await;
    stage.wait_for_phase("absent-1", Phase::Open).await;

    let ready = json!({ "status": { "replicas": 1, "readyReplicas": 1, "availableReplicas": 1 } });
    deployments.patch_status("slow", &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
    eventually(crate::stage::PATIENCE, || async {
        stage.tickets().await.iter().any(|it| it.spec.invariant_ref.name == "answers").then_some(())
    })
    .await;
    assert_eq!(names(&stage.tickets().await), ["absent-1", "answers-1"]);
}
