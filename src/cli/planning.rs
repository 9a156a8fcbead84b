//! Who plans repairs: the flags, and the environment that they default to.

use super::Failure;
use crate::agent::budget::Amount;
use crate::agent::planner::claude;
use crate::agent::tools::SourceLocation;
use crate::agent::{ModelSettings, Planning, scribe};
use crate::claude::{ModelPrice, NanoDollars, Prices, Settings};
use std::time::Duration;

/// Flags of every command that runs the agent.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanningArguments {
    /// Who plans repairs. auto: Claude if there is a key, then the last known good configuration.
    #[arg(long, value_enum, default_value_t = PlannerChoice::Auto, env = "HARNESS_PLANNER")]
    planner: PlannerChoice,
    /// The model that plans.
    #[arg(long, env = "ANTHROPIC_MODEL", default_value = claude::DEFAULT_MODEL, value_name = "MODEL")]
    model: String,
    /// The model that writes titles and one-line summaries.
    #[arg(long, env = "ANTHROPIC_DEFAULT_HAIKU_MODEL", default_value = scribe::DEFAULT_MODEL, value_name = "MODEL")]
    summary_model: String,
    /// What models may cost on one day (UTC), all tickets together.
    #[arg(long, env = "HARNESS_DAY_DOLLARS", default_value = "20.00", value_name = "DOLLARS")]
    day_dollars: NanoDollars,
    /// The tokens that models may use on one day (UTC), all tickets together; cache reads do not count.
    #[arg(long, env = "HARNESS_DAY_TOKENS", default_value_t = 5_000_000, value_name = "TOKENS")]
    day_tokens: u64,
    /// What a model costs where the built-in list (of 2026-11-27) does not know it or is out of date: dollars for a million
    /// tokens of input and output, such as my-model=3.00/15.00. May be given several times.
    #[arg(long, env = "HARNESS_PRICE", value_name = "MODEL=IN/OUT", value_delimiter = ',')]
    price: Vec<ModelPrice>,
    /// How long an answer of a model may take to begin, in seconds; gateways may gather all of it before.
    #[arg(long, env = "HARNESS_MODEL_RESPONSE_TIMEOUT", default_value_t = 600, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    model_response_timeout: u64,
    /// How long an answer of a model that has begun may fall silent, in seconds.
    #[arg(long, env = "HARNESS_MODEL_IDLE_TIMEOUT", default_value_t = 180, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    model_idle_timeout: u64,
    /// The source code of the services, for the model to read: a directory, or configmap/NAME in the invariant's
    /// namespace.
    #[arg(long, env = "HARNESS_SOURCE", value_name = "LOCATION")]
    source: Option<SourceLocation>,
}

/// Who plans repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PlannerChoice {
    /// Claude if there is a key, then the last known good configuration.
    Auto,
    /// Claude alone.
    Claude,
    /// The last known good configuration alone; no model is asked for anything.
    LastKnownGood,
}

impl PlanningArguments {
    /// Reads the environment where Claude is wanted.
    pub fn planning(self) -> Result<Planning, Failure> {
        if self.planner == PlannerChoice::LastKnownGood {
            return Ok(Planning { model: None, last_known_good: true });
        }
        let api = Settings::from_variables(|name| std::env::var(name).ok())?;
        if api.is_none() && self.planner == PlannerChoice::Claude {
            return Err(
                "--planner claude needs ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN or ANTHROPIC_IDENTITY_TOKEN_FILE, in the \
                 environment or in a file named .env in this directory"
                    .into(),
            );
        }
        let model = api.map(|api| ModelSettings {
            api: Settings {
                response_timeout: Duration::from_secs(self.model_response_timeout),
                idle_timeout: Duration::from_secs(self.model_idle_timeout),
                ..api
            },
            prices: Prices::with(self.price),
            planner: self.model,
            scribe: self.summary_model,
            day_limit: Amount { tokens: self.day_tokens, nanodollars: self.day_dollars.0 },
            source: self.source,
        });
        Ok(Planning { model, last_known_good: self.planner == PlannerChoice::Auto })
    }
}
