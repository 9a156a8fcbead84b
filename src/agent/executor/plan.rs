//! A proposed change, made exact: on which object as it is now, from which text to which.
//!
//! Touches the world by reading.

use super::{Executor, revisions};
use crate::agent::change::ProposedChange;
use crate::agent::policy::{self, Edit, Refusal};
use crate::agent::target::{self, template};
use crate::crd::{Action, ActionRecord, Allow, ObjectReference, Workload};
use crate::document::{self, Format};
use crate::gitops::{GitOps, ManagedBy};
use crate::pods::{self, Consumer};
use crate::redact;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

/// A change that is ready to be saved and written.
#[derive(Debug, Clone)]
pub struct Planned {
    /// As a ticket shows it.
    pub record: ActionRecord,
    /// The exact text before.
    pub before: String,
    /// The exact text after.
    pub after: String,
    /// The GitOps tool that manages this part of the object, if one does.
    pub managed_by: Option<ManagedBy>,
    /// What people must know of it: who will read the change later than others.
    pub notes: Vec<String>,
}

/// Why a change cannot be planned.
pub type NotPlanned = Result<Refusal, kube::Error>;

impl Executor {
    /// Makes a change exact, with the restarts that it needs to take effect.
    pub async fn plan(
        &self,
        namespace: &str,
        allow: &[Allow],
        change: &ProposedChange,
    ) -> Result<Vec<Planned>, NotPlanned> {
        match change {
            ProposedChange::EditConfig(edit) => {
                let mut planned = vec![self.plan_edit(namespace, edit).await?];
                let fixed = pods::needing_restart(&self.client, namespace, &edit.name).await.map_err(Err)?;
                for consumer in fixed {
                    match consumer {
                        Consumer::Workload(workload) => {
                            planned.push(self.plan_needed_restart(namespace, allow, edit, workload).await?);
                        }
                        Consumer::Other { kind, name } => planned[0].notes.push(read_when(&edit.name, &kind, &name)),
                    }
                }
                Ok(planned)
            }
            ProposedChange::Restart(workload) => Ok(vec![self.plan_restart(namespace, workload).await?]),
            ProposedChange::Scale { workload, replicas } => {
                let object = self.workload(namespace, workload).await?;
                planned(&self.gitops, &object, Action::Scale, replicas.to_string()).map(|it| vec![it]).map_err(Ok)
            }
            ProposedChange::Rollback { workload, to } => {
                let object = self.workload(namespace, workload).await?;
                let wanted = self.wanted(namespace, &object, to.as_ref()).await?;
                let wanted = wanted.map_err(|code| Ok(no_revision(code, workload)))?;
                planned(&self.gitops, &object, Action::Rollback, wanted.part).map(|it| vec![it]).map_err(Ok)
            }
        }
    }

    async fn plan_edit(&self, namespace: &str, edit: &Edit) -> Result<Planned, NotPlanned> {
        if let Some(refusal) = too_large(edit) {
            return Err(Ok(refusal));
        }
        let found = self.read(namespace, "ConfigMap", &edit.name).await.map_err(Err)?;
        let now = found.as_ref().and_then(|object| target::text(object, Action::EditConfig, &edit.key));
        match found {
            Some(object) if now.as_ref() == Some(&edit.before) => Ok(record(
                &self.gitops,
                &object,
                Action::EditConfig,
                &edit.key,
                edit.before.clone(),
                edit.after.clone(),
            )),
            Some(_) | None => Err(Ok(Refusal {
                code: "Stale",
                message: format!("{} of ConfigMap {} is not what the change was planned on", edit.key, edit.name),
            })),
        }
    }

    async fn plan_restart(&self, namespace: &str, workload: &Workload) -> Result<Planned, NotPlanned> {
        let object = self.workload(namespace, workload).await?;
        planned(&self.gitops, &object, Action::Restart, format!("{:.0}", Timestamp::now())).map_err(Ok)
    }

    /// What pods take through `subPath` or their environment does not follow the ConfigMap.
    async fn plan_needed_restart(
        &self,
        namespace: &str,
        allow: &[Allow],
        edit: &Edit,
        workload: Workload,
    ) -> Result<Planned, NotPlanned> {
        if policy::may_restart(allow, &workload).is_ok() {
            return self.plan_restart(namespace, &workload).await;
        }
        let message = format!(
            "{} {} takes ConfigMap {} through subPath or its environment and must be restarted to see the change, which \
             the allow list does not permit",
            target::kind_name(workload.kind),
            workload.name,
            edit.name
        );
        Err(Ok(Refusal { code: "NeedsRestart", message }))
    }

    async fn workload(&self, namespace: &str, workload: &Workload) -> Result<DynamicObject, NotPlanned> {
        let kind = target::kind_name(workload.kind);
        let found = self.read(namespace, kind, &workload.name).await.map_err(Err)?;
        found.ok_or_else(|| {
            Ok(Refusal { code: "NoSuchWorkload", message: format!("there is no {kind} {}", workload.name) })
        })
    }

    /// The revision that a rollback puts back, if it may; `to`: a certain one.
    async fn wanted(
        &self,
        namespace: &str,
        object: &DynamicObject,
        to: Option<&template::Revision>,
    ) -> Result<Result<template::Revision, &'static str>, NotPlanned> {
        let Some(present) = object.data.pointer("/spec/template").and_then(template::Revision::of) else {
            return Ok(Err("NoEarlierRevision"));
        };
        Ok(match to {
            Some(wanted) if wanted.rest == present.rest => Ok(wanted.clone()),
            Some(_) => Err("RevisionDiffersInMore"),
            None => {
                let earlier = revisions::of(&self.client, namespace, object).await.map_err(Err)?;
                let templates: Vec<Value> = earlier.into_iter().map(|it| it.template).collect();
                template::earlier(&present, &templates)
            }
        })
    }
}

/// When something reads a change that the harness cannot restart.
fn read_when(config_map: &str, kind: &str, name: &str) -> String {
    let what = redact::line(&format!("{kind} {name}"), 256);
    match kind {
        "Job" => format!("{what} reads ConfigMap {config_map} with its next run"),
        _ => format!("{what} reads ConfigMap {config_map} only when its pods start anew"),
    }
}

/// Both texts are kept in one object of the API server, which keeps none above 1.5 MB. Bytes as JSON.
const MAX_TEXTS: usize = 1_000_000;

/// Said before the texts are compared, which takes seconds where they are large.
fn too_large(edit: &Edit) -> Option<Refusal> {
    let size = json!([edit.before, edit.after]).to_string().len();
    (size > MAX_TEXTS).then(|| Refusal {
        code: "TooLarge",
        message: format!(
            "{} of ConfigMap {} before and after the change takes {} KB, and at most {} KB can be kept for an undo: a \
             person must change it",
            edit.key,
            edit.name,
            size / 1000,
            MAX_TEXTS / 1000
        ),
    })
}

fn no_revision(code: &'static str, workload: &Workload) -> Refusal {
    let what = format!("{} {}", target::kind_name(workload.kind), workload.name);
    let message = if code == "RevisionDiffersInMore" {
        format!(
            "the revision before of {what} differs in more than {}: a person must roll it back",
            template::CONTAINER_FIELDS.join(", ")
        )
    } else {
        format!("no earlier revision of {what} that ran something else is known")
    };
    Refusal { code, message }
}

fn planned(gitops: &GitOps, object: &DynamicObject, action: Action, after: String) -> Result<Planned, Refusal> {
    let part = target::part(action);
    let before = target::text(object, action, part).unwrap_or_default();
    if before == after {
        let message = format!("{part} of {} is {after} already", object.name_any());
        return Err(Refusal { code: "NoChange", message });
    }
    Ok(record(gitops, object, action, part, before, after))
}

fn record(
    gitops: &GitOps,
    object: &DynamicObject,
    action: Action,
    key: &str,
    before: String,
    after: String,
) -> Planned {
    let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    let shown = (target::shown(action, &before), target::shown(action, &after));
    let record = ActionRecord {
        action,
        object: ObjectReference { kind, name: object.name_any(), uid: object.uid().unwrap_or_default() },
        key: key.to_owned(),
        resource_version: object.resource_version().unwrap_or_default(),
        diff: redact::diff(&shown.0, &shown.1, 4096),
        changes: redact::changes(Format::of(key, &shown.0), &shown.0, &shown.1),
        before_digest: document::digest(&before),
        after_digest: document::digest(&after),
        revision: None,
        written_resource_version: None,
    };
    Planned { record, before, after, managed_by: gitops.managed_by(object, action, key), notes: Vec::new() }
}

/// The hash of a proposal: what an approval is bound to, and what is never proposed again after a no. Of a restart the
/// time is no part: another time is the same proposal.
pub fn hash(planned: &[Planned]) -> String {
    let mut text = String::new();
    for Planned { record, before, after, .. } in planned {
        let after = if record.action == Action::Restart { "restart" } else { after };
        let before = if record.action == Action::Restart { "" } else { before };
        for part in
            [&*format!("{:?}", record.action), &record.object.uid, &record.object.name, &record.key, before, after]
        {
            text.push_str(&document::digest(part));
        }
    }
    document::digest(&text)
}
