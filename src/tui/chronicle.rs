//! The screen's story as plain lines, for where there is no terminal: what is different after an event.

use super::model::{Incident, Model};

/// What changed from one state of the model to the next, a line for each change.
pub fn lines(before: &Model, after: &Model) -> Vec<String> {
    let mut lines = Vec::new();
    for (source, reason) in &after.interrupted {
        if before.interrupted.get(source) != Some(reason) {
            lines.push(format!("watch of {source:?} interrupted, trying again: {reason}"));
        }
    }
    if before.service != after.service {
        lines.push(format!("service: {}", after.service.summary()));
    }
    for (key, row) in &after.invariants {
        let known = before.invariants.get(key);
        if known.is_none_or(|known| known.state != row.state || known.condition != row.condition) {
            let (word, value, condition) = (row.state.word(), &row.value, &row.condition);
            lines.push(format!("invariant {}: {word} (value {value}, wanted {condition})", key.name));
        }
    }
    let deleted = before.invariants.keys().filter(|key| !after.invariants.contains_key(key));
    lines.extend(deleted.map(|key| format!("invariant {}: deleted", key.name)));
    for incident in &after.incidents {
        let known = before.incidents.iter().find(|known| known.key == incident.key);
        incident_lines(known, incident, &mut lines);
    }
    lines
}

fn incident_lines(known: Option<&Incident>, incident: &Incident, lines: &mut Vec<String>) {
    let name = &incident.key.name;
    if known.is_none() {
        lines.push(format!("ticket {name}: opened: {}", incident.title));
    }
    // A ticket that had ended before it was first seen is history: its end is enough.
    let history = known.is_none() && incident.ended_at.is_some();
    if !history {
        let last = known.and_then(|known| known.steps.last()).map_or(0, |step| step.number);
        for step in incident.steps.iter().filter(|step| step.number > last) {
            lines.push(format!("ticket {name}: [{}] {}: {} → {}", step.number, step.summary, step.call, step.outcome));
        }
    }
    let verdict = incident.verdict();
    let said = known.map_or_else(|| "Open".to_owned(), Incident::verdict);
    if said != verdict {
        let because = match (incident.outcome, incident.message.as_str()) {
            (None, _) | (_, "") => String::new(),
            (Some(_), message) => format!(": {message}"),
        };
        lines.push(format!("ticket {name}: {verdict}{because}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::fixtures::{invariant, model, ticket};
    use crate::tui::model::Event;
    use crate::watch::{Change, ObjectKey};
    use serde_json::{Value, json};

    fn told(model: &mut Model, event: Event) -> Vec<String> {
        let before = model.clone();
        model.apply(event);
        lines(&before, model)
    }

    fn told_of_ticket(model: &mut Model, status: Value) -> Vec<String> {
        let opened_at = model.now;
        told(model, Event::Ticket(Ok(Change::Applied(ticket("t-1", opened_at, status)))))
    }

    #[test]
    fn a_ticket_is_told_from_its_opening_to_its_end_each_thing_once() {
        let mut model = model();
        let time = model.now.to_string();
        let step = json!({
            "number": 1, "at": time, "summary": "Restoring /delay_ms", "tool": "edit_config",
            "input": { "path": "/delay_ms" }, "outcome": "written", "durationMilliseconds": 4,
        });
        let diagnosing = json!({ "phase": "Diagnosing", "reason": "ClaimWon" });
        assert_eq!(
            told_of_ticket(&mut model, json!({})),
            ["ticket t-1: opened: rate-limiter-latency: 512 ms, must be < 200"]
        );
        assert_eq!(told_of_ticket(&mut model, diagnosing.clone()), ["ticket t-1: Diagnosing (ClaimWon)"]);
        assert!(told_of_ticket(&mut model, diagnosing).is_empty());
        let resolved = json!({
            "phase": "Resolved", "outcome": "Repaired", "message": "It holds.", "endedAt": time, "steps": [step],
            "stepCount": 1,
        });
        assert_eq!(
            told_of_ticket(&mut model, resolved),
            [
                "ticket t-1: [1] Restoring /delay_ms: edit_config(path=/delay_ms) → written",
                "ticket t-1: Resolved (Repaired) in 0.0 s: It holds.",
            ]
        );
    }

    #[test]
    fn a_new_value_is_not_worth_a_line_but_a_new_state_is() {
        let mut model = model();
        let status = |value: &str, holds: &str| {
            json!({ "value": value, "conditions": [{
                "type": "Holding", "status": holds, "reason": "x", "message": "",
                "lastTransitionTime": "2026-11-18T12:00:00Z",
            }]})
        };
        let mut seen = |status| told(&mut model, Event::Invariant(Ok(Change::Applied(invariant("latency", status)))));
        assert_eq!(seen(status("3 ms", "True")), ["invariant latency: holds (value 3 ms, wanted < 200)"]);
        assert!(seen(status("4 ms", "True")).is_empty());
        assert_eq!(seen(status("512 ms", "False")), ["invariant latency: violated (value 512 ms, wanted < 200)"]);
        let deleted = Change::Deleted(ObjectKey::new("default", "latency"));
        assert_eq!(told(&mut model, Event::Invariant(Ok(deleted))), ["invariant latency: deleted"]);
    }

    #[test]
    fn an_interruption_is_told_once() {
        let mut model = model();
        let refused = || Event::Config(Err("refused".to_owned()));
        assert_eq!(told(&mut model, refused()), ["watch of Config interrupted, trying again: refused"]);
        assert!(told(&mut model, refused()).is_empty());
    }
}
