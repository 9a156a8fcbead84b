//! What servers of the Messages API, and gateways before them, were seen to do besides what is documented.

use serde_json::{Value, json};

/// One such thing. None of them changes what an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// The input of a call begins with an empty part.
    EmptyParts,
    /// `data: [DONE]` after the end.
    DoneAfterTheEnd,
    /// Pings with any content.
    OddPings,
    /// No `event:` lines.
    NoEventLines,
    /// A surrogate pair is split over two parts.
    SplitSurrogates,
    /// `usage` is null everywhere.
    NullUsage,
    /// The answer has no content type.
    NoContentType,
    /// The content type in capitals.
    CapitalContentType,
    /// The whole answer in one piece.
    Gathered,
    /// A text block with nothing in it comes first.
    EmptyText,
}

impl Oddity {
    pub(crate) const ALL: [Self; 10] = [
        Self::EmptyParts,
        Self::DoneAfterTheEnd,
        Self::OddPings,
        Self::NoEventLines,
        Self::SplitSurrogates,
        Self::NullUsage,
        Self::NoContentType,
        Self::CapitalContentType,
        Self::Gathered,
        Self::EmptyText,
    ];
}

/// The events as frames on the wire.
pub(super) fn frames(events: &[(String, String)], oddities: &[Oddity]) -> Vec<String> {
    let has = |oddity| oddities.contains(&oddity);
    let mut frames: Vec<String> = Vec::new();
    for (name, data) in events {
        let mut parts = vec![data.clone()];
        if has(Oddity::NullUsage) {
            parts = vec![without_usage(data)];
        }
        if name == "content_block_delta" && has(Oddity::SplitSurrogates) {
            parts = split(data).unwrap_or(parts);
        }
        if name == "content_block_start" && has(Oddity::EmptyParts) && data.contains("tool_use") {
            parts.push(empty_part(data));
        }
        if name == "ping" && has(Oddity::OddPings) && !has(Oddity::NoEventLines) {
            parts = vec!["not even JSON".to_owned()];
        }
        for (at, data) in parts.iter().enumerate() {
            let name = if at > 0 { "content_block_delta" } else { name };
            let line = if has(Oddity::NoEventLines) { String::new() } else { format!("event: {name}\n") };
            frames.push(format!("{line}data: {data}\n\n"));
        }
    }
    if has(Oddity::DoneAfterTheEnd) {
        frames.push("data: [DONE]\n\n".to_owned());
    }
    frames
}

fn without_usage(data: &str) -> String {
    let mut parsed: Value = serde_json::from_str(data).unwrap();
    for pointer in ["/usage", "/message/usage"] {
        if let Some(usage) = parsed.pointer_mut(pointer) {
            *usage = Value::Null;
        }
    }
    // A block is replayed as it is written here: only what has a usage is written anew.
    if parsed["type"] == "message_start" || parsed["type"] == "message_delta" {
        parsed.to_string()
    } else {
        data.into()
    }
}

fn empty_part(start: &str) -> String {
    let start: Value = serde_json::from_str(start).unwrap();
    let delta = json!({ "type": "input_json_delta", "partial_json": "" });
    json!({ "type": "content_block_delta", "index": start["index"], "delta": delta }).to_string()
}

/// A part in two, between the halves of its first surrogate pair; `None` where it has none.
fn split(data: &str) -> Option<Vec<String>> {
    let (at, pair) = data.char_indices().find(|(_, c)| u32::from(*c) > 0xffff)?;
    let mut units = [0; 2];
    pair.encode_utf16(&mut units);
    let (before, after) = (&data[..at], &data[at + pair.len_utf8()..]);
    let opening = before.rfind('"').filter(|_| !before.ends_with('\\'))?;
    let begin = text_begins(before).unwrap_or(opening);
    let closing = "\"}}";
    Some(vec![
        format!("{before}\\u{:04x}{closing}", units[0]),
        format!("{}\\u{:04x}{after}", &before[..=begin], units[1]),
    ])
}

/// Where the text of a part begins: at the quote after its field's name.
fn text_begins(before: &str) -> Option<usize> {
    ["\"text\":\"", "\"partial_json\":\""].iter().find_map(|field| Some(before.find(field)? + field.len() - 1))
}
