//! What is known of pods is compared with what they run.

use super::*;
use crate::pods::{REFRESH_ANNOTATION, Written, refreshment};
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

/// A time as the API server and the kubelets note it.
fn noted(milliseconds: i64) -> String {
    at(milliseconds.div_euclid(1000) * 1000).to_string()
}

/// How the pod of a test takes the ConfigMap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    Files,
    SubPath,
    Variables,
    All,
    Key,
}

fn containers(taking: Taking) -> Value {
    let mount = |more: Value| json!([{ "name": "main", "volumeMounts": [more] }]);
    match taking {
        Taking::Files => mount(json!({ "name": "v", "mountPath": "/c" })),
        Taking::SubPath => mount(json!({ "name": "v", "mountPath": "/c", "subPath": "k" })),
        Taking::All => json!([{ "name": "main", "envFrom": [{ "configMapRef": { "name": "config" } }] }]),
        Taking::Variables | Taking::Key => json!([{ "name": "main", "env": [
            { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "k" } } },
        ] }]),
    }
}

/// A pod that was created and whose container started then, in milliseconds.
fn pod(taking: Taking, created: i64, started: i64) -> Pod {
    let volume = matches!(taking, Taking::Files | Taking::SubPath);
    let volumes = if volume { json!([{ "name": "v", "configMap": { "name": "config" } }]) } else { json!([]) };
    let pod = json!({
        "metadata": { "name": "p", "creationTimestamp": noted(created) },
        "spec": { "containers": containers(taking), "volumes": volumes },
        "status": {
            "phase": "Running",
            "containerStatuses": [{
                "name": "main", "image": "a", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": { "startedAt": noted(started) } },
            }],
        },
    });
    serde_json::from_value(pod).unwrap()
}

/// The pod after it was told to look at this version at this time.
fn refreshed(mut pod: Pod, mark: &str, version: &str, time: i64) -> Pod {
    let written = Written { config_map: "config", resource_version: version, mark };
    let annotation = refreshment(&pod, written);
    pod.metadata.annotations.get_or_insert_default().insert(REFRESH_ANNOTATION.to_owned(), annotation);
    let entry = json!([{
        "manager": "harness-agent", "time": noted(time), "fieldsV1": {
            "f:metadata": { "f:annotations": { format!("f:{REFRESH_ANNOTATION}"): {} } },
        },
    }]);
    pod.metadata.managed_fields = serde_json::from_value(entry).unwrap();
    pod
}

fn version(resource_version: &str, written_by: i64) -> Version<'_> {
    Version { config_map: "config", resource_version, written_by: at(written_by) }
}

fn known(pods: &[Pod], version: Version<'_>) -> Option<i64> {
    run_by_all_since(pods, version).ok().map(Timestamp::as_millisecond)
}

#[test]
fn a_version_is_run_by_whom_it_is_known_of() {
    use Taking::{All, Files, Key, SubPath, Variables};
    const MINUTE: i64 = 60_000;
    let (this, written) = (version("7", 10 * MINUTE), 10 * MINUTE);
    let told = |version: &str| refreshed(pod(Files, MINUTE, MINUTE), "t/1", version, written + 500);
    let mut waiting = pod(All, 11 * MINUTE, 11 * MINUTE);
    waiting.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].state =
        serde_json::from_value(json!({ "waiting": { "reason": "CrashLoopBackOff" } })).unwrap();
    let mut completed = pod(All, MINUTE, MINUTE);
    completed.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut leaving = pod(All, MINUTE, MINUTE);
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!(noted(11 * MINUTE))).unwrap();
    let mut of_a_job = pod(All, MINUTE, MINUTE);
    of_a_job.metadata.owner_references =
        serde_json::from_value(json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u" }])).unwrap();
    let table = [
        ("nobody takes it", vec![], Some(written)),
        ("the files of an older pod lag", vec![pod(Files, MINUTE, MINUTE)], Some(written + 90_000)),
        ("the files of a younger pod do not", vec![pod(Files, 11 * MINUTE, 11 * MINUTE)], Some(11 * MINUTE)),
        ("the kubelet was told to look at it", vec![told("7")], Some(written + 2000)),
        ("it was told to look at an earlier one", vec![told("6")], Some(written + 90_000)),
        ("variables are set at the start", vec![pod(Variables, MINUTE, MINUTE)], None),
        ("all of it as variables", vec![pod(All, MINUTE, MINUTE)], None),
        ("a container that started anew, in an old pod", vec![pod(Key, MINUTE, 11 * MINUTE)], Some(11 * MINUTE)),
        ("subPath in an old pod", vec![pod(SubPath, MINUTE, 9 * MINUTE)], None),
        ("started before the volume must have it", vec![pod(SubPath, MINUTE, 11 * MINUTE)], None),
        ("started after that", vec![pod(SubPath, MINUTE, 12 * MINUTE)], Some(12 * MINUTE)),
        ("subPath in a younger pod", vec![pod(SubPath, 11 * MINUTE, 11 * MINUTE)], Some(11 * MINUTE)),
        ("a container that does not run", vec![waiting], None),
        ("a pod that has ended", vec![completed], Some(written)),
        ("a pod that is being deleted serves on", vec![leaving], None),
        ("whoever owns the pod", vec![of_a_job], None),
        ("the last of all counts", vec![pod(Files, MINUTE, MINUTE), pod(All, MINUTE, MINUTE)], None),
    ];
    for (case, pods, expected) in table {
        assert_eq!(known(&pods, this), expected, "{case}");
    }
}

#[test]
fn a_change_of_two_config_maps_under_one_mark_tells_the_kubelet_of_both() {
    let once = refreshed(pod(Taking::Files, 0, 0), "t/1", "7", 0);
    let other = Written { config_map: "other", resource_version: "8", mark: "t/1" };
    assert_eq!(refreshment(&once, other), "t/1 config@7 other@8");
    assert_eq!(refreshment(&once, Written { mark: "t/1/undone", ..other }), "t/1/undone other@8");
    assert_eq!(
        refreshment(&once, Written { config_map: "config", resource_version: "9", mark: "t/1" }),
        "t/1 config@9"
    );
    assert!(crate::pods::is_refreshed(&once, "t/1", at(5000)));
    assert!(!crate::pods::is_refreshed(&once, "t/2", at(5000)));
}

#[test]
fn when_a_version_was_written_is_taken_from_the_clock_that_is_known_best() {
    let revision = |first: bool, created: i64, written: i64, seen: i64| Revision {
        uid: "u".into(),
        resource_version: "9".into(),
        data_version: "7".into(),
        created_at: Some(at(created)),
        data: [].into(),
        seen_at: at(seen),
        first,
        writers: [("k".to_owned(), crate::history::Writer { manager: "m".into(), at: Some(at(written)) })].into(),
        managed_by: None,
    };
    let written_by = |revision: &Revision| Version::of("config", revision).written_by.as_millisecond();
    // After a restart of the agent: the writer's time, to the second, and not the first look.
    assert_eq!(written_by(&revision(true, 1000, 5000, 90_000)), 6000);
    assert_eq!(written_by(&revision(false, 1000, 5000, 7500)), 7500);
    assert_eq!(written_by(&revision(false, 1000, 5000, 5100)), 6000, "the agent's clock is slow");
    // Whoever takes what was never changed could not start before it was there.
    assert_eq!(written_by(&revision(true, 5000, 5000, 90_000)), 5000);
    assert_eq!(Version::of("config", &revision(true, 1000, 5000, 9000)).resource_version, "7");
}

/// A run of a kubelet, in milliseconds: versions 0, 1, … of a ConfigMap, written at these times; looks of the kubelet at
/// its volumes; one container that started in between.
#[derive(Debug, Clone)]
struct Course {
    taking: Taking,
    writes: Vec<i64>,
    created: i64,
    started: i64,
    looks: Vec<i64>,
    /// Each told the kubelet to look, at the version of then.
    told: Vec<i64>,
    watch_delay: i64,
}

impl Course {
    fn version_at(&self, time: i64) -> usize {
        self.writes.iter().filter(|write| **write <= time).count() - 1
    }

    /// What the volume has: what was there at the kubelet's last look. It looks at the latest 90 s after a change, and
    /// within a second after it was told to.
    fn in_volume(&self, time: i64) -> usize {
        let late = self.writes.iter().map(|write| write + 90_000);
        let told = self.told.iter().map(|told| told + 1000);
        let looks = self.looks.iter().copied().chain(late).chain(told).chain([self.created]);
        self.version_at(looks.filter(|look| *look <= time && *look >= self.created).max().unwrap_or(self.created))
    }

    fn is_run(&self, time: i64) -> usize {
        match self.taking {
            Taking::Files => self.in_volume(time),
            Taking::SubPath => self.in_volume(self.started),
            Taking::Variables | Taking::All | Taking::Key => self.version_at(self.started),
        }
    }

    fn pod(&self) -> Pod {
        let mut pod = pod(self.taking, self.created, self.started);
        if let Some(told) = self.told.iter().max() {
            let version = self.version_at(*told).to_string();
            pod = refreshed(pod, "t/1", &version, *told);
        }
        pod
    }
}

fn course() -> impl Strategy<Value = Course> {
    let taking = prop_oneof![Just(Taking::Files), Just(Taking::SubPath), Just(Taking::All), Just(Taking::Key)];
    let times = |most| prop::collection::vec(1_000i64..400_000, 0..most);
    (taking, times(4), 1_000i64..300_000, 0i64..100_000, times(4), times(3), 0i64..3_000).prop_map(
        |(taking, mut writes, created, until_start, looks, told, watch_delay)| {
            writes.push(0);
            writes.sort_unstable();
            writes.dedup();
            let told = told.into_iter().filter(|told| *told >= created).collect();
            Course { taking, writes, created, started: created + until_start, looks, told, watch_delay }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]
    #[test]
    fn what_is_known_to_be_run_is_run(course in course(), later in 0i64..200_000) {
        let last = course.writes.len() - 1;
        let written = course.writes[last];
        let (number, seen) = (last.to_string(), written + course.watch_delay);
        let by_note = written.div_euclid(1000) * 1000 + 1000;
        let version = version(&number, seen.max(by_note));
        if let Some(since) = known(&[course.pod()], version) {
            prop_assert_eq!(course.is_run(since.max(course.started) + later), last);
        }
    }
}
