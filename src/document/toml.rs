//! TOML.

use super::json::{number, string_node};
use super::tree::{Kind, Member, Node};
use super::{NotParsed, place};
use serde_json::Value as Shown;
use std::ops::Range;
use toml_edit::{Document, Item, TableLike, Value};

/// Reads a text.
pub(super) fn parse(text: &str) -> Result<Node, NotParsed> {
    let document = Document::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place("TOML", text, at, error.message())
    })?;
    Ok(table(document.as_table(), 0..text.len(), text))
}

fn table(table: &dyn TableLike, span: Range<usize>, text: &str) -> Node {
    let members = table.iter().map(|(name, item)| {
        let value = self::item(item, text);
        let key = table.key(name).and_then(toml_edit::Key::span);
        // A table has lines in many places: only a value is an entry that can be taken out.
        let entry = match (item, key) {
            (Item::Value(_), Some(key)) if !value.span.is_empty() => key.start..value.span.end,
            _ => 0..0,
        };
        Member { name: name.to_owned(), entry, value }
    });
    Node { span, kind: Kind::Mapping(members.collect()) }
}

fn item(item: &Item, text: &str) -> Node {
    let span = item.span().unwrap_or(0..0);
    match item {
        Item::None => Node::scalar(span, Shown::Null, String::new()),
        Item::Value(value) => self::value(value, text),
        Item::Table(it) => table(it, span, text),
        Item::ArrayOfTables(tables) => {
            let tables = tables.iter().map(|it| table(it, it.span().unwrap_or(0..0), text)).collect();
            Node { span, kind: Kind::Sequence(tables) }
        }
    }
}

fn value(value: &Value, text: &str) -> Node {
    let span = value.span().unwrap_or(0..0);
    let raw = &text[span.clone()];
    match value {
        Value::String(string) => string_node(span, string.value()),
        Value::Boolean(boolean) => Node::scalar(span, Shown::Bool(*boolean.value()), raw.to_owned()),
        Value::Integer(_) | Value::Float(_) => Node::scalar(span, number(raw), format!("number {raw}")),
        Value::Datetime(_) => Node::scalar(span, Shown::from(raw), format!("time {raw}")),
        Value::Array(array) => {
            let elements = array.iter().map(|it| self::value(it, text)).collect();
            Node { span, kind: Kind::Sequence(elements) }
        }
        Value::InlineTable(inline) => table(inline, span, text),
    }
}
