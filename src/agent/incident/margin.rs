//! What a model writes for people beside the work: a line for each step, the ticket's title and summary. Nothing waits
//! for it; it reaches the ticket with the next write of its status, and what it cost with it.

use crate::agent::planner::ModelCalls;
use crate::agent::scribe::{Headline, Scribe};
use crate::agent::spending::Purse;
use crate::agent::tools::Call;
use crate::crd::{Ticket, TicketStatus};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What was written and is not in the ticket yet.
#[derive(Default)]
pub(super) struct Pending {
    lines: BTreeMap<u32, String>,
    headline: Option<Headline>,
    costs: Vec<ModelCalls>,
}

/// The margin of one ticket. Dropping it ends what is being written.
#[derive(Default)]
pub(super) struct Margin {
    pending: Arc<Mutex<Pending>>,
    tasks: JoinSet<()>,
    /// Something was written.
    pub(super) written: Arc<Notify>,
    /// What is next for a person, where more is known than the outcome says; told with the next event.
    pub(super) next_step: Option<String>,
}

impl Margin {
    /// Has the steps described, from their calls alone: what they give never reaches the scribe.
    pub(super) fn describe_steps(&mut self, scribe: Option<&Scribe>, purse: Purse, first: u32, calls: &[Call]) {
        let calls: Vec<(String, Map<String, Value>)> =
            calls.iter().map(|call| (call.tool().to_owned(), call.input())).collect();
        self.describe(scribe, purse, first, calls);
    }

    /// The same for anything that has a name and an input.
    pub(super) fn describe(
        &mut self,
        scribe: Option<&Scribe>,
        purse: Purse,
        first: u32,
        calls: Vec<(String, Map<String, Value>)>,
    ) {
        let Some(scribe) = scribe.cloned() else { return };
        let (pending, written) = (Arc::clone(&self.pending), Arc::clone(&self.written));
        self.tasks.spawn(async move {
            let (lines, cost) = scribe.describe(&purse, &calls).await;
            {
                let mut pending = lock(&pending);
                pending.lines.extend((first..).zip(lines));
                pending.costs.extend(cost);
            }
            written.notify_one();
        });
    }

    /// Has the ticket's title and summary written.
    pub(super) fn write_headline(&mut self, scribe: Option<&Scribe>, purse: Purse, ticket: Arc<Ticket>) {
        let Some(scribe) = scribe.cloned() else { return };
        let (pending, written) = (Arc::clone(&self.pending), Arc::clone(&self.written));
        self.tasks.spawn(async move {
            let (headline, cost) = scribe.headline(&purse, &ticket).await;
            {
                let mut pending = lock(&pending);
                pending.headline = headline;
                pending.costs.extend(cost);
            }
            written.notify_one();
        });
    }

    /// Adds what a planner spent.
    pub(super) fn note_cost(&mut self, cost: Option<ModelCalls>) {
        lock(&self.pending).costs.extend(cost);
    }

    /// Whether anything waits to be written into the ticket.
    pub(super) fn is_empty(&self) -> bool {
        let pending = lock(&self.pending);
        pending.lines.is_empty() && pending.headline.is_none() && pending.costs.is_empty()
    }

    /// Takes it, to be written into a status.
    pub(super) fn take(&self) -> Pending {
        std::mem::take(&mut *lock(&self.pending))
    }

    /// Takes back what was not written after all.
    pub(super) fn put_back(&self, unwritten: Pending) {
        let mut pending = lock(&self.pending);
        let newer = std::mem::replace(&mut *pending, unwritten);
        pending.lines.extend(newer.lines);
        pending.headline = newer.headline.or_else(|| pending.headline.take());
        pending.costs.extend(newer.costs);
    }
}

impl Pending {
    /// Writes it into a status; gives the lines whose steps are not there yet.
    pub(super) fn write(&mut self, status: &mut TicketStatus) -> Pending {
        for step in &mut status.steps {
            if let Some(line) = self.lines.get(&step.number) {
                step.summary.clone_from(line);
            }
        }
        if let Some(headline) = &self.headline {
            status.title = Some(headline.title.clone());
            status.summary = Some(headline.summary.clone());
        }
        self.costs.iter().for_each(|cost| super::bookkeeping::charge(status, cost));
        Pending { lines: self.lines.split_off(&(status.step_count + 1)), ..Pending::default() }
    }
}

fn lock(pending: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    // Each change leaves it whole.
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}
