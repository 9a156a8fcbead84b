use super::*;
use crate::tui::fixtures::{invariant, model, ticket};
use crate::tui::model::Event;
use crate::watch::Change;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

fn drawn(model: &Model, columns: u16, rows: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(model, frame)).unwrap();
    terminal.backend().to_string()
}

fn start() -> Timestamp {
    model().now
}

fn after(milliseconds: i64) -> String {
    (start() + SignedDuration::from_millis(milliseconds)).to_string()
}

fn samples(latencies: &[(u32, &str)]) -> Vec<Value> {
    let sample = |(latency, verdict): &(u32, &str)| json!({ "at": after(0), "verdict": verdict, "value": "", "latencyMilliseconds": latency });
    latencies.iter().map(sample).collect()
}

fn holding(status: &str) -> Value {
    json!([{
        "type": "Holding", "status": status, "reason": "ConditionMet", "message": "",
        "lastTransitionTime": after(0),
    }])
}

fn step(number: u32, summary: &str, tool: &str, input: &Value, outcome: &str) -> Value {
    json!({
        "number": number, "at": after(0), "summary": summary, "tool": tool, "input": input, "outcome": outcome,
        "durationMilliseconds": 3,
    })
}

/// In the middle of the second incident of the demo.
fn busy() -> Model {
    let mut model = model();
    let config: ConfigMap = serde_json::from_value(json!({
        "metadata": { "name": "rate-limiter-config" },
        "data": { "service_config.json": r#"{"enabled": true, "delay_ms": 500}"# },
    }))
    .unwrap();
    model.apply(Event::Config(Ok(Change::Applied(config))));
    let healthy = invariant(
        "rate-limiter-healthy",
        json!({ "value": "200", "conditions": holding("True"), "recentSamples": samples(&[(2, "Holds"), (3, "Holds"), (2, "Holds")]) }),
    );
    let latency = invariant(
        "rate-limiter-latency",
        json!({
            "value": "512 ms", "conditions": holding("False"), "ticket": "rate-limiter-latency-2",
            "recentSamples": samples(&[(3, "Holds"), (5, "Holds"), (300, "Unknown"), (512, "Breached")]),
        }),
    );
    model.apply(Event::Invariant(Ok(Change::Applied(healthy))));
    model.apply(Event::Invariant(Ok(Change::Applied(latency))));
    let first = json!({
        "phase": "Resolved", "reason": "Repaired", "outcome": "Repaired", "endedAt": after(4_200), "stepCount": 1,
        "diagnosis": { "summary": "s", "rootCause": "enabled was set to false by harness-chaos", "confidence": "High" },
        "steps": [step(1, "Restoring /enabled", "edit_config", &json!({ "path": "/enabled", "value": true }), "written")],
    });
    model.apply(Event::Ticket(Ok(Change::Applied(ticket("rate-limiter-healthy-1", start(), first)))));
    let opened_at = start() + SignedDuration::from_secs(60);
    let mut steps = vec![step(
        1,
        "Checking the health endpoint",
        "http_get",
        &json!({ "url": "http://localhost:8001/health" }),
        "200 in 512 ms",
    )];
    let diagnosing = json!({ "phase": "Diagnosing", "reason": "ClaimWon", "stepCount": 1, "steps": steps });
    model.apply(Event::Ticket(Ok(Change::Applied(ticket("rate-limiter-latency-2", opened_at, diagnosing)))));
    steps.push(step(2, "Restoring /delay_ms", "edit_config", &json!({ "path": "/delay_ms", "value": 0 }), "written"));
    let verifying = json!({ "phase": "Verifying", "reason": "InForce", "stepCount": 2, "steps": steps });
    model.apply(Event::Ticket(Ok(Change::Applied(ticket("rate-limiter-latency-2", opened_at, verifying)))));
    model.apply(Event::Clock(start() + SignedDuration::from_millis(63_400)));
    model
}

#[test]
fn an_empty_screen_says_what_it_waits_for() {
    insta::assert_snapshot!(drawn(&model(), 80, 24));
}

#[test]
fn an_incident_is_told_on_a_small_terminal() {
    insta::assert_snapshot!(drawn(&busy(), 80, 24));
}

#[test]
fn an_incident_is_told_on_a_large_terminal() {
    insta::assert_snapshot!(drawn(&busy(), 120, 40));
}

#[test]
fn a_narrow_terminal_stacks_the_panes() {
    insta::assert_snapshot!(drawn(&busy(), 48, 30));
}

#[test]
fn a_person_is_asked_for_in_words() {
    let mut model = busy();
    let status = json!({
        "phase": "Escalated", "reason": "NoPlan", "outcome": "NoPlan", "stepCount": 0,
        "message": "No planner found a change that is allowed; see what changed and put it right.",
    });
    let opened_at = start() + SignedDuration::from_secs(62);
    model.apply(Event::Ticket(Ok(Change::Applied(ticket("rate-limiter-healthy-3", opened_at, status)))));
    let picture = drawn(&model, 100, 30);
    assert!(picture.contains("! Escalated (NoPlan): a person is needed"), "{picture}");
    assert!(picture.contains("No planner found a change that is allowed"), "{picture}");
}

#[test]
fn an_interrupted_watch_is_named_in_the_footer() {
    let mut model = busy();
    model.apply(Event::Invariant(Err("connection refused".to_owned())));
    let picture = drawn(&model, 120, 20);
    assert!(picture.contains("watch of Invariants interrupted, this may be out of date"), "{picture}");
}

#[test]
fn where_not_all_invariants_fit_the_broken_ones_come_first() {
    let mut model = model();
    for number in 0..20 {
        let status = json!({ "conditions": holding(if number == 17 { "False" } else { "True" }) });
        model.apply(Event::Invariant(Ok(Change::Applied(invariant(&format!("inv-{number:02}"), status)))));
    }
    let picture = drawn(&model, 80, 24);
    assert!(picture.contains("inv-17"), "{picture}");
    assert!(picture.contains("more"), "{picture}");
}

#[test]
fn no_size_is_too_small() {
    let model = busy();
    for columns in 1..90 {
        for rows in [1, 2, 3, 4, 5, 8, 13, 24] {
            drawn(&model, columns, rows);
        }
    }
    drawn(&model, 20, 5);
}

#[test]
fn a_line_that_is_cut_says_so() {
    let shown = |text: &str, columns| fitted(Line::from(text.to_owned()), columns).to_string();
    assert_eq!(shown("abcdef", 6), "abcdef");
    assert_eq!(shown("abcdef", 4), "abc…");
    assert_eq!(shown("日本語", 4), "日…");
    assert_eq!(shown("abc", 0), "…");
}

#[test]
fn the_command_in_the_footer_looks_at_what_the_screen_shows() {
    let mut model = model();
    for (namespace, command) in [
        (Some("default"), "kubeconfig get tickets -w"),
        (Some("shop"), "kubeconfig --namespace shop get tickets -w"),
        (None, "kubeconfig --all-namespaces get tickets -w"),
    ] {
        model.scope.namespace = namespace.map(str::to_owned);
        assert!(drawn(&model, 120, 24).contains(command), "{command}");
    }
}
