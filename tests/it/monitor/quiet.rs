//! While all is well, nothing is written.

use crate::stage::{Stage, remediation};
use crate::support::start_plane;
use harness::operator::Halves;
use kube::Client;
use serde_json::json;

const WRITING: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
const RESOURCES: [&str; 5] = ["invariants", "tickets", "configmaps", "events", "controllerrevisions"];

/// How many writes of what the harness could write the API server has answered.
async fn writes(client: &Client) -> u64 {
    let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let text = client.request_text(request).await.unwrap();
    let counts = text.lines().filter(|line| line.starts_with("apiserver_request_total{")).filter(|line| {
        let has = |label: &str, values: &[&str]| values.iter().any(|it| line.contains(&format!("{label}=\"{it}\"")));
        has("verb", &WRITING) && has("resource", &RESOURCES)
    });
    counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn nothing_is_written_while_everything_holds() {
    // A control plane of its own: other tests write all the time.
    let plane = start_plane().await;
    let client = plane.client().unwrap();
    let mut stage = Stage::set_on(client.clone(), "quiet").await.operated(Halves::Both);
    let spec = json!({ "successThreshold": 2, "remediation": remediation("Auto") });
    stage.apply("answers", spec).await;
    stage.holding("answers").await;
    // The last write: what is good has been learned.
    stage.learned().await;

    let before = writes(&client).await;
    assert!(before >= 3, "the invariant, its status and the revision are counted: {before}");
    stage.target.asked_again(4).await;
    assert_eq!(writes(&client).await, before);

    stage.stop_operator().await;
    plane.stop().await;
}
