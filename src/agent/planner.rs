//! The seam between the agent and whoever plans a repair.
//!
//! A planner opens a session for an incident; the session says its next move from the replies to the last one. It
//! proposes and never acts: calls are executed, changes judged and written, by the agent. A session owns its raw
//! conversation. All changes of one move are one attempt: one hash, one approval, undone in reverse order.

pub mod last_known_good;

use super::policy::{Edit, Refusal};
use super::tools::{Call, Reading};
use crate::crd::{Diagnosis, Invariant, Outcome, PlannerName, Ticket};
use futures::future::BoxFuture;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// What a planner is told at the start.
#[derive(Debug, Clone)]
pub struct Briefing {
    /// The ticket, with its evidence and past attempts.
    pub ticket: Arc<Ticket>,
    /// The invariant as it is now.
    pub invariant: Arc<Invariant>,
    /// How long everything must hold for a revision to be good.
    pub good_after: Duration,
    /// What repairs in this namespace reverted.
    pub reverted: Vec<Reverted>,
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
    /// When it was taken away.
    pub written_at: Timestamp,
    /// When that repair was verified.
    pub settled_at: Timestamp,
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
    /// What to edit, in this order.
    pub edits: Vec<Edit>,
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
}

/// Someone who plans repairs.
pub trait Planner: Send + Sync {
    /// Who it is.
    fn name(&self) -> PlannerName;

    /// Opens a session for an incident.
    fn start(&self, briefing: Briefing) -> Box<dyn Session>;
}

/// One planner at work on one incident.
pub trait Session: Send {
    /// The next move.
    fn next(&mut self, reply: Reply) -> BoxFuture<'_, Move>;
}
