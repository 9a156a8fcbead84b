//! Attempts on two objects, of which one is changed by somebody, or vanishes, between the two writes.

use super::refusal::with_two_objects;
use super::stage::Stage;
use super::{DEAD, mark, status};
use futures::FutureExt;
use harness::crd::{Outcome, Phase};
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What somebody does to the second object just before the agent reads it for its write.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Edited,
    Deleted,
}

/// A client before whose first look at the second object after the first was written somebody else is faster.
fn overtaken(stage: &Stage, meanwhile: Meanwhile) -> Client {
    let (inner, namespace) = (stage.client.clone(), stage.namespace.clone());
    let (first_is_written, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let (inner, namespace) = (inner.clone(), namespace.clone());
        let (first_is_written, done) = (Arc::clone(&first_is_written), Arc::clone(&done));
        async move {
            let path = request.uri().path().to_owned();
            let is_first = request.method() == Method::PATCH && path.ends_with("/configmaps/rate-limiter-config");
            let is_second = path.ends_with("/configmaps/second");
            if is_second && first_is_written.load(Ordering::SeqCst) && !done.swap(true, Ordering::SeqCst) {
                let api: Api<ConfigMap> = Api::namespaced(inner.clone(), &namespace);
                match meanwhile {
                    Meanwhile::Edited => {
                        let edit = Patch::Merge(json!({ "data": { "k": "a person's" } }));
                        api.patch("second", &PatchParams::default(), &edit).await.unwrap();
                    }
                    Meanwhile::Deleted => {
                        api.delete("second", &DeleteParams::default()).await.unwrap();
                    }
                }
            }
            let answer = inner.send(request).await.map_err(tower::BoxError::from);
            if is_first {
                first_is_written.store(true, Ordering::SeqCst);
            }
            answer
        }
        .boxed()
    });
    Client::new(service, stage.namespace.clone())
}

async fn the_first_is_put_back_and_the_second_is_named(meanwhile: Meanwhile) {
    let (stage, _operator) = with_two_objects("half", |stage| overtaken(stage, meanwhile)).await;
    let bad = Patch::Merge(json!({ "data": { "k": "bad" } }));
    stage.api::<ConfigMap>().patch("second", &PatchParams::default(), &bad).await.unwrap();
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::UndoConflict), "{:#?}", ticket.status);
    let message = status(&ticket).message.as_ref().unwrap();
    let expected = "others changed or deleted k of ConfigMap second, which is left as it is now; the rest was put back";
    assert!(message.starts_with(expected), "{message}");
    let first = stage.config_map().await;
    assert_eq!(stage.config().await, DEAD);
    assert_eq!(first.annotations()["harness.dev/attempt"], format!("{}/undone", mark(&ticket, 1)));
    let second = stage.api::<ConfigMap>().get_opt("second").await.unwrap();
    match meanwhile {
        Meanwhile::Edited => assert_eq!(second.unwrap().data.unwrap()["k"], "a person's"),
        Meanwhile::Deleted => assert!(second.is_none()),
    }
}

#[tokio::test]
async fn of_two_objects_the_first_is_put_back_when_somebody_edits_the_second_between_the_writes() {
    the_first_is_put_back_and_the_second_is_named(Meanwhile::Edited).await;
}

#[tokio::test]
async fn of_two_objects_the_first_is_put_back_when_the_second_vanishes_between_the_writes() {
    the_first_is_put_back_and_the_second_is_named(Meanwhile::Deleted).await;
}
