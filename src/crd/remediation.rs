//! `Invariant.spec.remediation`: what may be done about a breach, and what it may cost.

use super::schema;
use kube::KubeSchema;
use kube::core::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration as StdDuration;

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
    /// A change that was observed for so long, and does not hold then, is undone. What counts is time in which the
    /// invariant was asked after the change was in force; while it holds nothing is undone. From 1s to 24h, and at least
    /// successThreshold times the interval. Absent: 3m, or both thresholds times the interval where that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_duration")]
    #[x_kube(validation = ("duration(self) >= duration('1s') && duration(self) <= duration('24h')", "verifyTimeout must be from 1s to 24h"))]
    pub verify_timeout: Option<Duration>,
    /// How long the invariant must go on holding after a repair before the ticket is Resolved. It may be longer than
    /// verifyTimeout, which does not end what holds. At most 24h; default 0s.
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
    /// Repairs of one object in an hour, by all tickets of the namespace and whatever became of these; then its breaker
    /// is open, and mode Auto asks for approval like mode Approve, until the breaker closes. From 1 to 100; default 6.
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
            verify_timeout: None,
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
    /// A rollout of a workload's previous, or last good, revision: the image, command, args, env, envFrom and resources
    /// of its containers. Nothing else of a pod template is ever written: where the revisions differ in more of the
    /// pod's spec, a person must roll back.
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
    /// The format of the key's text; by default told by the ending of the key (`.json`, `.yaml`, `.toml`, `.properties`,
    /// `.env`, `.ini`, …), and without one that is known by the text. Only a format with values has paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ConfigFormat>,
    /// JSON pointers (RFC 6901) into the key's values, whatever its format: a repair may change what is at or below them,
    /// and nothing else. An element of a list is named by its number (`/upstreams/0/timeout_ms`) or by one of its members
    /// (`/upstreams/[host=a]/timeout_ms`). Of properties and env files the paths are `/NAME`, of INI files
    /// `/SECTION/NAME`. Empty: the whole key, of any format. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256), regex(pattern = "^(/([^~/]|~0|~1)*)+$")))]
    pub paths: Vec<String>,
}

/// A format of configuration.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigFormat {
    /// JSON (RFC 8259).
    Json,
    /// JSON with comments and trailing commas.
    JsonWithComments,
    /// YAML 1.2. Of several documents the first part of a path is the number of the document, from 0.
    Yaml,
    /// TOML.
    Toml,
    /// Java's properties.
    Properties,
    /// Lines `NAME=VALUE`.
    Env,
    /// Sections of lines `name = value`.
    Ini,
    /// Anything else: it has no paths, and is allowed as a whole or not at all.
    Text,
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

fn zero_seconds() -> Duration {
    StdDuration::ZERO.into()
}
fn five_minutes() -> Duration {
    StdDuration::from_mins(5).into()
}
fn ten_minutes() -> Duration {
    StdDuration::from_mins(10).into()
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
