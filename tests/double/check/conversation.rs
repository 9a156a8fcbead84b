//! The conversation: roles in turns, every call answered once, and what the model said unchanged.

use super::super::asked::blocks;
use super::{Issued, RawMessage, Rejection, bound, ensure, invalid};
use serde_json::Value;

/// Refuses a conversation that the real API refuses. `segments` are tools, system prompt and messages.
pub(super) fn check(body: &Value, raw: &[RawMessage], issued: &Issued, segments: &[String]) -> Result<(), Rejection> {
    let messages = body["messages"].as_array().ok_or_else(|| invalid("messages: Field required"))?;
    ensure(!messages.is_empty(), || "messages: at least one message is required".into())?;
    ensure(messages.len() % 2 == 1, || {
        "This model does not support assistant message prefill. The conversation must end with a user message.".into()
    })?;
    for (index, message) in messages.iter().enumerate() {
        let expected = if index % 2 == 0 { "user" } else { "assistant" };
        ensure(message["role"] == expected, || format!("messages.{index}: roles must alternate; expected {expected}"))?;
        check_content(&message["content"], index)?;
        if expected == "assistant" {
            check_replay(&raw[index], index, issued, segments)?;
        }
        check_pairing(messages, index)?;
    }
    Ok(())
}

fn check_content(content: &Value, index: usize) -> Result<(), Rejection> {
    if let Some(text) = content.as_str() {
        return ensure(!text.is_empty(), || format!("messages.{index}: user messages must have non-empty content"));
    }
    let blocks = content.as_array().ok_or_else(|| invalid(format!("messages.{index}.content: Field required")))?;
    ensure(!blocks.is_empty(), || format!("messages.{index}: messages must have non-empty content"))?;
    let mut texts = 0;
    for (at, block) in blocks.iter().enumerate() {
        if block["type"] == "text" {
            texts += 1;
            ensure(block["text"].as_str().is_some_and(|text| !text.is_empty()), || {
                format!("messages.{index}.content.{at}: text content blocks must be non-empty")
            })?;
        }
        let late = block["type"] == "tool_result" && texts > 0;
        ensure(!late, || format!("messages.{index}.content.{at}: tool_result blocks must come before text"))?;
    }
    Ok(())
}

/// What the model said must come back as it was said, and after what it was said.
fn check_replay(raw: &RawMessage, index: usize, issued: &Issued, segments: &[String]) -> Result<(), Rejection> {
    let said = blocks(&raw.content);
    for (at, block) in said.iter().enumerate() {
        let parsed: Value = serde_json::from_str(block).unwrap_or_default();
        if parsed["type"] == "thinking" && parsed["signature"] != bound(&segments[..index + 2], at) {
            return Err(invalid(format!(
                "messages.{index}.content.{at}: Invalid `signature` in `thinking` block. The block is bound to a different \
                 conversation. Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\"."
            )));
        }
    }
    ensure(issued.knows(&said), || format!("messages.{index}: the assistant's content is not what the model said"))
}

fn check_pairing(messages: &[Value], index: usize) -> Result<(), Rejection> {
    let ids = |message: Option<&Value>, kind: &str, field: &str| -> Vec<String> {
        let blocks = message.and_then(|it| it["content"].as_array().cloned()).unwrap_or_default();
        let of_kind = blocks.iter().filter(|block| block["type"] == kind);
        of_kind.filter_map(|block| block[field].as_str().map(str::to_owned)).collect()
    };
    let calls = ids(messages.get(index), "tool_use", "id");
    let answered = ids(messages.get(index + 1), "tool_result", "tool_use_id");
    let missing: Vec<String> = calls.iter().filter(|id| !answered.contains(id)).cloned().collect();
    ensure(missing.is_empty(), || {
        format!(
            "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {}. Each \
             `tool_use` block must have a corresponding `tool_result` block in the next message.",
            missing.join(", ")
        )
    })?;
    let results = ids(messages.get(index), "tool_result", "tool_use_id");
    let before = if index == 0 { Vec::new() } else { ids(messages.get(index - 1), "tool_use", "id") };
    for (at, id) in results.iter().enumerate() {
        ensure(before.contains(id) && !results[..at].contains(id), || {
            format!(
                "messages.{index}.content.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each \
                 `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        })?;
    }
    Ok(())
}
