//! The names of all conditions and reasons, in one place: they are what users script against.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types.
pub mod type_ {
    /// Invariant: its query and condition were understood, and it does not depend on itself through others.
    pub const ACCEPTED: &str = "Accepted";
    /// Invariant: it holds, by its thresholds.
    pub const HOLDING: &str = "Holding";
    /// Invariant: it is broken, but a ticket is held back because something it depends on is broken too.
    pub const HELD_BACK: &str = "HeldBack";
    /// Invariant: it heals by itself and breaks again; its ticket stays open until it is calm.
    pub const FLAPPING: &str = "Flapping";
    /// Ticket: the monitor saw the invariant hold again.
    pub const RESOLVED: &str = "Resolved";
    /// Ticket: a person is needed.
    pub const ESCALATED: &str = "Escalated";
    /// Ticket: a change was made that was neither verified nor undone yet.
    pub const UNVERIFIED_CHANGE: &str = "UnverifiedChange";
}

/// Reasons of conditions.
pub mod reason {
    /// The query and the condition were understood.
    pub const PARSED: &str = "Parsed";
    /// The query could not be understood.
    pub const INVALID_QUERY: &str = "InvalidQuery";
    /// The condition could not be understood.
    pub const INVALID_CONDITION: &str = "InvalidCondition";
    /// It depends on itself through others, so that none of them waits for another of them.
    pub const DEPENDENCY_CYCLE: &str = "DependencyCycle";
    /// The condition is met.
    pub const CONDITION_MET: &str = "ConditionMet";
    /// The condition is not met.
    pub const CONDITION_NOT_MET: &str = "ConditionNotMet";
    /// Fewer samples than the threshold asks for were taken yet.
    pub const TOO_FEW_SAMPLES: &str = "TooFewSamples";
    /// `spec.suspend` is set.
    pub const SUSPENDED: &str = "Suspended";
    /// Something that this invariant depends on is broken.
    pub const DEPENDENCY_BROKEN: &str = "DependencyBroken";
    /// More than half of the namespace is broken at once, and one ticket stands for all of it.
    pub const OUTAGE: &str = "Outage";
    /// It never held, and its target is only just starting.
    pub const STARTING: &str = "Starting";
    /// Its tickets were resolved without a repair, and it broke again.
    pub const BREAKS_AGAIN: &str = "BreaksAgain";
    /// It holds, or is broken, for long enough.
    pub const STEADY: &str = "Steady";
    /// Nothing that this invariant depends on is broken.
    pub const NO_DEPENDENCY_BROKEN: &str = "NoDependencyBroken";
}

/// Puts a condition into the list. The transition time moves only when the status does.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = Time(old.last_transition_time.0);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}
