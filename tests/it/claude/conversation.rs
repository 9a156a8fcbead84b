//! What the model is told, when, and what becomes of a conversation that goes nowhere.

use super::{SLOW, nothing_more, planning, staged, status};
use crate::double::operator::{config, summary, url};
use crate::double::{Answer, Asked, Double, Fault, Turn};
use crate::repair::stage::{BASELINE, Stage};
use harness::crd::{AttemptResult, Outcome, Phase, PlannerName};
use harness::operator::Halves;
use serde_json::{Value, json};

/// An edit of the demo's service, from this text to that.
pub(super) fn edit(asked: &Asked, old: &str, new: &str) -> Turn {
    let (name, key) = config(asked.opening()).unwrap();
    let input =
        json!({ "name": name, "key": key, "old_string": old, "new_string": new, "reason": format!("to {new}") });
    Turn::new().thinking().tool("edit_config", input)
}

/// A model that answers `turns` in their order, and words where words are wanted.
pub(super) fn in_turn(turns: impl Fn(&Asked, usize) -> Turn + Send + Sync + 'static) -> impl Fn(&Asked) -> Answer {
    move |asked| if asked.is_summary() { summary(asked).into() } else { turns(asked, asked.turn()).into() }
}

fn note(text: &str) -> Turn {
    Turn::new().thinking().tool("add_note", json!({ "text": text }))
}

#[tokio::test]
async fn a_change_that_does_not_help_is_undone_and_the_next_attempt_is_told_so() {
    let brain = in_turn(|asked, turn| {
        if turn == 0 {
            return edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 400");
        }
        let told = asked.last_results();
        assert!(told[0].is_error && told[0].content.starts_with("The change is not in force: "), "{told:?}");
        edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 0")
    });
    let (stage, double, _operator) = staged("claude-undo", brain, json!({ "verifyTimeout": "2s" })).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let results: Vec<AttemptResult> = status(&ticket).attempts.iter().map(|it| it.result).collect();
    assert_eq!(results, [AttemptResult::Undone, AttemptResult::Verified]);
    assert_eq!(stage.config().await, BASELINE);
    assert_eq!((double.rejections(), double.planned_for("latency-1").len()), (Vec::new(), 2));
}

#[tokio::test]
async fn each_of_ten_requests_begins_with_all_of_the_one_before_and_is_read_from_the_cache() {
    let brain = in_turn(|asked, turn| match turn {
        0..9 => note(&format!("looking, {turn}")),
        _ => edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 0"),
    });
    let (stage, double, _operator) = staged("claude-cache", brain, nothing_more()).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let bodies: Vec<String> = double.planned_for("latency-1").into_iter().map(|it| it.body).collect();
    assert_eq!((bodies.len(), double.rejections()), (10, Vec::new()));
    for pair in bodies.windows(2) {
        // Without the brackets that close the list of messages and the body.
        let before = pair[0].strip_suffix("]}").unwrap();
        assert!(pair[1].starts_with(before), "{before}\n{}", pair[1]);
    }
    let usage = status(&ticket).usage.clone().unwrap();
    // What is read anew is mostly the summaries' input, which is too short for a cache.
    assert!(usage.cache_read_tokens > 3 * usage.input_tokens, "{usage:?}");
}

#[tokio::test]
async fn the_first_message_says_what_is_known_in_less_than_3000_tokens() {
    let brain = in_turn(|asked, _| edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 0"));
    let (stage, double, _operator) = staged("claude-briefing", brain, nothing_more()).await;
    stage.write_config(SLOW).await;
    stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let body = double.planned_for("latency-1")[0].json();
    let opening = body["messages"][0]["content"].as_str().unwrap();
    assert!(opening.len() < 10_000, "{} bytes", opening.len());
    for expected in [
        "# Ticket latency-1",
        "Target: Deployment rate-limiter",
        "- editConfig:",
        "/delay_ms: 0 -> 500",
        "Last written by person",
        "healthy (http://",
        "# Last samples",
        "At most 40 tool calls and 3 attempts",
    ] {
        assert!(opening.contains(expected), "{expected} is missing:\n{opening}");
    }
    let system = body["system"][0]["text"].as_str().unwrap();
    assert!(!system.contains(&stage.namespace) && system.len() < 2000, "{system}");
}

/// What becomes of an incident whose model answers like this.
async fn outcome(
    name: &str,
    brain: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    remediation: Value,
) -> (Outcome, String, usize) {
    let (stage, double, _operator) = staged(name, brain, remediation).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Escalated).await;
    assert_eq!(stage.config().await, SLOW, "nothing was written");
    assert_eq!(double.rejections(), Vec::<String>::new());
    (
        status(&ticket).outcome.unwrap(),
        status(&ticket).message.clone().unwrap_or_default(),
        double.planned_for("latency-1").len(),
    )
}

#[tokio::test]
async fn the_same_call_three_times_running_ends_the_conversation() {
    let brain = in_turn(|asked, _| Turn::new().thinking().tool("http_get", json!({ "url": url(asked.opening()) })));
    let (outcome, message, turns) = outcome("claude-loop", brain, nothing_more()).await;
    assert_eq!((outcome, turns), (Outcome::NoPlan, 3), "{message}");
}

#[tokio::test]
async fn a_model_that_asks_for_more_steps_than_the_budget_has_is_stopped() {
    let brain = in_turn(|_, turn| note(&format!("still looking, {turn}")));
    let (outcome, message, turns) = outcome("claude-steps", brain, json!({ "budget": { "steps": 4 } })).await;
    assert_eq!((outcome, turns), (Outcome::BudgetExhausted, 5), "{message}");
}

#[tokio::test]
async fn a_refusal_is_for_a_person_and_a_cut_off_turn_is_not_executed() {
    let refusal = outcome("claude-refusal", in_turn(|_, _| Turn::new().refusal("cyber")), nothing_more());
    let cut = in_turn(|asked, _| edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 0").cut_off());
    let (refusal, cut) = tokio::join!(refusal, outcome("claude-cut", cut, nothing_more()));
    assert_eq!(refusal.0, Outcome::HandedOver, "{}", refusal.1);
    assert!(refusal.1.contains("category cyber"), "{}", refusal.1);
    assert_eq!(cut.0, Outcome::NoPlan, "{}", cut.1);
}

#[tokio::test]
async fn a_model_that_says_nothing_is_asked_once_more_and_one_that_sees_no_fault_is_believed() {
    let silent = outcome("claude-silent", in_turn(|_, _| Turn::new().text("All is well.")), nothing_more());
    let conclusion = json!({ "summary": "It is only slow.", "root_cause": "none", "confidence": "Low" });
    let content = in_turn(move |_, _| Turn::new().tool("conclude", conclusion.clone()));
    let (silent, content) = tokio::join!(silent, outcome("claude-content", content, nothing_more()));
    assert_eq!((silent.0, silent.2), (Outcome::NoPlan, 2), "{}", silent.1);
    assert_eq!((content.0, content.2), (Outcome::NoActionRequired, 1), "{}", content.1);
}

#[tokio::test]
async fn without_the_model_the_last_known_good_configuration_repairs() {
    let down = |_: &Asked| {
        let headers = vec![("retry-after-ms", "1")];
        Answer::Fault(Fault::Status { status: 529, kind: "overloaded_error", error_code: None, headers })
    };
    let (double, stage) = (Double::start(down).await, Stage::new("claude-down").await);
    stage.watch_service(&nothing_more()).await;
    let _operator = stage.operate_with(stage.client.clone(), Halves::Both, |settings| {
        settings.planning = planning(&double);
        settings.planning.last_known_good = true;
    });
    stage.learned().await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    let status = status(&ticket);
    assert_eq!((status.outcome, status.planner), (Some(Outcome::Repaired), Some(PlannerName::LastKnownGood)));
    assert_eq!(status.usage, None, "nothing was generated");
}

#[tokio::test]
async fn a_person_takes_over_with_all_that_was_seen_and_tried() {
    let brain = in_turn(|asked, turn| match turn {
        0 => edit(asked, "\"delay_ms\": 500", "\"delay_ms\": 450"),
        _ => Turn::new().tool(
            "escalate",
            json!({
                "summary": "The delay is not the cause.", "root_cause": "unknown", "next_step": "Profile the service",
                "confidence": "Low",
            }),
        ),
    });
    let (stage, _double, _operator) = staged("claude-handover", brain, json!({ "verifyTimeout": "2s" })).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::HandedOver));
    let handover = status(&ticket).handover.clone().unwrap();
    for expected in
        ["Broken: latency:", "did not verify and was undone", "/delay_ms 500 -> 450", "Next: Profile the service"]
    {
        assert!(handover.contains(expected), "{expected} is missing:\n{handover}");
    }
}
