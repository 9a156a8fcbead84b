//! The answer as it arrives: server-sent events, put together into a message. Pure.

use super::client::Progress;
use super::error::{ClaudeError, plain};
use super::message::{Block, Message, RateLimits, ReportedUsage, Stop, WireUsage};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::fmt;

/// Bytes of one answer.
const MAX_BYTES: usize = 16 << 20;

/// An event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What its `event:` line says; empty without one.
    name: String,
    data: Vec<u8>,
}

/// Cuts bytes into events. Lines end with LF, CR or both; an event ends with an empty line.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    event: Event,
    after_carriage_return: bool,
    bytes: usize,
}

impl Events {
    /// The events that `chunk` completes.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<Vec<Event>, ClaudeError> {
        self.bytes += chunk.len();
        if self.bytes > MAX_BYTES {
            return Err(ClaudeError::Malformed(format!("it has more than {MAX_BYTES} bytes")));
        }
        let mut complete = Vec::new();
        for &byte in chunk {
            let second_of_pair = byte == b'\n' && self.after_carriage_return;
            self.after_carriage_return = byte == b'\r';
            match byte {
                b'\n' if second_of_pair => {}
                b'\n' | b'\r' => complete.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        Ok(complete)
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return Some(std::mem::take(&mut self.event)).filter(|event| !event.data.is_empty());
        }
        let value = |field: &[u8]| Some(line.strip_prefix(field)?).map(|it| it.strip_prefix(b" ").unwrap_or(it));
        if let Some(data) = value(b"data:") {
            if !self.event.data.is_empty() {
                self.event.data.push(b'\n');
            }
            self.event.data.extend_from_slice(data);
        } else if let Some(name) = value(b"event:") {
            self.event.name = String::from_utf8_lossy(name).into_owned();
        }
        None
    }
}

/// What an event is where no line says so; the rest is read by that, because raw JSON cannot be in a tagged enum.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    name: Option<String>,
    error: Option<IgnoredAny>,
}

impl Event {
    /// The line goes first, as in the official SDKs; some servers write none, or an error without a type.
    fn kind(&self) -> Result<String, ClaudeError> {
        if !self.name.is_empty() && self.name != "message" {
            return Ok(self.name.clone());
        }
        // What some servers write at their end.
        if self.data == b"[DONE]" {
            return Ok("done".to_owned());
        }
        let kind: Kind = parse(&self.data)?;
        let untyped = if kind.error.is_some() { "error" } else { "" };
        Ok(kind.name.unwrap_or_else(|| untyped.to_owned()))
    }
}

#[derive(Deserialize)]
struct MessageStart {
    message: Start,
}

#[derive(Deserialize)]
struct BlockStart {
    index: usize,
    content_block: Box<RawValue>,
}

#[derive(Deserialize)]
struct BlockDelta {
    index: usize,
    delta: Delta,
}

#[derive(Deserialize)]
struct BlockStop {
    index: usize,
}

#[derive(Deserialize)]
struct MessageDelta {
    delta: End,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Start {
    id: String,
    model: String,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct End {
    stop_reason: Option<String>,
    stop_details: Option<Value>,
}

#[derive(Deserialize)]
struct Delta {
    text: Option<Box<RawValue>>,
    thinking: Option<Box<RawValue>>,
    signature: Option<Box<RawValue>>,
    partial_json: Option<Box<RawValue>>,
}

impl Delta {
    /// The field of the block that it adds to, and what it adds, still escaped. Only the type's own field is ever there.
    fn added(&self) -> Option<(&'static str, &str)> {
        let fields = [
            ("text", &self.text),
            ("thinking", &self.thinking),
            ("signature", &self.signature),
            ("input", &self.partial_json),
        ];
        fields.into_iter().find_map(|(field, raw)| Some((field, unquoted(raw.as_ref()?.get())?)))
    }
}

/// The inside of a JSON string.
fn unquoted(raw: &str) -> Option<&str> {
    raw.strip_prefix('"')?.strip_suffix('"')
}

/// The text of the inside of a JSON string. A half of a surrogate pair that has lost the other becomes U+FFFD.
fn unescaped(inside: &str) -> String {
    let quoted = format!("\"{inside}\"");
    if let Ok(text) = serde_json::from_str(&quoted) {
        return text;
    }
    let bytes: Result<ByteBuf, _> = serde_json::from_str(&quoted).map(|it: ByteBuf| it);
    bytes.map(|ByteBuf(bytes)| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// A JSON string as bytes, in which halves of surrogate pairs may stand alone.
struct ByteBuf(Vec<u8>);

impl<'de> Deserialize<'de> for ByteBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = ByteBuf;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ByteBuf, E> {
                Ok(ByteBuf(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Reader)
    }
}

/// An object whose values are kept as they were written, in their order.
#[derive(Debug, Clone, Default)]
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Fields {
    fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        serde_json::from_str(value.get()).ok()
    }

    fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }
}

/// A block that is being received.
#[derive(Debug)]
struct Growing {
    fields: Fields,
    /// What was added, by field, still escaped: a surrogate pair may be split over two deltas.
    added: Vec<(&'static str, String)>,
    whole: bool,
}

impl Growing {
    fn add(&mut self, field: &'static str, text: &str) {
        match self.added.iter_mut().find(|(known, _)| *known == field) {
            Some((_, known)) => known.push_str(text),
            None => self.added.push((field, text.to_owned())),
        }
    }

    /// The block as it is replayed, and as it is understood.
    fn finish(mut self) -> Result<(Box<RawValue>, Block), ClaudeError> {
        let kind = self.fields.text("type").unwrap_or_default();
        for (field, added) in std::mem::take(&mut self.added) {
            let added = unescaped(&added);
            // A call without arguments may come as one empty part: then the input that the block began with stands.
            if field == "input" && added.trim().is_empty() {
                continue;
            }
            let value = if field == "input" {
                RawValue::from_string(added)
            } else {
                to_raw_value(&format!("{}{added}", self.fields.text(field).unwrap_or_default()))
            };
            self.fields.set(field, value.map_err(|_| malformed("the input of a tool is no JSON"))?);
        }
        let block = match kind.as_str() {
            "text" => Block::Text(self.fields.text("text").unwrap_or_default()),
            "thinking" | "redacted_thinking" => Block::Thinking,
            "tool_use" => self.tool_use()?,
            _ => Block::Other,
        };
        let raw = to_raw_value(&self.fields).map_err(|_| malformed("a block cannot be written again"))?;
        Ok((raw, block))
    }

    fn tool_use(&self) -> Result<Block, ClaudeError> {
        let input = self.fields.0.iter().find(|(name, _)| name == "input").map(|(_, raw)| raw.get());
        let input =
            serde_json::from_str(input.unwrap_or("{}")).map_err(|_| malformed("the input of a tool is no JSON"))?;
        match (self.fields.text("id"), self.fields.text("name")) {
            (Some(id), Some(name)) => Ok(Block::ToolUse { id, name, input }),
            _ => Err(malformed("a call of a tool has no id or no name")),
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(data: &'a [u8]) -> Result<T, ClaudeError> {
    serde_json::from_slice(data).map_err(|error| ClaudeError::Malformed(plain(&error.to_string())))
}

fn malformed(why: &str) -> ClaudeError {
    ClaudeError::Malformed(why.to_owned())
}

/// Puts events together.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    start: Option<(String, String)>,
    usage: ReportedUsage,
    blocks: Vec<Growing>,
    stop: Option<Stop>,
    ended: bool,
}

impl Assembly {
    /// Takes an event in, and tells of progress.
    pub(super) fn take(&mut self, event: &Event, progress: &mut impl FnMut(Progress<'_>)) -> Result<(), ClaudeError> {
        // What some servers send after the end is nothing of the answer.
        if self.ended {
            return Ok(());
        }
        let data = &*event.data;
        match event.kind()?.as_str() {
            "message_start" => {
                let MessageStart { message } = parse(data)?;
                // How much it will say is not known yet: only the end counts.
                self.usage.update(message.usage.unwrap_or_default().without_output());
                self.start = Some((message.id, message.model));
            }
            "content_block_start" => {
                let BlockStart { index, content_block } = parse(data)?;
                self.begin_block(index, &content_block, progress)?;
            }
            "content_block_delta" => self.grow_block(parse(data)?, progress)?,
            "content_block_stop" => {
                let BlockStop { index } = parse(data)?;
                self.blocks.get_mut(index).ok_or_else(|| malformed("no such block ends"))?.whole = true;
            }
            "message_delta" => {
                let MessageDelta { delta, usage } = parse(data)?;
                self.usage.update(usage.unwrap_or_default());
                if delta.stop_reason.is_some() {
                    self.stop = Some(Stop::of(delta.stop_reason.as_deref(), delta.stop_details.as_ref()));
                }
            }
            "message_stop" => self.ended = true,
            "error" => return Err(ClaudeError::of_body(None, data, None)),
            // `ping`, whatever is in it, and what is not known.
            _ => {}
        }
        Ok(())
    }

    fn grow_block(
        &mut self,
        BlockDelta { index, delta }: BlockDelta,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), ClaudeError> {
        let block = self.blocks.get_mut(index).filter(|block| !block.whole);
        let block = block.ok_or_else(|| malformed("a part belongs to no block"))?;
        if let Some((field, added)) = delta.added() {
            if field == "text" {
                progress(Progress::Text(&unescaped(added)));
            }
            block.add(field, added);
        }
        Ok(())
    }

    fn begin_block(
        &mut self,
        index: usize,
        content_block: &RawValue,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), ClaudeError> {
        let fields: Fields =
            serde_json::from_str(content_block.get()).map_err(|_| malformed("a block is no object"))?;
        if index != self.blocks.len() {
            return Err(malformed("the blocks are not in their order"));
        }
        match fields.text("type").as_deref() {
            Some("thinking" | "redacted_thinking") => progress(Progress::Thinking),
            Some("tool_use") => progress(Progress::ToolUse { name: &fields.text("name").unwrap_or_default() }),
            Some(_) | None => {}
        }
        // The input of a call comes in parts and replaces the empty one that it begins with; with no part, that stands.
        self.blocks.push(Growing { fields, added: Vec::new(), whole: false });
        Ok(())
    }

    /// Whether the answer is whole.
    pub(super) fn is_whole(&self) -> bool {
        self.ended
    }

    /// The message; of one that was cut off at a limit, the last block may be a piece, and is left out.
    pub(super) fn finish(self, request_id: Option<String>, limits: RateLimits) -> Result<Message, ClaudeError> {
        let (Some((id, model)), true) = (self.start, self.ended) else {
            return Err(ClaudeError::StreamBroken("it ended before it was whole".to_owned()));
        };
        let stop = self.stop.unwrap_or(Stop::Unknown("none".to_owned()));
        let cut_off = matches!(stop, Stop::MaxTokens | Stop::ContextWindowExceeded | Stop::Refusal { .. });
        let (mut content, mut blocks) = (Vec::new(), Vec::new());
        for block in self.blocks {
            match block.finish() {
                Ok((raw, block)) => {
                    content.push(raw);
                    blocks.push(block);
                }
                Err(_) if cut_off => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Message { id, model, request_id, blocks, stop, usage: self.usage.total(), limits, content })
    }
}

#[cfg(test)]
mod tests;
