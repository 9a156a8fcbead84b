//! What may be asked for: one type a tool. The types make the tools' schemas; their comments are what a model reads.

use crate::agent::policy::Refusal;
use crate::agent::target::kind_name;
use crate::crd::Workload;
use crate::redact;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A call that reads, or only says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Asks an endpoint of the target.
    HttpGet(HttpGet),
    /// Reads a key of a ConfigMap that the `allow` list names.
    ReadConfig(ReadConfig),
    /// Reads the last revision of such a key under which everything held.
    ReadLastKnownGood(ReadLastKnownGood),
    /// Compares a workload that the `allow` list names with its last good state. No model is offered this.
    CompareWorkload(Workload),
    /// Reads an object.
    GetObject(GetObject),
    /// Lists objects of a kind.
    ListObjects(ListObjects),
    /// Lists recent events.
    ListEvents(ListEvents),
    /// Reads the end of a pod's log.
    ReadLogs(ReadLogs),
    /// Asks an invariant now.
    CheckInvariant(CheckInvariant),
    /// Looks into the source code of the service.
    ReadSource(ReadSource),
    /// Leaves a line in the journal.
    AddNote(AddNote),
    /// What was asked for is not on the list, or not in this form; it is in the journal and was not executed.
    Refused(RefusedCall),
}

/// Asks an endpoint of the service and returns the status code, the time and the start of the body. Only URLs that an
/// invariant of the same target asks are reached.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct HttpGet {
    /// The URL, such as http://HOST:PORT/health.
    pub url: String,
}

/// Reads one key of a ConfigMap, as it is now. Only keys that the allow list names can be read. Values that may be
/// secrets are shown as «redacted».
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ReadConfig {
    /// The ConfigMap.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

/// Reads the last revision of a key of a ConfigMap under which all invariants of the target held, if one is known.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ReadLastKnownGood {
    /// The ConfigMap.
    pub name: String,
    /// The key in its data.
    pub key: String,
}

/// Reads one object of the service's namespace. Environment values are left out.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct GetObject {
    /// The kind.
    pub kind: ObjectKind,
    /// The name.
    pub name: ObjectName,
}

/// Lists the objects of a kind in the service's namespace, with their state in a line each.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ListObjects {
    /// The kind.
    pub kind: ObjectKind,
}

/// Lists recent events of the service's namespace, newest first.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ListEvents {
    /// Only events about the object of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<ObjectName>,
}

/// Reads the last lines of a log. Only pods of the target can be read.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ReadLogs {
    /// The pod.
    pub pod: ObjectName,
    /// The container; needed only where the pod has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ObjectName>,
    /// Read the log of the container's previous run, to see why it ended.
    #[serde(default)]
    pub previous: bool,
}

/// Asks an invariant of the service's namespace now, and says whether it holds.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CheckInvariant {
    /// The invariant.
    pub name: ObjectName,
}

/// Looks into the source code of the service, where the operator of the harness has given it.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ReadSource {
    /// What to do: List the files below a path, Read a file, or Search all files for a regular expression.
    pub operation: SourceOperation,
    /// For List and Read: a path relative to the root of the source; empty is the root.
    #[serde(default)]
    pub path: String,
    /// For Search: the regular expression.
    #[serde(default)]
    pub pattern: String,
}

/// What to do with the source.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceOperation {
    /// List files.
    List,
    /// Read a file.
    Read,
    /// Search all files.
    Search,
}

/// Leaves a line for the people who will read the ticket. It changes nothing.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct AddNote {
    /// One or two sentences.
    pub text: String,
}

/// What was asked for and is not executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCall {
    /// The name that was asked for.
    pub tool: String,
    /// Its input.
    pub input: Map<String, Value>,
    /// Why not.
    pub refusal: Refusal,
}

/// The kinds that can be read. No Secret, no ConfigMap (they have a tool of their own), nothing outside a namespace.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of Kubernetes")]
pub enum ObjectKind {
    Pod,
    Service,
    EndpointSlice,
    Deployment,
    ReplicaSet,
    StatefulSet,
    DaemonSet,
    Invariant,
    Ticket,
}

/// A name that can be part of a request's path: lower-case letters, digits, `-` and `.`, at most 253 characters.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let edges = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        if name.len() <= 253 && edges && name.chars().all(plain) && !name.contains("..") {
            Ok(Self(name))
        } else {
            Err("a name has lower-case letters, digits, `-` and `.` only".to_owned())
        }
    }
}

impl Call {
    /// The tool's name.
    pub fn tool(&self) -> &str {
        match self {
            Self::HttpGet(_) => "http_get",
            Self::ReadConfig(_) => "read_config",
            Self::ReadLastKnownGood(_) => "read_last_known_good",
            Self::CompareWorkload(_) => "compare_workload",
            Self::GetObject(_) => "get_object",
            Self::ListObjects(_) => "list_objects",
            Self::ListEvents(_) => "list_events",
            Self::ReadLogs(_) => "read_logs",
            Self::CheckInvariant(_) => "check_invariant",
            Self::ReadSource(_) => "read_source",
            Self::AddNote(_) => "add_note",
            Self::Refused(call) => &call.tool,
        }
    }

    /// The tool's input, as the journal shows it: capped and redacted.
    pub fn input(&self) -> Map<String, Value> {
        let input = match self {
            Self::HttpGet(input) => fields(input),
            Self::ReadConfig(input) => fields(input),
            Self::ReadLastKnownGood(input) => fields(input),
            Self::CompareWorkload(input) => fields(input),
            Self::GetObject(input) => fields(input),
            Self::ListObjects(input) => fields(input),
            Self::ListEvents(input) => fields(input),
            Self::ReadLogs(input) => fields(input),
            Self::CheckInvariant(input) => fields(input),
            Self::ReadSource(input) => fields(input),
            Self::AddNote(input) => fields(input),
            Self::Refused(call) => call.input.clone(),
        };
        let shown = input.into_iter().take(16).map(|(name, value)| {
            let shown = match value {
                Value::Bool(_) | Value::Number(_) | Value::Null => value,
                Value::String(text) => Value::String(redact::line(&text, 256)),
                Value::Array(_) | Value::Object(_) => Value::String(redact::value(&name, &value)),
            };
            (redact::line(&name, 64), shown)
        });
        shown.collect()
    }

    /// One line for people, made from the call alone.
    pub fn summary(&self) -> String {
        let line = match self {
            Self::HttpGet(_) => "Checking the health endpoint".to_owned(),
            Self::ReadConfig(ReadConfig { name, key }) => format!("Reading {key} of {name}"),
            Self::ReadLastKnownGood(ReadLastKnownGood { name, .. }) => {
                format!("Comparing {name} with its last good revision")
            }
            Self::CompareWorkload(it) => {
                format!("Comparing {} {} with its last good state", kind_name(it.kind), it.name)
            }
            Self::GetObject(GetObject { kind, name }) => format!("Looking at {kind:?} {}", name.as_str()),
            Self::ListObjects(ListObjects { kind }) => format!("Listing every {kind:?} of the namespace"),
            Self::ListEvents(ListEvents { about: Some(name) }) => format!("Looking for events about {}", name.as_str()),
            Self::ListEvents(ListEvents { about: None }) => "Looking for recent events".to_owned(),
            Self::ReadLogs(ReadLogs { pod, .. }) => format!("Reading the log of pod {}", pod.as_str()),
            Self::CheckInvariant(CheckInvariant { name }) => format!("Asking invariant {} now", name.as_str()),
            Self::ReadSource(asked) => asked.summary(),
            Self::AddNote(AddNote { text }) => text.clone(),
            Self::Refused(call) => format!("Asking for {}, which is not allowed", call.tool),
        };
        redact::line(&line, 80)
    }
}

impl ReadSource {
    fn summary(&self) -> String {
        match self.operation {
            SourceOperation::List => "Listing the source code".to_owned(),
            SourceOperation::Read => format!("Reading source file {}", self.path),
            SourceOperation::Search => format!("Searching the source for {}", self.pattern),
        }
    }
}

fn fields(input: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(input) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => Map::new(),
    }
}
