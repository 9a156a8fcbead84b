//! Several parts of one object in one attempt, and objects that carry the marks of earlier tickets.

use super::stage::{BASELINE, Stage};
use super::{DEAD, SLOW, mark, status};
use crate::stage::Operating;
use harness::crd::{AttemptResult, Outcome, Phase, Ticket};
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use kube::ResourceExt;
use serde_json::json;

const OTHER_KEY: &str = "limits.json";
const LIMITS: &str = r#"{"burst": 5}"#;

/// A service whose repairs may touch two keys of one ConfigMap, both known to be good.
async fn with_two_keys(name: &str) -> (Stage, Operating) {
    let stage = Stage::new(name).await;
    stage.patch_config(json!({ "data": { OTHER_KEY: LIMITS } })).await;
    let allow = json!([
        { "editConfig": { "name": CONFIG_NAME, "key": CONFIG_KEY, "paths": ["/enabled", "/delay_ms"] } },
        { "editConfig": { "name": CONFIG_NAME, "key": OTHER_KEY } },
    ]);
    stage.watch("healthy", "", "== 200", &json!({ "allow": allow, "verifyTimeout": "3s" })).await;
    let operator = stage.operate_both();
    stage.learned().await;
    (stage, operator)
}

fn data(ticket: &Ticket) -> Vec<&str> {
    status(ticket).attempts[0].actions.iter().map(|action| action.key.as_str()).collect()
}

#[tokio::test]
async fn two_keys_of_one_config_map_are_restored_in_one_write_under_one_mark() {
    let (stage, _operator) = with_two_keys("two-keys").await;
    stage.patch_config(json!({ "data": { CONFIG_KEY: DEAD, OTHER_KEY: r#"{"burst": 0}"# } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "{:#?}", ticket.status);
    assert_eq!((status(&ticket).attempts.len(), data(&ticket)), (1, vec![CONFIG_KEY, OTHER_KEY]));
    let config = stage.config_map().await;
    assert_eq!(config.annotations()["harness.dev/attempt"], mark(&ticket, 1));
    let data = config.data.unwrap();
    assert_eq!((data[CONFIG_KEY].as_str(), data[OTHER_KEY].as_str()), (BASELINE, LIMITS));
    let versions: Vec<_> =
        status(&ticket).attempts[0].actions.iter().map(|it| it.written_resource_version.as_ref().unwrap()).collect();
    assert_eq!(versions[0], versions[1]);
}

#[tokio::test]
async fn two_keys_of_one_config_map_are_undone_together() {
    let (stage, _operator) = with_two_keys("two-undone").await;
    // What keeps it broken is at no allowed path.
    let broken = r#"{"enabled": false, "delay_ms": 0, "requests_per_second": -1}"#;
    stage.patch_config(json!({ "data": { CONFIG_KEY: broken, OTHER_KEY: r#"{"burst": 0}"# } })).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!(results, [AttemptResult::Undone], "{:#?}", ticket.status);
    let config = stage.config_map().await;
    assert_eq!(config.annotations()["harness.dev/attempt"], format!("{}/undone", mark(&ticket, 1)));
    let data = config.data.unwrap();
    assert_eq!((data[CONFIG_KEY].as_str(), data[OTHER_KEY].as_str()), (broken, r#"{"burst": 0}"#));
}

#[tokio::test]
async fn a_ticket_that_has_the_name_of_one_that_is_gone_repairs_as_if_that_had_never_been() {
    let stage = Stage::new("namesake").await;
    stage.watch("latency", "latency:", "< 200", &json!({})).await;
    let operator = stage.operate_both();
    stage.learned().await;
    stage.write_config(SLOW).await;
    let first = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    operator.stop().await;
    stage.delete::<Ticket>("latency-1").await;
    stage.gone::<Ticket>("latency-1").await;
    let _operator = stage.operate_both();
    stage.learned().await;
    stage.holding("latency").await;
    stage.write_config(SLOW).await;
    let second = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    assert_ne!(first.uid(), second.uid());
    assert_eq!(status(&second).outcome, Some(Outcome::Repaired), "{:#?}", second.status);
    assert_eq!(stage.config_map().await.annotations()["harness.dev/attempt"], mark(&second, 1));
}
