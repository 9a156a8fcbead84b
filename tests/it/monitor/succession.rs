//! One invariant has one open ticket, whoever watches it and for how long; ended ones make room, and go in the end.

use crate::screen::{set_status, ticket};
use crate::stage::{Stage, names};
use harness::crd::{Invariant, Outcome, Phase, Ticket};
use harness::operator::{Halves, OperatorSettings};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;

#[tokio::test]
async fn what_stays_broken_keeps_its_one_ticket_and_an_escalated_one_counts() {
    let stage = Stage::set("one-ticket").await.operated(Halves::Both);
    stage.target.answer(503);
    stage.apply("answers", json!({})).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Escalated).await;
    assert_eq!(ticket.status.unwrap().outcome, Some(Outcome::NeverHeld));
    stage.target.asked_again(4).await;
    assert_eq!(names(&stage.tickets().await), ["answers-1"]);

    stage.target.answer(200);
    let ticket = stage.wait_for_phase("answers-1", Phase::Resolved).await;
    let status = ticket.status.unwrap();
    assert_eq!(status.outcome, Some(Outcome::SelfHealed), "nobody did anything");
    let message = status.message.unwrap();
    assert!(message.contains("no write of others to its configuration or workload is known"), "{message}");
}

#[tokio::test]
async fn the_next_incident_gets_the_next_number() {
    let stage = Stage::monitored("numbers").await;
    stage.target.answer(503);
    stage.apply("answers", json!({})).await;
    stage.wait_for_phase("answers-1", Phase::Open).await;
    stage.target.answer(200);
    stage.wait_for_phase("answers-1", Phase::Resolved).await;
    stage.target.answer(503);
    stage.wait_for_phase("answers-2", Phase::Open).await;
    let tickets = stage.tickets().await;
    assert_eq!(names(&tickets), ["answers-1", "answers-2"]);
    assert_eq!(tickets.iter().map(Ticket::phase).collect::<Vec<_>>(), [Phase::Resolved, Phase::Open]);
}

#[tokio::test]
async fn a_name_that_belongs_to_another_invariant_is_left_alone() {
    let stage = Stage::monitored("foreign").await;
    let foreign: Ticket = stage.api().create(&PostParams::default(), &ticket("answers-1", "another")).await.unwrap();
    stage.target.answer(503);
    stage.apply("answers", json!({})).await;
    let opened = stage.wait_for_phase("answers-2", Phase::Open).await;
    assert_eq!(opened.spec.invariant_ref.name, "answers");
    let untouched = stage.ticket("answers-1", |_| true).await;
    assert_eq!(untouched.resource_version(), foreign.resource_version());
}

#[tokio::test]
async fn a_successor_goes_on_with_the_ticket_of_its_predecessor() {
    let mut stage = Stage::monitored("successor").await;
    stage.target.answer(503);
    stage.apply("answers", json!({})).await;
    let opened = stage.wait_for_phase("answers-1", Phase::Open).await;
    stage.stop_operator().await;

    let stage = stage.operated(Halves::Monitor);
    stage.target.asked_again(3).await;
    assert_eq!(names(&stage.tickets().await), ["answers-1"]);
    stage.target.answer(200);
    let resolved = stage.wait_for_phase("answers-1", Phase::Resolved).await;
    assert_eq!(resolved.uid(), opened.uid());
}

#[tokio::test]
async fn two_monitors_at_once_open_one_ticket() {
    let stage = Stage::monitored("two-monitors").await;
    let _second = stage.operate(Halves::Monitor, stage.settings());
    stage.target.answer(503);
    stage.apply("answers", json!({})).await;
    stage.wait_for_phase("answers-1", Phase::Open).await;
    stage.target.asked_again(6).await;
    assert_eq!(names(&stage.tickets().await), ["answers-1"]);
    stage.target.answer(200);
    stage.wait_for_phase("answers-1", Phase::Resolved).await;
}

#[tokio::test]
async fn a_ticket_that_ended_longer_ago_than_it_is_kept_is_deleted_at_the_start() {
    let stage = Stage::set("retention").await;
    for (name, phase, hours) in [("old", "Resolved", 2), ("young", "Cancelled", 0), ("open", "Escalated", 2)] {
        stage.api::<Ticket>().create(&PostParams::default(), &ticket(name, "answers")).await.unwrap();
        let ended_at = Timestamp::now() - SignedDuration::from_hours(hours);
        set_status(&stage.api::<Ticket>(), name, &json!({ "status": { "phase": phase, "endedAt": ended_at } })).await;
    }
    let stage = stage.operated(Halves::Monitor);
    stage.gone::<Ticket>("old").await;
    assert_eq!(names(&stage.tickets().await), ["open", "young"]);
}

#[tokio::test]
async fn of_too_many_ended_tickets_of_an_invariant_the_newest_are_kept() {
    let stage = Stage::set("too-many").await;
    for (name, minutes) in [("first", 3), ("second", 2), ("third", 1)] {
        stage.api::<Ticket>().create(&PostParams::default(), &ticket(name, "answers")).await.unwrap();
        let ended_at = Timestamp::now() - SignedDuration::from_mins(minutes);
        set_status(&stage.api::<Ticket>(), name, &json!({ "status": { "phase": "Resolved", "endedAt": ended_at } }))
            .await;
    }
    let settings = OperatorSettings { tickets_per_invariant: 2, ..stage.settings() };
    let _operator = stage.operate(Halves::Monitor, settings);
    stage.gone::<Ticket>("first").await;
    assert_eq!(names(&stage.tickets().await), ["second", "third"]);
}

#[tokio::test]
async fn a_successor_says_since_when_it_knows_that_it_holds() {
    let mut stage = Stage::monitored("held-since").await;
    stage.apply("answers", json!({})).await;
    let held_since = |invariant: &Invariant| invariant.status.as_ref()?.held_since.as_ref().map(|it| it.0);
    let before = held_since(&stage.holding("answers").await).unwrap();
    stage.stop_operator().await;
    // Nothing else changed, and statuses are not refreshed here.
    let stage = stage.operated(Halves::Monitor);
    stage.invariant("answers", |it| held_since(it).is_some_and(|since| since > before)).await;
}
