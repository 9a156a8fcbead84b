//! Restores allowed configuration and workloads to the last state under which everything held.
//!
//! It investigates first, so that its journal says what is wrong even where it has no plan: it asks the endpoint, reads
//! the configuration and the good revision, and names who changed what. The judgement itself is in `judge`, pure.

mod judge;
mod workload;

use super::{Briefing, Change, Move, Planner, Reply, Session};
use crate::agent::baseline::{KnownGood, workloads_of};
use crate::agent::change::ProposedChange;
use crate::agent::policy::config_entries;
use crate::agent::spending::Purse;
use crate::agent::tools::{Call, ComparedWorkload, HttpGet, ReadConfig, ReadLastKnownGood, Reading};
use crate::crd::{Confidence, ConfigEvidence, ConfigMapKey, Diagnosis, Outcome, PlannerName, Workload};
use crate::history::Revision;
use crate::lifecycle::explanation::NOT_KNOWN;
use crate::probe::Query;
use crate::{document, redact};
use futures::FutureExt;
use futures::future::BoxFuture;
use judge::{Finding, Judgement};
use std::collections::VecDeque;
use std::sync::Arc;
use workload::WorkloadJudgement;

/// The planner.
#[derive(Debug, Clone, Copy)]
pub struct LastKnownGood;

impl Planner for LastKnownGood {
    fn name(&self) -> PlannerName {
        PlannerName::LastKnownGood
    }

    fn start(&self, briefing: Briefing, _purse: Purse) -> Box<dyn Session> {
        Box::new(Investigation::begin(briefing))
    }
}

/// What is known about one entry of the `allow` list.
struct Known {
    entry: ConfigMapKey,
    revision: Option<Box<Revision>>,
    history: Vec<Arc<Revision>>,
    good: Option<Box<KnownGood>>,
}

/// What was asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Endpoint,
    Configuration,
    Judgement,
}

struct Investigation {
    briefing: Briefing,
    entries: Vec<ConfigMapKey>,
    workloads: Vec<Workload>,
    stage: Stage,
    answer: String,
    read: Vec<Known>,
    compared: Vec<(Workload, ComparedWorkload)>,
    /// What it concluded to be the cause, when it proposed a change.
    cause: Option<String>,
}

impl Session for Investigation {
    fn next(&mut self, reply: Reply) -> BoxFuture<'_, Move> {
        let next = self.next_move(reply);
        async move { next }.boxed()
    }
}

impl Investigation {
    fn begin(briefing: Briefing) -> Self {
        let entries = by_key(config_entries(&briefing.invariant.spec.remediation.allow));
        let mut workloads: Vec<Workload> = Vec::new();
        for workload in workloads_of(&briefing.invariant) {
            if !workloads.contains(&workload) {
                workloads.push(workload);
            }
        }
        let (stage, answer) = (Stage::Endpoint, String::new());
        Self { briefing, entries, workloads, stage, answer, read: Vec::new(), compared: Vec::new(), cause: None }
    }

    fn next_move(&mut self, reply: Reply) -> Move {
        match (self.stage, reply) {
            (Stage::Endpoint, Reply::Begin) => {
                self.stage = Stage::Configuration;
                Move::Read(vec![Call::HttpGet(HttpGet { url: self.endpoint() })])
            }
            (Stage::Configuration, Reply::Readings(readings)) => {
                if let Some(Reading::Http { answer }) = readings.into_iter().next() {
                    self.answer = answer;
                }
                self.stage = Stage::Judgement;
                self.read_configuration()
            }
            (Stage::Judgement, Reply::Readings(readings)) => {
                self.take(readings);
                self.conclude()
            }
            // What was undone is not proposed again; the investigation says what is left.
            (_, Reply::Unmade { briefing, why: _ }) => {
                *self = Self::begin(*briefing);
                self.next_move(Reply::Begin)
            }
            (_, Reply::Refused(refusals)) => {
                let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                let cause = self.cause.clone().unwrap_or_else(|| NOT_KNOWN.to_owned());
                self.decline(Outcome::NoPlan, &cause, &format!("Not restored: {}", reasons.join("; ")))
            }
            (_, Reply::Begin | Reply::Readings(_)) => {
                self.decline(Outcome::NoPlan, NOT_KNOWN, "The investigation was interrupted")
            }
        }
    }

    /// What the invariant asks.
    fn endpoint(&self) -> String {
        let query = &self.briefing.invariant.spec.query;
        Query::parse(query).map_or_else(|_| query.clone(), |query| query.url().to_string())
    }

    fn read_configuration(&self) -> Move {
        if self.entries.is_empty() && self.workloads.is_empty() {
            return self.decline(
                Outcome::NoPlan,
                NOT_KNOWN,
                "Nothing may be restored: the invariant's allow list has no editConfig, scale or rollback entry, so there is \
                 nothing to compare",
            );
        }
        let calls = self.entries.iter().flat_map(|entry| {
            let (name, key) = (entry.name.clone(), entry.key.clone());
            [
                Call::ReadConfig(ReadConfig { name: name.clone(), key: key.clone() }),
                Call::ReadLastKnownGood(ReadLastKnownGood { name, key }),
            ]
        });
        Move::Read(calls.chain(self.workloads.iter().cloned().map(Call::CompareWorkload)).collect())
    }

    fn take(&mut self, readings: Vec<Reading>) {
        let mut readings = VecDeque::from(readings);
        for entry in &self.entries {
            let (revision, history) = match readings.pop_front() {
                Some(Reading::Config { revision, history }) => (revision, history),
                _ => (None, Vec::new()),
            };
            let good = match readings.pop_front() {
                Some(Reading::LastKnownGood(good)) => good,
                _ => None,
            };
            self.read.push(Known { entry: entry.clone(), revision, history, good });
        }
        for workload in &self.workloads {
            if let Some(Reading::Workload(compared)) = readings.pop_front() {
                self.compared.push((workload.clone(), *compared));
            }
        }
    }

    fn conclude(&mut self) -> Move {
        let evidence = self.briefing.ticket.spec.evidence.as_ref();
        let judgements: Vec<Judgement> = self
            .read
            .iter()
            .map(|known| {
                let opening = evidence.and_then(|it| at_opening(&it.config, &known.entry));
                judge::judge(known, opening.as_ref(), &self.briefing)
            })
            .collect();
        let workloads: Vec<WorkloadJudgement> =
            self.compared.iter().map(|(it, compared)| workload::judge(it, compared, &self.briefing)).collect();
        let restorable: Vec<&Judgement> = judgements.iter().filter(|it| it.edit.is_some()).collect();
        let edits = restorable.iter().filter_map(|it| it.edit.clone()).map(ProposedChange::EditConfig);
        let changes: Vec<ProposedChange> = edits.chain(workloads.iter().flat_map(|it| it.changes.clone())).collect();
        if changes.is_empty() || judgements.iter().any(|it| it.contested) {
            return self.explain(&judgements, &workloads);
        }
        let findings: Vec<&Finding> = restorable.iter().flat_map(|it| &it.findings).collect();
        let put_back = workloads.iter().filter(|it| !it.changes.is_empty());
        let causes = findings.iter().map(|it| it.cause()).chain(put_back.flat_map(|it| it.causes.clone()));
        let cause = causes.collect::<Vec<_>>().join("; ");
        let of_config = findings.iter().map(|it| it.restoration());
        let restored = of_config.chain(workloads.iter().flat_map(|it| it.restorations.clone()));
        let restored = restored.collect::<Vec<_>>().join(", ");
        self.cause = Some(cause.clone());
        Move::Change(Change {
            changes,
            why: redact::line(&format!("Restoring {restored}"), 1024),
            diagnosis: self.diagnosis(&cause, &judgements, Confidence::High),
        })
    }

    /// No plan: says what was found, so that a person can go on from there.
    fn explain(&self, judgements: &[Judgement], workloads: &[WorkloadJudgement]) -> Move {
        let contested = judgements.iter().any(|it| it.contested);
        let outcome = if contested { Outcome::Contested } else { Outcome::NoPlan };
        let of_config = judgements.iter().map(|it| it.obstacle.as_str()).filter(|it| !it.is_empty());
        let of_workloads = workloads.iter().flat_map(|it| &it.obstacles).map(String::as_str);
        let obstacles: Vec<&str> = of_config.chain(of_workloads).collect();
        let findings = judgements.iter().flat_map(|it| it.findings.iter().chain(&it.outside));
        let of_workloads = workloads.iter().flat_map(|it| it.causes.clone());
        let causes: Vec<String> = findings.map(Finding::cause).chain(of_workloads).collect();
        let cause = if causes.is_empty() { NOT_KNOWN.to_owned() } else { causes.join("; ") };
        self.decline(outcome, &cause, &obstacles.join("; "))
    }

    fn decline(&self, outcome: Outcome, cause: &str, obstacle: &str) -> Move {
        let summary = format!("The endpoint answered: {}. {obstacle}.", self.answer);
        let diagnosis = Diagnosis {
            summary: redact::line(&summary, 2048),
            root_cause: redact::line(cause, 256),
            confidence: Confidence::Low,
        };
        Move::Decline { outcome, diagnosis }
    }

    fn diagnosis(&self, cause: &str, judgements: &[Judgement], confidence: Confidence) -> Diagnosis {
        let outside: Vec<String> = judgements.iter().flat_map(|it| &it.outside).map(Finding::cause).collect();
        let mut summary = format!("The endpoint answered: {}. {cause}.", self.answer);
        if !outside.is_empty() {
            let others = outside.join("; ");
            summary = format!("{summary} Left as it is, since it is outside the allow list: {others}.");
        }
        Diagnosis { summary: redact::line(&summary, 2048), root_cause: redact::line(cause, 256), confidence }
    }
}

/// The entries of an `allow` list, one a key: all that may be done about a key is one change.
fn by_key<'a>(entries: impl Iterator<Item = &'a ConfigMapKey>) -> Vec<ConfigMapKey> {
    let mut found: Vec<ConfigMapKey> = Vec::new();
    for entry in entries {
        match found.iter_mut().find(|it| it.name == entry.name && it.key == entry.key) {
            // No paths: the key as a whole.
            Some(known) if known.paths.is_empty() || entry.paths.is_empty() => known.paths.clear(),
            Some(known) => known.paths.extend(entry.paths.iter().cloned()),
            None => found.push(entry.clone()),
        }
    }
    found
}

/// What the evidence says of a key, whichever entries of the `allow` list it is about.
fn at_opening(evidence: &[ConfigEvidence], entry: &ConfigMapKey) -> Option<ConfigEvidence> {
    let mut of_key = evidence.iter().filter(|it| it.target.name == entry.name && it.target.key == entry.key);
    let mut first = of_key.next()?.clone();
    for other in of_key {
        first.target.paths.extend(other.target.paths.iter().cloned());
        first.values.extend(other.values.iter().cloned());
    }
    Some(first)
}

/// Whether this very exchange of texts was tried in this round, and undone.
fn was_tried(briefing: &Briefing, before: &str, after: &str) -> bool {
    let status = briefing.ticket.status.as_ref();
    let (before, after) = (document::digest(before), document::digest(after));
    let forgiven = status.map_or(0, |status| status.forgiven_attempts);
    status.into_iter().flat_map(|status| &status.attempts).filter(|it| it.number > forgiven).any(|attempt| {
        attempt.result == crate::crd::AttemptResult::Undone
            && attempt.actions.iter().any(|it| it.before_digest == before && it.after_digest == after)
    })
}
