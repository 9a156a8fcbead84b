//! The parts that touch nothing, one call each: what a check and an incident cost besides the network.
//!
//! `cargo bench --bench decisions`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run has failed")]

use criterion::{Criterion, criterion_group, criterion_main};
use harness::agent::change::ProposedChange;
use harness::agent::decide::{Facts, Observed};
use harness::agent::policy::{self, Edit};
use harness::agent::{self};
use harness::claude::{Request, Transcript};
use harness::crd::{Invariant, NoData, Ticket, VerdictName};
use harness::monitor::decide::Input;
use harness::monitor::record::{Judged, Record};
use harness::probe::{Condition, Measurement, Observation, Reading, Sample, Value, judge};
use harness::{monitor, redact};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const BODY: &str = r#"{"status":"unhealthy","reason":"delay_ms is 500","trace":"4bf92f3577b34da6a3ce929d0e0e4736"}"#;

const LOG: &str = "2026-11-23T12:00:00Z INFO request served path=/v1/limit status=200 took=12ms trace=4bf92f3577b34da6\n\
2026-11-23T12:00:01Z WARN upstream slow host=db.internal:5432 took=512ms\n\
2026-11-23T12:00:01Z ERROR connect postgres://app:hunter2@db.internal:5432/app: password=hunter2 refused\n";

fn sample() -> Sample {
    Sample {
        started_at: now(),
        took: Duration::from_millis(12),
        observation: Observation::Measured(Measurement {
            value: Value::Number(12.3),
            status: Some(200),
            latency: Duration::from_millis(12),
            body: BODY.to_owned(),
            labels: BTreeMap::new(),
        }),
    }
}

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn invariant() -> Invariant {
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant",
        "metadata": { "name": "api", "namespace": "shop", "uid": "uid", "generation": 1 },
        "spec": {
            "query": "latency:http://api/health", "condition": "< 200",
            "remediation": {
                "mode": "Auto",
                "allow": [{ "editConfig": { "name": "api", "key": "config.json", "paths": ["/delay_ms", "/limits"] } }],
            },
        },
    }))
    .unwrap()
}

fn ticket() -> Ticket {
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket",
        "metadata": { "name": "api-1", "namespace": "shop", "uid": "ticket" },
        "spec": {
            "invariantRef": { "name": "api", "uid": "uid", "generation": 1 }, "severity": "Warning", "title": "",
            "query": "latency:http://api/health", "condition": "< 200",
            "opening": {
                "firstBreachAt": "2026-11-23T12:00:00.000000Z", "openedAt": "2026-11-23T12:00:00.000000Z",
                "value": "512.3", "observed": "",
            },
        },
        "status": { "phase": "Diagnosing" },
    }))
    .unwrap()
}

fn conditions(criterion: &mut Criterion) {
    for (name, text) in [
        ("condition: an operator and a literal", "< 200"),
        ("condition: CEL", "value < 200.0 && status == 200 && !body.contains('error')"),
    ] {
        let (sample, condition) = (sample(), Condition::parse(text).unwrap());
        criterion.bench_function(name, |bencher| bencher.iter(|| judge(black_box(&sample), &condition)));
    }
}

fn decisions(criterion: &mut Criterion) {
    let (invariant, now) = (invariant(), now());
    let mut record = Record::default();
    for second in 0..30 {
        let judged = Judged {
            started_at: now + SignedDuration::from_secs(second),
            verdict: VerdictName::Holds,
            reading: Reading::Value(Value::Number(12.3)),
            latency_milliseconds: 12,
            findings: None,
        };
        record.add(judged, NoData::Unknown);
    }
    let before = harness::crd::InvariantStatus::default();
    let input = Input {
        invariant: &invariant,
        rejection: None,
        question: "digest",
        question_since: 1,
        cycle: None,
        record: &record,
        before: &before,
        broken_dependencies: &[],
        umbrella: None,
        starting: None,
        healed: &[],
        ticket: None,
        guards_hold: true,
    };
    criterion.bench_function("decide: the monitor, after a sample", |bencher| {
        bencher.iter(|| monitor::decide::decide(black_box(&input), now));
    });
    let observed =
        Observed { ticket: Arc::new(ticket()), invariant: Some(Arc::new(invariant.clone())), facts: Facts::default() };
    criterion.bench_function("decide: the agent, about an incident", |bencher| {
        bencher.iter(|| agent::decide::decide(black_box(&observed), now));
    });
}

fn policies(criterion: &mut Criterion) {
    let text = |delay: u32| {
        let limits: serde_json::Map<String, serde_json::Value> =
            (0..100).map(|number| (format!("limit-{number}"), json!({ "burst": number, "rate": 10 }))).collect();
        json!({ "enabled": true, "delay_ms": delay, "limits": limits }).to_string()
    };
    let change = ProposedChange::EditConfig(Edit {
        name: "api".to_owned(),
        key: "config.json".to_owned(),
        before: text(500),
        after: text(0),
    });
    let allow = invariant().spec.remediation.allow;
    criterion.bench_function("policy: an edit of 4 KiB of JSON", |bencher| {
        bencher.iter(|| policy::judge(&allow, black_box(&change)).unwrap());
    });
}

fn redactions(criterion: &mut Criterion) {
    criterion.bench_function("redact: a line", |bencher| {
        bencher.iter(|| redact::line(black_box("the value is 512.3, expected < 200"), 256));
    });
    criterion.bench_function("redact: a body of 90 bytes", |bencher| {
        bencher.iter(|| redact::block(black_box(BODY), 1024));
    });
    let log = LOG.repeat(40);
    criterion.bench_function("redact: 10 KiB of logs", |bencher| {
        bencher.iter(|| redact::block(black_box(&log), 64 * 1024));
    });
}

fn requests(criterion: &mut Criterion) {
    let mut transcript = Transcript::opening(LOG);
    for _ in 0..40 {
        transcript.push_user(LOG);
    }
    let request = Request::new("claude-opus-5-5", 8192, transcript);
    criterion.bench_function("request: the body of the 40th turn", |bencher| {
        bencher.iter(|| black_box(&request).body_len());
    });
}

criterion_group!(benches, conditions, decisions, policies, redactions, requests);
criterion_main!(benches);
