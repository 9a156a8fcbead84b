use super::*;

fn report() -> Report {
    let repaired = Incident {
        fault: "slow",
        invariant: "rate-limiter-latency",
        ticket: "rate-limiter-latency-1".to_owned(),
        phase: Phase::Resolved,
        outcome: Some(Outcome::Repaired),
        planner: Some(PlannerName::LastKnownGood),
        detection_seconds: Some(3.217),
        repair_seconds: Some(0.125),
        resolution_seconds: Some(4.9),
        untouched: false,
        as_expected: true,
    };
    let escalated = Incident {
        fault: "forbidden",
        invariant: "rate-limiter-healthy",
        ticket: "rate-limiter-healthy-2".to_owned(),
        phase: Phase::Escalated,
        outcome: Some(Outcome::NoPlan),
        repair_seconds: None,
        resolution_seconds: None,
        untouched: true,
        ..repaired.clone()
    };
    Report {
        kubernetes: "v1.36.3".to_owned(),
        kubeconfig: Some("/run/harness/kubeconfig".into()),
        incidents: vec![repaired, escalated],
    }
}

#[test]
fn the_timeline_says_for_each_fault_how_long_each_part_took() {
    insta::assert_snapshot!(report().timeline());
}

#[test]
fn the_document_is_what_programs_were_promised() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&report()).unwrap());
}

#[test]
fn a_missing_or_unexpected_incident_is_no_success() {
    let mut report = report();
    assert!(report.is_success(2));
    assert!(!report.is_success(3));
    report.incidents[1].as_expected = false;
    assert!(!report.is_success(2));
    assert!(report.timeline().contains("not as it must be"));
}

#[test]
fn spans_are_measured_to_the_millisecond_and_may_be_negative() {
    let from = Timestamp::from_millisecond(1_000_000).unwrap();
    let to = Timestamp::from_millisecond(1_003_217).unwrap();
    assert!((seconds_between(from, to) - 3.217).abs() < f64::EPSILON);
    assert!((seconds_between(to, from) + 3.217).abs() < f64::EPSILON);
}
