//! The client against the double: what goes wrong on the wire.

use super::api;
use crate::double::{Answer, Asked, Double, Fault, Turn};
use crate::support::install_tls_provider;
use harness::claude::{Client, Progress, Request, Settings, Stop, Transcript};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn request() -> Request {
    Request::new("claude-opus-5-5", 1000, Transcript::opening("hello"))
}

fn client(double: &Double) -> Client {
    install_tls_provider();
    Client::new(Settings { deadline: Duration::from_secs(20), ..api(double) }).unwrap()
}

/// Answers with `faults` first.
fn after(faults: Vec<Answer>) -> impl Fn(&Asked) -> Answer {
    let count = AtomicUsize::new(0);
    move |_asked| {
        let index = count.fetch_add(1, Ordering::SeqCst);
        faults.get(index).cloned().unwrap_or_else(|| Turn::new().thinking().text("well").into())
    }
}

fn limited(headers: Vec<(&'static str, &'static str)>, error_code: Option<&'static str>) -> Answer {
    Answer::Fault(Fault::Status { status: 429, kind: "rate_limit_error", error_code, headers })
}

fn turn() -> Turn {
    Turn::new().thinking().tool("a", json!({ "text": "ä\u{1f980}\"\\" }))
}

#[tokio::test]
async fn passing_faults_are_survived_and_told() {
    let table = [
        vec![limited(vec![("retry-after-ms", "1")], None)],
        vec![limited(vec![("retry-after", "0")], None), Fault::status(529, "overloaded_error")],
        vec![Fault::status(500, "api_error")],
        vec![Answer::Fault(Fault::Cut { turn: turn(), after_events: 3 })],
        vec![Answer::Fault(Fault::ErrorEvent { turn: turn(), after_events: 4, kind: "overloaded_error" })],
    ];
    for faults in table {
        let (double, told) = (Double::start(after(faults.clone())).await, AtomicUsize::new(0));
        let progress = |progress: Progress<'_>| {
            if matches!(progress, Progress::Retrying { .. }) {
                told.fetch_add(1, Ordering::SeqCst);
            }
        };
        let message =
            client(&double).send(&request(), progress).await.unwrap_or_else(|error| panic!("{error}: {faults:?}"));
        assert_eq!((message.text().as_str(), message.stop.clone()), ("well", Stop::EndTurn));
        assert_eq!(told.load(Ordering::SeqCst), faults.len());
        assert_eq!(message.limits.requests.map(|rate| rate.remaining), Some(999));
    }
}

#[tokio::test]
async fn what_does_not_pass_is_said_at_once() {
    let table = [
        (limited(vec![], Some("enforced_spend_limit_reached")), "SpendLimitReached"),
        (limited(vec![("retry-after", "3600")], None), "RateLimited"),
        (limited(vec![("x-should-retry", "false")], None), "RateLimited"),
        (Fault::status(402, "billing_error"), "Billing"),
        (Fault::status(403, "permission_error"), "PermissionDenied"),
        (Answer::Fault(Fault::NotTheApi), "Malformed"),
    ];
    for (fault, expected) in table {
        let double = Double::start(after(vec![fault])).await;
        let error = client(&double).send(&request(), |_| ()).await.unwrap_err();
        assert_eq!(error.reason(), expected, "{error}");
        assert_eq!(double.requests().len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn after_two_more_tries_it_gives_up() {
    let overloaded = Fault::status(529, "overloaded_error");
    let fast = |answer: Answer| match answer {
        Answer::Fault(Fault::Status { status, kind, error_code, .. }) => {
            Answer::Fault(Fault::Status { status, kind, error_code, headers: vec![("retry-after-ms", "1")] })
        }
        other => other,
    };
    let double = Double::start(after(vec![fast(overloaded); 3])).await;
    let error = client(&double).send(&request(), |_| ()).await.unwrap_err();
    assert_eq!((error.reason(), double.requests().len()), ("Overloaded", 3));
}

#[tokio::test]
async fn a_wrong_key_is_named_and_not_shown() {
    let double = Double::start(after(vec![])).await;
    let lookup = |name: &str| match name {
        "ANTHROPIC_API_KEY" => Some("sk-ant-wrong-key".to_owned()),
        "ANTHROPIC_BASE_URL" => Some(format!("{}/", double.base_url())),
        _ => None,
    };
    install_tls_provider();
    let client = Client::new(Settings::from_variables(lookup).unwrap().unwrap()).unwrap();
    let error = client.send(&request(), |_| ()).await.unwrap_err();
    assert_eq!(error.reason(), "AuthenticationFailed");
    assert!(!format!("{error} {error:?} {client:?}").contains("wrong-key"));
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_never_executed() {
    let double = Double::start(|_: &Asked| turn().cut_off().into()).await;
    let message = client(&double).send(&request(), |_| ()).await.unwrap();
    assert_eq!((message.stop.clone(), message.tool_uses().count()), (Stop::MaxTokens, 0));
}

#[tokio::test]
async fn blocks_of_the_future_and_signatures_are_replayed_as_they_came() {
    let double = Double::start(|asked: &Asked| match asked.turn() {
        0 => turn().unknown_block().into(),
        _ => Turn::new().text("well").into(),
    })
    .await;
    let (client, mut request) = (client(&double), request());
    let message = client.send(&request, |_| ()).await.unwrap();
    let ids: Vec<String> = message.tool_uses().map(|(id, _, _)| id.to_owned()).collect();
    request.transcript.push_reply(&message);
    request.transcript.push_results(ids.iter().map(|id| harness::claude::ToolResult::ok(id, "ok")).collect());
    let message = client.send(&request, |_| ()).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(message.text(), "well");
    assert!(message.usage.is_some_and(|usage| usage.cache_read_input_tokens > 0), "{:?}", message.usage);
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    // A server that accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lookup = |name: &str| match name {
        "ANTHROPIC_API_KEY" => Some("k".to_owned()),
        "ANTHROPIC_BASE_URL" => Some(format!("http://{}", silent.local_addr().unwrap())),
        _ => None,
    };
    install_tls_provider();
    let settings = Settings::from_variables(lookup).unwrap().unwrap();
    let quick = Settings { response_timeout: Duration::from_millis(50), retries: 0, ..settings.clone() };
    let error = Client::new(quick).unwrap().send(&request(), |_| ()).await.unwrap_err();
    assert_eq!(error.reason(), "StreamBroken");
    let quick = Settings { deadline: Duration::from_millis(50), ..settings };
    let error = Client::new(quick).unwrap().send(&request(), |_| ()).await.unwrap_err();
    assert_eq!(error.reason(), "TimedOut");
}
