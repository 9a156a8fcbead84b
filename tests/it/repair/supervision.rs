//! A defect that one object meets is that object's alone, and work that takes long keeps nobody waiting.

use crate::screen::{set_status, ticket};
use crate::stage::{PATIENCE, Stage, condition};
use crate::support::eventually;
use futures::FutureExt;
use harness::crd::{Invariant, Phase, Ticket};
use harness::operator::{Halves, OperatorError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::client::Body;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A client that panics in whoever sends a request that is fatal.
fn panicking_client(
    inner: Client,
    is_fatal: impl Fn(&http::Request<Body>) -> bool + Clone + Send + Sync + 'static,
) -> Client {
    let namespace = inner.default_namespace().to_owned();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, is_fatal) = (inner.clone(), is_fatal.clone());
        async move {
            assert!(!is_fatal(&request), "fatal: {}", request.uri());
            inner.send(request).await.map_err(tower::BoxError::from)
        }
        .boxed()
    });
    Client::new(service, namespace)
}

#[derive(Default)]
struct Looks {
    fatal: AtomicUsize,
    others: AtomicUsize,
}

#[tokio::test]
async fn a_panic_over_one_ticket_restarts_its_task_alone_after_growing_pauses() {
    const PANICS: usize = 3;
    let stage = Stage::monitored("panic").await;
    stage.target.answer(503);
    let looks = Arc::new(Looks::default());
    let counted = Arc::clone(&looks);
    let client = panicking_client(stage.client.clone(), move |request| {
        let path = request.uri().path();
        if path.ends_with("/tickets/fatal-1") {
            return counted.fatal.fetch_add(1, Ordering::SeqCst) < PANICS;
        }
        if path.contains("/tickets/other-") && request.method() == http::Method::GET {
            counted.others.fetch_add(1, Ordering::SeqCst);
        }
        false
    });
    let _agent = crate::stage::Operating::start(client, stage.settings(), Halves::Agent);
    for name in ["other-a", "other-b", "other-c"] {
        stage.apply(name, json!({})).await;
        stage.wait_for_phase(&format!("{name}-1"), Phase::Escalated).await;
    }
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = (looks.others.load(Ordering::SeqCst), tasks());
    stage.apply("fatal", json!({})).await;
    // Its task goes on where it was, as soon as it can.
    stage.wait_for_phase("fatal-1", Phase::Escalated).await;
    let after = (looks.others.load(Ordering::SeqCst), tasks());
    assert!(after.0 <= before.0 + 3, "the others look no more often: {before:?}, {after:?}");
    assert!(after.1 <= before.1 + 10, "no task is left behind: {before:?}, {after:?}");
    eventually(PATIENCE, || async {
        let events = stage.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.items.iter().any(|it| it.reason.as_deref() == Some("AgentBrokeDown")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_panic_of_the_agents_own_loop_ends_the_operator_and_all_its_tasks() {
    const FOLLOWED: usize = 16;
    let stage = Stage::set("loop-panic").await;
    let allow: Vec<_> = (0..FOLLOWED)
        .map(|number| json!({ "editConfig": { "name": format!("config-{number}"), "key": "k" } }))
        .collect();
    for name in ["one", "other"] {
        stage.apply(name, json!({ "remediation": { "allow": allow } })).await;
    }
    let client = panicking_client(stage.client.clone(), |request| {
        request.uri().path().ends_with("/tickets") && request.uri().query().is_some_and(|it| it.contains("watch"))
    });
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let ended = harness::operator::run_halves(client, stage.settings(), Halves::Both, shutdown);
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends by itself");
    assert!(matches!(ended, Err(OperatorError::BrokeDown(_))), "{ended:?}");
    // Connections that nobody uses may stay for a while.
    eventually(PATIENCE, || async { (tasks() < before + FOLLOWED).then_some(()) }).await;
}

#[tokio::test]
async fn tickets_are_taken_up_while_slow_targets_are_asked_whether_a_revision_is_good() {
    const SLOW: usize = 40;
    let stage = Stage::set("slow-learning").await;
    stage.target.delay(Duration::from_millis(900));
    for number in 0..SLOW {
        let name = format!("slow-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let config = ConfigMap { metadata, data: Some([("k".into(), "v".into())].into()), ..ConfigMap::default() };
        stage.api().create(&PostParams::default(), &config).await.unwrap();
        let allow = json!({ "allow": [{ "editConfig": { "name": name, "key": "k" } }] });
        let spec = json!({ "remediation": allow, "targetRef": { "kind": "Deployment", "name": name } });
        let generation = stage.apply(&name, spec).await.metadata.generation;
        let now = Timestamp::now().to_string();
        let status = json!({ "status": {
            "observedGeneration": generation, "verdict": "Holds", "heldSince": now,
            "conditions": [{ "type": "Holding", "status": "True", "reason": "ConditionMet", "message": "", "lastTransitionTime": now }],
        } });
        set_status(&stage.api::<Invariant>(), &name, &status).await;
    }
    let stage = stage.operated(Halves::Agent);
    stage.target.asked_again(1).await;
    stage.api::<Ticket>().create(&PostParams::default(), &ticket("gone-1", "gone")).await.unwrap();
    stage.wait_for_phase("gone-1", Phase::Cancelled).await;
    let asked = stage.target.asked() as usize;
    assert!(asked < SLOW, "the ticket was taken up only after all {asked} targets were asked");
    // And all of them are asked in the end.
    stage.target.asked_again(u32::try_from(SLOW - asked).unwrap()).await;
}

#[tokio::test]
async fn a_panic_over_the_write_of_one_status_concerns_that_invariant_alone() {
    let stage = Stage::set("monitor-panic").await;
    let client = panicking_client(stage.client.clone(), |request| request.uri().path().contains("/invariants/fatal"));
    let _monitor = crate::stage::Operating::start(client, stage.settings(), Halves::Monitor);
    stage.apply("fatal", json!({})).await;
    stage.target.asked_again(3).await;
    stage.apply("other", json!({})).await;
    stage.holding("other").await;
    stage.target.answer(503);
    stage.wait_for_phase("other-1", Phase::Open).await;
    // Its ticket is opened all the same.
    stage.wait_for_phase("fatal-1", Phase::Open).await;
    let fatal = stage.invariant("fatal", |_| true).await;
    assert!(condition(&fatal, "Holding").is_none());
}
