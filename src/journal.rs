//! The steps of a ticket: what was done, in lines that a person can follow. Pure.

use crate::crd::{Step, TicketStatus};
use crate::redact;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::{Map, Value};
use std::time::Duration;

/// Steps that a ticket keeps.
const KEPT_STEPS: usize = 100;

/// One thing that was done.
#[derive(Debug, Clone)]
pub struct Entry {
    /// One line for people.
    pub summary: String,
    /// The tool.
    pub tool: String,
    /// Its input.
    pub input: Map<String, Value>,
    /// What came of it.
    pub outcome: String,
    /// How long it took.
    pub took: Duration,
}

/// Adds a step. The oldest goes when there are too many; numbers are never used again.
pub fn push(status: &mut TicketStatus, entry: Entry, now: Timestamp) {
    status.step_count = status.step_count.saturating_add(1);
    if status.steps.len() >= KEPT_STEPS {
        status.steps.remove(0);
    }
    status.steps.push(Step {
        number: status.step_count,
        at: MicroTime(now),
        summary: redact::line(&entry.summary, 80),
        tool: entry.tool,
        input: entry.input,
        outcome: redact::line(&entry.outcome, 512),
        duration_milliseconds: u32::try_from(entry.took.as_micros().div_ceil(1000)).unwrap_or(u32::MAX),
    });
}
