//! The harness as people run it, by halves: the released program, on the real API server, seen through its metrics.

use crate::process::{Meter, Process, Usage};
use crate::target::Target;
use harness::cluster::control_plane::ControlPlane;
use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

/// The interval of every invariant here.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const NAMESPACE: &str = "default";
const MONITOR_PORT: u16 = 19080;
const AGENT_PORT: u16 = 19081;
/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running half.
pub(crate) struct Half {
    process: Process,
    client: reqwest::Client,
    port: u16,
    began: Instant,
}

/// How it went for some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steady {
    pub(crate) usage: Usage,
    pub(crate) checks: f64,
    pub(crate) skipped: f64,
    pub(crate) resident_mebibytes: f64,
    /// Nine tenths, and ninety-nine hundredths, of the checks began at most so late: the bound of the histogram. Seconds.
    pub(crate) late_seconds: [f64; 2],
}

impl Steady {
    /// Of CPU time. Microseconds.
    pub(crate) fn cost(&self) -> f64 {
        self.usage.cpu_seconds * 1e6 / self.checks
    }
}

/// How it went after a start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// From the start of the process to the first check. Seconds.
    pub(crate) first_check: f64,
    /// From the first check until every invariant was checked once. Seconds.
    pub(crate) all_checked: f64,
    /// Most checks that began within 100 ms, as a multiple of the even share.
    pub(crate) burst: f64,
}

impl Half {
    /// Starts a monitor with these arguments besides those that every run here needs.
    pub(crate) fn monitor(plane: &ControlPlane, arguments: &[&str]) -> Self {
        Self::start(plane, "monitor", MONITOR_PORT, arguments)
    }

    /// Starts an agent.
    pub(crate) fn agent(plane: &ControlPlane) -> Self {
        Self::start(plane, "agent", AGENT_PORT, &[])
    }

    fn start(plane: &ControlPlane, half: &str, port: u16, arguments: &[&str]) -> Self {
        let process = Process::start(
            Command::new(env!("CARGO_BIN_EXE_harness"))
                .args([half, "--namespace", NAMESPACE, "--allow-loopback", "--log", "error"])
                .arg(format!("--listen=127.0.0.1:{port}"))
                .arg("--kubeconfig")
                .arg(plane.kubeconfig())
                .args(arguments),
        );
        Self { process, client: reqwest::Client::builder().no_proxy().build().unwrap(), port, began: Instant::now() }
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Waits until it has seen all that there is.
    pub(crate) async fn ready(&self) {
        let began = Instant::now();
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        while !self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < PATIENCE, "it is not ready");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) fn stop(self) {
        self.process.stop();
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(self) {
        drop(self.process);
    }

    /// A metric now; without labels, the sum over all of them. No number while it cannot be asked.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.map_or(f64::NAN, |metrics| sum(&metrics, name))
    }

    /// All its metrics, by name and labels.
    async fn metrics(&self) -> Option<HashMap<String, f64>> {
        let text =
            self.client.get(format!("http://127.0.0.1:{}/metrics", self.port)).send().await.ok()?.text().await.ok()?;
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Some(samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Waits until [`Half::metric`] is at least so much.
    pub(crate) async fn until(&self, name: &str, at_least: f64) {
        self.until_it(name, |found| found >= at_least).await;
    }

    /// Waits until [`Half::metric`] is at most so much.
    pub(crate) async fn until_at_most(&self, name: &str, at_most: f64) {
        self.until_it(name, |found| found <= at_most).await;
    }

    /// Waits until no more statuses are written than are refreshed.
    pub(crate) async fn settled(&self) {
        let began = Instant::now();
        loop {
            let before = self.metric("harness_status_writes_total").await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            // 20 a second.
            if self.metric("harness_status_writes_total").await - before < 65.0 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "statuses are still written");
        }
    }

    async fn until_it(&self, name: &str, is_wanted: impl Fn(f64) -> bool) {
        let began = Instant::now();
        loop {
            let found = self.metric(name).await;
            if is_wanted(found) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{name} is {found}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Measures for some time in which nothing happens but checks.
    pub(crate) async fn steady(&self, time: Duration) -> Steady {
        let before = self.metrics().await.unwrap();
        let usage = Meter::run([&self.process], time).await;
        let after = self.metrics().await.unwrap();
        let counted = |name: &str| sum(&after, name) - sum(&before, name);
        Steady {
            usage,
            checks: counted("harness_checks_total"),
            skipped: counted("harness_checks_skipped_total"),
            resident_mebibytes: self.process.resident_mebibytes(),
            late_seconds: [0.9, 0.99].map(|quantile| quantile_of(&before, &after, quantile)),
        }
    }

    /// Waits until every one of so many invariants was checked, by what the target saw.
    pub(crate) async fn scheduled(&self, target: &Target, invariants: usize) -> Start {
        let all = f64::from(u32::try_from(invariants).unwrap());
        self.until("harness_checks_total", all).await;
        // A second interval, in which bursts would show too.
        self.until("harness_checks_total", 2.0 * all).await;
        let arrivals = target.recorded();
        let (mut seen, first) = (HashSet::new(), arrivals[0].1);
        let mut last = first;
        for (path, at) in &arrivals {
            if seen.insert(*path) {
                last = *at;
            }
        }
        assert_eq!(seen.len(), invariants);
        let window = Duration::from_millis(100);
        let (mut begin, mut most) = (0, 0);
        for (end, (_, at)) in arrivals.iter().enumerate() {
            while *at - arrivals[begin].1 > window {
                begin += 1;
            }
            most = most.max(end - begin + 1);
        }
        let even = all * window.as_secs_f64() / INTERVAL.as_secs_f64();
        Start {
            first_check: (first - self.began).as_secs_f64(),
            all_checked: (last - first).as_secs_f64(),
            burst: f64::from(u32::try_from(most).unwrap()) / even,
        }
    }
}

fn sum(metrics: &HashMap<String, f64>, name: &str) -> f64 {
    let is_named = |key: &str| key == name || key.split('{').next() == Some(name);
    metrics.iter().filter(|(key, _)| is_named(key)).map(|(_, value)| value).sum()
}

/// The upper bound of the bucket of lateness that a quantile of what came in between is in.
fn quantile_of(before: &HashMap<String, f64>, after: &HashMap<String, f64>, quantile: f64) -> f64 {
    let mut buckets: Vec<(f64, f64)> = after
        .iter()
        .filter_map(|(key, value)| {
            let bound = key.strip_prefix("harness_check_start_lateness_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, value - before.get(key).copied().unwrap_or_default()))
        })
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    buckets.iter().find(|(_, count)| *count >= quantile * all).map_or(f64::NAN, |(bound, _)| *bound)
}
