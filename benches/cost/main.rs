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
use operator::{Half, INTERVAL, Start, Steady};
use process::Meter;
use report::{Incidents, Report, Round, Size};
use std::path::Path;
use std::time::Duration;
use target::Target;

const SIZES: [usize; 5] = [100, 1000, 5000, 10_000, 20_000];
/// The size at which all is measured.
const MAIN_SIZE: usize = 10_000;
const ROUNDS: usize = 3;
const WINDOW: Duration = Duration::from_secs(20);
const PEER_WINDOW: Duration = Duration::from_secs(10);
const FAULTS: usize = 300;
/// In which these come, one after the other.
const FAULTS_WITHIN: Duration = Duration::from_mins(2);

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
        first_statuses(&plane, size).await;
        there = size;
        let (start, steady) = restarted(&plane, &target, size).await;
        report.sizes.push(Size { invariants: size, start, steady });
        eprintln!("{}", report.text());
        if size == MAIN_SIZE {
            for _ in 0..ROUNDS {
                report.rounds.push(round(&plane, &target).await);
            }
            report.false_tickets = cluster::tickets(&client).await;
            report.incidents = Some(incidents(&plane, &client, &target).await);
        }
    }
    plane.stop().await;
    report
}

/// Lets new invariants get their first statuses: that is the cost of creating them, not of watching them.
async fn first_statuses(plane: &ControlPlane, invariants: usize) {
    let monitor = Half::monitor(plane, &[]);
    monitor.until("harness_checks_total", f64::from(u32::try_from(2 * invariants).unwrap())).await;
    monitor.settled().await;
    monitor.stop();
}

/// A start upon invariants that are known, and a while after it.
async fn restarted(plane: &ControlPlane, target: &Target, size: usize) -> (Start, Steady) {
    target.record();
    let monitor = Half::monitor(plane, &[]);
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
    let round = Round { start, steady, bare, blackbox, prometheus };
    eprintln!("{round:?}");
    round
}

/// Hundreds of faults, with the agent beside the monitor, as people run them. No planner has a plan: each
/// ticket is diagnosed and escalated, and resolved when the fault is gone.
async fn incidents(plane: &ControlPlane, client: &kube::Client, target: &Target) -> Incidents {
    let (monitor, agent) = (Half::monitor(plane, &[]), Half::agent(plane));
    agent.ready().await;
    monitor.until("harness_checks_total", f64::from(u32::try_from(2 * MAIN_SIZE).unwrap())).await;
    let idle = Meter::run([agent.process()], WINDOW).await;
    let meter = Meter::start([agent.process()]);
    let beyond = cluster::detect(client, target, FAULTS, MAIN_SIZE, FAULTS_WITHIN).await;
    let all = f64::from(u32::try_from(FAULTS).unwrap());
    monitor.until("harness_open_tickets{phase=\"Escalated\"}", all).await;
    let busy = meter.read();
    (0..MAIN_SIZE).for_each(|path| target.set_broken(path, false));
    monitor.until("harness_ticket_phases_total{phase=\"Resolved\"}", all).await;
    let resident_mebibytes = [&monitor, &agent].map(|half| half.process().resident_mebibytes());
    agent.stop();
    monitor.stop();
    Incidents { beyond, idle, busy, resident_mebibytes }
}
