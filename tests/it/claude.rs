//! Claude as the planner: whole incidents against the real control plane and the double of the Messages API.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be prepared has failed")]

mod canary;
mod client;
mod conversation;
mod flow;
mod hostile;
mod identity;
mod oddities;
mod restart;
mod spending;
pub(crate) mod workloads;

use crate::double::{Brain, Double, KEY, Oddity};
use crate::repair::stage::Stage;
use crate::stage::Operating;
use harness::agent::budget::Amount;
use harness::agent::{ModelSettings, Planning, planner, scribe};
use harness::claude::{Prices, Settings};
use harness::crd::{Ticket, TicketStatus};
use harness::operator::Halves;
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const SLOW: &str = r#"{"enabled": true, "delay_ms": 500}"#;
pub(crate) const DEAD: &str = r#"{"enabled": false, "delay_ms": 0}"#;

/// How the API of the double is asked.
pub(crate) fn api(double: &Double) -> Settings {
    let lookup = |name: &str| match name {
        "ANTHROPIC_API_KEY" => Some(KEY.to_owned()),
        "ANTHROPIC_BASE_URL" => Some(double.base_url()),
        _ => None,
    };
    Settings::from_variables(lookup).unwrap().unwrap()
}

/// Claude alone plans, through the double.
pub(crate) fn planning(double: &Double) -> Planning {
    let model = ModelSettings {
        api: Settings { idle_timeout: Duration::from_secs(5), ..api(double) },
        planner: planner::claude::DEFAULT_MODEL.to_owned(),
        scribe: scribe::DEFAULT_MODEL.to_owned(),
        prices: Prices::default(),
        day_limit: Amount { tokens: 100_000_000, nanodollars: 1_000_000_000_000 },
        source: None,
    };
    Planning { model: Some(model), last_known_good: false }
}

pub(crate) fn status(ticket: &Ticket) -> &TicketStatus {
    ticket.status.as_ref().unwrap()
}

/// A stage whose service is watched and was seen to hold, with Claude at work.
pub(crate) async fn staged(name: &str, brain: impl Brain, remediation: Value) -> (Stage, Double, Operating) {
    staged_with(name, brain, Vec::new(), remediation).await
}

/// The same, with a double that behaves oddly in these ways.
pub(crate) async fn staged_with(
    name: &str,
    brain: impl Brain,
    oddities: Vec<Oddity>,
    remediation: Value,
) -> (Stage, Double, Operating) {
    let double = Double::odd(brain, oddities).await;
    let stage = Stage::new(name).await;
    stage.watch_service(&remediation).await;
    let operator =
        stage.operate_with(stage.client.clone(), Halves::Both, |settings| settings.planning = planning(&double));
    stage.holding("healthy").await;
    stage.holding("latency").await;
    (stage, double, operator)
}

pub(crate) fn nothing_more() -> Value {
    json!({})
}
