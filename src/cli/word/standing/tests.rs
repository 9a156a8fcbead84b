use super::*;
use serde_json::json;

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// A ticket in this phase whose proposal can be answered from 100 s to 200 s, with `more` in its status.
fn ticket(phase: &str, more: &serde_json::Value) -> Ticket {
    let mut status = json!({
        "phase": phase,
        "proposal": { "hash": HASH, "nonce": "n", "why": "w", "actions": [], "proposedAt": at(100), "expiresAt": at(200) },
    });
    for (field, value) in more.as_object().unwrap() {
        status[field] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket", "metadata": { "name": "a-1" },
        "spec": {
            "invariantRef": { "name": "a", "uid": "u", "generation": 1 }, "severity": "Critical", "title": "t",
            "query": "q", "condition": "c",
            "opening": { "firstBreachAt": at(1), "openedAt": at(2), "value": "1", "observed": "o" },
        },
        "status": status,
    }))
    .unwrap()
}

fn answered(mut ticket: Ticket, by: &str) -> Ticket {
    let word = json!({ "decision": "Approved", "by": by, "nonce": "n", "proposalHash": HASH });
    ticket.spec.approval = Some(serde_json::from_value(word).unwrap());
    ticket
}

fn refusal(ticket: &Ticket, hash: Option<&str>, seconds: i64) -> String {
    awaiting(ticket, hash, at(seconds)).unwrap_err().to_string()
}

#[test]
fn an_awaiting_ticket_can_be_answered_until_its_time_is_over() {
    let ticket = ticket("AwaitingApproval", &json!({}));
    assert_eq!(awaiting(&ticket, None, at(199)).unwrap().hash, HASH);
    assert_eq!(awaiting(&ticket, Some(HASH), at(199)).unwrap().hash, HASH);
    assert!(refusal(&ticket, None, 200).contains("until 1970-01-01T00:03:20Z"));
    assert!(refusal(&ticket, Some("b"), 150).contains(&format!("proposes another change now, {HASH}")));
}

#[test]
fn what_is_over_or_not_asked_for_cannot_be_answered() {
    let table = [
        (ticket("Open", &json!({})), "is Open: no change of it awaits an answer"),
        (ticket("Resolved", &json!({})), "is Resolved"),
        (ticket("Escalated", &json!({ "outcome": "ApprovalExpired" })), "harness retry a-1"),
        (ticket("Escalated", &json!({ "outcome": "Rejected" })), "was rejected"),
        (ticket("Escalated", &json!({ "outcome": "NoPlan" })), "is Escalated"),
        (ticket("AwaitingApproval", &json!({ "proposal": null })), "no change of it awaits"),
    ];
    for (ticket, expected) in table {
        let shown = refusal(&ticket, None, 150);
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn an_answer_is_not_given_twice_but_a_used_one_is_none() {
    let shown = refusal(&answered(ticket("AwaitingApproval", &json!({})), "\u{1b}[2Jbob"), None, 160);
    assert!(shown.starts_with("[2Jbob answered already (Approved)"), "{shown}");
    let used = json!({ "attempts": [{
        "number": 1, "planner": "LastKnownGood", "hash": HASH, "nonce": "n", "actions": [], "intendedAt": at(151), "result": "Undone",
    }] });
    assert!(awaiting(&answered(ticket("AwaitingApproval", &used), "bob"), None, at(160)).is_ok());
}

#[test]
fn only_an_escalated_ticket_is_tried_anew_and_asked_for_once() {
    let mut escalated = ticket("Escalated", &json!({}));
    assert_eq!(retryable(&escalated), Ok(()));
    escalated.annotations_mut().insert(RETRY_ANNOTATION.into(), "1".into());
    assert_eq!(retryable(&escalated), Err(Refusal::RetryPending { ticket: "a-1".into() }));
    escalated.status.as_mut().unwrap().observed_retry = Some("1".into());
    assert_eq!(retryable(&escalated), Ok(()));
    for phase in ["Open", "AwaitingApproval", "Verifying", "Resolved"] {
        let shown = retryable(&ticket(phase, &json!({}))).unwrap_err().to_string();
        assert!(shown.contains(&format!("is {phase}, and only an Escalated one")), "{shown}");
    }
}
