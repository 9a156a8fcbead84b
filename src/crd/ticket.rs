//! `Ticket`: what broke, with the evidence, and the human word on its repair.

use super::invariant::{RecentSample, Severity, Target};
use super::remediation::ConfigMapKey;
use super::schema;
use super::ticket_status::{Phase, TicketStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What broke. Written once by the monitor; only `approval` may change, and only by a person.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "harness.dev",
    version = "v1alpha1",
    kind = "Ticket",
    namespaced,
    status = "TicketStatus",
    derive = "PartialEq",
    shortname = "tkt",
    category = "harness",
    doc = "One incident: an invariant that broke, the evidence, the diagnosis, the repair and its verification. It is closed only when the monitor sees the invariant hold again.",
    selectable = ".spec.severity",
    printcolumn(name = "Invariant", type_ = "string", json_path = ".spec.invariantRef.name"),
    printcolumn(name = "Severity", type_ = "string", json_path = ".spec.severity"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Planner", type_ = "string", json_path = ".status.planner"),
    printcolumn(name = "Steps", type_ = "integer", json_path = ".status.stepCount"),
    printcolumn(name = "Root Cause", type_ = "string", json_path = ".status.diagnosis.rootCause"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "self.invariantRef == oldSelf.invariantRef && self.severity == oldSelf.severity && self.title == oldSelf.title && self.query == oldSelf.query && self.condition == oldSelf.condition && self.opening == oldSelf.opening && has(self.targetRef) == has(oldSelf.targetRef) && (!has(self.targetRef) || self.targetRef == oldSelf.targetRef) && has(self.evidence) == has(oldSelf.evidence) && (!has(self.evidence) || self.evidence == oldSelf.evidence)",
        "a ticket's spec cannot be changed, except for approval"
    )
)]
pub struct TicketSpec {
    /// The invariant that broke.
    pub invariant_ref: InvariantReference,
    /// What the invariant is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<Target>,
    /// The invariant's severity when it broke.
    pub severity: Severity,
    /// One line for people.
    #[schemars(length(max = 256))]
    pub title: String,
    /// The query that was asked.
    #[schemars(length(max = 2048))]
    pub query: String,
    /// The condition that was not met.
    #[schemars(length(max = 1024))]
    pub condition: String,
    /// The measurement that opened this ticket.
    pub opening: Opening,
    /// What was known when it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// A person's word on the proposed change. Absent at creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
}

/// Which invariant, exactly.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct InvariantReference {
    /// Its name, in the ticket's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID: an invariant of the same name made later is another one.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// The generation of its spec that broke.
    pub generation: i64,
}

/// The measurement that crossed the threshold.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Opening {
    /// When the first breach of the row was seen.
    #[schemars(schema_with = "schema::micro_time")]
    pub first_breach_at: MicroTime,
    /// When the threshold was crossed.
    #[schemars(schema_with = "schema::micro_time")]
    pub opened_at: MicroTime,
    /// The value, or the reason why there was none.
    #[schemars(length(max = 256))]
    pub value: String,
    /// What was observed, in a sentence.
    #[schemars(length(max = 1024))]
    pub observed: String,
}

/// What was known when the ticket was opened. Probed content in it is capped and redacted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The last samples, oldest first; at most 30.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub samples: Vec<RecentSample>,
    /// The start of the last answer's body; at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub body: Option<String>,
    /// The configuration that a repair may touch, as it was; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub config: Vec<ConfigEvidence>,
    /// Recent events about the target and its configuration, newest first; at most 10.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub events: Vec<RecentEvent>,
    /// What the target's Service, endpoints, workload and pods say about the breach, a sentence each; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 256)))]
    pub findings: Vec<String>,
}

/// A key of a ConfigMap when the ticket was opened.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigEvidence {
    /// Which key, and which paths of it a repair may touch.
    pub target: ConfigMapKey,
    /// The ConfigMap's resourceVersion; absent when it did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub resource_version: Option<String>,
    /// SHA-256 of the key's text, in hexadecimal; absent when the key did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// What was at the allowed paths, as JSON text; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub values: Vec<PathValue>,
    /// What changed since the invariant last held; at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub changes: Vec<PathChange>,
    /// The field manager that wrote the key last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub changed_by: Option<String>,
    /// When that manager wrote last, to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub changed_at: Option<MicroTime>,
}

/// A value at a path.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct PathValue {
    /// A JSON pointer.
    #[schemars(length(max = 256))]
    pub path: String,
    /// The value as JSON text, redacted where it looks like a secret, cut at 256 characters.
    #[schemars(length(max = 256))]
    pub value: String,
}

/// A value that changed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct PathChange {
    /// A JSON pointer; empty for a key that is no JSON.
    #[schemars(length(max = 256))]
    pub path: String,
    /// The value before, as JSON text, redacted and cut at 256 characters; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub before: Option<String>,
    /// The value after, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub after: Option<String>,
}

/// A Kubernetes event, in short.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
pub struct RecentEvent {
    /// When it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub at: Option<MicroTime>,
    /// The object it is about: `Kind/name`.
    #[schemars(length(max = 320))]
    pub object: String,
    /// Its reason.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Its message, redacted and cut at 256 characters.
    #[schemars(length(max = 256))]
    pub message: String,
}

/// A person's word on a proposal. When it was given, the API server knows (`metadata.managedFields`, the audit log).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.nonce)", "approval must repeat status.proposal.nonce: each proposal is answered once"))]
pub struct Approval {
    /// Yes or no.
    pub decision: ApprovalDecision,
    /// Whose word it is: the user name that the API server knows.
    #[schemars(length(min = 1, max = 256))]
    pub by: String,
    /// The nonce of the proposal that it answers (`status.proposal.nonce`). A word without one, which versions before it
    /// took, answers nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub nonce: Option<String>,
    /// The hash of the proposal that it is about (`status.proposal.hash`).
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub proposal_hash: String,
    /// Why; at most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// Yes or no.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalDecision {
    /// Do it.
    Approved,
    /// Do not; the same change is never proposed again.
    Rejected,
}

impl Ticket {
    /// Where it is in its life; a ticket without a status is Open.
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Open, |status| status.phase)
    }
}
