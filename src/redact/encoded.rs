//! Base64: what it says, one level deep.

use super::{Span, assignments, formats, urls};
use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD_NO_PAD};
use regex::Regex;
use std::sync::LazyLock;

/// What was cut may end in the middle of a byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, NO_PAD.with_decode_allow_trailing_bits(true));

/// Text as base64 without padding.
pub(super) fn encode(text: &str) -> String {
    STANDARD_NO_PAD.encode(text)
}

/// Whether this is `user:password` in base64.
pub(super) fn is_user_and_password(token: &str) -> bool {
    decode(token).is_some_and(|text| text.contains(':'))
}

/// Every base64 token that says a secret.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    static TOKEN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{16,}={0,2}").ok());
    let tokens = TOKEN.iter().flat_map(|token| token.find_iter(text));
    spans.extend(tokens.filter(|token| says_a_secret(token.as_str())).map(|token| token.range()));
}

fn says_a_secret(token: &str) -> bool {
    let Some(text) = decode(token) else { return false };
    let mut found = Vec::new();
    formats::find(&text, &mut found);
    urls::find(&text, &mut found);
    assignments::find(&text, &mut found);
    !found.is_empty()
}

/// The text in a token, if it is one: a stray byte at the end is left out.
fn decode(token: &str) -> Option<String> {
    let standard: String = token.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let whole = if standard.len() % 4 == 1 { &standard[..standard.len() - 1] } else { &standard };
    let text = String::from_utf8(LENIENT.decode(whole).ok()?).ok()?;
    let readable = text.chars().all(|character| !character.is_control() || character.is_ascii_whitespace());
    readable.then_some(text)
}
