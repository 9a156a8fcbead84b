//! The service's configuration file: a JSON object with `enabled`, `delay_ms`, `requests_per_second` and `burst`.

use serde_json::{Map, Value};
use std::path::Path;
use std::time::Duration;

/// A larger file is refused. Bytes.
const MAX_FILE: u64 = 64 * 1024;

const MAX_DELAY_MS: u64 = 60_000;
const MAX_RATE: f64 = 100_000.0;
const MAX_BURST: u64 = 100_000;

/// The configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// Whether it serves at all (`enabled`; default true).
    pub enabled: bool,
    /// How late health answers (`delay_ms`; from 0 to 60000, default 0).
    pub delay: Duration,
    /// Tokens that a bucket gains a second (`requests_per_second`; above 0, at most 100000, default 10).
    pub requests_per_second: f64,
    /// Tokens that a bucket holds (`burst`; from 1 to 100000, default 20).
    pub burst: u32,
}

/// What is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is no JSON.
    #[error("not JSON at line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was wrong.
        message: String,
    },
    /// A value is not what it should be.
    #[error("`{path}` is {found}, expected {expected}")]
    Value {
        /// The key.
        path: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is too large.
    #[error("{file} is larger than {MAX_FILE} bytes")]
    TooLarge {
        /// Its name.
        file: String,
    },
    /// It makes no sense.
    #[error("{file}: {source}")]
    Parse {
        /// Its name.
        file: String,
        /// What is wrong.
        source: ConfigError,
    },
}

/// Reads the file.
pub async fn read(path: &Path) -> Result<Config, Trouble> {
    let file = file_name(path);
    let unreadable = |source| Trouble::Read { file: file.clone(), source };
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(Trouble::TooLarge { file });
    }
    let bytes = tokio::fs::read(path).await.map_err(unreadable)?;
    Config::parse(&String::from_utf8_lossy(&bytes)).map_err(|source| Trouble::Parse { file, source })
}

/// The last part of a path, for messages.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl Config {
    /// Understands the text of the file. Unknown keys are left alone.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            ConfigError::Syntax { line: error.line(), column: error.column(), message }
        })?;
        let Value::Object(object) = value else {
            return Err(wrong("/", &value, "an object such as {\"enabled\": true, \"delay_ms\": 0}"));
        };
        let enabled = field(&object, "enabled", "true or false", true, Value::as_bool)?;
        let delay_ms = field(&object, "delay_ms", "whole milliseconds from 0 to 60000", 0, |value| {
            value.as_u64().filter(|it| *it <= MAX_DELAY_MS)
        })?;
        let rate = field(&object, "requests_per_second", "a number above 0 and at most 100000", 10.0, |value| {
            value.as_f64().filter(|it| *it > 0.0 && *it <= MAX_RATE)
        })?;
        let burst = field(&object, "burst", "a whole number from 1 to 100000", 20, |value| {
            value.as_u64().filter(|it| (1..=MAX_BURST).contains(it)).and_then(|it| u32::try_from(it).ok())
        })?;
        Ok(Self { enabled, delay: Duration::from_millis(delay_ms), requests_per_second: rate, burst })
    }
}

fn field<T>(
    object: &Map<String, Value>,
    path: &'static str,
    expected: &'static str,
    default: T,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, ConfigError> {
    match object.get(path) {
        None => Ok(default),
        Some(value) => read(value).ok_or_else(|| wrong(path, value, expected)),
    }
}

fn wrong(path: &'static str, value: &Value, expected: &'static str) -> ConfigError {
    ConfigError::Value { path, found: value.to_string().chars().take(64).collect(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_configuration_of_the_original_is_understood() {
        let config = Config::parse(r#"{"enabled": true, "delay_ms": 500}"#).unwrap();
        assert_eq!((config.enabled, config.delay), (true, Duration::from_millis(500)));
        assert_eq!(Config::parse("{}").unwrap().burst, 20);
        assert!(Config::parse(r#"{"color": "blue"}"#).is_ok());
    }

    #[test]
    fn a_broken_configuration_says_what_is_wrong_and_where() {
        for (text, message) in [
            ("{\n  oops", "not JSON at line 2, column 3: key must be a string"),
            ("[]", r#"`/` is [], expected an object such as {"enabled": true, "delay_ms": 0}"#),
            (r#"{"enabled": "no"}"#, r#"`enabled` is "no", expected true or false"#),
            (r#"{"delay_ms": -1}"#, "`delay_ms` is -1, expected whole milliseconds from 0 to 60000"),
            (
                r#"{"requests_per_second": -1}"#,
                "`requests_per_second` is -1, expected a number above 0 and at most 100000",
            ),
            (r#"{"burst": 0}"#, "`burst` is 0, expected a whole number from 1 to 100000"),
        ] {
            assert_eq!(Config::parse(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_without_a_panic(text in ".*") {
            let _ = Config::parse(&text);
        }
    }
}
