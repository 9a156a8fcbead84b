//! What models may cost, and where that is kept.

use super::{SLOW, nothing_more, planning, staged, status};
use crate::double::Double;
use crate::double::operator::Operator;
use crate::repair::stage::Stage;
use harness::agent::books::BOOKS_NAME;
use harness::agent::budget::Amount;
use harness::crd::{Outcome, Phase};
use harness::operator::Halves;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

async fn ledger(stage: &Stage) -> Value {
    let found: ConfigMap = stage.api().get(BOOKS_NAME).await.unwrap();
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
async fn what_a_day_has_cost_outlives_the_process_and_counts_against_its_limit() {
    let (stage, double) = (Stage::new("budget-day").await, Double::start(Operator).await);
    stage.watch_service(&nothing_more()).await;
    let operate = |tokens: u64| {
        stage.operate_with(stage.client.clone(), Halves::Both, |settings: &mut harness::operator::OperatorSettings| {
            settings.planning = planning(&double);
            settings.planning.model.as_mut().unwrap().day_limit = Amount { tokens, nanodollars: u64::MAX };
        })
    };
    let mut spent = 0;
    for name in ["latency-1", "latency-2"] {
        let operator = operate(u64::MAX);
        stage.holding("healthy").await;
        stage.holding("latency").await;
        stage.write_config(SLOW).await;
        stage.wait_for_phase(name, Phase::Resolved).await;
        operator.stop().await;
        let tickets = stage.tickets().await;
        spent =
            tickets.iter().filter_map(|it| status(it).usage.clone()).map(|it| it.input_tokens + it.output_tokens).sum();
        assert_eq!(ledger(&stage).await["spent"]["tokens"], spent, "all tickets of both processes so far");
    }
    // Less than the longest answer that the planner may ask for.
    let _operator = operate(spent + 10_000);
    stage.holding("latency").await;
    stage.write_config(SLOW).await;
    let ticket = stage.wait_for_phase("latency-3", Phase::Escalated).await;
    assert_eq!(status(&ticket).outcome, Some(Outcome::BudgetExhausted));
    assert_eq!(double.planned_for("latency-3").len(), 0);
}
