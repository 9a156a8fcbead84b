//! Walks every pair of phase and event, and checks the rows of the table one by one.

use super::*;
use Phase::{AwaitingApproval, Cancelled, Diagnosing, Escalated, Open, Repairing, Resolved, RollingBack, Verifying};
use proptest::prelude::*;

const PHASES: [Phase; 9] =
    [Open, Diagnosing, AwaitingApproval, Repairing, Verifying, RollingBack, Escalated, Resolved, Cancelled];

fn every_event() -> Vec<Event> {
    let mut events = vec![
        Event::NeverHeld,
        Event::ClaimWon,
        Event::ReadRequested,
        Event::NoActionNeeded,
        Event::Approved,
        Event::Rejected,
        Event::ApprovalExpired,
        Event::Superseded { wrote_before: false },
        Event::Superseded { wrote_before: true },
        Event::BreakerClosed,
        Event::Applied,
        Event::MarkFound,
        Event::UntouchedFound,
        Event::WriteDelayed,
        Event::RestoredAfterRefusal,
        Event::NotInForce,
        Event::InForce,
        Event::Blind,
        Event::SightRegained,
        Event::UndoConflict,
        Event::Suspended,
        Event::RetryRequested,
        Event::InvariantDeleted,
        Event::TicketDeleted,
        Event::NothingNew,
        Event::Described,
        Event::StandsForOutage,
        Event::BroughtBack,
    ];
    for flag in [false, true] {
        for other in [false, true] {
            events.push(Event::Holds { others_wrote: flag, invariant_edited: other });
        }
        events.push(Event::PlannerDone { another: flag, outcome: Outcome::NoPlan });
        events.push(Event::TargetUnavailable { wrote_before: flag });
        events.push(Event::WriteRefused { wrote_before: flag });
        events.push(Event::ForeignFound { wrote_before: flag });
        events.push(Event::VerifyTimedOut { others_wrote: flag });
        events.push(Event::GuardRegressed { others_wrote: flag });
        events.push(Event::Restored { attempts_left: flag });
    }
    for count in 1..=PATIENCE {
        events.push(Event::PolicyRefused { refusals: count });
        events.push(Event::PreconditionFailed { conflicts: count });
    }
    events.extend(
        [
            Holdup::WaitingForTarget,
            Holdup::CoolingDown,
            Holdup::DependencyBroken,
            Holdup::Outage,
            Holdup::AwaitingVerdict,
        ]
        .map(Event::HeldUp),
    );
    events.extend(
        [Leave::Granted, Leave::NeedsApproval, Leave::HeldByBreaker, Leave::ProposeOnly].map(Event::ChangeProposed),
    );
    events
}

fn every_pair() -> impl Iterator<Item = (Phase, Event, Transition)> {
    PHASES.into_iter().flat_map(|phase| every_event().into_iter().map(move |event| (phase, event, next(phase, event))))
}

fn holds(others_wrote: bool, invariant_edited: bool) -> Event {
    Event::Holds { others_wrote, invariant_edited }
}

type Row = (Phase, Event, Phase, Option<Outcome>, Effect);

fn planner_done(another: bool) -> Event {
    Event::PlannerDone { another, outcome: Outcome::NoPlan }
}

#[test]
fn every_row_before_a_change_says_what_follows() {
    check(&[
        (Open, Event::HeldUp(Holdup::WaitingForTarget), Open, None, Effect::None),
        (Open, Event::HeldUp(Holdup::CoolingDown), Open, None, Effect::None),
        (Open, Event::HeldUp(Holdup::DependencyBroken), Open, None, Effect::None),
        (Open, Event::HeldUp(Holdup::AwaitingVerdict), Open, None, Effect::None),
        (Open, Event::HeldUp(Holdup::Outage), Open, None, Effect::None),
        (Open, Event::StandsForOutage, Escalated, Some(Outcome::Outage), Effect::ReleaseClaim),
        (Open, Event::Suspended, Open, None, Effect::None),
        (Open, Event::NeverHeld, Escalated, Some(Outcome::NeverHeld), Effect::ReleaseClaim),
        (Open, Event::ClaimWon, Diagnosing, None, Effect::StartPlanner),
        (Open, holds(false, false), Resolved, Some(Outcome::SelfHealed), Effect::None),
        (Open, holds(true, false), Resolved, Some(Outcome::FixedByPerson), Effect::None),
        (Diagnosing, holds(false, false), Resolved, Some(Outcome::SelfHealed), Effect::None),
        (AwaitingApproval, holds(true, true), Resolved, Some(Outcome::FixedByPerson), Effect::None),
        (Diagnosing, Event::ReadRequested, Diagnosing, None, Effect::None),
        (Diagnosing, Event::PolicyRefused { refusals: 2 }, Diagnosing, None, Effect::None),
        (Diagnosing, Event::PolicyRefused { refusals: 3 }, Diagnosing, None, Effect::StartPlanner),
        (Diagnosing, planner_done(true), Diagnosing, None, Effect::StartPlanner),
        (Diagnosing, planner_done(false), Escalated, Some(Outcome::NoPlan), Effect::ReleaseClaim),
        (
            Diagnosing,
            Event::ChangeProposed(Leave::ProposeOnly),
            Escalated,
            Some(Outcome::Proposed),
            Effect::ReleaseClaim,
        ),
        (Diagnosing, Event::ChangeProposed(Leave::NeedsApproval), AwaitingApproval, None, Effect::None),
        (Diagnosing, Event::ChangeProposed(Leave::HeldByBreaker), AwaitingApproval, None, Effect::None),
        (Diagnosing, Event::ChangeProposed(Leave::Granted), Repairing, None, Effect::None),
        (
            Diagnosing,
            Event::WriteRefused { wrote_before: false },
            Escalated,
            Some(Outcome::WriteRefused),
            Effect::ReleaseClaim,
        ),
        (Diagnosing, Event::NoActionNeeded, Escalated, Some(Outcome::NoActionRequired), Effect::ReleaseClaim),
        (AwaitingApproval, Event::Approved, Repairing, None, Effect::None),
        (AwaitingApproval, Event::Rejected, Escalated, Some(Outcome::Rejected), Effect::ReleaseClaim),
        (AwaitingApproval, Event::ApprovalExpired, Escalated, Some(Outcome::ApprovalExpired), Effect::ReleaseClaim),
        (AwaitingApproval, Event::Superseded { wrote_before: false }, Diagnosing, None, Effect::StartPlanner),
        (AwaitingApproval, Event::BreakerClosed, Diagnosing, None, Effect::StartPlanner),
        (AwaitingApproval, Event::HeldUp(Holdup::DependencyBroken), AwaitingApproval, None, Effect::None),
        (AwaitingApproval, Event::Suspended, AwaitingApproval, None, Effect::None),
    ]);
}

#[test]
fn every_row_from_the_write_on_says_what_follows() {
    check(&[
        (Repairing, Event::Applied, Verifying, None, Effect::None),
        (Repairing, Event::PreconditionFailed { conflicts: 2 }, Diagnosing, None, Effect::StartPlanner),
        (
            Repairing,
            Event::PreconditionFailed { conflicts: 3 },
            Escalated,
            Some(Outcome::Conflicts),
            Effect::ReleaseClaim,
        ),
        (Repairing, Event::TargetUnavailable { wrote_before: true }, RollingBack, None, Effect::None),
        (
            Repairing,
            Event::TargetUnavailable { wrote_before: false },
            Escalated,
            Some(Outcome::TargetUnavailable),
            Effect::ReleaseClaim,
        ),
        (Repairing, Event::MarkFound, Verifying, None, Effect::None),
        (Repairing, Event::UntouchedFound, Repairing, None, Effect::None),
        (
            Repairing,
            Event::ForeignFound { wrote_before: false },
            Escalated,
            Some(Outcome::Contested),
            Effect::ReleaseClaim,
        ),
        (Repairing, Event::ForeignFound { wrote_before: true }, RollingBack, None, Effect::None),
        (
            Repairing,
            Event::WriteRefused { wrote_before: false },
            Escalated,
            Some(Outcome::WriteRefused),
            Effect::ReleaseClaim,
        ),
        (Repairing, Event::WriteRefused { wrote_before: true }, RollingBack, None, Effect::None),
        (Repairing, Event::WriteDelayed, Repairing, None, Effect::None),
        (Verifying, Event::NotInForce, Verifying, None, Effect::None),
        (Verifying, Event::InForce, Verifying, None, Effect::None),
        (Verifying, holds(false, false), Resolved, Some(Outcome::Repaired), Effect::None),
        (Verifying, holds(false, true), Resolved, Some(Outcome::InvariantChanged), Effect::None),
        (Verifying, Event::NothingNew, Verifying, None, Effect::None),
        (Verifying, Event::VerifyTimedOut { others_wrote: false }, RollingBack, None, Effect::None),
        (Verifying, Event::GuardRegressed { others_wrote: false }, RollingBack, None, Effect::None),
        (Verifying, Event::BroughtBack, Diagnosing, None, Effect::StartPlanner),
        (Verifying, Event::Blind, Verifying, None, Effect::None),
        (
            Verifying,
            Event::VerifyTimedOut { others_wrote: true },
            Escalated,
            Some(Outcome::Contested),
            Effect::ReleaseClaim,
        ),
        (
            Verifying,
            Event::GuardRegressed { others_wrote: true },
            Escalated,
            Some(Outcome::Contested),
            Effect::ReleaseClaim,
        ),
        (Verifying, Event::Suspended, Verifying, None, Effect::None),
        (RollingBack, Event::Suspended, RollingBack, None, Effect::None),
        (RollingBack, Event::Restored { attempts_left: true }, Diagnosing, None, Effect::StartPlanner),
        (
            RollingBack,
            Event::Restored { attempts_left: false },
            Escalated,
            Some(Outcome::AttemptsExhausted),
            Effect::ReleaseClaim,
        ),
        (RollingBack, Event::UndoConflict, Escalated, Some(Outcome::UndoConflict), Effect::ReleaseClaim),
        (RollingBack, Event::WriteDelayed, RollingBack, None, Effect::None),
        (RollingBack, Event::RestoredAfterRefusal, Escalated, Some(Outcome::WriteRefused), Effect::ReleaseClaim),
        (RollingBack, Event::MarkFound, RollingBack, None, Effect::None),
        (Escalated, holds(false, false), Resolved, Some(Outcome::SelfHealed), Effect::None),
        (Escalated, holds(true, false), Resolved, Some(Outcome::FixedByPerson), Effect::None),
        (Escalated, Event::NothingNew, Escalated, None, Effect::None),
        (Escalated, Event::RetryRequested, Open, None, Effect::None),
        (Repairing, Event::Superseded { wrote_before: false }, Diagnosing, None, Effect::StartPlanner),
        (Repairing, Event::Superseded { wrote_before: true }, RollingBack, None, Effect::None),
        (Repairing, Event::TicketDeleted, RollingBack, None, Effect::None),
        (Verifying, Event::TicketDeleted, RollingBack, None, Effect::None),
    ]);
}

fn check(rows: &[Row]) {
    for (phase, event, to, outcome, effect) in rows {
        let transition = next(*phase, *event);
        assert_eq!(
            (transition.phase, transition.outcome, transition.effect),
            (*to, *outcome, *effect),
            "{phase:?} {event:?}"
        );
    }
}

#[test]
fn a_final_phase_stays_final_whatever_happens() {
    for (phase, event, transition) in every_pair().filter(|(phase, ..)| ended(*phase)) {
        assert_eq!(transition, Transition::stay(phase), "{phase:?} {event:?}");
    }
}

#[test]
fn only_a_hold_that_the_monitor_saw_resolves() {
    for (phase, event, transition) in every_pair() {
        let resolves = transition.phase == Resolved && phase != Resolved;
        assert!(!resolves || matches!(event, Event::Holds { .. }), "{phase:?} {event:?}");
    }
}

#[test]
fn a_hold_never_resolves_while_a_write_or_its_undo_is_under_way() {
    for (phase, event, transition) in every_pair().filter(|(phase, ..)| matches!(phase, Repairing | RollingBack)) {
        assert_ne!(transition.phase, Resolved, "{phase:?} {event:?}");
    }
}

#[test]
fn a_write_is_reached_only_by_leave_that_was_given() {
    for (phase, event, transition) in every_pair().filter(|(phase, ..)| *phase != Repairing) {
        let leave = matches!(event, Event::ChangeProposed(Leave::Granted) | Event::Approved);
        assert!(transition.phase != Repairing || leave, "{phase:?} {event:?}");
    }
}

#[test]
fn a_deleted_invariant_cancels_whatever_is_open() {
    for phase in PHASES.into_iter().filter(|phase| !ended(*phase)) {
        assert_eq!(next(phase, Event::InvariantDeleted).phase, Cancelled, "{phase:?}");
    }
}

#[test]
fn a_phase_that_is_left_says_why_and_an_end_says_how() {
    for (phase, event, transition) in every_pair().filter(|(phase, _, transition)| transition.phase != *phase) {
        assert!(transition.reason.is_some(), "{phase:?} {event:?}");
        let says_how = matches!(transition.phase, Escalated | Resolved | Cancelled);
        assert_eq!(transition.outcome.is_some(), says_how, "{phase:?} {event:?}");
    }
}

#[test]
fn what_is_escalated_or_ended_claims_nothing() {
    for (phase, event, transition) in every_pair().filter(|(phase, ..)| holds_claim(*phase)) {
        let by_agent = !matches!(event, Event::Holds { .. });
        if by_agent && !holds_claim(transition.phase) {
            assert_eq!(transition.effect, Effect::ReleaseClaim, "{phase:?} {event:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_life_ends_where_it_is_final_and_its_conditions_agree_with_its_phase(
        steps in prop::collection::vec(0..every_event().len(), 0..40)
    ) {
        let events = every_event();
        let mut status = crate::crd::TicketStatus::default();
        let mut final_phase = None;
        for step in steps {
            let transition = next(status.phase, events[step]);
            project(&mut status, 1, transition, "because", jiff::Timestamp::UNIX_EPOCH);
            if let Some(phase) = final_phase {
                prop_assert_eq!(status.phase, phase);
            }
            if ended(status.phase) {
                final_phase = Some(status.phase);
                prop_assert!(status.ended_at.is_some());
            }
            for (type_, phase) in [("Resolved", Resolved), ("Escalated", Escalated)] {
                let condition = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
                prop_assert_eq!(condition.status == "True", status.phase == phase);
                prop_assert!(!condition.reason.is_empty());
            }
        }
    }
}
