//! Whether the operator lives, is ready, and what it counts: what a kubelet and a Prometheus ask.
//!
//! The halves report here; nothing here acts. Labels are bounded: no name of an object is ever one.

use crate::crd::{Phase, VerdictName};
use crate::lease::Standing;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a loop says that it turns.
pub const PULSE: Duration = Duration::from_secs(5);
/// A loop that said nothing for so long hangs.
const LIMP: Duration = Duration::from_mins(1);

/// The upper bounds by which the lateness of checks is counted.
const LATENESS_SECONDS: [f64; 9] = [0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// A loop of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The monitor's.
    Monitor,
    /// The agent's.
    Agent,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Verdict {
    verdict: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    phase: String,
}

/// What is known of one loop.
#[derive(Debug, Default, Clone)]
struct Loop {
    beaten_at: Option<Instant>,
    synced: bool,
    /// How it stands to its lease.
    standing: Option<Standing>,
}

impl Loop {
    /// Whether it does what it is there for, and what that is. One that stands by is ready to take over.
    fn readiness(&self) -> (bool, String) {
        match &self.standing {
            Some(Standing::Unknown { why }) => (false, format!("its lease cannot be taken: {why}")),
            Some(Standing::StandsBy { holder }) => (true, format!("stands by; the lease is held by {holder}")),
            Some(Standing::Holds) | None if self.synced => (true, "at work".to_owned()),
            Some(Standing::Holds) | None => (false, "not everything is seen yet".to_owned()),
        }
    }
}

/// The vital signs of one process. Cheap to clone; clones share all.
#[derive(Debug, Clone)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    loops: Mutex<[Loop; 2]>,
    registry: Registry,
    checks: Family<Verdict, Counter>,
    skipped: Counter,
    lateness: Histogram,
    status_writes: Counter,
    invariants: Gauge,
    phases: Family<InPhase, Counter>,
    open: Family<InPhase, Gauge>,
}

impl Default for Vitals {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("harness");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the harness", build);
        let (checks, phases, open) = (Family::default(), Family::default(), Family::default());
        let (skipped, status_writes, invariants) = (Counter::default(), Counter::default(), Gauge::default());
        let lateness = Histogram::new(LATENESS_SECONDS);
        registry.register("checks", "Checks of invariants, by what they meant", Family::clone(&checks));
        registry.register("checks_skipped", "Checks that were due and not begun in time", skipped.clone());
        registry.register_with_unit(
            "check_start_lateness",
            "How long after they were due checks began",
            Unit::Seconds,
            lateness.clone(),
        );
        registry.register("status_writes", "Statuses of invariants that were written", status_writes.clone());
        registry.register("invariants", "Invariants that are known", invariants.clone());
        registry.register("ticket_phases", "Phases that tickets entered", Family::clone(&phases));
        registry.register("open_tickets", "Tickets that have not ended, by phase", Family::clone(&open));
        Self(Arc::new(Inner {
            loops: Mutex::default(),
            registry,
            checks,
            skipped,
            lateness,
            status_writes,
            invariants,
            phases,
            open,
        }))
    }
}

impl Vitals {
    /// A loop turns.
    pub fn beat(&self, part: Part) {
        self.with(part, |it| it.beaten_at = Some(Instant::now()));
    }

    /// A loop has seen everything that there is.
    pub fn synced(&self, part: Part) {
        self.with(part, |it| it.synced = true);
    }

    /// How the process of a loop stands to its lease, told at each look at it. While another process works, the loop does
    /// not turn.
    pub fn stands(&self, part: Part, standing: &Standing) {
        self.with(part, |it| {
            if *standing != Standing::Holds || it.standing.as_ref() != Some(standing) {
                it.beaten_at = Some(Instant::now());
                it.synced = false;
            }
            it.standing = Some(standing.clone());
        });
    }

    /// A check was made.
    pub fn checked(&self, verdict: VerdictName) {
        self.0.checks.get_or_create(&Verdict { verdict: format!("{verdict:?}") }).inc();
    }

    /// A check began so long after it was due.
    pub fn started(&self, late: Duration) {
        self.0.lateness.observe(late.as_secs_f64());
    }

    /// The status of an invariant was written.
    pub fn status_written(&self) {
        self.0.status_writes.inc();
    }

    /// Checks were due and not begun.
    pub fn skipped(&self, checks: u64) {
        self.0.skipped.inc_by(checks);
    }

    /// So many invariants are known.
    pub fn invariants(&self, count: usize) {
        self.0.invariants.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A ticket moved from one phase to another.
    pub fn moved(&self, from: Option<Phase>, to: Option<Phase>) {
        if from == to {
            return;
        }
        let in_phase = |phase: Phase| InPhase { phase: format!("{phase:?}") };
        let is_open = |phase: &Phase| !matches!(phase, Phase::Resolved | Phase::Cancelled);
        if let Some(from) = from.filter(is_open) {
            self.0.open.get_or_create(&in_phase(from)).dec();
        }
        if let Some(to) = to {
            self.0.phases.get_or_create(&in_phase(to)).inc();
        }
        if let Some(to) = to.filter(is_open) {
            self.0.open.get_or_create(&in_phase(to)).inc();
        }
    }

    /// Every loop that ever turned still does.
    pub fn is_alive(&self) -> bool {
        let loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.iter().all(|it| it.beaten_at.is_none_or(|at| at.elapsed() < LIMP))
    }

    /// Whether every loop does what it is there for, and there is one; and what each does, in a line.
    pub fn readiness(&self) -> (bool, String) {
        let loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let turning = || loops.iter().zip(["monitor", "agent"]).filter(|(it, _)| it.beaten_at.is_some());
        let is_ready = turning().next().is_some() && turning().all(|(it, _)| it.readiness().0);
        let lines: Vec<String> = turning().map(|(it, name)| format!("{name}: {}\n", it.readiness().1)).collect();
        (is_ready, lines.concat())
    }

    /// All that is counted, in the text format of OpenMetrics.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    fn with(&self, part: Part, change: impl FnOnce(&mut Loop)) {
        let mut loops = self.0.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let [monitor, agent] = &mut *loops;
        change(match part {
            Part::Monitor => monitor,
            Part::Agent => agent,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_every_loop_that_turns_has_seen_everything() {
        let vitals = Vitals::default();
        let is_ready = || vitals.readiness().0;
        assert!(vitals.is_alive() && !is_ready());
        vitals.beat(Part::Monitor);
        vitals.synced(Part::Monitor);
        assert!(is_ready());
        vitals.beat(Part::Agent);
        assert!(!is_ready());
        vitals.synced(Part::Agent);
        assert!(is_ready());
    }

    #[test]
    fn one_that_stands_by_is_ready_and_says_for_whom_and_begins_anew_when_it_works() {
        let vitals = Vitals::default();
        vitals.stands(Part::Agent, &Standing::Unknown { why: "forbidden".to_owned() });
        assert_eq!(vitals.readiness(), (false, "agent: its lease cannot be taken: forbidden\n".to_owned()));
        vitals.stands(Part::Agent, &Standing::StandsBy { holder: "pod-1".to_owned() });
        assert_eq!(vitals.readiness(), (true, "agent: stands by; the lease is held by pod-1\n".to_owned()));
        vitals.stands(Part::Agent, &Standing::Holds);
        assert_eq!(vitals.readiness(), (false, "agent: not everything is seen yet\n".to_owned()));
        vitals.synced(Part::Agent);
        vitals.stands(Part::Agent, &Standing::Holds);
        assert_eq!(vitals.readiness(), (true, "agent: at work\n".to_owned()));
        vitals.stands(Part::Agent, &Standing::StandsBy { holder: "pod-2".to_owned() });
        vitals.stands(Part::Agent, &Standing::Holds);
        assert!(!vitals.readiness().0);
    }

    #[test]
    fn open_tickets_are_counted_where_they_are() {
        let vitals = Vitals::default();
        vitals.moved(None, Some(Phase::Open));
        vitals.moved(Some(Phase::Open), Some(Phase::Escalated));
        vitals.moved(None, Some(Phase::Open));
        vitals.moved(Some(Phase::Open), Some(Phase::Resolved));
        vitals.checked(VerdictName::Holds);
        let metrics = vitals.metrics();
        for line in [
            "harness_open_tickets{phase=\"Open\"} 0",
            "harness_open_tickets{phase=\"Escalated\"} 1",
            "harness_ticket_phases_total{phase=\"Resolved\"} 1",
            "harness_checks_total{verdict=\"Holds\"} 1",
        ] {
            assert!(metrics.contains(line), "{line} is missing:\n{metrics}");
        }
    }
}
