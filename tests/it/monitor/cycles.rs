//! Invariants that depend on each other in a cycle: refused with the cycle's name, and no fault goes unnoticed.

use crate::stage::{Stage, condition, names};
use harness::crd::{Outcome, Phase};
use harness::operator::Halves;
use serde_json::json;

#[tokio::test]
async fn a_cycle_of_dependencies_is_named_and_each_of_it_has_its_ticket() {
    let stage = Stage::set("cycle").await.operated(Halves::Both);
    stage.target.answer(200);
    for (name, parent) in [("first", "second"), ("second", "first")] {
        stage.apply(name, json!({ "dependsOn": [{ "name": parent }], "failureThreshold": 2 })).await;
    }
    for name in ["first", "second"] {
        let refused = stage.condition(name, "Accepted", "False").await;
        let accepted = condition(&refused, "Accepted").unwrap();
        assert_eq!(accepted.reason, "DependencyCycle");
        assert!(accepted.message.contains("first → second → first"), "{}", accepted.message);
        stage.holding(name).await;
    }
    stage.target.answer(503);
    for name in ["first-1", "second-1"] {
        // Neither waits in Open for the other.
        let ticket = stage.wait_for_phase(name, Phase::Escalated).await;
        assert_eq!(ticket.status.unwrap().outcome, Some(Outcome::NoPlan));
    }
    stage.edit("second", json!({ "dependsOn": [] })).await;
    for name in ["first", "second"] {
        let accepted = stage.condition(name, "Accepted", "True").await;
        assert_eq!(condition(&accepted, "Accepted").unwrap().reason, "Parsed");
    }
    assert_eq!(names(&stage.tickets().await), ["first-1", "second-1"]);
}
