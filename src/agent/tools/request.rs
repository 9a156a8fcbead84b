//! What a model may ask for: every tool, with the schema made from its type, and the reading of what it asked.

use super::call::{
    AddNote, Call, CheckInvariant, GetObject, HttpGet, ListEvents, ListObjects, ObjectKind, ReadConfig,
    ReadLastKnownGood, ReadLogs, ReadSource, RefusedCall,
};
use crate::agent::policy::Refusal;
use crate::crd::{Confidence, Workload, WorkloadKind};
use crate::redact;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One tool, as a model is told of it.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub description: String,
    /// The schema of its input.
    pub schema: Schema,
}

/// What a model asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To read, or to be noted.
    Read(Call),
    /// To change something.
    Change(ChangeRequest),
    /// To say what is wrong: with a change, its cause; alone, that nothing needs to be changed.
    Conclude(Conclude),
    /// To hand over to a person.
    Escalate(Escalate),
}

/// A change that a model asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRequest {
    /// A piece of a key's text is replaced.
    EditConfig(EditConfig),
    /// A rolling restart.
    Restart(RestartWorkload),
    /// What the containers of the revision before were made of and ran.
    Rollback(RollbackWorkload),
    /// Another number of replicas.
    Scale(ScaleWorkload),
}

/// Replaces an exact piece of a key's text in a ConfigMap. The result is not known before the monitor has verified the
/// change; a change that does not verify is undone. All changes that you ask for in one turn are made together.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EditConfig {
    /// The ConfigMap.
    pub name: String,
    /// The key in its data.
    pub key: String,
    /// The text to replace, exactly as it stands there; it must occur exactly once.
    pub old_string: String,
    /// The text to put in its place.
    pub new_string: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// Restarts the pods of a workload one after the other.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RestartWorkload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// Sets the image, command, args, env, envFrom and resources of a workload's containers back to those of its previous
/// revision that differs in them, as `kubectl rollout undo` does. Refused where that revision differs in anything else of
/// the pod, such as volumes, ports, probes or privileges.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RollbackWorkload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// Changes the number of replicas of a workload.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ScaleWorkload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
    /// The number of replicas.
    pub replicas: u32,
    /// Why, in a sentence.
    pub reason: String,
}

/// Says what is wrong. In the same turn as a change: its cause. Alone: that you looked and nothing needs to be changed.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Conclude {
    /// What was found, in a few sentences.
    pub summary: String,
    /// The cause in one line.
    pub root_cause: String,
    /// How sure you are.
    pub confidence: Confidence,
}

/// Hands the incident over to a person, because no change that is allowed would help.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Escalate {
    /// What was found, in a few sentences.
    pub summary: String,
    /// The cause in one line, as far as it is known.
    pub root_cause: String,
    /// What you would try next.
    pub next_step: String,
    /// How sure you are.
    pub confidence: Confidence,
}

impl ChangeRequest {
    /// The tool's name.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::EditConfig(_) => "edit_config",
            Self::Restart(_) => "restart_workload",
            Self::Rollback(_) => "rollback_workload",
            Self::Scale(_) => "scale_workload",
        }
    }

    /// Why, in the model's words.
    pub fn reason(&self) -> &str {
        match self {
            Self::EditConfig(asked) => &asked.reason,
            Self::Restart(asked) => &asked.reason,
            Self::Rollback(asked) => &asked.reason,
            Self::Scale(asked) => &asked.reason,
        }
    }
}

impl RestartWorkload {
    /// The workload.
    pub fn workload(&self) -> Workload {
        Workload { kind: self.kind, name: self.name.clone() }
    }
}

impl RollbackWorkload {
    /// The workload.
    pub fn workload(&self) -> Workload {
        Workload { kind: self.kind, name: self.name.clone() }
    }
}

impl ScaleWorkload {
    /// The workload.
    pub fn workload(&self) -> Workload {
        Workload { kind: self.kind, name: self.name.clone() }
    }
}

/// All tools, by name.
pub fn catalogue() -> Vec<Tool> {
    let mut tools = vec![
        tool::<HttpGet>("http_get"),
        tool::<ReadConfig>("read_config"),
        tool::<ReadLastKnownGood>("read_last_known_good"),
        tool::<GetObject>("get_object"),
        tool::<ListObjects>("list_objects"),
        tool::<ListEvents>("list_events"),
        tool::<ReadLogs>("read_logs"),
        tool::<CheckInvariant>("check_invariant"),
        tool::<ReadSource>("read_source"),
        tool::<AddNote>("add_note"),
        tool::<EditConfig>("edit_config"),
        tool::<RestartWorkload>("restart_workload"),
        tool::<RollbackWorkload>("rollback_workload"),
        tool::<ScaleWorkload>("scale_workload"),
        tool::<Conclude>("conclude"),
        tool::<Escalate>("escalate"),
    ];
    tools.sort_by_key(|tool| tool.name);
    tools
}

fn tool<T: JsonSchema>(name: &'static str) -> Tool {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = SchemaGenerator::new(settings).into_root_schema_for::<T>();
    // A comment's line breaks are the author's, not the reader's.
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
    Tool { name, description, schema }
}

/// Reads what a model asked for. What is not on the list, or not in this form, becomes a refused call: it is in the
/// journal like any other.
pub fn parse(name: &str, input: &Value) -> Request {
    let parsed = match name {
        "http_get" => arguments(input).map(|it| Request::Read(Call::HttpGet(it))),
        "read_config" => arguments(input).map(|it| Request::Read(Call::ReadConfig(it))),
        "read_last_known_good" => arguments(input).map(|it| Request::Read(Call::ReadLastKnownGood(it))),
        "get_object" => with_kind(input).map(|it| Request::Read(Call::GetObject(it))),
        "list_objects" => with_kind(input).map(|it| Request::Read(Call::ListObjects(it))),
        "list_events" => arguments(input).map(|it| Request::Read(Call::ListEvents(it))),
        "read_logs" => arguments(input).map(|it| Request::Read(Call::ReadLogs(it))),
        "check_invariant" => arguments(input).map(|it| Request::Read(Call::CheckInvariant(it))),
        "read_source" => arguments(input).map(|it| Request::Read(Call::ReadSource(it))),
        "add_note" => arguments(input).map(|it| Request::Read(Call::AddNote(it))),
        "edit_config" => arguments(input).map(|it| Request::Change(ChangeRequest::EditConfig(it))),
        "restart_workload" => arguments(input).map(|it| Request::Change(ChangeRequest::Restart(it))),
        "rollback_workload" => arguments(input).map(|it| Request::Change(ChangeRequest::Rollback(it))),
        "scale_workload" => arguments(input).map(|it| Request::Change(ChangeRequest::Scale(it))),
        "conclude" => arguments(input).map(Request::Conclude),
        "escalate" => arguments(input).map(Request::Escalate),
        _ => Err(Refusal { code: "UnknownTool", message: "there is no such tool; use one of the list".to_owned() }),
    };
    parsed.unwrap_or_else(|refusal| {
        let input = input.as_object().cloned().unwrap_or_default();
        Request::Read(Call::Refused(RefusedCall { tool: redact::line(name, 64), input, refusal }))
    })
}

fn arguments<T: DeserializeOwned>(input: &Value) -> Result<T, Refusal> {
    T::deserialize(input)
        .map_err(|error| Refusal { code: "InvalidArguments", message: redact::line(&error.to_string(), 256) })
}

fn with_kind<T: DeserializeOwned>(input: &Value) -> Result<T, Refusal> {
    let kind = input.get("kind").cloned().unwrap_or_default();
    if kind.is_string() && ObjectKind::deserialize(&kind).is_err() {
        let message = "this kind cannot be read; ConfigMaps are read with read_config, Secrets never".to_owned();
        return Err(Refusal { code: "KindNotReadable", message });
    }
    arguments(input)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(name: &str, input: &Value) -> &'static str {
        match parse(name, input) {
            Request::Read(Call::Refused(call)) => call.refusal.code,
            other => panic!("{other:?} was understood"),
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_refused_with_its_reason() {
        let table = [
            ("delete_object", json!({"kind": "Pod", "name": "a"}), "UnknownTool"),
            ("run_shell", json!({"command": "kubectl delete ns default"}), "UnknownTool"),
            ("", json!({}), "UnknownTool"),
            ("get_object", json!({"kind": "Secret", "name": "db"}), "KindNotReadable"),
            ("list_objects", json!({"kind": "Node"}), "KindNotReadable"),
            ("get_object", json!({"kind": "ConfigMap", "name": "config"}), "KindNotReadable"),
            ("get_object", json!({"kind": "Pod", "name": "a", "namespace": "kube-system"}), "InvalidArguments"),
            ("get_object", json!({"kind": "Pod", "name": "../../secrets/db"}), "InvalidArguments"),
            ("get_object", json!({"kind": "Pod", "name": "a?watch=true"}), "InvalidArguments"),
            ("get_object", json!({"kind": "Pod"}), "InvalidArguments"),
            ("read_logs", json!({"pod": ["a"]}), "InvalidArguments"),
            ("http_get", json!("http://example"), "InvalidArguments"),
            ("edit_config", json!({"name": "c", "key": "k", "text": "whole"}), "InvalidArguments"),
            (
                "scale_workload",
                json!({"kind": "Deployment", "name": "a", "replicas": -1, "reason": ""}),
                "InvalidArguments",
            ),
            ("restart_workload", json!({"kind": "Node", "name": "a", "reason": ""}), "InvalidArguments"),
        ];
        for (name, input, expected) in table {
            assert_eq!(refusal(name, &input), expected, "{name} {input}");
        }
    }

    #[test]
    fn every_tool_of_the_catalogue_is_understood_and_none_deletes_or_creates() {
        for tool in catalogue() {
            assert!(!tool.description.is_empty(), "{} says nothing", tool.name);
            assert!(!["delete", "create", "exec", "shell"].iter().any(|verb| tool.name.contains(verb)));
            assert_ne!(refusal_or_understood(tool.name), "UnknownTool", "{}", tool.name);
        }
    }

    fn refusal_or_understood(name: &str) -> &'static str {
        match parse(name, &json!({})) {
            Request::Read(Call::Refused(call)) => call.refusal.code,
            Request::Read(_) | Request::Change(_) | Request::Conclude(_) | Request::Escalate(_) => "Understood",
        }
    }

    #[test]
    fn the_catalogue_is_what_people_reviewed() {
        let shown: Vec<Value> = catalogue()
            .into_iter()
            .map(|tool| json!({"name": tool.name, "description": tool.description, "schema": tool.schema}))
            .collect();
        insta::assert_yaml_snapshot!(shown);
    }
}
