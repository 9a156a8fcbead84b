//! What it costs to watch: CPU time a check, memory, punctuality, detection and restarts of the real monitor on the real
//! API server, beside what else there is. Runs are interleaved, since the machine is not quiet; CPU time is from `/proc`.
//!
//! `cargo bench --bench cost` measures all and writes `docs/benchmarks.md` and its plot; it takes about 15 minutes.
//! `cargo bench --bench cost -- 1000 5000` measures only so many invariants, and prints. The peers are those on `PATH`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot run has failed")]

mod cluster;
#[allow(dead_code, reason = "the test of scale needs the rest")]
mod operator;
mod peers;
mod plot;
mod process;
mod report;
mod target;

use harness::cli::control_plane::{progress_on_stderr, sources};
use harness::cli::install::install_definitions;
use harness::cluster::control_plane::ControlPlane;
use harness::cluster::control_plane::assets::Assets;
use operator::{INTERVAL, Monitor, Start, Steady};
use report::{Report, Round, Size};
use std::path::Path;
use std::time::Duration;
use target::Target;

const SIZES: [usize; 6] = [100, 1000, 2000, 5000, 10_000, 20_000];
/// The size at which all is measured.
const MAIN_SIZE: usize = 10_000;
const ROUNDS: usize = 3;
const WINDOW: Duration = Duration::from_secs(20);
const PEER_WINDOW: Duration = Duration::from_secs(10);
const FAULTS: usize = 1000;

fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, seconds, urls @ ..] = arguments.as_slice()
        && role == "bare-loop"
    {
        return peers::bare_loop(seconds, urls);
    }
    // Cargo adds `--bench`.
    let sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(measure(if sizes.is_empty() { &SIZES } else { &sizes }));
    println!("{}", report.text());
    if sizes.is_empty() {
        report.write(Path::new("docs"));
    }
}

async fn measure(sizes: &[usize]) -> Report {
    let assets = Assets::find(&sources().unwrap(), &progress_on_stderr()).await.unwrap();
    let plane = ControlPlane::start(&assets, Path::new(env!("CARGO_BIN_EXE_harness"))).await.unwrap();
    let client = plane.client().unwrap();
    install_definitions(&client).await.unwrap();
    let target = Target::start(sizes.iter().copied().max().unwrap()).await;
    let (mut report, mut there) = (Report::default(), 0);
    for &size in sizes {
        eprintln!("{size} invariants");
        cluster::create(&client, &target, there..size, INTERVAL).await;
        first_statuses(&plane, size - there).await;
        there = size;
        let (start, steady) = restarted(&plane, &target, size).await;
        report.sizes.push(Size { invariants: size, start, steady });
        if size == MAIN_SIZE {
            for _ in 0..ROUNDS {
                report.rounds.push(round(&plane, &target).await);
            }
            report.false_tickets = cluster::tickets(&client).await;
            report.beyond = detection(&plane, &client, &target).await;
        }
    }
    plane.stop().await;
    report
}

/// Lets new invariants get their first status: that is the cost of creating them, not of watching them.
async fn first_statuses(plane: &ControlPlane, new: usize) {
    let monitor = Monitor::start(plane, &[]);
    // Two each: accepted with the first sample, holding with the second.
    monitor.until("harness_status_writes_total", f64::from(u32::try_from(2 * new).unwrap())).await;
    monitor.stop();
}

/// A start upon invariants that are known, and a while after it.
async fn restarted(plane: &ControlPlane, target: &Target, size: usize) -> (Start, Steady) {
    target.record();
    let monitor = Monitor::start(plane, &[]);
    let start = monitor.scheduled(target, size).await;
    let steady = monitor.steady(WINDOW).await;
    monitor.stop();
    (start, steady)
}

/// Everybody once, one after the other.
async fn round(plane: &ControlPlane, target: &Target) -> Round {
    let (start, steady) = restarted(plane, target, MAIN_SIZE).await;
    let bare = tokio::task::block_in_place(|| peers::bare(target, PEER_WINDOW));
    let (mut blackbox, mut prometheus) = (None, None);
    if let Some(exporter) = peers::Blackbox::start().await {
        blackbox = Some(exporter.probe(target, PEER_WINDOW).await);
        prometheus = peers::prometheus(&exporter, target, PEER_WINDOW).await;
    }
    eprintln!("a round: harness {:.0} µs, bare loop {bare:.0} µs, blackbox {blackbox:?}", steady.cost());
    Round { start, steady, bare, blackbox, prometheus }
}

async fn detection(plane: &ControlPlane, client: &kube::Client, target: &Target) -> Vec<f64> {
    let monitor = Monitor::start(plane, &[]);
    monitor.until("harness_checks_total", f64::from(u32::try_from(2 * MAIN_SIZE).unwrap())).await;
    let beyond = cluster::detect(client, target, FAULTS, MAIN_SIZE, INTERVAL * 8).await;
    (0..MAIN_SIZE).for_each(|path| target.set_broken(path, false));
    monitor.until("harness_ticket_phases_total{phase=\"Resolved\"}", f64::from(u32::try_from(FAULTS).unwrap())).await;
    monitor.stop();
    beyond
}
