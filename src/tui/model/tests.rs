use super::*;
use crate::crd::{Phase, VerdictName};
use crate::tui::fixtures::{invariant, model, ticket};
use crate::tui::text::between;
use serde_json::json;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

fn config(text: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": { "name": "rate-limiter-config", "namespace": "default" },
        "data": { "service_config.json": text },
    }))
    .unwrap()
}

fn shown(change: Change<ConfigMap>) -> String {
    let mut model = model();
    model.apply(Event::Config(Ok(change)));
    model.service.summary()
}

#[test]
fn the_service_is_described_by_what_is_wrong_with_its_configuration() {
    let summary = |text| shown(Change::Applied(config(text)));
    assert_eq!(summary(r#"{"enabled": true, "delay_ms": 0}"#), "in order");
    assert_eq!(summary(r#"{"enabled": false, "delay_ms": 500}"#), "playing dead, slow by 500 ms");
    assert_eq!(summary(r#"{"requests_per_second": -1}"#), "requests_per_second is -1");
    assert_eq!(summary("[]"), "its configuration cannot be read: it is JSON, but no object");
    assert!(summary("{").starts_with("its configuration cannot be read: EOF"));
}

#[test]
fn a_service_without_configuration_is_said_to_have_none() {
    assert_eq!(model().service.summary(), "waiting for the API server");
    assert_eq!(shown(Change::Synced), "there is no such ConfigMap");
    assert_eq!(shown(Change::Applied(ConfigMap::default())), "the ConfigMap has no such key");
    let mut model = model();
    model.apply(Event::Config(Ok(Change::Applied(config("{}")))));
    model.apply(Event::Config(Ok(Change::Synced)));
    assert_eq!(model.service.summary(), "in order");
}

#[test]
fn an_interrupted_watch_is_named_until_it_speaks_again() {
    let mut model = model();
    model.apply(Event::Ticket(Err("connection \u{1b}[31mrefused".to_owned())));
    assert_eq!(model.interrupted[&Source::Tickets], "connection [31mrefused");
    model.apply(Event::Ticket(Ok(Change::Synced)));
    assert!(model.interrupted.is_empty());
}

#[test]
fn an_invariant_is_unknown_until_it_was_checked() {
    let unchecked = InvariantRow::of(&invariant("healthy", json!({})));
    assert_eq!((unchecked.state, unchecked.value.as_str()), (State::Unknown, "not asked yet"));
    let holding = InvariantRow::of(&invariant("healthy", holding_since(at(0))));
    assert_eq!((holding.state, holding.held_since), (State::Holds, Some(at(0))));
}

#[test]
fn hostile_text_of_the_cluster_is_made_safe() {
    let status = json!({ "value": "\u{1b}]0;owned\u{7}".repeat(50), "ticket": "a\nb" });
    let row = InvariantRow::of(&invariant("healthy", status));
    assert_eq!(row.value.chars().count(), 80);
    assert!(!row.value.contains('\u{1b}'));
    assert_eq!(row.ticket.as_deref(), Some("a b"));
}

#[test]
fn the_baseline_is_learned_once_everything_held_long_enough() {
    let mut model = model();
    model.apply(Event::Invariant(Ok(Change::Applied(invariant("healthy", holding_since(at(0)))))));
    model.apply(Event::Invariant(Ok(Change::Applied(invariant("latency", holding_since(at(4)))))));
    model.apply(Event::Clock(at(10)));
    let needed = SignedDuration::from_secs(10);
    assert_eq!(model.baseline, Baseline::Learning { held: SignedDuration::from_secs(6), needed });
    model.apply(Event::Clock(at(14)));
    assert_eq!(model.baseline, Baseline::Learned);
    model.apply(Event::Invariant(Ok(Change::Applied(invariant("latency", json!({}))))));
    assert_eq!(model.baseline, Baseline::Learned, "a breach does not take the good configuration away");
}

#[test]
fn nothing_is_learned_while_one_invariant_does_not_hold() {
    let mut model = model();
    model.apply(Event::Invariant(Ok(Change::Applied(invariant("healthy", holding_since(at(0)))))));
    model.apply(Event::Invariant(Ok(Change::Applied(invariant("latency", json!({}))))));
    model.apply(Event::Clock(at(100)));
    let needed = SignedDuration::from_secs(10);
    assert_eq!(model.baseline, Baseline::Learning { held: SignedDuration::ZERO, needed });
}

#[test]
fn phases_are_remembered_with_the_step_after_which_they_were_seen() {
    let mut model = model();
    for status in [
        json!({ "phase": "Open" }),
        json!({ "phase": "Open", "reason": "ThresholdCrossed" }),
        json!({ "phase": "Diagnosing", "reason": "ClaimWon" }),
        json!({ "phase": "Diagnosing", "reason": "ClaimWon", "stepCount": 2 }),
        json!({ "phase": "Repairing", "reason": "ChangeAllowed", "stepCount": 2 }),
    ] {
        model.apply(Event::Ticket(Ok(Change::Applied(ticket("latency-1", at(0), status)))));
    }
    let [incident] = &model.incidents[..] else { panic!("one incident") };
    let phases: Vec<_> = incident.phases.iter().map(|change| (change.phase, change.after_steps)).collect();
    assert_eq!(phases, [(Phase::Open, 0), (Phase::Diagnosing, 0), (Phase::Repairing, 2)]);
    assert_eq!(incident.phases[0].reason, "ThresholdCrossed", "a reason that came later is filled in");
}

#[test]
fn incidents_are_kept_in_the_order_of_their_opening() {
    let mut model = model();
    for (name, seconds) in [("c", 30), ("a", 10), ("b", 20)] {
        model.apply(Event::Ticket(Ok(Change::Applied(ticket(name, at(seconds), json!({}))))));
    }
    let names: Vec<_> = model.incidents.iter().map(|incident| incident.key.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    model.apply(Event::Ticket(Ok(Change::Deleted(ObjectKey::new("default", "b")))));
    assert_eq!(model.incidents.len(), 2);
}

#[test]
fn the_oldest_ended_incident_is_forgotten_when_there_are_too_many() {
    let mut model = model();
    model.apply(Event::Ticket(Ok(Change::Applied(ticket("open", at(0), json!({}))))));
    for number in 1..=60 {
        let status = json!({ "phase": "Resolved", "endedAt": "2026-11-18T12:00:00.000000Z" });
        model.apply(Event::Ticket(Ok(Change::Applied(ticket(&format!("t-{number}"), at(number), status)))));
    }
    assert_eq!(model.incidents.len(), KEPT_INCIDENTS);
    assert_eq!(model.incidents[0].key.name, "open", "what is open is kept");
    assert_eq!(model.incidents[49].key.name, "t-60");
}

#[test]
fn a_verdict_says_how_it_ended_and_how_long_it_took() {
    let opened_at = at(0);
    let status = json!({ "phase": "Resolved", "outcome": "Repaired", "endedAt": at(4).to_string() });
    let incident = Incident::of(ObjectKey::new("default", "t"), &ticket("t", opened_at, status), None);
    assert_eq!(incident.verdict(), format!("Resolved (Repaired) in {}", between(opened_at, at(4))));
    let status = json!({ "phase": "Escalated", "outcome": "NoPlan", "reason": "NoPlan" });
    let incident = Incident::of(ObjectKey::new("default", "t"), &ticket("t", opened_at, status), None);
    assert_eq!(incident.verdict(), "Escalated (NoPlan)");
}

#[test]
fn samples_become_bars() {
    let sample = json!({ "at": at(0).to_string(), "verdict": "Breached", "value": "x", "latencyMilliseconds": 512 });
    let row = InvariantRow::of(&invariant("latency", json!({ "recentSamples": [sample] })));
    assert_eq!(row.samples, [SampleBar { latency_milliseconds: 512, verdict: VerdictName::Breached }]);
    assert_eq!(row.latency_milliseconds(), Some(512));
}

fn holding_since(time: Timestamp) -> serde_json::Value {
    json!({
        "heldSince": time.to_string(),
        "conditions": [{
            "type": "Holding", "status": "True", "reason": "ConditionMet", "message": "",
            "lastTransitionTime": time.to_string(),
        }],
    })
}

#[test]
fn the_answer_to_a_key_disappears_after_a_while() {
    let mut model = model();
    model.apply(Event::Clock(at(0)));
    model.apply(Event::Notice("healed".to_owned()));
    model.apply(Event::Clock(at(7)));
    assert_eq!(model.notice.as_ref().map(|notice| notice.text.as_str()), Some("healed"));
    model.apply(Event::Clock(at(8)));
    assert_eq!(model.notice, None);
}
