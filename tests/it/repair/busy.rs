//! Objects that others write all the time: what counts is the part that a change was planned on.

use super::stage::{BASELINE, Stage};
use super::{DEAD, settled, status, word};
use harness::crd::{AttemptResult, Outcome, Phase};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::Duration;
use tokio::task::JoinSet;

/// Somebody who writes an annotation of the ConfigMap again and again, until it is dropped.
fn annotate_all_the_time(stage: &Stage) -> JoinSet<()> {
    let config: Api<ConfigMap> = stage.api();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for number in 0_u64.. {
            let leader = json!({ "metadata": { "annotations": { "control-plane.alpha.kubernetes.io/leader": number.to_string() } } });
            let written = config
                .patch(harness::samples::CONFIG_NAME, &PatchParams::default(), &Patch::Merge(leader))
                .await;
            written.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    tasks
}

#[tokio::test]
async fn a_proposal_stands_while_others_write_annotations_of_its_object() {
    let (stage, _operator) = settled("busy-approve", &json!({ "mode": "Approve" })).await;
    let _busy = annotate_all_the_time(&stage);
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    let proposal = status(&ticket).proposal.clone().unwrap();
    // The invariant is written again, so that the incident looks again at all that counts.
    for number in 0..3 {
        let patch = json!({ "metadata": { "annotations": { "look": number.to_string() } } });
        stage.patch_invariant("healthy", patch).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let word = word(&proposal, "Approved");
    stage.patch_ticket("healthy-1", json!({ "spec": { "approval": word } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "{:#?}", ticket.status);
    assert_eq!(status(&ticket).proposal.as_ref().unwrap().proposed_at, proposal.proposed_at);
    assert_eq!(stage.config().await, BASELINE);
}

#[tokio::test]
async fn a_change_that_does_not_help_is_undone_on_an_object_that_others_annotate_all_the_time() {
    let (stage, _operator) = settled("busy-undone", &json!({ "verifyTimeout": "2s" })).await;
    let _busy = annotate_all_the_time(&stage);
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.write_config(broken).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!(results, [AttemptResult::Undone], "{:#?}", ticket.status);
    assert_eq!(stage.config().await, broken);
}
