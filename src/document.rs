//! A configuration key as parsed values: what differs, at which path, and how to put allowed paths back.
//!
//! Paths are JSON pointers (RFC 6901). Everything here is pure; what may be changed is judged on these values and
//! never on the text.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

mod style;

/// Why a key's text is no JSON document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not JSON at line {line}, column {column}: {message}")]
pub struct NotJson {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What was wrong.
    pub message: String,
}

/// One value that differs between two documents. Arrays are compared as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// A JSON pointer; empty for the document itself.
    pub path: String,
    /// The value before, if there was one.
    pub before: Option<Value>,
    /// The value after, if there is one.
    pub after: Option<Value>,
}

/// Reads a key's text.
pub fn parse(text: &str) -> Result<Value, NotJson> {
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        NotJson { line: error.line(), column: error.column(), message }
    })
}

/// Every value that differs, in the order of the paths.
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    collect(String::new(), Some(before), Some(after), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if let (Some(Value::Object(before)), Some(Value::Object(after))) = (before, after) {
        let added = after.keys().filter(|key| !before.contains_key(*key));
        for key in before.keys().chain(added) {
            collect(format!("{path}/{}", escape(key)), before.get(key), after.get(key), found);
        }
    } else if before != after {
        found.push(Difference { path, before: before.cloned(), after: after.cloned() });
    }
}

/// Whether `path` is `allowed` or below it.
pub fn within(path: &str, allowed: &str) -> bool {
    path.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The current text with the values at `paths` as they are in the good text, and everything else as it is.
/// No paths: the good text itself.
pub fn restore(current: &str, good: &str, paths: &[String]) -> Result<String, NotJson> {
    if paths.is_empty() {
        return Ok(good.to_owned());
    }
    let good_value = parse(good)?;
    let mut value = parse(current)?;
    for path in paths {
        put(&mut value, path, good_value.pointer(path));
    }
    // Where the whole document is as it was, its very text is the best form of it.
    Ok(if value == good_value { good.to_owned() } else { style::of(current).write(&value) })
}

fn put(document: &mut Value, path: &str, value: Option<&Value>) {
    let Some((parent, key)) = path.rsplit_once('/') else { return };
    let key = unescape(key);
    match value {
        Some(value) => {
            if let Some(object) = object_at(document, parent) {
                object.insert(key, value.clone());
            }
        }
        None => {
            if let Some(object) = document.pointer_mut(parent).and_then(Value::as_object_mut) {
                object.shift_remove(&key);
            }
        }
    }
}

/// The object at `path`, with the objects on the way made where they are missing.
fn object_at<'a>(document: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut here = document;
    for key in path.split('/').skip(1) {
        here = here.as_object_mut()?.entry(unescape(key)).or_insert_with(|| Value::Object(Map::new()));
    }
    here.as_object_mut()
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z~/]{0,4}".prop_map(Value::from)
        ];
        let node = leaf.prop_recursive(3, 16, 4, |inner| {
            prop::collection::btree_map("[a-c/~]{1,2}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c/~]{1,2}", node, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn restoring_every_path_that_differs_restores_the_document(good in document(), current in document()) {
            let paths: Vec<String> = differences(&good, &current).into_iter().map(|found| found.path).collect();
            prop_assume!(!paths.is_empty());
            let restored = restore(&current.to_string(), &good.to_string(), &paths).unwrap();
            prop_assert_eq!(parse(&restored).unwrap(), good);
        }

        #[test]
        fn restoring_touches_nothing_outside_the_paths(good in document(), current in document(), path in "/[a-c]") {
            let restored = restore(&current.to_string(), &good.to_string(), std::slice::from_ref(&path)).unwrap();
            for found in differences(&current, &parse(&restored).unwrap()) {
                prop_assert!(within(&found.path, &path), "{} is outside {}", found.path, path);
            }
        }
    }

    #[test]
    fn an_unrelated_edit_survives_in_its_own_style() {
        let good = r#"{"enabled": true, "delay_ms": 20}"#;
        let current = r#"{"enabled": false, "delay_ms": 900, "burst": 7}"#;
        let restored = restore(current, good, &["/enabled".into(), "/delay_ms".into()]).unwrap();
        assert_eq!(restored, r#"{"enabled": true, "delay_ms": 20, "burst": 7}"#);
    }

    #[test]
    fn a_value_that_the_good_document_lacks_is_removed() {
        let restored = restore(r#"{"a":1,"b":{"c":2,"d":3}}"#, r#"{"a":1,"b":{"d":3}}"#, &["/b/c".into()]).unwrap();
        assert_eq!(restored, r#"{"a":1,"b":{"d":3}}"#);
    }

    #[test]
    fn below_a_path_is_within_it_and_a_longer_name_is_not() {
        assert!(within("/a/b", "/a"));
        assert!(within("/a", "/a"));
        assert!(!within("/ab", "/a"));
        assert!(!within("", "/a"));
    }

    #[test]
    fn differences_name_the_deepest_objects_path() {
        let found = differences(&json!({"a": {"b": 1, "c": [1]}}), &json!({"a": {"b": 2, "c": [1, 2]}, "d": null}));
        let paths: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(paths, ["/a/b", "/a/c", "/d"]);
    }

    #[test]
    fn broken_json_says_where() {
        assert_eq!(parse("{\n  nope").unwrap_err().to_string(), "not JSON at line 2, column 3: key must be a string");
    }
}
