//! May it? Judges a proposed change by the invariant's `allow` list. Pure; on parsed values, never on strings.

use super::breaker::Open;
use super::change::ProposedChange;
use super::target::kind_name;
use crate::crd::{Allow, ConfigMapKey, Mode, ScaleBounds, Workload};
use crate::document::{self, Format};
use crate::lifecycle::Leave;
use crate::outage::Outage;
use crate::redact;
use std::fmt;

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

/// Whether the `allow` list permits a change.
pub fn judge(allow: &[Allow], change: &ProposedChange) -> Result<(), Refusal> {
    match change {
        ProposedChange::EditConfig(edit) => judge_edit(allow, edit),
        ProposedChange::Restart(workload) => may_restart(allow, workload),
        ProposedChange::Rollback { workload, to: _ } => may_roll_back(allow, workload),
        ProposedChange::Scale { workload, replicas } => may_scale(allow, workload, *replicas),
    }
}

/// Whether the `allow` list permits a restart.
pub fn may_restart(allow: &[Allow], workload: &Workload) -> Result<(), Refusal> {
    let named = allow.iter().any(|entry| matches!(entry, Allow::Restart(named) if named == workload));
    if named { Ok(()) } else { Err(not_named("RestartNotAllowed", "restart", workload)) }
}

/// Whether the `allow` list permits a rollback.
pub fn may_roll_back(allow: &[Allow], workload: &Workload) -> Result<(), Refusal> {
    let named = allow.iter().any(|entry| matches!(entry, Allow::Rollback(named) if named == workload));
    if named { Ok(()) } else { Err(not_named("RollbackNotAllowed", "rollback", workload)) }
}

fn may_scale(allow: &[Allow], workload: &Workload, replicas: u32) -> Result<(), Refusal> {
    let Some(bounds) = scale_bounds(allow, workload) else {
        return Err(not_named("ScaleNotAllowed", "scale", workload));
    };
    if (bounds.min.max(1)..=bounds.max).contains(&replicas) {
        return Ok(());
    }
    let message = format!("{replicas} replicas are not from {} to {}", bounds.min.max(1), bounds.max);
    Err(Refusal { code: "OutsideScaleBounds", message })
}

fn not_named(code: &'static str, entry: &str, workload: &Workload) -> Refusal {
    Refusal { code, message: format!("no {entry} entry names {} {}", kind_name(workload.kind), workload.name) }
}

fn judge_edit(allow: &[Allow], edit: &Edit) -> Result<(), Refusal> {
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
    let Some(first) = entries.first() else { return Ok(()) };
    let parse = |text: &str, which: &str| {
        document::parse(text, Format::of_key(first, &edit.before)).map_err(|error| Refusal {
            code: "NotParsed",
            message: format!("{which} text of {} is {error}; only paths of it are allowed", edit.key),
        })
    };
    let (before, after) = (parse(&edit.before, "the present")?, parse(&edit.after, "the new")?);
    for found in document::differences(&before, &after) {
        // An element that is named by a member must be the same one before and after.
        let covers = |entry: &ConfigMapKey, document| document::covering(&entry.paths, document, &found.path).is_some();
        if !entries.iter().any(|entry| covers(entry, &before) && covers(entry, &after)) {
            let path = if found.path.is_empty() { "the whole document" } else { &found.path };
            return Err(Refusal { code: "PathNotAllowed", message: format!("{path} of {} is not allowed", edit.key) });
        }
    }
    Ok(())
}

/// Whether the `allow` list lets a key be read: what may not be changed is not shown either.
pub fn readable(allow: &[Allow], name: &str, key: &str) -> Result<(), Refusal> {
    if config_entries(allow).any(|entry| entry.name == name && entry.key == key) {
        return Ok(());
    }
    let known = config_entries(allow).any(|entry| entry.name == name);
    let code = if known { "KeyNotAllowed" } else { "ObjectNotAllowed" };
    Err(Refusal { code, message: format!("the allow list does not name key {key} of ConfigMap {name}") })
}

/// Whether the `allow` list lets a workload be compared with its last good state.
pub fn readable_workload(allow: &[Allow], workload: &Workload) -> Result<(), Refusal> {
    let scalable = scale_bounds(allow, workload).is_some();
    if scalable { Ok(()) } else { may_roll_back(allow, workload) }
}

/// The replicas that the `allow` list lets a workload be given.
pub fn scale_bounds<'a>(allow: &'a [Allow], workload: &Workload) -> Option<&'a ScaleBounds> {
    allow.iter().find_map(|entry| match entry {
        Allow::Scale(bounds) if bounds.kind == workload.kind && bounds.name == workload.name => Some(bounds),
        Allow::Scale(_) | Allow::EditConfig(_) | Allow::Restart(_) | Allow::Rollback(_) => None,
    })
}

/// What keeps mode Auto from writing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brake {
    /// Too many repairs of one object within an hour.
    Breaker(Open),
    /// How many repairs there were is not known.
    Uncounted(String),
    /// So much of the namespace is broken at once that the cause lies elsewhere.
    Outage(Outage),
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Breaker(open) => open.fmt(f),
            Self::Uncounted(why) => write!(f, "the repairs of the last hour cannot be counted: {why}"),
            Self::Outage(outage) => outage.fmt(f),
        }
    }
}

/// How far an allowed change may go. What a GitOps tool manages is shown to people and not written: the tool would
/// only write it back. There is no Auto without brakes.
pub fn leave(mode: Mode, managed_by_gitops: bool, brake: Option<&Brake>) -> Leave {
    match mode {
        Mode::Observe => Leave::ProposeOnly,
        Mode::Approve | Mode::Auto if managed_by_gitops => Leave::ProposeOnly,
        Mode::Approve => Leave::NeedsApproval,
        Mode::Auto => match brake {
            Some(Brake::Breaker(_) | Brake::Uncounted(_)) => Leave::HeldByBreaker,
            Some(Brake::Outage(_)) => Leave::NeedsApproval,
            None => Leave::Granted,
        },
    }
}

/// The ConfigMap entries of an `allow` list.
pub fn config_entries(allow: &[Allow]) -> impl Iterator<Item = &ConfigMapKey> {
    allow.iter().filter_map(|entry| match entry {
        Allow::EditConfig(target) => Some(target),
        Allow::Restart(_) | Allow::Rollback(_) | Allow::Scale(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{ScaleBounds, WorkloadKind};
    use proptest::prelude::*;
    use serde_json::json;

    fn allow(paths: &[&str]) -> Vec<Allow> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        vec![Allow::EditConfig(ConfigMapKey { name: "config".into(), key: "a.json".into(), format: None, paths })]
    }

    fn edit(before: &str, after: &str) -> Edit {
        Edit { name: "config".into(), key: "a.json".into(), before: before.into(), after: after.into() }
    }

    fn code(allow: &[Allow], edit: &Edit) -> &'static str {
        judge_edit(allow, edit).err().map_or("Allowed", |refusal| refusal.code)
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
            (r#"{"delay_ms":500}"#, r#"{"delay_ms":"#, "NotParsed"),
            (r#"{"delay_ms":"#, r#"{"delay_ms":0}"#, "NotParsed"),
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
    fn workloads_are_touched_as_far_as_they_are_named() {
        let named = |name: &str| Workload { kind: WorkloadKind::Deployment, name: name.into() };
        let list = [
            Allow::Restart(named("a")),
            Allow::Rollback(named("b")),
            Allow::Scale(ScaleBounds { kind: WorkloadKind::Deployment, name: "c".into(), min: 2, max: 4 }),
        ];
        let scale = |name: &str, replicas| ProposedChange::Scale { workload: named(name), replicas };
        let rollback = |name: &str| ProposedChange::Rollback { workload: named(name), to: None };
        let set = Workload { kind: WorkloadKind::StatefulSet, name: "a".into() };
        let table = [
            (ProposedChange::Restart(named("a")), "Allowed"),
            (ProposedChange::Restart(named("b")), "RestartNotAllowed"),
            (ProposedChange::Restart(set), "RestartNotAllowed"),
            (rollback("b"), "Allowed"),
            (rollback("a"), "RollbackNotAllowed"),
            (scale("c", 2), "Allowed"),
            (scale("c", 4), "Allowed"),
            (scale("c", 0), "OutsideScaleBounds"),
            (scale("c", 1), "OutsideScaleBounds"),
            (scale("c", 5), "OutsideScaleBounds"),
            (scale("a", 2), "ScaleNotAllowed"),
        ];
        for (change, expected) in table {
            let found = judge(&list, &change).err().map_or("Allowed", |refusal| refusal.code);
            assert_eq!(found, expected, "{change:?}");
        }
    }

    #[test]
    fn how_far_a_change_may_go() {
        let open = Open { object: "ConfigMap a".into(), repairs: 6, closes_at: jiff::Timestamp::UNIX_EPOCH };
        let brake = Brake::Breaker(open);
        for (mode, without, with) in [
            (Mode::Observe, Leave::ProposeOnly, Leave::ProposeOnly),
            (Mode::Approve, Leave::NeedsApproval, Leave::NeedsApproval),
            (Mode::Auto, Leave::Granted, Leave::HeldByBreaker),
        ] {
            assert_eq!((leave(mode, false, None), leave(mode, false, Some(&brake))), (without, with));
        }
        for mode in [Mode::Observe, Mode::Approve, Mode::Auto] {
            assert_eq!(leave(mode, true, None), Leave::ProposeOnly);
        }
    }

    proptest! {
        #[test]
        fn nothing_outside_the_paths_ever_passes(a in 0..3, b in 0..3, c in 0..3, x in 0..3, y in 0..3, z in 0..3) {
            let before = json!({"a": a, "b": {"c": b, "d": c}});
            let after = json!({"a": x, "b": {"c": y, "d": z}});
            let allowed = judge_edit(&allow(&["/b/c"]), &edit(&before.to_string(), &after.to_string())).is_ok();
            prop_assert_eq!(allowed, a == x && c == z && b != y);
        }
    }
}
