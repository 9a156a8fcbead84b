//! Bad input: what the API server refuses, and what the monitor does not accept; each says why.

use crate::screen::ticket;
use crate::stage::{PERSON, Stage, condition};
use harness::crd::{Invariant, Ticket};
use kube::api::{Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::{Value, json};

/// What the API server says to an invariant with this spec, applied strictly, as `kubectl apply` does.
async fn answer(stage: &Stage, spec: &Value) -> Result<Invariant, String> {
    let parameters =
        PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(PERSON).force() };
    let manifest = Patch::Apply(stage.manifest("answers", spec));
    stage.api::<Invariant>().patch("answers", &parameters, &manifest).await.map_err(|error| match error {
        kube::Error::Api(status) => status.message,
        other => panic!("{other}"),
    })
}

#[tokio::test]
async fn the_api_server_refuses_what_cannot_be_meant_and_says_why() {
    let stage = Stage::set("refused-input").await;
    let two_kinds = json!([{
        "editConfig": { "name": "a", "key": "b" }, "restart": { "kind": "Deployment", "name": "a" },
    }]);
    let backwards = json!([{ "scale": { "kind": "Deployment", "name": "a", "min": 3, "max": 2 } }]);
    let pointer = json!([{ "editConfig": { "name": "a", "key": "b", "paths": ["delay_ms"] } }]);
    let table = [
        (json!({ "query": "ftp://a/" }), "spec.query"),
        (json!({ "query": "latency:tcp://a:1" }), "spec.query"),
        (json!({ "query": "http:///path" }), "spec.query"),
        (json!({ "condition": "" }), "spec.condition"),
        (json!({ "interval": "2s", "timeout": "3s" }), "timeout must not be longer than interval"),
        (json!({ "interval": "500ms", "timeout": "100ms" }), "interval must be from 1s to 1h"),
        (json!({ "interval": "2h" }), "interval must be from 1s to 1h"),
        (json!({ "interval": "soon" }), "spec.interval"),
        (json!({ "timeout": "1ms" }), "timeout must be at least 10ms"),
        (json!({ "failureThreshold": 0 }), "spec.failureThreshold"),
        (json!({ "successThreshold": 0 }), "spec.successThreshold"),
        (json!({ "severity": "Fatal" }), "spec.severity"),
        (json!({ "remediation": { "allow": two_kinds } }), "spec.remediation.allow[0]"),
        (json!({ "remediation": { "allow": [{}] } }), "spec.remediation.allow[0]"),
        (json!({ "remediation": { "allow": backwards } }), "min must not be above max"),
        (json!({ "remediation": { "allow": pointer } }), "spec.remediation.allow[0].editConfig.paths[0]"),
        (json!({ "remediation": { "maxAttempts": 0 } }), "spec.remediation.maxAttempts"),
        (json!({ "remediation": { "verifyTimeout": "0s" } }), "verifyTimeout must be from 1s to 24h"),
        (
            json!({ "interval": "5m", "successThreshold": 2, "remediation": { "verifyTimeout": "3m" } }),
            "verifyTimeout of 3m is too short for a successThreshold of 2 at an interval of 5m: no repair could be verified; \
             it must be at least the one times the other, or absent",
        ),
        (
            json!({ "interval": "1500ms", "successThreshold": 100, "remediation": { "verifyTimeout": "149s" } }),
            "too short for a successThreshold of 100 at an interval of 1500ms",
        ),
        (
            json!({ "interval": "1m", "successThreshold": 30, "remediation": { "verifyTimeout": "29m59s" } }),
            "too short for a successThreshold of 30 at an interval of 1m",
        ),
        (json!({ "remediation": { "budget": { "dollars": "much" } } }), "spec.remediation.budget.dollars"),
        (json!({ "dependsOn": [{ "name": "other" }, { "name": "answers" }] }), "must not depend on itself"),
        (json!({ "treshold": 3 }), ".spec.treshold: field not declared in schema"),
    ];
    for (spec, expected) in table {
        let message = answer(&stage, &spec).await.err().unwrap_or_else(|| panic!("accepted: {spec}"));
        assert!(message.contains(expected), "{spec}: {message}");
    }
    answer(&stage, &json!({ "dependsOn": [{ "name": "other" }] })).await.unwrap();
    let slow = |remediation: Value| json!({ "interval": "1h", "successThreshold": 2, "remediation": remediation });
    answer(&stage, &slow(json!({}))).await.unwrap();
    answer(&stage, &slow(json!({ "verifyTimeout": "2h", "stabilizationWindow": "24h" }))).await.unwrap();
}

#[tokio::test]
async fn every_sample_invariant_is_accepted() {
    let stage = Stage::monitored("samples").await;
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/invariants");
    let mut count = 0;
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let sample: Value = serde_yaml::from_str(&text).unwrap();
        let name = sample["metadata"]["name"].as_str().unwrap().to_owned();
        let parameters =
            PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(PERSON) };
        stage.api::<Invariant>().patch(&name, &parameters, &Patch::Apply(sample)).await.unwrap();
        stage.condition(&name, "Accepted", "True").await;
        count += 1;
    }
    assert_eq!(count, 3);
}

#[tokio::test]
async fn a_name_that_leaves_no_room_for_the_number_of_a_ticket_is_refused() {
    let stage = Stage::monitored("long-name").await;
    let Err(kube::Error::Api(status)) = stage.try_apply(&"a".repeat(241), json!({})).await else { panic!("accepted") };
    assert!(status.message.contains("at most 240 characters"), "{}", status.message);
    let longest = "a".repeat(240);
    stage.target.answer(503);
    stage.apply(&longest, json!({})).await;
    stage.ticket(&format!("{longest}-1"), |_| true).await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_not_accepted_with_its_place_and_what_was_expected() {
    let stage = Stage::monitored("not-accepted").await;
    let table = [
        ("no-host", json!({ "query": "http://[::1/" }), "InvalidQuery", "spec.query: at character 7: found `[::1/`, "),
        (
            "port",
            json!({ "query": "latency:http://a:99999/" }),
            "InvalidQuery",
            "expected HOST[:PORT]/PATH (invalid port",
        ),
        (
            "user",
            json!({ "query": "http://me:pw@a/" }),
            "InvalidQuery",
            "found a user name or a password, expected a host",
        ),
        (
            "literal",
            json!({ "condition": "< fast" }),
            "InvalidCondition",
            "spec.condition: at character 2: found `fast`, expected a number",
        ),
        (
            "name",
            json!({ "condition": "latancy < 3" }),
            "InvalidCondition",
            "expected value, status, latency, body or labels",
        ),
        ("cel", json!({ "condition": "value <" }), "InvalidCondition", "spec.condition: at character 7"),
    ];
    for (name, spec, reason, message) in table {
        stage.apply(name, spec).await;
        let invariant = stage.condition(name, "Accepted", "False").await;
        let accepted = condition(&invariant, "Accepted").unwrap();
        assert_eq!(accepted.reason, reason, "{name}");
        assert!(accepted.message.contains(message), "{name}: {}", accepted.message);
        let holding = condition(&invariant, "Holding").unwrap();
        assert_eq!((holding.status.as_str(), holding.reason.as_str()), ("Unknown", reason), "{name}");
    }
    assert!(stage.tickets().await.is_empty());
}

#[tokio::test]
async fn a_ticket_cannot_be_changed_but_for_its_approval() {
    let stage = Stage::set("immutable").await;
    let api = stage.api::<Ticket>();
    api.create(&PostParams::default(), &ticket("t-1", "answers")).await.unwrap();
    let target = json!({ "kind": "Deployment", "name": "a" });
    let edits = [
        json!({ "title": "all is well" }),
        json!({ "severity": "Info" }),
        json!({ "invariantRef": { "generation": 2 } }),
        json!({ "opening": { "value": "200" } }),
        json!({ "targetRef": target }),
        json!({ "evidence": { "body": "ok" } }),
    ];
    for spec in edits {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let Err(kube::Error::Api(status)) = api.patch("t-1", &PatchParams::default(), &patch).await else {
            panic!("accepted: {spec}")
        };
        assert_eq!(status.code, 422);
        assert!(
            status.message.contains("a ticket's spec cannot be changed, except for approval"),
            "{}",
            status.message
        );
    }
    let word = json!({
        "decision": "Approved", "by": "ada", "nonce": "n", "proposalHash": "0".repeat(64),
    });
    let mut without = word.clone();
    without["nonce"] = Value::Null;
    let patch = Patch::Merge(json!({ "spec": { "approval": without } }));
    let refused = api.patch("t-1", &PatchParams::default(), &patch).await.unwrap_err().to_string();
    assert!(refused.contains("approval must repeat status.proposal.nonce"), "{refused}");
    let patch = Patch::Merge(json!({ "spec": { "approval": word } }));
    let approved = api.patch("t-1", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(approved.spec.approval.unwrap().by, "ada");
}
