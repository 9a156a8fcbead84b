//! What a call gave, for the journal and for a model.

use super::call::{Call, ReadConfig};
use super::{SHOWN, baseline};
use crate::agent::baseline::workload::{GoodWorkload, state_of};
use crate::agent::policy::Refusal;
use crate::document::{self, Format};
use crate::history::Revision;
use crate::redact;
use baseline::KnownGood;
use jiff::Timestamp;
use kube::api::DynamicObject;
use std::sync::Arc;

/// What a call gave.
#[derive(Debug, Clone)]
pub enum Reading {
    /// The endpoint answered, or why it did not; in one line.
    Http {
        /// Status and start of the body, or the reason of the failure; redacted.
        answer: String,
    },
    /// A key of a ConfigMap.
    Config {
        /// The ConfigMap as it is now; `None`: it does not exist.
        revision: Option<Box<Revision>>,
        /// The states that were seen before it, oldest first.
        history: Vec<Arc<Revision>>,
    },
    /// The last good revision; `None`: none is known.
    LastKnownGood(Option<Box<KnownGood>>),
    /// A workload and its last good state.
    Workload(Box<ComparedWorkload>),
    /// Something else that was read, capped and redacted.
    Text {
        /// One line for the journal.
        outcome: String,
        /// What a model is told.
        content: String,
    },
    /// There was nothing to read.
    Noted,
    /// The call was not executed.
    Refused(Refusal),
    /// The call failed.
    Failed {
        /// Why, in one line.
        why: String,
    },
}

/// A workload as it is now, and its last good state.
#[derive(Debug, Clone)]
pub struct ComparedWorkload {
    /// The workload; `None`: it does not exist.
    pub now: Option<DynamicObject>,
    /// Its last good state; `None`: none is known.
    pub good: Option<GoodWorkload>,
    /// When its present pod template was rolled out first, as far as its controller tells.
    pub template_since: Option<Timestamp>,
}

impl ComparedWorkload {
    fn outcome(&self) -> String {
        let Some((replicas, revision)) = self.now.as_ref().and_then(state_of) else {
            return "the workload does not exist".to_owned();
        };
        let Some(good) = &self.good else { return format!("{replicas} replicas; no good state of it is known") };
        let differing: Vec<String> = good.revision.differences(&revision).into_iter().map(|it| it.path).collect();
        let template = if differing.is_empty() {
            "the containers are the same".to_owned()
        } else {
            format!("different: {}", differing.join(", "))
        };
        format!("{replicas} replicas, {} when it was good at {:.0}; {template}", good.replicas, good.learned_at)
    }
}

impl Reading {
    /// Something that was read, whatever it is: capped and redacted here.
    pub(super) fn text(outcome: impl AsRef<str>, content: impl AsRef<str>) -> Self {
        Self::Text { outcome: redact::line(outcome.as_ref(), 200), content: redact::block(content.as_ref(), SHOWN) }
    }

    /// A call that is not executed.
    pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { code, message: message.into() })
    }

    /// Whether the call was refused or failed.
    pub fn is_error(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Failed { .. } => true,
            Self::Http { .. }
            | Self::Config { .. }
            | Self::LastKnownGood(_)
            | Self::Workload(_)
            | Self::Text { .. }
            | Self::Noted => false,
        }
    }

    /// One line for the journal.
    pub fn outcome(&self, call: &Call) -> String {
        let line = match self {
            Self::Http { answer } => answer.clone(),
            Self::Config { revision, .. } => match (revision, call) {
                (Some(revision), Call::ReadConfig(ReadConfig { key, .. })) => describe_key(revision, key),
                (Some(revision), _) => format!("revision {}", revision.resource_version),
                (None, _) => "the ConfigMap does not exist".to_owned(),
            },
            Self::LastKnownGood(Some(good)) => {
                format!("good revision {}, learned at {:.0}", good.resource_version, good.learned_at)
            }
            Self::LastKnownGood(None) => "no revision is known under which everything held".to_owned(),
            Self::Workload(compared) => compared.outcome(),
            Self::Text { outcome, .. } => outcome.clone(),
            Self::Noted => "noted".to_owned(),
            Self::Refused(refusal) => format!("refused: {refusal}"),
            Self::Failed { why } => format!("failed: {why}"),
        };
        redact::line(&line, 512)
    }

    /// What a model is told.
    pub fn content(&self, call: &Call) -> String {
        match (self, call) {
            (Self::Config { revision: Some(revision), .. }, Call::ReadConfig(ReadConfig { key, .. })) => {
                match revision.data.get(key) {
                    Some(text) => redact::block(text, SHOWN),
                    None => format!("there is no key {key}"),
                }
            }
            (Self::LastKnownGood(Some(good)), Call::ReadLastKnownGood(asked)) => match good.data.get(&asked.key) {
                Some(text) => redact::block(text, SHOWN),
                None => format!("there was no key {}", asked.key),
            },
            (Self::Text { content, .. }, _) => content.clone(),
            (_, _) => self.outcome(call),
        }
    }
}

fn describe_key(revision: &Revision, key: &str) -> String {
    let Some(text) = revision.data.get(key) else { return format!("there is no key {key}") };
    let content = match document::parse(text, Format::of(key, text)) {
        Ok(document) => redact::line(&document.value().to_string(), 300),
        // A text of no format that is known, or a broken one: what it says, on one line.
        Err(_) => redact::line(text, 300),
    };
    match revision.writers.get(key) {
        Some(writer) => format!("{content}, last written by {}{}", writer.manager, at(writer.at)),
        None => content,
    }
}

/// ` at TIME`, or nothing.
pub fn at(time: Option<Timestamp>) -> String {
    time.map(|time| format!(" at {time:.0}")).unwrap_or_default()
}
