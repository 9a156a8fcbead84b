//! `harness control-plane` as a process: how it ends, and what it leaves.

use crate::support::{assets, binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// A `harness control-plane` that is ready.
struct Foreground {
    process: Child,
    /// The private directory.
    directory: PathBuf,
    /// etcd and kube-apiserver.
    children: Vec<u32>,
}

impl Foreground {
    /// Starts it with the binaries of this test run and a cache of its own.
    async fn start(cache: &Path) -> Self {
        let api_server = assets().await.kube_apiserver();
        let mut process = Command::new(binary())
            .arg("control-plane")
            .env("KUBEBUILDER_ASSETS", api_server.parent().unwrap())
            .env("XDG_CACHE_HOME", cache)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let kubeconfig = line.trim().strip_prefix("export KUBECONFIG='").unwrap().trim_end_matches('\'');
        let directory = Path::new(kubeconfig).parent().unwrap().to_path_buf();
        let children = children_of(process.id());
        assert_eq!(children.len(), 2, "{children:?}");
        Self { process, directory, children }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    async fn wait_until_children_are_gone(&self) {
        eventually(PATIENCE, || async { self.children.iter().all(|child| !is_running(*child)).then_some(()) }).await;
    }

    async fn exit_code(&mut self) -> Option<i32> {
        for _ in 0..1000 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it did not end")
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|it| it.trim() == parent.to_string()))
    };
    processes.filter(is_child).collect()
}

/// Whether the process runs; one that has ended but was not reaped has no command line.
fn is_running(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// Runs `harness control-plane` where there is neither Go nor a network.
fn run_with_nothing(cache: &Path) -> Output {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let empty = tempfile::tempdir().unwrap();
    Command::new(binary())
        .arg("control-plane")
        .env_clear()
        .env("PATH", empty.path())
        .env("XDG_CACHE_HOME", cache)
        .env("HTTPS_PROXY", format!("http://{closed}"))
        .output()
        .unwrap()
}

#[tokio::test]
async fn sigterm_stops_both_children_and_removes_the_directory() {
    let cache = tempfile::tempdir().unwrap();
    let mut plane = Foreground::start(cache.path()).await;
    plane.signal(Signal::TERM);
    assert_eq!(plane.exit_code().await, Some(0));
    plane.wait_until_children_are_gone().await;
    assert!(!plane.directory.exists());
}

#[tokio::test]
async fn sigkill_leaves_no_orphan_and_the_next_start_sweeps_the_directory() {
    let cache = tempfile::tempdir().unwrap();
    let killed = Foreground::start(cache.path()).await;
    killed.signal(Signal::KILL);
    killed.wait_until_children_are_gone().await;
    assert!(killed.directory.exists());
    let next = Foreground::start(cache.path()).await;
    assert!(!killed.directory.exists());
    assert!(next.directory.exists());
}

#[tokio::test]
async fn a_child_that_dies_ends_it_with_its_name_and_reason() {
    let cache = tempfile::tempdir().unwrap();
    let mut plane = Foreground::start(cache.path()).await;
    let is_etcd = |pid: &&u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "etcd");
    let etcd = *plane.children.iter().find(is_etcd).unwrap();
    kill_process(Pid::from_raw(i32::try_from(etcd).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(plane.exit_code().await, Some(1));
    let mut said = String::new();
    plane.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("etcd ended (signal: 9"), "{said}");
    plane.wait_until_children_are_gone().await;
}

#[test]
fn without_go_and_a_network_it_names_the_three_ways_out() {
    let cache = tempfile::tempdir().unwrap();
    let output = run_with_nothing(cache.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["refused", "Go is not installed", "install Go 1.", "KUBEBUILDER_ASSETS", "--kubeconfig"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
}

#[test]
fn a_half_built_cache_is_noticed_and_named() {
    let cache = tempfile::tempdir().unwrap();
    let half_built = cache.path().join("harness/control-plane/v1.36.3");
    fs::create_dir_all(&half_built).unwrap();
    fs::write(half_built.join("etcd"), "half").unwrap();
    let said = String::from_utf8(run_with_nothing(cache.path()).stderr).unwrap();
    assert!(said.contains(&format!("{} is half-built", half_built.display())), "{said}");
    assert!(!half_built.exists());
}

#[test]
fn given_binaries_that_do_not_run_are_an_error_and_not_replaced() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(binary()).arg("control-plane").env("KUBEBUILDER_ASSETS", empty.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("KUBEBUILDER_ASSETS={}", empty.path().display())), "{said}");
}

#[test]
fn tethered_refuses_a_parent_that_is_not_its_own() {
    let output = Command::new(binary()).args(["tethered", "--parent", "1", "--", "/bin/true"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("is not the parent"), "{said}");
}
