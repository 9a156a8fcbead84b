//! What came of the script: a timeline for people, a document for programs. Pure.

use crate::crd::{Outcome, Phase, PlannerName};
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// What came of one fault.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Incident {
    /// The fault's name.
    pub fault: &'static str,
    /// The invariant that it broke.
    pub invariant: &'static str,
    /// The ticket.
    pub ticket: String,
    /// Where the ticket was when the harness had done what it would do.
    pub phase: Phase,
    /// The outcome that it had then.
    pub outcome: Option<Outcome>,
    /// Who proposed the repair.
    pub planner: Option<PlannerName>,
    /// From the fault to the ticket, in seconds.
    pub detection_seconds: Option<f64>,
    /// From the ticket to the write of the last attempt, in seconds; absent where nothing was written.
    pub repair_seconds: Option<f64>,
    /// From that write to the end of the ticket, in seconds.
    pub resolution_seconds: Option<f64>,
    /// The ConfigMap was as the fault left it.
    #[serde(skip)]
    pub untouched: bool,
    /// It ended as the scene says that it must.
    #[serde(skip)]
    pub as_expected: bool,
}

/// What came of the whole script.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of the API server.
    pub kubernetes: String,
    /// The kubeconfig that reaches it; absent for the user's own current one.
    pub kubeconfig: Option<PathBuf>,
    /// What came of each fault, in order.
    pub incidents: Vec<Incident>,
}

impl Report {
    /// Whether all of `expected` faults were played and each ended as it must.
    pub fn is_success(&self, expected: usize) -> bool {
        self.incidents.len() == expected && self.incidents.iter().all(|incident| incident.as_expected)
    }

    /// The timeline for people.
    pub fn timeline(&self) -> String {
        let mut lines = vec![row(["fault", "ticket", "detected", "repaired", "verified", "end"])];
        lines.extend(self.incidents.iter().map(|incident| {
            let [detected, repaired, verified] =
                [incident.detection_seconds, incident.repair_seconds, incident.resolution_seconds].map(cell);
            row([incident.fault, &incident.ticket, &detected, &repaired, &verified, &incident.ending()])
        }));
        lines.join("\n")
    }
}

impl Incident {
    fn ending(&self) -> String {
        let because = self.outcome.map(|outcome| format!(" ({outcome:?})")).unwrap_or_default();
        let planner = self.planner.map(|planner| format!(" by {planner:?}")).unwrap_or_default();
        let untouched = if self.untouched { ", nothing written" } else { "" };
        let surprise = if self.as_expected { "" } else { "  <- not as it must be" };
        format!("{:?}{because}{planner}{untouched}{surprise}", self.phase)
    }
}

/// The seconds from one moment to another, to the millisecond.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    let milliseconds = to.duration_since(from).as_millis();
    // A span that is too long for this is no span of the demo.
    f64::from(i32::try_from(milliseconds).unwrap_or(i32::MAX)) / 1000.0
}

fn cell(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn row(cells: [&str; 6]) -> String {
    let [fault, ticket, detected, repaired, verified, end] = cells;
    format!("  {fault:<10} {ticket:<26} {detected:>9} {repaired:>9} {verified:>9}  {end}")
}

#[cfg(test)]
mod tests;
