//! A person's word on the command line: the real binary, the real operator, the real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

use crate::repair::stage::{BASELINE, Stage};
use crate::repair::{DEAD, settled, status};
use crate::stage::{Operating, PATIENCE};
use crate::support::{binary, cluster};
use harness::crd::{ApprovalDecision, Outcome, Phase, Proposal, Ticket};
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::process::Stdio;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// What a command wrote, and whether it succeeded.
struct Told {
    success: bool,
    stdout: String,
    stderr: String,
}

/// A file with this text.
fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// The kubeconfig of the user `jane`.
fn kubeconfig_of_jane() -> NamedTempFile {
    file(&cluster().user_kubeconfig("jane", Some("system:masters")).unwrap())
}

fn harness(stage: &Stage, kubeconfig: &NamedTempFile, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).args(["-n", &stage.namespace, "--kubeconfig"]).arg(kubeconfig.path()).kill_on_drop(true);
    command
}

/// Runs the binary without a terminal: `y` waits on its standard input.
async fn told(stage: &Stage, words: &[&str]) -> Told {
    let (kubeconfig, yes) = (kubeconfig_of_jane(), file("y\n"));
    let running = harness(stage, &kubeconfig, words).stdin(Stdio::from(yes.reopen().unwrap())).output();
    let output = timeout(PATIENCE, running).await.expect("the command ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Told { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Runs it at a terminal; when it asks, `meanwhile` happens, and then this is typed.
async fn asked(stage: &Stage, words: &[&str], meanwhile: impl Future<Output = ()>, typed: &str) -> Told {
    let kubeconfig = kubeconfig_of_jane();
    let (mut keyboard, terminal) = terminal();
    let mut child = harness(stage, &kubeconfig, words)
        .stdin(Stdio::from(terminal))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdout, mut shown) = (child.stdout.take().unwrap(), Vec::new());
    let question = async {
        while !shown.ends_with(b"[y/N] ") {
            shown.push(stdout.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, question).await.expect("it asks");
    meanwhile.await;
    keyboard.write_all(typed.as_bytes()).unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the command ends").unwrap();
    stdout.read_to_end(&mut shown).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { success: output.status.success(), stdout: text(shown), stderr: text(output.stderr) }
}

/// A terminal, and what is typed at it.
fn terminal() -> (File, File) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let path = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
    (File::from(keyboard), File::options().read(true).write(true).open(path).unwrap())
}

/// Runs it, and expects it to fail with exit code 1 and this message.
async fn refused(stage: &Stage, words: &[&str], message: &str) {
    let told = told(stage, words).await;
    assert!(!told.success && told.stderr.contains(message), "{}{}", told.stdout, told.stderr);
}

/// Runs it, and expects it to succeed.
async fn done(stage: &Stage, words: &[&str]) -> String {
    let told = told(stage, words).await;
    assert!(told.success, "{}{}", told.stdout, told.stderr);
    told.stdout
}

/// A stage with a ticket that proposes a change.
async fn proposed(name: &str, remediation: serde_json::Value) -> (Stage, Operating, Proposal) {
    let mut whole = json!({ "mode": "Approve" });
    for (field, value) in remediation.as_object().unwrap() {
        whole[field] = value.clone();
    }
    let (stage, operator) = settled(name, &whole).await;
    stage.write_config(DEAD).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::AwaitingApproval).await;
    let proposal = status(&ticket).proposal.clone().unwrap();
    (stage, operator, proposal)
}

#[tokio::test]
async fn an_approved_change_is_shown_made_and_verified() {
    let (stage, _operator, proposal) = proposed("word-yes", json!({})).await;
    let shown = done(&stage, &["approve", "healthy-1", "--hash", &proposal.hash]).await;
    for part in ["cause   person changed /enabled", "-{\"enabled\": false", "/enabled of ConfigMap", "until   ", "jane"]
    {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!(stage.config().await, BASELINE);
    let word = ticket.spec.approval.clone().unwrap();
    assert_eq!((word.decision, word.by.as_str()), (ApprovalDecision::Approved, "jane"));
    let managers = ticket.metadata.managed_fields.unwrap();
    assert!(managers.iter().any(|it| it.manager.as_deref() == Some("harness-approve")), "{managers:#?}");
    refused(&stage, &["approve", "healthy-1", "--hash", &proposal.hash], "is Resolved").await;
    refused(&stage, &["retry", "healthy-1"], "a new breach opens a new ticket").await;
}

#[tokio::test]
async fn a_word_without_a_terminal_must_name_the_change_that_it_is_about() {
    let (stage, _operator, proposal) = proposed("word-hash", json!({})).await;
    let hint = format!("--hash {}", proposal.hash);
    refused(&stage, &["approve", "healthy-1"], &hint).await;
    refused(&stage, &["approve", "healthy-1", "--yes"], &hint).await;
    let other = "0".repeat(64);
    refused(&stage, &["approve", "healthy-1", "--hash", &other], "proposes another change now").await;
    refused(&stage, &["approve", "absent-1"], "there is no ticket absent-1").await;
    refused(&stage, &["retry", "healthy-1"], "it awaits your word").await;
    let ticket = stage.ticket_api().get("healthy-1").await.unwrap();
    assert_eq!((ticket.phase(), ticket.spec.approval), (Phase::AwaitingApproval, None));
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn at_a_terminal_only_a_yes_to_the_ticket_as_it_was_shown_counts() {
    let (stage, operator, _) = proposed("word-ask", json!({})).await;
    operator.stop().await;
    let no = asked(&stage, &["approve", "healthy-1"], async {}, "n\n").await;
    assert!(!no.success && no.stderr.contains("nothing was written"), "{}", no.stderr);
    let edit = async {
        stage.patch_ticket("healthy-1", json!({ "metadata": { "labels": { "edited": "meanwhile" } } })).await;
    };
    let late = asked(&stage, &["approve", "healthy-1"], edit, "y\n").await;
    assert!(!late.success && late.stderr.contains("changed since it was shown"), "{}", late.stderr);
    assert_eq!(stage.ticket_api().get("healthy-1").await.unwrap().spec.approval, None);
    let yes = asked(&stage, &["approve", "healthy-1"], async {}, "y\n").await;
    assert!(yes.success && yes.stdout.contains("approved by jane"), "{}{}", yes.stdout, yes.stderr);
    let ticket = stage.ticket_api().get("healthy-1").await.unwrap();
    assert_eq!(ticket.spec.approval.unwrap().decision, ApprovalDecision::Approved);
}

#[tokio::test]
async fn a_word_that_comes_too_late_is_refused() {
    let (stage, operator, proposal) = proposed("word-late", json!({})).await;
    operator.stop().await;
    let over = json!({ "status": { "proposal": { "expiresAt": "2026-01-01T00:00:00.000000Z" } } });
    stage.ticket_api().patch_status("healthy-1", &PatchParams::default(), &Patch::Merge(over)).await.unwrap();
    let late = "could be answered until 2026-01-01T00:00:00Z";
    refused(&stage, &["approve", "healthy-1", "--hash", &proposal.hash], late).await;
    refused(&stage, &["reject", "healthy-1", "--reason", "no"], late).await;
    let _operator = stage.operate_both();
    stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    refused(&stage, &["approve", "healthy-1"], "harness retry healthy-1").await;
}

#[tokio::test]
async fn a_word_is_not_given_twice() {
    let (stage, operator, proposal) = proposed("word-twice", json!({})).await;
    operator.stop().await;
    done(&stage, &["approve", "healthy-1", "--hash", &proposal.hash]).await;
    refused(&stage, &["approve", "healthy-1", "--hash", &proposal.hash], "jane answered already (Approved)").await;
    refused(&stage, &["reject", "healthy-1", "--reason", "no"], "jane answered already (Approved)").await;
}

#[tokio::test]
async fn a_rejected_change_is_not_proposed_again_even_when_it_is_tried_anew() {
    let (stage, _operator, _) = proposed("word-no", json!({})).await;
    done(&stage, &["reject", "healthy-1", "--reason", "not now"]).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Rejected));
    let message = status(&ticket).message.as_ref().unwrap();
    assert!(message.starts_with("jane said no: not now. Cause: person changed /enabled"), "{message}");
    refused(&stage, &["approve", "healthy-1"], "was rejected, and is never proposed again").await;

    done(&stage, &["retry", "healthy-1"]).await;
    let ticket = outcome(&stage, Outcome::NoPlan).await;
    let declined = status(&ticket).steps.iter().any(|step| step.outcome.contains("DeclinedBefore"));
    assert!(declined, "{:#?}", status(&ticket).steps);
    let cause = &status(&ticket).diagnosis.as_ref().unwrap().root_cause;
    assert!(cause.starts_with("person changed /enabled of rate-limiter-config from true to false"), "{cause}");
    assert!(status(&ticket).observed_retry.is_some());
    assert_eq!(stage.config().await, DEAD);
}

#[tokio::test]
async fn an_approval_is_used_once() {
    let (stage, operator, proposal) = proposed("word-once", json!({})).await;
    operator.stop().await;
    done(&stage, &["approve", "healthy-1", "--hash", &proposal.hash]).await;
    // As if it had been used, the change had been undone, and the same were proposed again.
    let used = json!({
        "number": 1, "planner": "LastKnownGood", "hash": proposal.hash, "nonce": proposal.nonce,
        "actions": proposal.actions,
        "intendedAt": Timestamp::now(), "settledAt": Timestamp::now(), "result": "Undone",
    });
    let used = Patch::Merge(json!({ "status": { "attempts": [used], "proposal": { "nonce": "another" } } }));
    stage.ticket_api().patch_status("healthy-1", &PatchParams::default(), &used).await.unwrap();
    let _operator = stage.operate_both();
    stage.holding("latency").await;

    done(&stage, &["approve", "healthy-1", "--hash", &proposal.hash]).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    let made: Vec<_> = status(&ticket).attempts.iter().map(|it| it.nonce.clone()).collect();
    assert_eq!(made, [proposal.nonce, Some("another".to_owned())]);
}

#[tokio::test]
async fn an_escalated_ticket_that_is_tried_anew_is_repaired() {
    let (stage, _operator) = settled("word-retry", &json!({ "mode": "Observe" })).await;
    stage.write_config(DEAD).await;
    stage.wait_for_phase("healthy-1", Phase::Escalated).await;
    stage.patch_invariant("healthy", json!({ "spec": { "remediation": { "mode": "Auto" } } })).await;
    done(&stage, &["retry", "healthy-1"]).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
}

#[tokio::test]
async fn the_line_that_a_ticket_shows_can_be_pasted_into_a_shell() {
    let (stage, _operator, proposal) = proposed("word-paste", json!({})).await;
    // A function in the place of kubectl says what it was given to send.
    let line = proposal.approve_command.unwrap().replace("YOUR-USER-NAME", "jane");
    let script = format!("kubectl() {{ printf '%s' \"$9\"; }}; {line}");
    let output = Command::new("sh").args(["-c", &script]).output().await.unwrap();
    let sent: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(sent["spec"]["approval"]["by"], "jane");
    stage.patch_ticket("healthy-1", sent).await;
    let ticket = stage.wait_for_phase("healthy-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
}

async fn outcome(stage: &Stage, wanted: Outcome) -> Ticket {
    stage.ticket("healthy-1", |ticket| ticket.status.as_ref().is_some_and(|it| it.outcome == Some(wanted))).await
}
