//! A proposal as a person sees it in a terminal before the word is given. Pure. Texts of a ticket are hostile.

use crate::crd::{ActionRecord, PathChange, Proposal, Ticket};
use crate::tui::text::{between, plain};
use jiff::Timestamp;
use kube::ResourceExt;

/// A longer line is cut. Characters.
const WIDEST: usize = 1024;

/// What is wrong, what would be changed, what an undo would do, and until when an answer counts.
pub(super) fn lines(ticket: &Ticket, proposal: &Proposal, now: Timestamp) -> Vec<String> {
    let status = ticket.status.as_ref();
    let cause = status.and_then(|status| status.diagnosis.as_ref()).map_or("unknown", |it| &it.root_cause);
    let mut lines = vec![
        format!("{}: {}", ticket.name_any(), plain(&ticket.spec.title, WIDEST)),
        format!("cause   {}", plain(cause, WIDEST)),
        format!("change  {}", plain(&proposal.why, WIDEST)),
    ];
    for action in &proposal.actions {
        lines.push(String::new());
        lines.push(format!("        {}", place(action)));
        lines.extend(action.diff.lines().map(|line| format!("        {}", plain(line, WIDEST))));
    }
    lines.push(String::new());
    lines.push("undo    if the invariant does not hold again in time, the harness puts back by itself,".to_owned());
    lines.push("        unless others wrote to the object since:".to_owned());
    lines.extend(proposal.actions.iter().flat_map(undone));
    if let Some(until) = &proposal.expires_at {
        let left = between(now, until.0);
        lines.push(format!("until   {:.0} ({left} left); no answer by then is a no", until.0));
    }
    lines.push(format!("hash    {}", plain(&proposal.hash, 64)));
    lines
}

fn place(action: &ActionRecord) -> String {
    let (kind, name) = (plain(&action.object.kind, 63), plain(&action.object.name, 253));
    format!("{kind} {name}, key {}", plain(&action.key, 253))
}

/// What an undo of this action puts back.
fn undone(action: &ActionRecord) -> Vec<String> {
    let whole = |change: &PathChange| change.path.is_empty();
    if action.changes.is_empty() || action.changes.iter().any(whole) {
        return vec![format!("        {}, to its whole text from before", place(action))];
    }
    let back = |change: &PathChange| {
        let path = plain(&change.path, 256);
        match &change.before {
            Some(before) => format!("        {path} of {} to {}", place(action), plain(before, 256)),
            None => format!("        {path} of {}: removed again", place(action)),
        }
    };
    action.changes.iter().map(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(diff: &str, before: Option<&str>) -> Vec<String> {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let action = json!({
            "object": { "kind": "ConfigMap", "name": "config", "uid": "u" }, "key": "a.json", "resourceVersion": "1",
            "diff": diff, "changes": [{ "path": "/delay_ms", "before": before, "after": "0" }],
            "beforeDigest": "", "afterDigest": "",
        });
        let ticket = serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket", "metadata": { "name": "a-1" },
            "spec": {
                "invariantRef": { "name": "a", "uid": "u", "generation": 1 }, "severity": "Critical",
                "title": "slow\u{1b}[2J", "query": "q", "condition": "c",
                "opening": { "firstBreachAt": at(1), "openedAt": at(2), "value": "1", "observed": "o" },
            },
            "status": {
                "phase": "AwaitingApproval",
                "diagnosis": { "summary": "s", "rootCause": "bob\u{9b}31m did it\r", "confidence": "High" },
                "proposal": {
                    "hash": "abc", "why": "Restoring", "actions": [action], "proposedAt": at(100), "expiresAt": at(200),
                },
            },
        }));
        let ticket: Ticket = ticket.unwrap();
        let proposal = ticket.status.clone().unwrap().proposal.unwrap();
        lines(&ticket, &proposal, at(140))
    }

    #[test]
    fn all_that_is_needed_to_judge_is_shown() {
        let text = shown("-500\n+0\n", Some("500")).join("\n");
        let expected = [
            "a-1: slow[2J\ncause   bob31m did it \nchange  Restoring",
            "        ConfigMap config, key a.json\n        -500\n        +0\n",
            "        /delay_ms of ConfigMap config, key a.json to 500",
            "until   1970-01-01T00:03:20Z (1 min 0 s left)",
            "hash    abc",
        ];
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(shown("", None).join("\n").contains("/delay_ms of ConfigMap config, key a.json: removed again"));
    }

    #[test]
    fn no_text_of_a_ticket_reaches_the_terminal_raw() {
        for line in shown("-\u{1b}]0;x\u{7}\n+\u{202e}0\u{8}\u{8}\n", Some("\u{1b}[1A")) {
            assert!(line.chars().all(|it| !it.is_control() && it != '\u{202e}'), "{line:?}");
        }
    }
}
