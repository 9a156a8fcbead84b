//! What `kubectl get` shows: the columns, as the API server makes them.

use crate::stage::{Stage, remediation};
use harness::crd::Phase;
use harness::operator::Halves;
use serde_json::{Value, json};

const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

/// The names of the columns, those that only `-o wide` shows in parentheses, and the cells of the one row.
async fn table(stage: &Stage, plural: &str) -> (Vec<String>, Vec<Value>) {
    let path = format!("/apis/harness.dev/v1alpha1/namespaces/{}/{plural}", stage.namespace);
    let request = http::Request::get(path).header(http::header::ACCEPT, TABLE).body(Vec::new()).unwrap();
    let table: Value = stage.client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|column| {
        let name = column["name"].as_str().unwrap().to_uppercase();
        if column["priority"] == 0 { name } else { format!("({name})") }
    });
    let [row] = &table["rows"].as_array().unwrap()[..] else { panic!("one row: {table}") };
    (columns.collect(), row["cells"].as_array().unwrap().clone())
}

#[tokio::test]
async fn kubectl_shows_an_incident_and_its_repair_in_columns() {
    let stage = Stage::set("columns").await.operated(Halves::Both);
    let spec = json!({ "query": stage.service_url(), "severity": "Critical", "remediation": remediation("Auto") });
    stage.apply("healthy", spec).await;
    stage.learned().await;
    stage.write_config(r#"{"enabled": false, "delay_ms": 0}"#).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await.status.unwrap();
    stage.invariant("healthy", |it| it.status.as_ref().unwrap().ticket.is_none()).await;
    stage.holding("healthy").await;
    assert_eq!(stage.config().await, r#"{"enabled": true, "delay_ms": 0}"#);

    let (columns, cells) = table(&stage, "invariants").await;
    assert_eq!(columns, ["NAME", "HOLDS", "VALUE", "CONDITION", "SEVERITY", "TICKET", "AGE", "(QUERY)"]);
    assert_eq!(cells[..5], [json!("healthy"), json!("True"), json!("200"), json!("== 200"), json!("Critical")]);
    assert_eq!((&cells[5], &cells[7]), (&Value::Null, &json!(stage.service_url())));

    let (columns, cells) = table(&stage, "tickets").await;
    let expected = ["NAME", "INVARIANT", "SEVERITY", "PHASE", "PLANNER", "STEPS", "ROOT CAUSE", "AGE", "(OUTCOME)"];
    assert_eq!(columns, expected);
    assert_eq!(
        cells[..5],
        [json!("healthy-1"), json!("healthy"), json!("Critical"), json!("Resolved"), json!("LastKnownGood")]
    );
    assert_eq!(cells[5], json!(ticket.step_count));
    assert!(ticket.step_count > 0);
    assert_eq!(cells[6], json!(ticket.diagnosis.unwrap().root_cause));
    assert_eq!(cells[8], json!("Repaired"));
}
