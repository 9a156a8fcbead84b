//! What comes from a target is untrusted and may hold secrets: before it is stored or shown, it passes through here.
//!
//! A secret is known by its value ([`remember`]), by its form (`formats`, `urls`), by the name before it (`assignments`
//! with `names` and `values`), by what it says in base64 (`encoded`), or by its looks (`entropy`). Each of these gives
//! spans of the text, in time linear in its length. When in doubt, more is hidden.

mod assignments;
mod encoded;
mod entropy;
mod formats;
mod invisible;
mod known;
mod names;
#[cfg(test)]
mod tests;
mod urls;
mod values;

pub use invisible::is_invisible;
pub use known::remember;

use crate::crd::PathChange;
use crate::document::{self, Difference, Format};
use names::Hides;
use serde_json::Value;
use std::ops::Range;

/// What stands in for a secret. A proposed change that contains it is refused.
pub const MARKER: &str = "«redacted»";

/// How often a text is looked through: masking one secret may show another.
const PASSES: usize = 8;

/// So many times its limit is looked through for an excerpt.
const EXCERPT_CONTEXT: usize = 16;

/// A part of a text, in bytes.
type Span = Range<usize>;

/// One line of at most `limit` characters: control characters and invisible ones gone, secrets masked.
pub fn line(text: &str, limit: usize) -> String {
    let seen = text.chars().filter(|c| !is_invisible(*c));
    let plain = seen.map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    settle(plain, |masked| cut(&masked.replace('\n', " "), limit))
}

/// Text of at most `limit` characters that keeps its lines.
pub fn block(text: &str, limit: usize) -> String {
    let tabs = text.chars().filter(|c| !is_invisible(*c)).map(|c| if c == '\t' { ' ' } else { c });
    settle(tabs.filter(|c| *c == '\n' || !c.is_control()).collect(), |masked| cut(masked, limit))
}

/// The start of a long text, as [`block`] shows it. So much behind it is read as may say what of it is secret, and no
/// more: the work is bounded by the limit, and not by the text.
pub fn excerpt(text: &str, limit: usize) -> String {
    let end = text.floor_char_boundary(limit.saturating_mul(EXCERPT_CONTEXT));
    let (start, rest) = text.split_at(end);
    if !rest.is_empty() && names::shows_a_secret_object(text) && !names::shows_a_secret_object(start) {
        return MARKER.to_owned();
    }
    block(start, limit)
}

/// Text of any length as it is, but for its secrets.
pub fn text(text: &str) -> String {
    settle(text.to_owned(), str::to_owned)
}

/// How two texts differ, as a unified diff of at most `limit` characters in which secrets are masked. They are masked
/// before the texts are compared: a diff may show the middle of a secret without the line that names it.
pub fn diff(before: &str, after: &str, limit: usize) -> String {
    let whole = |text: &str| block(text, usize::MAX);
    let diff = document::unified_diff(&whole(before), &whole(after));
    if hidden(before) == hidden(after) {
        return block(&diff, limit);
    }
    let note = format!("# values that are shown as {MARKER} differ, too\n");
    let room = limit.saturating_sub(note.chars().count());
    format!("{}{note}", block(&diff, room))
}

/// Whether a variable, a field or a parameter of this name holds a secret.
pub fn names_a_secret(name: &str) -> bool {
    names::hides(name) == Some(Hides::Everything)
}

/// A JSON value at a path, as text of at most 256 characters; masked where the path names a secret.
pub fn value(path: &str, value: &Value) -> String {
    let is_composed = !(value.is_number() || value.is_boolean() || value.is_null());
    let hides = |name: &str| match names::hides(name) {
        Some(Hides::Everything) => true,
        Some(Hides::Composed) => is_composed,
        Some(Hides::Assigned) | None => false,
    };
    if path.split('/').any(hides) {
        return MARKER.to_owned();
    }
    line(&value.to_string(), 256)
}

/// The two sides of a difference, as [`value`] shows them.
pub fn sides(difference: &Difference) -> (Option<String>, Option<String>) {
    let side = |side: &Option<Value>| side.as_ref().map(|found| value(&difference.path, found));
    (side(&difference.before), side(&difference.after))
}

/// How two texts of a key differ, as tickets show it: by path where both are of this format, else as a whole; at most 32
/// changes.
pub fn changes(format: Format, before: &str, after: &str) -> Vec<PathChange> {
    let (Ok(old), Ok(new)) = (document::parse(before, format), document::parse(after, format)) else {
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

/// Masks and shapes a text until nothing changes any more: whatever comes out would come out of itself.
fn settle(mut text: String, shape: impl Fn(&str) -> String) -> String {
    for _ in 0..PASSES {
        let next = shape(&mask(&text));
        if next == text {
            return next;
        }
        text = next;
    }
    // Somebody took pains to get here.
    shape(MARKER)
}

fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut at = 0;
    for secret in secrets(text) {
        masked.push_str(&text[at..secret.start]);
        masked.push_str(MARKER);
        at = secret.end;
    }
    masked.push_str(&text[at..]);
    masked
}

/// Where the secrets of a text are: in order, apart from each other.
fn secrets(text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    known::find(text, &mut found);
    formats::find(text, &mut found);
    urls::find(text, &mut found);
    assignments::find(text, &mut found);
    encoded::find(text, &mut found);
    entropy::find(text, &mut found);
    found.retain(|span| !span.is_empty());
    found.sort_by_key(|span| span.start);
    let mut apart: Vec<Span> = Vec::with_capacity(found.len());
    for span in found {
        match apart.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            Some(_) | None => apart.push(span),
        }
    }
    apart
}

/// The secrets of a text themselves.
fn hidden(text: &str) -> Vec<&str> {
    secrets(text).into_iter().map(|span| &text[span]).collect()
}
