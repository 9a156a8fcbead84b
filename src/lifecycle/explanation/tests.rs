//! Every outcome, with much and with little known.

use super::*;
use serde_json::{Value, json};

/// All outcomes, as the schema lists them.
fn outcomes() -> Vec<Outcome> {
    let schema = json!(schemars::schema_for!(Outcome));
    let branches = schema["oneOf"].as_array().unwrap();
    branches.iter().map(|branch| serde_json::from_value(branch["const"].clone()).unwrap()).collect()
}

fn ticket(evidence: &Value) -> Ticket {
    let spec = json!({
        "invariantRef": { "name": "latency", "uid": "u", "generation": 1 }, "severity": "Critical", "title": "",
        "query": "latency:http://shop/", "condition": "< 200", "evidence": evidence,
        "opening": {
            "firstBreachAt": "2026-11-23T10:00:00.000000Z", "openedAt": "2026-11-23T10:00:00.000000Z", "value": "503",
            "observed": "it took 503 ms",
        },
    });
    let mut ticket = Ticket::new("latency-1", serde_json::from_value(spec).unwrap());
    ticket.metadata.namespace = Some("shop".into());
    ticket
}

fn edited_by(manager: &str) -> Value {
    json!({ "config": [{
        "target": { "name": "shop-config", "key": "config.json" }, "changedBy": manager,
        "changedAt": "2026-11-23T09:59:00.000000Z", "changes": [{ "path": "/delay_ms", "before": "0", "after": "500" }],
    }] })
}

fn tried() -> TicketStatus {
    let action = json!({
        "object": { "kind": "ConfigMap", "name": "shop-config", "uid": "u" }, "key": "config.json",
        "resourceVersion": "1", "diff": "", "beforeDigest": "", "afterDigest": "",
    });
    serde_json::from_value(json!({
        "diagnosis": {
            "summary": "It is slow.", "rootCause": "ann changed /delay_ms of shop-config from 0 to 500",
            "confidence": "High",
        },
        "proposal": { "hash": "h", "why": "Restoring /delay_ms to 0", "actions": [action], "proposedAt": "2026-11-23T10:00:01.000000Z" },
        "attempts": [{
            "number": 1, "planner": "LastKnownGood", "hash": "h", "actions": [action],
            "intendedAt": "2026-11-23T10:00:02.000000Z", "result": "Undone",
        }],
    }))
    .unwrap()
}

fn said(outcome: Outcome, ticket: &Ticket, status: &TicketStatus, others: &[String]) -> String {
    explain(outcome, &Known { ticket, status, happened: "it came to this", others, next: None })
}

#[test]
fn every_outcome_says_what_happened_its_cause_and_what_to_do_next() {
    let others = ["kubectl-edit wrote config.json of ConfigMap shop-config at 2026-11-23T10:01:00Z".to_owned()];
    let (bare, rich) = (ticket(&json!({})), ticket(&edited_by("ann")));
    let mut all = Vec::new();
    for outcome in outcomes() {
        let whole = said(outcome, &rich, &tried(), &others);
        all.push(format!("{outcome:?}\n  {whole}"));
        assert!(whole.contains("it came to this"), "{whole}");
        assert!(whole.contains("ann changed /delay_ms of shop-config from 0 to 500"), "{whole}");
        let little = said(outcome, &bare, &TicketStatus::default(), &[]);
        all.push(format!("  {little}"));
        assert_eq!(little.contains("Cause: not known; seen: it took 503 ms."), needs_person(outcome), "{little}");
        for message in [&whole, &little] {
            assert!(message.contains(" Next: ") && message.ends_with('.') && !message.contains(".."), "{message}");
            assert!(message.len() < 1024, "{message}");
            let has_command = message.contains("-n shop");
            assert!(has_command || !needs_person(outcome), "{message}");
        }
        assert!(needs_person(outcome) || !little.contains("Cause:"), "{little}");
    }
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn what_others_wrote_is_named_where_it_decided_the_outcome() {
    let others = ["bob wrote config.json of ConfigMap shop-config".to_owned()];
    for outcome in [Outcome::Contested, Outcome::Conflicts, Outcome::UndoConflict, Outcome::FixedByPerson] {
        let message = said(outcome, &ticket(&json!({})), &tried(), &others);
        assert!(message.contains(&others[0]), "{message}");
    }
}

#[test]
fn whoever_knows_better_says_what_is_next_where_a_person_is_needed() {
    let (ticket, status) = (ticket(&json!({})), tried());
    for outcome in outcomes() {
        let known =
            Known { ticket: &ticket, status: &status, happened: "x", others: &[], next: Some("ask the vendor") };
        assert_eq!(explain(outcome, &known).contains("Next: ask the vendor."), needs_person(outcome), "{outcome:?}");
    }
}

#[test]
fn the_evidence_speaks_where_no_planner_found_a_cause_and_blames_neither_the_harness_nor_a_gitops_tool() {
    let cause_of = |evidence: &Value| cause(&ticket(evidence), &TicketStatus::default());
    let change = "shop-config changed: /delay_ms from 0 to 500";
    assert_eq!(
        cause_of(&edited_by("ann")).unwrap(),
        format!("{change}; ann wrote the key last at 2026-11-23T09:59:00Z")
    );
    assert_eq!(cause_of(&edited_by("harness-agent")).unwrap(), format!("{change}, which the harness wrote last"));
    assert_eq!(
        cause_of(&edited_by("argocd-controller")).unwrap(),
        format!("{change}, which Argo CD brought from its source")
    );
    assert_eq!(
        cause_of(&json!({ "findings": ["Service shop has no ready endpoints"] })).unwrap(),
        "Service shop has no ready endpoints"
    );
    assert_eq!(cause_of(&json!({})), None);
    let mut status = tried();
    status.diagnosis.as_mut().unwrap().root_cause = NOT_KNOWN.into();
    assert_eq!(cause(&ticket(&json!({})), &status), None);
    let mut declined = status.diagnosis.unwrap();
    complete(&mut declined, &ticket(&json!({ "findings": ["Service shop does not exist"] })));
    assert_eq!(declined.root_cause, "Service shop does not exist");
}
