//! What a ticket says about its breach.

use crate::stage::target::Target;
use crate::stage::{PERSON, Stage, remediation};
use harness::crd::Ticket;
use harness::redact::MARKER;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use k8s_openapi::api::core::v1::Event;
use kube::api::PostParams;
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
