//! What can happen to a ticket, and what may follow.

use crate::crd::{Outcome, Phase};

/// What can happen to a ticket. Each is one row, or one cell of a row, of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Monitor: the invariant holds by its thresholds, counted from where the phase says that counting begins, and
    /// the guards and the stabilisation window are satisfied.
    Holds {
        /// Somebody other than the harness wrote to the target since the ticket was opened.
        others_wrote: bool,
        /// The invariant asks something else than the ticket was opened for, since the attempt was made.
        invariant_edited: bool,
    },
    /// Agent: nothing may begin now.
    HeldUp(Holdup),
    /// Agent: the invariant never held in its present form: there is nothing to return to.
    NeverHeld,
    /// Agent: the ticket stands for an outage of its namespace: nothing is repaired one by one.
    StandsForOutage,
    /// Agent: the objects that a repair may write are claimed for this ticket.
    ClaimWon,
    /// Agent: the planner wants to read.
    ReadRequested,
    /// Agent: policy refused a proposed change; with the count of refusals in this planner's turn, this one included.
    PolicyRefused {
        /// Refusals so far.
        refusals: u32,
    },
    /// Agent: this planner is done without a change (declined, unreachable, looping, out of budget).
    PlannerDone {
        /// Another planner is left to try.
        another: bool,
        /// What to say if none is left.
        outcome: Outcome,
    },
    /// Agent: the planner found that nothing needs to be done.
    NoActionNeeded,
    /// Agent: policy allows a proposed change, and this is how far the mode lets it go.
    ChangeProposed(Leave),
    /// Agent: a valid approval of exactly this proposal is there.
    Approved,
    /// Agent: a person said no.
    Rejected,
    /// Agent: nobody answered in time.
    ApprovalExpired,
    /// Agent: the object or the invariant is not what the change was judged by any more.
    Superseded {
        /// A part of the change was written already.
        wrote_before: bool,
    },
    /// Agent: the breaker that held a change is closed again.
    BreakerClosed,
    /// Agent: every write of the attempt was acknowledged.
    Applied,
    /// Agent: a write's precondition failed; with the count in this round, this one included.
    PreconditionFailed {
        /// Conflicts so far.
        conflicts: u32,
    },
    /// Agent: the object is gone.
    TargetUnavailable {
        /// Another object carries this attempt's change already.
        wrote_before: bool,
    },
    /// Agent: the API server refused a write, and would refuse it again; or it refused it until the deadline.
    WriteRefused {
        /// Another object carries this attempt's change already.
        wrote_before: bool,
    },
    /// Agent: a write was refused for now, or has no answer: it is tried again.
    WriteDelayed,
    /// Agent, after a restart: the object carries this attempt's mark.
    MarkFound,
    /// Agent, after a restart: the object is as it was before the attempt.
    UntouchedFound,
    /// Agent: an object is neither as before nor as this attempt wrote it.
    ForeignFound {
        /// Another object carries this attempt's change already.
        wrote_before: bool,
    },
    /// Agent: the change is not yet in force where it is read.
    NotInForce,
    /// Agent: the change is in force from now on.
    InForce,
    /// Agent: `verifyTimeout` passed.
    VerifyTimedOut {
        /// Somebody else wrote to the object since: undo is forbidden.
        others_wrote: bool,
    },
    /// Agent: a guard that held before the write is broken.
    GuardRegressed {
        /// Somebody else wrote to the object since: undo is forbidden.
        others_wrote: bool,
    },
    /// What the change took away is there again, by somebody else's hand: a fault that must be diagnosed anew.
    BroughtBack,
    /// Agent: the invariant cannot be asked for a reason on the harness's own side: the clock stops.
    Blind,
    /// Agent: the invariant can be asked again.
    SightRegained,
    /// Agent: the pre-images are back.
    Restored {
        /// Attempts are left.
        attempts_left: bool,
    },
    /// Agent: what was written before the API server refused the rest is as it was before.
    RestoredAfterRefusal,
    /// Agent: nothing is left that could be put back, but something that others wrote, that is gone, or that the API
    /// server does not let the agent put back.
    UndoConflict,
    /// Agent: writes are suspended.
    Suspended,
    /// Agent: a person asked for another round.
    RetryRequested,
    /// Agent: the invariant was deleted.
    InvariantDeleted,
    /// Agent: the ticket is being deleted.
    TicketDeleted,
    /// Agent: words for people, or what they cost, are new.
    Described,
    /// Nothing of the above: still broken, waiting.
    NothingNew,
}

/// Why a ticket stays Open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holdup {
    /// Another ticket works on an object that this one may write.
    WaitingForTarget,
    /// A failed or undone attempt was too recent.
    CoolingDown,
    /// Something that the invariant depends on is broken.
    DependencyBroken,
    /// So much of the namespace is broken at once that the cause lies elsewhere.
    Outage,
    /// Another ticket's repair seems to have healed it: the monitor's next samples decide.
    AwaitingVerdict,
}

/// How far a change may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// To be written now.
    Granted,
    /// To be written when a person approves.
    NeedsApproval,
    /// The breaker of an object is open: to be written when a person approves, or planned anew once it is closed.
    HeldByBreaker,
    /// To be shown only.
    ProposeOnly,
}

/// What to do besides recording the phase. The work of a phase itself follows from the phase: in Repairing the saved
/// intent is written, in RollingBack the pre-images are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Begin with a planner's fresh session: what was known to the last one is void.
    StartPlanner,
    /// Let go of the objects.
    ReleaseClaim,
}

/// What follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The phase from now on.
    pub phase: Phase,
    /// Why, in one PascalCase word for `status.reason`; `None` leaves it as it is.
    pub reason: Option<&'static str>,
    /// How it ended, for phases that say so.
    pub outcome: Option<Outcome>,
    /// What to do.
    pub effect: Effect,
}

impl Transition {
    pub(super) const fn stay(phase: Phase) -> Self {
        Self { phase, reason: None, outcome: None, effect: Effect::None }
    }

    pub(super) const fn to(phase: Phase, reason: &'static str, effect: Effect) -> Self {
        Self { phase, reason: Some(reason), outcome: None, effect }
    }

    pub(super) const fn because(mut self, outcome: Outcome) -> Self {
        self.outcome = Some(outcome);
        self
    }
}
