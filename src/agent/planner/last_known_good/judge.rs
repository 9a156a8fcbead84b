//! What may be restored of one key, and why not the rest. Pure.

#[cfg(test)]
mod tests;

use super::{Known, was_tried};
use crate::agent::executor::FIELD_MANAGER;
use crate::agent::planner::{Briefing, Reverted};
use crate::agent::policy::Edit;
use crate::agent::tools::at;
use crate::crd::{ATTEMPT_ANNOTATION, ConfigEvidence, ConfigMapKey};
use crate::document::{self, Difference, Document, Format};
use crate::gitops::{GitOps, ManagedBy};
use crate::history::{Author, Revision, author};
use crate::injection;
use crate::redact;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A change that was in force longer than this before the first breach did not cause it.
pub(super) const RECENT: SignedDuration = SignedDuration::from_mins(15);

/// A controller that puts back what it wants does so within this.
const REACTION: SignedDuration = SignedDuration::from_secs(30);

/// What may be done about one key.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// The change that restores what may be restored.
    pub(super) edit: Option<Edit>,
    /// Allowed values that differ from the good revision.
    pub(super) findings: Vec<Finding>,
    /// Other values that differ.
    pub(super) outside: Vec<Finding>,
    /// Why nothing is restored.
    pub(super) obstacle: String,
    /// A value came back after it was reverted once.
    pub(super) contested: bool,
}

/// One value that differs from the good revision.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    name: String,
    path: String,
    good: String,
    now: String,
    author: Author,
    /// The author is a GitOps tool, which wrote what its source says.
    source: Option<ManagedBy>,
    since: Option<Timestamp>,
}

impl Finding {
    fn new(known: &Known, revision: &Revision, found: &Difference, gitops: &GitOps) -> Self {
        let author = author(revision, &known.history, &known.entry.key, &found.path, FIELD_MANAGER);
        let (good, now) = redact::sides(found);
        let text = |side: Option<String>| side.unwrap_or_else(|| "absent".to_owned());
        Self {
            name: known.entry.name.clone(),
            path: if found.path.is_empty() { known.entry.key.clone() } else { found.path.clone() },
            good: text(good),
            now: text(now),
            source: source(&author, revision, gitops),
            author,
            since: in_force_since(known, revision, &found.path),
        }
    }

    /// Who changed what, when.
    pub(super) fn cause(&self) -> String {
        let Self { name, path, good, now, author, source, since: _ } = self;
        let is = format!("{path} of {name} is {now}, and was {good} when everything held");
        let cause = match (source, author) {
            (Some(tool), Author::Changed { at: time, .. }) => {
                let time = at(Some(*time));
                format!("{path} of {name} changed from {good} to {now}{time}: {tool} brought that from its source")
            }
            (Some(tool), _) => format!("{is}: {tool} brought that from its source"),
            (None, Author::Changed { by, at: time }) => {
                format!("{by} changed {path} of {name} from {good} to {now}{}", at(Some(*time)))
            }
            (None, Author::LastWrote { by, at: time }) => format!("{is}; {by} wrote the key last{}", at(*time)),
            (None, Author::Harness) => {
                format!("{is}; the harness wrote it last, for the ticket in the annotation {ATTEMPT_ANNOTATION}")
            }
            (None, Author::Unknown) => format!("{is}; who changed it is not known"),
        };
        redact::line(&cause, 512)
    }

    /// What is put back.
    pub(super) fn restoration(&self) -> String {
        format!("{} to {}", self.path, self.good)
    }
}

/// The GitOps tool that the author is: it is not to be blamed for what its source says.
fn source(author: &Author, revision: &Revision, gitops: &GitOps) -> Option<ManagedBy> {
    let (Author::Changed { by, .. } | Author::LastWrote { by, .. }) = author else { return None };
    let tool = gitops.tool_of(by)?;
    let tracked = revision.managed_by.clone().filter(|tracked| tracked.tool == tool);
    Some(tracked.unwrap_or_else(|| ManagedBy::named(tool)))
}

/// Judges one key by what is known of it, by what it was when the ticket was opened, and by what happened before.
pub(super) fn judge(known: &Known, opening: Option<&ConfigEvidence>, briefing: &Briefing) -> Judgement {
    let entry = &known.entry;
    let nothing = |obstacle: String| Judgement { obstacle, ..Judgement::default() };
    let Some(revision) = &known.revision else {
        return nothing(format!("ConfigMap {} does not exist", entry.name));
    };
    let Some(now) = revision.data.get(&entry.key) else {
        return nothing(format!("ConfigMap {} has no key {}", entry.name, entry.key));
    };
    let Some(good) = known.good.as_ref().and_then(|good| good.data.get(&entry.key)) else {
        return nothing(format!("no revision of {} is known under which everything held", entry.name));
    };
    let (differences, document) = match all_differences(entry, good, now) {
        Ok(found) => found,
        Err(error) => {
            return nothing(format!("{} of {} is {error}, and only paths of it may be changed", entry.key, entry.name));
        }
    };
    let is_allowed = |found: &Difference| {
        let covering = |document| document::covering(&entry.paths, document, &found.path);
        document.as_ref().is_none_or(|document| covering(document).is_some())
    };
    let (allowed, outside): (Vec<_>, Vec<_>) = differences.into_iter().partition(is_allowed);
    let outside =
        outside.iter().map(|found| Finding::new(known, revision, found, &briefing.gitops)).collect::<Vec<_>>();
    if allowed.is_empty() {
        let obstacle = if outside.is_empty() {
            format!("{} of {} is as it was when everything held: the cause is elsewhere", entry.key, entry.name)
        } else {
            "what changed is outside the allow list, so that nothing may be written".to_owned()
        };
        return Judgement { outside, ..nothing(obstacle) };
    }
    restoration(known, opening, briefing, &allowed, (now, good), outside)
}

fn restoration(
    known: &Known,
    opening: Option<&ConfigEvidence>,
    briefing: &Briefing,
    allowed: &[Difference],
    (now, good): (&str, &str),
    outside: Vec<Finding>,
) -> Judgement {
    let mut judgement = Judgement { outside, ..Judgement::default() };
    let Some(revision) = &known.revision else { return judgement };
    let first_breach = briefing.ticket.spec.opening.first_breach_at.0;
    let mut paths = Vec::new();
    for found in allowed {
        let finding = Finding::new(known, revision, found, &briefing.gitops);
        // A fault that is put there on purpose is nobody's repair, whenever it comes.
        let is_injected = finding.author.manager() == Some(injection::FIELD_MANAGER);
        let obstacle = if !is_injected && changed_after_opening(opening, found, now) {
            Some(format!("{} was changed after the ticket was opened, which is not undone", finding.path))
        } else if finding.since.is_none_or(|since| first_breach.duration_since(since) > RECENT) {
            Some(format!("{} was not changed shortly before the first breach, so that is not its cause", finding.path))
        } else if let Some(before) = came_back(&briefing.reverted, &finding) {
            judgement.contested = true;
            Some(format!("{} came back after it was reverted by {}: it is contested", finding.path, before.ticket))
        } else {
            paths.push(found.path.clone());
            None
        };
        judgement.findings.push(finding);
        if let Some(obstacle) = obstacle {
            judgement.obstacle = obstacle;
        }
    }
    if paths.is_empty() || judgement.contested {
        return judgement;
    }
    // A path of an empty allow list is the key as a whole.
    let whole = known.entry.paths.is_empty();
    let format = Format::of_key(&known.entry, now);
    let after = match document::restore(now, good, if whole { &[] } else { &paths }, format) {
        Ok(after) => after,
        Err(error) => {
            judgement.obstacle = error.to_string();
            return judgement;
        }
    };
    let edit = Edit { name: known.entry.name.clone(), key: known.entry.key.clone(), before: now.to_owned(), after };
    if was_tried(briefing, &edit.before, &edit.after) {
        "the same change was tried and undone before".clone_into(&mut judgement.obstacle);
    } else {
        judgement.edit = Some(edit);
    }
    judgement
}

/// What differs, and the present document; a key that is allowed as a whole is compared as one.
fn all_differences(
    entry: &ConfigMapKey,
    good: &str,
    now: &str,
) -> Result<(Vec<Difference>, Option<Document>), document::NotParsed> {
    if entry.paths.is_empty() {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        let found = Difference { path: String::new(), before: text(good), after: text(now) };
        return Ok((if good == now { Vec::new() } else { vec![found] }, None));
    }
    let present = document::parse_key(entry, now)?;
    Ok((document::differences(&document::parse_key(entry, good)?, &present), Some(present)))
}

/// Whether the value is another than when the ticket was opened. What the evidence does not show exactly is taken as
/// changed, unless the whole key is still the same.
fn changed_after_opening(opening: Option<&ConfigEvidence>, found: &Difference, now: &str) -> bool {
    let Some(opening) = opening else { return true };
    if opening.digest.as_deref() == Some(&document::digest(now)) {
        return false;
    }
    let Ok(document) = document::parse_key(&opening.target, now) else { return true };
    let Some(path) = document::covering(&opening.target.paths, &document, &found.path) else { return true };
    let at_opening = opening.values.iter().find(|it| it.path == *path).map(|it| it.value.clone());
    let now = document.resolve(path).and_then(|at| document.at(&at)).map(|value| redact::value(path, &value));
    let inexact = now.as_deref().is_some_and(|now| now.contains(redact::MARKER) || now.ends_with('…'));
    at_opening != now || inexact
}

/// Since when the present value is in force: the first of the states that were seen with it in a row; if nothing before
/// it was seen, when its writer wrote last.
fn in_force_since(known: &Known, revision: &Revision, path: &str) -> Option<Timestamp> {
    let value_in = |revision: &Revision| {
        let text = revision.data.get(&known.entry.key)?;
        if path.is_empty() {
            return Some(Value::String(text.clone()));
        }
        document::parse_key(&known.entry, text).ok()?.at(path)
    };
    let now = value_in(revision);
    let since = known.history.iter().rev().take_while(|it| value_in(it) == now).last();
    match since {
        Some(since) if !since.first => Some(since.seen_at),
        Some(_) | None => revision.writers.get(&known.entry.key).and_then(|writer| writer.at),
    }
}

/// The earlier repair that took away this very value, if the same controller put it back by itself: at once, and not by a
/// client that people use. Whatever else brings a value back is a new fault.
fn came_back<'a>(reverted: &'a [Reverted], finding: &Finding) -> Option<&'a Reverted> {
    let (since, by) = (finding.since?, finding.author.manager()?);
    reverted.iter().filter(|_| !is_persons_client(by)).find(|it| {
        let reacted_by = it.written_at.checked_add(REACTION).unwrap_or(Timestamp::MAX);
        it.name == finding.name
            && it.path == finding.path
            && it.value.as_deref().unwrap_or("absent") == finding.now
            && it.by.as_deref() == Some(by)
            && it.written_at <= since
            && since <= reacted_by
    })
}

/// Field managers of people, or how they begin: mostly the name of the program.
const PERSONS_CLIENTS: [&str; 14] = [
    "kubectl",
    injection::FIELD_MANAGER,
    "k9s",
    "lens",
    "openlens",
    "freelens",
    "node-fetch",
    "headlamp",
    "dashboard",
    "mozilla",
    "rancher",
    "curl",
    "wget",
    "httpie",
];

/// Whether a field manager is a program in a person's hand.
fn is_persons_client(manager: &str) -> bool {
    let manager = manager.to_ascii_lowercase();
    manager == "oc" || PERSONS_CLIENTS.iter().any(|client| manager.starts_with(client))
}
