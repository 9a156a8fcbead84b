//! Values that say themselves where they end: quoted strings, lists, objects, blocks of YAML.

use super::Position;
use crate::redact::Span;
use regex::Regex;
use std::sync::LazyLock;

/// What was found.
pub(super) enum Value {
    /// It is composed and ends here.
    Ends(Span),
    /// It only names a secret, or says how one is mounted.
    Reference,
    /// It is not composed.
    Plain,
}

/// The composed value of the name `word` that begins at `start`. One without an end goes on to the end of the text.
pub(super) fn find(text: &str, word: &Span, start: usize, position: Option<Position>) -> Value {
    let rest = &text[start..];
    if let Some(content) = of_several_lines(rest) {
        return Value::Ends(start + content.start..start + content.end);
    }
    if let Some(opening) = opening(rest) {
        let content = start + opening.length;
        return Value::Ends(content..content + quoted_length(&text[content..], &opening));
    }
    let is_nested = rest.starts_with(['{', '[', '\n']);
    if is_nested && is_reference(rest) {
        return Value::Reference;
    }
    if rest.starts_with(['{', '[']) {
        return Value::Ends(start..start + balanced_length(rest));
    }
    match position {
        Some(Position::LineStart) => block(text, word, start).map_or(Value::Plain, Value::Ends),
        Some(Position::QuotedLineStart) if is_block_indicator(rest) || rest.starts_with("\\n ") => {
            let mut last = ' ';
            let end = rest.find(|next: char| {
                let before = std::mem::replace(&mut last, next);
                next == '"' && before != '\\'
            });
            Value::Ends(start..start + end.unwrap_or(rest.len()))
        }
        Some(Position::QuotedLineStart | Position::Middle) | None => Value::Plain,
    }
}

/// The content of a string between three quotes, as Python and TOML write it.
fn of_several_lines(rest: &str) -> Option<Span> {
    static QUOTES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\A(?:[bBrRuUfF]{1,2})?("{3}|'{3})"#).ok());
    let quotes = QUOTES.as_ref()?.captures(rest)?.get(1)?;
    let content = &rest[quotes.end()..];
    Some(quotes.end()..quotes.end() + content.find(quotes.as_str()).unwrap_or(content.len()))
}

/// How a quoted string was opened.
struct Opening {
    /// With what comes before the quote.
    length: usize,
    quote: u8,
    /// How many backslashes are before the quote: 1 in a string within a string.
    backslashes: usize,
}

fn opening(rest: &str) -> Option<Opening> {
    static OPENING: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\A(?:[bBrRuUfF$@]{1,2})?(\\*)(["'`])"#).ok());
    let found = OPENING.as_ref()?.captures(rest)?;
    let quote = *found.get(2)?.as_str().as_bytes().first()?;
    Some(Opening { length: found.get(0)?.end(), quote, backslashes: found.get(1)?.len() })
}

/// The length of a string's content, up to the quote that closes it: one that is escaped as its opening is.
fn quoted_length(content: &str, opening: &Opening) -> usize {
    let bytes = content.as_bytes();
    let mut backslashes: usize = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'\\' {
            backslashes += 1;
        } else if *byte == opening.quote {
            let doubled = opening.quote == b'\'' && backslashes == 0 && bytes.get(at + 1) == Some(&b'\'');
            let escaped = backslashes.checked_sub(opening.backslashes);
            if doubled {
                at += 1;
            } else if escaped.is_some_and(|more| more % (2 * (opening.backslashes + 1)) == 0) {
                return at - opening.backslashes;
            }
            backslashes = 0;
        } else {
            backslashes = 0;
        }
        at += 1;
    }
    bytes.len()
}

/// The length of a list or an object with its brackets.
fn balanced_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut backslashes, mut at) = (0_usize, 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let opening = Opening { length: 1, quote: b'"', backslashes };
                at += 1 + quoted_length(&rest[at + 1..], &opening) + backslashes;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        backslashes = if bytes.get(at) == Some(&b'\\') { backslashes + 1 } else { 0 };
        at += 1;
    }
    bytes.len()
}

/// Whether the fields are those of a volume's or a token's reference in a pod.
fn is_reference(value: &str) -> bool {
    static FIELD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let field = r"(?:secretName|expirationSeconds|audience|defaultMode)\b|Type: +[A-Z][A-Za-z]+ \(a ";
        Regex::new(&format!(r#"\A[\s{{\[\\"'+-]*(?:{field})"#)).ok()
    });
    FIELD.as_ref().is_some_and(|field| field.is_match(value))
}

fn is_block_indicator(rest: &str) -> bool {
    static INDICATOR: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\A(?:[&!]\S*[ \t]+)*[|>][+-]?[0-9]?[+-]?[ \t]*(?:#[^\n]*)?(?:\n|\\n|\z)").ok());
    INDICATOR.as_ref().is_some_and(|indicator| indicator.is_match(rest))
}

/// Whether nothing but an anchor, a tag or a comment is left on the line: then the value is below.
fn is_below(rest: &str) -> bool {
    static NOTHING: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A(?:[&!]\S*[ \t]*)*(?:#[^\n]*)?\n").ok());
    NOTHING.as_ref().is_some_and(|nothing| nothing.is_match(rest))
}

/// A block of YAML below a name at the start of a line: all lines that are indented deeper than the name.
fn block(text: &str, word: &Span, start: usize) -> Option<Span> {
    let rest = &text[start..];
    let is_scalar = is_block_indicator(rest);
    let first_line_end = rest.find('\n')?;
    if !is_scalar && !is_below(rest) {
        return None;
    }
    let line_start = text[..word.start].rfind('\n').map_or(0, |at| at + 1);
    let column = indentation(&text[line_start..]);
    let mut end = None;
    let mut at = start + first_line_end + 1;
    let first = at;
    for line in text[at..].split_inclusive('\n') {
        let content = line.trim_end();
        if !is_blank(content) {
            if indentation(content) <= column {
                break;
            }
            end = Some(at + content.len());
        }
        at += line.len();
    }
    let begin = if is_scalar { start } else { first + indentation(&text[first..]) };
    end.filter(|end| *end > begin).map(|end| begin..end)
}

/// How many characters are before the content of a line; the signs of a diff and of lists count as such.
fn indentation(line: &str) -> usize {
    line.bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'+' | b'-')).count()
}

fn is_blank(line: &str) -> bool {
    indentation(line) == line.len()
}
