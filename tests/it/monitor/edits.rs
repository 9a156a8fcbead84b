//! What an edit of an invariant means for what was seen of it.

use crate::stage::{Stage, remediation};
use harness::crd::{Outcome, Phase};
use harness::operator::Halves;
use serde_json::json;

/// The outcome of the ticket that a fault gets after these edits of an invariant that held.
async fn outcome_after(name: &str, edits: &[serde_json::Value]) -> Option<Outcome> {
    let stage = Stage::set(name).await.operated(Halves::Both);
    stage.apply("answers", json!({})).await;
    stage.holding("answers").await;
    stage.edit("answers", json!({ "suspend": true })).await;
    stage.condition("answers", "Holding", "Unknown").await;
    stage.target.answer(503);
    for edit in edits {
        stage.edit("answers", edit.clone()).await;
    }
    stage.edit("answers", json!({ "suspend": false })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Escalated).await;
    ticket.status.unwrap().outcome
}

#[tokio::test]
async fn a_pause_and_other_limits_of_a_repair_leave_what_was_held() {
    let edits =
        [json!({ "severity": "Critical", "description": "x" }), json!({ "remediation": remediation("Observe") })];
    assert_ne!(outcome_after("edits", &edits).await, Some(Outcome::NeverHeld));
}

#[tokio::test]
async fn another_condition_never_held() {
    assert_eq!(outcome_after("requestioned", &[json!({ "condition": "== 204" })]).await, Some(Outcome::NeverHeld));
}

#[tokio::test]
async fn an_edit_that_asks_the_same_leaves_the_count_of_breaches() {
    let stage = Stage::monitored("count-stays").await;
    stage.apply("answers", json!({})).await;
    let before = stage.holding("answers").await.status.unwrap().held_since.unwrap();
    stage.edit("answers", json!({ "description": "edited" })).await;
    let edited =
        stage.invariant("answers", |it| it.status.as_ref().is_some_and(|it| it.observed_generation == 2)).await;
    let status = edited.status.unwrap();
    assert_eq!((status.held_since.unwrap(), status.held_generation), (before, 2));
}
