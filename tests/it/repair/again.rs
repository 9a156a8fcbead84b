//! Faults that come again: what a person presses twice is repaired twice.

use super::{settled, status};
use crate::stage::PATIENCE;
use crate::support::eventually;
use harness::crd::{AttemptResult, Outcome, Phase};
use harness::injection::{ConfigKey, inject};
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use harness::service::chaos::Fault;
use serde_json::json;

fn key(stage: &super::stage::Stage) -> ConfigKey {
    ConfigKey { namespace: stage.namespace.clone(), name: CONFIG_NAME.to_owned(), key: CONFIG_KEY.to_owned() }
}

#[tokio::test]
async fn a_fault_that_comes_again_while_its_repair_is_verified_is_repaired_again() {
    let (stage, _operator) = settled("again-verifying", &json!({ "stabilizationWindow": "3s" })).await;
    inject(&stage.client, &key(&stage), &[Fault::Dead]).await.unwrap();
    stage.wait_for_phase("healthy-1", Phase::Verifying).await;
    inject(&stage.client, &key(&stage), &[Fault::Dead]).await.unwrap();
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!(results, [AttemptResult::Overwritten, AttemptResult::Verified]);
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert!(stage.config().await.contains(r#""enabled": true"#));
}

#[tokio::test]
async fn both_keys_pressed_twice_three_times_in_a_row_are_always_repaired() {
    let (stage, _operator) = settled("again-pressed", &json!({ "maxRepairsPerHour": 100 })).await;
    let good = stage.config().await;
    let both = [Fault::Slow { milliseconds: 500 }, Fault::Dead];
    for _ in 0..3 {
        inject(&stage.client, &key(&stage), &both).await.unwrap();
        // The second press comes while the first is open, at whatever point that is.
        eventually(PATIENCE, || async {
            stage.tickets().await.iter().any(|it| !matches!(it.phase(), Phase::Resolved)).then_some(())
        })
        .await;
        inject(&stage.client, &key(&stage), &both).await.unwrap();
        eventually(PATIENCE, || async { (stage.config().await == good).then_some(()) }).await;
        stage.ended().await;
    }
    for ticket in stage.tickets().await {
        let outcome = status(&ticket).outcome;
        assert!(matches!(outcome, Some(Outcome::Repaired | Outcome::SelfHealed)), "{:#?}", ticket.status);
    }
}
