//! Two agents: one works, the other waits, whatever becomes of the first; and where both work all the same, one of them
//! writes.

use super::crash::{Fault, faulty_client};
use super::stage::{BASELINE, Stage};
use super::{DEAD, status};
use crate::stage::{Operating, PATIENCE, Watchable, remediation};
use crate::support::{eventually, namespace};
use futures::{FutureExt, StreamExt};
use harness::crd::{AttemptResult, Outcome, Phase, Ticket};
use harness::operator::Halves;
use harness::samples::CONFIG_NAME;
use harness::vitals::Vitals;
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Client, ResourceExt};
use serde_json::json;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Short, so that an expiry can be waited for.
const SHORT: Duration = Duration::from_secs(3);
/// Longer than any test waits.
const LONG: Duration = Duration::from_mins(2);

/// What becomes of what an agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// The next patch of the configuration is held back, and the line is cut with it.
    Armed,
    /// Nothing is answered.
    Cut,
}

/// The way of one agent to the API server.
#[derive(Clone)]
struct Way {
    inner: Client,
    line: Arc<watch::Sender<Line>>,
    held_back: Arc<Mutex<Option<http::Request<Body>>>>,
}

impl Way {
    fn new(inner: Client) -> Self {
        Self { inner, line: Arc::new(watch::Sender::new(Line::Open)), held_back: Arc::default() }
    }

    fn client(&self) -> Client {
        let (way, namespace) = (self.clone(), self.inner.default_namespace().to_owned());
        let service = tower::service_fn(move |request| {
            let way = way.clone();
            async move { way.send(request).await }.boxed()
        });
        Client::new(service, namespace)
    }

    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, tower::BoxError> {
        let is_repair = request.method() == Method::PATCH && request.uri().path().ends_with(CONFIG_NAME);
        let line = *self.line.borrow();
        if line == Line::Armed && is_repair {
            *self.held_back.lock().unwrap() = Some(request);
            self.line.send_replace(Line::Cut);
        } else if line != Line::Cut {
            return self.inner.send(request).await.map_err(tower::BoxError::from);
        }
        self.becomes(Line::Open).await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
    }

    fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    async fn becomes(&self, wanted: Line) {
        let mut line = self.line.subscribe();
        line.wait_for(|line| *line == wanted).await.unwrap();
    }

    /// The patch that was held back arrives at last: how it is answered.
    async fn deliver(&self) -> http::StatusCode {
        let request = self.held_back.lock().unwrap().take().unwrap();
        self.inner.send(request).await.unwrap().status()
    }
}

/// An agent with its lease, and what it reports.
fn agent(stage: &Stage, client: Client, lease_duration: Duration) -> (Operating, Vitals) {
    let vitals = Vitals::default();
    let operating = stage.operate_with(client, Halves::Agent, |settings| {
        settings.vitals = vitals.clone();
        settings.lease_duration = lease_duration;
    });
    (operating, vitals)
}

async fn holder(stage: &Stage) -> String {
    eventually(PATIENCE, || async {
        let lease = stage.api::<Lease>().get_opt("harness-agent").await.unwrap()?;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    })
    .await
}

async fn says(vitals: &Vitals, words: &str) {
    eventually(PATIENCE, || async { vitals.readiness().1.contains(words).then_some(()) }).await;
}

fn attempts(ticket: &Ticket) -> Vec<(AttemptResult, &str)> {
    status(ticket).attempts.iter().map(|it| (it.result, it.holder.as_deref().unwrap_or_default())).collect()
}

#[tokio::test]
async fn of_two_agents_one_works_and_the_other_says_who_and_takes_over_at_once_when_that_one_stops() {
    let stage = Stage::new("two-agents").await;
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let (first, first_vitals) = agent(&stage, stage.client.clone(), LONG);
    let working = holder(&stage).await;
    let (_second, second_vitals) = agent(&stage, stage.client.clone(), LONG);
    says(&second_vitals, &format!("agent: stands by; the lease is held by {working}")).await;
    assert!(second_vitals.readiness().0, "to stand by is to be ready");
    says(&first_vitals, "agent: at work").await;
    stage.learned().await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(attempts(&ticket), [(AttemptResult::Verified, &*working)]);
    // Long before its lease would expire.
    first.stop().await;
    says(&second_vitals, "agent: at work").await;
    assert_ne!(holder(&stage).await, working);
}

/// A stage on which the first agent's write is held back, and a second agent that stands by. Also who the first one is.
async fn cut_off_in_mid_write(stage: &Stage) -> (Way, (Operating, Vitals), (Operating, Vitals), String) {
    let way = Way::new(stage.client.clone());
    let first = agent(stage, way.client(), SHORT);
    stage.learned().await;
    let working = holder(stage).await;
    let second = agent(stage, stage.client.clone(), SHORT);
    says(&second.1, "stands by").await;
    way.set(Line::Armed);
    (way, first, second, working)
}

/// What was held back is refused, nothing happens to the configuration, and the first agent stands by when it is back.
async fn comes_too_late(stage: &Stage, way: &Way, first: &Vitals) {
    let before = stage.config_map().await.resource_version();
    let answer = way.deliver().await;
    assert!(matches!(answer.as_u16(), 409 | 422), "{answer}");
    way.set(Line::Open);
    says(first, &format!("agent: stands by; the lease is held by {}", holder(stage).await)).await;
    assert_eq!(stage.config_map().await.resource_version(), before);
}

#[tokio::test]
async fn a_write_that_arrives_late_does_nothing_after_a_successor_repaired() {
    let stage = Stage::new("late-write").await;
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let (way, first, _second, working) = cut_off_in_mid_write(&stage).await;
    stage.write_config(DEAD).await;
    way.becomes(Line::Cut).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    let successor = holder(&stage).await;
    assert_ne!(successor, working);
    assert_eq!(attempts(&ticket), [(AttemptResult::Verified, &*successor)]);
    comes_too_late(&stage, &way, &first.1).await;
    assert_eq!(stage.config().await, BASELINE);
}

#[tokio::test]
async fn a_write_that_arrives_late_does_nothing_after_a_successor_has_undone_it() {
    let stage = Stage::new("late-undone").await;
    let mut remediation = remediation("Auto");
    (remediation["verifyTimeout"], remediation["maxAttempts"]) = (json!("4s"), json!(1));
    let target = json!({ "kind": "Deployment", "name": "rate-limiter" });
    stage.apply("answers", json!({ "remediation": remediation, "targetRef": target })).await;
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let (way, first, _second, _) = cut_off_in_mid_write(&stage).await;
    stage.write_config(DEAD).await;
    // What the repair does not help.
    stage.target.answer(503);
    way.becomes(Line::Cut).await;
    let ticket = stage.wait_for_phase("answers-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::AttemptsExhausted), "{:#?}", ticket.status);
    assert_eq!(attempts(&ticket), [(AttemptResult::Undone, &*holder(&stage).await)]);
    comes_too_late(&stage, &way, &first.1).await;
    assert_eq!(stage.config().await, DEAD);
}

/// Counts the versions of an object that were seen.
async fn versions<K: Watchable>(stage: &Stage, name: &str, seen: Arc<Mutex<HashSet<String>>>) {
    let mut states = pin!(watch_object(stage.api::<K>(), name).default_backoff());
    while let Some(state) = states.next().await {
        if let Ok(Some(object)) = state {
            seen.lock().unwrap().insert(object.resource_version().unwrap());
        }
    }
}

/// Two agents that both hold a lease, each one of its own, so that only what a write tests keeps them apart; the first
/// has one write go wrong.
async fn never_write_twice(fault: Fault, fatal: usize) {
    let context = format!("{fault:?} at write {fatal} of one of two");
    let stage = Stage::new("both-work").await;
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let _monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let elsewhere = namespace(&stage.client, "elsewhere").await;
    let faulty = faulty_client(stage.client.clone(), fault, fatal, Arc::default());
    let _first = stage.operate_with(stage.client.clone(), Halves::Agent, |_| ());
    stage.learned().await;
    let second = Vitals::default();
    let _second = stage.operate_with(faulty, Halves::Agent, |settings| {
        (settings.home, settings.vitals) = (elsewhere, second.clone());
    });
    says(&second, "agent: at work").await;
    let seen = Arc::default();
    let ticket = {
        let counted = versions::<ConfigMap>(&stage, CONFIG_NAME, Arc::clone(&seen));
        let resolved = async {
            stage.write_config(DEAD).await;
            stage.wait_for_phase("healthy-1", Phase::Resolved).await
        };
        tokio::select! {
            () = counted => unreachable!("a watch does not end"),
            ticket = resolved => ticket,
        }
    };
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "{context}: {:#?}", ticket.status);
    let results: Vec<_> = attempts(&ticket).into_iter().map(|(result, _)| result).collect();
    assert_eq!(results, [AttemptResult::Verified], "{context}: {:#?}", ticket.status);
    assert_eq!(stage.config().await, BASELINE, "{context}");
    let versions = seen.lock().unwrap().len();
    assert!(versions <= 3, "{context}: as it was, broken, and repaired once; not {versions} versions");
}

#[tokio::test]
async fn two_agents_that_both_work_write_once_and_say_what_happened() {
    for fault in [Fault::AnswerIsLost, Fault::Conflict] {
        futures::future::join_all((1..=4).map(|fatal| never_write_twice(fault, fatal))).await;
    }
}
