//! JSON, and JSON with comments and trailing commas.

use super::tree::{Kind, MAX_DEPTH, Member, Node, repeated};
use super::{NotParsed, place};
use jsonc_parser::ast::Value as Ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::ops::Range;

/// Reads a text of plain JSON (RFC 8259).
pub(super) fn parse(text: &str) -> Result<Node, NotParsed> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        return Err(NotParsed { format: "JSON", line: error.line(), column: error.column(), message });
    }
    read(text, "JSON", false)
}

/// Reads a text of JSON with comments.
pub(super) fn parse_with_comments(text: &str) -> Result<Node, NotParsed> {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH {
        return Err(place("JSON with comments", text, 0, "it is nested too deeply"));
    }
    read(text, "JSON with comments", true)
}

fn read(text: &str, format: &'static str, comments: bool) -> Result<Node, NotParsed> {
    let options = ParseOptions {
        allow_comments: comments,
        allow_loose_object_property_names: false,
        allow_trailing_commas: comments,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options)
        .map_err(|error| place(format, text, error.range().start, &error.kind().to_string()))?;
    let ast = parsed.value.ok_or_else(|| place(format, text, 0, "it is empty"))?;
    node(&ast, text, format)
}

fn node(ast: &Ast<'_>, text: &str, format: &'static str) -> Result<Node, NotParsed> {
    let span = ast.range().start..ast.range().end;
    let raw = &text[span.clone()];
    let kind = match ast {
        Ast::Object(object) => {
            let mut members = Vec::with_capacity(object.properties.len());
            for property in &object.properties {
                let value = node(&property.value, text, format)?;
                let entry = property.range.start..property.range.end;
                members.push(Member { name: property.name.as_str().to_owned(), entry, value });
            }
            if let Some(member) = repeated(&members) {
                let message = format!("the name {:?} stands there twice", member.name);
                return Err(place(format, text, member.entry.start, &message));
            }
            Kind::Mapping(members)
        }
        Ast::Array(array) => {
            Kind::Sequence(array.elements.iter().map(|it| node(it, text, format)).collect::<Result<_, _>>()?)
        }
        Ast::StringLit(string) => return Ok(string_node(span, &string.value)),
        Ast::NumberLit(_) => return Ok(Node::scalar(span, number(raw), format!("number {raw}"))),
        Ast::BooleanLit(boolean) => return Ok(Node::scalar(span, Value::Bool(boolean.value), raw.to_owned())),
        Ast::NullKeyword(_) => return Ok(Node::scalar(span, Value::Null, raw.to_owned())),
    };
    Ok(Node { span, kind })
}

pub(super) fn string_node(span: Range<usize>, text: &str) -> Node {
    Node::scalar(span, Value::from(text), format!("text {text}"))
}

/// A number as it is shown: as itself where that is exact, else as it is written.
pub(super) fn number(raw: &str) -> Value {
    let parsed: Option<serde_json::Number> = serde_json::from_str(raw).ok();
    match parsed {
        Some(number) if format!("{number}") == raw => Value::Number(number),
        Some(_) | None => Value::from(raw),
    }
}

/// The text without one member of a mapping in braces.
pub(super) fn remove(text: &str, members: &[Member], at: usize) -> String {
    let entry = &members[at].entry;
    let gone = match (members.get(at + 1), at.checked_sub(1).map(|before| &members[before])) {
        (Some(next), _) => entry.start..next.entry.start,
        (None, Some(before)) => before.entry.end..entry.end,
        (None, None) => entry.clone(),
    };
    format!("{}{}", &text[..gone.start], &text[gone.end..])
}

/// The text with one member more in a mapping in braces, behind the member `after` or first.
pub(super) fn insert(text: &str, mapping: &Node, members: &[Member], after: Option<usize>, entry: &str) -> String {
    match (after.map(|at| &members[at]), members.first()) {
        (Some(before), Some(first)) => {
            // As the present members are laid out: what stands before the second, or before the first.
            let laid_out = members
                .get(1)
                .and_then(|second| text[..second.entry.start].rfind(',').map(|comma| (comma + 1, second)));
            let space = match laid_out {
                Some((from, second)) if from >= first.entry.end => &text[from..second.entry.start],
                _ => match &text[mapping.span.start + 1..first.entry.start] {
                    "" if text[first.entry.clone()].contains("\": ") => " ",
                    space => space,
                },
            };
            let end = before.entry.end;
            let space = if space.trim().is_empty() { space } else { " " };
            format!("{},{space}{entry}{}", &text[..end], &text[end..])
        }
        (None, Some(first)) => {
            let (start, opening) = (first.entry.start, mapping.span.start + 1);
            let space = if text[opening..start].trim().is_empty() { &text[opening..start] } else { " " };
            let space = if space.is_empty() && text[first.entry.clone()].contains("\": ") { " " } else { space };
            format!("{}{entry},{space}{}", &text[..start], &text[start..])
        }
        (_, None) => {
            let opening = mapping.span.start + 1;
            format!("{}{entry}{}", &text[..opening], &text[opening..])
        }
    }
}
