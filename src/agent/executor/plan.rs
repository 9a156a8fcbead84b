//! A proposed change, made exact: on which object as it is now, from which text to which.
//!
//! Touches the world by reading.

use super::Executor;
use crate::agent::change::ProposedChange;
use crate::agent::policy::{self, Edit, Refusal};
use crate::agent::target;
use crate::crd::{Action, ActionRecord, Allow, ObjectReference, Workload};
use crate::document;
use crate::gitops::{GitOps, ManagedBy};
use crate::pods;
use crate::redact;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

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
                for workload in fixed {
                    planned.push(self.plan_needed_restart(namespace, allow, edit, workload).await?);
                }
                Ok(planned)
            }
            ProposedChange::Restart(workload) => Ok(vec![self.plan_restart(namespace, workload).await?]),
            ProposedChange::Scale { workload, replicas } => {
                let object = self.workload(namespace, workload).await?;
                planned(&self.gitops, &object, Action::Scale, replicas.to_string()).map(|it| vec![it]).map_err(Ok)
            }
            ProposedChange::Rollback(workload) => {
                let object = self.workload(namespace, workload).await?;
                let earlier = self.earlier_templates(namespace, &object).await.map_err(Err)?;
                let present = object.data.pointer("/spec/template").cloned().unwrap_or_default();
                let images =
                    target::earlier_images(&present, &earlier).map_err(|code| Ok(no_revision(code, workload)))?;
                planned(&self.gitops, &object, Action::Rollback, Value::Object(images).to_string())
                    .map(|it| vec![it])
                    .map_err(Ok)
            }
        }
    }

    async fn plan_edit(&self, namespace: &str, edit: &Edit) -> Result<Planned, NotPlanned> {
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
        workload: Option<Workload>,
    ) -> Result<Planned, NotPlanned> {
        let refused = |what: &str| {
            let message = format!(
                "{what} takes ConfigMap {} through subPath or its environment and must be restarted to see the change, \
                 which the allow list does not permit",
                edit.name
            );
            Err(Ok(Refusal { code: "NeedsRestart", message }))
        };
        match workload {
            Some(workload) if policy::may_restart(allow, &workload).is_ok() => {
                self.plan_restart(namespace, &workload).await
            }
            Some(workload) => refused(&format!("{} {}", target::kind_name(workload.kind), workload.name)),
            None => refused("a pod without a workload"),
        }
    }

    async fn workload(&self, namespace: &str, workload: &Workload) -> Result<DynamicObject, NotPlanned> {
        let kind = target::kind_name(workload.kind);
        let found = self.read(namespace, kind, &workload.name).await.map_err(Err)?;
        found.ok_or_else(|| {
            Ok(Refusal { code: "NoSuchWorkload", message: format!("there is no {kind} {}", workload.name) })
        })
    }

    /// The pod templates of the earlier revisions of a workload, newest first.
    async fn earlier_templates(&self, namespace: &str, object: &DynamicObject) -> Result<Vec<Value>, kube::Error> {
        let is_owned = |references: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]| {
            references
                .iter()
                .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref() && owner.controller == Some(true))
        };
        let is_deployment = object.types.as_ref().is_some_and(|types| types.kind == "Deployment");
        let mut found: Vec<(i64, Value)> = if is_deployment {
            let sets =
                Api::<ReplicaSet>::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await?;
            let owned = sets.items.iter().filter(|set| is_owned(set.owner_references()));
            let template = |set: &ReplicaSet| {
                let revision = set.annotations().get("deployment.kubernetes.io/revision")?.parse().ok()?;
                let template = set.spec.as_ref()?.template.as_ref()?;
                Some((revision, serde_json::to_value(template).ok()?))
            };
            owned.filter_map(template).collect()
        } else {
            let api = Api::<ControllerRevision>::namespaced(self.client.clone(), namespace);
            let owned = api.list(&ListParams::default()).await?;
            let owned = owned.items.into_iter().filter(|it| is_owned(it.owner_references()));
            owned.filter_map(|it| Some((it.revision, it.data?.0.pointer("/spec/template")?.clone()))).collect()
        };
        found.sort_by_key(|(revision, _)| std::cmp::Reverse(*revision));
        Ok(found.into_iter().map(|(_, template)| template).collect())
    }
}

fn no_revision(code: &'static str, workload: &Workload) -> Refusal {
    let what = format!("{} {}", target::kind_name(workload.kind), workload.name);
    let message = if code == "RevisionDiffersInMore" {
        format!("the revision before of {what} differs in more than images: a person must roll it back")
    } else {
        format!("no earlier revision of {what} with other images is known")
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
    let record = ActionRecord {
        action,
        object: ObjectReference { kind, name: object.name_any(), uid: object.uid().unwrap_or_default() },
        key: key.to_owned(),
        resource_version: object.resource_version().unwrap_or_default(),
        diff: redact::diff(&before, &after, 4096),
        changes: redact::changes(&before, &after),
        before_digest: document::digest(&before),
        after_digest: document::digest(&after),
        revision: None,
        written_resource_version: None,
    };
    Planned { record, before, after, managed_by: gitops.managed_by(object, action, key) }
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
