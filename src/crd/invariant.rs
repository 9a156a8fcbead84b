//! `Invariant`: what must hold of a service.

use super::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration as StdDuration;

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
    validation = ("duration(self.timeout) <= duration(self.interval)", "timeout must not be longer than interval: a check may not overlap the next one")
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
    /// on. At most 16.
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

/// What may be done about a breach.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Remediation {
    /// Observe: diagnose and propose only. Approve: write only what a person approved. Auto: write what `allow`
    /// permits. Default Approve.
    #[serde(default)]
    pub mode: Mode,
    /// The whole of what a repair may touch, down to the key and the path. Empty: diagnose and propose only. At most
    /// 16 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub allow: Vec<Allow>,
    /// Names of invariants that must go on holding for a repair to count. Absent: all invariants of the same target.
    /// At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub guards: Option<Vec<String>>,
    /// A change after which the invariant does not hold by then is undone. From 1s to 24h; default 3m.
    #[serde(default = "three_minutes")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) >= duration('1s') && duration(self) <= duration('24h')", "verifyTimeout must be from 1s to 24h"))]
    pub verify_timeout: Duration,
    /// How long the invariant must go on holding after a repair before the ticket is Resolved. At most 24h; default 0s.
    #[serde(default = "zero_seconds")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) <= duration('24h')", "stabilizationWindow must be at most 24h"))]
    pub stabilization_window: Duration,
    /// Attempts at a repair before a person is asked. From 1 to 10; default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: u32,
    /// Rest after a failed or undone attempt before a new ticket of this invariant is worked on. At most 24h; default
    /// 5m.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) <= duration('24h')", "cooldown must be at most 24h"))]
    pub cooldown: Duration,
    /// Repairs of one object in an hour, by all tickets of the namespace; then its breaker is open, and mode Auto asks
    /// for approval like mode Approve. From 1 to 100; default 6.
    #[serde(default = "six")]
    #[schemars(range(min = 1, max = 100))]
    pub max_repairs_per_hour: u32,
    /// What one ticket may spend.
    #[serde(default)]
    pub budget: Budget,
}

impl Default for Remediation {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            allow: Vec::new(),
            guards: None,
            verify_timeout: three_minutes(),
            stabilization_window: zero_seconds(),
            max_attempts: three(),
            cooldown: five_minutes(),
            max_repairs_per_hour: six(),
            budget: Budget::default(),
        }
    }
}

/// How far a repair goes by itself.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Diagnose and propose; never write.
    Observe,
    /// Write what a person approved.
    #[default]
    Approve,
    /// Write what the `allow` list permits.
    Auto,
}

/// One thing that a repair may touch; exactly one kind an entry.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Allow {
    /// A key of a ConfigMap, or paths in it.
    EditConfig(ConfigMapKey),
    /// A rolling restart of a workload.
    Restart(Workload),
    /// The container images of a workload's previous revision. Nothing else of a pod template is ever written: where
    /// the revisions differ in more, a person must roll back.
    Rollback(Workload),
    /// A change of the replicas of a workload.
    Scale(ScaleBounds),
}

/// A key of a ConfigMap in the invariant's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigMapKey {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its `data`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
    /// JSON pointers (RFC 6901) into the key's JSON value: a repair may change what is at or below them, and nothing
    /// else. Empty: the whole key, of any format. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = "^(/([^~/]|~0|~1)*)+$")))]
    pub paths: Vec<String>,
}

/// A workload in the invariant's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of workload that a repair can restart or scale.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 StatefulSet.
    StatefulSet,
}

/// A workload and the replicas that it may be given.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[x_kube(validation = ("self.min <= self.max", "min must not be above max"))]
pub struct ScaleBounds {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The fewest replicas. At least 1: a repair never stops a service.
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,
    /// The most replicas. At most 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,
}

/// What one ticket may spend.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Budget {
    /// Model tokens, input and output, cache reads not counted. Default 200000.
    #[serde(default = "two_hundred_thousand")]
    #[schemars(range(max = 100_000_000))]
    pub tokens: u32,
    /// Dollars, as a decimal string. Default "1.00".
    #[serde(default = "one_dollar")]
    #[schemars(length(max = 16), regex(pattern = "^[0-9]+(\\.[0-9]{1,4})?$"))]
    pub dollars: String,
    /// Calls of tools. From 1 to 1000; default 40.
    #[serde(default = "forty")]
    #[schemars(range(min = 1, max = 1000))]
    pub steps: u32,
    /// Time spent on diagnosis, waiting and verification not counted. From 1s to 24h; default 10m.
    #[serde(default = "ten_minutes")]
    #[schemars(schema_with = "schema::duration")]
    #[x_kube(validation = ("duration(self) >= duration('1s') && duration(self) <= duration('24h')", "duration must be from 1s to 24h"))]
    pub duration: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { tokens: two_hundred_thousand(), dollars: one_dollar(), steps: forty(), duration: ten_minutes() }
    }
}

/// What the monitor sees.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct InvariantStatus {
    /// The generation of the spec that this status is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Standard conditions: Accepted, Holding, HeldBack.
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
    /// The open ticket, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub ticket: Option<String>,
    /// The last samples, oldest first; at most 30.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 30))]
    pub recent_samples: Vec<RecentSample>,
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
fn three_minutes() -> Duration {
    StdDuration::from_mins(3).into()
}
fn five_minutes() -> Duration {
    StdDuration::from_mins(5).into()
}
fn ten_minutes() -> Duration {
    StdDuration::from_mins(10).into()
}
fn two() -> u32 {
    2
}
fn three() -> u32 {
    3
}
fn six() -> u32 {
    6
}
fn forty() -> u32 {
    40
}
fn two_hundred_thousand() -> u32 {
    200_000
}
fn one_dollar() -> String {
    "1.00".into()
}
