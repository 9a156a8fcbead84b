//! A document as a tree of values, each with the bytes of the text that it was read from. Pure.

use serde_json::{Map, Value};
use std::ops::Range;

/// Values of one document; aliases count as often as they are used.
pub(super) const MAX_NODES: usize = 100_000;
/// How deep values may be nested.
pub(super) const MAX_DEPTH: usize = 128;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its bytes in the text.
    pub(super) span: Range<usize>,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Scalar(Scalar),
    Mapping(Vec<Member>),
    Sequence(Vec<Node>),
}

/// A value without parts.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// As it is shown.
    pub(super) value: Value,
    /// All that any reader could tell apart: two scalars are equal only where this is.
    pub(super) identity: String,
}

/// A member of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    /// From the beginning of its name to the end of its value; in formats of lines, whole lines.
    pub(super) entry: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn scalar(span: Range<usize>, value: Value, identity: String) -> Self {
        Self { span, kind: Kind::Scalar(Scalar { value, identity }) }
    }

    /// As it is shown.
    pub(super) fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.value.clone(),
            Kind::Sequence(elements) => Value::Array(elements.iter().map(Self::value).collect()),
            Kind::Mapping(members) => {
                Value::Object(members.iter().map(|it| (it.name.clone(), it.value.value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The value at a JSON pointer.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').skip(1).try_fold(self, |here, part| here.child(&super::unescape(part)))
    }

    fn child(&self, name: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Scalar(_) => None,
            Kind::Mapping(members) => members.iter().find(|it| it.name == name).map(|it| &it.value),
            Kind::Sequence(elements) => elements.get(index(name)?),
        }
    }

    /// Whether no reader could tell the two apart.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Scalar(one), Kind::Scalar(other)) => one.identity == other.identity,
            (Kind::Sequence(one), Kind::Sequence(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.same(other))
            }
            (Kind::Mapping(one), Kind::Mapping(other)) => {
                let find = |name: &str| other.iter().find(|it| it.name == name);
                one.len() == other.len() && one.iter().all(|it| find(&it.name).is_some_and(|o| it.value.same(&o.value)))
            }
            _ => false,
        }
    }
}

/// An index as RFC 6901 writes it.
pub(super) fn index(part: &str) -> Option<usize> {
    let plain = part == "0" || (!part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()));
    part.parse().ok().filter(|_| plain && !part.is_empty())
}

/// The first name that stands twice in a mapping: which of the two counts, readers do not agree on.
pub(super) fn repeated(members: &[Member]) -> Option<&Member> {
    let mut seen = std::collections::HashSet::new();
    members.iter().find(|it| !seen.insert(it.name.as_str()))
}
