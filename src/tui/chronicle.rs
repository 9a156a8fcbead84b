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
    if before.notice != after.notice {
        lines.extend(after.notice.clone());
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
    if known.is_none_or(|known| known.verdict() != verdict) {
        let because = match (incident.outcome, incident.message.as_str()) {
            (None, _) | (_, "") => String::new(),
            (Some(_), message) => format!(": {message}"),
        };
        lines.push(format!("ticket {name}: {verdict}{because}"));
    }
}
