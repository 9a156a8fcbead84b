//! What was granted is taken back while a repair is on its way.

use super::stage::{BASELINE, Stage};
use super::{DEAD, settled, status};
use crate::claude::planning;
use crate::double::operator::Operator;
use crate::double::{Asked, Brain, Double};
use crate::stage::{Operating, PATIENCE};
use futures::FutureExt;
use harness::crd::{AttemptResult, Invariant, Outcome, Phase};
use harness::operator::Halves;
use http::Method;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};

/// A model that thinks until it is told to go on.
struct Thinking {
    stage: Stage,
    go_on: Sender<()>,
    double: Double,
    operator: Operating,
}

/// A service that is dead, and a model that is about to repair it. For a runtime with more than one thread.
async fn thinking(name: &str) -> Thinking {
    let thinks = Arc::new(Notify::new());
    let (go_on, wait): (Sender<()>, Receiver<()>) = channel();
    let (says, wait) = (Arc::clone(&thinks), Mutex::new(wait));
    let brain = move |asked: &Asked| {
        if !asked.is_summary() && asked.turn() == 1 {
            says.notify_one();
            // Once; what comes later is answered at once.
            let _told = wait.lock().unwrap().recv();
        }
        Operator.answer(asked)
    };
    let (stage, double) = (Stage::new(name).await, Double::start(brain).await);
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let operator =
        stage.operate_with(stage.client.clone(), Halves::Both, |settings| settings.planning = planning(&double));
    stage.holding("healthy").await;
    stage.write_config(DEAD).await;
    tokio::time::timeout(PATIENCE, thinks.notified()).await.unwrap();
    Thinking { stage, go_on, double, operator }
}

impl Thinking {
    /// The model has thought for long enough.
    fn go_on(self) -> (Stage, impl Sized) {
        // From now on it does not wait any more.
        drop(self.go_on);
        (self.stage, (self.double, self.operator))
    }
}

fn suspend(value: &Value) -> Value {
    json!({ "metadata": { "annotations": { "harness.dev/suspend": value } } })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_takes_back_while_the_model_thinks_is_not_written() {
    let thinking = thinking("withdrawn").await;
    let edit = json!({ "spec": { "remediation": { "mode": "Observe", "allow": [] } } });
    thinking.stage.patch_invariant("healthy", edit).await;
    let (stage, _running) = thinking.go_on();
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    let refused = status(&ticket).steps.iter().any(|step| step.outcome.contains("ObjectNotAllowed"));
    assert!(refused, "{:#?}", status(&ticket).steps);
    assert_eq!((status(&ticket).attempts.len(), stage.config().await.as_str()), (0, DEAD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mode_that_is_lowered_while_the_model_thinks_counts() {
    let thinking = thinking("lowered").await;
    thinking.stage.patch_invariant("healthy", json!({ "spec": { "remediation": { "mode": "Approve" } } })).await;
    let (stage, _running) = thinking.go_on();
    stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_suspended_while_the_model_thinks_is_not_written_to_until_that_is_lifted() {
    let thinking = thinking("hushed").await;
    let namespaces: Api<Namespace> = Api::all(thinking.stage.client.clone());
    let set = async |name: &str, value: Value| {
        let patch = Patch::Merge(suspend(&value));
        namespaces.patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    set(&thinking.stage.namespace, json!("true")).await;
    let (stage, _running) = thinking.go_on();
    let ticket = stage.ticket("healthy-1", |it| status(it).reason.as_deref() == Some("Suspended")).await;
    assert_eq!((ticket.phase(), status(&ticket).attempts.len()), (Phase::Diagnosing, 0));
    assert_eq!(stage.config().await, DEAD);
    set(&stage.namespace, Value::Null).await;
    // The model hears that its change was not made.
    stage.ticket("healthy-1", |it| status(it).reason.as_deref() != Some("Suspended")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invariant_that_is_deleted_while_the_model_thinks_has_nothing_written_for_it() {
    let thinking = thinking("abandoned").await;
    thinking.stage.delete::<Invariant>("healthy").await;
    let (stage, _running) = thinking.go_on();
    let ticket = stage.wait_for_phase("healthy-1", Phase::Cancelled).await;
    assert_eq!((status(&ticket).outcome, status(&ticket).attempts.len()), (Some(Outcome::InvariantDeleted), 0));
    assert_eq!(stage.config().await, DEAD);
}

/// A client that sends nothing more, once it has saved an intent, until the gate is opened.
fn gated(inner: Client, saved: Arc<Notify>, gate: watch::Receiver<bool>) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let closed = Arc::new(Mutex::new(false));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, saved, mut gate, closed) = (inner.clone(), Arc::clone(&saved), gate.clone(), Arc::clone(&closed));
        async move {
            if *closed.lock().unwrap() {
                gate.wait_for(|open| *open).await?;
            }
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let is_intent = parts.method == Method::PUT
                && parts.uri.path().ends_with("/status")
                && String::from_utf8_lossy(&body).contains(r#""phase":"Repairing""#);
            let answer = inner.send(http::Request::from_parts(parts, Body::from(body))).await;
            if is_intent {
                *closed.lock().unwrap() = true;
                saved.notify_one();
            }
            answer.map_err(tower::BoxError::from)
        }
        .boxed()
    });
    Client::new(service, namespace)
}

/// A repair whose intent is saved, and of which nothing is written before the gate is opened.
async fn intended(name: &str) -> (Stage, (Operating, Operating), watch::Sender<bool>) {
    let (stage, operator) = settled(name, &json!({})).await;
    operator.stop().await;
    let (gate, opens) = watch::channel(false);
    let saved = Arc::new(Notify::new());
    let monitor = stage.operate_with(stage.client.clone(), Halves::Monitor, |_| ());
    let agent = stage.operate_with(gated(stage.client.clone(), Arc::clone(&saved), opens), Halves::Agent, |_| ());
    stage.write_config(DEAD).await;
    tokio::time::timeout(PATIENCE, saved.notified()).await.unwrap();
    (stage, (monitor, agent), gate)
}

#[tokio::test]
async fn a_grant_that_was_taken_back_while_a_repair_was_suspended_is_not_used_when_that_is_lifted() {
    let (stage, _operator, gate) = intended("regranted").await;
    stage.patch_invariant("healthy", suspend(&json!("true"))).await;
    stage.patch_invariant("healthy", json!({ "spec": { "remediation": { "allow": [] } } })).await;
    gate.send_replace(true);
    let ticket = stage.ticket("healthy-1", |it| status(it).reason.as_deref() == Some("Suspended")).await;
    assert_eq!((ticket.phase(), status(&ticket).attempts[0].result), (Phase::Diagnosing, AttemptResult::NotWritten));
    stage.patch_invariant("healthy", suspend(&Value::Null)).await;
    stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn an_invariant_that_is_deleted_between_the_intent_and_the_write_has_nothing_written_for_it() {
    let (stage, _operator, gate) = intended("orphaned").await;
    stage.delete::<Invariant>("healthy").await;
    gate.send_replace(true);
    let ticket = stage.wait_for_phase("healthy-1", Phase::Cancelled).await;
    assert_eq!(status(&ticket).attempts[0].result, AttemptResult::NotWritten);
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn a_repair_that_is_suspended_after_its_intent_waits_and_is_then_made() {
    let (stage, _operator, gate) = intended("resumed").await;
    stage.patch_invariant("healthy", suspend(&json!("true"))).await;
    gate.send_replace(true);
    let ticket = stage.ticket("healthy-1", |it| status(it).reason.as_deref() == Some("Suspended")).await;
    assert_eq!((ticket.phase(), stage.config().await.as_str()), (Phase::Repairing, DEAD));
    stage.patch_invariant("healthy", suspend(&Value::Null)).await;
    stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(stage.config().await, BASELINE);
}
