//! Objects for the tests of the screen.

use super::model::{Cluster, Model, Scope};
use crate::crd::{Invariant, Ticket};
use crate::injection::ConfigKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A model of the demo that knows nothing of the cluster yet.
pub(super) fn model() -> Model {
    let cluster = Cluster {
        version: "v1.36.3".to_owned(),
        context: "harness".to_owned(),
        kubectl: "kubectl --kubeconfig /run/harness/kubeconfig".to_owned(),
    };
    let config = ConfigKey {
        namespace: "default".to_owned(),
        name: "rate-limiter-config".to_owned(),
        key: "service_config.json".to_owned(),
    };
    let good_after = Some(SignedDuration::from_secs(10));
    let scope = Scope { namespace: Some("default".to_owned()), config, good_after };
    Model::new(cluster, scope, Timestamp::from_second(1_795_000_000).unwrap())
}

/// An invariant with this status; what is wanted follows from its name.
#[expect(clippy::needless_pass_by_value, reason = "so that tests can write the object in place")]
pub(super) fn invariant(name: &str, status: Value) -> Invariant {
    let condition = if name.contains("healthy") { "== 200" } else { "< 200" };
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "query": "latency:http://localhost:8001/health", "condition": condition },
        "status": status,
    }))
    .unwrap()
}

/// A ticket that was opened then, with this status.
#[expect(clippy::needless_pass_by_value, reason = "so that tests can write the object in place")]
pub(super) fn ticket(name: &str, opened_at: Timestamp, status: Value) -> Ticket {
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket",
        "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "invariantRef": { "name": "rate-limiter-latency", "uid": "u", "generation": 1 },
            "severity": "Critical",
            "title": "rate-limiter-latency: 512 ms, must be < 200",
            "query": "latency:http://localhost:8001/health",
            "condition": "< 200",
            "opening": {
                "firstBreachAt": opened_at.to_string(), "openedAt": opened_at.to_string(),
                "value": "512 ms", "observed": "The answer took 512 ms.",
            },
        },
        "status": status,
    }))
    .unwrap()
}
