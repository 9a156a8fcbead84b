//! What the harness itself adds to each step of an incident that Claude works on: the time between the end of one answer
//! of the model and the next request, with the call executed, the journal written and the ledger kept in between.
//!
//! Against the real control plane, with the double of the Messages API; `cargo bench --bench incident`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run has failed")]

#[path = "../tests/double/double.rs"]
mod double;

use axum::Router;
use axum::http::StatusCode;
use double::{Asked, Double, KEY, Turn};
use futures::StreamExt;
use harness::agent::budget::Amount;
use harness::agent::{ModelSettings, Planning, planner, scribe};
use harness::claude::Settings;
use harness::cli::control_plane::{progress_on_stderr, sources};
use harness::cli::install::{ensure_config_map, install_definitions};
use harness::cluster::control_plane::ControlPlane;
use harness::cluster::control_plane::assets::Assets;
use harness::crd::{Invariant, Phase, Ticket};
use harness::operator::{OperatorSettings, run};
use harness::samples::{CONFIG_KEY, CONFIG_NAME};
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "default";
const INCIDENTS: u32 = 5;
const STEPS: usize = 12;

/// Twelve steps that read, and then a change.
fn brain(asked: &Asked) -> double::Answer {
    if asked.is_summary() {
        return double::operator::summary(asked).into();
    }
    let turn = asked.turn();
    let read = Turn::new().thinking().tool("read_config", json!({ "name": CONFIG_NAME, "key": CONFIG_KEY }));
    let note = Turn::new().thinking().tool("add_note", json!({ "text": format!("step {turn}") }));
    match turn {
        turn if turn >= STEPS => {
            let input = json!({
                "name": CONFIG_NAME, "key": CONFIG_KEY, "old_string": "\"delay_ms\": 500",
                "new_string": "\"delay_ms\": 0", "reason": "it is slow",
            });
            Turn::new().tool("edit_config", input).into()
        }
        turn if turn % 2 == 0 => read.into(),
        _ => note.into(),
    }
}

#[tokio::main]
async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let assets = Assets::find(&sources().unwrap(), &progress_on_stderr()).await.unwrap();
    let plane = ControlPlane::start(&assets, Path::new(env!("CARGO_BIN_EXE_harness"))).await.unwrap();
    let (client, double) = (plane.client().unwrap(), Double::start(brain).await);
    install_definitions(&client).await.unwrap();
    ensure_config_map(&client, NAMESPACE).await.unwrap();
    let healthy = Arc::new(AtomicBool::new(true));
    let url = target(Arc::clone(&healthy)).await;
    watch(&client, &url).await;
    let shutdown = CancellationToken::new();
    let operator = tokio::spawn(run(client.clone(), settings(&double), shutdown.clone()));
    for number in 1..=INCIDENTS {
        until::<Invariant>(&client, "api", |it| {
            it["status"]["heldGeneration"] == 1 && it["status"]["verdict"] == "Holds"
        })
        .await;
        write_config(&client, 500).await;
        healthy.store(false, Ordering::SeqCst);
        let ticket = format!("api-{number}");
        until::<Ticket>(&client, &ticket, |it| it["status"]["phase"] == json!(Phase::Verifying)).await;
        healthy.store(true, Ordering::SeqCst);
        until::<Ticket>(&client, &ticket, |it| it["status"]["phase"] == json!(Phase::Resolved)).await;
    }
    assert_eq!(double.rejections(), Vec::<String>::new());
    report(&double);
    shutdown.cancel();
    operator.await.unwrap().unwrap();
    plane.stop().await;
}

/// The time between an answer and the next request of the same conversation.
fn report(double: &Double) {
    let mut gaps: Vec<Duration> = Vec::new();
    for pair in double.planned().windows(2) {
        let turn = |it: &double::Captured| it.json()["messages"].as_array().unwrap().len();
        if turn(&pair[1]) > turn(&pair[0]) {
            gaps.push(pair[1].received_at.duration_since(pair[0].answered_at));
        }
    }
    gaps.sort_unstable();
    let at = |quantile: usize| gaps[(gaps.len() - 1) * quantile / 100].as_secs_f64() * 1000.0;
    println!(
        "time that the harness adds to a step, over {} steps of {INCIDENTS} incidents: median {:.1} ms, p90 {:.1} ms, \
         longest {:.1} ms",
        gaps.len(),
        at(50),
        at(90),
        at(100)
    );
}

fn settings(double: &Double) -> OperatorSettings {
    let lookup = |name: &str| match name {
        "ANTHROPIC_API_KEY" => Some(KEY.to_owned()),
        "ANTHROPIC_BASE_URL" => Some(double.base_url()),
        _ => None,
    };
    let model = ModelSettings {
        api: Settings::from_variables(lookup).unwrap().unwrap(),
        planner: planner::claude::DEFAULT_MODEL.to_owned(),
        scribe: scribe::DEFAULT_MODEL.to_owned(),
        prices: harness::claude::Prices::default(),
        day_limit: Amount { tokens: u64::MAX, nanodollars: u64::MAX },
        source: None,
    };
    OperatorSettings {
        namespaces: vec![NAMESPACE.to_owned()],
        vitals: harness::vitals::Vitals::default(),
        allow_loopback: true,
        status_refresh: Some(Duration::from_secs(1)),
        good_after: Duration::from_hours(1),
        ticket_ttl: Duration::from_hours(1),
        tickets_per_invariant: 20,
        suspended: false,
        gitops: harness::gitops::GitOps::default(),
        lease_duration: harness::lease::DURATION,
        planning: Planning { model: Some(model), last_known_good: false },
        home: NAMESPACE.to_owned(),
    }
}

async fn target(healthy: Arc<AtomicBool>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answer = move || {
        let status = if healthy.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        async move { status }
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
    url
}

async fn watch(client: &Client, url: &str) {
    let allow = json!([{ "editConfig": { "name": CONFIG_NAME, "key": CONFIG_KEY, "paths": ["/delay_ms"] } }]);
    let invariant = json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": "api" },
        "spec": {
            "query": url, "condition": "== 200", "interval": "1s", "failureThreshold": 1, "successThreshold": 1,
            "remediation": { "mode": "Auto", "allow": allow, "maxRepairsPerHour": 100 },
        },
    });
    let parameters = PatchParams::apply("bench");
    Api::<Invariant>::namespaced(client.clone(), NAMESPACE)
        .patch("api", &parameters, &Patch::Apply(invariant))
        .await
        .unwrap();
}

async fn write_config(client: &Client, delay: u32) {
    let text = format!(r#"{{"enabled": true, "delay_ms": {delay}}}"#);
    let patch = Patch::Merge(json!({ "data": { CONFIG_KEY: text } }));
    let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    api.patch(CONFIG_NAME, &PatchParams::default(), &patch).await.unwrap();
}

async fn until<K>(client: &Client, name: &str, wanted: impl Fn(&Value) -> bool)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Send
        + 'static,
{
    let mut states = pin!(watch_object(Api::<K>::namespaced(client.clone(), NAMESPACE), name));
    let wait = async {
        while let Some(state) = states.next().await {
            if let Ok(Some(object)) = state
                && wanted(&serde_json::to_value(object).unwrap())
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.unwrap_or_else(|_| panic!("{name} is not as wanted"));
}
