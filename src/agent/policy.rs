//! May it? Judges a proposed change by the invariant's `allow` list. Pure; on parsed values, never on strings.

use crate::crd::{Allow, ConfigMapKey, Mode};
use crate::document;
use crate::lifecycle::Leave;
use crate::redact;

/// A change of one key of one ConfigMap in the invariant's namespace, as exact texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The ConfigMap.
    pub name: String,
    /// The key in its `data`.
    pub key: String,
    /// The key's text now.
    pub before: String,
    /// The key's text as it should be.
    pub after: String,
}

/// Why a change may not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// One PascalCase word.
    pub code: &'static str,
    /// Which part of the change, and what would be allowed.
    pub message: String,
}

/// The API server refuses a larger ConfigMap. Bytes.
const MAX_TEXT: usize = 1_000_000;

/// Whether the `allow` list permits the edit.
pub fn judge(allow: &[Allow], edit: &Edit) -> Result<(), Refusal> {
    let refuse = |code, message| Err(Refusal { code, message });
    let Edit { name, key, before, after } = edit;
    if before == after {
        return refuse("NoChange", format!("{key} of ConfigMap {name} is like that already"));
    }
    if after.contains(redact::MARKER) {
        let marker = redact::MARKER;
        return refuse("RedactionMarker", format!("the new text contains {marker}, which stands for a hidden value"));
    }
    if after.len() > MAX_TEXT {
        return refuse("TooLarge", format!("the new text has {} bytes; at most {MAX_TEXT} are allowed", after.len()));
    }
    let in_object: Vec<&ConfigMapKey> = config_entries(allow).filter(|entry| entry.name == *name).collect();
    if in_object.is_empty() {
        return refuse("ObjectNotAllowed", format!("no editConfig entry names ConfigMap {name}"));
    }
    let entries: Vec<&ConfigMapKey> = in_object.into_iter().filter(|entry| entry.key == *key).collect();
    if entries.is_empty() {
        return refuse("KeyNotAllowed", format!("no editConfig entry names key {key} of ConfigMap {name}"));
    }
    if entries.iter().any(|entry| entry.paths.is_empty()) {
        return Ok(());
    }
    judge_paths(&entries, edit)
}

fn judge_paths(entries: &[&ConfigMapKey], edit: &Edit) -> Result<(), Refusal> {
    let parse = |text: &str, which: &str| {
        document::parse(text).map_err(|error| Refusal {
            code: "NotJson",
            message: format!("{which} text of {} is {error}; only paths of it are allowed", edit.key),
        })
    };
    let (before, after) = (parse(&edit.before, "the present")?, parse(&edit.after, "the new")?);
    for found in document::differences(&before, &after) {
        let allowed = entries.iter().flat_map(|entry| &entry.paths).any(|path| document::within(&found.path, path));
        if !allowed {
            let path = if found.path.is_empty() { "the whole document" } else { &found.path };
            return Err(Refusal { code: "PathNotAllowed", message: format!("{path} of {} is not allowed", edit.key) });
        }
    }
    Ok(())
}

/// How far an allowed change may go. What a GitOps tool manages is shown to people and not written: the tool would
/// only write it back.
pub fn leave(mode: Mode, managed_by_gitops: bool) -> Leave {
    match mode {
        Mode::Observe => Leave::ProposeOnly,
        Mode::Approve | Mode::Auto if managed_by_gitops => Leave::ProposeOnly,
        Mode::Approve => Leave::NeedsApproval,
        Mode::Auto => Leave::Granted,
    }
}

/// The ConfigMap entries of an `allow` list.
pub fn config_entries(allow: &[Allow]) -> impl Iterator<Item = &ConfigMapKey> {
    allow.iter().filter_map(|entry| match entry {
        Allow::EditConfig(target) => Some(target),
        Allow::Restart(_) | Allow::Scale(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn allow(paths: &[&str]) -> Vec<Allow> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        vec![Allow::EditConfig(ConfigMapKey { name: "config".into(), key: "a.json".into(), paths })]
    }

    fn edit(before: &str, after: &str) -> Edit {
        Edit { name: "config".into(), key: "a.json".into(), before: before.into(), after: after.into() }
    }

    fn code(allow: &[Allow], edit: &Edit) -> &'static str {
        judge(allow, edit).err().map_or("Allowed", |refusal| refusal.code)
    }

    #[test]
    fn only_what_the_list_names_is_allowed() {
        let list = allow(&["/delay_ms", "/limits"]);
        let table = [
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":0}"#, "Allowed"),
            (r#"{"delay_ms":500}"#, "{}", "Allowed"),
            (r#"{"limits":{"a":1}}"#, r#"{"limits":{"a":2,"b":[3]}}"#, "Allowed"),
            (r#"{"delay_ms":500,"image":"x"}"#, r#"{"delay_ms":0,"image":"y"}"#, "PathNotAllowed"),
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":0,"extra":1}"#, "PathNotAllowed"),
            (r#"{"delay_ms":500}"#, "[]", "PathNotAllowed"),
            (r#"{"delay_ms_other":1}"#, r#"{"delay_ms_other":2}"#, "PathNotAllowed"),
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":500}"#, "NoChange"),
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":"#, "NotJson"),
            (r#"{"delay_ms":"#, r#"{"delay_ms":0}"#, "NotJson"),
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":"«redacted»"}"#, "RedactionMarker"),
        ];
        for (before, after, expected) in table {
            assert_eq!(code(&list, &edit(before, after)), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn another_object_or_key_is_refused_and_an_empty_list_allows_nothing() {
        let list = allow(&[]);
        assert_eq!(code(&list, &Edit { name: "other".into(), ..edit("1", "2") }), "ObjectNotAllowed");
        assert_eq!(code(&list, &Edit { key: "b.json".into(), ..edit("1", "2") }), "KeyNotAllowed");
        assert_eq!(code(&[], &edit("1", "2")), "ObjectNotAllowed");
    }

    #[test]
    fn a_key_that_is_allowed_as_a_whole_may_be_of_any_format() {
        assert_eq!(code(&allow(&[]), &edit("a: 1", "a: 2")), "Allowed");
    }

    #[test]
    fn a_change_that_spells_the_same_values_differently_is_within_any_paths() {
        assert_eq!(code(&allow(&["/b"]), &edit(r#"{"a":1,"b":2}"#, "{ \"b\": 3, \"a\": 1 }")), "Allowed");
    }

    #[test]
    fn how_far_a_change_may_go() {
        assert_eq!(leave(Mode::Observe, false), Leave::ProposeOnly);
        assert_eq!(leave(Mode::Approve, false), Leave::NeedsApproval);
        assert_eq!(leave(Mode::Auto, false), Leave::Granted);
        for mode in [Mode::Observe, Mode::Approve, Mode::Auto] {
            assert_eq!(leave(mode, true), Leave::ProposeOnly);
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_the_paths_ever_passes(a in 0..3, b in 0..3, c in 0..3, x in 0..3, y in 0..3, z in 0..3) {
            let before = json!({"a": a, "b": {"c": b, "d": c}});
            let after = json!({"a": x, "b": {"c": y, "d": z}});
            let allowed = judge(&allow(&["/b/c"]), &edit(&before.to_string(), &after.to_string())).is_ok();
            prop_assert_eq!(allowed, a == x && c == z && b != y);
        }
    }
}
