//! Where a value behind a secret's name begins and ends.

use super::names::{self, Hides};
use super::{MARKER, Span};
use regex::Regex;
use std::sync::LazyLock;

mod composed;

/// Where on its line a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Nothing but an indentation is before it.
    LineStart,
    /// The same for a line within a quoted string.
    QuotedLineStart,
    /// Something else.
    Middle,
}

/// What parts a name from its value, and where the value may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Separator {
    /// `name: `, and where the name stands.
    Colon(usize, Position),
    /// `name=`, `--name `.
    Equals(usize),
    /// `<name>`.
    Tag(usize),
}

/// How far it is looked ahead for the next name. Bytes.
const LOOK_AHEAD: usize = 64;

/// What says nothing is not longer. Bytes.
const LONGEST_NOTHING: usize = 600;

/// The value of the name `word`; `None` if there is none, or none that is a secret.
pub(super) fn find(text: &str, word: &Span, hides: Hides, separator: Separator) -> Option<Span> {
    let name = &text[word.clone()];
    let (start, position) = match separator {
        Separator::Colon(start, position) => (start, Some(position)),
        Separator::Equals(start) => (start, None),
        Separator::Tag(start) => return tag(text, start),
    };
    if hides == Hides::Assigned && position.is_some() {
        return None;
    }
    let rest = &text[start..];
    if names::is_working_directory(name) && rest.starts_with('/') {
        return None;
    }
    let composed = composed::find(text, word, start, position);
    let value = match composed {
        composed::Value::Reference => return None,
        composed::Value::Ends(value) => value,
        composed::Value::Plain if hides == Hides::Composed => return None,
        composed::Value::Plain => {
            let start = start + scheme(rest);
            if is_masked(&text[start..]) {
                return None;
            }
            start..start + plain_length(&text[start..], position, names::is_cookie(name))
        }
    };
    let start = value.start + scheme(&text[value.clone()]);
    let value = start..value.end;
    let shown = text[value.clone()].trim();
    (!shown.is_empty() && !says_nothing(shown)).then_some(value)
}

/// The length of the word before credentials that says how they are meant.
fn scheme(value: &str) -> usize {
    static SCHEME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"\A(?i:bearer|basic|token|digest|apikey|negotiate|ntlm|aws4-hmac-sha256)[ \t]+").ok()
    });
    SCHEME.as_ref().and_then(|scheme| scheme.find(value)).map_or(0, |found| found.end())
}

/// Whether all of the value is masked already.
fn is_masked(rest: &str) -> bool {
    rest.strip_prefix(MARKER).is_some_and(|after| !after.starts_with(|next: char| next.is_alphanumeric()))
}

/// Values that are no secrets: switches, and what `kubectl describe` says instead of a value.
fn says_nothing(value: &str) -> bool {
    static NOTHING: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let words = r"true|false|null|nil|none|~|\*+|<none>|<unset>|<nil>|<unknown>|[0-9]+ bytes|<set to the key .*";
        Regex::new(&format!(r"\A(?i:{words})[,;.]?\z")).ok()
    });
    value.len() <= LONGEST_NOTHING && NOTHING.as_ref().is_some_and(|nothing| nothing.is_match(value))
}

/// `<name>value</name>`.
fn tag(text: &str, start: usize) -> Option<Span> {
    let length = text[start..].find('<').unwrap_or(text.len() - start);
    (length > 0 && text[start + length..].starts_with("</")).then_some(start..start + length)
}

/// The length of a value without quotes.
fn plain_length(rest: &str, position: Option<Position>, is_cookie: bool) -> usize {
    let until = |ends: &[char]| rest.find(ends).unwrap_or(rest.len());
    let length = match position {
        Some(Position::LineStart) => until(&['\n']),
        Some(Position::QuotedLineStart) => quoted_line_length(rest),
        Some(Position::Middle) | None if is_cookie => until(&['\n', '"', '\'', '`']),
        Some(Position::Middle) | None => word_length(rest),
    };
    rest[..length].trim_end().trim_end_matches('\\').len()
}

/// The length of what is left of a line within a quoted string.
fn quoted_line_length(rest: &str) -> usize {
    let mut last = ' ';
    let end = rest.char_indices().find(|(_, next)| {
        let before = std::mem::replace(&mut last, *next);
        matches!(next, '\n' | '"' | '\'' | '`') || (*next == 'n' && before == '\\')
    });
    end.map_or(rest.len(), |(at, next)| if next == 'n' { at - 1 } else { at })
}

/// The length of a value in the middle of a line. Punctuation ends it only if it is followed by what cannot be the rest
/// of a secret: the next name, more punctuation, or nothing.
fn word_length(rest: &str) -> usize {
    let mut characters = rest.char_indices();
    let end = characters.find(|(at, character)| {
        let after = &rest[at + character.len_utf8()..];
        character.is_whitespace()
            || (is_punctuation(*character) && ends_here(after))
            || (*character == '\\' && after.starts_with(['n', 'r', 't']) && ends_here(&after[1..]))
    });
    end.map_or(rest.len(), |(at, _)| at)
}

fn is_punctuation(character: char) -> bool {
    "\"'`,;&|()[]{}<>".contains(character)
}

fn ends_here(after: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"\A[ ]?(?:\\*["'])?[A-Za-z_][A-Za-z0-9_.-]{0,40}(?: [A-Za-z]{1,12})?(?:\\*["'])?\s?[=:]"#).ok()
    });
    let ahead = &after[..after.floor_char_boundary(LOOK_AHEAD.min(after.len()))];
    let next = ahead.trim_start_matches('\\').chars().next();
    next.is_none_or(|next| next.is_whitespace() || next == '…' || is_punctuation(next))
        || NAME.as_ref().is_some_and(|name| name.is_match(ahead))
}
