//! What an invariant asks: its query, its condition, and what it is about. Only a change of these changes what was held;
//! a pause, another severity or other limits of a repair do not. Pure.

use crate::crd::{Invariant, InvariantSpec, Target, Ticket};
use crate::document;

/// Tells one question from another: SHA-256 in hexadecimal.
pub fn digest(spec: &InvariantSpec) -> String {
    of(&spec.query, &spec.condition, spec.target_ref.as_ref())
}

/// The same of the question that a ticket was opened for.
pub fn digest_of_ticket(ticket: &Ticket) -> String {
    of(&ticket.spec.query, &ticket.spec.condition, ticket.spec.target_ref.as_ref())
}

fn of(query: &str, condition: &str, target: Option<&Target>) -> String {
    let target = target.map(|it| format!("{:?} {}", it.kind, it.name)).unwrap_or_default();
    // Quoted, so that none of the three can be taken for a part of another.
    document::digest(&format!("{query:?}\n{condition:?}\n{target:?}"))
}

/// Whether an invariant held, ever, with the question that it asks now.
pub fn was_held(invariant: &Invariant) -> bool {
    let Some(status) = &invariant.status else { return false };
    match &status.held_digest {
        Some(held) => *held == digest(&invariant.spec),
        // Written by a version that knew generations only.
        None => status.held_generation > 0 && Some(status.held_generation) == invariant.metadata.generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn invariant(spec: &Value, status: &Value) -> Invariant {
        let mut whole = json!({ "query": "http://api/", "condition": "== 200" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant",
            "metadata": { "name": "api", "generation": 2 }, "spec": whole, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn only_query_condition_and_target_change_what_was_held() {
        let held = digest(&invariant(&json!({}), &json!({})).spec);
        let table = [
            (json!({}), true),
            (json!({ "suspend": true, "severity": "Critical", "description": "other" }), true),
            (json!({ "interval": "1m", "failureThreshold": 9, "dependsOn": [{ "name": "db" }] }), true),
            (json!({ "remediation": { "mode": "Auto", "maxAttempts": 1 } }), true),
            (json!({ "query": "http://api/other" }), false),
            (json!({ "condition": "== 204" }), false),
            (json!({ "targetRef": { "kind": "Deployment", "name": "api" } }), false),
        ];
        for (spec, expected) in table {
            let found = was_held(&invariant(&spec, &json!({ "heldDigest": held, "heldGeneration": 1 })));
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn a_status_from_before_digests_is_understood_by_its_generation() {
        for (generation, expected) in [(0, false), (1, false), (2, true)] {
            assert_eq!(was_held(&invariant(&json!({}), &json!({ "heldGeneration": generation }))), expected);
        }
        assert!(!was_held(&Invariant { status: None, ..invariant(&json!({}), &json!({})) }));
    }
}
