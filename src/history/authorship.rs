//! Who gave a value of a ConfigMap its present form, as far as that was seen. Pure.

use super::Revision;
use crate::document::{self, Format};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

/// Who gave a value its present form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// The change itself was seen.
    Changed {
        /// The field manager.
        by: String,
        /// When it was seen.
        at: Timestamp,
    },
    /// Who wrote the key last is known, but not whether that changed this value.
    LastWrote {
        /// The field manager.
        by: String,
        /// When it wrote to the object last.
        at: Option<Timestamp>,
    },
    /// Only the harness is known to have written it: who did before, is not.
    Harness,
    /// Nobody is known.
    Unknown,
}

impl Author {
    /// The field manager, where one is known.
    pub fn manager(&self) -> Option<&str> {
        match self {
            Self::Changed { by, .. } | Self::LastWrote { by, .. } => Some(by),
            Self::Harness | Self::Unknown => None,
        }
    }
}

/// The author of the value at a path (empty: of the key as a whole), by the states that were seen, oldest first. What
/// the harness (the field manager `own`) wrote back when it undid a change of its own is its first author's.
pub fn author(now: &Revision, seen: &[Arc<Revision>], key: &str, path: &str, own: &str) -> Author {
    let value = |revision: &Revision| value_at(revision, key, path);
    let present = value(now);
    let is_new = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| seen.get(before));
        value(&seen[*at]) == present && before.is_none_or(|before| value(before) != present)
    };
    let writer = |revision: &Revision| revision.writers.get(key).cloned();
    for revision in (0..seen.len()).rev().filter(is_new).map(|at| &seen[at]) {
        match writer(revision) {
            Some(writer) if writer.manager == own => {}
            Some(writer) if revision.first => return Author::LastWrote { by: writer.manager, at: writer.at },
            Some(writer) => return Author::Changed { by: writer.manager, at: revision.seen_at },
            None => return Author::Unknown,
        }
    }
    match writer(now) {
        Some(writer) if writer.manager == own => Author::Harness,
        Some(writer) => Author::LastWrote { by: writer.manager, at: writer.at },
        None => Author::Unknown,
    }
}

fn value_at(revision: &Revision, key: &str, path: &str) -> Option<Value> {
    let text = revision.data.get(key)?;
    if path.is_empty() {
        return Some(Value::String(text.clone()));
    }
    document::parse(text, Format::of(key, text)).ok()?.at(path)
}

#[cfg(test)]
mod tests {
    use super::super::Writer;
    use super::*;
    use std::collections::BTreeMap;

    const OWN: &str = "harness-agent";
    const GOOD: &str = r#"{"delay_ms": 0, "rate": 5}"#;
    const SLOW: &str = r#"{"delay_ms": 500, "rate": 5}"#;
    const BOTH: &str = r#"{"delay_ms": 500, "rate": 9}"#;

    fn second(at: i64) -> Timestamp {
        Timestamp::from_second(at).unwrap()
    }

    fn of_delay(seen: &[(&str, &str)]) -> Author {
        let states: Vec<Arc<Revision>> = (1..)
            .zip(seen)
            .map(|(at, (text, manager))| {
                let writer = Writer { manager: (*manager).to_owned(), at: Some(second(at)) };
                Arc::new(Revision {
                    uid: "u".into(),
                    resource_version: at.to_string(),
                    data_version: at.to_string(),
                    created_at: None,
                    data: BTreeMap::from([("k".into(), (*text).into())]),
                    seen_at: second(at),
                    first: at == 1,
                    writers: BTreeMap::from([("k".into(), writer)]),
                    managed_by: None,
                })
            })
            .collect();
        author(states.last().unwrap(), &states, "k", "/delay_ms", OWN)
    }

    fn changed(by: &str, at: i64) -> Author {
        Author::Changed { by: by.into(), at: second(at) }
    }

    #[test]
    fn the_author_of_a_value_is_who_was_seen_to_change_it() {
        let table: [(&[(&str, &str)], Author); 7] = [
            (&[(GOOD, "kubectl-create"), (SLOW, "ann")], changed("ann", 2)),
            // Who changed another value of the same key later is not its author.
            (&[(GOOD, "kubectl-create"), (SLOW, "ann"), (BOTH, "bob")], changed("ann", 2)),
            // The harness repaired it and undid that: it is not the harness's fault.
            (&[(GOOD, "kubectl-create"), (SLOW, "ann"), (GOOD, OWN), (SLOW, OWN)], changed("ann", 2)),
            (&[(GOOD, "kubectl-create"), (SLOW, "ann"), (GOOD, OWN), (SLOW, "bob")], changed("bob", 4)),
            (&[(SLOW, "ann")], Author::LastWrote { by: "ann".into(), at: Some(second(1)) }),
            (&[(SLOW, OWN)], Author::Harness),
            (&[(GOOD, "kubectl-create"), (SLOW, OWN)], Author::Harness),
        ];
        for (seen, expected) in table {
            assert_eq!(of_delay(seen), expected, "{seen:?}");
        }
    }
}
