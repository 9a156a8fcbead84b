//! Faults, as pure functions on the text of a config. What a fault does not concern stays as it was written: the
//! other keys, their order, the line breaks and the indentation.

use super::config::MAX_DELAY_MILLISECONDS;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};
use std::io;

/// What can be done to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `/health` answers later than now: `delay_ms` grows.
    Slow {
        /// By how much.
        milliseconds: u64,
    },
    /// The service says that it is not healthy: `enabled` becomes false.
    Dead,
    /// An impossible rate: `requests_per_second` becomes -1.
    Forbidden,
    /// Takes all of these back: enabled, no delay, and the default rate in the place of an impossible one.
    Heal,
}

/// Why a config could not be changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChaosError {
    /// The text is not JSON. The reason ends in the line and the column.
    #[error("the config is not a JSON object ({reason}): write one such as {{\"enabled\": true, \"delay_ms\": 0}}")]
    ReadText {
        /// The parser's words, with the line and the column.
        reason: String,
    },
    /// The delay cannot be added to what is there.
    #[error("/delay_ms: expected a whole number that can grow by {milliseconds} to at most {MAX_DELAY_MILLISECONDS}")]
    AddDelay {
        /// What was to be added, in milliseconds.
        milliseconds: u64,
    },
    /// The changed config could not be written as text.
    #[error("could not write the changed config as JSON: {reason}")]
    WriteText {
        /// The reason.
        reason: String,
    },
}

/// The text of the config with this fault in it.
pub fn apply(text: &str, fault: &Fault) -> Result<String, ChaosError> {
    match *fault {
        Fault::Slow { milliseconds } => {
            let delay = delay_milliseconds(text)?
                .and_then(|delay| delay.checked_add(milliseconds))
                .filter(|delay| *delay <= MAX_DELAY_MILLISECONDS)
                .ok_or(ChaosError::AddDelay { milliseconds })?;
            with_delay(text, delay)
        }
        Fault::Dead => with_enabled(text, false),
        Fault::Forbidden => edit(text, |config| {
            config.insert("requests_per_second".to_owned(), (-1).into());
        }),
        Fault::Heal => edit(text, |config| {
            config.insert("enabled".to_owned(), true.into());
            config.insert("delay_ms".to_owned(), 0.into());
            let impossible = |rate: &Value| rate.as_f64().is_none_or(|rate| rate <= 0.0);
            if config.get("requests_per_second").is_some_and(impossible) {
                // Not `remove`: it moves the last key into the gap.
                config.shift_remove("requests_per_second");
            }
        }),
    }
}

/// The config with this `enabled`.
pub(super) fn with_enabled(text: &str, enabled: bool) -> Result<String, ChaosError> {
    edit(text, |config| {
        config.insert("enabled".to_owned(), enabled.into());
    })
}

/// The config with this `delay_ms`.
pub(super) fn with_delay(text: &str, milliseconds: u64) -> Result<String, ChaosError> {
    edit(text, |config| {
        config.insert("delay_ms".to_owned(), milliseconds.into());
    })
}

/// Whether the config says that the service plays dead.
pub(super) fn is_dead(text: &str) -> Result<bool, ChaosError> {
    Ok(parse(text)?.get("enabled") == Some(&Value::Bool(false)))
}

/// The delay that the config says, 0 if it says none, `None` if what it says is not a number of milliseconds.
pub(super) fn delay_milliseconds(text: &str) -> Result<Option<u64>, ChaosError> {
    Ok(parse(text)?.get("delay_ms").map_or(Some(0), Value::as_u64))
}

fn parse(text: &str) -> Result<Map<String, Value>, ChaosError> {
    serde_json::from_str(text).map_err(|error| ChaosError::ReadText { reason: error.to_string() })
}

/// Changes the object, and writes it in the style of the original.
fn edit(text: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Result<String, ChaosError> {
    let mut config = parse(text)?;
    change(&mut config);
    let after = &text[text.trim_end().len()..];
    Style::of(text).write(&config).map(|written| written + after)
}

/// How a text is laid out.
#[derive(Debug, PartialEq, Eq)]
enum Style<'a> {
    /// `{"a":1,"b":2}`
    Compact,
    /// `{"a": 1, "b": 2}`
    OneLine,
    /// A line for each key, behind this indentation.
    Lines { indentation: &'a str },
}

impl<'a> Style<'a> {
    fn of(text: &'a str) -> Self {
        let text = text.trim();
        if !text.contains('\n') {
            let spaced = text.contains("\": ") || !text.contains("\":");
            return if spaced { Self::OneLine } else { Self::Compact };
        }
        let key = text.lines().skip(1).find(|line| line.trim_start().starts_with('"'));
        let indentation = key.map_or("  ", |line| &line[..line.len() - line.trim_start().len()]);
        Self::Lines { indentation }
    }

    fn write(&self, config: &Map<String, Value>) -> Result<String, ChaosError> {
        let written = match self {
            Self::Compact => write_as(CompactFormatter, config),
            Self::OneLine => write_as(OneLineFormatter, config),
            Self::Lines { indentation } => write_as(PrettyFormatter::with_indent(indentation.as_bytes()), config),
        };
        written.map_err(|error| ChaosError::WriteText { reason: error.to_string() })
    }
}

fn write_as(formatter: impl Formatter, config: &Map<String, Value>) -> io::Result<String> {
    let mut written = Vec::new();
    config.serialize(&mut Serializer::with_formatter(&mut written, formatter))?;
    String::from_utf8(written).map_err(io::Error::other)
}

/// One line with a space behind each comma and colon, as people write it.
struct OneLineFormatter;

impl Formatter for OneLineFormatter {
    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        separate(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

fn separate<W: io::Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
    if first { Ok(()) } else { writer.write_all(b", ") }
}

#[cfg(test)]
mod tests;
