//! What servers and gateways do besides what is documented: none of it costs a repair, an unbooked token or a turn.

use super::{SLOW, api, nothing_more, staged_with, status};
use crate::double::operator::Operator;
use crate::double::{Answer, Asked, Brain, Double, Fault, Oddity, Turn};
use crate::support::install_tls_provider;
use futures::{StreamExt, stream};
use harness::agent::books::BOOKS_NAME;
use harness::claude::{Client, Price, Request, Settings, Stop, Tool, ToolResult, Transcript};
use harness::crd::{Outcome, Phase};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::time::Duration;

/// Each oddity alone, and all at once.
fn cases() -> Vec<Vec<Oddity>> {
    let mut cases: Vec<Vec<Oddity>> = Oddity::ALL.map(|it| vec![it]).to_vec();
    cases.push(Oddity::ALL.to_vec());
    cases
}

#[tokio::test]
async fn a_message_is_the_same_and_can_be_sent_back_whatever_the_server_does_besides() {
    install_tls_provider();
    for oddities in cases() {
        let brain = |asked: &Asked| match asked.turn() {
            0 => Turn::new()
                .thinking()
                .text("so \u{1f980}!")
                .tool("look", json!({}))
                .tool("say", json!({ "it": "\u{1f980}" })),
            _ => Turn::new().text("well"),
        };
        let double = Double::odd(move |asked: &Asked| brain(asked).into(), oddities.clone()).await;
        let client = Client::new(Settings { deadline: Duration::from_secs(20), ..api(&double) }).unwrap();
        let mut request = Request::new("claude-opus-5-5", 1000, Transcript::opening("hello"));
        let input_schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
        request.tools = vec![Tool { name: "look".into(), description: "Looks.".into(), input_schema }];
        let message = client.send(&request, |_| ()).await.unwrap_or_else(|error| panic!("{error}: {oddities:?}"));
        let uses: Vec<(&str, &Value)> = message.tool_uses().map(|(_, name, input)| (name, input)).collect();
        assert_eq!(uses, [("look", &json!({})), ("say", &json!({ "it": "\u{1f980}" }))], "{oddities:?}");
        assert_eq!(message.text(), "so \u{1f980}!", "{oddities:?}");
        assert_eq!(message.usage.is_none(), oddities.contains(&Oddity::NullUsage));
        let results = message.tool_uses().map(|(id, _, _)| ToolResult::ok(id, "ok")).collect();
        request.transcript.push_reply(&message);
        request.transcript.push_results(results);
        let end = client.send(&request, |_| ()).await.unwrap_or_else(|error| panic!("{error}: {oddities:?}"));
        assert_eq!((end.text().as_str(), end.stop), ("well", Stop::EndTurn), "{oddities:?}");
    }
}

/// Says nothing at all after its first tools, as models do now and then; then it goes on.
struct SilentOnce;

impl Brain for SilentOnce {
    fn answer(&self, asked: &Asked) -> Answer {
        let nudged = asked.body["messages"].to_string().contains("Nothing was asked for");
        if asked.is_summary() || asked.turn() != 1 || nudged { Operator.answer(asked) } else { Turn::new().into() }
    }
}

#[tokio::test]
async fn a_model_that_says_nothing_is_asked_again_and_its_silence_is_not_sent_back() {
    let (stage, double, _operator) = staged_with("odd-silence", SilentOnce, vec![], nothing_more()).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired));
    assert_eq!(double.rejections(), Vec::<String>::new());
}

/// The tokens and the money in the ledger, and what the double generated.
async fn booked(stage: &crate::repair::stage::Stage, double: &Double) -> ((u64, u64), (u64, u64)) {
    let found: ConfigMap = stage.api().get(BOOKS_NAME).await.unwrap();
    let ledger: Value = serde_json::from_str(&found.data.unwrap()["ledger.json"]).unwrap();
    let spent = &ledger["spent"];
    let (mut tokens, mut nanodollars) = (0, 0);
    for (model, usage) in double.generated() {
        let count = |name: &str| usage[name].as_u64().unwrap();
        let counted = harness::claude::Usage {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            cache_creation_input_tokens: count("cache_creation_input_tokens"),
            cache_creation_1h_input_tokens: 0,
            cache_read_input_tokens: count("cache_read_input_tokens"),
        };
        tokens += counted.total_input() - counted.cache_read_input_tokens + counted.output_tokens;
        nanodollars += Price::of(&model).cost(&counted).0;
    }
    ((spent["tokens"].as_u64().unwrap(), spent["nanodollars"].as_u64().unwrap()), (tokens, nanodollars))
}

#[tokio::test]
async fn a_whole_incident_is_repaired_whatever_the_server_does_besides_and_the_ledger_has_what_it_generated() {
    let incidents = cases().into_iter().enumerate().map(|(at, oddities)| async move {
        let name = format!("odd-{at}");
        let (stage, double, operator) = staged_with(&name, Operator, oddities.clone(), nothing_more()).await;
        stage.write_config(SLOW).await;
        let ticket = stage.wait_for_phase("latency-1", Phase::Resolved).await;
        assert_eq!(status(&ticket).outcome, Some(Outcome::Repaired), "{oddities:?}: {:?}", ticket.status);
        operator.stop().await;
        assert_eq!(double.rejections(), Vec::<String>::new(), "{oddities:?}");
        let (ledger, generated) = booked(&stage, &double).await;
        if oddities.contains(&Oddity::NullUsage) {
            assert!(ledger > generated, "what is not said is booked at its most: {ledger:?} {generated:?}");
        } else {
            assert_eq!(ledger, generated, "{oddities:?}");
        }
    });
    // A few at once: more would make each other slow, which is a breach too.
    stream::iter(incidents).buffer_unordered(3).collect::<()>().await;
}

/// Breaks off after the request was taken, then refuses the key.
#[tokio::test]
async fn each_request_that_may_have_generated_something_stays_booked_at_its_most() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let brain = move |asked: &Asked| -> Answer {
        if asked.is_summary() {
            return Operator.answer(asked);
        }
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 | 1 => Answer::Fault(Fault::Cut { turn: Turn::new().thinking().text("so"), after_events: 3 }),
            _ => Fault::status(401, "authentication_error"),
        }
    };
    let (stage, double, operator) =
        staged_with("odd-broken", brain, vec![], json!({ "budget": { "dollars": "100.00" } })).await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-1", Phase::Escalated).await;
    operator.stop().await;
    assert_eq!(double.planned().len(), 3);
    let (ledger, _) = booked(&stage, &double).await;
    // Two answers of 16,000 tokens at 20 dollars a million may have been generated; the third request was refused.
    assert!((640_000_000..1_300_000_000).contains(&ledger.1), "{ledger:?}");
    let shown = status(&ticket).usage.clone().unwrap();
    assert!(shown.dollars.parse::<f64>().unwrap() >= 0.64, "the ticket says so too: {shown:?}");
}

#[tokio::test]
async fn a_first_byte_that_comes_late_is_waited_for_as_long_as_the_head_may_take() {
    install_tls_provider();
    let slow = |_: &Asked| -> Answer {
        std::thread::sleep(Duration::from_millis(400));
        Turn::new().text("well").into()
    };
    let double = Double::start(slow).await;
    let request = Request::new("claude-opus-5-5", 1000, Transcript::opening("hello"));
    let settings = Settings { idle_timeout: Duration::from_millis(100), ..api(&double) };
    let message = Client::new(settings.clone()).unwrap().send(&request, |_| ()).await.unwrap();
    assert_eq!(message.text(), "well");
    let hasty = Settings { response_timeout: Duration::from_millis(100), retries: 0, ..settings };
    let error = Client::new(hasty).unwrap().send(&request, |_| ()).await.unwrap_err();
    assert_eq!((error.reason(), error.is_free()), ("StreamBroken", false));
}
