//! What the real API refuses, in its words.

mod conversation;
mod schema;

use super::answer::Written;
use super::asked::Asked;
use axum::http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

pub(super) const MAX_BODY: usize = 32 << 20;
const VERSION: &str = "2026-10-21";
const MAX_OUTPUT: u64 = 128_000;

const FIELDS: [&str; 16] = [
    "model",
    "max_tokens",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "stop_sequences",
    "stream",
    "metadata",
    "temperature",
    "top_p",
    "top_k",
    "service_tier",
];

/// How a model can be asked.
struct ModelRules {
    thinking_can_be_disabled: bool,
    tool_choice_can_be_forced: bool,
}

fn rules(model: &str) -> Option<ModelRules> {
    let rules = |thinking_can_be_disabled, tool_choice_can_be_forced| {
        Some(ModelRules { thinking_can_be_disabled, tool_choice_can_be_forced })
    };
    match model {
        "claude-opus-5-5" | "claude-sonnet-5-5" => rules(false, false),
        "claude-fable-5-2" => rules(false, true),
        "claude-haiku-5-5" => rules(true, true),
        _ => None,
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

pub(super) fn invalid(message: impl Into<String>) -> Rejection {
    Rejection { status: 400, kind: "invalid_request_error", message: message.into() }
}

pub(super) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), Rejection> {
    if holds { Ok(()) } else { Err(invalid(message())) }
}

/// What the double has said, block by block.
#[derive(Debug, Default)]
pub(crate) struct Issued {
    turns: HashSet<Vec<String>>,
}

impl Issued {
    pub(super) fn remember(&mut self, written: &Written) {
        self.turns.insert(written.blocks.clone());
    }

    fn knows(&self, blocks: &[String]) -> bool {
        self.turns.contains(blocks)
    }
}

/// The signature of a thinking block: bound to everything before it.
pub(super) fn signature(asked: &Asked, index: usize) -> String {
    bound(&asked.segments, index)
}

fn bound(segments: &[String], index: usize) -> String {
    let mut hash = Sha256::new();
    for segment in segments {
        hash.update(segment.as_bytes());
        hash.update([0]);
    }
    hash.update(index.to_le_bytes());
    let digest = hash.finalize();
    let hex = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("Eq{hex}==")
}

#[derive(Deserialize)]
struct Raw {
    system: Option<Box<RawValue>>,
    tools: Option<Box<RawValue>>,
    messages: Vec<RawMessage>,
}

#[derive(Deserialize)]
pub(super) struct RawMessage {
    role: String,
    content: Box<RawValue>,
}

/// Checks a request as the real API does.
pub(super) fn check(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
    issued: &Issued,
) -> Result<Asked, Rejection> {
    if method != Method::POST || path != "/v1/messages" {
        return Err(Rejection { status: 404, kind: "not_found_error", message: "Not Found".to_owned() });
    }
    check_headers(headers)?;
    if body.len() > MAX_BODY {
        return Err(Rejection { status: 413, kind: "request_too_large", message: "Request exceeds 32 MB".to_owned() });
    }
    let parsed: Value = serde_json::from_slice(body).map_err(|_| invalid("The request body is not valid JSON."))?;
    let fields = parsed.as_object().ok_or_else(|| invalid("The request body is not an object."))?;
    for name in fields.keys() {
        ensure(FIELDS.contains(&name.as_str()), || format!("{name}: Extra inputs are not permitted"))?;
    }
    for name in ["temperature", "top_p", "top_k"] {
        ensure(!fields.contains_key(name), || format!("{name}: not supported from API version {VERSION} on"))?;
    }
    let rules = check_model(&parsed)?;
    check_thinking(&parsed, &rules)?;
    check_tools(&parsed, &rules)?;
    let raw: Raw = serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
    check_cache_marks(body)?;
    conversation::check(&parsed, &raw.messages, issued, &segments(&raw))?;
    Ok(Asked { body: parsed, segments: segments(&raw) })
}

fn segments(raw: &Raw) -> Vec<String> {
    let fixed = [&raw.tools, &raw.system].into_iter().map(|part| part.as_ref().map_or("", |it| it.get()).to_owned());
    let messages = raw.messages.iter().map(|message| format!("{}:{}", message.role, message.content.get()));
    fixed.chain(messages).collect()
}

fn check_headers(headers: &HeaderMap) -> Result<(), Rejection> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    ensure(header("content-type") == Some("application/json"), || "content-type: must be application/json".into())?;
    ensure(header("anthropic-version") == Some(VERSION), || "anthropic-version: header is required".into())?;
    let bearer = header("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or_default());
    let known = match (header("x-api-key"), bearer) {
        (Some(key), None) | (None, Some(key)) => key == super::KEY,
        (None, None) | (Some(_), Some(_)) => false,
    };
    if known {
        return Ok(());
    }
    Err(Rejection { status: 401, kind: "authentication_error", message: "invalid x-api-key".to_owned() })
}

fn check_model(body: &Value) -> Result<ModelRules, Rejection> {
    let model = body["model"].as_str().ok_or_else(|| invalid("model: Field required"))?;
    let rules = rules(model).ok_or_else(|| Rejection {
        status: 404,
        kind: "not_found_error",
        message: format!("model: {model}"),
    })?;
    let max_tokens = body["max_tokens"].as_u64();
    ensure(max_tokens.is_some_and(|it| (1..=MAX_OUTPUT).contains(&it)), || {
        format!("max_tokens: must be from 1 to {MAX_OUTPUT}")
    })?;
    Ok(rules)
}

fn check_thinking(body: &Value, rules: &ModelRules) -> Result<(), Rejection> {
    let effort = body.pointer("/output_config/effort").map(|it| it.as_str().unwrap_or_default());
    ensure(effort.is_none_or(|it| ["low", "medium", "high", "xhigh", "max"].contains(&it)), || {
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'".into()
    })?;
    match body.pointer("/thinking/type").map(|it| it.as_str().unwrap_or_default()) {
        None | Some("adaptive") => Ok(()),
        Some("disabled") if rules.thinking_can_be_disabled && !matches!(effort, Some("xhigh" | "max")) => Ok(()),
        Some(other) => Err(invalid(format!(
            "\"thinking.type.{other}\" is not supported for this model. Use \"thinking.type.adaptive\" and \
             \"output_config.effort\" to control thinking behavior."
        ))),
    }
}

fn check_tools(body: &Value, rules: &ModelRules) -> Result<(), Rejection> {
    let choice = body.pointer("/tool_choice/type").map(|it| it.as_str().unwrap_or_default());
    ensure(matches!(choice, None | Some("auto" | "none")) || rules.tool_choice_can_be_forced, || {
        "tool_choice: forced tool use is not supported for this model".into()
    })?;
    let mut names = HashSet::new();
    for (index, tool) in body["tools"].as_array().into_iter().flatten().enumerate() {
        let name = tool["name"].as_str().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        ensure((1..=64).contains(&name.len()) && name.chars().all(plain), || {
            format!("tools.{index}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
        })?;
        ensure(names.insert(name), || "tools: Tool names must be unique.".into())?;
        let at = format!("tools.{index}.custom.input_schema");
        ensure(tool["input_schema"]["type"] == "object", || format!("{at}.type: Input should be 'object'"))?;
        if tool["strict"] == true {
            schema::check(&tool["input_schema"], &at)?;
        }
    }
    if let Some(format) = body.pointer("/output_config/format") {
        ensure(format["type"] == "json_schema", || "output_config.format.type: Input should be 'json_schema'".into())?;
        schema::check(&format["schema"], "output_config.format.schema")?;
    }
    Ok(())
}

fn check_cache_marks(body: &[u8]) -> Result<(), Rejection> {
    let marks = String::from_utf8_lossy(body).matches("\"cache_control\":").count();
    ensure(marks <= 4, || format!("A maximum of 4 blocks with cache_control may be provided. Found {marks}."))
}
