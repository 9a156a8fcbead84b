//! What models may cost, and where that is kept.

use super::{SLOW, nothing_more, planning, staged, status};
use crate::double::Double;
use crate::double::operator::Operator;
use crate::repair::stage::Stage;
use harness::agent::budget::Amount;
use harness::agent::spending::LEDGER_NAME;
use harness::crd::{Outcome, Phase};
use harness::operator::Halves;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

async fn ledger(stage: &Stage) -> Value {
    let found: ConfigMap = stage.api().get(LEDGER_NAME).await.unwrap();
    serde_json::from_str(&found.data.unwrap()["ledger.json"]).unwrap()
}

#[tokio::test]
async fn a_call_whose_worst_case_exceeds_the_tickets_budget_is_not_sent() {
    let by_tokens = staged("budget-tokens", Operator, json!({ "budget": { "tokens": 10_000 } }));
    let by_dollars = staged("budget-dollars", Operator, json!({ "budget": { "dollars": "0.05" } }));
    let (by_tokens, by_dollars) = tokio::join!(by_tokens, by_dollars);
    for (stage, double, _operator) in [by_tokens, by_dollars] {
        stage.write_config(SLOW).await;
        let ticket = stage.wait_for_phase("latency-1", Phase::Escalated).await;
        assert_eq!(status(&ticket).outcome, Some(Outcome::BudgetExhausted));
        assert_eq!(double.planned().len(), 0);
    }
}

#[tokio::test]
async fn the_ledger_says_what_the_ticket_says_once_all_is_settled() {
    let (stage, _double, operator) = staged("budget-ledger", Operator, nothing_more()).await;
    stage.write_config(SLOW).await;
    stage.wait_for_phase("latency-1", Phase::Resolved).await;
    operator.stop().await;
    let tickets = stage.tickets().await;
    let usage = status(&tickets[0]).usage.clone().unwrap();
    let ledger = ledger(&stage).await;
    let account = ledger["tickets"].as_object().unwrap().values().next().unwrap();
    assert_eq!(account["spent"], ledger["spent"], "one ticket spent all of it");
    assert_eq!(account["spent"]["tokens"], usage.input_tokens + usage.output_tokens, "{ledger} {usage:?}");
    let dollars: harness::claude::NanoDollars = usage.dollars.parse().unwrap();
    assert_eq!(account["spent"]["nanodollars"], dollars.0);
}

#[tokio::test]
async fn the_limit_of_the_day_outlives_the_process() {
    let (stage, double) = (Stage::new("budget-day").await, Double::start(Operator).await);
    stage.watch_service(&nothing_more()).await;
    // Enough for one incident: its worst cases fit once, not twice.
    let limited = |settings: &mut harness::operator::OperatorSettings| {
        settings.planning = planning(&double);
        settings.planning.model.as_mut().unwrap().day_limit = Amount { tokens: 42_000, nanodollars: u64::MAX };
    };
    let operator = stage.operate_with(stage.client.clone(), Halves::Both, limited);
    stage.holding("healthy").await;
    stage.holding("latency").await;
    for delay in 500..510 {
        stage.write_config(&SLOW.replace("500", &delay.to_string())).await;
        let name = format!("latency-{}", delay - 499);
        let ended = stage.ticket(&name, |ticket| matches!(ticket.phase(), Phase::Resolved | Phase::Escalated)).await;
        if ended.phase() == Phase::Escalated {
            assert!(delay > 500, "the first incident fits");
            assert_eq!(status(&ended).outcome, Some(Outcome::BudgetExhausted));
            let asked = double.planned().len();
            operator.stop().await;
            let _successor = stage.operate_with(stage.client.clone(), Halves::Both, limited);
            stage.write_config(&SLOW.replace("500", "0")).await;
            stage.wait_for_phase(&name, Phase::Resolved).await;
            stage.holding("latency").await;
            stage.write_config(SLOW).await;
            let next = format!("latency-{}", delay - 498);
            let ticket = stage.wait_for_phase(&next, Phase::Escalated).await;
            assert_eq!(status(&ticket).outcome, Some(Outcome::BudgetExhausted));
            assert_eq!(double.planned().len(), asked, "nothing more was asked");
            return;
        }
    }
    panic!("the day's limit was never reached");
}
