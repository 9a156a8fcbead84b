//! Puts values back as they were, and nothing else: bytes outside of a value stay as they are.

use super::tree::{Kind, Member, Node};
use super::{Document, Format, NotParsed, differences, json, lines, parse, unescape, within};

/// Why values cannot be put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// One of the texts is no document.
    #[error(transparent)]
    NotParsed(#[from] NotParsed),
    /// The value cannot be put back without a change of something else.
    #[error("{0} cannot be put back without changing something else")]
    CannotKeepTheRest(String),
}

/// The present text with the values at `paths` as they are in the good text, and everything else as it is, to the byte.
/// No paths: the good text itself.
pub fn restore(current: &str, good: &str, paths: &[String], format: Format) -> Result<String, RestoreError> {
    if paths.is_empty() {
        return Ok(good.to_owned());
    }
    let (before, wanted) = (parse(current, format)?, parse(good, format)?);
    let mut text = current.to_owned();
    for path in paths {
        let present = parse(&text, format)?;
        text = restore_one(&text, &present, good, &wanted, path, format)?;
    }
    // Whatever the layout of the two texts is, the result is right, or it is not used.
    let cannot = || RestoreError::CannotKeepTheRest(paths.join(", "));
    let after = parse(&text, format).map_err(|_| cannot())?;
    let is_restored = |path: &String| match (after.root.at(path), wanted.root.at(path)) {
        (Some(one), Some(other)) => one.same(other),
        (one, other) => one.is_none() && other.is_none(),
    };
    let kept_the_rest =
        differences(&before, &after).iter().all(|found| paths.iter().any(|path| within(&found.path, path)));
    if paths.iter().all(is_restored) && kept_the_rest { Ok(text) } else { Err(cannot()) }
}

fn restore_one(
    text: &str,
    present: &Document,
    good: &str,
    wanted: &Document,
    path: &str,
    format: Format,
) -> Result<String, RestoreError> {
    let cannot = || RestoreError::CannotKeepTheRest(path.to_owned());
    match (present.root.at(path), wanted.root.at(path)) {
        (Some(now), Some(then)) if now.same(then) => Ok(text.to_owned()),
        (Some(now), Some(then)) => {
            let (start, end) = (&text[..now.span.start], &text[now.span.end..]);
            Ok(format!("{start}{}{end}", &good[then.span.clone()]))
        }
        (None, None) => Ok(text.to_owned()),
        (Some(_), None) => {
            let (parent, members, name) = parent(present, path).ok_or_else(cannot)?;
            let at = members.iter().position(|it| it.name == name && !it.entry.is_empty()).ok_or_else(cannot)?;
            if is_flow(text, parent) {
                return Ok(json::remove(text, members, at));
            }
            Ok(lines::remove(text, &whole_lines(text, &members[at])))
        }
        (None, Some(_)) => {
            let (parent, members, name) = parent(present, path).ok_or_else(cannot)?;
            let (theirs, siblings, _) = self::parent(wanted, path).ok_or_else(cannot)?;
            let at = siblings.iter().position(|it| it.name == name && !it.entry.is_empty()).ok_or_else(cannot)?;
            // Behind the nearest of the members before it that is there now.
            let there = |name: &str| members.iter().position(|it| it.name == name && !it.entry.is_empty());
            let before = siblings[..at].iter().rev().find_map(|it| there(&it.name));
            if is_flow(text, parent) {
                let entry =
                    if is_flow(good, theirs) { &good[siblings[at].entry.clone()] } else { return Err(cannot()) };
                return Ok(json::insert(text, parent, members, before, entry));
            }
            if is_flow(good, theirs) {
                return Err(cannot());
            }
            let entry = &good[whole_lines(good, &siblings[at])];
            let place = match before {
                Some(before) => whole_lines(text, &members[before]).end,
                None => first_place(text, parent, members, format, path.matches('/').count() > 1).ok_or_else(cannot)?,
            };
            Ok(lines::insert(text, place, entry))
        }
    }
}

/// The mapping that holds a path, its members, and the path's own name.
fn parent<'a>(document: &'a Document, path: &str) -> Option<(&'a Node, &'a [Member], String)> {
    let (parent, name) = path.rsplit_once('/')?;
    let node = document.root.at(parent)?;
    match &node.kind {
        Kind::Mapping(members) => Some((node, members, unescape(name))),
        Kind::Scalar(_) | Kind::Sequence(_) => None,
    }
}

/// A mapping in braces.
fn is_flow(text: &str, mapping: &Node) -> bool {
    text[mapping.span.clone()].starts_with('{')
}

/// The lines that an entry stands on.
fn whole_lines(text: &str, member: &Member) -> std::ops::Range<usize> {
    let start = text[..member.entry.start].rfind('\n').map_or(0, |at| at + 1);
    let end = member.entry.end.max(start);
    if end > start && text[..end].ends_with('\n') {
        return start..end;
    }
    start..text[end..].find('\n').map_or(text.len(), |at| end + at + 1)
}

/// Where the first entry of a mapping of lines goes.
fn first_place(text: &str, parent: &Node, members: &[Member], format: Format, is_section: bool) -> Option<usize> {
    match (format, members.iter().find(|it| !it.entry.is_empty())) {
        // Behind the line with the section's name.
        (Format::Ini | Format::Toml, _) if is_section => {
            Some(text[parent.span.start..].find('\n').map_or(text.len(), |at| parent.span.start + at + 1))
        }
        (_, Some(first)) => Some(whole_lines(text, first).start),
        (Format::Yaml, None) => None,
        (Format::Ini | Format::Toml, None) => Some(0),
        (_, None) => Some(text.len()),
    }
}
