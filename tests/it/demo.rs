//! The demo: its script against the real API server with a puppet for an operator, and the whole of it as a process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod puppet;

use crate::screen::{cluster_shown, config_key, prepared};
use crate::support::{binary, client, eventually};
use harness::cli::demo::report::Incident;
use harness::cli::demo::script::{Deadlines, Player, Scene, ScriptError, scenes};
use harness::crd::{Outcome, Phase, PlannerName};
use harness::samples::LATENCY;
use puppet::{Manners, Puppet};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

fn deadlines() -> Deadlines {
    Deadlines { calm: DEADLINE, detection: DEADLINE, ending: DEADLINE }
}

/// Plays these scenes while the puppet answers them.
async fn played(scenes: &[Scene], manners: Manners) -> (Vec<Incident>, Vec<String>) {
    let (client, namespace) = prepared("script").await;
    let told = Mutex::new(Vec::new());
    let tell = |line: &str| told.lock().unwrap().push(line.to_owned());
    let mut player = Player::new(client.clone(), cluster_shown(), config_key(&namespace), deadlines(), &tell);
    let names: Vec<&str> = scenes.iter().map(|scene| scene.name).collect();
    let puppet = Puppet::new(client, namespace, manners);
    let script = async {
        let mut incidents = Vec::new();
        for scene in scenes {
            player.settle().await.unwrap();
            incidents.push(player.play(scene).await.unwrap());
        }
        incidents
    };
    let (incidents, ()) = tokio::join!(script, puppet.run(&names));
    drop(player);
    (incidents, told.into_inner().unwrap())
}

#[tokio::test]
async fn the_script_succeeds_when_two_faults_are_repaired_and_the_third_is_left_alone() {
    let (incidents, told) = played(&scenes(), Manners::Good).await;
    assert!(incidents.iter().all(|incident| incident.as_expected), "{incidents:?}");
    let ends: Vec<_> = incidents.iter().map(|incident| (incident.fault, incident.phase, incident.outcome)).collect();
    assert_eq!(
        ends,
        [
            ("slow", Phase::Resolved, Some(Outcome::Repaired)),
            ("dead", Phase::Resolved, Some(Outcome::Repaired)),
            ("forbidden", Phase::Escalated, Some(Outcome::NoPlan)),
        ]
    );
    assert_eq!(incidents[0].planner, Some(PlannerName::LastKnownGood));
    assert!(incidents[0].repair_seconds.is_some() && incidents[0].resolution_seconds.is_some());
    assert_eq!((incidents[2].repair_seconds, incidents[2].resolution_seconds), (None, None));
    assert!(told.iter().any(|line| line.contains("baseline learned")), "{told:#?}");
    assert!(told.iter().any(|line| line.contains("Resolved (Repaired) in")), "{told:#?}");
}

#[tokio::test]
async fn a_write_on_what_must_be_left_alone_is_a_failure() {
    let forbidden = &scenes()[2..];
    let (incidents, _) = played(forbidden, Manners::Bad).await;
    assert!(!incidents[0].untouched);
    assert!(!incidents[0].as_expected);
}

#[tokio::test]
async fn an_escalation_of_what_should_be_repaired_is_a_failure_and_is_cleaned_up() {
    let mut dead_for_forbidden = scenes()[2].clone();
    dead_for_forbidden.ending = scenes()[0].ending;
    let (incidents, _) = played(&[dead_for_forbidden], Manners::Good).await;
    assert_eq!(incidents[0].phase, Phase::Escalated);
    assert!(!incidents[0].as_expected);
}

#[tokio::test]
async fn a_wait_in_vain_says_for_what_and_what_is_the_case() {
    let (client, namespace) = prepared("script").await;
    let short = Duration::from_millis(300);
    let deadlines = Deadlines { calm: short, detection: short, ending: short };
    let tell = |_: &str| {};
    let mut player = Player::new(client, cluster_shown(), config_key(&namespace), deadlines, &tell);
    let ScriptError::Await { awaited, .. } = player.settle().await.unwrap_err() else { panic!("a wait in vain") };
    assert!(awaited.contains("every invariant to hold"), "{awaited}");
    let error = player.play(&scenes()[0]).await.unwrap_err().to_string();
    assert!(error.contains(&format!("a ticket about {LATENCY}")), "{error}");
    assert!(error.contains("baseline not learned"), "{error}");
}

/// `harness demo`, on a free port, with its output to be read.
fn demo(arguments: &[&str]) -> Child {
    Command::new(binary())
        .args(["demo", "--port", "0"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_way_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let command = Command::new(binary()).args(["demo", "--auto", "--port", &port]).kill_on_drop(true).output();
    let output = timeout(DEADLINE, command).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(&port) && stderr.contains("--port"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn an_interrupted_demo_leaves_no_process_and_says_that_it_was_interrupted() {
    // The binaries are there once the tests' own control plane runs.
    drop(client());
    for (arguments, signal) in [(&["--auto"][..], Signal::INT), (&["--output", "json"], Signal::TERM)] {
        let mut demo = demo(arguments);
        let (stdout, stderr) = (demo.stdout.take().unwrap(), demo.stderr.take().unwrap());
        let (told, result): (Box<dyn Output>, Box<dyn Output>) = match signal {
            Signal::INT => (Box::new(stdout), Box::new(stderr)),
            _ => (Box::new(stderr), Box::new(stdout)),
        };
        let mut lines = BufReader::new(told).lines();
        timeout(DEADLINE, async { while !lines.next_line().await.unwrap().unwrap().contains("get tickets -w") {} })
            .await
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(demo.id().unwrap()).unwrap()).unwrap();
        let children = children(pid);
        assert_eq!(children.len(), 2, "etcd and kube-apiserver: {children:?}");
        kill_process(pid, signal).unwrap();
        let status = timeout(DEADLINE, demo.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(130));
        eventually(DEADLINE, async || children.iter().all(|child| !is_running(*child)).then_some(())).await;
        if !arguments.contains(&"json") {
            continue;
        }
        let mut unexpected = String::new();
        BufReader::new(result).read_to_string(&mut unexpected).await.unwrap();
        assert_eq!(unexpected, "", "only a result belongs on stdout");
    }
}

trait Output: AsyncRead + Unpin {}
impl<T: AsyncRead + Unpin> Output for T {}

/// The processes whose parent is `parent`.
fn children(parent: Pid) -> Vec<i32> {
    let entries =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    entries.filter(|pid: &i32| status_field(*pid, "PPid:") == Some(parent.as_raw_nonzero().to_string())).collect()
}

/// A zombie is not running: its parent is gone, and whoever inherited it has not looked yet.
fn is_running(pid: i32) -> bool {
    status_field(pid, "State:").is_some_and(|state| state != "Z")
}

fn status_field(pid: i32, name: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[tokio::test]
async fn the_demo_repairs_two_faults_and_leaves_the_third_to_a_person() {
    drop(client());
    let demo = demo(&["--auto", "--output", "json"]);
    let output = timeout(Duration::from_mins(5), demo.wait_with_output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document on stdout");
    assert!(document["kubernetes"].as_str().unwrap().starts_with('v'));
    assert!(document["kubeconfig"].is_string());
    let incidents = document["incidents"].as_array().unwrap();
    let ends: Vec<_> = incidents
        .iter()
        .map(|incident| (incident["fault"].as_str().unwrap(), incident["phase"].as_str().unwrap()))
        .collect();
    assert_eq!(ends, [("slow", "Resolved"), ("dead", "Resolved"), ("forbidden", "Escalated")]);
    for repaired in &incidents[..2] {
        assert_eq!(repaired["outcome"], "Repaired", "{document}");
        for key in ["detection_seconds", "repair_seconds", "resolution_seconds"] {
            assert!(repaired[key].as_f64().unwrap() >= 0.0, "{key}: {document}");
        }
    }
    assert!(incidents[2]["repair_seconds"].is_null(), "{document}");
}
