//! The seam between the agent and whoever plans a repair.
//!
//! A planner opens a session for an incident; the session says its next move from the replies to the last one. It
//! proposes and never acts: calls are executed, changes judged and written, by the agent. A session owns its raw
//! conversation. All changes of one move are one attempt: one hash, one approval, undone in reverse order.

pub mod claude;
pub mod last_known_good;

use super::change::ProposedChange;
use super::policy::Refusal;
use super::spending::Purse;
use super::tools::{Call, Reading};
use crate::claude::{NanoDollars, Usage};
use crate::crd::{ConfigMapKey, Diagnosis, Invariant, Outcome, PlannerName, Ticket};
use crate::gitops::GitOps;
use crate::history::Revision;
use futures::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;

/// What a planner is told at the start, and again when a change of it is not in force.
#[derive(Debug, Clone)]
pub struct Briefing {
    /// The ticket, with its evidence and past attempts.
    pub ticket: Arc<Ticket>,
    /// The invariant as it is now.
    pub invariant: Arc<Invariant>,
    /// What repairs in this namespace reverted.
    pub reverted: Vec<Reverted>,
    /// The configuration that a repair may touch, as it is now.
    pub config: Vec<KnownConfig>,
    /// The other invariants of the same target.
    pub siblings: Vec<Sibling>,
    /// Which writers are GitOps tools.
    pub gitops: GitOps,
}

/// A key that the `allow` list names, and the ConfigMap that has it.
#[derive(Debug, Clone)]
pub struct KnownConfig {
    /// The entry of the list.
    pub entry: ConfigMapKey,
    /// The ConfigMap; `None`: it does not exist.
    pub revision: Option<Revision>,
}

/// Another invariant of the same target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// What it asks.
    pub query: String,
    /// What must be true of the answer.
    pub condition: String,
    /// The status of its Holding condition.
    pub holding: Option<String>,
    /// Its last value.
    pub value: Option<String>,
}

/// A value that an earlier repair took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// The ticket of that repair.
    pub ticket: String,
    /// The ConfigMap.
    pub name: String,
    /// A JSON pointer, or the key as a whole.
    pub path: String,
    /// The value, as a ticket shows it; `None`: it was absent.
    pub value: Option<String>,
    /// Who had written it, where that is known.
    pub by: Option<String>,
    /// When it was taken away.
    pub written_at: Timestamp,
}

/// What a session wants next.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// To read.
    Read(Vec<Call>),
    /// To change something.
    Change(Change),
    /// Nothing: all is well.
    NoActionNeeded(Diagnosis),
    /// To hand over to a person, and to nobody else.
    HandOver {
        /// What was found.
        diagnosis: Diagnosis,
        /// What the planner would try next.
        next_step: String,
    },
    /// To leave it to the next planner or to a person.
    Decline {
        /// How the ticket ends if nobody else has a plan.
        outcome: Outcome,
        /// What was found, for whoever comes next.
        diagnosis: Diagnosis,
    },
}

/// A proposed change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What to change, in this order.
    pub changes: Vec<ProposedChange>,
    /// Why, in a sentence.
    pub why: String,
    /// What is believed to be wrong.
    pub diagnosis: Diagnosis,
}

/// The reply to a move.
#[derive(Debug, Clone)]
pub enum Reply {
    /// There was no move yet.
    Begin,
    /// The results of the calls, in their order.
    Readings(Vec<Reading>),
    /// The change was refused, for these reasons.
    Refused(Vec<Refusal>),
    /// The change is not in force: it was undone, or could not be written, or is void.
    Unmade {
        /// What is known now.
        briefing: Box<Briefing>,
        /// Why.
        why: String,
    },
}

/// Someone who plans repairs.
pub trait Planner: Send + Sync {
    /// Who it is.
    fn name(&self) -> PlannerName;

    /// Whether its sessions cost money: such a session ends with the ticket's time for diagnosis.
    fn is_metered(&self) -> bool {
        false
    }

    /// Opens a session for an incident, which pays for its models out of `purse`.
    fn start(&self, briefing: Briefing, purse: Purse) -> Box<dyn Session>;
}

/// One planner at work on one incident.
pub trait Session: Send + Sync {
    /// The next move.
    fn next(&mut self, reply: Reply) -> BoxFuture<'_, Move>;

    /// What models cost in this session since this was asked last.
    fn take_usage(&mut self) -> Option<ModelCalls> {
        None
    }
}

/// What calls of a model cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCalls {
    /// The model.
    pub model: String,
    /// Calls.
    pub calls: u32,
    /// Their usage.
    pub usage: Usage,
    /// What they cost.
    pub cost: NanoDollars,
}
