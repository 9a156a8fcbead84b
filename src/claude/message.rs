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
    /// What it used; `None` where the server did not say.
    pub usage: Option<Usage>,
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

impl Message {
    /// What is replayed: without empty texts, and without thoughts that nothing came of.
    pub(super) fn said(&self) -> Vec<&RawValue> {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: String,
            text: Option<String>,
        }
        let (mut said, mut anything) = (Vec::new(), false);
        for raw in &self.content {
            let kind: Option<Kind> = serde_json::from_str(raw.get()).ok();
            let (is_thought, is_empty) = kind.map_or((false, false), |it| {
                let thought = matches!(it.kind.as_str(), "thinking" | "redacted_thinking");
                (thought, it.kind == "text" && it.text.is_none_or(|text| text.is_empty()))
            });
            if !is_empty {
                anything |= !is_thought;
                said.push(&**raw);
            }
        }
        if anything { said } else { Vec::new() }
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

/// `usage` as it is on the wire.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<WireCacheCreation>,
}

impl WireUsage {
    /// All but the output.
    pub(super) fn without_output(self) -> Self {
        Self { output_tokens: None, ..self }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct WireCacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

/// What the events of one answer said of its usage so far. Counts are cumulative; what a later event does not say stays
/// as it was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReportedUsage(WireUsage);

impl ReportedUsage {
    /// Takes over what an event says.
    pub(super) fn update(&mut self, said: WireUsage) {
        let known = &mut self.0;
        known.input_tokens = said.input_tokens.or(known.input_tokens);
        known.output_tokens = said.output_tokens.or(known.output_tokens);
        known.cache_creation_input_tokens = said.cache_creation_input_tokens.or(known.cache_creation_input_tokens);
        known.cache_read_input_tokens = said.cache_read_input_tokens.or(known.cache_read_input_tokens);
        known.cache_creation = said.cache_creation.or(known.cache_creation);
    }

    /// All of it; `None` where either side of the conversation was not counted.
    pub(super) fn total(self) -> Option<Usage> {
        let WireUsage { input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens, .. } =
            self.0;
        let (minutes, hour) = self.0.cache_creation.map_or((0, 0), |it| {
            (it.ephemeral_5m_input_tokens.unwrap_or(0), it.ephemeral_1h_input_tokens.unwrap_or(0))
        });
        let created = cache_creation_input_tokens.unwrap_or(minutes + hour).max(hour);
        Some(Usage {
            input_tokens: input_tokens?,
            output_tokens: output_tokens?,
            cache_creation_input_tokens: created - hour,
            cache_creation_1h_input_tokens: hour,
            cache_read_input_tokens: cache_read_input_tokens.unwrap_or(0),
        })
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
            usage: None,
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

    fn total(events: &[Value]) -> Option<Usage> {
        let mut reported = ReportedUsage::default();
        for event in events {
            reported.update(serde_json::from_value(event.clone()).unwrap());
        }
        reported.total()
    }

    #[test]
    fn usage_is_cumulative_and_the_kinds_of_cache_are_told_apart() {
        let start = json!({
            "input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 7,
            "cache_creation": { "ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10 },
        });
        // The last event may repeat the sum without its parts.
        for end in [json!({ "output_tokens": 96 }), json!({ "output_tokens": 96, "cache_creation_input_tokens": 30 })] {
            let usage = total(&[start.clone(), end]).unwrap();
            assert_eq!((usage.total_input(), usage.output_tokens), (47, 96));
            assert_eq!((usage.cache_creation_input_tokens, usage.cache_creation_1h_input_tokens), (20, 10));
        }
        let parts = json!({
            "input_tokens": 1, "output_tokens": 1, "cache_creation": { "ephemeral_1h_input_tokens": 9 },
        });
        assert_eq!(total(&[parts]).unwrap().cache_creation_1h_input_tokens, 9, "also where only the parts are said");
    }

    #[test]
    fn usage_that_was_not_said_is_not_nothing() {
        assert_eq!(total(&[]), None);
        assert_eq!(total(&[json!({ "input_tokens": 5 })]), None);
        assert_eq!(total(&[json!({ "output_tokens": 5 })]), None);
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
