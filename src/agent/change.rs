//! What a planner may propose to change.

use super::policy::Edit;
use super::target::{kind_name, template};
use crate::crd::Workload;
use crate::document::Format;
use crate::redact;
use serde_json::{Value, json};

/// One proposed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProposedChange {
    /// A key of a ConfigMap gets another text.
    EditConfig(Edit),
    /// A rolling restart of a workload.
    Restart(Workload),
    /// What the containers of a workload were made of and ran before.
    Rollback {
        /// The workload.
        workload: Workload,
        /// The revision that is put back; `None`: the one before.
        to: Option<template::Revision>,
    },
    /// Another number of replicas.
    Scale {
        /// The workload.
        workload: Workload,
        /// The replicas.
        replicas: u32,
    },
}

impl ProposedChange {
    /// The tool that asks for it.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::EditConfig(_) => "edit_config",
            Self::Restart(_) => "restart_workload",
            Self::Rollback { .. } => "rollback_workload",
            Self::Scale { .. } => "scale_workload",
        }
    }

    /// The object, and what is to become of it, as the journal shows it: redacted.
    pub fn shown(&self) -> (String, Value) {
        let workload = |it: &Workload| format!("{} {}", kind_name(it.kind), it.name);
        match self {
            Self::EditConfig(edit) => {
                let name = format!("{} of ConfigMap {}", edit.key, edit.name);
                (
                    redact::line(&name, 256),
                    json!(redact::changes(Format::of(&edit.key, &edit.before), &edit.before, &edit.after)),
                )
            }
            Self::Restart(it) => (redact::line(&workload(it), 256), json!("restart")),
            Self::Rollback { workload: it, to: _ } => (redact::line(&workload(it), 256), json!("rollback")),
            Self::Scale { workload: it, replicas } => (redact::line(&workload(it), 256), json!(replicas)),
        }
    }
}
