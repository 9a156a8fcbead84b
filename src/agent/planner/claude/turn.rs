//! One turn of the model, read into what it asks for. Pure.

use super::text::Texts;
use crate::agent::tools::request::{ChangeRequest, Conclude, Escalate, Request, parse};
use crate::agent::tools::{Call, RefusedCall};
use crate::crd::Diagnosis;
use crate::redact;
use serde_json::Value;

/// What a turn asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A person.
    Escalate {
        /// What was found.
        diagnosis: Diagnosis,
        /// What would be tried next.
        next_step: String,
    },
    /// Nothing: all is well.
    NothingToDo(Diagnosis),
    /// Calls, changes, or both.
    Turn(Turn),
}

/// What a tool call is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) content: String,
    pub(super) is_error: bool,
}

/// A turn that is being answered: every call of it gets exactly one answer, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
struct Part {
    id: String,
    wants: Wants,
    answer: Option<Answer>,
}

#[derive(Debug, PartialEq, Eq)]
enum Wants {
    Read(Call),
    Change(ChangeRequest),
    Conclude(Diagnosis),
}

/// Reads a turn. A change that cannot be made of the texts as they are known is a refused call, and then no change of
/// the turn is proposed: they belong together.
pub(super) fn read(asked: &[(String, String, Value)], texts: &Texts) -> Asked {
    let mut parts = Vec::with_capacity(asked.len());
    for (id, name, input) in asked {
        let wants = match parse(name, input) {
            Request::Escalate(asked) => return escalation(asked),
            Request::Read(call) => Wants::Read(call),
            Request::Change(change) => Wants::Change(change),
            Request::Conclude(conclusion) => Wants::Conclude(diagnosis(&conclusion)),
        };
        parts.push(Part { id: id.clone(), wants, answer: None });
    }
    refuse_impossible_changes(&mut parts, asked, texts);
    if let [Part { wants: Wants::Conclude(diagnosis), .. }] = parts.as_slice() {
        return Asked::NothingToDo(diagnosis.clone());
    }
    Asked::Turn(Turn { parts })
}

/// Where one of the changes is impossible, each becomes a refused call with its own reason.
fn refuse_impossible_changes(parts: &mut [Part], asked: &[(String, String, Value)], texts: &Texts) {
    let changes: Vec<ChangeRequest> = parts.iter().filter_map(Part::change).cloned().collect();
    let Err(refusals) = texts.apply(&changes) else { return };
    let mut refusals = refusals.into_iter();
    for (part, (_, name, input)) in parts.iter_mut().zip(asked) {
        if part.change().is_some()
            && let Some(refusal) = refusals.next()
        {
            let input = input.as_object().cloned().unwrap_or_default();
            part.wants = Wants::Read(Call::Refused(RefusedCall { tool: name.clone(), input, refusal }));
        }
    }
}

fn escalation(asked: Escalate) -> Asked {
    let diagnosis =
        diagnosis(&Conclude { summary: asked.summary, root_cause: asked.root_cause, confidence: asked.confidence });
    Asked::Escalate { diagnosis, next_step: redact::line(&asked.next_step, 1024) }
}

fn diagnosis(conclusion: &Conclude) -> Diagnosis {
    Diagnosis {
        summary: redact::line(&conclusion.summary, 2048),
        root_cause: redact::line(&conclusion.root_cause, 256),
        confidence: conclusion.confidence,
    }
}

impl Part {
    fn change(&self) -> Option<&ChangeRequest> {
        match &self.wants {
            Wants::Change(change) => Some(change),
            Wants::Read(_) | Wants::Conclude(_) => None,
        }
    }
}

impl Turn {
    /// The calls that are not answered yet, in their order.
    pub(super) fn calls(&self) -> Vec<Call> {
        let open = self.parts.iter().filter(|part| part.answer.is_none());
        let call = |part: &Part| match &part.wants {
            Wants::Read(call) => Some(call.clone()),
            Wants::Change(_) | Wants::Conclude(_) => None,
        };
        open.filter_map(call).collect()
    }

    /// The changes, in their order.
    pub(super) fn changes(&self) -> Vec<ChangeRequest> {
        self.parts.iter().filter_map(Part::change).cloned().collect()
    }

    /// What the turn says is wrong.
    pub(super) fn diagnosis(&self) -> Option<Diagnosis> {
        self.parts.iter().find_map(|part| match &part.wants {
            Wants::Conclude(diagnosis) => Some(diagnosis.clone()),
            Wants::Read(_) | Wants::Change(_) => None,
        })
    }

    /// Answers the first call that is not answered yet.
    pub(super) fn answer_call(&mut self, is_error: bool, content: &str) {
        let open = self.parts.iter_mut().find(|part| part.answer.is_none() && matches!(part.wants, Wants::Read(_)));
        if let Some(part) = open {
            part.answer = Some(Answer { content: content.to_owned(), is_error });
        }
    }

    /// Answers all changes alike: they are made, refused and undone together.
    pub(super) fn answer_changes(&mut self, content: &str) {
        for part in self.parts.iter_mut().filter(|part| matches!(part.wants, Wants::Change(_))) {
            part.answer = Some(Answer { content: content.to_owned(), is_error: true });
        }
    }

    /// An answer for every call of the turn, which is closed by this.
    pub(super) fn take_results(&mut self) -> Vec<(String, Answer)> {
        let unanswered = |wants: &Wants| match wants {
            Wants::Conclude(_) => Answer { content: "Noted; the incident goes on.".to_owned(), is_error: false },
            Wants::Read(_) | Wants::Change(_) => Answer { content: "Not executed.".to_owned(), is_error: true },
        };
        let answered = |part: Part| {
            let answer = part.answer.unwrap_or_else(|| unanswered(&part.wants));
            (part.id, answer)
        };
        std::mem::take(&mut self.parts).into_iter().map(answered).collect()
    }
}
