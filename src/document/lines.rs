//! Formats of lines: Java's `.properties`, `.env`, and INI. A name that stands twice, a line that is none of the format's
//! and a quote that is not closed on its line are read differently by different readers, and so not at all.

use super::json::string_node;
use super::tree::{Kind, Member, Node, repeated};
use super::{NotParsed, place};
use std::ops::Range;

/// Lines with their ends, by their bytes.
fn lines(text: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let span = at..at + line.len();
        at = span.end;
        span
    })
}

fn without_end(text: &str, span: Range<usize>) -> Range<usize> {
    span.start..span.start + text[span].trim_end_matches(['\n', '\r']).len()
}

/// What of a span is no white space at its ends.
fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let inside = &text[span.clone()];
    let start = span.start + (inside.len() - inside.trim_start().len());
    start..start + inside.trim().len()
}

fn mapping(text: &str, format: &'static str, span: Range<usize>, members: Vec<Member>) -> Result<Node, NotParsed> {
    match repeated(&members) {
        Some(member) => {
            let message = format!("the name {:?} stands there twice", member.name);
            Err(place(format, text, member.entry.start, &message))
        }
        None => Ok(Node { span, kind: Kind::Mapping(members) }),
    }
}

/// Reads a `.properties` file, as `java.util.Properties` documents it.
pub(super) fn parse_properties(text: &str) -> Result<Node, NotParsed> {
    const FORMAT: &str = "a properties file";
    let (mut members, mut pending) = (Vec::new(), lines(text));
    while let Some(first) = pending.next() {
        let start = text[first.clone()].trim_start();
        if start.trim_end().is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = first.clone();
        while is_continued(&text[without_end(text, whole.clone())]) {
            match pending.next() {
                Some(next) => whole.end = next.end,
                None => break,
            }
        }
        let logical = without_end(text, whole.clone());
        let (name_end, value_start) = separator(text, &logical);
        let name_start = logical.end - text[logical.clone()].trim_start().len();
        let name = unescaped(&text[name_start..name_end])
            .ok_or_else(|| place(FORMAT, text, name_start, "an escape in a name is not complete"))?;
        let span = value_start..logical.end;
        let value = unescaped(&text[span.clone()])
            .ok_or_else(|| place(FORMAT, text, value_start, "an escape in a value is not complete"))?;
        members.push(Member { name, entry: whole, value: string_node(span, &value) });
    }
    mapping(text, FORMAT, 0..text.len(), members)
}

fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Where the name ends, and where the value begins.
fn separator(text: &str, line: &Range<usize>) -> (usize, usize) {
    let start = line.end - text[line.clone()].trim_start().len();
    let mut escaped = false;
    let mut name_end = line.end;
    for (at, c) in text[start..line.end].char_indices() {
        if !escaped && (matches!(c, '=' | ':') || c.is_whitespace()) {
            name_end = start + at;
            break;
        }
        escaped = c == '\\' && !escaped;
    }
    let blank = |c: char| matches!(c, ' ' | '\t' | '\u{c}');
    let rest = text[name_end..line.end].trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).map_or(rest, |rest| rest.trim_start_matches(blank));
    (name_end, line.end - rest.len())
}

/// The text of a name or a value; `None`: an escape is not complete.
fn unescaped(raw: &str) -> Option<String> {
    let (mut text, mut rest) = (Vec::new(), raw.chars().peekable());
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().copied());
            continue;
        }
        let plain = match rest.next() {
            Some('t') => '\t',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('f') => '\u{c}',
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                text.push(u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4)?);
                continue;
            }
            Some(end @ ('\n' | '\r')) => {
                if end == '\r' && rest.peek() == Some(&'\n') {
                    rest.next();
                }
                while rest.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\u{c}')) {
                    rest.next();
                }
                continue;
            }
            Some(other) => other,
            None => return Some(String::from_utf16_lossy(&text)),
        };
        text.extend(plain.encode_utf16(&mut [0; 2]).iter().copied());
    }
    Some(String::from_utf16_lossy(&text))
}

/// Reads a `.env` file: `NAME=VALUE` lines, with quotes or without.
pub(super) fn parse_env(text: &str) -> Result<Node, NotParsed> {
    const FORMAT: &str = "an env file";
    let mut members = Vec::new();
    for whole in lines(text) {
        let line = trimmed(text, whole.clone());
        if line.is_empty() || text[line.clone()].starts_with('#') {
            continue;
        }
        let fail = |message: &str| place(FORMAT, text, line.start, message);
        let assignment = text[line.clone()].strip_prefix("export ").unwrap_or(&text[line.clone()]);
        let (name, raw) = assignment.split_once('=').ok_or_else(|| fail("a line is not NAME=VALUE"))?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(named) {
            return Err(fail("a name has other characters than letters, digits, _, . and -"));
        }
        let span = trimmed(text, line.end - raw.len()..line.end);
        let raw = &text[span.clone()];
        let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let shown = match quote {
            Some(quote) => {
                let inside = raw[1..].strip_suffix(quote).filter(|inside| !inside.contains(['"', '\'', '`', '\\']));
                inside.ok_or_else(|| fail("a quote is not closed, or stands within quotes"))?
            }
            None => raw,
        };
        let mut value = string_node(span, shown);
        if let Kind::Scalar(scalar) = &mut value.kind {
            // What quotes mean, and where a comment begins, readers do not agree on.
            raw.clone_into(&mut scalar.identity);
        }
        members.push(Member { name: name.to_owned(), entry: whole, value });
    }
    mapping(text, FORMAT, 0..text.len(), members)
}

/// Reads an INI file: sections of `name = value` lines; names before the first section stand beside the sections.
pub(super) fn parse_ini(text: &str) -> Result<Node, NotParsed> {
    const FORMAT: &str = "an INI file";
    let mut root: Vec<Member> = Vec::new();
    let mut section: Option<(String, Range<usize>, Vec<Member>)> = None;
    let close = |section: Option<(String, Range<usize>, Vec<Member>)>, root: &mut Vec<Member>| {
        if let Some((name, span, members)) = section {
            let value = mapping(text, FORMAT, span.clone(), members)?;
            root.push(Member { name, entry: span, value });
        }
        Ok::<(), NotParsed>(())
    };
    for whole in lines(text) {
        let line = trimmed(text, whole.clone());
        let shown = &text[line.clone()];
        let fail = |message: &str| place(FORMAT, text, line.start, message);
        if shown.is_empty() || shown.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = shown.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| fail("the name of a section is not closed"))?;
            close(section.take(), &mut root)?;
            section = Some((name.trim().to_owned(), whole, Vec::new()));
            continue;
        }
        if line.start > whole.start {
            return Err(fail("a line is indented: some readers take it for a part of the one before"));
        }
        let at = shown.find(['=', ':']).ok_or_else(|| fail("a line is not NAME = VALUE"))?;
        let span = trimmed(text, line.start + at + 1..line.end);
        let value = string_node(span.clone(), &text[span]);
        let member = Member { name: shown[..at].trim().to_owned(), entry: whole.clone(), value };
        match &mut section {
            Some((_, span, members)) => {
                span.end = whole.end;
                members.push(member);
            }
            None => root.push(member),
        }
    }
    close(section.take(), &mut root)?;
    mapping(text, FORMAT, 0..text.len(), root)
}

/// The text without the lines of an entry.
pub(super) fn remove(text: &str, entry: &Range<usize>) -> String {
    format!("{}{}", &text[..entry.start], &text[entry.end..])
}

/// The text with the lines of an entry more, from `at` on.
pub(super) fn insert(text: &str, at: usize, entry: &str) -> String {
    let before = &text[..at];
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let open = if before.is_empty() || before.ends_with('\n') { "" } else { ending };
    let close = if entry.ends_with('\n') || (at == text.len() && !open.is_empty()) { "" } else { ending };
    format!("{before}{open}{entry}{close}{}", &text[at..])
}
