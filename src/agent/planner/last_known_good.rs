//! Restores allowed configuration to the last revision under which everything held.
//!
//! It investigates first, so that its journal says what is wrong even where it has no plan: it asks the endpoint, reads
//! the configuration and the good revision, and names who changed what. The judgement itself is in `judge`, pure.

mod judge;

use super::{Briefing, Change, Move, Planner, Reply, Session};
use crate::agent::baseline::KnownGood;
use crate::agent::change::ProposedChange;
use crate::agent::policy::{Edit, config_entries};
use crate::agent::spending::Purse;
use crate::agent::tools::{Call, HttpGet, ReadConfig, ReadLastKnownGood, Reading};
use crate::crd::{Confidence, ConfigMapKey, Diagnosis, Outcome, PlannerName};
use crate::history::Revision;
use crate::lifecycle::explanation::NOT_KNOWN;
use crate::probe::Query;
use crate::{document, redact};
use futures::FutureExt;
use futures::future::BoxFuture;
use judge::{Finding, Judgement};
use std::collections::VecDeque;
use std::sync::Arc;

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
    stage: Stage,
    answer: String,
    read: Vec<Known>,
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
        let entries = config_entries(&briefing.invariant.spec.remediation.allow).cloned().collect();
        Self { briefing, entries, stage: Stage::Endpoint, answer: String::new(), read: Vec::new(), cause: None }
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
        if self.entries.is_empty() {
            return self.decline(
                Outcome::NoPlan,
                NOT_KNOWN,
                "Nothing may be restored: the invariant's allow list has no editConfig entry, so there is no configuration to compare",
            );
        }
        let calls = self.entries.iter().flat_map(|entry| {
            let (name, key) = (entry.name.clone(), entry.key.clone());
            [
                Call::ReadConfig(ReadConfig { name: name.clone(), key: key.clone() }),
                Call::ReadLastKnownGood(ReadLastKnownGood { name, key }),
            ]
        });
        Move::Read(calls.collect())
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
    }

    fn conclude(&mut self) -> Move {
        let evidence = self.briefing.ticket.spec.evidence.as_ref();
        let judgements: Vec<Judgement> = self
            .read
            .iter()
            .map(|known| {
                let opening = evidence.and_then(|it| it.config.iter().find(|it| it.target == known.entry));
                judge::judge(known, opening, &self.briefing)
            })
            .collect();
        let restorable: Vec<&Judgement> = judgements.iter().filter(|it| it.edit.is_some()).collect();
        if restorable.is_empty() {
            return self.explain(&judgements);
        }
        let changes = restorable.iter().filter_map(|it| it.edit.clone()).map(ProposedChange::EditConfig).collect();
        let findings: Vec<&Finding> = restorable.iter().flat_map(|it| &it.findings).collect();
        let cause = findings.iter().map(|it| it.cause()).collect::<Vec<_>>().join("; ");
        self.cause = Some(cause.clone());
        let restored = findings.iter().map(|it| it.restoration()).collect::<Vec<_>>().join(", ");
        Move::Change(Change {
            changes,
            why: redact::line(&format!("Restoring {restored}"), 1024),
            diagnosis: self.diagnosis(&cause, &judgements, Confidence::High),
        })
    }

    /// No plan: says what was found, so that a person can go on from there.
    fn explain(&self, judgements: &[Judgement]) -> Move {
        let contested = judgements.iter().any(|it| it.contested);
        let outcome = if contested { Outcome::Contested } else { Outcome::NoPlan };
        let obstacles: Vec<&str> = judgements.iter().map(|it| it.obstacle.as_str()).collect();
        let findings = judgements.iter().flat_map(|it| it.findings.iter().chain(&it.outside));
        let causes: Vec<String> = findings.map(Finding::cause).collect();
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

/// The hash that a proposal of these edits would have, to see whether it was tried before.
fn was_tried(briefing: &Briefing, edit: &Edit) -> bool {
    let status = briefing.ticket.status.as_ref();
    let (before, after) = (document::digest(&edit.before), document::digest(&edit.after));
    let forgiven = status.map_or(0, |status| status.forgiven_attempts);
    status.into_iter().flat_map(|status| &status.attempts).filter(|it| it.number > forgiven).any(|attempt| {
        attempt.result == crate::crd::AttemptResult::Undone
            && attempt.actions.iter().any(|it| it.before_digest == before && it.after_digest == after)
    })
}
