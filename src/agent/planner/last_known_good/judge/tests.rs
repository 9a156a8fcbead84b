//! What last known good restores, and what it must leave alone.

use super::*;
use crate::agent::baseline::KnownGood;
use crate::crd::{ConfigMapKey, Invariant, PathValue, Ticket};
use crate::gitops::{GitOps, ManagedBy};
use crate::history::Writer;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const GOOD: &str = r#"{"enabled": true, "delay_ms": 20, "rate": 5}"#;
const FIRST_BREACH: i64 = 10_000;

fn at_second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn revision(text: &str, seen_at: i64, first: bool) -> Revision {
    Revision {
        uid: "u".into(),
        resource_version: seen_at.to_string(),
        data_version: seen_at.to_string(),
        created_at: None,
        data: BTreeMap::from([("k".into(), text.into())]),
        seen_at: at_second(seen_at),
        first,
        writers: BTreeMap::from([(
            "k".into(),
            Writer { manager: "kubectl-edit".into(), at: Some(at_second(seen_at)) },
        )]),
        managed_by: None,
    }
}

struct Case {
    paths: Vec<&'static str>,
    /// What was seen, with the second in which it was.
    history: Vec<(&'static str, i64)>,
    /// What was there when the ticket was opened.
    opening: &'static str,
    good: Option<&'static str>,
    reverted: Vec<Reverted>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            paths: vec!["/enabled", "/delay_ms"],
            history: Vec::new(),
            opening: "",
            good: Some(GOOD),
            reverted: Vec::new(),
        }
    }
}

impl Case {
    fn judge(self) -> Judgement {
        let paths: Vec<String> = self.paths.iter().map(|path| (*path).to_owned()).collect();
        let entry = ConfigMapKey { name: "config".into(), key: "k".into(), format: None, paths: paths.clone() };
        let history: Vec<Arc<Revision>> = self
            .history
            .iter()
            .enumerate()
            .map(|(index, (text, seen_at))| Arc::new(revision(text, *seen_at, index == 0)))
            .collect();
        let known = Known {
            entry: entry.clone(),
            revision: history.last().map(|last| Box::new((**last).clone())),
            history,
            good: self.good.map(|text| {
                let data = BTreeMap::from([("k".to_owned(), text.to_owned())]);
                Box::new(KnownGood { resource_version: "1".into(), data, learned_at: at_second(1) })
            }),
        };
        let value = serde_json::from_str::<serde_json::Value>(self.opening).unwrap_or_default();
        let values = paths.iter().filter_map(|path| {
            Some(PathValue { path: path.clone(), value: redact::value(path, value.pointer(path)?) })
        });
        let opening = ConfigEvidence {
            target: entry,
            resource_version: None,
            digest: Some(document::digest(self.opening)),
            values: values.collect(),
            changes: Vec::new(),
            changed_by: None,
            changed_at: None,
        };
        judge(&known, Some(&opening), &briefing(self.reverted))
    }
}

fn briefing(reverted: Vec<Reverted>) -> Briefing {
    let breach = format!("{:.6}", at_second(FIRST_BREACH));
    let ticket = json!({
        "invariantRef": { "name": "i", "uid": "u", "generation": 1 }, "severity": "Critical", "title": "",
        "query": "http://a/", "condition": "== 200",
        "opening": { "firstBreachAt": breach, "openedAt": breach, "value": "", "observed": "" },
    });
    let invariant = json!({ "query": "http://a/", "condition": "== 200" });
    Briefing {
        ticket: Arc::new(Ticket::new("i-1", serde_json::from_value(ticket).unwrap())),
        invariant: Arc::new(Invariant::new("i", serde_json::from_value(invariant).unwrap())),
        good_after: Duration::from_mins(5),
        reverted,
        config: Vec::new(),
        gitops: GitOps::default(),
        siblings: Vec::new(),
    }
}

fn after(judgement: &Judgement) -> Option<&str> {
    judgement.edit.as_ref().map(|edit| edit.after.as_str())
}

const SLOW: &str = r#"{"enabled": true, "delay_ms": 520, "rate": 5}"#;

#[test]
fn a_fresh_change_of_an_allowed_path_is_restored_and_its_author_named() {
    let case = Case { history: vec![(GOOD, 9_000), (SLOW, 9_990)], opening: SLOW, ..Case::default() };
    let judgement = case.judge();
    assert_eq!(after(&judgement), Some(GOOD));
    assert_eq!(
        judgement.findings[0].cause(),
        "kubectl-edit changed /delay_ms of config from 20 to 520 at 1970-01-01T02:46:30Z"
    );
}

#[test]
fn an_unrelated_edit_survives_and_is_named() {
    let edited = r#"{"enabled": true, "delay_ms": 520, "rate": 6}"#;
    let case = Case { history: vec![(GOOD, 9_000), (edited, 9_990)], opening: edited, ..Case::default() };
    let judgement = case.judge();
    assert_eq!(after(&judgement), Some(r#"{"enabled": true, "delay_ms": 20, "rate": 6}"#));
    assert_eq!(judgement.outside.len(), 1);
}

#[test]
fn a_change_outside_the_paths_only_is_left_alone() {
    let edited = r#"{"enabled": true, "delay_ms": 20, "rate": -1}"#;
    let case = Case { history: vec![(GOOD, 9_000), (edited, 9_990)], opening: edited, ..Case::default() };
    let judgement = case.judge();
    assert_eq!(after(&judgement), None);
    assert!(judgement.obstacle.contains("outside the allow list"), "{}", judgement.obstacle);
}

#[test]
fn a_change_made_after_the_ticket_was_opened_is_never_undone() {
    let case = Case { history: vec![(GOOD, 9_000), (SLOW, 10_005)], opening: GOOD, ..Case::default() };
    let judgement = case.judge();
    assert_eq!(after(&judgement), None);
    assert!(judgement.obstacle.contains("after the ticket was opened"), "{}", judgement.obstacle);
}

#[test]
fn of_two_changes_only_the_one_before_the_ticket_is_undone() {
    let both = r#"{"enabled": false, "delay_ms": 520, "rate": 5}"#;
    let case = Case { history: vec![(GOOD, 9_000), (SLOW, 9_990), (both, 10_005)], opening: SLOW, ..Case::default() };
    assert_eq!(after(&case.judge()), Some(r#"{"enabled": false, "delay_ms": 20, "rate": 5}"#));
}

#[test]
fn a_change_long_before_the_first_breach_did_not_cause_it() {
    let case = Case { history: vec![(GOOD, 9_000), (SLOW, FIRST_BREACH - 901)], opening: SLOW, ..Case::default() };
    let judgement = case.judge();
    assert_eq!(after(&judgement), None);
    assert!(judgement.obstacle.contains("shortly before"), "{}", judgement.obstacle);
    let case = Case { history: vec![(GOOD, 9_000), (SLOW, FIRST_BREACH - 900)], opening: SLOW, ..Case::default() };
    assert!(case.judge().edit.is_some());
}

#[test]
fn after_a_restart_the_writer_of_the_key_says_when_it_was_changed() {
    let case = Case { history: vec![(SLOW, 9_990)], opening: SLOW, ..Case::default() };
    assert!(case.judge().edit.is_some());
    let case = Case { history: vec![(SLOW, FIRST_BREACH - 5_000)], opening: SLOW, ..Case::default() };
    assert!(case.judge().edit.is_none());
}

#[test]
fn a_value_that_came_back_soon_after_it_was_reverted_is_contested() {
    let reverted = |settled_at| Reverted {
        ticket: "i-0".into(),
        name: "config".into(),
        path: "/delay_ms".into(),
        value: Some("520".into()),
        written_at: at_second(settled_at - 5),
        settled_at: at_second(settled_at),
    };
    let case = |settled_at| Case {
        history: vec![(GOOD, 9_000), (SLOW, 9_990)],
        opening: SLOW,
        reverted: vec![reverted(settled_at)],
        ..Case::default()
    };
    let judgement = case(9_980).judge();
    assert!(judgement.contested && judgement.edit.is_none());
    // The restored revision had proven itself in between: this is another incident.
    assert!(case(9_690).judge().edit.is_none());
    assert!(case(9_689).judge().edit.is_some());
}

#[test]
fn without_a_good_revision_or_with_broken_json_there_is_no_plan() {
    let case = Case { history: vec![(SLOW, 9_990)], opening: SLOW, good: None, ..Case::default() };
    assert!(case.judge().obstacle.contains("no revision of config is known"));
    let broken = r#"{"enabled": tru"#;
    let case = Case { history: vec![(GOOD, 9_000), (broken, 9_990)], opening: broken, ..Case::default() };
    assert!(case.judge().obstacle.contains("not JSON at line 1, column 15"));
}

#[test]
fn a_key_that_is_allowed_as_a_whole_is_restored_as_a_whole() {
    let broken = r#"{"enabled": tru"#;
    let case =
        Case { paths: Vec::new(), history: vec![(GOOD, 9_000), (broken, 9_990)], opening: broken, ..Case::default() };
    assert_eq!(after(&case.judge()), Some(GOOD));
}

#[test]
fn nothing_changed_means_that_the_cause_is_elsewhere() {
    let case = Case { history: vec![(GOOD, 9_000)], opening: GOOD, ..Case::default() };
    assert!(case.judge().obstacle.contains("the cause is elsewhere"));
}

#[test]
fn a_gitops_tool_that_wrote_what_its_source_says_is_no_culprit_and_its_source_is_named() {
    let cause = |manager: &str, managed_by: Option<ManagedBy>, gitops: &GitOps| {
        let known = |text: &str, seen_at, first| {
            let mut revision = revision(text, seen_at, first);
            revision.writers.get_mut("k").unwrap().manager = manager.into();
            revision.managed_by.clone_from(&managed_by);
            revision
        };
        let entry =
            ConfigMapKey { name: "config".into(), key: "k".into(), format: None, paths: vec!["/delay_ms".into()] };
        let history = vec![Arc::new(known(GOOD, 9_000, true)), Arc::new(known(SLOW, 9_990, false))];
        let known = Known { entry, revision: Some(Box::new((*history[1]).clone())), history, good: None };
        let read = |text: &str| document::parse(text, Format::Json).unwrap();
        let found = document::differences(&read(GOOD), &read(SLOW));
        Finding::new(&known, &known.revision.clone().unwrap(), &found[0], gitops).cause()
    };
    let application = ManagedBy { tool: "Argo CD".into(), source: Some("Application shop".into()), command: None };
    let none = GitOps::default();
    assert_eq!(
        cause("argocd-controller", Some(application.clone()), &none),
        "/delay_ms of config changed from 20 to 520 at 1970-01-01T02:46:30Z: Argo CD (Application shop) brought that \
         from its source"
    );
    assert!(
        cause("kustomize-controller", None, &none)
            .ends_with("at 1970-01-01T02:46:30Z: Flux brought that from its source")
    );
    assert!(cause("deployer", None, &GitOps::new(["deployer".to_owned()])).contains(": deployer brought that"));
    // What a person edited in the cluster is the person's, whoever manages the object.
    assert!(cause("kubectl-edit", Some(application), &none).starts_with("kubectl-edit changed /delay_ms"));
}
