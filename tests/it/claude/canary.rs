//! Secrets that stand where a model looks, or beside what it changes: they are found nowhere else.

use super::conversation::in_turn;
use super::{planning, status};
use crate::double::{Double, Turn};
use crate::repair::stage::Stage;
use harness::crd::Phase;
use harness::operator::Halves;
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};

/// Each in another form and another place.
const CANARIES: [&str; 9] = [
    "correct-horse-battery-staple",
    "s3cr3t-of-the-dsn",
    "sk-ant-api03-AAAAcanaryAAAA0123456789",
    "ghp_canary0123456789ABCDEFabcdef012345",
    "AKIACANARY0123456789",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5",
    "value-of-a-variable-qZ7q",
    "root-words-in-an-ev3nt",
    "MIIEcanaryOfAPrivateKey",
];

/// What is logged by this process from now on.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("harness=trace,warn")
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other test captures the log");
        log
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

fn config(delay: u32) -> String {
    format!(
        r#"{{"enabled": true, "delay_ms": {delay}, "db_password": "{}", "dsn": "postgres://app:{}@db/app", "keys": ["{}"]}}"#,
        CANARIES[0], CANARIES[1], CANARIES[2]
    )
}

async fn plant(stage: &Stage) {
    stage.write_config(&config(0)).await;
    let template = json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "main", "image": "a", "env": [
            { "name": "MODE", "value": CANARIES[6] }, { "name": "DB_PASSWORD", "value": CANARIES[6] },
        ], "args": ["--token", CANARIES[3]] }] },
    });
    let deployment = json!({
        "metadata": { "name": "rate-limiter", "annotations": { "note": format!("token: {}", CANARIES[3]) } },
        "spec": { "selector": { "matchLabels": { "app": "a" } }, "template": template },
    });
    stage.api::<Deployment>().create(&PostParams::default(), &of(deployment)).await.unwrap();
    let mut pod = template;
    pod["metadata"]["name"] = json!("api");
    stage.api::<Pod>().create(&PostParams::default(), &of(pod)).await.unwrap();
    for (number, message) in [
        format!("cannot reach mysql://root:{}@db/app", CANARIES[7]),
        format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", CANARIES[8]),
        format!("AWS_ACCESS_KEY_ID={}", CANARIES[4]),
    ]
    .into_iter()
    .enumerate()
    {
        let event = json!({
            "metadata": { "name": format!("event-{number}") }, "reason": "Failed", "message": message,
            "involvedObject": { "kind": "Deployment", "name": "rate-limiter", "namespace": stage.namespace },
        });
        stage.api::<Event>().create(&PostParams::default(), &of(event)).await.unwrap();
    }
    stage.target.body(&format!("<html>Authorization: Bearer {}</html>", CANARIES[5]));
}

fn of<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn planted_secrets_reach_no_request_no_ticket_no_event_and_no_log() {
    let log = Log::capture();
    let brain = in_turn(|asked, turn| match turn {
        0 => Turn::new()
            .tool("http_get", json!({ "url": crate::double::operator::url(asked.opening()) }))
            .tool("read_config", json!({ "name": CONFIG_NAME, "key": CONFIG_KEY }))
            .tool("read_last_known_good", json!({ "name": CONFIG_NAME, "key": CONFIG_KEY }))
            .tool("get_object", json!({ "kind": "Deployment", "name": "rate-limiter" }))
            .tool("get_object", json!({ "kind": "Pod", "name": "api" }))
            .tool("list_events", json!({}))
            .tool("check_invariant", json!({ "name": "api" })),
        _ => Turn::new().tool(
            "edit_config",
            json!({
                "name": CONFIG_NAME, "key": CONFIG_KEY, "old_string": "\"delay_ms\": 500",
                "new_string": "\"delay_ms\": 0", "reason": "it is slow",
            }),
        ),
    });
    let (stage, double) = (Stage::new("canary").await, Double::start(brain).await);
    plant(&stage).await;
    let allowed = json!([{ "editConfig": { "name": CONFIG_NAME, "key": CONFIG_KEY, "paths": ["/delay_ms"] } }]);
    let target = json!({ "kind": "Deployment", "name": "rate-limiter" });
    let spec = json!({ "targetRef": target, "remediation": { "mode": "Auto", "allow": allowed } });
    stage.apply("api", spec).await;
    let _operator = stage.operate_with(stage.client.clone(), Halves::Both, |it| it.planning = planning(&double));
    stage.holding("api").await;
    stage.write_config(&config(500)).await;
    stage.target.answer(503);
    let is_written = |ticket: &harness::crd::Ticket| ticket.phase() == Phase::Verifying;
    stage.ticket("api-1", is_written).await;
    stage.target.answer(200);
    let ticket = stage.wait_for_phase("api-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).steps.len(), 9, "{:#?}", status(&ticket).steps);
    let map: ConfigMap = stage.api().get(CONFIG_NAME).await.unwrap();
    assert_eq!(map.data.unwrap()[CONFIG_KEY], config(0), "the texts beside the change are as they were");

    let tickets = serde_json::to_string(&stage.tickets().await).unwrap();
    let invariants = serde_json::to_string(&stage.invariant("api", |_| true).await).unwrap();
    let events = stage.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let ours = events.iter().filter(|it| !it.metadata.name.as_ref().unwrap().starts_with("event-"));
    let events: String = ours.map(|event| serde_json::to_string(event).unwrap()).collect();
    let requests: String = double.requests().into_iter().map(|it| it.body).collect();
    let log = log.text();
    assert!(requests.contains("«redacted»") && log.contains("recorded"), "something was looked at");
    let places = [
        ("a request", requests),
        ("a ticket", tickets),
        ("an invariant", invariants),
        ("an event", events),
        ("the log", log),
    ];
    for (place, text) in places {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} is in {place}");
            assert!(!text.contains(&canary[canary.len() - 8..]), "the end of {canary} is in {place}");
        }
    }
}
