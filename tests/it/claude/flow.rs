//! The flow of the original, and what may become of it.

use super::{DEAD, SLOW, nothing_more, staged, status};
use crate::double::operator::Operator;
use crate::repair::stage::BASELINE;
use harness::crd::{AttemptResult, Outcome, Phase, PlannerName};

#[tokio::test]
async fn a_latency_breach_is_repaired_in_numbered_steps_with_one_line_each() {
    let (stage, double, _operator) = staged("claude-slow", Operator, nothing_more()).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let status = status(&ticket);
    assert_eq!(double.rejections(), Vec::<String>::new());
    assert_eq!((status.outcome, status.planner), (Some(Outcome::Repaired), Some(PlannerName::Claude)));
    let steps: Vec<(u32, &str, &str)> =
        status.steps.iter().map(|step| (step.number, step.tool.as_str(), step.summary.as_str())).collect();
    assert_eq!(
        steps,
        [
            (1, "http_get", "Checking if the health endpoint responds"),
            (2, "read_config", "Reading the service configuration"),
            (3, "edit_config", "Setting the configuration back to healthy values"),
            (4, "verify", "Verifying that the invariant holds again"),
        ]
    );
    assert!(status.title.as_ref().unwrap().starts_with("Health endpoint slow: "), "{:?}", status.title);
    assert_eq!(status.diagnosis.as_ref().unwrap().root_cause, r#""delay_ms": 500"#);
    assert_eq!(stage.config().await, BASELINE);
    let usage = status.usage.as_ref().unwrap();
    assert_eq!(usage.models, ["claude-haiku-5-5", "claude-opus-5-5"]);
    assert!(usage.calls >= 4 && usage.input_tokens > 0 && usage.cache_read_tokens > 0, "{usage:?}");
    assert_eq!(double.planned_for("latency-1").len(), 2, "two turns are enough");
}

#[tokio::test]
async fn a_dead_service_is_repaired_too() {
    let (stage, double, _operator) = staged("claude-dead", Operator, nothing_more()).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::Verified);
    assert_eq!(double.rejections(), Vec::<String>::new());
}
