//! The demo service as a real process.

use super::{DEADLINE, client};
use reqwest::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// The binary with a config file in this directory.
fn harness(directory: &TempDir, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command.args(["service", "--config", "service_config.json", "--port", &port.to_string()]);
    command.current_dir(directory.path()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn finished(command: &mut Command) -> Output {
    timeout(DEADLINE, command.output()).await.unwrap().unwrap()
}

/// Waits until the process listens: its address, and what it said before.
async fn listening(child: &mut Child) -> (String, String) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut before = String::new();
    loop {
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().expect("it never listened");
        if let Some(rest) = line.strip_prefix("listening on ") {
            return (rest.split_once(',').unwrap().0.to_owned(), before);
        }
        before += &line;
    }
}

fn send(child: &Child, signal: Signal) {
    let id = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(id, signal).unwrap();
}

#[tokio::test]
async fn the_program_says_which_port_is_taken_and_which_flag_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let output = finished(&mut harness(&directory, port)).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&port.to_string()) && said.contains("--port"), "{said}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "it left something behind");
}

#[tokio::test]
async fn the_program_creates_a_missing_config_and_ends_well_on_either_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = harness(&directory, 0).spawn().unwrap();
        let (url, before) = listening(&mut child).await;
        assert!(before.contains("created service_config.json with the default config"), "{before}");
        let health = client().get(format!("{url}/health")).send().await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);

        send(&child, signal);
        let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(0));
        let text = fs::read_to_string(directory.path().join("service_config.json")).unwrap();
        assert_eq!(text, "{\"enabled\": true, \"delay_ms\": 0}\n");
    }
}

#[tokio::test]
async fn the_program_leaves_a_config_that_exists_alone() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("service_config.json");
    fs::write(&config, "broken").unwrap();
    let mut child = harness(&directory, 0).spawn().unwrap();
    let (url, before) = listening(&mut child).await;
    assert_eq!(before, "");
    let health = client().get(format!("{url}/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(fs::read_to_string(&config).unwrap(), "broken");
    send(&child, Signal::TERM);
    assert_eq!(timeout(DEADLINE, child.wait()).await.unwrap().unwrap().code(), Some(0));
}
