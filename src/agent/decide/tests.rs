//! Each observation of an incident, and what follows from it.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn time(second: i64) -> String {
    format!("{:.6}", at(second))
}

fn invariant() -> Invariant {
    let spec = json!({
        "query": "http://a/", "condition": "== 200",
        "remediation": { "mode": "Auto", "verifyTimeout": "30s", "maxAttempts": 2, "budget": { "duration": "60s" } },
    });
    let mut invariant = Invariant::new("inv", serde_json::from_value(spec).unwrap());
    invariant.metadata.generation = Some(3);
    invariant.status = Some(serde_json::from_value(json!({ "heldGeneration": 3 })).unwrap());
    invariant
}

fn action(digest: &str) -> Value {
    json!({
        "object": { "kind": "ConfigMap", "name": "config", "uid": "u" }, "key": "k", "resourceVersion": "1",
        "diff": "", "beforeDigest": digest, "afterDigest": "b",
    })
}

fn attempt(number: u32, more: &Value) -> Value {
    let mut attempt = json!({
        "number": number, "planner": "LastKnownGood", "hash": "h", "actions": [action("a")],
        "intendedAt": time(100), "result": "Unsettled",
    });
    attempt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    attempt
}

fn proposal() -> Value {
    json!({
        "hash": "h", "nonce": "n", "why": "", "actions": [action("a")], "proposedAt": time(100), "expiresAt": time(1000),
        "invariantGeneration": 3,
    })
}

/// An incident with this status; everything else is in order.
fn observed(status: Value) -> Observed {
    let spec = json!({
        "invariantRef": { "name": "inv", "uid": "iu", "generation": 3 }, "severity": "Critical", "title": "",
        "query": "http://a/", "condition": "== 200",
        "opening": { "firstBreachAt": time(90), "openedAt": time(95), "value": "503", "observed": "" },
    });
    let mut ticket = Ticket::new("inv-1", serde_json::from_value(spec).unwrap());
    ticket.metadata.uid = Some("tu".into());
    ticket.status = Some(serde_json::from_value(status).unwrap());
    Observed { ticket: Arc::new(ticket), invariant: Some(Arc::new(invariant())), facts: Facts::default() }
}

fn with_facts(status: Value, facts: Facts) -> Observed {
    Observed { facts, ..observed(status) }
}

fn event(observed: &Observed, now: i64) -> Option<Event> {
    match decide(observed, at(now)) {
        Step::Happened(event, _) => Some(event),
        _ => None,
    }
}

fn answered(mut observed: Observed, decision: &str, nonce: &str) -> Observed {
    let word = json!({ "decision": decision, "by": "jane", "nonce": nonce, "proposalHash": "h" });
    Arc::make_mut(&mut observed.ticket).spec.approval = Some(serde_json::from_value(word).unwrap());
    observed
}

#[test]
fn an_open_ticket_waits_for_whatever_holds_it_up_and_says_so_once() {
    let open = || json!({ "phase": "Open" });
    let suspended = Facts { suspended: true, ..Facts::default() };
    assert_eq!(event(&with_facts(open(), suspended.clone()), 100), Some(Event::Suspended));
    let known = with_facts(json!({ "phase": "Open", "reason": "Suspended" }), suspended);
    assert_eq!(decide(&known, at(100)), Step::Wait(Some(at(110))));
    let cooling = Facts { cooldown_until: Some(at(200)), ..Facts::default() };
    assert_eq!(event(&with_facts(open(), cooling.clone()), 100), Some(Event::HeldUp(Holdup::CoolingDown)));
    assert_eq!(decide(&with_facts(open(), cooling), at(200)), Step::Claim);
    let dependent = Facts { broken_dependencies: vec!["parent".into()], ..Facts::default() };
    assert_eq!(event(&with_facts(open(), dependent), 100), Some(Event::HeldUp(Holdup::DependencyBroken)));
}

#[test]
fn an_invariant_that_never_held_in_this_generation_goes_to_a_person() {
    let mut observed = observed(json!({ "phase": "Open" }));
    let mut never = invariant();
    never.status = Some(serde_json::from_value(json!({ "heldGeneration": 2 })).unwrap());
    observed.invariant = Some(Arc::new(never));
    assert_eq!(event(&observed, 100), Some(Event::NeverHeld));
}

#[test]
fn only_time_in_the_phase_of_diagnosis_counts_as_diagnosis() {
    let spent = |status: Value| diagnosed_for(&serde_json::from_value(status).unwrap(), at(160)).as_secs();
    let earlier = json!({ "phase": "Diagnosing", "diagnosingAt": time(150), "diagnosedMilliseconds": 5000 });
    assert_eq!(spent(earlier), 15);
    assert_eq!(spent(json!({ "phase": "Verifying", "diagnosingAt": time(100), "diagnosedMilliseconds": 5000 })), 5);
    assert_eq!(spent(json!({ "phase": "Open" })), 0);
}

#[test]
fn an_approval_counts_once_for_what_it_was_given_and_not_after_it_expired() {
    let waiting = || observed(json!({ "phase": "AwaitingApproval", "proposal": proposal() }));
    assert_eq!(decide(&waiting(), at(200)), Step::Wait(Some(at(1000))));
    assert_eq!(event(&answered(waiting(), "Approved", "n"), 200), Some(Event::Approved));
    assert_eq!(event(&answered(waiting(), "Rejected", "n"), 200), Some(Event::Rejected));
    assert_eq!(event(&answered(waiting(), "Approved", "n"), 1000), Some(Event::ApprovalExpired));
    assert_eq!(event(&waiting(), 1000), Some(Event::ApprovalExpired));
    let mut other = answered(waiting(), "Approved", "n");
    Arc::make_mut(&mut other.ticket).spec.approval.as_mut().unwrap().proposal_hash = "another".into();
    assert_eq!(event(&other, 200), None);
}

#[test]
fn the_same_change_that_is_proposed_again_needs_a_word_of_its_own() {
    for decision in ["Approved", "Rejected"] {
        // The nonce of an earlier proposal, none at all, and one that was used.
        let waiting = || observed(json!({ "phase": "AwaitingApproval", "proposal": proposal() }));
        assert_eq!(event(&answered(waiting(), decision, "earlier"), 200), None);
        let mut without = answered(waiting(), decision, "n");
        Arc::make_mut(&mut without.ticket).spec.approval.as_mut().unwrap().nonce = None;
        assert_eq!(event(&without, 200), None);
        Arc::make_mut(&mut without.ticket).status.as_mut().unwrap().proposal.as_mut().unwrap().nonce = None;
        assert_eq!(event(&without, 200), None);
        let used = observed(json!({
            "phase": "AwaitingApproval", "proposal": proposal(),
            "attempts": [attempt(1, &json!({ "nonce": "n", "result": "Undone" }))],
        }));
        assert_eq!(event(&answered(used, decision, "n"), 200), None);
    }
}

#[test]
fn a_proposal_whose_object_or_invariant_changed_needs_a_new_word() {
    let status = json!({ "phase": "AwaitingApproval", "proposal": proposal() });
    let changed = Facts { object_changed: true, ..Facts::default() };
    assert_eq!(
        event(&answered(with_facts(status.clone(), changed), "Approved", "n"), 200),
        Some(Event::Superseded { wrote_before: false })
    );
    let mut edited = observed(status.clone());
    let mut newer = invariant();
    newer.metadata.generation = Some(4);
    edited.invariant = Some(Arc::new(newer));
    assert_eq!(event(&edited, 200), Some(Event::Superseded { wrote_before: false }));
    let suspended = Facts { suspended: true, ..Facts::default() };
    assert_eq!(event(&answered(with_facts(status, suspended), "Approved", "n"), 200), Some(Event::Suspended));
}

#[test]
fn a_restart_between_write_and_journal_is_decided_by_the_mark() {
    let status = || json!({ "phase": "Repairing", "proposal": proposal(), "attempts": [attempt(1, &json!({}))] });
    let found = |state| with_facts(status(), Facts { targets: vec![state], ..Facts::default() });
    assert_eq!(event(&found(TargetState::Written), 200), Some(Event::MarkFound));
    assert_eq!(decide(&found(TargetState::Untouched), at(200)), Step::Write);
    assert_eq!(event(&found(TargetState::Foreign), 200), Some(Event::ForeignFound { wrote_before: false }));
    assert_eq!(event(&found(TargetState::Gone), 200), Some(Event::TargetUnavailable { wrote_before: false }));
}

fn failed(since: i64, retry_at: Option<i64>) -> Value {
    json!({
        "object": { "kind": "ConfigMap", "name": "config", "uid": "u" }, "cause": "Unavailable", "message": "no answer",
        "since": time(since), "tries": 2, "retryAt": retry_at.map(time),
    })
}

#[test]
fn a_write_that_is_refused_for_now_is_tried_after_a_pause_until_the_deadline() {
    let status = |phase: &str| {
        let failed = failed(100, Some(130));
        json!({ "phase": phase, "proposal": proposal(), "attempts": [attempt(1, &json!({}))], "failedWrite": failed })
    };
    let found = |phase, state| with_facts(status(phase), Facts { targets: vec![state], ..Facts::default() });
    let repairing = found("Repairing", TargetState::Untouched);
    assert_eq!(decide(&repairing, at(120)), Step::Pause(at(130)));
    assert_eq!(decide(&repairing, at(130)), Step::Write);
    assert_eq!(event(&repairing, 400), Some(Event::WriteRefused { wrote_before: false }));
    // The answer was lost; the write was not.
    assert_eq!(event(&found("Repairing", TargetState::Written), 120), Some(Event::MarkFound));
    let rolling = found("RollingBack", TargetState::Written);
    assert_eq!(decide(&rolling, at(120)), Step::Pause(at(130)));
    assert_eq!(decide(&rolling, at(130)), Step::Undo);
    assert_eq!(event(&rolling, 400), Some(Event::UndoConflict));
}

#[test]
fn what_was_written_before_a_refusal_is_put_back_and_then_a_person_is_asked() {
    let refused = json!({ "phase": "RollingBack", "attempts": [attempt(1, &json!({ "refusal": failed(100, None) }))] });
    let found = |state| with_facts(refused.clone(), Facts { targets: vec![state], ..Facts::default() });
    assert_eq!(decide(&found(TargetState::Written), at(500)), Step::Undo);
    for back in [TargetState::Restored, TargetState::Untouched] {
        assert_eq!(event(&found(back), 500), Some(Event::RestoredAfterRefusal));
    }
}

#[test]
fn an_object_that_others_changed_or_deleted_between_two_writes_has_the_first_put_back() {
    let mut status = json!({ "phase": "Repairing", "proposal": proposal(), "attempts": [attempt(1, &json!({}))] });
    status["attempts"][0]["actions"] = json!([action("a"), action("a")]);
    status["attempts"][0]["actions"][1]["object"]["name"] = json!("second");
    let found = |first, second| {
        let facts = Facts { targets: vec![first, second], ..Facts::default() };
        decide(&with_facts(status.clone(), facts), at(200))
    };
    let Step::Happened(event, message) = found(TargetState::Written, TargetState::Foreign) else { panic!() };
    assert_eq!(event, Event::ForeignFound { wrote_before: true });
    assert_eq!(message, "others wrote to k of ConfigMap second since the change was planned");
    let Step::Happened(event, message) = found(TargetState::Written, TargetState::Gone) else { panic!() };
    assert_eq!(event, Event::TargetUnavailable { wrote_before: true });
    assert_eq!(message, "k of ConfigMap second does not exist any more");
    assert_eq!(found(TargetState::Written, TargetState::Untouched), Step::Write);
}

#[test]
fn what_was_granted_by_an_invariant_that_was_edited_since_is_not_written() {
    use TargetState::{Untouched, Written};
    let edited = |targets: &[TargetState], suspended| {
        let status = json!({ "phase": "Repairing", "proposal": proposal(), "attempts": [attempt(1, &json!({}))] });
        let mut observed = with_facts(status, Facts { targets: targets.to_vec(), suspended, ..Facts::default() });
        Arc::make_mut(observed.invariant.as_mut().unwrap()).metadata.generation = Some(4);
        event(&observed, 200)
    };
    assert_eq!(edited(&[Untouched], false), Some(Event::Superseded { wrote_before: false }));
    assert_eq!(edited(&[Untouched], true), Some(Event::Superseded { wrote_before: false }));
    assert_eq!(edited(&[Written, Untouched], false), Some(Event::Superseded { wrote_before: true }));
    // What is written is looked at under the new generation.
    assert_eq!(edited(&[Written, Written], false), Some(Event::MarkFound));
}

#[test]
fn a_change_is_granted_by_the_generation_that_it_was_judged_by_and_while_nothing_is_suspended() {
    let status: TicketStatus = serde_json::from_value(json!({ "proposal": proposal() })).unwrap();
    let of_generation = |generation| {
        let mut invariant = invariant();
        invariant.metadata.generation = Some(generation);
        invariant
    };
    assert!(is_granted(&status, Some(&of_generation(3)), false));
    assert!(!is_granted(&status, Some(&of_generation(3)), true));
    assert!(!is_granted(&status, Some(&of_generation(4)), false));
    assert!(!is_granted(&status, None, false));
    assert!(!is_granted(&TicketStatus::default(), Some(&of_generation(3)), false));
}

fn verifying(more: &Value) -> Value {
    let in_force = json!({ "writtenAt": time(100), "inForceAt": time(100) });
    let mut attempt = attempt(1, &in_force);
    attempt.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "phase": "Verifying", "reason": "InForce", "attempts": [attempt] })
}

fn written(more: Facts) -> Facts {
    Facts { targets: vec![TargetState::Written], ..more }
}

#[test]
fn samples_count_only_from_when_the_change_is_in_force() {
    let status = json!({ "phase": "Verifying", "attempts": [attempt(1, &json!({ "writtenAt": time(100) }))] });
    let later = written(Facts { in_force_from: Some(at(190)), ..Facts::default() });
    assert_eq!(event(&with_facts(status.clone(), later.clone()), 110), Some(Event::NotInForce));
    assert_eq!(event(&with_facts(status, later), 190), Some(Event::InForce));
}

/// The monitor's word that this attempt of this ticket failed.
fn refuted(mut observed: Observed, ticket: &str, number: u32) -> Observed {
    let invariant = Arc::make_mut(observed.invariant.as_mut().unwrap());
    invariant.status.as_mut().unwrap().failed_attempt = Some(FailedAttempt { ticket: ticket.to_owned(), number });
    observed
}

#[test]
fn a_change_is_undone_by_the_monitors_word_on_this_very_attempt_and_by_no_clock_unless_others_wrote() {
    let seen = |facts: Facts| with_facts(verifying(&json!({})), facts);
    let ours = || seen(written(Facts::default()));
    // A clock that jumped, a suspended machine, a monitor that does not run.
    assert_eq!(decide(&ours(), at(1_000_000_000)), Step::Wait(None));
    assert_eq!(decide(&refuted(ours(), "another", 1), at(130)), Step::Wait(None));
    assert_eq!(decide(&refuted(ours(), "tu", 2), at(130)), Step::Wait(None));
    assert_eq!(event(&refuted(ours(), "tu", 1), 101), Some(Event::VerifyTimedOut { others_wrote: false }));
    let foreign = || seen(Facts { targets: vec![TargetState::Foreign], ..Facts::default() });
    assert_eq!(event(&refuted(foreign(), "tu", 1), 130), Some(Event::VerifyTimedOut { others_wrote: true }));
    assert_eq!(decide(&foreign(), at(130)), Step::Wait(None));
}

#[test]
fn a_rollout_is_given_up_after_it_was_watched_for_long_enough_whatever_the_clock_says() {
    let status = json!({ "phase": "Verifying", "attempts": [attempt(1, &json!({ "writtenAt": time(100) }))] });
    let watched = |seconds| Facts { rollout_watched: Duration::from_secs(seconds), ..Facts::default() };
    let seen = |seconds| with_facts(status.clone(), written(watched(seconds)));
    assert_eq!(event(&seen(29), 1_000_000), Some(Event::NotInForce));
    assert_eq!(event(&seen(30), 101), Some(Event::VerifyTimedOut { others_wrote: false }));
}

#[test]
fn a_guard_that_breaks_ends_the_verification_at_once() {
    let facts = written(Facts { regressed_guards: vec!["guard".into()], ..Facts::default() });
    let expected = Event::GuardRegressed { others_wrote: false };
    assert_eq!(event(&with_facts(verifying(&json!({})), facts), 101), Some(expected));
}

#[test]
fn while_it_cannot_be_asked_nothing_is_undone() {
    let blind = written(Facts { blind: true, ..Facts::default() });
    assert_eq!(event(&refuted(with_facts(verifying(&json!({})), blind), "tu", 1), 500), Some(Event::Blind));
    let mut status = verifying(&json!({}));
    status["reason"] = json!("Blind");
    assert_eq!(event(&with_facts(status, written(Facts::default())), 500), Some(Event::SightRegained));
}

#[test]
fn suspended_withholds_the_undo() {
    let suspended = written(Facts { suspended: true, ..Facts::default() });
    assert_eq!(event(&with_facts(verifying(&json!({})), suspended.clone()), 500), Some(Event::Suspended));
    let rolling = json!({ "phase": "RollingBack", "attempts": [attempt(1, &json!({}))] });
    assert_eq!(event(&with_facts(rolling, suspended), 500), Some(Event::Suspended));
}

#[test]
fn an_undo_ends_when_everything_is_as_before_or_others_wrote() {
    let rolling = |number| json!({ "phase": "RollingBack", "attempts": [attempt(number, &json!({}))] });
    let found = |number, state| with_facts(rolling(number), Facts { targets: vec![state], ..Facts::default() });
    assert_eq!(decide(&found(1, TargetState::Written), at(500)), Step::Undo);
    assert_eq!(event(&found(1, TargetState::Restored), 500), Some(Event::Restored { attempts_left: true }));
    assert_eq!(event(&found(1, TargetState::Foreign), 500), Some(Event::UndoConflict));
    assert_eq!(event(&found(1, TargetState::Gone), 500), Some(Event::UndoConflict));
    let both = |states: [TargetState; 2]| {
        let mut status = rolling(1);
        status["attempts"][0]["actions"] = json!([action("a"), action("a")]);
        with_facts(status, Facts { targets: states.to_vec(), ..Facts::default() })
    };
    for lost in [TargetState::Foreign, TargetState::Gone] {
        // What is still ours is put back first.
        assert_eq!(decide(&both([TargetState::Written, lost]), at(500)), Step::Undo);
        assert_eq!(event(&both([TargetState::Restored, lost]), 500), Some(Event::UndoConflict));
    }
    let second = json!({
        "phase": "RollingBack",
        "attempts": [attempt(1, &json!({ "result": "Undone" })), attempt(2, &json!({}))],
    });
    let restored = Facts { targets: vec![TargetState::Restored], ..Facts::default() };
    assert_eq!(
        event(&with_facts(second.clone(), restored.clone()), 500),
        Some(Event::Restored { attempts_left: false })
    );
    let mut forgiven = second;
    forgiven["forgivenAttempts"] = json!(1);
    assert_eq!(event(&with_facts(forgiven, restored), 500), Some(Event::Restored { attempts_left: true }));
}

#[test]
fn a_retry_is_acted_on_once() {
    let mut observed = observed(json!({ "phase": "Escalated" }));
    assert_eq!(decide(&observed, at(200)), Step::Wait(None));
    let ticket = Arc::make_mut(&mut observed.ticket);
    ticket.annotations_mut().insert(RETRY_ANNOTATION.into(), "1".into());
    assert_eq!(event(&observed, 200), Some(Event::RetryRequested));
    Arc::make_mut(&mut observed.ticket).status.as_mut().unwrap().observed_retry = Some("1".into());
    assert_eq!(decide(&observed, at(200)), Step::Wait(None));
}

#[test]
fn a_retry_annotation_of_any_length_is_acted_on_once_and_fits_the_status() {
    let mut observed = observed(json!({ "phase": "Escalated" }));
    for value in ["ü".repeat(256), "x".repeat(257), "x".repeat(200_000)] {
        let ticket = Arc::make_mut(&mut observed.ticket);
        ticket.annotations_mut().insert(RETRY_ANNOTATION.into(), value);
        let asked = retry_asked(ticket).unwrap();
        assert!(asked.chars().count() <= 256);
        assert_eq!(event(&observed, 200), Some(Event::RetryRequested));
        Arc::make_mut(&mut observed.ticket).status.as_mut().unwrap().observed_retry = Some(asked);
        assert_eq!(decide(&observed, at(200)), Step::Wait(None));
    }
}

#[test]
fn a_deleted_ticket_is_kept_until_its_change_is_undone() {
    let deleted = |status: Value, state| {
        let facts = Facts { targets: vec![state], ..Facts::default() };
        let mut observed = with_facts(status, facts);
        let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1));
        Arc::make_mut(&mut observed.ticket).metadata.deletion_timestamp = Some(time);
        observed
    };
    assert_eq!(event(&deleted(verifying(&json!({})), TargetState::Written), 101), Some(Event::TicketDeleted));
    let rolling = || json!({ "phase": "RollingBack", "attempts": [attempt(1, &json!({}))] });
    assert_eq!(decide(&deleted(rolling(), TargetState::Written), at(101)), Step::Undo);
    assert_eq!(event(&deleted(rolling(), TargetState::Restored), 101), Some(Event::TicketDeleted));
}

#[test]
fn a_deleted_invariant_names_the_change_that_was_not_verified() {
    let gone = Observed { invariant: None, ..observed(verifying(&json!({}))) };
    let Step::Happened(Event::InvariantDeleted, message) = decide(&gone, at(101)) else { panic!() };
    assert_eq!(message, "the invariant was deleted; attempt 1 on config was not verified");
}

#[test]
fn the_cooldown_counts_after_failed_and_undone_attempts_only() {
    let attempts: Vec<Attempt> = [("Verified", 900), ("NotWritten", 800), ("Undone", 300), ("LeftInPlace", 200)]
        .map(|(result, settled)| attempt(1, &json!({ "result": result, "settledAt": time(settled) })))
        .map(|it| serde_json::from_value(it).unwrap())
        .into();
    assert_eq!(cooldown_until(attempts.iter(), &invariant()), Some(at(600)));
}

proptest! {
    #[test]
    fn deciding_twice_gives_the_same_and_a_write_needs_a_saved_intent(
        phase in prop::sample::select(vec![
            "Open", "Diagnosing", "AwaitingApproval", "Repairing", "Verifying", "RollingBack", "Escalated", "Resolved",
        ]),
        suspended: bool, blind: bool, object_changed: bool, gone: bool,
        target in prop::sample::select(vec![
            TargetState::Gone, TargetState::Untouched, TargetState::Written, TargetState::Restored, TargetState::Foreign,
        ]),
        now in 0i64..2000,
    ) {
        let status = json!({
            "phase": phase, "proposal": proposal(), "diagnosingAt": time(100),
            "attempts": [attempt(1, &json!({ "inForceAt": time(100) }))],
        });
        let facts = Facts { suspended, blind, object_changed, targets: vec![target], ..Facts::default() };
        let mut observed = with_facts(status, facts);
        if gone {
            observed.invariant = None;
        }
        let step = decide(&observed, at(now));
        prop_assert_eq!(&step, &decide(&observed, at(now)));
        match step {
            Step::Write => prop_assert!(phase == "Repairing" && !suspended && !gone && target == TargetState::Untouched),
            Step::Undo => prop_assert!(phase == "RollingBack" && !suspended && target == TargetState::Written),
            _ => {}
        }
    }
}

#[test]
fn a_change_that_a_breaker_holds_waits_for_a_word_until_the_breaker_closes() {
    let mut held = proposal();
    held["breakerClosesAt"] = json!(time(900));
    let waiting =
        || observed(json!({ "phase": "AwaitingApproval", "reason": "BreakerOpen", "proposal": held.clone() }));
    assert_eq!(decide(&waiting(), at(200)), Step::Wait(Some(at(900))));
    assert_eq!(event(&answered(waiting(), "Approved", "n"), 200), Some(Event::Approved));
    assert_eq!(event(&waiting(), 900), Some(Event::BreakerClosed));
    // It closed while nobody was there to see it: it is not held against the change that nobody answered.
    assert_eq!(event(&waiting(), 1000), Some(Event::BreakerClosed));
}
