//! Ten thousand invariants and a thousand open tickets on the real API server: created, restarted upon, changed, deleted.
//!
//! What holds at that size is tested here; how fast it is, `cargo bench --bench cost` measures. It is a program of its own,
//! so that no other test has to share the machine with it. Also here: a hostile tenant beside a thousand others
//! (`cargo test --test scale hostile -- --nocapture`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

#[path = "../../benches/cost/cluster.rs"]
#[allow(dead_code, reason = "the benchmark needs the rest")]
mod cluster;
mod hostile;
#[path = "../../benches/cost/operator.rs"]
#[allow(dead_code, reason = "the benchmark needs the rest")]
mod operator;
#[path = "../../benches/cost/process.rs"]
#[allow(dead_code, reason = "the benchmark needs the rest")]
mod process;
#[path = "../../benches/cost/target.rs"]
mod target;

use harness::cli::control_plane::{progress_on_stderr, sources};
use harness::cli::install::install_definitions;
use harness::cluster::control_plane::ControlPlane;
use harness::cluster::control_plane::assets::Assets;
use harness::crd::{Invariant, Ticket};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use operator::{Half, NAMESPACE};
use serde_json::json;
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};
use target::Target;
use tokio::sync::Mutex;

const INVARIANTS: usize = 10_000;
const TICKETS: usize = 1000;
/// Long: what is tested here is not speed, and this is a debug build.
const INTERVAL: Duration = Duration::from_secs(15);
/// Of this process's writes of statuses that bring no news. A second.
const REFRESHES: f64 = 20.0;

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

async fn tickets(client: &Client) -> Vec<Ticket> {
    Api::<Ticket>::namespaced(client.clone(), NAMESPACE).list(&ListParams::default()).await.unwrap().items
}

/// A monitor that would refresh every status every second, if it might.
fn monitor(plane: &ControlPlane) -> Half {
    Half::monitor(plane, &["--status-refresh", "1s"])
}

/// One at a time: each measures, and their monitors listen at one port.
static ALONE: Mutex<()> = Mutex::const_new(());

async fn plane() -> ControlPlane {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let assets = Assets::find(&sources().unwrap(), &progress_on_stderr()).await.unwrap();
    let plane = ControlPlane::start(&assets, Path::new(env!("CARGO_BIN_EXE_harness"))).await.unwrap();
    install_definitions(&plane.client().unwrap()).await.unwrap();
    plane
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tenant_keeps_nobody_waiting() {
    let (_alone, plane) = (ALONE.lock().await, plane().await);
    let (client, target) = (plane.client().unwrap(), Target::start(INVARIANTS).await);
    let monitor = Half::monitor(&plane, &["--namespace", "hostile"]);
    hostile::keeps_nobody_waiting(&monitor, &client, &target).await;
    monitor.stop();
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_invariants_and_a_thousand_tickets_are_kept() {
    let (_alone, plane) = (ALONE.lock().await, plane().await);
    let client = plane.client().unwrap();
    let target = Target::start(INVARIANTS).await;
    cluster::create(&client, &target, 0..INVARIANTS, INTERVAL).await;

    let first = monitor(&plane);
    first.until("harness_checks_total{verdict=\"Holds\"}", number(INVARIANTS)).await;
    (0..TICKETS).for_each(|path| target.set_broken(path, true));
    first.until("harness_open_tickets{phase=\"Open\"}", number(TICKETS)).await;
    first.until("harness_invariants", number(INVARIANTS)).await;
    first.kill();

    let second = a_successor_asks_all_again_and_opens_nothing_twice(&plane, &client, &target).await;
    refreshes_keep_to_their_budget(&second).await;
    changes_are_taken_without_a_restart(&client, &second).await;
    what_is_deleted_is_asked_no_more(&client, &target, &second).await;
    second.stop();
    plane.stop().await;
}

async fn a_successor_asks_all_again_and_opens_nothing_twice(
    plane: &ControlPlane,
    client: &Client,
    target: &Target,
) -> Half {
    target.record();
    let successor = monitor(plane);
    // Every one twice: a breach of both would open a ticket where none is known.
    successor.until("harness_checks_total", number(2 * INVARIANTS)).await;
    let asked: HashSet<usize> = target.recorded().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked.len(), INVARIANTS);
    let tickets = tickets(client).await;
    let of: HashSet<&str> = tickets.iter().map(|ticket| ticket.spec.invariant_ref.name.as_str()).collect();
    assert_eq!((tickets.len(), of.len()), (TICKETS, TICKETS));
    assert!(tickets.iter().all(|ticket| ticket.name_any().ends_with("-1")));
    successor
}

async fn refreshes_keep_to_their_budget(monitor: &Half) {
    let (before, began) = (monitor.metric("harness_status_writes_total").await, Instant::now());
    monitor.until("harness_status_writes_total", before + 200.0).await;
    let written = monitor.metric("harness_status_writes_total").await - before;
    let most = REFRESHES * began.elapsed().as_secs_f64() + 1.0;
    assert!(written <= most, "{written} statuses were written, {most} may be");
}

async fn changes_are_taken_without_a_restart(client: &Client, monitor: &Half) {
    let api: Api<Invariant> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({ "spec": { "condition": "== 503", "interval": "10s" } }));
    for path in 0..TICKETS {
        api.patch(&cluster::name(path), &PatchParams::default(), &patch).await.unwrap();
    }
    monitor.until("harness_ticket_phases_total{phase=\"Resolved\"}", number(TICKETS)).await;
    monitor.until_at_most("harness_open_tickets", 0.0).await;
    assert_eq!(tickets(client).await.len(), TICKETS);
}

async fn what_is_deleted_is_asked_no_more(client: &Client, target: &Target, monitor: &Half) {
    let api: Api<Invariant> = Api::namespaced(client.clone(), NAMESPACE);
    // The last one stays, to tell when the others would have been asked.
    let all_but_one = ListParams::default().fields(&format!("metadata.name!={}", cluster::name(INVARIANTS - 1)));
    while api.list_metadata(&ListParams::default().limit(2)).await.unwrap().items.len() > 1 {
        // The API server ends a long request before it has deleted all.
        let _ = api.delete_collection(&DeleteParams::default(), &all_but_one).await;
    }
    monitor.until_at_most("harness_invariants", 1.0).await;
    target.record();
    let checks = monitor.metric("harness_checks_total").await;
    monitor.until("harness_checks_total", checks + 2.0).await;
    assert!(target.recorded().iter().all(|(path, _)| *path == INVARIANTS - 1));
}
