//! Passwords in the authority of a URL: only the password goes.

use super::Span;
use regex::Regex;
use std::sync::LazyLock;

/// A longer authority is none. Bytes.
const LONGEST: usize = 512;

/// Every password of `scheme://user:password@host`.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    // Slashes may be escaped, as in JSON; a user's name may be absent.
    static START: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"[A-Za-z][A-Za-z0-9+.-]{0,31}:(?:\\*/){2}[^\s/?#"'<>:@\\]{0,256}:"#).ok());
    let starts = START.iter().flat_map(|start| start.find_iter(text));
    spans.extend(starts.filter_map(|start| password(text, start.end())));
}

fn password(text: &str, start: usize) -> Option<Span> {
    let end_of_window = text.floor_char_boundary((start + LONGEST).min(text.len()));
    let rest = &text[start..end_of_window];
    let rest = &rest[..rest.find(|it: char| it.is_whitespace() || "\"'<>`".contains(it)).unwrap_or(rest.len())];
    let authority = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let is_port = authority > 0 && rest[..authority].bytes().all(|byte| byte.is_ascii_digit());
    let end = match rest[..authority].rfind('@') {
        Some(end) => end,
        None if is_port => return None,
        // A password with an unescaped slash.
        None => rest.find('@')?,
    };
    (end > 0).then_some(start..start + end)
}
