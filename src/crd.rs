//! What users apply and read: the custom resources of group `harness.dev`. Shapes and limits, no behaviour.

// The schema derive repeats each struct inside a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

pub mod condition;
pub mod failed_write;
pub mod invariant;
pub mod remediation;
mod schema;
pub mod ticket;
pub mod ticket_status;

pub use condition::{reason, set_condition, type_};
pub use failed_write::{FailedWrite, FailureCause};
pub use invariant::{
    Connection, Dependency, FailedAttempt, Invariant, InvariantSpec, InvariantStatus, NoData, RecentSample, Severity,
    Target, TargetKind, VerdictName,
};
pub use remediation::{
    Allow, Budget, ConfigFormat, ConfigMapKey, Mode, Remediation, ScaleBounds, Workload, WorkloadKind,
};
pub use ticket::{
    Approval, ApprovalDecision, ConfigEvidence, Evidence, InvariantReference, Opening, PathChange, PathValue,
    RecentEvent, Ticket, TicketSpec,
};
pub use ticket_status::{
    Action, ActionRecord, Attempt, AttemptResult, Confidence, Diagnosis, ModelUsage, ObjectReference, Outcome, Phase,
    PlannerName, Proposal, Step, TicketStatus,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

/// The API group of all resources here.
pub const GROUP: &str = "harness.dev";

/// Set to `"true"` on an invariant or a namespace: all writes to targets stop at once, watching goes on.
pub const SUSPEND_ANNOTATION: &str = "harness.dev/suspend";

/// Set on an object by the write of a repair, to `TICKET-UID/N`: it tells a successor what happened.
pub const ATTEMPT_ANNOTATION: &str = "harness.dev/attempt";

/// Set on a ticket by a person to any new value: an Escalated ticket is tried anew.
pub const RETRY_ANNOTATION: &str = "harness.dev/retry";

/// Keeps a deleted ticket until no attempt of it is unsettled; set and removed by the monitor.
pub const UNSETTLED_FINALIZER: &str = "harness.dev/unsettled-attempt";

/// Every definition that the harness installs, in the order of installation.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![known_formats(Invariant::crd()), known_formats(Ticket::crd())]
}

/// The API server warns of formats that it does not know, such as those of unsigned numbers; their bounds say the same.
fn known_formats(definition: CustomResourceDefinition) -> CustomResourceDefinition {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                    fields.shift_remove("format");
                }
                fields.values_mut().for_each(clean);
            }
            Value::Array(entries) => entries.iter_mut().for_each(clean),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let Ok(mut value) = serde_json::to_value(&definition) else { return definition };
    clean(&mut value);
    serde_json::from_value(value).unwrap_or(definition)
}
