//! Values behind the name of a secret: `name: value`, `name=value`, `--name value`, `<name>value</name>`, and
//! `name: NAME` with `value: …` beside it.

use super::values::{self, Position, Separator};
use super::{Span, names};
use names::Hides;
use regex::Regex;
use std::sync::LazyLock;

/// A deeper indentation, or a longer run of signs, is not looked through for the start of the line. Bytes.
const LONGEST_INDENTATION: usize = 256;

/// Every value of a name that stands for a secret.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    let secret_object = names::shows_a_secret_object(text);
    let mut at = 0;
    let mut beside_a_secret_name = false;
    while let Some(word) = next_word(text, at) {
        at = word.end;
        let name = &text[word.clone()];
        let is_its_value = std::mem::take(&mut beside_a_secret_name) && name.eq_ignore_ascii_case("value");
        let is_data = secret_object && matches!(name, "data" | "stringData");
        let hides = if is_its_value || is_data { Some(Hides::Everything) } else { names::hides(name) };
        if let Some(hides) = hides {
            let found = separator(text, &word).and_then(|separator| values::find(text, &word, hides, separator));
            if let Some(value) = found {
                at = at.max(value.end);
                spans.push(value);
            }
        } else if (name.eq_ignore_ascii_case("name") || name.eq_ignore_ascii_case("key"))
            && let Some(named) = secret_name_behind(text, &word)
        {
            at = named.end;
            beside_a_secret_name = true;
        }
    }
}

/// The next run of characters that names are made of.
fn next_word(text: &str, from: usize) -> Option<Span> {
    let bytes = text.as_bytes();
    let mut start = from + bytes.get(from..)?.iter().position(|byte| is_name(*byte))?;
    let end = bytes[start..].iter().position(|byte| !is_name(*byte)).map_or(bytes.len(), |length| start + length);
    // A line break or a tab that is written as two characters.
    if start > 0 && bytes[start - 1] == b'\\' && matches!(bytes[start], b'n' | b'r' | b't') {
        start += 1;
    }
    Some(start..end)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// What parts a name from its value.
fn separator(text: &str, word: &Span) -> Option<Separator> {
    static SIGN: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\A(?:\\*["'`])?\]?[ \t]*(:=|=>|={1,3}|:|%3[AaDd])(?:[ \t]*)"#).ok());
    static FLAG: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\A(?:\\*["'])?(?:[ \t]*,\s*|[ \t]*\n[ \t+]*-[ \t]+|[ \t]+)[^\s-]"#).ok());
    let rest = &text[word.end..];
    if let Some(found) = SIGN.as_ref().and_then(|sign| sign.captures(rest)) {
        let (whole, sign) = (found.get(0)?, found.get(1)?.as_str());
        // A path of a program's names.
        let is_path = sign == ":" && rest[whole.start()..].trim_start_matches(['"', '\'', '`']).starts_with("::");
        let end = word.end + whole.end();
        let assigns = sign != ":" && !sign.eq_ignore_ascii_case("%3a");
        return (!is_path)
            .then(|| if assigns { Separator::Equals(end) } else { Separator::Colon(end, position(text, word)) });
    }
    let before = text.as_bytes()[..word.start].last();
    if before == Some(&b'<') && rest.starts_with('>') {
        return Some(Separator::Tag(word.end + 1));
    }
    let found = FLAG.as_ref().filter(|_| text[word.clone()].starts_with('-')).and_then(|flag| flag.find(rest))?;
    let last = rest[..found.end()].chars().next_back().map_or(0, char::len_utf8);
    Some(Separator::Equals(word.end + found.end() - last))
}

/// Where on its line a name stands.
fn position(text: &str, word: &Span) -> Position {
    let bytes = text.as_bytes();
    let is_quoted = matches!(bytes.get(word.end), Some(b'"' | b'\'' | b'\\' | b'`'));
    let mut start = word.start;
    let is_quote = |at: usize| matches!(bytes[at], b'"' | b'\'' | b'`');
    if is_quoted && start > 0 && is_quote(start - 1) {
        start -= 1;
        start -= bytes[..start].iter().rev().take_while(|byte| **byte == b'\\').count();
    }
    let is_margin = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'+' | b'-' | b'#' | b'>' | b'*' | b'?');
    start -= bytes[..start].iter().rev().take(LONGEST_INDENTATION).take_while(is_margin).count();
    match bytes[..start] {
        [] | [.., b'\n'] => Position::LineStart,
        [.., b'"' | b'\'' | b'`'] | [.., b'\\', b'n' | b'r' | b't'] => Position::QuotedLineStart,
        // The letter of a written line break was taken off the name.
        _ if start == word.start && start > 1 && bytes[start - 2] == b'\\' && bytes[start - 1] == b'n' => {
            Position::QuotedLineStart
        }
        _ => Position::Middle,
    }
}

/// The name of a secret that is the value of `name` or `key`, and has no value of its own.
fn secret_name_behind(text: &str, word: &Span) -> Option<Span> {
    let (Separator::Colon(end, _) | Separator::Equals(end)) = separator(text, word)? else { return None };
    let named = next_word(text, end)?;
    let gap = text[end..named.start].trim_start_matches('\\');
    let follows = gap.is_empty() || gap == "\"" || gap == "'";
    (follows && names::hides(&text[named.clone()]).is_some() && separator(text, &named).is_none()).then_some(named)
}
