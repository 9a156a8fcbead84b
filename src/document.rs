//! A configuration key as a document: what differs, at which path, and how to put allowed paths back.
//!
//! Paths are JSON pointers (RFC 6901). Everything here is pure. What may be changed is judged on parsed values and never
//! on the text; a text that readers could read in two ways is not parsed at all. A change of a value changes the bytes of
//! that value and no others.

use crate::crd::ConfigMapKey;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

mod format;
mod json;
mod lines;
mod restore;
mod toml;
mod tree;
mod yaml;

pub use format::Format;
pub use restore::{RestoreError, restore};
use tree::{Kind, Node};

/// Why a text is no document of its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {format} at line {line}, column {column}: {message}")]
pub struct NotParsed {
    /// The format that it was read as.
    pub format: &'static str,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What was wrong.
    pub message: String,
}

/// An error at a byte of the text.
fn place(format: &'static str, text: &str, at: usize, message: &str) -> NotParsed {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    NotParsed { format, line, column, message: message.to_owned() }
}

/// A document that was read.
#[derive(Debug, Clone)]
pub struct Document {
    root: Node,
}

/// Reads a text.
pub fn parse(text: &str, format: Format) -> Result<Document, NotParsed> {
    if text.starts_with('\u{feff}') {
        return Err(place(format.name(), text, 0, "it begins with a byte order mark, which not every reader skips"));
    }
    let root = match format {
        Format::Json => json::parse(text),
        Format::JsonWithComments => json::parse_with_comments(text),
        Format::Yaml => yaml::parse(text),
        Format::Toml => toml::parse(text),
        Format::Properties => lines::parse_properties(text),
        Format::Env => lines::parse_env(text),
        Format::Ini => lines::parse_ini(text),
        Format::Text => Err(place(format.name(), text, 0, "it is a text without values")),
    };
    root.map(|root| Document { root })
}

impl Document {
    /// The whole of it, as it is shown: a number that cannot be shown exactly is its text.
    pub fn value(&self) -> Value {
        self.root.value()
    }

    /// The value at a JSON pointer, as it is shown.
    pub fn at(&self, path: &str) -> Option<Value> {
        self.root.at(path).map(Node::value)
    }

    /// The JSON pointer that a path means here: `[name=value]` names the one element of a list with such a member.
    pub fn resolve(&self, path: &str) -> Option<String> {
        let (mut here, mut resolved) = (Some(&self.root), String::new());
        for part in path.split('/').skip(1) {
            let mut part = part.to_owned();
            if let (Some(Kind::Sequence(elements)), Some((name, value))) = (here.map(|it| &it.kind), named(&part)) {
                let is_meant = |node: &&Node| match node.at(&format!("/{name}")).map(|it| &it.kind) {
                    Some(Kind::Scalar(scalar)) => text_of(&scalar.value) == unescape(value),
                    _ => false,
                };
                let mut meant = elements.iter().enumerate().filter(|(_, node)| is_meant(node));
                let (at, _) = meant.next()?;
                if meant.next().is_some() {
                    return None;
                }
                part = at.to_string();
            }
            here = here.and_then(|node| node.at(&format!("/{part}")));
            resolved = format!("{resolved}/{part}");
        }
        Some(resolved)
    }
}

/// The path of an `allow` list that a path of this document is at or below.
pub fn covering<'a>(allowed: &'a [String], document: &Document, path: &str) -> Option<&'a String> {
    allowed.iter().find(|it| document.resolve(it).is_some_and(|it| within(path, &it)))
}

/// Reads the text of a key that an `allow` list names.
pub fn parse_key(key: &ConfigMapKey, text: &str) -> Result<Document, NotParsed> {
    parse(text, Format::of_key(key, text))
}

/// `[name=value]`.
fn named(part: &str) -> Option<(&str, &str)> {
    part.strip_prefix('[')?.strip_suffix(']')?.split_once('=')
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// One value that differs between two documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// A JSON pointer; empty for the document itself.
    pub path: String,
    /// The value before, if there was one.
    pub before: Option<Value>,
    /// The value after, if there is one.
    pub after: Option<Value>,
}

/// Every value that differs, in the order of the paths. Lists of another length differ as a whole.
pub fn differences(before: &Document, after: &Document) -> Vec<Difference> {
    let mut found = Vec::new();
    collect(String::new(), Some(&before.root), Some(&after.root), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: String, before: Option<&Node>, after: Option<&Node>, found: &mut Vec<Difference>) {
    match (before.map(|it| &it.kind), after.map(|it| &it.kind)) {
        (Some(Kind::Mapping(one)), Some(Kind::Mapping(other))) => {
            let added = other.iter().filter(|it| !one.iter().any(|known| known.name == it.name));
            for name in one.iter().chain(added).map(|it| it.name.as_str()) {
                let find = |members: &'_ [tree::Member]| members.iter().position(|it| it.name == name);
                let (in_one, in_other) = (find(one).map(|at| &one[at].value), find(other).map(|at| &other[at].value));
                collect(format!("{path}/{}", escape(name)), in_one, in_other, found);
            }
        }
        (Some(Kind::Sequence(one)), Some(Kind::Sequence(other))) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                collect(format!("{path}/{at}"), Some(one), Some(other), found);
            }
        }
        _ => {
            let same = before.zip(after).is_some_and(|(before, after)| before.same(after));
            if !same {
                found.push(Difference { path, before: before.map(Node::value), after: after.map(Node::value) });
            }
        }
    }
}

/// Whether `path` is `allowed` or below it.
pub fn within(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// SHA-256 of a text, in hexadecimal.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A unified diff of two texts, without file names.
pub fn unified_diff(before: &str, after: &str) -> String {
    similar::TextDiff::from_lines(before, after).unified_diff().context_radius(2).to_string()
}

/// A key as one part of a JSON pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests;
