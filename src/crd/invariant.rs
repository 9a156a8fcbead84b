//! `Invariant`: what must hold of a service.

use super::remediation::Remediation;
use super::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration as StdDuration;

/// What is said of a `verifyTimeout` within which as many holds as are needed cannot be counted. The threshold is spelled
/// digit by digit: the API server takes what `string` gives of a number for a text without limits, and refuses its cost.
const CANNOT_VERIFY: &str = "'verifyTimeout of ' + self.remediation.verifyTimeout + ' is too short for a successThreshold of ' + \
     (self.successThreshold >= 100 ? '100' : (self.successThreshold >= 10 ? \
     '0123456789'.substring(self.successThreshold / 10, self.successThreshold / 10 + 1) : '') + \
     '0123456789'.substring(self.successThreshold % 10, self.successThreshold % 10 + 1)) + \
     ' at an interval of ' + self.interval + ': no repair could be verified; \
     it must be at least the one times the other, or absent'";

/// What must hold of a service: a query that is asked again and again, and a condition on its answer.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "harness.dev",
    version = "v1alpha1",
    kind = "Invariant",
    namespaced,
    status = "InvariantStatus",
    derive = "PartialEq",
    shortname = "inv",
    category = "harness",
    doc = "What must hold of a service. The harness asks the query every interval, opens a Ticket when the condition breaks, and closes it only when it sees the condition hold again.",
    selectable = ".spec.severity",
    validation = ("self.metadata.name.size() <= 240", "the name must be at most 240 characters long: its tickets are named NAME-1, NAME-2 and so on"),
    validation = ("!has(self.spec.dependsOn) || !self.spec.dependsOn.exists(it, it.name == self.metadata.name)", "an invariant must not depend on itself: it would hold back its own tickets"),
    printcolumn(name = "Holds", type_ = "string", json_path = ".status.conditions[?(@.type=='Holding')].status"),
    printcolumn(name = "Value", type_ = "string", json_path = ".status.value"),
    printcolumn(name = "Condition", type_ = "string", json_path = ".spec.condition"),
    printcolumn(name = "Severity", type_ = "string", json_path = ".spec.severity"),
    printcolumn(name = "Ticket", type_ = "string", json_path = ".status.ticket"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Query", type_ = "string", json_path = ".spec.query", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("duration(self.timeout) <= duration(self.interval)", "timeout must not be longer than interval: a check may not overlap the next one"),
    validation = Rule::new("!has(self.remediation) || !has(self.remediation.verifyTimeout) || duration(self.remediation.verifyTimeout).getMilliseconds() >= duration(self.interval).getMilliseconds() * self.successThreshold")
        .message(Message::Expression(CANNOT_VERIFY.to_owned()))
        .field_path(".remediation.verifyTimeout")
)]
pub struct InvariantSpec {
    /// What this invariant is about, for people and for the agent. At most 512 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub description: String,
    /// What is asked. `http://HOST:PORT/PATH` or `https://...`: the value is the status code. `latency:http://...`:
    /// the value is the time to the end of the answer in milliseconds. At most 2048 characters.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(latency:)?https?://[^/]"))]
    pub query: String,
    /// What must be true of the answer: an operator and a literal, such as `== 200` or `< 200`, with the value
    /// understood on the left; anything else is a CEL expression over `value`, `status`, `latency` (milliseconds),
    /// `body` and `labels`. At most 1024 characters.
    #[schemars(length(min = 1, max = 1024))]
    pub condition: String,
    /// Time between two checks. From 1s to 1h; default 5s.
    #[serde(default = "five_seconds")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) >= duration('1s') && duration(self) <= duration('1h')", "interval must be from 1s to 1h"))]
    pub interval: Duration,
    /// A check that takes longer is a breach (TimedOut). From 10ms to the interval; default 1s.
    #[serde(default = "one_second")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) >= duration('10ms')", "timeout must be at least 10ms"))]
    pub timeout: Duration,
    /// How the target is reached. New: over a connection of its own each time, so that the check sees what a new client
    /// sees. Reuse: over the connection of the last check, kept for at most 2m of idleness. Default New.
    #[serde(default)]
    pub connection: Connection,
    /// How long after its creation this invariant may be broken without a ticket, as long as it never held. Where
    /// targetRef names a workload, none is opened either while that is only just starting: until its pods are ready, or
    /// its progressDeadlineSeconds (for a StatefulSet or DaemonSet 10m) have passed since it or this invariant was made,
    /// but at most 1h. From 0s to 1h; default 0s.
    #[serde(default = "zero_seconds")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) <= duration('1h')", "initialDelay must be at most 1h"))]
    pub initial_delay: Duration,
    /// Consecutive breaches that open a ticket. From 1 to 100; default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: u32,
    /// Consecutive holds that resolve it. From 1 to 100; default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub success_threshold: u32,
    /// What a check that could not be asked (for a reason on the harness's own side) counts as; default Unknown,
    /// which never opens or resolves a ticket.
    #[serde(default)]
    pub no_data: NoData,
    /// How bad a breach is; default Warning.
    #[serde(default)]
    pub severity: Severity,
    /// Invariants of the same namespace that hold back the opening of a ticket while they are broken; the checks go
    /// on. Those that depend on each other in a cycle are not accepted (reason DependencyCycle) and do not wait for each
    /// other. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub depends_on: Vec<Dependency>,
    /// Stops the checks and the opening of tickets; default false.
    #[serde(default)]
    pub suspend: bool,
    /// What this invariant is about. Invariants with the same target guard each other's repairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<Target>,
    /// What may be done about a breach; by default nothing but a diagnosis.
    #[serde(default)]
    pub remediation: Remediation,
}

/// How the target of a check is reached.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connection {
    /// Over a connection of its own.
    #[default]
    New,
    /// Over the connection of the last check.
    Reuse,
}

/// What an unanswerable check counts as.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoData {
    /// Neither a breach nor a hold.
    #[default]
    Unknown,
    /// A breach.
    Violated,
    /// A hold.
    Holding,
}

/// How bad a breach is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// Users are hurt now.
    Critical,
    /// Users will be hurt if nobody acts.
    #[default]
    Warning,
    /// Worth knowing.
    Info,
}

/// Another invariant of the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What an invariant is about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The kind of the workload.
    pub kind: TargetKind,
    /// Its name, in the invariant's namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of workload that an invariant can be about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
    /// apps/v1 DaemonSet.
    DaemonSet,
    /// v1 Service.
    Service,
}

/// What the monitor sees.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InvariantStatus {
    /// The generation of the spec that this status is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Standard conditions: Accepted, Holding, HeldBack, Flapping.
    #[serde(default)]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The last value, or the reason why there is none, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub value: Option<String>,
    /// What the last sample meant by itself, thresholds aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictName>,
    /// Since when every sample held; absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub held_since: Option<MicroTime>,
    /// The last generation of the spec in which this invariant held; 0 if it never did.
    #[serde(default)]
    pub held_generation: i64,
    /// SHA-256 over query, condition and targetRef as they were when this invariant held last: while these stay what
    /// they are, it held in its present form. Absent if it never held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub held_digest: Option<String>,
    /// When its last tickets were resolved without a repair of the harness, oldest first; at most 3. Three within an hour
    /// are flapping: the next ticket stays open until the invariant has held for 15m without a break.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::last_three_times")]
    pub resolved_without_repair: Vec<MicroTime>,
    /// The change that the monitor saw fail: it was observed for its verifyTimeout, and the invariant does not hold.
    /// Absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_attempt: Option<FailedAttempt>,
    /// The open ticket, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ticket: Option<String>,
    /// The last samples, oldest first; at most 30.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub recent_samples: Vec<RecentSample>,
}

/// An attempt of a ticket.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The UID of the ticket.
    #[schemars(length(max = 64))]
    pub ticket: String,
    /// The number of the attempt.
    pub number: u32,
}

/// What one sample meant.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictName {
    /// The condition was met.
    Holds,
    /// It was not, or the target could not be reached.
    Breached,
    /// It could not be asked, for a reason on the harness's own side.
    Unknown,
}

/// One sample, for people.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RecentSample {
    /// When it was taken.
    #[schemars(schema_with = "schema::micro_time")]
    pub at: MicroTime,
    /// What it meant.
    pub verdict: VerdictName,
    /// The value, or the reason why there is none.
    #[schemars(length(max = 256))]
    pub value: String,
    /// How long the answer took, in milliseconds, rounded up.
    pub latency_milliseconds: u32,
}

fn zero_seconds() -> Duration {
    StdDuration::ZERO.into()
}
fn one_second() -> Duration {
    StdDuration::from_secs(1).into()
}
fn five_seconds() -> Duration {
    StdDuration::from_secs(5).into()
}
fn two() -> u32 {
    2
}
