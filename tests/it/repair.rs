//! Faults of a real service, repaired (or rightly not) by the real operator on a real API server.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

mod again;
mod brakes;
mod busy;
pub(crate) mod crash;
mod gitops;
mod half;
mod lease;
mod objects;
mod pods;
mod refusal;
pub(crate) mod stage;
mod supervision;
mod webhook;
mod withdrawn;
mod workloads;

use crate::stage::{Operating, PATIENCE};
use crate::support::eventually;
use harness::crd::{AttemptResult, Invariant, Outcome, Phase, Proposal, Ticket, TicketStatus};
use harness::operator::Halves;
use harness::samples::CONFIG_KEY;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;
use stage::{BASELINE, Stage};

const SLOW: &str = r#"{"enabled": true, "delay_ms": 500}"#;
pub(crate) const DEAD: &str = r#"{"enabled": false, "delay_ms": 0}"#;
const FORBIDDEN: &str = r#"{"enabled": true, "delay_ms": 0, "requests_per_second": -1}"#;

/// A person's word on a proposal.
pub(crate) fn word(proposal: &Proposal, decision: &str) -> serde_json::Value {
    json!({ "decision": decision, "by": "jane", "nonce": proposal.nonce, "proposalHash": proposal.hash })
}

pub(crate) fn status(ticket: &Ticket) -> &TicketStatus {
    ticket.status.as_ref().unwrap()
}

/// What an attempt of a ticket leaves on the objects that it wrote.
pub(crate) fn mark(ticket: &Ticket, attempt: u32) -> String {
    format!("{}/{attempt}", ticket.uid().unwrap())
}

/// A stage whose invariants hold and whose configuration is known as good.
pub(crate) async fn settled(name: &str, remediation: &serde_json::Value) -> (Stage, Operating) {
    let stage = Stage::new(name).await;
    stage.watch_service(remediation).await;
    let operator = stage.operate_both();
    stage.learned().await;
    (stage, operator)
}

#[tokio::test]
async fn a_fault_is_repaired_to_the_baseline_and_an_unrelated_edit_survives() {
    let (stage, _operator) = settled("repair", &json!({})).await;
    stage.patch_config(json!({ "data": { CONFIG_KEY: SLOW, "notes.txt": "kept" } })).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    let config = stage.config_map().await;
    assert_eq!(
        config.data.unwrap(),
        [("notes.txt", "kept"), (CONFIG_KEY, BASELINE)].map(|(k, v)| (k.into(), v.into())).into()
    );
    assert_eq!(config.metadata.annotations.unwrap()["harness.dev/attempt"], mark(&ticket, 1));
    let status = status(&ticket);
    assert_eq!(status.attempts.len(), 1);
    assert_eq!(status.attempts[0].result, AttemptResult::Verified);
    assert_eq!(status.attempts[0].guards, ["healthy"]);
    let tools: Vec<&str> = status.steps.iter().map(|step| step.tool.as_str()).collect();
    assert_eq!(tools, ["http_get", "read_config", "read_last_known_good", "edit_config", "verify"]);
    let cause = &status.diagnosis.as_ref().unwrap().root_cause;
    assert!(cause.starts_with("person changed /delay_ms of rate-limiter-config from 0 to 500 at "), "{cause}");
}

#[tokio::test]
async fn any_delay_over_any_baseline_is_repaired_and_so_is_the_next_fault() {
    let stage = Stage::new("again").await;
    let baseline = r#"{"enabled": true, "delay_ms": 37, "burst": 3}"#;
    stage.write_config(baseline).await;
    stage.watch_service(&json!({})).await;
    let _operator = stage.operate_both();
    stage.learned().await;
    for (number, delay) in [4321, 260].into_iter().enumerate() {
        stage.write_config(&baseline.replace("37", &delay.to_string())).await;
        let ticket = stage.wait_for_phase(&format!("latency-{}", number + 1), Phase::Resolved).await;
        let outcome = status(&ticket).outcome;
        // So late an answer breaks both invariants: one ticket repairs, the other is healed by that.
        assert!(matches!(outcome, Some(Outcome::Repaired | Outcome::SelfHealed)), "{:#?}", ticket.status);
        stage.ended().await;
        assert_eq!(stage.config().await, baseline);
    }
}

#[tokio::test]
async fn a_fault_outside_the_allow_list_is_escalated_and_nothing_is_written() {
    let (stage, _operator) = settled("forbidden", &json!({})).await;
    stage.write_config(FORBIDDEN).await;
    let broken = stage.config_map().await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::NoPlan));
    let summary = &status(&ticket).diagnosis.as_ref().unwrap().summary;
    assert!(summary.contains("outside the allow list"), "{summary}");
    assert_eq!(stage.config_map().await, broken);
    stage.write_config(BASELINE).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::FixedByPerson));
}

#[tokio::test]
async fn two_faults_on_one_config_map_are_both_resolved_and_worked_on_one_at_a_time() {
    let (stage, operator) = settled("both", &json!({})).await;
    operator.stop().await;
    // Both are open before anybody works on either.
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    stage.write_config(r#"{"enabled": false, "delay_ms": 500}"#).await;
    stage.wait_for_phase("healthy-1", Phase::Open).await;
    stage.wait_for_phase("latency-1", Phase::Open).await;
    let _agent = stage.operate_with(stage.client.clone(), Halves::Agent, |_| ());
    let healthy = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    let latency = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    assert_eq!(stage.config().await, BASELINE);
    let attempts: Vec<_> = [&healthy, &latency].iter().flat_map(|it| &status(it).attempts).cloned().collect();
    assert!(!attempts.is_empty());
    for ticket in [&healthy, &latency] {
        assert!(
            matches!(status(ticket).outcome, Some(Outcome::Repaired | Outcome::SelfHealed)),
            "{:#?}",
            ticket.status
        );
    }
    for pair in attempts.windows(2) {
        let (first, second) = (pair[0].settled_at.as_ref().unwrap(), pair[1].intended_at.clone());
        assert!(first.0 <= second.0 || pair[1].settled_at.as_ref().unwrap().0 <= pair[0].intended_at.0);
    }
}

#[tokio::test]
async fn an_approval_is_asked_for_with_the_diff_and_used_once() {
    let (stage, _operator) = settled("approve", &json!({ "mode": "Approve" })).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    let proposal = status(&ticket).proposal.clone().unwrap();
    assert!(proposal.actions[0].diff.contains(r#"+{"enabled": true"#), "{}", proposal.actions[0].diff);
    assert!(proposal.approve_command.as_ref().unwrap().contains(&proposal.hash));
    assert_eq!(stage.config().await, DEAD);
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": word(&proposal, "Approved") } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!(stage.config().await, BASELINE);
}

#[tokio::test]
async fn a_change_that_was_approved_and_undone_is_not_made_again_without_a_new_word() {
    // The forbidden value keeps it broken whatever happens to the allowed one.
    let (stage, _operator) =
        settled("approve-again", &json!({ "mode": "Approve", "verifyTimeout": "2s", "maxAttempts": 1 })).await;
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.write_config(broken).await;
    let first = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    let first = status(&first).proposal.clone().unwrap();
    let mut yes = word(&first, "Approved");
    // What versions before the nonce went by: a word of the future.
    yes["at"] = json!("2099-01-01T00:00:00.000000Z");
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": yes } })).await;
    let undone = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&undone).attempts[0].result, AttemptResult::Undone);

    stage.patch_ticket("healthy-1", json!({ "metadata": { "annotations": { "harness.dev/retry": "1" } } })).await;
    let ticket = stage.ticket("healthy-1", |it| {
        let again = it.status.as_ref().and_then(|status| status.proposal.as_ref());
        it.phase() == Phase::AwaitingApproval && again.is_some_and(|again| again.nonce != first.nonce)
    });
    let ticket = ticket.await;
    assert_eq!(status(&ticket).proposal.as_ref().unwrap().hash, first.hash);
    // The agent looks at it again, for a reason of its own.
    stage.patch_invariant("healthy", json!({ "metadata": { "annotations": { "looked-at": "again" } } })).await;
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": word(&first, "Approved") } })).await;
    let other = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    assert_eq!((status(&other).attempts.len(), stage.config().await.as_str()), (1, broken));

    let second = status(&ticket).proposal.clone().unwrap();
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": word(&second, "Approved") } })).await;
    let ticket = stage.ticket("healthy-1", |it| status(it).attempts.len() == 2).await;
    let nonces: Vec<_> = status(&ticket).attempts.iter().map(|it| it.nonce.clone()).collect();
    assert_eq!(nonces, [first.nonce, second.nonce]);
}

#[tokio::test]
async fn a_rejected_change_is_never_proposed_again() {
    let (stage, _operator) = settled("reject", &json!({ "mode": "Approve" })).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    let mut no = word(status(&ticket).proposal.as_ref().unwrap(), "Rejected");
    no["reason"] = json!("no");
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": no } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Rejected));
    stage.patch_ticket("healthy-1", json!({ "metadata": { "annotations": { "harness.dev/retry": "1" } } })).await;
    let ticket = eventually(PATIENCE, || async {
        let ticket = stage.ticket_api().get("healthy-1").await.unwrap();
        (status(&ticket).outcome == Some(Outcome::NoPlan)).then_some(ticket)
    })
    .await;
    let refused = status(&ticket).steps.iter().any(|step| step.outcome.contains("DeclinedBefore"));
    assert!(refused, "{:#?}", status(&ticket).steps);
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn an_object_that_changed_needs_a_new_proposal() {
    let (stage, _operator) = settled("superseded", &json!({ "mode": "Approve" })).await;
    stage.write_config(DEAD).await;
    let first = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    stage.write_config(&DEAD.replace("false", "false, \"burst\": 3")).await;
    let second = eventually(PATIENCE, || async {
        let ticket = stage.ticket_api().get("healthy-1").await.unwrap();
        let proposal = status(&ticket).proposal.clone()?;
        let renewed = proposal.proposed_at.0 > status(&first).proposal.as_ref().unwrap().proposed_at.0;
        (status(&ticket).phase == Phase::AwaitingApproval && renewed).then_some(proposal)
    })
    .await;
    assert_eq!(second.actions[0].resource_version, stage.config_map().await.resource_version().unwrap());
}

#[tokio::test]
async fn observe_proposes_and_writes_nothing() {
    let (stage, _operator) = settled("observe", &json!({ "mode": "Observe" })).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Proposed));
    assert!(status(&ticket).proposal.is_some());
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn what_a_gitops_tool_manages_is_proposed_and_not_written() {
    let stage = Stage::new("gitops").await;
    stage.patch_config(json!({ "metadata": { "annotations": { "argocd.argoproj.io/tracking-id": "a" } } })).await;
    stage.watch_service(&json!({})).await;
    let _operator = stage.operate_both();
    stage.learned().await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Proposed));
    assert!(status(&ticket).message.as_ref().unwrap().contains("Argo CD"));
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn a_change_that_does_not_help_is_undone_and_not_tried_again() {
    // The forbidden value keeps it broken whatever happens to the allowed one.
    let (stage, _operator) = settled("undone", &json!({ "verifyTimeout": "2s" })).await;
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.write_config(broken).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!(results, [AttemptResult::Undone]);
    assert_eq!(stage.config().await, broken);
    // The harness wrote the broken value last, and is not its author.
    let cause = &status(&ticket).diagnosis.as_ref().unwrap().root_cause;
    assert!(cause.starts_with("person changed "), "{cause}");
    let message = status(&ticket).message.as_ref().unwrap();
    let retry = format!("`harness retry healthy-1 -n {}`", stage.namespace);
    assert!(message.contains(&retry) && message.contains("was tried and undone before"), "{message}");
    assert_eq!(stage.config_map().await.annotations()["harness.dev/attempt"], format!("{}/undone", mark(&ticket, 1)));
    let unverified = status(&ticket).conditions.iter().find(|it| it.type_ == "UnverifiedChange").unwrap();
    assert_eq!(unverified.status, "False");
}

#[tokio::test]
async fn a_repair_that_works_is_kept_through_a_window_that_is_longer_than_the_time_to_verify() {
    let (stage, _operator) = settled("window", &json!({ "verifyTimeout": "2s", "stabilizationWindow": "5s" })).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!((status(&ticket).outcome, &results[..]), (Some(Outcome::Repaired), &[AttemptResult::Verified][..]));
    assert_eq!(stage.config().await, BASELINE);
}

#[tokio::test]
async fn a_change_is_not_undone_while_nobody_asks_whether_it_works() {
    let (stage, operator) = settled("unwatched", &json!({ "verifyTimeout": "1s" })).await;
    operator.stop().await;
    let monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.write_config(broken).await;
    stage.wait_for_phase("healthy-1", Phase::Open).await;
    monitor.stop().await;
    // The agent alone, for several times as long as the change has to show.
    let _agent = stage.operate_with(stage.client.clone(), Halves::Agent, |_| ());
    let in_force =
        stage.ticket("healthy-1", |it| it.phase() == Phase::Verifying && status(it).attempts[0].in_force_at.is_some());
    let since = status(&in_force.await).attempts[0].in_force_at.clone().unwrap().0;
    let now = eventually(PATIENCE, || async {
        let ticket = stage.ticket_api().get("healthy-1").await.unwrap();
        (Timestamp::now().duration_since(since).as_secs() >= 4).then_some(ticket)
    })
    .await;
    assert_eq!(now.phase(), Phase::Verifying);
    // Somebody asks again: by what is seen then, it is undone.
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::Undone);
    assert_eq!(stage.config().await, broken);
}

#[tokio::test]
async fn an_edit_of_others_during_the_verification_forbids_the_undo() {
    let (stage, _operator) = settled("contested", &json!({ "verifyTimeout": "4s" })).await;
    stage.write_config(r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#).await;
    stage.wait_for_phase("healthy-1", Phase::Verifying).await;
    let edited = r#"{"enabled": true, "delay_ms": 0, "requests_per_second": -2}"#;
    stage.write_config(edited).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Contested));
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::LeftInPlace);
    assert_eq!(stage.config().await, edited);
    let message = status(&ticket).message.as_ref().unwrap();
    assert!(message.contains("person wrote service_config.json of ConfigMap rate-limiter-config at "), "{message}");
    let unverified = status(&ticket).conditions.iter().find(|it| it.type_ == "UnverifiedChange").unwrap();
    assert_eq!(unverified.status, "True");
}

#[tokio::test]
async fn suspended_means_no_write_until_it_is_lifted() {
    let (stage, _operator) = settled("suspended", &json!({})).await;
    let suspend = |value: serde_json::Value| json!({ "metadata": { "annotations": { "harness.dev/suspend": value } } });
    stage.patch_invariant("healthy", suspend(json!("true"))).await;
    stage.write_config(DEAD).await;
    let ticket = eventually(PATIENCE, || async {
        let ticket = stage.ticket_api().get_opt("healthy-1").await.unwrap()?;
        (ticket.status.as_ref()?.reason.as_deref() == Some("Suspended")).then_some(ticket)
    })
    .await;
    assert_eq!(status(&ticket).phase, Phase::Open);
    assert_eq!(stage.config().await, DEAD);
    stage.patch_invariant("healthy", suspend(json!(null))).await;
    stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(stage.config().await, BASELINE);
}

#[tokio::test]
async fn an_invariant_that_never_held_is_for_a_person() {
    let stage = Stage::new("never").await;
    stage.write_config(DEAD).await;
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let _operator = stage.operate_both();
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::NeverHeld));
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn deleting_the_invariant_in_mid_incident_cancels_and_writes_no_more() {
    let (stage, _operator) = settled("deleted", &json!({ "mode": "Approve" })).await;
    stage.write_config(DEAD).await;
    stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    stage.delete::<Invariant>("healthy").await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Cancelled).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::InvariantDeleted));
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn a_ticket_that_is_deleted_while_its_change_is_unverified_is_undone_and_then_gone() {
    let (stage, _operator) = settled("gone", &json!({ "verifyTimeout": "1h" })).await;
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.write_config(broken).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Verifying).await;
    stage.ticket_api().delete("healthy-1", &DeleteParams::default()).await.unwrap();
    eventually(PATIENCE, || async {
        let now = stage.ticket_api().get_opt("healthy-1").await.unwrap();
        now.is_none_or(|now| now.uid() != ticket.uid()).then_some(())
    })
    .await;
    assert_eq!(stage.config().await, broken);
}

#[tokio::test]
async fn a_value_that_comes_back_at_once_is_contested_and_left_alone() {
    let (stage, operator) = settled("comesback", &json!({})).await;
    operator.stop().await;
    let change =
        |settings: &mut harness::operator::OperatorSettings| settings.good_after = std::time::Duration::from_mins(5);
    let _operator = stage.operate_with(stage.client.clone(), Halves::Both, change);
    stage.write_config(DEAD).await;
    stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-2", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Contested));
    assert_eq!(stage.config().await, DEAD);
}
