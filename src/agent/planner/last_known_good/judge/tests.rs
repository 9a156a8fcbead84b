//! What last known good restores, and what it must leave alone.

use super::*;
use crate::agent::baseline::KnownGood;
use crate::crd::{ConfigMapKey, Invariant, PathValue, Ticket};
use crate::gitops::{GitOps, ManagedBy};
use crate::history::Writer;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const GOOD: &str = r#"{"enabled": true, "delay_ms": 20, "rate": 5}"#;
const FIRST_BREACH: i64 = 10_000;

fn at_second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn revision(by: &str, text: &str, seen_at: i64, first: bool) -> Revision {
    Revision {
        uid: "u".into(),
        resource_version: seen_at.to_string(),
        data_version: seen_at.to_string(),
        created_at: None,
        data: BTreeMap::from([("k".into(), text.into())]),
        seen_at: at_second(seen_at),
        first,
        writers: BTreeMap::from([("k".into(), Writer { manager: by.into(), at: Some(at_second(seen_at)) })]),
        managed_by: None,
    }
}

struct Case {
    /// Who wrote.
    by: String,
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
            by: "kubectl-edit".into(),
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
            .map(|(index, (text, seen_at))| Arc::new(revision(&self.by, text, *seen_at, index == 0)))
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

fn brought_back(by: &str, before_by: Option<&str>, written_at: i64) -> Judgement {
    let reverted = Reverted {
        ticket: "i-0".into(),
        name: "config".into(),
        path: "/delay_ms".into(),
        value: Some("520".into()),
        by: before_by.map(Into::into),
        written_at: at_second(written_at),
    };
    let case = Case {
        by: by.into(),
        history: vec![(GOOD, 9_000), (SLOW, 9_990)],
        opening: SLOW,
        reverted: vec![reverted],
        ..Case::default()
    };
    case.judge()
}

#[test]
fn only_what_a_controller_puts_back_at_once_is_contested_and_all_else_is_a_new_fault() {
    let table = [
        ("config-controller", Some("config-controller"), 9_985, true),
        ("config-controller", Some("config-controller"), 9_960, true),
        // Later than a controller would, or another writer, or nobody knows of which.
        ("config-controller", Some("config-controller"), 9_959, false),
        ("config-controller", Some("other-controller"), 9_985, false),
        ("config-controller", None, 9_985, false),
        // Programs in a person's hand, however fast the hand is.
        ("harness-chaos", Some("harness-chaos"), 9_985, false),
        ("kubectl-edit", Some("kubectl-edit"), 9_985, false),
        ("kubectl", Some("kubectl"), 9_985, false),
        ("k9s", Some("k9s"), 9_985, false),
        ("Lens", Some("Lens"), 9_985, false),
        ("curl", Some("curl"), 9_985, false),
        ("oc", Some("oc"), 9_985, false),
    ];
    for (by, before_by, written_at, contested) in table {
        let judgement = brought_back(by, before_by, written_at);
        assert_eq!((judgement.contested, judgement.edit.is_none()), (contested, contested), "{by} {written_at}");
    }
}

#[test]
fn a_fault_that_was_injected_after_the_ticket_was_opened_is_no_repair_of_anybody() {
    let slower = r#"{"enabled": true, "delay_ms": 1020, "rate": 5}"#;
    let case = |by: &str| Case {
        by: by.into(),
        history: vec![(GOOD, 9_000), (SLOW, 9_990), (slower, 10_005)],
        opening: SLOW,
        ..Case::default()
    };
    assert_eq!(after(&case("harness-chaos").judge()), Some(GOOD));
    assert_eq!(after(&case("kubectl-edit").judge()), None);
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
            let mut revision = revision("kubectl-edit", text, seen_at, first);
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
