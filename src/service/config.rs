//! What the config file says: a pure parser.

use serde_json::{Map, Value};
use std::num::NonZeroU32;
use std::time::Duration;

/// The longest delay, in milliseconds.
pub const MAX_DELAY_MILLISECONDS: u64 = 60_000;
/// The highest rate, in requests per second.
pub const MAX_REQUESTS_PER_SECOND: u32 = 100_000;
/// The largest burst, in requests.
pub const MAX_BURST: u32 = 1_000_000;
/// The config that a service starts with when it has none.
pub const DEFAULT_TEXT: &str = "{\"enabled\": true, \"delay_ms\": 0}\n";

const DEFAULT_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
const DEFAULT_BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// How much of a wrong value an error repeats, in characters.
const MAX_QUOTED_CHARACTERS: usize = 40;

/// A config that the service can follow. Unknown keys are not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// `enabled`: whether the service plays alive.
    pub enabled: bool,
    /// `delay_ms`: how late `/health` answers; at most 60 s.
    pub delay: Duration,
    /// `requests_per_second` and `burst`.
    pub rate: Rate,
}

/// A token bucket's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many tokens come back in a second; 10 if the file does not say, at most 100 000.
    pub requests_per_second: NonZeroU32,
    /// How many tokens a full bucket holds; 20 if the file does not say, at most 1 000 000.
    pub burst: NonZeroU32,
}

impl Rate {
    /// How long an empty bucket takes to be full again.
    pub fn refill(self) -> Duration {
        Duration::from_secs(u64::from(self.burst.get())) / self.requests_per_second.get()
    }
}

/// What is wrong with a config, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is not JSON. The reason ends in the line and the column.
    #[error("not JSON: {reason}")]
    ReadJson {
        /// The parser's words, with the line and the column.
        reason: String,
    },
    /// The text is JSON, but not an object.
    #[error("expected a JSON object such as {{\"enabled\": true, \"delay_ms\": 0}}, found {found}")]
    ReadObject {
        /// The beginning of what is there instead.
        found: String,
    },
    /// A key that has no default is missing.
    #[error("/{key} is missing: expected {expected}")]
    FindKey {
        /// The key.
        key: &'static str,
        /// What it should hold.
        expected: String,
    },
    /// A value has the wrong type or is out of range.
    #[error("/{key}: expected {expected}, found {found}")]
    ReadValue {
        /// The key.
        key: &'static str,
        /// What it should hold.
        expected: String,
        /// The beginning of what it holds.
        found: String,
    },
}

impl Config {
    /// Reads the text of a config file.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let value: Value =
            serde_json::from_slice(text).map_err(|error| ConfigError::ReadJson { reason: error.to_string() })?;
        let Value::Object(object) = value else {
            return Err(ConfigError::ReadObject { found: quoted(&value) });
        };
        let delay = format!("a whole number of milliseconds from 0 to {MAX_DELAY_MILLISECONDS}");
        let milliseconds = required(&object, "delay_ms", &delay, |value| {
            value.as_u64().filter(|milliseconds| *milliseconds <= MAX_DELAY_MILLISECONDS)
        })?;
        Ok(Self {
            enabled: required(&object, "enabled", "true or false", Value::as_bool)?,
            delay: Duration::from_millis(milliseconds),
            rate: Rate {
                requests_per_second: count(&object, "requests_per_second", MAX_REQUESTS_PER_SECOND)?
                    .unwrap_or(DEFAULT_REQUESTS_PER_SECOND),
                burst: count(&object, "burst", MAX_BURST)?.unwrap_or(DEFAULT_BURST),
            },
        })
    }
}

/// Reads a positive number that may be absent.
fn count(object: &Map<String, Value>, key: &'static str, most: u32) -> Result<Option<NonZeroU32>, ConfigError> {
    optional(object, key, &format!("a whole number from 1 to {most}"), |value| {
        let count = u32::try_from(value.as_u64()?).ok().filter(|count| *count <= most)?;
        NonZeroU32::new(count)
    })
}

/// Reads a value that must be there.
fn required<T>(
    object: &Map<String, Value>,
    key: &'static str,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T, ConfigError> {
    optional(object, key, expected, read)?.ok_or_else(|| ConfigError::FindKey { key, expected: expected.to_owned() })
}

/// Reads a value that may be absent.
fn optional<T>(
    object: &Map<String, Value>,
    key: &'static str,
    expected: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = object.get(key) else { return Ok(None) };
    let wrong = || ConfigError::ReadValue { key, expected: expected.to_owned(), found: quoted(value) };
    read(value).map(Some).ok_or_else(wrong)
}

/// The beginning of a value as JSON, for an error message.
fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        Config::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn the_default_text_is_a_config_with_the_documented_defaults() {
        let config = Config::parse(DEFAULT_TEXT.as_bytes()).unwrap();
        let rate = Rate { requests_per_second: 10.try_into().unwrap(), burst: 20.try_into().unwrap() };
        assert_eq!(config, Config { enabled: true, delay: Duration::ZERO, rate });
        assert_eq!(config.rate.refill(), Duration::from_secs(2));
    }

    #[test]
    fn unknown_keys_are_tolerated() {
        let text = br#"{"owner": {"team": "x"}, "enabled": false, "delay_ms": 7, "burst": 1}"#;
        let config = Config::parse(text).unwrap();
        assert_eq!((config.enabled, config.delay, config.rate.burst.get()), (false, Duration::from_millis(7), 1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let delay = "/delay_ms: expected a whole number of milliseconds from 0 to 60000, found";
        let rate = "/requests_per_second: expected a whole number from 1 to 100000, found";
        let cases = [
            ("", "not JSON: EOF while parsing a value at line 1 column 0".to_owned()),
            ("{\n  \"enabled\": ture\n}", "not JSON: expected ident at line 2 column 15".to_owned()),
            ("[]", r#"expected a JSON object such as {"enabled": true, "delay_ms": 0}, found []"#.to_owned()),
            (r#"{"delay_ms": 0}"#, "/enabled is missing: expected true or false".to_owned()),
            (r#"{"enabled": "yes", "delay_ms": 0}"#, r#"/enabled: expected true or false, found "yes""#.to_owned()),
            (r#"{"enabled": true, "delay_ms": 60001}"#, format!("{delay} 60001")),
            (r#"{"enabled": true, "delay_ms": -1}"#, format!("{delay} -1")),
            (r#"{"enabled": true, "delay_ms": null}"#, format!("{delay} null")),
            (r#"{"enabled": true, "delay_ms": 0, "requests_per_second": -1}"#, format!("{rate} -1")),
            (r#"{"enabled": true, "delay_ms": 0, "requests_per_second": 100001}"#, format!("{rate} 100001")),
            (
                r#"{"enabled": true, "delay_ms": 0, "burst": 0}"#,
                "/burst: expected a whole number from 1 to 1000000, found 0".to_owned(),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(reason(text), expected, "{text}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_said_with_its_place() {
        let error = Config::parse(b"{\"enabled\": \"\xff\"}").unwrap_err().to_string();
        assert!(error.contains("line 1 column"), "{error}");
    }

    #[test]
    fn a_long_wrong_value_is_quoted_in_part() {
        let text = format!(r#"{{"enabled": "{}", "delay_ms": 0}}"#, "\u{e9}".repeat(5000));
        let reason = Config::parse(text.as_bytes()).unwrap_err();
        assert!(matches!(reason, ConfigError::ReadValue { .. }), "{reason}");
        let reason = reason.to_string();
        assert!(reason.ends_with("\u{e9}...") && reason.chars().count() < 120, "{reason}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Config::parse(&bytes);
        }

        #[test]
        fn what_is_accepted_is_in_range(
            delay in -10_i64..100_000, requests in -10_i64..200_000, burst in -10_i64..2_000_000,
        ) {
            let text = format!(
                r#"{{"enabled": true, "delay_ms": {delay}, "requests_per_second": {requests}, "burst": {burst}}}"#
            );
            let in_range =
                (0..=60_000).contains(&delay) && (1..=100_000).contains(&requests) && (1..=1_000_000).contains(&burst);
            prop_assert_eq!(Config::parse(text.as_bytes()).is_ok(), in_range);
        }
    }
}
