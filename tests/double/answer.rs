//! What a brain can answer, and how that is written.

use super::asked::Asked;
use super::check::signature;
use serde_json::{Value, json};

/// An answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A turn of the model.
    Message(Turn),
    /// Something that goes wrong.
    Fault(Fault),
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// An error instead of an answer.
    Status {
        status: u16,
        kind: &'static str,
        error_code: Option<&'static str>,
        headers: Vec<(&'static str, &'static str)>,
    },
    /// The connection is cut after so many events.
    Cut { turn: Turn, after_events: usize },
    /// An error after status 200.
    ErrorEvent { turn: Turn, after_events: usize, kind: &'static str },
    /// A page of something else.
    NotTheApi,
}

impl Fault {
    /// A plain error.
    pub(crate) fn status(status: u16, kind: &'static str) -> Answer {
        Answer::Fault(Self::Status { status, kind, error_code: None, headers: Vec::new() })
    }
}

/// A turn of the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    parts: Vec<Part>,
    stop: Option<(&'static str, Value)>,
}

#[derive(Debug, Clone)]
enum Part {
    Thinking,
    Text(String),
    /// The API sends such, and does not take them back.
    EmptyText,
    Tool {
        name: String,
        input: Value,
        cut: bool,
    },
    /// A block of a kind that nobody knows yet.
    Unknown,
}

/// A turn as it goes over the wire.
pub(super) struct Written {
    pub(super) events: Vec<(String, String)>,
    /// Each block as the client must send it back.
    pub(super) blocks: Vec<String>,
    pub(super) output_tokens: usize,
}

impl From<Turn> for Answer {
    fn from(turn: Turn) -> Self {
        Self::Message(turn)
    }
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn thinking(mut self) -> Self {
        self.parts.push(Part::Thinking);
        self
    }

    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.parts.push(Part::Text(text.into()));
        self
    }

    pub(crate) fn tool(mut self, name: &str, input: Value) -> Self {
        self.parts.push(Part::Tool { name: name.to_owned(), input, cut: false });
        self
    }

    pub(super) fn empty_text_first(mut self) -> Self {
        // Thoughts are bound to their place, and stay first.
        let at = usize::from(matches!(self.parts.first(), Some(Part::Thinking)));
        self.parts.insert(at, Part::EmptyText);
        self
    }

    /// A block of a kind that nobody knows yet.
    pub(crate) fn unknown_block(mut self) -> Self {
        self.parts.push(Part::Unknown);
        self
    }

    /// Cuts the last call off at `max_tokens`.
    pub(crate) fn cut_off(mut self) -> Self {
        if let Some(Part::Tool { cut, .. }) = self.parts.last_mut() {
            *cut = true;
        }
        self.stop = Some(("max_tokens", Value::Null));
        self
    }

    pub(crate) fn refusal(mut self, category: &str) -> Self {
        self.stop = Some(("refusal", json!({ "type": "refusal", "category": category, "explanation": "no" })));
        self
    }

    pub(crate) fn stop(mut self, reason: &'static str) -> Self {
        self.stop = Some((reason, Value::Null));
        self
    }

    pub(super) fn write(&self, asked: &Asked, number: u64, usage: &Value) -> Written {
        let mut written = Written { events: Vec::new(), blocks: Vec::new(), output_tokens: 0 };
        let message = json!({
            "id": format!("msg_{number}"), "type": "message", "role": "assistant", "model": asked.body["model"],
            "content": [], "stop_reason": null, "stop_sequence": null, "stop_details": null, "usage": usage,
        });
        written.event("message_start", &json!({ "type": "message_start", "message": message }));
        for (index, part) in self.parts.iter().enumerate() {
            Self::write_part(&mut written, asked, (number, index), part);
        }
        let calls = self.parts.iter().any(|part| matches!(part, Part::Tool { .. }));
        let (reason, details) = self.stop.clone().unwrap_or((if calls { "tool_use" } else { "end_turn" }, Value::Null));
        let delta = json!({ "stop_reason": reason, "stop_sequence": null, "stop_details": details });
        written.output_tokens = written.blocks.iter().map(String::len).sum::<usize>() / 4 + 1;
        written.event(
            "message_delta",
            &json!({ "type": "message_delta", "delta": delta, "usage": { "output_tokens": written.output_tokens } }),
        );
        written.event("message_stop", &json!({ "type": "message_stop" }));
        written
    }

    fn write_part(written: &mut Written, asked: &Asked, (number, index): (u64, usize), part: &Part) {
        let (start, deltas, block) = match part {
            Part::Thinking => {
                let sign = signature(asked, index);
                let start = r#"{"type":"thinking","thinking":"","signature":""}"#.to_owned();
                let block = format!(r#"{{"type":"thinking","thinking":"","signature":"{sign}"}}"#);
                (start, vec![json!({ "type": "signature_delta", "signature": sign })], block)
            }
            Part::Text(text) => {
                let deltas = halves(text).map(|half| json!({ "type": "text_delta", "text": half }));
                let block = format!(r#"{{"type":"text","text":{},"citations":null}}"#, Value::from(text.as_str()));
                (r#"{"type":"text","text":"","citations":null}"#.to_owned(), deltas.to_vec(), block)
            }
            Part::EmptyText => {
                let block = r#"{"type":"text","text":""}"#.to_owned();
                (block.clone(), Vec::new(), String::new())
            }
            Part::Tool { name, input, cut } => {
                let (id, name) = (format!("toolu_{number}_{index}"), Value::from(name.as_str()));
                // Spaced as no serialiser would: what is sent back must be this very text.
                let text = input.to_string().replacen('{', "{ ", 1);
                let shown =
                    if *cut { text[..text.floor_char_boundary(text.len() / 2)].to_owned() } else { text.clone() };
                let deltas = halves(&shown).map(|half| json!({ "type": "input_json_delta", "partial_json": half }));
                let frame = |input: &str| {
                    format!(
                        r#"{{"type":"tool_use","id":"{id}","name":{name},"input":{input},"caller":{{"type":"direct"}}}}"#
                    )
                };
                (frame("{}"), deltas.to_vec(), frame(&text))
            }
            Part::Unknown => {
                let block = r#"{"type":"from_the_future","odd":1.50,"nested":{"b": [1, 2]}}"#.to_owned();
                (block.clone(), Vec::new(), block)
            }
        };
        written.events.push((
            "content_block_start".to_owned(),
            format!(r#"{{"type":"content_block_start","index":{index},"content_block":{start}}}"#),
        ));
        written.event("ping", &json!({ "type": "ping" }));
        for delta in deltas {
            written.event(
                "content_block_delta",
                &json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            );
        }
        written.event("content_block_stop", &json!({ "type": "content_block_stop", "index": index }));
        if !block.is_empty() {
            written.blocks.push(block);
        }
    }
}

impl Written {
    fn event(&mut self, name: &str, data: &Value) {
        self.events.push((name.to_owned(), data.to_string()));
    }
}

fn halves(text: &str) -> [&str; 2] {
    let (one, other) = text.split_at(text.floor_char_boundary(text.len() / 3));
    [one, other]
}
