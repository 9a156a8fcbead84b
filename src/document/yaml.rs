//! YAML 1.2, in one document or several. Anchors stay; what an alias stands for is read in its place.

use super::json::number;
use super::tree::{Kind, MAX_DEPTH, MAX_NODES, Member, Node, repeated};
use super::{NotParsed, place};
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Reads a text. Several documents are a sequence.
pub(super) fn parse(text: &str) -> Result<Node, NotParsed> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        text,
        bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    let mut documents = reader.documents()?;
    match documents.len() {
        0 => Err(reader.error(0, "it is empty")),
        1 => Ok(documents.remove(0)),
        _ => Ok(Node { span: 0..text.len(), kind: Kind::Sequence(documents) }),
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// The byte of each character.
    bytes: Vec<usize>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Reader<'t> {
    fn error(&self, at: usize, message: &str) -> NotParsed {
        place("YAML", self.text, at, message)
    }

    fn byte(&self, character: usize) -> usize {
        self.bytes.get(character).copied().unwrap_or(self.text.len())
    }

    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), NotParsed> {
        match self.events.next_event() {
            Some(Ok((event, Span { start, end }))) => Ok((event, self.byte(start.index())..self.byte(end.index()))),
            Some(Err(error)) => Err(self.error(self.byte(error.marker().index()), error.info())),
            None => Err(self.error(self.text.len(), "it ends too early")),
        }
    }

    fn documents(&mut self) -> Result<Vec<Node>, NotParsed> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                event => documents.push(self.node(event, span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Range<usize>, depth: usize) -> Result<Node, NotParsed> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(self.error(span.start, "it is nested too deeply or has too many values"));
        }
        let (anchor, node) = match event {
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let known = known.ok_or_else(|| self.error(span.start, "an alias stands inside of what it names"))?;
                self.nodes += count(&known);
                return Ok(Node { span, ..known });
            }
            Event::Scalar(value, style, anchor, tag) => (anchor, self.scalar(&value, style, tag.as_ref(), span)),
            Event::SequenceStart(anchor, _) => (anchor, self.sequence(span, depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.mapping(span, depth)?),
            _ => return Err(self.error(span.start, "a value is missing")),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&self, value: &str, style: ScalarStyle, tag: Option<&Cow<'t, Tag>>, span: Range<usize>) -> Node {
        let raw = self.text[span.clone()].trim_end();
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let span = if block { span } else { span.start..span.start + raw.len() };
        let tag = tag.map(|tag| format!("{}{} ", tag.handle, tag.suffix)).unwrap_or_default();
        if style == ScalarStyle::Plain {
            Node::scalar(span, plain(value), format!("{tag}plain {value}"))
        } else {
            Node::scalar(span, Value::from(value), format!("{tag}text {value}"))
        }
    }

    fn sequence(&mut self, start: Range<usize>, depth: usize) -> Result<Node, NotParsed> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, end) => return Ok(self.collection(&start, &end, Kind::Sequence(elements))),
                (event, span) => elements.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, start: Range<usize>, depth: usize) -> Result<Node, NotParsed> {
        let mut members: Vec<Member> = Vec::new();
        loop {
            let (event, key) = self.next()?;
            let name = match event {
                Event::MappingEnd => {
                    if let Some(member) = repeated(&members) {
                        let message = format!("the name {:?} stands there twice", member.name);
                        return Err(self.error(member.entry.start, &message));
                    }
                    return Ok(self.collection(&start, &key, Kind::Mapping(members)));
                }
                Event::Scalar(name, ..) => name.into_owned(),
                _ => return Err(self.error(key.start, "a name is not a plain text")),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let entry = key.start..value.span.end.max(key.end);
            members.push(Member { name, entry, value });
        }
    }

    /// A collection's bytes: to its closing bracket, or to the end of its last value.
    fn collection(&self, start: &Range<usize>, end: &Range<usize>, kind: Kind) -> Node {
        let flow = self.text[start.start..].starts_with(['{', '[']);
        let last = match &kind {
            Kind::Mapping(members) => members.last().map(|it| it.entry.end),
            Kind::Sequence(elements) => elements.last().map(|it| it.span.end),
            Kind::Scalar(_) => None,
        };
        let end = if flow { end.end } else { last.unwrap_or(start.end) };
        Node { span: start.start..end.max(start.start), kind }
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(_) => 1,
        Kind::Mapping(members) => 1 + members.iter().map(|it| count(&it.value)).sum::<usize>(),
        Kind::Sequence(elements) => 1 + elements.iter().map(count).sum::<usize>(),
    }
}

/// A plain scalar as the core schema shows it. Older readers see more (`yes`, `0777`): that decides nothing here.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        text => number(text),
    }
}
