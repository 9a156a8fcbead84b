//! What may be put back of one workload, and why not the rest. Pure.

use super::judge::RECENT;
use super::was_tried;
use crate::agent::baseline::workload::{GoodWorkload, state_of};
use crate::agent::change::ProposedChange;
use crate::agent::planner::Briefing;
use crate::agent::policy::{may_roll_back, scale_bounds};
use crate::agent::target::{kind_name, template};
use crate::agent::tools::{ComparedWorkload, at};
use crate::crd::Workload;
use crate::document::Difference;
use crate::history::{Writer, writer_of};
use crate::redact;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

/// Who sets replicas for an autoscaler.
const AUTOSCALER: &str = "kube-controller-manager";

/// What may be done about one workload.
#[derive(Debug, Default)]
pub(super) struct WorkloadJudgement {
    /// The changes that put back what may be put back.
    pub(super) changes: Vec<ProposedChange>,
    /// Who changed what, when.
    pub(super) causes: Vec<String>,
    /// What is put back.
    pub(super) restorations: Vec<String>,
    /// Why not more.
    pub(super) obstacles: Vec<String>,
}

/// Judges one workload by its last good state and by who changed it when.
pub(super) fn judge(workload: &Workload, compared: &ComparedWorkload, briefing: &Briefing) -> WorkloadJudgement {
    let what = format!("{} {}", kind_name(workload.kind), workload.name);
    let nothing = |obstacle: String| WorkloadJudgement { obstacles: vec![obstacle], ..WorkloadJudgement::default() };
    let Some((object, state)) = compared.now.as_ref().and_then(|object| Some((object, state_of(object)?))) else {
        return nothing(format!("{what} does not exist"));
    };
    let Some(good) = &compared.good else {
        return nothing(format!("no state of {what} is known under which everything held"));
    };
    let mut judgement = WorkloadJudgement::default();
    let (replicas, present) = state;
    if replicas != good.replicas {
        judge_replicas(&mut judgement, &what, workload, (object, replicas, good), briefing);
    }
    if present != good.revision {
        judge_template(&mut judgement, &what, workload, (object, &present, good), compared.template_since, briefing);
    }
    if judgement.causes.is_empty() && judgement.obstacles.is_empty() {
        judgement.obstacles.push(format!("{what} is as it was when everything held"));
    }
    judgement
}

fn judge_replicas(
    judgement: &mut WorkloadJudgement,
    what: &str,
    workload: &Workload,
    (object, now, good): (&DynamicObject, u32, &GoodWorkload),
    briefing: &Briefing,
) {
    let writer = writer_of(object.managed_fields(), &["spec", "replicas"]);
    let since = writer.as_ref().and_then(|writer| writer.at);
    judgement.causes.push(cause(writer.as_ref(), &format!("the replicas of {what}"), good.replicas, now, since));
    let Some(bounds) = scale_bounds(&briefing.invariant.spec.remediation.allow, workload) else {
        judgement.obstacles.push(format!("no scale entry of the allow list names {what}"));
        return;
    };
    let wanted = good.replicas.clamp(bounds.min.max(1), bounds.max.max(1));
    let obstacle = if writer.is_some_and(|writer| writer.manager == AUTOSCALER) {
        Some(format!("an autoscaler sets the replicas of {what}"))
    } else if wanted == now {
        Some(format!("the replicas of {what} are {now}, as near to {} as scale allows", good.replicas))
    } else {
        untimely(&format!("the number of replicas of {what}"), since, briefing)
            .or_else(|| tried(&now.to_string(), &wanted.to_string(), briefing))
    };
    if let Some(obstacle) = obstacle {
        judgement.obstacles.push(obstacle);
    } else {
        judgement.restorations.push(format!("the replicas of {what} to {wanted}"));
        judgement.changes.push(ProposedChange::Scale { workload: workload.clone(), replicas: wanted });
    }
}

fn judge_template(
    judgement: &mut WorkloadJudgement,
    what: &str,
    workload: &Workload,
    (object, present, good): (&DynamicObject, &template::Revision, &GoodWorkload),
    rolled_out_at: Option<Timestamp>,
    briefing: &Briefing,
) {
    let differences = good.revision.differences(present);
    // A template that is older than the good state was rolled out anew: then its writer says when.
    let first_ever = rolled_out_at.filter(|at| *at > good.learned_at);
    let writers = differences.iter().filter_map(|found| writer_of_field(object, &found.path));
    let writer =
        writers.max_by_key(|writer| writer.at).or_else(|| writer_of(object.managed_fields(), &["spec", "template"]));
    let since = first_ever.or(writer.as_ref().and_then(|writer| writer.at));
    for Difference { path, before, after } in &differences {
        let found = Difference { path: path.clone(), before: before.clone(), after: after.clone() };
        let (good, now) = redact::sides(&found);
        let text = |side: Option<String>| side.unwrap_or_else(|| "absent".to_owned());
        judgement.causes.push(cause(writer.as_ref(), &format!("{path} of {what}"), text(good), text(now), since));
    }
    let obstacle = if present.rest != good.revision.rest {
        let fields = template::CONTAINER_FIELDS.join(", ");
        Some(format!(
            "the pod template of {what} differs from the good one in more than {fields}: a person must roll it back"
        ))
    } else if let Err(refusal) = may_roll_back(&briefing.invariant.spec.remediation.allow, workload) {
        Some(refusal.message)
    } else {
        untimely(&format!("the pod template of {what}"), since, briefing)
            .or_else(|| tried(&present.part, &good.revision.part, briefing))
    };
    if let Some(obstacle) = obstacle {
        judgement.obstacles.push(obstacle);
    } else {
        judgement.restorations.push(format!("the containers of {what} to their last good revision"));
        let to = Some(good.revision.clone());
        judgement.changes.push(ProposedChange::Rollback { workload: workload.clone(), to });
    }
}

/// Who wrote a field of a container last; the path is `/LIST/CONTAINER/FIELD…`.
fn writer_of_field(object: &DynamicObject, path: &str) -> Option<Writer> {
    let mut names = path.split('/').skip(1);
    let (list, container, field) = (names.next()?, names.next()?, names.next()?);
    let key = format!("k:{}", serde_json::json!({ "name": container }));
    writer_of(object.managed_fields(), &["spec", "template", "spec", list, &key, field])
}

/// Why a change at that time is no cause of this incident, or must be left alone.
fn untimely(what: &str, since: Option<Timestamp>, briefing: &Briefing) -> Option<String> {
    let opening = &briefing.ticket.spec.opening;
    if since.is_some_and(|since| since > opening.opened_at.0) {
        return Some(format!("{what} was changed after the ticket was opened, which is not undone"));
    }
    let is_old = since.is_none_or(|since| opening.first_breach_at.0.duration_since(since) > RECENT);
    is_old.then(|| format!("{what} was not changed shortly before the first breach, so that is not its cause"))
}

fn tried(before: &str, after: &str, briefing: &Briefing) -> Option<String> {
    was_tried(briefing, before, after).then(|| "the same change was tried and undone before".to_owned())
}

fn cause(
    writer: Option<&Writer>,
    what: &str,
    good: impl std::fmt::Display,
    now: impl std::fmt::Display,
    since: Option<Timestamp>,
) -> String {
    let by = writer.map_or("somebody", |writer| writer.manager.as_str());
    redact::line(&format!("{by} changed {what} from {good} to {now}{}", at(since)), 512)
}

#[cfg(test)]
mod tests;
