//! Secrets whose very values are known, because this process holds them.
//!
//! The set is one for the whole process: redaction is called wherever text is stored or shown, down to the display of
//! errors, and a set that is handed through all these places would be forgotten in one of them. It only grows.

use super::{Span, encoded};
use std::sync::{PoisonError, RwLock};

/// A shorter value would hide ordinary words. Bytes.
const SHORTEST: usize = 8;

static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on this value is masked wherever it stands: as it is, as JSON writes it, as base64, and cut off at the
/// end of a text. A value of less than 8 bytes is ignored.
pub fn remember(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SHORTEST {
        return;
    }
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for form in [secret.to_owned(), json, encoded::encode(secret)] {
        if !known.contains(&form) {
            known.push(form);
        }
    }
}

/// Every occurrence of a known secret.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    for secret in &*known {
        spans.extend(text.match_indices(secret.as_str()).map(|(at, _)| at..at + secret.len()));
        spans.extend(cut_off(text, secret));
    }
}

/// The start of a secret at the end of a text that was cut, perhaps with a sign that it was.
fn cut_off(text: &str, secret: &str) -> Option<Span> {
    let end = text.trim_end_matches(['…', '.', ' ']);
    let lengths = (SHORTEST..secret.len()).rev().filter(|length| secret.is_char_boundary(*length));
    let longest = lengths.map(|length| &secret[..length]).find(|start| end.ends_with(start))?;
    Some(end.len() - longest.len()..end.len())
}
