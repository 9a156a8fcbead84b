//! What comes from a target is untrusted and may hold secrets: before it is stored or shown, it passes through here.

use crate::crd::PathChange;
use crate::document::{self, Difference};
use serde_json::Value;

/// What stands in for a secret. A proposed change that contains it is refused.
pub const MARKER: &str = "«redacted»";

const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "authorization",
    "credential",
    "privatekey",
    "connectionstring",
];

const SECRET_PREFIXES: [&str; 10] =
    ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA", "eyJ"];

/// One line of at most `limit` characters: control characters gone, secrets masked.
pub fn line(text: &str, limit: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&mask(&plain), limit)
}

/// Text of at most `limit` characters that keeps its lines.
pub fn block(text: &str, limit: usize) -> String {
    let plain: String = text.chars().filter(|c| *c == '\n' || !c.is_control()).collect();
    cut(&mask(&plain), limit)
}

/// A JSON value at a path, as text of at most 256 characters; masked where the path names a secret.
pub fn value(path: &str, value: &Value) -> String {
    if path.split('/').any(names_a_secret) {
        return MARKER.to_owned();
    }
    line(&value.to_string(), 256)
}

/// The two sides of a difference, as [`value`] shows them.
pub fn sides(difference: &Difference) -> (Option<String>, Option<String>) {
    let side = |side: &Option<Value>| side.as_ref().map(|found| value(&difference.path, found));
    (side(&difference.before), side(&difference.after))
}

/// How two texts of a key differ, as tickets show it: by path where both are JSON, else as a whole; at most 32 changes.
pub fn changes(before: &str, after: &str) -> Vec<PathChange> {
    let (Ok(old), Ok(new)) = (document::parse(before), document::parse(after)) else {
        let (before, after) = (Some(line(before, 256)), Some(line(after, 256)));
        return vec![PathChange { path: String::new(), before, after }];
    };
    let differences = document::differences(&old, &new);
    let shown = differences.iter().take(32).map(|found| {
        let (before, after) = sides(found);
        PathChange { path: line(&found.path, 256), before, after }
    });
    shown.collect()
}

fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

fn mask(text: &str) -> String {
    if text.contains("-----BEGIN ") {
        return MARKER.to_owned();
    }
    let mut masked = String::with_capacity(text.len());
    let mut after_secret_name = false;
    for word in text.split_inclusive(|c: char| c.is_whitespace() || "\"'=:,;{}[]()<>&".contains(c)) {
        let end = word.char_indices().next_back().map_or(0, |(at, _)| at);
        let last_is_separator = word.ends_with(|c: char| c.is_whitespace() || "\"'=:,;{}[]()<>&".contains(c));
        let (body, separator) = if last_is_separator { word.split_at(end) } else { (word, "") };
        let is_value = !body.is_empty() && after_secret_name && !body.eq_ignore_ascii_case("bearer");
        masked.push_str(if is_value || looks_secret(body) { MARKER } else { body });
        masked.push_str(separator);
        if is_value || separator == "," || separator == ";" || separator == "\n" {
            after_secret_name = false;
        }
        after_secret_name |= names_a_secret(body);
    }
    masked
}

fn names_a_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|secret| plain.ends_with(secret))
}

fn looks_secret(word: &str) -> bool {
    word.len() >= 16 && SECRET_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_behind_a_secret_name_is_masked() {
        assert_eq!(
            line(r#"{"password": "hunter2", "delay_ms": 5}"#, 256),
            r#"{"password": "«redacted»", "delay_ms": 5}"#
        );
        assert_eq!(line("Authorization: Bearer abc.def", 256), "Authorization: Bearer «redacted»");
        assert_eq!(value("/db/api_key", &json!("x")), MARKER);
    }

    #[test]
    fn known_token_formats_are_masked_wherever_they_stand() {
        assert_eq!(line("seen ghp_0123456789abcdef here", 256), "seen «redacted» here");
    }

    #[test]
    fn plain_values_stay() {
        assert_eq!(value("/delay_ms", &json!(500)), "500");
        assert_eq!(line("status 503 after 2 ms", 256), "status 503 after 2 ms");
    }

    #[test]
    fn control_characters_never_pass() {
        assert_eq!(line("a\x1b[31mb\nc", 256), "a [31mb c");
        assert_eq!(block("a\x1bb\nc", 256), "ab\nc");
    }

    #[test]
    fn long_text_is_cut_with_a_sign() {
        assert_eq!(line("abcdef", 4), "abc…");
    }
}
