//! An invariant that heals by itself and breaks again, and again: after a few tickets one stays open until it is calm.
//! Pure: time is an argument.
//!
//! What the harness repaired does not count: that is one incident each time, and the breaker limits those.

use crate::crd::{Allow, Invariant, InvariantSpec, Outcome, Phase, Target, Ticket};
use crate::watch::ObjectKey;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::time::Duration;

/// So many tickets that were resolved without a repair, within [`WINDOW`], are flapping.
pub const TICKETS: usize = 3;

/// Tickets count for so long.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The ticket of a flapping invariant stays open until it has held for so long without a break.
pub const CALM: Duration = Duration::from_mins(15);

/// Whether an invariant flaps whose last tickets were resolved without a repair at these times, oldest first.
pub fn is_flapping(healed: &[Timestamp], now: Timestamp) -> bool {
    let nth_last = healed.len().checked_sub(TICKETS).and_then(|at| healed.get(at));
    nth_last.is_some_and(|at| now.duration_since(*at) < WINDOW)
}

/// Notes that a ticket was resolved without a repair. As many are kept as count.
pub fn note(healed: &mut Vec<Timestamp>, now: Timestamp) {
    healed.push(now);
    healed.drain(..healed.len().saturating_sub(TICKETS));
}

/// Whether so many holds in a row are calm. A sample stands for one interval: what was not asked does not count.
pub fn is_calm(spec: &InvariantSpec, holds: u32) -> bool {
    Duration::from(spec.interval) * holds.saturating_sub(1) >= CALM
}

/// What is said of it, on the invariant and on its ticket.
pub fn message() -> String {
    let minutes = CALM.as_secs() / 60;
    format!(
        "{TICKETS} tickets within an hour were resolved without a repair of the harness, and it broke again: its next \
         ticket stays open until it has held for {minutes} minutes without a break"
    )
}

/// Whether a ticket was resolved without a repair of its own.
pub fn healed_without_repair(ticket: &Ticket) -> bool {
    let outcome = ticket.status.as_ref().and_then(|status| status.outcome);
    ticket.phase() == Phase::Resolved && matches!(outcome, Some(Outcome::SelfHealed | Outcome::FixedByPerson))
}

/// When what was repaired last: a repair for one ticket heals others too.
#[derive(Debug, Default)]
pub struct Repaired {
    /// By target, and by object of an `allow` list.
    at: HashMap<ObjectKey, Timestamp>,
}

impl Repaired {
    /// Takes what a ticket says of its last attempt.
    pub fn note(&mut self, ticket: &Ticket) {
        let namespace = ticket.metadata.namespace.as_deref().unwrap_or_default();
        let attempt = ticket.status.as_ref().and_then(|status| status.attempts.last());
        let Some((attempt, at)) = attempt.and_then(|it| Some((it, it.written_at.as_ref()?.0))) else { return };
        let objects = attempt.actions.iter().map(|it| object(&it.object.kind, &it.object.name));
        for name in objects.chain(ticket.spec.target_ref.as_ref().map(target)) {
            let last = self.at.entry(ObjectKey::new(namespace, name)).or_insert(at);
            *last = at.max(*last);
        }
        self.at.retain(|_, last| at.duration_since(*last) < WINDOW);
    }

    /// Whether something that this invariant is about, or that a repair of it may write, was repaired since then.
    pub fn since(&self, invariant: &Invariant, since: Timestamp) -> bool {
        let namespace = invariant.metadata.namespace.as_deref().unwrap_or_default();
        let objects = invariant.spec.remediation.allow.iter().map(allowed);
        let mut names = objects.chain(invariant.spec.target_ref.as_ref().map(target));
        names.any(|name| self.at.get(&ObjectKey::new(namespace, name)).is_some_and(|at| *at >= since))
    }
}

fn allowed(allow: &Allow) -> String {
    match allow {
        Allow::EditConfig(config) => object("ConfigMap", &config.name),
        Allow::Restart(workload) | Allow::Rollback(workload) => object(&format!("{:?}", workload.kind), &workload.name),
        Allow::Scale(bounds) => object(&format!("{:?}", bounds.kind), &bounds.name),
    }
}

fn target(target: &Target) -> String {
    object(&format!("{:?}", target.kind), &target.name)
}

fn object(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}
