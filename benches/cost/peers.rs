//! What the harness is compared with: a bare loop over reqwest, blackbox_exporter, and Prometheus driving it.

use crate::process::{Meter, Process, Usage};
use crate::target::Target;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BLACKBOX: [&str; 2] = ["prometheus-blackbox-exporter", "blackbox_exporter"];
const BLACKBOX_PORT: u16 = 19115;
const PROMETHEUS_PORT: u16 = 19090;
/// Targets of Prometheus, each every 5 s: it has to keep up on this machine.
const PROMETHEUS_TARGETS: usize = 2500;

/// Whether a peer could be measured, and what one of its checks used of a CPU. Microseconds.
pub(crate) type Cost = Option<f64>;

/// The body of the bare loop, in a process of its own: asks one URL after the other for so many seconds, each over a new
/// connection, and prints how many it asked.
pub(crate) fn bare_loop(seconds: &str, urls: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let end = Instant::now() + Duration::from_secs(seconds.parse().unwrap());
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().unwrap();
    let asked = runtime.block_on(async {
        let mut asked = 0;
        for url in urls.iter().cycle().take_while(|_| Instant::now() < end) {
            client.get(url).send().await.unwrap().bytes().await.unwrap();
            asked += 1;
        }
        asked
    });
    println!("{asked}");
}

/// What a check of the bare loop costs.
pub(crate) fn bare(target: &Target, time: Duration) -> f64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("bare-loop").arg(time.as_secs().to_string()).args((0..100).map(|path| target.url(path)));
    // It says itself what it used: it is gone when it has said how much it did.
    let before = children_cpu();
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let asked: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    (children_cpu() - before) * 1e6 / asked
}

/// CPU time of all children that have ended, in seconds.
fn children_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
    (ticks(16) + ticks(17)) / 100.0
}

/// blackbox_exporter, if it is there.
pub(crate) struct Blackbox {
    process: Process,
    client: reqwest::Client,
    _files: TempDir,
}

impl Blackbox {
    pub(crate) async fn start() -> Option<Self> {
        let program = BLACKBOX.iter().find_map(|name| on_path(name))?;
        let files = tempfile::tempdir().unwrap();
        let config = files.path().join("blackbox.yml");
        std::fs::write(&config, "modules:\n  http_2xx:\n    prober: http\n    timeout: 1s\n").unwrap();
        let process = Process::start(
            Command::new(program)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{BLACKBOX_PORT}"))
                .stderr(Stdio::null()),
        );
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        answers(&client, &format!("http://127.0.0.1:{BLACKBOX_PORT}/-/healthy")).await;
        Some(Self { process, client, _files: files })
    }

    /// What a probe costs, asked one after the other over a kept connection.
    pub(crate) async fn probe(&self, target: &Target, time: Duration) -> f64 {
        let (meter, mut asked) = (Meter::start([&self.process]), 0.0);
        while meter.read().seconds < time.as_secs_f64() {
            for path in 0..50 {
                let url = format!("http://127.0.0.1:{BLACKBOX_PORT}/probe?module=http_2xx&target={}", target.url(path));
                let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
                assert!(text.contains("probe_success 1"), "{text}");
                asked += 1.0;
            }
        }
        meter.read().cpu_seconds * 1e6 / asked
    }
}

/// What a check costs of Prometheus and blackbox_exporter together, with a rule that judges it.
pub(crate) async fn prometheus(blackbox: &Blackbox, target: &Target, time: Duration) -> Cost {
    let program = on_path("prometheus")?;
    let files = tempfile::tempdir().unwrap();
    let config = files.path().join("prometheus.yml");
    std::fs::write(files.path().join("rules.yml"), RULES).unwrap();
    std::fs::write(&config, configuration(target)).unwrap();
    let process = Process::start(
        Command::new(program)
            .current_dir(files.path())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", files.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"))
            .stderr(Stdio::null()),
    );
    answers(&blackbox.client, &format!("http://127.0.0.1:{PROMETHEUS_PORT}/-/ready")).await;
    // Two intervals, until every target was asked.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let usage: Usage = Meter::run([&process, &blackbox.process], time).await;
    let checks = usage.seconds * f64::from(u32::try_from(PROMETHEUS_TARGETS).unwrap()) / 5.0;
    Some(usage.cpu_seconds * 1e6 / checks)
}

const RULES: &str =
    "groups:\n- name: checks\n  interval: 5s\n  rules:\n  - alert: Broken\n    expr: probe_success == 0\n    for: 5s\n";

fn configuration(target: &Target) -> String {
    let mut text = format!(
        "global: {{scrape_interval: 5s, scrape_timeout: 2s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
         - job_name: checks\n  metrics_path: /probe\n  params: {{module: [http_2xx]}}\n  relabel_configs:\n  \
         - {{source_labels: [__address__], target_label: __param_target}}\n  \
         - {{source_labels: [__param_target], target_label: instance}}\n  \
         - {{target_label: __address__, replacement: '127.0.0.1:{BLACKBOX_PORT}'}}\n  static_configs:\n  - targets:\n"
    );
    for path in 0..PROMETHEUS_TARGETS {
        writeln!(text, "    - {}", target.url(path)).unwrap();
    }
    text
}

fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|directory| directory.join(name)).find(|it| it.is_file())
}

/// Waits until something answers there.
async fn answers(client: &reqwest::Client, url: &str) {
    let began = Instant::now();
    while !client.get(url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(began.elapsed() < Duration::from_secs(30), "{url} does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
