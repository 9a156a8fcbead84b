//! A competent operator, as far as the demo's service goes: it reads the first message and the results, and nothing else.

use super::Brain;
use super::answer::{Answer, Turn};
use super::asked::Asked;
use serde_json::{Map, Value, json};

/// Looks, repairs what it may, and hands the rest over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator;

impl Brain for Operator {
    fn answer(&self, asked: &Asked) -> Answer {
        if asked.is_summary() { summary(asked).into() } else { turn(asked).into() }
    }
}

/// The words that are asked for: lines for steps, or a title and a summary.
pub(crate) fn summary(asked: &Asked) -> Turn {
    let wants_lines = asked.format().is_some_and(|schema| schema.pointer("/properties/lines").is_some());
    let evidence: Value = serde_json::from_str(asked.opening()).unwrap_or_default();
    let words = if wants_lines {
        let lines =
            evidence.as_array().into_iter().flatten().map(|call| line(call["tool"].as_str().unwrap_or_default()));
        json!({ "lines": lines.collect::<Vec<_>>() })
    } else {
        let (query, condition) = (&evidence["query"], &evidence["condition"]);
        let value = evidence.pointer("/opening/value").and_then(Value::as_str).unwrap_or("not answered");
        let what = if query.as_str().unwrap_or_default().starts_with("latency:") {
            format!("Health endpoint slow: {value}")
        } else {
            format!("Health endpoint failing: {value}")
        };
        json!({ "title": what, "summary": format!("The check {query} is no longer {condition}.") })
    };
    Turn::new().text(words.to_string())
}

fn line(tool: &str) -> &'static str {
    match tool {
        "http_get" => "Checking if the health endpoint responds",
        "read_config" => "Reading the service configuration",
        "edit_config" => "Setting the configuration back to healthy values",
        "check_invariant" => "Checking whether the invariant holds now",
        _ => "Looking around",
    }
}

fn turn(asked: &Asked) -> Turn {
    let opening = asked.opening();
    let (Some(url), Some((name, key))) = (url(opening), config(opening)) else {
        return hand_over("there is nothing that may be changed");
    };
    match asked.turn() {
        0 => Turn::new()
            .thinking()
            .tool("http_get", json!({ "url": url }))
            .tool("read_config", json!({ "name": name, "key": key })),
        1 => {
            let results = asked.last_results();
            let text = results.iter().find(|it| it.tool == "read_config").map_or("", |it| it.content.as_str());
            repair(&name, &key, text)
        }
        _ => hand_over("the change did not help"),
    }
}

/// The edits that make the demo's service healthy.
fn repair(name: &str, key: &str, text: &str) -> Turn {
    let now: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let edit = |field: &str, good: Value| {
        let bad = now.get(field).filter(|value| **value != good)?;
        let (old, new) = (format!("\"{field}\": {bad}"), format!("\"{field}\": {good}"));
        // As it is written there, with or without a space.
        let (old, new) =
            if text.contains(&old) { (old, new) } else { (old.replace(": ", ":"), new.replace(": ", ":")) };
        let reason = format!("Set {field} back to {good}");
        Some(json!({ "name": name, "key": key, "old_string": old, "new_string": new, "reason": reason }))
    };
    let edits: Vec<Value> = [edit("delay_ms", json!(0)), edit("enabled", json!(true))].into_iter().flatten().collect();
    if edits.is_empty() {
        return hand_over("the cause is not in the configuration that may be changed");
    }
    let cause = edits.iter().map(|it| it["old_string"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(" and ");
    let turn = edits.iter().fold(Turn::new().thinking(), |turn, edit| turn.tool("edit_config", edit.clone()));
    turn.tool(
        "conclude",
        json!({ "summary": "The configuration makes the service fail.", "root_cause": cause, "confidence": "High" }),
    )
}

fn hand_over(why: &str) -> Turn {
    let next_step = "Compare the whole configuration with the last one that worked";
    Turn::new()
        .thinking()
        .tool("escalate", json!({ "summary": why, "root_cause": why, "next_step": next_step, "confidence": "Low" }))
}

/// The URL that the broken invariant asks.
pub(crate) fn url(opening: &str) -> Option<String> {
    let (_, rest) = opening.split_once("http")?;
    Some(format!("http{}", rest.split_whitespace().next()?))
}

/// The ConfigMap and the key that may be changed.
pub(crate) fn config(opening: &str) -> Option<(String, String)> {
    let (_, rest) = opening.split_once("ConfigMap ")?;
    let (name, rest) = rest.split_once(", key ")?;
    Some((name.to_owned(), rest.split_once(":\n")?.0.to_owned()))
}
