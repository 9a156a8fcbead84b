//! What users do: apply, edit, suspend, delete and read, and what the harness makes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod refusal;
mod table;

use crate::stage::target::Target;
use crate::stage::{Stage, condition, names};
use harness::crd::{Invariant, Outcome, Phase, Ticket};
use harness::operator::Halves;
use kube::ResourceExt;
use serde_json::json;

#[tokio::test]
async fn a_suspended_invariant_is_not_asked_until_it_is_resumed() {
    let stage = Stage::monitored("suspend").await;
    let witness = Target::start().await;
    stage.apply("witness", json!({ "query": witness.url() })).await;
    stage.apply("answers", json!({})).await;
    stage.holding("answers").await;

    stage.edit("answers", json!({ "suspend": true })).await;
    let suspended = stage.condition("answers", "Holding", "Unknown").await;
    assert_eq!(condition(&suspended, "Holding").unwrap().reason, "Suspended");
    // A question that was on its way is through.
    witness.asked_again(1).await;
    stage.target.answer(503);
    let asked = stage.target.asked();
    witness.asked_again(3).await;
    assert_eq!(stage.target.asked(), asked);
    assert!(stage.tickets().await.is_empty());

    stage.edit("answers", json!({ "suspend": false })).await;
    stage.wait_for_phase("answers-1", Phase::Open).await;
}

#[tokio::test]
async fn an_edited_condition_counts_without_a_restart() {
    let stage = Stage::monitored("edit-condition").await;
    stage.apply("answers", json!({})).await;
    let before = stage.holding("answers").await;
    stage.edit("answers", json!({ "condition": "== 204" })).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Open).await;
    assert_eq!(ticket.spec.condition, "== 204");
    assert_eq!(ticket.spec.invariant_ref.generation, before.metadata.generation.unwrap() + 1);
    let after = stage.condition("answers", "Holding", "False").await.status.unwrap();
    assert_eq!(after.observed_generation, ticket.spec.invariant_ref.generation);
    assert_eq!(after.held_generation, before.metadata.generation.unwrap());

    stage.edit("answers", json!({ "condition": "value >= 200 && status < 300" })).await;
    stage.wait_for_phase("answers-1", Phase::Resolved).await;
}

#[tokio::test]
async fn an_edited_interval_counts_without_a_restart() {
    let stage = Stage::monitored("edit-interval").await;
    stage.apply("answers", json!({ "interval": "1h" })).await;
    stage.edit("answers", json!({ "interval": "1s" })).await;
    stage.target.asked_again(3).await;
    stage.holding("answers").await;
}

#[tokio::test]
async fn a_rejected_invariant_is_asked_once_it_is_put_right() {
    let stage = Stage::monitored("put-right").await;
    stage.apply("answers", json!({ "condition": "< fast" })).await;
    stage.condition("answers", "Accepted", "False").await;
    stage.edit("answers", json!({ "condition": "== 200" })).await;
    let accepted = stage.holding("answers").await;
    assert_eq!(condition(&accepted, "Accepted").unwrap().status, "True");
}

#[tokio::test]
async fn an_invariant_that_is_deleted_in_mid_incident_cancels_its_ticket() {
    let stage = Stage::set("delete-invariant").await.operated(Halves::Both);
    stage.apply("answers", json!({})).await;
    stage.holding("answers").await;
    stage.target.answer(503);
    let ticket = stage.wait_for_phase("answers-1", Phase::Escalated).await;
    assert_eq!(ticket.status.unwrap().outcome, Some(Outcome::NoPlan));

    stage.delete::<Invariant>("answers").await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Cancelled).await;
    let status = ticket.status.unwrap();
    assert_eq!((status.outcome, status.ended_at.is_some()), (Some(Outcome::InvariantDeleted), true));
    stage.ticket("answers-1", |ticket| ticket.finalizers().is_empty()).await;

    // Another invariant of the same name is not the same invariant.
    stage.apply("answers", json!({})).await;
    let second = stage.ticket("answers-2", |_| true).await;
    assert_ne!(second.spec.invariant_ref.uid, ticket.spec.invariant_ref.uid);
}

#[tokio::test]
async fn a_deleted_ticket_goes_at_once_whether_open_or_escalated() {
    for (halves, wanted) in [(Halves::Monitor, Phase::Open), (Halves::Both, Phase::Escalated)] {
        let stage = Stage::set("delete-ticket").await.operated(halves);
        stage.target.answer(503);
        stage.apply("answers", json!({ "interval": "2s" })).await;
        let ticket = stage.wait_for_phase("answers-1", wanted).await;
        assert!(!ticket.finalizers().is_empty());
        stage.delete::<Ticket>("answers-1").await;
        // It is still broken: a new ticket takes the free name.
        let successor = stage.ticket("answers-1", |it| it.uid() != ticket.uid() && it.phase() == wanted).await;
        assert_eq!(successor.metadata.deletion_timestamp, None);
        assert_eq!(names(&stage.tickets().await), ["answers-1"]);
    }
}

#[tokio::test]
async fn a_ticket_whose_invariant_holds_is_deleted_for_good() {
    let stage = Stage::monitored("delete-ended").await;
    stage.target.answer_first(&[503], 200);
    stage.apply("answers", json!({})).await;
    stage.wait_for_phase("answers-1", Phase::Resolved).await;
    stage.delete::<Ticket>("answers-1").await;
    stage.gone::<Ticket>("answers-1").await;
    stage.target.asked_again(2).await;
    assert!(stage.tickets().await.is_empty());
}
