//! The exact texts that a model's edits are made on. The model itself sees them redacted. Pure.

use crate::agent::change::ProposedChange;
use crate::agent::planner::Briefing;
use crate::agent::policy::{Edit, Refusal, readable};
use crate::agent::tools::request::{ChangeRequest, EditConfig};
use crate::crd::Allow;
use crate::history::Revision;
use std::collections::HashMap;

/// Texts by ConfigMap and key, as they were read last.
pub(super) struct Texts {
    allow: Vec<Allow>,
    known: HashMap<(String, String), String>,
}

impl Texts {
    /// The texts of a briefing.
    pub(super) fn of(briefing: &Briefing) -> Self {
        let allow = briefing.invariant.spec.remediation.allow.clone();
        let mut texts = Self { allow, known: HashMap::new() };
        for config in &briefing.config {
            texts.note(&config.entry.name, &config.entry.key, config.revision.as_ref());
        }
        texts
    }

    /// Notes what was read.
    pub(super) fn note(&mut self, name: &str, key: &str, revision: Option<&Revision>) {
        let place = (name.to_owned(), key.to_owned());
        match revision.and_then(|it| it.data.get(key)) {
            Some(text) => self.known.insert(place, text.clone()),
            None => self.known.remove(&place),
        };
    }

    /// The changes as the executor would make them; edits of one key become one. If one is impossible, all are refused,
    /// in their order, each with its reason.
    pub(super) fn apply(&self, asked: &[ChangeRequest]) -> Result<Vec<ProposedChange>, Vec<Refusal>> {
        let mut made: Vec<ProposedChange> = Vec::new();
        let mut failed: Vec<Option<Refusal>> = Vec::new();
        for change in asked {
            let result = match change {
                ChangeRequest::EditConfig(edit) => self.edit(&mut made, edit),
                ChangeRequest::Restart(asked) => {
                    made.push(ProposedChange::Restart(asked.workload()));
                    Ok(())
                }
                ChangeRequest::Rollback(asked) => {
                    made.push(ProposedChange::Rollback { workload: asked.workload(), to: None });
                    Ok(())
                }
                ChangeRequest::Scale(asked) => {
                    made.push(ProposedChange::Scale { workload: asked.workload(), replicas: asked.replicas });
                    Ok(())
                }
            };
            failed.push(result.err());
        }
        if failed.iter().all(Option::is_none) {
            return Ok(made);
        }
        let together = || Refusal {
            code: "NotAlone",
            message: "another change of the same turn is impossible, and they are made together".to_owned(),
        };
        Err(failed.into_iter().map(|refusal| refusal.unwrap_or_else(together)).collect())
    }

    fn edit(&self, made: &mut Vec<ProposedChange>, asked: &EditConfig) -> Result<(), Refusal> {
        readable(&self.allow, &asked.name, &asked.key)?;
        let earlier = made.iter_mut().find_map(|change| match change {
            ProposedChange::EditConfig(edit) if edit.name == asked.name && edit.key == asked.key => Some(edit),
            _ => None,
        });
        if let Some(edit) = earlier {
            edit.after = replaced(&edit.after, asked)?;
            return Ok(());
        }
        let place = (asked.name.clone(), asked.key.clone());
        let Some(before) = self.known.get(&place) else {
            let message = format!("there is no key {} in ConfigMap {}", asked.key, asked.name);
            return Err(Refusal { code: "NoSuchKey", message });
        };
        let after = replaced(before, asked)?;
        let (name, key) = place;
        made.push(ProposedChange::EditConfig(Edit { name, key, before: before.clone(), after }));
        Ok(())
    }
}

fn replaced(text: &str, asked: &EditConfig) -> Result<String, Refusal> {
    let times = if asked.old_string.is_empty() { 0 } else { text.matches(&asked.old_string).count() };
    if times == 1 {
        return Ok(text.replacen(&asked.old_string, &asked.new_string, 1));
    }
    let message = format!(
        "old_string occurs {times} times in {} of ConfigMap {}; it must be there exactly once. Read the key again; what \
         is shown as «redacted» cannot be part of it",
        asked.key, asked.name
    );
    Err(Refusal { code: "NoSuchText", message })
}
