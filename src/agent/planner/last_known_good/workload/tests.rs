//! What last known good puts back of workloads, and what it must leave alone.

use super::*;
use crate::crd::{Invariant, Ticket, WorkloadKind};
use serde_json::{Value, json};
use std::sync::Arc;

const OPENED: &str = "2026-11-23T10:00:00.500000Z";
const RECENTLY: &str = "2026-11-23T09:59:30Z";
const LONG_AGO: &str = "2026-11-23T09:00:00Z";
const LATER: &str = "2026-11-23T10:00:05Z";

fn api() -> Workload {
    Workload { kind: WorkloadKind::Deployment, name: "api".into() }
}

fn template(main: &Value) -> Value {
    let mut container = json!({ "name": "main", "image": "app:1", "args": ["--port=1"] });
    container.as_object_mut().unwrap().extend(main.as_object().unwrap().clone());
    json!({ "spec": { "containers": [container] } })
}

/// A deployment that was written by this manager at this time.
fn deployment(replicas: u32, main: &Value, by: &str, at: &str) -> DynamicObject {
    let fields = json!({ "f:spec": { "f:replicas": {}, "f:template": { "f:spec": { "f:containers": {
        "k:{\"name\":\"main\"}": { "f:image": {}, "f:args": {} },
    } } } } });
    serde_json::from_value(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "api", "managedFields": [{ "manager": by, "time": at, "fieldsV1": fields }] },
        "spec": { "replicas": replicas, "template": template(main) },
    }))
    .unwrap()
}

fn briefing(allow: &Value) -> Briefing {
    let ticket = json!({
        "invariantRef": { "name": "i", "uid": "u", "generation": 1 }, "severity": "Critical", "title": "",
        "query": "http://a/", "condition": "== 200",
        "opening": { "firstBreachAt": OPENED, "openedAt": OPENED, "value": "", "observed": "" },
    });
    let invariant = json!({ "query": "http://a/", "condition": "== 200", "remediation": { "allow": allow } });
    Briefing {
        ticket: Arc::new(Ticket::new("i-1", serde_json::from_value(ticket).unwrap())),
        invariant: Arc::new(Invariant::new("i", serde_json::from_value(invariant).unwrap())),
        reverted: Vec::new(),
        gitops: crate::gitops::GitOps::default(),
        config: Vec::new(),
        siblings: Vec::new(),
    }
}

fn all() -> Value {
    json!([
        { "scale": { "kind": "Deployment", "name": "api", "min": 2, "max": 4 } },
        { "rollback": { "kind": "Deployment", "name": "api" } },
    ])
}

fn judged(now: DynamicObject, good_replicas: u32, allow: &Value) -> WorkloadJudgement {
    let good = GoodWorkload {
        replicas: good_replicas,
        revision: template::Revision::of(&template(&json!({}))).unwrap(),
        learned_at: LONG_AGO.parse().unwrap(),
    };
    let compared = ComparedWorkload { now: Some(now), good: Some(good), template_since: None };
    judge(&api(), &compared, &briefing(allow))
}

#[test]
fn a_workload_that_was_scaled_to_nothing_gets_its_good_replicas_within_the_bounds() {
    let scaled = |good, by, at| judged(deployment(0, &json!({}), by, at), good, &all());
    for (good, expected) in [(3, 3), (1, 2), (9, 4)] {
        let judgement = scaled(good, "kubectl", RECENTLY);
        assert_eq!(judgement.changes, [ProposedChange::Scale { workload: api(), replicas: expected }]);
    }
    let judgement = scaled(3, "kubectl", RECENTLY);
    let told = "kubectl changed the replicas of Deployment api from 3 to 0 at 2026-11-23T09:59:30Z";
    assert_eq!(judgement.causes, [told]);
    for (by, at, why) in [
        ("kubectl", LONG_AGO, "shortly before"),
        ("kubectl", LATER, "after the ticket was opened"),
        (AUTOSCALER, RECENTLY, "autoscaler"),
    ] {
        let judgement = scaled(3, by, at);
        assert!(judgement.changes.is_empty() && judgement.obstacles[0].contains(why), "{judgement:?}");
    }
}

#[test]
fn a_bad_rollout_is_rolled_back_whatever_of_the_containers_it_broke() {
    for main in [
        json!({ "image": "app:broken" }),
        json!({ "args": ["--prot=1"] }),
        json!({ "command": ["false"] }),
        json!({ "env": [{ "name": "LEVEL", "value": "x" }] }),
    ] {
        let judgement = judged(deployment(3, &main, "kubectl-set", RECENTLY), 3, &all());
        let [ProposedChange::Rollback { workload, to: Some(to) }] = judgement.changes.as_slice() else {
            panic!("{main}: {judgement:?}")
        };
        assert_eq!((workload, to), (&api(), &template::Revision::of(&template(&json!({}))).unwrap()));
        assert!(judgement.causes[0].starts_with("kubectl-set changed /containers/main/"), "{:?}", judgement.causes);
    }
}

#[test]
fn a_rollout_that_changed_more_or_long_ago_or_is_not_allowed_is_named_and_left() {
    let privileged = json!({ "image": "app:2", "securityContext": { "privileged": true } });
    let broken = json!({ "image": "app:broken" });
    let scale_only = json!([{ "scale": { "kind": "Deployment", "name": "api", "min": 1, "max": 4 } }]);
    for (main, at, allow, why) in [
        (&privileged, RECENTLY, all(), "a person must roll it back"),
        (&broken, LONG_AGO, all(), "shortly before"),
        (&broken, LATER, all(), "after the ticket was opened"),
        (&broken, RECENTLY, scale_only, "no rollback entry"),
    ] {
        let judgement = judged(deployment(3, main, "kubectl-set", at), 3, &allow);
        assert!(judgement.changes.is_empty(), "{judgement:?}");
        assert!(judgement.obstacles[0].contains(why) && !judgement.causes.is_empty(), "{judgement:?}");
    }
}

#[test]
fn replicas_and_template_are_put_back_together() {
    let judgement = judged(deployment(0, &json!({ "image": "app:broken" }), "kubectl", RECENTLY), 3, &all());
    assert_eq!(judgement.changes.len(), 2);
}

#[test]
fn what_is_as_it_was_or_of_which_nothing_is_known_is_said_so() {
    let same = judged(deployment(3, &json!({}), "kubectl", RECENTLY), 3, &all());
    assert_eq!(same.obstacles, ["Deployment api is as it was when everything held"]);
    let nothing = |now| judge(&api(), &ComparedWorkload { now, good: None, template_since: None }, &briefing(&all()));
    assert_eq!(nothing(None).obstacles, ["Deployment api does not exist"]);
    let unknown = nothing(Some(deployment(3, &json!({}), "kubectl", RECENTLY)));
    assert_eq!(unknown.obstacles, ["no state of Deployment api is known under which everything held"]);
}
