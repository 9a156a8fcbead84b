//! Writes a document the way its text was written before: indented, spaced or compact.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// How a text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    layout: Layout,
    final_newline: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Indented { spaces: usize },
    Spaced,
    Compact,
}

/// The style of a text.
pub(super) fn of(text: &str) -> Style {
    let body = text.trim_end();
    let layout = match body.split_once('\n') {
        Some((_, rest)) => Layout::Indented { spaces: rest.chars().take_while(|c| *c == ' ').count().clamp(1, 8) },
        None if body.contains("\": ") => Layout::Spaced,
        None => Layout::Compact,
    };
    Style { layout, final_newline: text.ends_with('\n') }
}

impl Style {
    /// The document in this style.
    pub(super) fn write(self, value: &Value) -> String {
        let mut text = match self.layout {
            Layout::Indented { spaces } => {
                let indent = " ".repeat(spaces);
                serialize(value, PrettyFormatter::with_indent(indent.as_bytes()))
            }
            Layout::Spaced => serialize(value, Spaced),
            Layout::Compact => serialize(value, CompactFormatter),
        };
        if self.final_newline {
            text.push('\n');
        }
        text
    }
}

fn serialize(value: &Value, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    // Writing a JSON value to memory cannot fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    String::from_utf8(bytes).unwrap_or_default()
}

/// One line, with a space after each colon and comma.
struct Spaced;

impl Formatter for Spaced {
    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}
