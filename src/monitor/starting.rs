//! A target that is only just starting is no fault yet: a new invariant has no ticket before `initialDelay` is over, nor
//! while the first rollout of its target is under way. Pure, but for one look at the target when a ticket is about to be
//! opened.

use crate::crd::{Invariant, Target, TargetKind};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};
use std::time::Duration;

/// A target without a deadline of its own has so long to become ready, as a Deployment by default.
const DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// No target has longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(1);

/// Between the first two looks at a target; each pause is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why no ticket is opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// For people.
    pub message: String,
}

/// What is known of the start of an invariant's target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It was starting when it was looked at.
    Waiting {
        /// For people.
        message: String,
        /// When to look again, in monotonic time since the monitor's origin.
        look_at: Duration,
        /// The pause before that look.
        pause: Duration,
    },
    /// It is not starting: a breach is a breach.
    Over,
}

/// What to do before a ticket of an invariant that never held is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Wait: why.
    Wait(String),
    /// Look at the target.
    Look(Target),
    /// Nothing.
    Nothing,
}

impl Start {
    /// What to do before a ticket is opened; `now` in both clocks.
    pub fn before(&self, invariant: &Invariant, (wall, elapsed): (Timestamp, Duration)) -> Before {
        let Some(created) = invariant.metadata.creation_timestamp.as_ref().map(|at| at.0) else {
            return Before::Nothing;
        };
        let delay = SignedDuration::try_from(Duration::from(invariant.spec.initial_delay)).unwrap_or(LONGEST);
        let begins = created.checked_add(delay).unwrap_or(Timestamp::MAX);
        if wall < begins {
            return Before::Wait(format!("it has until {begins:.0} (spec.initialDelay) to hold for the first time"));
        }
        let target = invariant.spec.target_ref.as_ref().filter(|it| is_workload(it.kind));
        let in_time = wall.duration_since(created) < LONGEST;
        match (self, target) {
            (Self::Waiting { message, look_at, pause: _ }, Some(_)) if in_time && elapsed < *look_at => {
                Before::Wait(message.clone())
            }
            (Self::Unknown | Self::Waiting { .. }, Some(target)) if in_time => Before::Look(target.clone()),
            (Self::Unknown | Self::Waiting { .. } | Self::Over, _) => Before::Nothing,
        }
    }

    /// After a look.
    pub fn looked(&mut self, found: Option<Waiting>, elapsed: Duration) {
        *self = match found {
            None => Self::Over,
            Some(Waiting { message }) => {
                let pause = match self {
                    Self::Waiting { pause, .. } => (*pause * 2).min(LONGEST_PAUSE),
                    Self::Unknown | Self::Over => FIRST_PAUSE,
                };
                Self::Waiting { message, look_at: elapsed + pause, pause }
            }
        };
    }

    /// It was starting when it was looked at.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Waiting { .. } => true,
            Self::Unknown | Self::Over => false,
        }
    }
}

fn is_workload(kind: TargetKind) -> bool {
    match kind {
        TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::DaemonSet => true,
        TargetKind::Service => false,
    }
}

/// How far a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that there are to be.
    pub wanted: i32,
    /// Its controller gave up.
    pub failed: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The time that it has to become ready.
    pub deadline: SignedDuration,
}

/// Why to wait for a workload, if it is starting. The later of the two began the wait: the workload or the invariant.
pub fn waiting(target: &Target, progress: &Progress, invariant_created: Timestamp, now: Timestamp) -> Option<Waiting> {
    let deadline = progress.deadline.min(LONGEST);
    let until = progress.created.max(invariant_created).checked_add(deadline).unwrap_or(Timestamp::MAX);
    let starts = !progress.failed && progress.ready < progress.wanted && now < until;
    starts.then(|| Waiting {
        message: format!(
            "{:?} {} is starting: {} of {} pods are ready; it has until {until:.0}",
            target.kind, target.name, progress.ready, progress.wanted
        ),
    })
}

/// Looks at a workload; `None` where it does not exist.
pub async fn look(client: &Client, namespace: &str, target: &Target) -> Result<Option<Progress>, kube::Error> {
    let name = &target.name;
    Ok(match target.kind {
        TargetKind::Deployment => {
            Api::<Deployment>::namespaced(client.clone(), namespace).get_opt(name).await?.map(|it| of_deployment(&it))
        }
        TargetKind::StatefulSet => Api::<StatefulSet>::namespaced(client.clone(), namespace)
            .get_opt(name)
            .await?
            .map(|it| of_stateful_set(&it)),
        TargetKind::DaemonSet => {
            Api::<DaemonSet>::namespaced(client.clone(), namespace).get_opt(name).await?.map(|it| of_daemon_set(&it))
        }
        TargetKind::Service => None,
    })
}

fn of_deployment(deployment: &Deployment) -> Progress {
    let (spec, status) = (deployment.spec.as_ref(), deployment.status.as_ref());
    let mut conditions = status.iter().flat_map(|it| it.conditions.iter().flatten());
    let seconds = spec.and_then(|it| it.progress_deadline_seconds);
    Progress {
        ready: status.and_then(|it| it.available_replicas).unwrap_or(0),
        wanted: spec.and_then(|it| it.replicas).unwrap_or(1),
        failed: conditions.any(|it| it.type_ == "Progressing" && it.status == "False"),
        created: created(&deployment.metadata),
        deadline: seconds.map_or(DEADLINE, |seconds| SignedDuration::from_secs(seconds.into())),
    }
}

fn of_stateful_set(set: &StatefulSet) -> Progress {
    Progress {
        ready: set.status.as_ref().and_then(|it| it.ready_replicas).unwrap_or(0),
        wanted: set.spec.as_ref().and_then(|it| it.replicas).unwrap_or(1),
        failed: false,
        created: created(&set.metadata),
        deadline: DEADLINE,
    }
}

fn of_daemon_set(set: &DaemonSet) -> Progress {
    let status = set.status.as_ref();
    Progress {
        ready: status.map_or(0, |it| it.number_ready),
        // Until its controller has looked, nobody knows how many there are to be.
        wanted: status.map_or(1, |it| it.desired_number_scheduled),
        failed: false,
        created: created(&set.metadata),
        deadline: DEADLINE,
    }
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn invariant(spec: &Value) -> Invariant {
        let mut whole = json!({ "query": "http://api/", "condition": "== 200" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant",
            "metadata": { "name": "api", "creationTimestamp": at(1000).to_string() }, "spec": whole,
        }))
        .unwrap()
    }

    fn before(start: &Start, spec: &Value, second: i64) -> &'static str {
        let elapsed = Duration::from_secs(u64::try_from(second).unwrap() - 1000);
        match start.before(&invariant(spec), (at(second), elapsed)) {
            Before::Wait(_) => "wait",
            Before::Look(_) => "look",
            Before::Nothing => "nothing",
        }
    }

    #[test]
    fn the_initial_delay_comes_first_and_then_a_look_at_a_workload() {
        let (plain, delayed) = (json!({}), json!({ "initialDelay": "30s" }));
        let target = |kind: &str| json!({ "targetRef": { "kind": kind, "name": "api" } });
        let waiting = Start::Waiting { message: String::new(), look_at: Duration::from_secs(20), pause: FIRST_PAUSE };
        let table = [
            (Start::Unknown, &plain, 1000, "nothing"),
            (Start::Unknown, &delayed, 1029, "wait"),
            (Start::Unknown, &delayed, 1030, "nothing"),
            (Start::Unknown, &target("Deployment"), 1000, "look"),
            (Start::Unknown, &target("StatefulSet"), 1000, "look"),
            (Start::Unknown, &target("DaemonSet"), 1000, "look"),
            (Start::Unknown, &target("Service"), 1000, "nothing"),
            (waiting.clone(), &target("Deployment"), 1019, "wait"),
            (waiting.clone(), &target("Deployment"), 1020, "look"),
            (waiting, &target("Deployment"), 1000 + 3600, "nothing"),
            (Start::Over, &target("Deployment"), 1000, "nothing"),
        ];
        for (start, spec, second, expected) in table {
            assert_eq!(before(&start, spec, second), expected, "{start:?} {spec} {second}");
        }
    }

    fn deployment(more: &Value) -> Progress {
        let mut whole = json!({
            "metadata": { "name": "api", "creationTimestamp": at(900).to_string() },
            "spec": { "replicas": 3, "selector": {}, "template": {}, "progressDeadlineSeconds": 60 },
        });
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of_deployment(&serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn a_rollout_is_waited_for_until_it_is_ready_failed_or_out_of_time() {
        let target = Target { kind: TargetKind::Deployment, name: "api".into() };
        let message =
            |progress: &Progress, created, now| waiting(&target, progress, at(created), at(now)).map(|it| it.message);
        let none = deployment(&json!({}));
        let expected = "Deployment api is starting: 0 of 3 pods are ready; it has until 1970-01-01T00:17:40Z";
        assert_eq!(message(&none, 1000, 1059).as_deref(), Some(expected));
        assert_eq!(message(&none, 1000, 1060), None, "the deadline counts from the later of the two");
        assert_eq!(message(&none, 800, 960), None);
        let ready = deployment(&json!({ "status": { "availableReplicas": 3 } }));
        assert_eq!(message(&ready, 1000, 1001), None);
        let failed = json!({ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" });
        assert_eq!(message(&deployment(&json!({ "status": { "conditions": [failed] } })), 1000, 1001), None);
        let forever = Progress { deadline: SignedDuration::from_hours(99), ..none };
        assert!(message(&forever, 1000, 1000 + 3599).is_some() && message(&forever, 1000, 1000 + 3600).is_none());
    }

    #[test]
    fn looks_have_growing_pauses_and_end_with_the_start() {
        let (mut start, mut now, mut pauses) = (Start::Unknown, Duration::ZERO, Vec::new());
        for _ in 0..6 {
            start.looked(Some(Waiting { message: String::new() }), now);
            let Start::Waiting { look_at, pause, .. } = &start else { panic!("it waits") };
            assert_eq!(*look_at, now + *pause);
            pauses.push(pause.as_secs());
            now = *look_at;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        start.looked(None, now);
        assert_eq!(start, Start::Over);
    }
}
