//! The process dies after each write in turn; its successor ends in the same state.

use super::stage::{BASELINE, Stage};
use super::{DEAD, status};
use crate::stage::PATIENCE;
use crate::support::eventually;
use futures::FutureExt;
use harness::crd::{AttemptResult, Outcome, Phase};
use harness::operator::Halves;
use http::Method;
use kube::Client;
use kube::client::Body;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// A client whose process dies when its `fatal`-th write was done: no answer arrives, nothing more is sent.
fn dying_client(inner: Client, fatal: usize, died: Arc<Notify>) -> Client {
    let writes = Arc::new(AtomicUsize::new(0));
    let namespace = inner.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, writes, died) = (inner.clone(), Arc::clone(&writes), Arc::clone(&died));
        async move {
            if writes.load(Ordering::SeqCst) >= fatal {
                std::future::pending::<()>().await;
            }
            let is_write = request.method() != Method::GET;
            let response = inner.send(request).await;
            if is_write && writes.fetch_add(1, Ordering::SeqCst) + 1 >= fatal {
                died.notify_one();
                std::future::pending::<()>().await;
            }
            response
        }
        .boxed()
    });
    Client::new(service, namespace)
}

/// Lets the half die after its `fatal`-th write; false if the incident ended before that.
async fn survives(halves: Halves, fatal: usize) -> bool {
    let stage = Stage::new("crash").await;
    stage.watch("healthy", "", "== 200", &json!({})).await;
    let (monitor, agent) = (Halves::Monitor, Halves::Agent);
    let first_monitor = stage.operate_with(stage.client.clone(), monitor, |_| ());
    let first_agent = stage.operate_with(stage.client.clone(), agent, |_| ());
    stage.learned().await;
    let died = Arc::new(Notify::new());
    let dying = dying_client(stage.client.clone(), fatal, Arc::clone(&died));
    // Only the half in question is replaced by one that will die.
    let (_other, victim) = if halves == Halves::Agent {
        first_agent.stop().await;
        (first_monitor, stage.operate_with(dying, agent, |_| ()))
    } else {
        first_monitor.stop().await;
        (first_agent, stage.operate_with(dying, monitor, |_| ()))
    };
    stage.write_config(DEAD).await;
    let did_die = tokio::select! {
        () = died.notified() => true,
        _ = stage.wait_for_phase("healthy-1", Phase::Resolved) => false,
    };
    drop(victim);
    let _successor = stage.operate_with(stage.client.clone(), halves, |_| ());
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "after write {fatal}: {:#?}", ticket.status);
    let results: Vec<_> = status(&ticket).attempts.iter().map(|it| (it.number, it.result)).collect();
    assert_eq!(results, [(1, AttemptResult::Verified)], "after write {fatal}");
    assert_eq!(stage.config().await, BASELINE, "after write {fatal}");
    let tickets = eventually(PATIENCE, || async {
        let tickets = stage.tickets().await;
        let let_go = tickets.iter().all(|it| it.metadata.finalizers.is_none());
        let_go.then_some(tickets)
    })
    .await;
    assert_eq!(tickets.len(), 1, "after write {fatal}");
    did_die
}

async fn dies_after_each_write(halves: Halves) {
    let mut fatal = 1;
    // Four at a time; the last round is the one in which a victim outlived the incident.
    loop {
        let round = (fatal..fatal + 4).map(|fatal| survives(halves, fatal));
        let died = futures::future::join_all(round).await;
        if died.contains(&false) {
            assert!(fatal > 1 || died[0], "it never wrote anything");
            return;
        }
        fatal += 4;
    }
}

#[tokio::test]
async fn an_agent_that_dies_after_any_of_its_writes_is_succeeded_to_the_same_end() {
    dies_after_each_write(Halves::Agent).await;
}

#[tokio::test]
async fn a_monitor_that_dies_after_any_of_its_writes_is_succeeded_to_the_same_end() {
    dies_after_each_write(Halves::Monitor).await;
}
