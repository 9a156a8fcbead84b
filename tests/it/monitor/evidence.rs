//! What a ticket says about its breach.

use crate::stage::target::Target;
use crate::stage::{PERSON, Stage, remediation};
use harness::crd::{Outcome, Phase, Ticket};
use harness::operator::Halves;
use harness::redact::MARKER;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

async fn report_event(stage: &Stage, name: &str, about: &str) {
    let event: Event = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": stage.namespace },
        "involvedObject": { "kind": "ConfigMap", "name": about, "namespace": stage.namespace },
        "reason": "Edited", "message": "now with password=hunter2", "lastTimestamp": "2026-11-18T12:00:00Z",
    }))
    .unwrap();
    stage.api::<Event>().create(&PostParams::default(), &event).await.unwrap();
}

/// A ticket about a service whose configuration was changed after it had held. A broken dependency holds the ticket
/// back until everything is as the test wants it.
async fn ticket_after(stage: &Stage, before: &Value, after: &Value) -> Ticket {
    let parent = Target::start().await;
    stage.break_config(before).await;
    stage.apply("parent", json!({ "query": parent.url() })).await;
    stage.apply("child", json!({ "dependsOn": [{ "name": "parent" }], "remediation": remediation("Observe") })).await;
    stage.holding("parent").await;
    stage.holding("child").await;
    // It held for some time, so that what it held with is known.
    stage.target.asked_again(2).await;
    parent.answer(503);
    stage.condition("parent", "Holding", "False").await;
    stage.target.answer(503);
    stage.condition("child", "HeldBack", "True").await;
    stage.break_config(after).await;
    parent.answer(200);
    stage.ticket("child-1", |_| true).await
}

#[tokio::test]
async fn a_ticket_shows_what_changed_since_it_held_and_by_whom_and_no_secret() {
    let stage = Stage::monitored("evidence").await;
    stage.target.body("status=down\ntoken=tok-5e1f");
    report_event(&stage, "about-it", CONFIG_NAME).await;
    report_event(&stage, "about-another", "another").await;
    let before = json!({ "enabled": true, "delay_ms": 0, "password": "first" });
    let after = json!({ "enabled": true, "delay_ms": 500, "password": "second" });
    let ticket = ticket_after(&stage, &before, &after).await;

    let evidence = ticket.spec.evidence.as_ref().unwrap();
    let [config] = &evidence.config[..] else { panic!("{:#?}", evidence.config) };
    assert_eq!((config.target.name.as_str(), config.target.key.as_str()), (CONFIG_NAME, CONFIG_KEY));
    let changes: Vec<_> = config
        .changes
        .iter()
        .map(|change| (change.path.as_str(), change.before.as_deref().unwrap(), change.after.as_deref().unwrap()))
        .collect();
    assert_eq!(changes, [("/delay_ms", "0", "500"), ("/password", MARKER, MARKER)]);
    let values: Vec<_> = config.values.iter().map(|it| (it.path.as_str(), it.value.as_str())).collect();
    assert_eq!(values, [("/enabled", "true"), ("/delay_ms", "500")]);
    assert_eq!(config.changed_by.as_deref(), Some(PERSON));
    assert!(config.changed_at.is_some() && config.digest.is_some() && config.resource_version.is_some());
    assert_eq!(evidence.body.as_deref(), Some(format!("status=down\ntoken={MARKER}").as_str()));
    let events: Vec<_> = evidence.events.iter().map(|it| (it.object.as_str(), it.message.as_str())).collect();
    let message = format!("now with password={MARKER}");
    assert_eq!(events, [(format!("ConfigMap/{CONFIG_NAME}").as_str(), message.as_str())]);

    let whole = serde_json::to_string(&ticket).unwrap();
    for secret in ["first\"", "second\"", "hunter2", "tok-5e1f"] {
        assert!(!whole.contains(secret), "{secret} in {whole}");
    }
}

#[tokio::test]
async fn a_target_without_configuration_is_no_obstacle_to_a_ticket() {
    let stage = Stage::monitored("no-config").await;
    stage.target.answer(503);
    let allow = json!([{ "editConfig": { "name": "absent", "key": "a.json" } }]);
    stage.apply("answers", json!({ "remediation": { "allow": allow } })).await;
    let ticket = stage.ticket("answers-1", |_| true).await;
    let config = &ticket.spec.evidence.unwrap().config[0];
    assert_eq!((&config.digest, &config.resource_version, config.values.len()), (&None, &None, 0));
}

/// A Deployment that nothing runs, as a person applies it.
async fn apply_deployment(stage: &Stage, replicas: u32) {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "shop" },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": "shop" } },
            "template": {
                "metadata": { "labels": { "app": "shop" } },
                "spec": { "containers": [{ "name": "main", "image": "shop:1" }] },
            },
        },
    });
    let parameters = PatchParams::apply(PERSON).force();
    stage.api::<Deployment>().patch("shop", &parameters, &Patch::Apply(object)).await.unwrap();
}

#[tokio::test]
async fn a_ticket_says_that_its_service_has_no_endpoints_or_does_not_exist() {
    let stage = Stage::set("no-endpoints").await.operated(Halves::Both);
    let service =
        json!({ "metadata": { "name": "shop" }, "spec": { "selector": { "app": "shop" }, "ports": [{ "port": 80 }] } });
    let service: Service = serde_json::from_value(service).unwrap();
    stage.api::<Service>().create(&PostParams::default(), &service).await.unwrap();
    for name in ["shop", "gone"] {
        stage.apply(name, json!({ "targetRef": { "kind": "Service", "name": name } })).await;
        stage.holding(name).await;
    }
    stage.target.answer(503);
    for (name, finding) in [
        ("shop", "Service shop has no endpoints: its selector app=shop matches no pod"),
        ("gone", "Service gone does not exist"),
    ] {
        let ticket = stage.wait_for_phase(&format!("{name}-1"), Phase::Escalated).await;
        assert_eq!(ticket.spec.evidence.unwrap().findings, [finding]);
        let status = ticket.status.unwrap();
        assert_eq!(status.diagnosis.unwrap().root_cause, finding);
        let message = status.message.unwrap();
        assert!(message.contains(&format!("Cause: {finding}. Next: ")), "{message}");
    }
}

#[tokio::test]
async fn a_person_who_scales_a_workload_up_again_repaired_it() {
    let stage = Stage::set("scaled-up").await.operated(Halves::Both);
    apply_deployment(&stage, 1).await;
    stage.apply("shop", json!({ "targetRef": { "kind": "Deployment", "name": "shop" } })).await;
    stage.holding("shop").await;
    apply_deployment(&stage, 0).await;
    stage.target.answer(503);
    let ticket = stage.wait_for_phase("shop-1", Phase::Escalated).await;
    assert_eq!(ticket.status.unwrap().diagnosis.unwrap().root_cause, "Deployment shop is scaled to 0");
    apply_deployment(&stage, 1).await;
    stage.target.answer(200);
    let status = stage.wait_for_phase("shop-1", Phase::Resolved).await.status.unwrap();
    assert_eq!(status.outcome, Some(Outcome::FixedByPerson));
    let message = status.message.unwrap();
    assert!(message.contains("holds again after person wrote Deployment shop"), "{message}");
}
