//! The monitor: what it says of an invariant, and when it opens and resolves a ticket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod cycles;
mod edits;
mod evidence;
mod noise;
mod quiet;
mod succession;

use crate::stage::target::{Refusing, Target};
use crate::stage::{Stage, condition, names, remediation};
use harness::crd::{Invariant, Outcome, Phase, Ticket, VerdictName};
use harness::operator::Halves;
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;

/// What the last sample meant.
fn verdict(invariant: &Invariant) -> Option<VerdictName> {
    invariant.status.as_ref()?.verdict
}

fn samples(ticket: &Ticket) -> Vec<&str> {
    let evidence = ticket.spec.evidence.as_ref().unwrap();
    evidence.samples.iter().map(|sample| sample.value.as_str()).collect()
}

#[tokio::test]
async fn an_invariant_that_holds_says_so_and_has_no_ticket() {
    let stage = Stage::monitored("holds").await;
    stage.apply("answers", json!({ "successThreshold": 2 })).await;
    let invariant = stage.holding("answers").await;
    let generation = invariant.metadata.generation;
    for (type_, reason) in [("Accepted", "Parsed"), ("Holding", "ConditionMet")] {
        let condition = condition(&invariant, type_).unwrap();
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", reason));
        assert_eq!(condition.observed_generation, generation);
    }
    let status = invariant.status.unwrap();
    assert_eq!(Some(status.observed_generation), generation);
    assert_eq!(Some(status.held_generation), generation);
    assert_eq!((status.value.as_deref(), status.verdict), (Some("200"), Some(VerdictName::Holds)));
    assert_eq!(status.held_since.unwrap(), status.recent_samples[0].at);
    assert_eq!(status.ticket, None);
    assert!(stage.tickets().await.is_empty());
}

#[tokio::test]
async fn the_breach_that_crosses_the_threshold_opens_a_ticket_and_one_before_does_not() {
    let stage = Stage::monitored("threshold").await;
    stage.target.answer_first(&[200, 503, 200, 200], 503);
    stage.apply("answers", json!({ "failureThreshold": 2, "severity": "Critical" })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Open).await;
    assert_eq!(samples(&ticket), ["200", "503", "200", "200", "503", "503"]);
    let evidence = ticket.spec.evidence.as_ref().unwrap();
    assert_eq!(ticket.spec.opening.first_breach_at, evidence.samples[4].at);
    assert_eq!(ticket.spec.title, "answers: is 503, expected == 200");
    assert_eq!(ticket.spec.query, stage.target.url());
    assert_eq!(format!("{:?}", ticket.spec.severity), "Critical");
    let named = stage.invariant("answers", |it| it.status.as_ref().unwrap().ticket.is_some()).await;
    assert_eq!(named.status.as_ref().unwrap().ticket.as_deref(), Some("answers-1"));
    assert_eq!(ticket.spec.invariant_ref.uid, named.uid().unwrap());
    assert_eq!(condition(&named, "Holding").unwrap().reason, "ConditionNotMet");
}

#[tokio::test]
async fn holds_in_a_row_resolve_the_ticket_and_a_single_one_does_not() {
    let stage = Stage::monitored("resolve").await;
    stage.target.answer(503);
    stage.apply("answers", json!({ "successThreshold": 2 })).await;
    stage.wait_for_phase("answers-1", Phase::Open).await;
    stage.target.answer_first(&[200], 503);
    stage.invariant("answers", |it| verdict(it) == Some(VerdictName::Holds)).await;
    stage.invariant("answers", |it| verdict(it) == Some(VerdictName::Breached)).await;
    assert_eq!(stage.ticket("answers-1", |_| true).await.phase(), Phase::Open);

    stage.target.answer(200);
    let ticket = stage.wait_for_phase("answers-1", Phase::Resolved).await;
    let status = ticket.status.unwrap();
    assert_eq!((status.outcome, status.reason.as_deref()), (Some(Outcome::SelfHealed), Some("SelfHealed")));
    assert!(status.ended_at.is_some());
    let invariant = stage.invariant("answers", |it| it.status.as_ref().unwrap().ticket.is_none()).await;
    assert_eq!(condition(&invariant, "Holding").unwrap().status, "True");
    stage.ticket("answers-1", |ticket| ticket.finalizers().is_empty()).await;
}

#[tokio::test]
async fn a_target_that_refuses_connections_breaks_the_invariant_with_that_reason() {
    let stage = Stage::monitored("refused").await;
    let refusing = Refusing::new();
    stage.apply("answers", json!({ "query": refusing.url() })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Open).await;
    assert_eq!(ticket.spec.opening.value, "ConnectionRefused");
    assert_eq!(ticket.spec.title, "answers: ConnectionRefused, expected == 200");
    let invariant = stage.condition("answers", "Holding", "False").await;
    assert_eq!(condition(&invariant, "Holding").unwrap().reason, "ConnectionRefused");

    let _target = refusing.listen();
    stage.wait_for_phase("answers-1", Phase::Resolved).await;
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_a_breach() {
    let stage = Stage::monitored("late").await;
    stage.target.delay(Duration::from_hours(1));
    stage.apply("answers", json!({ "timeout": "100ms" })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Open).await;
    assert_eq!(ticket.spec.opening.value, "TimedOut");
    assert!(ticket.spec.opening.observed.contains("100 ms"), "{}", ticket.spec.opening.observed);
}

/// A stage whose monitor may not reach the target, and whose status shows every sample.
async fn blind(name: &str) -> Stage {
    let mut stage = Stage::set(name).await;
    let mut settings = stage.settings();
    settings.allow_loopback = false;
    settings.status_refresh = Some(Duration::from_millis(1));
    stage.operator = Some(stage.operate(Halves::Monitor, settings));
    stage
}

#[tokio::test]
async fn what_the_harness_may_not_ask_is_unknown_and_opens_no_ticket() {
    let stage = blind("denied").await;
    stage.apply("answers", json!({})).await;
    let invariant = stage.invariant("answers", |it| it.status.as_ref().is_some_and(|it| it.recent_samples.len() >= 3));
    let invariant = invariant.await;
    let holding = condition(&invariant, "Holding").unwrap();
    assert_eq!((holding.status.as_str(), holding.reason.as_str()), ("Unknown", "EgressDenied"));
    assert_eq!(verdict(&invariant), Some(VerdictName::Unknown));
    assert_eq!(invariant.status.unwrap().held_since, None);
    assert!(stage.tickets().await.is_empty());
    assert_eq!(stage.target.asked(), 0);
}

#[tokio::test]
async fn no_data_counts_as_the_invariant_says() {
    let stage = blind("no-data").await;
    stage.apply("violated", json!({ "noData": "Violated" })).await;
    stage.apply("holding", json!({ "noData": "Holding" })).await;
    let ticket = stage.wait_for_phase("violated-1", Phase::Open).await;
    assert_eq!(ticket.spec.title, "violated: could not be asked (EgressDenied), expected == 200");
    let violated = stage.condition("violated", "Holding", "False").await;
    assert_eq!(condition(&violated, "Holding").unwrap().reason, "EgressDenied");
    let holding = stage.holding("holding").await;
    assert_eq!(verdict(&holding), Some(VerdictName::Unknown));
    assert_eq!(names(&stage.tickets().await), ["violated-1"]);
}

#[tokio::test]
async fn a_broken_dependency_holds_back_the_opening_until_it_holds_again() {
    let stage = Stage::monitored("depends").await;
    let parent = Target::start().await;
    parent.answer(503);
    stage.apply("parent", json!({ "query": parent.url() })).await;
    stage.wait_for_phase("parent-1", Phase::Open).await;
    stage.target.answer(503);
    stage.apply("child", json!({ "dependsOn": [{ "name": "parent" }], "failureThreshold": 2 })).await;
    let child = stage.condition("child", "HeldBack", "True").await;
    assert_eq!(condition(&child, "HeldBack").unwrap().message, "broken too: parent");
    stage.condition("child", "Holding", "False").await;
    stage.target.asked_again(2).await;
    assert_eq!(names(&stage.tickets().await), ["parent-1"]);

    parent.answer(200);
    stage.wait_for_phase("parent-1", Phase::Resolved).await;
    let parent = stage.holding("parent").await;
    let ticket = stage.wait_for_phase("child-1", Phase::Open).await;
    // The count began anew: no breach from before counts.
    assert!(ticket.spec.opening.first_breach_at > parent.status.unwrap().held_since.unwrap());
    assert!(ticket.spec.evidence.as_ref().unwrap().samples.len() >= 4);
    stage.condition("child", "HeldBack", "False").await;
}

#[tokio::test]
async fn a_person_who_puts_the_configuration_right_is_named_as_the_outcome() {
    let stage = Stage::monitored("fixed").await;
    stage.break_config(&json!({ "enabled": false, "delay_ms": 0 })).await;
    stage.apply("healthy", json!({ "query": stage.service_url(), "remediation": remediation("Approve") })).await;
    stage.wait_for_phase("healthy-1", Phase::Open).await;
    stage.break_config(&json!({ "enabled": true, "delay_ms": 0 })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    let status = ticket.status.unwrap();
    assert_eq!(status.outcome, Some(Outcome::FixedByPerson));
    let message = status.message.unwrap();
    assert!(message.contains("holds again after person wrote ConfigMap rate-limiter-config"), "{message}");
}
