//! What keeps mode Auto from repairing.

use super::stage::Stage;
use super::{SLOW, settled, status};
use crate::stage::condition;
use crate::support::eventually;
use harness::crd::{Outcome, Phase, Ticket};
use harness::outage::UMBRELLA_LABEL;
use kube::ResourceExt;
use serde_json::json;

#[tokio::test]
async fn an_object_that_was_repaired_too_often_within_an_hour_needs_a_persons_word() {
    let (stage, _operator) = settled("breaker", &json!({ "maxRepairsPerHour": 1 })).await;
    stage.write_config(SLOW).await;
    stage.wait_for_phase("latency-1", Phase::Resolved).await;
    stage.learned().await;
    stage.write_config(&SLOW.replace("500", "600")).await;
    let ticket = stage.wait_for_phase("latency-2", Phase::AwaitingApproval).await;
    let message = status(&ticket).message.clone().unwrap();
    assert!(message.contains("the breaker is open: ConfigMap rate-limiter-config was repaired 1 times"), "{message}");
    assert_eq!(status(&ticket).reason.as_deref(), Some("BreakerOpen"));
    let proposal = status(&ticket).proposal.as_ref().unwrap();
    assert!(proposal.breaker_closes_at.is_some() && proposal.expires_at >= proposal.breaker_closes_at);
    assert_eq!(stage.config().await, SLOW.replace("500", "600"));
}

#[tokio::test]
async fn the_breaker_counts_repairs_whose_tickets_are_gone_and_whose_agent_is_another() {
    let (stage, operator) = settled("count", &json!({ "maxRepairsPerHour": 1 })).await;
    stage.write_config(SLOW).await;
    let repaired = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    stage.ended().await;
    stage.delete::<Ticket>("latency-1").await;
    stage.gone::<Ticket>("latency-1").await;
    operator.stop().await;
    let _successor = stage.operate_both();
    stage.learned().await;
    stage.write_config(&SLOW.replace("500", "600")).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::AwaitingApproval).await;
    assert_ne!(ticket.uid(), repaired.uid());
    assert_eq!(status(&ticket).reason.as_deref(), Some("BreakerOpen"));
    assert_eq!(stage.config().await, SLOW.replace("500", "600"));
}

#[tokio::test]
async fn an_outage_of_the_namespace_has_one_umbrella_ticket_and_no_repair() {
    let stage = Stage::new("outage").await;
    let names: Vec<String> = (0..8).map(|number| format!("check-{number}")).collect();
    for name in &names {
        let spec = json!({ "remediation": crate::stage::remediation("Auto") });
        stage.apply(name, spec).await;
    }
    let _operator = stage.operate_both();
    for name in &names {
        stage.holding(name).await;
    }
    let config = stage.config_map().await;
    stage.target.answer(503);
    let is_umbrella = |ticket: &Ticket| ticket.labels().contains_key(UMBRELLA_LABEL);
    let umbrella = eventually(crate::stage::PATIENCE, || async {
        stage.tickets().await.into_iter().find(|it| is_umbrella(it) && it.phase() == Phase::Escalated)
    })
    .await;
    assert_eq!(status(&umbrella).outcome, Some(Outcome::Outage));
    assert!(umbrella.spec.title.contains("invariants of this namespace are broken at once"), "{}", umbrella.spec.title);
    // Everybody was asked by now, and those without a ticket are held back.
    for name in &names {
        stage
            .invariant(name, |it| {
                let held_back =
                    condition(it, "HeldBack").is_some_and(|it| it.status == "True" && it.reason == "Outage");
                held_back || it.status.as_ref().is_some_and(|status| status.ticket.is_some())
            })
            .await;
    }
    let tickets = stage.tickets().await;
    assert_eq!(tickets.iter().filter(|it| is_umbrella(it)).count(), 1);
    assert!(tickets.len() <= 5, "{:?}", crate::stage::names(&tickets));
    assert_eq!(stage.config_map().await, config);
    stage.target.answer(200);
    stage.ended().await;
    for name in &names {
        stage.condition(name, "Holding", "True").await;
    }
}
