//! What is answered.

use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::ops::AddAssign;

/// A whole turn of the model.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// The id of the request, for support.
    pub request_id: Option<String>,
    /// Its parts, as they are understood here.
    pub blocks: Vec<Block>,
    /// Why it ended.
    pub stop: Stop,
    /// What it used.
    pub usage: Usage,
    /// What is left of the account's rates.
    pub limits: RateLimits,
    /// Its parts exactly as they were received: what is replayed.
    pub(super) content: Vec<Box<RawValue>>,
}

/// A part of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Text.
    Text(String),
    /// A tool is called.
    ToolUse {
        /// The id of the call.
        id: String,
        /// The tool.
        name: String,
        /// Its input.
        input: Value,
    },
    /// The model thought.
    Thinking,
    /// Something that is not understood here.
    Other,
}

impl Message {
    /// All its text.
    pub fn text(&self) -> String {
        let text = |block: &Block| match block {
            Block::Text(text) => Some(text.clone()),
            Block::ToolUse { .. } | Block::Thinking | Block::Other => None,
        };
        self.blocks.iter().filter_map(text).collect()
    }

    /// The tools that it calls: id, name, input. None of a turn that was cut off.
    pub fn tool_uses(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let whole = self.stop == Stop::ToolUse;
        self.blocks.iter().filter(move |_| whole).filter_map(|block| match block {
            Block::ToolUse { id, name, input } => Some((id.as_str(), name.as_str(), input)),
            Block::Text(_) | Block::Thinking | Block::Other => None,
        })
    }
}

/// Why a turn ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model has said all.
    EndTurn,
    /// It said a word that was to end it.
    StopSequence,
    /// It waits for the results of tools.
    ToolUse,
    /// It was cut off at `max_tokens`.
    MaxTokens,
    /// It was cut off because the conversation is too long.
    ContextWindowExceeded,
    /// The server paused it in the middle of a tool of its own.
    PauseTurn,
    /// The model does not answer this.
    Refusal {
        /// The kind of refusal.
        category: Option<String>,
        /// Why, in the API's words.
        explanation: Option<String>,
    },
    /// For a reason that is not known here.
    Unknown(String),
}

impl Stop {
    pub(super) fn of(reason: Option<&str>, details: Option<&Value>) -> Self {
        let detail = |name: &str| details.and_then(|it| it.get(name)?.as_str()).map(str::to_owned);
        match reason {
            Some("end_turn") => Self::EndTurn,
            Some("stop_sequence") => Self::StopSequence,
            Some("tool_use") => Self::ToolUse,
            Some("max_tokens") => Self::MaxTokens,
            Some("model_context_window_exceeded") => Self::ContextWindowExceeded,
            Some("pause_turn") => Self::PauseTurn,
            Some("refusal") => Self::Refusal { category: detail("category"), explanation: detail("explanation") },
            other => Self::Unknown(other.unwrap_or("none").to_owned()),
        }
    }
}

/// What a turn used. All input is the sum of the four kinds of input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens that were neither written to the cache nor read from it.
    pub input_tokens: u64,
    /// Output tokens, thinking included.
    pub output_tokens: u64,
    /// Input tokens that were written to the cache for 5 minutes.
    pub cache_creation_input_tokens: u64,
    /// Input tokens that were written to the cache for an hour.
    pub cache_creation_1h_input_tokens: u64,
    /// Input tokens that were read from the cache.
    pub cache_read_input_tokens: u64,
}

impl Usage {
    /// All input.
    pub fn total_input(&self) -> u64 {
        self.input_tokens
            + self.cache_creation_input_tokens
            + self.cache_creation_1h_input_tokens
            + self.cache_read_input_tokens
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_creation_input_tokens += other.cache_creation_input_tokens;
        self.cache_creation_1h_input_tokens += other.cache_creation_1h_input_tokens;
        self.cache_read_input_tokens += other.cache_read_input_tokens;
    }
}

/// `usage` as it is on the wire; what a later event does not say stays as it was.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<WireCacheCreation>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct WireCacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl WireUsage {
    /// Takes over what this says; counts are cumulative.
    pub(super) fn update(&self, usage: &mut Usage) {
        let set = |count: &mut u64, said: Option<u64>| *count = said.unwrap_or(*count);
        set(&mut usage.input_tokens, self.input_tokens);
        set(&mut usage.output_tokens, self.output_tokens);
        set(&mut usage.cache_read_input_tokens, self.cache_read_input_tokens);
        if let Some(created) = self.cache_creation_input_tokens {
            let hour =
                self.cache_creation.as_ref().and_then(|it| it.ephemeral_1h_input_tokens).unwrap_or(0).min(created);
            usage.cache_creation_1h_input_tokens = hour;
            usage.cache_creation_input_tokens = created - hour;
        }
    }
}

/// What is left of the account's rates, where the API says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests.
    pub requests: Option<Rate>,
    /// Input tokens.
    pub input_tokens: Option<Rate>,
    /// Output tokens.
    pub output_tokens: Option<Rate>,
}

/// One rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What is left.
    pub remaining: u64,
    /// When it is full again.
    pub reset: Option<Timestamp>,
}

impl RateLimits {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let header = |what: &str, field: &str| {
            headers.get(format!("anthropic-ratelimit-{what}-{field}")).and_then(|value| value.to_str().ok())
        };
        let rate = |what: &str| {
            let remaining = header(what, "remaining")?.parse().ok()?;
            Some(Rate { remaining, reset: header(what, "reset").and_then(|text| text.parse().ok()) })
        };
        Self { requests: rate("requests"), input_tokens: rate("input-tokens"), output_tokens: rate("output-tokens") }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    /// A message with this content, as JSON.
    pub(crate) fn message(content: &str) -> Message {
        Message {
            id: "msg_1".into(),
            model: "m".into(),
            request_id: None,
            blocks: Vec::new(),
            stop: Stop::ToolUse,
            usage: Usage::default(),
            limits: RateLimits::default(),
            content: serde_json::from_str(content).unwrap(),
        }
    }

    #[test]
    fn a_turn_that_was_cut_off_calls_no_tools() {
        let call = Block::ToolUse { id: "t".into(), name: "a".into(), input: json!({}) };
        let mut cut = Message { blocks: vec![call], ..message("[]") };
        assert_eq!(cut.tool_uses().count(), 1);
        for stop in [Stop::MaxTokens, Stop::ContextWindowExceeded, Stop::EndTurn, Stop::Unknown("x".into())] {
            cut.stop = stop;
            assert_eq!(cut.tool_uses().count(), 0, "{:?}", cut.stop);
        }
    }

    #[test]
    fn usage_is_cumulative_and_the_kinds_of_cache_are_told_apart() {
        let mut usage = Usage::default();
        let start = json!({
            "input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 7,
            "cache_creation": { "ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10 },
        });
        serde_json::from_value::<WireUsage>(start).unwrap().update(&mut usage);
        serde_json::from_value::<WireUsage>(json!({ "output_tokens": 96 })).unwrap().update(&mut usage);
        assert_eq!((usage.total_input(), usage.output_tokens), (47, 96));
        assert_eq!((usage.cache_creation_input_tokens, usage.cache_creation_1h_input_tokens), (20, 10));
    }

    #[test]
    fn rates_are_read_where_they_are_said() {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-ratelimit-requests-remaining", "12".parse().unwrap());
        headers.insert("anthropic-ratelimit-requests-reset", "2026-11-23T10:00:00Z".parse().unwrap());
        let limits = RateLimits::of(&headers);
        assert_eq!(limits.requests.map(|rate| rate.remaining), Some(12));
        assert_eq!(limits.input_tokens, None);
    }
}
