//! Each write in turn goes wrong in each way: the process dies after it, its answer is lost, or somebody else wrote
//! first. It always ends in the same state.

use super::stage::{BASELINE, Stage};
use super::{DEAD, status};
use crate::stage::PATIENCE;
use crate::support::eventually;
use futures::FutureExt;
use harness::agent::Planning;
use harness::crd::{AttemptResult, Outcome, Phase};
use harness::operator::{Halves, OperatorSettings};
use http::Method;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How a write goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done; no answer arrives, and nothing more is sent.
    ProcessDies,
    /// It is done; the connection is cut before the answer.
    AnswerIsLost,
    /// It is not done: somebody else wrote first.
    Conflict,
}

/// A client whose `fatal`-th write goes wrong; then it says so.
pub(crate) fn faulty_client(inner: Client, fault: Fault, fatal: usize, struck: Arc<Notify>) -> Client {
    let writes = Arc::new(AtomicUsize::new(0));
    let namespace = inner.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, writes, struck) = (inner.clone(), Arc::clone(&writes), Arc::clone(&struck));
        async move {
            if fault == Fault::ProcessDies && writes.load(Ordering::SeqCst) >= fatal {
                std::future::pending::<()>().await;
            }
            // The lease is written all the time; it has tests of its own.
            let is_write = request.method() != Method::GET && !request.uri().path().contains("/leases");
            if !is_write || writes.fetch_add(1, Ordering::SeqCst) + 1 != fatal {
                return inner.send(request).await.map_err(tower::BoxError::from);
            }
            struck.notify_one();
            match fault {
                Fault::ProcessDies => {
                    let _done = inner.send(request).await;
                    std::future::pending().await
                }
                Fault::AnswerIsLost => {
                    let _done = inner.send(request).await;
                    Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())
                }
                Fault::Conflict => Ok(conflict()),
            }
        }
        .boxed()
    });
    Client::new(service, namespace)
}

/// What the API server answers to a write on a version that is not the newest.
fn conflict() -> http::Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409,
        "message": "the object has been modified",
    });
    http::Response::builder().status(409).body(Body::from(status.to_string().into_bytes())).unwrap()
}

/// Lets the `fatal`-th write of a half go wrong; false if the incident ended before that.
async fn survives(halves: Halves, fault: Fault, fatal: usize, planning: &Planning) -> bool {
    let stage = Stage::new("crash").await;
    let plan = |settings: &mut OperatorSettings| {
        settings.planning = planning.clone();
        // A dead process releases nothing.
        settings.lease_duration = Duration::from_secs(3);
    };
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let (monitor, agent) = (Halves::Monitor, Halves::Agent);
    let first_monitor = stage.operate_with(stage.client.clone(), monitor, plan);
    let first_agent = stage.operate_with(stage.client.clone(), agent, plan);
    stage.holding("healthy").await;
    if planning.last_known_good {
        stage.learned().await;
    }
    let struck = Arc::new(Notify::new());
    let faulty = faulty_client(stage.client.clone(), fault, fatal, Arc::clone(&struck));
    // Only the half in question is replaced by one whose write will go wrong.
    let (_other, victim) = if halves == Halves::Agent {
        first_agent.stop().await;
        (first_monitor, stage.operate_with(faulty, agent, plan))
    } else {
        first_monitor.stop().await;
        (first_agent, stage.operate_with(faulty, monitor, plan))
    };
    stage.write_config(DEAD).await;
    let went_wrong = tokio::select! {
        () = struck.notified() => true,
        _ = stage.wait_for_phase("healthy-1", Phase::Resolved) => false,
    };
    // A process that is alive goes on by itself; a dead one has a successor.
    let _at_work = if fault == Fault::ProcessDies {
        drop(victim);
        stage.operate_with(stage.client.clone(), halves, plan)
    } else {
        victim
    };
    let context = format!("{fault:?} at write {fatal} of the {halves:?}");
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "{context}: {:#?}", ticket.status);
    let results: Vec<_> =
        status(&ticket).attempts.iter().map(|it| it.result).filter(|it| *it != AttemptResult::NotWritten).collect();
    assert_eq!(results, [AttemptResult::Verified], "{context}");
    assert_eq!(stage.config().await, BASELINE, "{context}");
    let tickets = eventually(PATIENCE, || async {
        let tickets = stage.tickets().await;
        let let_go = tickets.iter().all(|it| it.metadata.finalizers.is_none());
        let_go.then_some(tickets)
    })
    .await;
    assert_eq!(tickets.len(), 1, "{context}");
    went_wrong
}

/// Lets each write in turn go wrong.
pub(crate) async fn survives_each_write(halves: Halves, fault: Fault, planning: &Planning) {
    let mut fatal = 1;
    // Four at a time; the last round is the one in which the incident ended before the fault.
    loop {
        let round = (fatal..fatal + 4).map(|fatal| survives(halves, fault, fatal, planning));
        let went_wrong = futures::future::join_all(round).await;
        assert!(fatal > 1 || went_wrong[0], "it never wrote anything");
        if went_wrong.contains(&false) {
            return;
        }
        fatal += 4;
    }
}

fn last_known_good() -> Planning {
    Planning { model: None, last_known_good: true }
}

#[tokio::test]
async fn an_agent_that_dies_after_any_of_its_writes_is_succeeded_to_the_same_end() {
    survives_each_write(Halves::Agent, Fault::ProcessDies, &last_known_good()).await;
}

#[tokio::test]
async fn a_monitor_that_dies_after_any_of_its_writes_is_succeeded_to_the_same_end() {
    survives_each_write(Halves::Monitor, Fault::ProcessDies, &last_known_good()).await;
}

#[tokio::test]
async fn an_agent_whose_answer_is_lost_at_any_write_writes_nothing_twice() {
    survives_each_write(Halves::Agent, Fault::AnswerIsLost, &last_known_good()).await;
}

#[tokio::test]
async fn a_monitor_whose_answer_is_lost_at_any_write_opens_one_ticket() {
    survives_each_write(Halves::Monitor, Fault::AnswerIsLost, &last_known_good()).await;
}

#[tokio::test]
async fn an_agent_that_comes_too_late_at_any_write_decides_again() {
    survives_each_write(Halves::Agent, Fault::Conflict, &last_known_good()).await;
}

#[tokio::test]
async fn a_monitor_that_comes_too_late_at_any_write_decides_again() {
    survives_each_write(Halves::Monitor, Fault::Conflict, &last_known_good()).await;
}
