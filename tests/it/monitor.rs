//! The monitor: what it says of an invariant, and when it opens and resolves a ticket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

use crate::stage::{Stage, condition};
use harness::crd::{Outcome, Phase};
use serde_json::json;

#[tokio::test]
async fn holds_in_a_row_resolve_the_ticket() {
    let stage = Stage::monitored("self-healed").await;
    stage.target.answer(503);
    stage.apply("answers", json!({ "successThreshold": 2 })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Open).await;
    assert_eq!(ticket.spec.opening.value, "503");
    stage.target.answer(200);
    let ticket = stage.wait_for_phase("answers-1", Phase::Resolved).await;
    assert_eq!(ticket.status.unwrap().outcome, Some(Outcome::SelfHealed));
    let invariant = stage.holding("answers").await;
    assert_eq!(condition(&invariant, "Holding").unwrap().reason, "ConditionMet");
}
