//! What became of the objects of an attempt, as their marks and the changed parts tell it. Pure.

use crate::agent::target;
use crate::crd::{ATTEMPT_ANNOTATION, Action, ActionRecord, ObjectReference, Ticket};
use crate::document;
use crate::history::writer_of;
use crate::injection;
use crate::redact;
use kube::ResourceExt;
use kube::api::DynamicObject;

/// The marks of one attempt. They hold the ticket's UID, because the name of a ticket may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// On an object that the attempt wrote.
    pub written: String,
    /// On an object on which the attempt was undone.
    pub undone: String,
}

impl Marks {
    /// The marks of an attempt of a ticket.
    pub fn of(ticket: &Ticket, attempt: u32) -> Self {
        let written = format!("{}/{attempt}", ticket.uid().unwrap_or_default());
        Self { undone: format!("{written}/undone"), written }
    }
}

/// The actions of an attempt on one object: one write, one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectActions<'a> {
    /// The object.
    pub object: &'a ObjectReference,
    /// The actions, in their order.
    pub actions: Vec<&'a ActionRecord>,
}

/// The actions of an attempt by object, in the order in which the objects are first named.
pub fn by_object(actions: &[ActionRecord]) -> Vec<ObjectActions<'_>> {
    let mut found: Vec<ObjectActions> = Vec::new();
    for action in actions {
        match found.iter_mut().find(|it| *it.object == action.object) {
            Some(known) => known.actions.push(action),
            None => found.push(ObjectActions { object: &action.object, actions: vec![action] }),
        }
    }
    found
}

/// What became of the part that an action changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// The object or the part is gone.
    Gone,
    /// The part is as it was before the action, and the attempt's mark is not there.
    Untouched,
    /// The action was written, and the part is still as it was written.
    Written,
    /// The action was written and undone.
    Restored,
    /// Somebody else wrote to the part, or took the mark away.
    Foreign,
}

/// Judges the part that an action changes, by its text and the object's mark. Its version does not count: others write
/// annotations, labels, status and other keys all the time.
pub fn target_state(object: Option<&DynamicObject>, action: &ActionRecord, marks: &Marks) -> TargetState {
    let Some(object) = object.filter(|object| object.uid().as_deref() == Some(&action.object.uid)) else {
        return TargetState::Gone;
    };
    let Some(text) = target::text(object, action.action, &action.key) else {
        return TargetState::Gone;
    };
    let digest = document::digest(&text);
    let found = object.annotations().get(ATTEMPT_ANNOTATION);
    if found == Some(&marks.undone) {
        // A restart is not taken back; it is only not waited for any more.
        let is_back = digest == action.before_digest || action.action == Action::Restart;
        return if is_back { TargetState::Restored } else { TargetState::Foreign };
    }
    if found == Some(&marks.written) {
        return if digest == action.after_digest { TargetState::Written } else { TargetState::Foreign };
    }
    if digest == action.before_digest { TargetState::Untouched } else { TargetState::Foreign }
}

/// Whether an object is still one on which a change was planned: the same object, with the same text in each part.
pub fn is_as_planned(object: Option<&DynamicObject>, action: &ActionRecord) -> bool {
    let same_object = object.filter(|it| it.uid().as_deref() == Some(&action.object.uid));
    let text = same_object.and_then(|object| target::text(object, action.action, &action.key));
    text.is_some_and(|text| document::digest(&text) == action.before_digest)
}

/// Who has brought back what an action took away, and where: the very text is there again, or a fault that was put
/// there on purpose. `None`: what is there is something else, and may be a person's repair.
pub fn brought_back(object: &DynamicObject, action: &ActionRecord) -> Option<String> {
    let text = target::text(object, action.action, &action.key)?;
    let by = match action.action {
        Action::EditConfig => writer_of(object.managed_fields(), &["data", &action.key]),
        Action::Scale => writer_of(object.managed_fields(), &["spec", "replicas"]),
        Action::Rollback => writer_of(object.managed_fields(), &["spec", "template"]),
        Action::Restart => return None,
    };
    let by = by.map_or_else(|| "somebody".to_owned(), |writer| writer.manager);
    let is_back = document::digest(&text) == action.before_digest || by == injection::FIELD_MANAGER;
    is_back.then(|| redact::line(&format!("{by} changed {} of {} again", action.key, object.name_any()), 256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(key: &str, before: &str, after: &str) -> ActionRecord {
        serde_json::from_value(json!({
            "object": { "kind": "ConfigMap", "name": "config", "uid": "u" }, "key": key, "resourceVersion": "1",
            "diff": "", "beforeDigest": document::digest(before), "afterDigest": document::digest(after),
        }))
        .unwrap()
    }

    fn object(uid: &str, mark: Option<&str>, text: &str, version: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "config", "uid": uid, "resourceVersion": version,
                "annotations": mark.map(|mark| json!({ ATTEMPT_ANNOTATION: mark, "control-plane/leader": version })),
            },
            "data": { "k": text, "other": version },
        }))
        .unwrap()
    }

    fn marks(uid: &str) -> Marks {
        let mut ticket: Ticket = serde_json::from_value(json!({
            "metadata": { "name": "t-1" },
            "spec": {
                "invariantRef": { "name": "t", "uid": "i", "generation": 1 }, "severity": "Critical", "title": "",
                "query": "http://a/", "condition": "== 200",
                "opening": {
                    "firstBreachAt": "2026-11-23T10:00:00.000000Z", "openedAt": "2026-11-23T10:00:00.000000Z",
                    "value": "503", "observed": "",
                },
            },
        }))
        .unwrap();
        ticket.metadata.uid = Some(uid.to_owned());
        Marks::of(&ticket, 1)
    }

    #[test]
    fn the_mark_and_the_text_of_the_part_tell_what_became_of_it_and_the_version_does_not() {
        let (ours, action) = (marks("ticket"), action("k", "a", "b"));
        let (written, undone) = (Some("ticket/1"), Some("ticket/1/undone"));
        let table = [
            (None, "a", TargetState::Untouched),
            (None, "b", TargetState::Foreign),
            (written, "b", TargetState::Written),
            (written, "a", TargetState::Foreign),
            (written, "c", TargetState::Foreign),
            (undone, "a", TargetState::Restored),
            (undone, "c", TargetState::Foreign),
            // The mark of another attempt, or of another ticket that had the same name, says nothing.
            (Some("ticket/2"), "a", TargetState::Untouched),
            (Some("earlier/1"), "a", TargetState::Untouched),
            (Some("earlier/1"), "b", TargetState::Foreign),
        ];
        for (mark, text, expected) in table {
            for version in ["1", "7"] {
                let found = object("u", mark, text, version);
                assert_eq!(target_state(Some(&found), &action, &ours), expected, "{mark:?} {text} {version}");
            }
        }
        assert_eq!(target_state(None, &action, &ours), TargetState::Gone);
        assert_eq!(target_state(Some(&object("another", written, "b", "1")), &action, &ours), TargetState::Gone);
    }

    #[test]
    fn a_change_is_as_planned_until_its_own_part_or_the_object_is_another() {
        let action = action("k", "a", "b");
        assert!(is_as_planned(Some(&object("u", Some("x/1"), "a", "99")), &action));
        assert!(!is_as_planned(Some(&object("u", None, "edited", "1")), &action));
        assert!(!is_as_planned(Some(&object("another", None, "a", "1")), &action));
        assert!(!is_as_planned(None, &action));
    }

    #[test]
    fn the_actions_of_one_object_are_one_write() {
        let mut actions = vec![action("k", "a", "b"), action("k", "a", "b"), action("other", "c", "d")];
        actions[1].object.uid = "another".into();
        let grouped = by_object(&actions);
        let keys = |at: usize| grouped[at].actions.iter().map(|it| it.key.as_str()).collect::<Vec<_>>();
        assert_eq!((grouped.len(), keys(0), keys(1)), (2, vec!["k", "other"], vec!["k"]));
    }
}
