//! Claude investigates with tools and proposes a change.
//!
//! Touches the world in one way: calls of the Messages API, each within the purse of its ticket. What the model asks
//! for is data: a turn is read by `turn` (pure) into calls and changes; calls are executed by the agent, changes judged
//! by policy. The results of a turn with changes are withheld until it is known what became of them.

mod text;
mod turn;

use super::{Briefing, Change, ModelCalls, Move, Planner, Reply, Session};
use crate::agent::policy::Refusal;
use crate::agent::prompt;
use crate::agent::spending::{AskError, Purse, SpendingError};
use crate::agent::tools::request::{ChangeRequest, catalogue};
use crate::agent::tools::{Call, ReadConfig, Reading};
use crate::claude::{
    Capabilities, ClaudeError, Client, Effort, Message, Price, Request, Stop, Thinking, Tool, ToolResult, Transcript,
    strict_schema,
};
use crate::crd::{Confidence, Diagnosis, Outcome, PlannerName};
use crate::lifecycle::explanation::NOT_KNOWN;
use crate::redact;
use futures::FutureExt;
use futures::future::BoxFuture;
use text::Texts;
use turn::{Answer, Asked, Turn};

/// The model that plans, unless another is asked for.
pub const DEFAULT_MODEL: &str = "claude-opus-5-5";

/// Tokens of one answer, thinking included.
const MAX_TOKENS: u32 = 16_000;
/// Turns of one conversation.
const MAX_TURNS: u32 = 20;
/// The same call so often running ends the conversation.
const MAX_REPEATS: u32 = 3;
/// Tokens that the API may add to what was sent, such as its own words about tools.
const HIDDEN_TOKENS: u64 = 1000;

/// The planner.
#[derive(Clone)]
pub struct Claude {
    client: Client,
    model: String,
    price: Price,
}

impl Claude {
    /// A planner that asks this model at this price.
    pub fn new(client: Client, model: impl Into<String>, price: Price) -> Self {
        Self { client, model: model.into(), price }
    }
}

impl Planner for Claude {
    fn name(&self) -> PlannerName {
        PlannerName::Claude
    }

    fn is_metered(&self) -> bool {
        true
    }

    fn start(&self, briefing: Briefing, purse: Purse) -> Box<dyn Session> {
        let can = Capabilities::of(&self.model);
        let request = Request {
            model: self.model.clone(),
            max_tokens: MAX_TOKENS,
            system: prompt::SYSTEM.to_owned(),
            tools: tools(),
            thinking: can.adaptive_thinking.then_some(Thinking::Adaptive),
            effort: can.effort.then_some(Effort::Medium),
            format: None,
            cached: true,
            transcript: Transcript::opening(prompt::opening(&briefing)),
        };
        Box::new(Conversation {
            client: self.client.clone(),
            price: self.price,
            texts: Texts::of(&briefing),
            briefing,
            purse,
            request,
            open: Turn::default(),
            repeated: Repeated::default(),
            turns: 0,
            steps: 0,
            nudged: false,
            measured: None,
            used: ModelCalls::none(&self.model),
        })
    }
}

/// The tools as the API wants them.
pub fn tools() -> Vec<Tool> {
    let wire = |tool: crate::agent::tools::request::Tool| Tool {
        name: tool.name.to_owned(),
        description: tool.description,
        input_schema: strict_schema(&tool.schema),
    };
    catalogue().into_iter().map(wire).collect()
}

/// One conversation about one incident.
struct Conversation {
    client: Client,
    price: Price,
    briefing: Briefing,
    purse: Purse,
    request: Request,
    /// The exact texts that edits are made on.
    texts: Texts,
    /// The turn that is not answered completely.
    open: Turn,
    repeated: Repeated,
    turns: u32,
    steps: u32,
    nudged: bool,
    /// The input tokens of the last call, and the bytes that they were.
    measured: Option<(u64, usize)>,
    used: ModelCalls,
}

/// How often the last call was asked for running.
#[derive(Default)]
struct Repeated {
    last: Option<(String, serde_json::Value)>,
    times: u32,
}

impl Repeated {
    fn note(&mut self, name: &str, input: &serde_json::Value) -> u32 {
        if self.last.as_ref().is_some_and(|(last_name, last_input)| last_name == name && last_input == input) {
            self.times += 1;
        } else {
            self.last = Some((name.to_owned(), input.clone()));
            self.times = 1;
        }
        self.times
    }
}

impl Session for Conversation {
    fn next(&mut self, reply: Reply) -> BoxFuture<'_, Move> {
        async move {
            match self.hear(reply) {
                Some(next) => next,
                None => self.converse().await,
            }
        }
        .boxed()
    }

    fn take_usage(&mut self) -> Option<ModelCalls> {
        let used = std::mem::replace(&mut self.used, ModelCalls::none(&self.request.model));
        (used.calls > 0).then_some(used)
    }
}

impl Conversation {
    /// Takes a reply in. Gives the next move if it follows without asking the model; else the turn is answered.
    fn hear(&mut self, reply: Reply) -> Option<Move> {
        match reply {
            Reply::Begin => return None,
            Reply::Readings(readings) => {
                self.take_readings(&readings);
                if let Some(change) = self.propose() {
                    return Some(change);
                }
            }
            Reply::Refused(refusals) => {
                let reasons: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
                self.open.answer_changes(&format!("Refused, nothing was changed. {}", reasons.join("; ")));
            }
            Reply::Unmade { briefing, why } => {
                self.texts = Texts::of(&briefing);
                self.briefing = *briefing;
                self.open.answer_changes(&format!("The change is not in force: {}", redact::line(&why, 512)));
            }
        }
        let results = self.open.take_results();
        if !results.is_empty() {
            let wire = |(id, answer): (String, Answer)| ToolResult {
                tool_use_id: id,
                content: answer.content,
                is_error: answer.is_error,
            };
            self.request.transcript.push_results(results.into_iter().map(wire).collect());
        }
        None
    }

    fn take_readings(&mut self, readings: &[Reading]) {
        for (call, reading) in self.open.calls().into_iter().zip(readings) {
            if let (Call::ReadConfig(ReadConfig { name, key }), Reading::Config { revision, .. }) = (&call, reading) {
                self.texts.note(name, key, revision.as_deref());
            }
            self.open.answer_call(reading.is_error(), &prompt::fenced(&reading.content(&call)));
        }
    }

    /// The changes of the open turn as one proposal, once its calls are answered.
    fn propose(&mut self) -> Option<Move> {
        let changes = self.open.changes();
        if changes.is_empty() {
            return None;
        }
        let why = changes.iter().map(ChangeRequest::reason).collect::<Vec<_>>().join("; ");
        let diagnosis = self.open.diagnosis().unwrap_or_else(|| Diagnosis {
            summary: redact::line(&why, 2048),
            root_cause: redact::line(&why, 256),
            confidence: Confidence::Medium,
        });
        let changes = self.texts.apply(&changes).ok()?;
        Some(Move::Change(Change { changes, why: redact::line(&why, 1024), diagnosis }))
    }

    /// Asks the model until it wants something that is not for this conversation to give.
    async fn converse(&mut self) -> Move {
        loop {
            if self.turns >= MAX_TURNS {
                return decline(Outcome::NoPlan, &format!("no repair was found in {MAX_TURNS} turns"));
            }
            self.turns += 1;
            let message = match self.ask().await {
                Ok(message) => message,
                Err(declined) => return declined,
            };
            if let Some(next) = self.take_turn(&message) {
                return next;
            }
        }
    }

    /// One call of the model, within the purse.
    async fn ask(&mut self) -> Result<Message, Move> {
        let bytes = self.request.body_len();
        // A token has at least one byte. What was counted already needs no guess.
        let (counted, counted_bytes) = self.measured.unwrap_or_default();
        let input = counted + (bytes.saturating_sub(counted_bytes)) as u64 + HIDDEN_TOKENS;
        let (answer, calls) = self.purse.ask(&self.client, &self.request, &self.price, input).await;
        self.used.add(&calls);
        match answer {
            Ok(message) => {
                self.measured = message.usage.map(|usage| (usage.total_input(), bytes)).or(self.measured);
                Ok(message)
            }
            Err(AskError::Spending(error @ SpendingError::Exhausted(_))) => {
                Err(decline(Outcome::BudgetExhausted, &format!("the budget is spent: {error}")))
            }
            Err(AskError::Spending(error @ SpendingError::KeepLedger(_))) => {
                Err(decline(Outcome::NoPlan, &format!("nothing may be spent: {error}")))
            }
            Err(AskError::Model(error)) => Err(unreachable_model(&error)),
        }
    }

    /// What follows from the model's turn; `None`: the model is to go on.
    fn take_turn(&mut self, message: &Message) -> Option<Move> {
        match &message.stop {
            Stop::ToolUse => self.take_calls(message),
            Stop::EndTurn | Stop::StopSequence if !self.nudged => {
                self.nudged = true;
                self.request.transcript.push_reply(message);
                self.request
                    .transcript
                    .push_user("Nothing was asked for. Propose a change, or call `conclude` or `escalate`.");
                None
            }
            Stop::EndTurn | Stop::StopSequence => {
                Some(decline(Outcome::NoPlan, "the model stopped without a proposal"))
            }
            Stop::MaxTokens | Stop::ContextWindowExceeded => {
                Some(decline(Outcome::NoPlan, "the model's answer was cut off; nothing of it was executed"))
            }
            Stop::Refusal { category, explanation: _ } => {
                let category = category.as_deref().unwrap_or("unnamed");
                let why = format!("the model refused to work on this (category {})", redact::line(category, 64));
                Some(decline(Outcome::HandedOver, &why))
            }
            Stop::PauseTurn | Stop::Unknown(_) => {
                let why = format!("the model stopped for a reason that is not understood: {:?}", message.stop);
                Some(decline(Outcome::NoPlan, &why))
            }
        }
    }

    fn take_calls(&mut self, message: &Message) -> Option<Move> {
        let asked: Vec<(String, String, serde_json::Value)> =
            message.tool_uses().map(|(id, name, input)| (id.to_owned(), name.to_owned(), input.clone())).collect();
        for (_, name, input) in &asked {
            self.steps += 1;
            if self.repeated.note(name, input) >= MAX_REPEATS {
                let why =
                    format!("the same call of {} was asked for {MAX_REPEATS} times running", redact::line(name, 64));
                return Some(decline(Outcome::NoPlan, &format!("the model went round in circles: {why}")));
            }
        }
        let limit = self.briefing.invariant.spec.remediation.budget.steps;
        if self.steps > limit {
            let why = format!("more than {limit} tool calls were asked for");
            return Some(decline(Outcome::BudgetExhausted, &format!("the budget is spent: {why}")));
        }
        self.request.transcript.push_reply(message);
        self.open = match turn::read(&asked, &self.texts) {
            Asked::Escalate { diagnosis, next_step } => return Some(Move::HandOver { diagnosis, next_step }),
            Asked::NothingToDo(diagnosis) => return Some(Move::NoActionNeeded(diagnosis)),
            Asked::Turn(turn) => turn,
        };
        let calls = self.open.calls();
        if calls.is_empty() { self.propose() } else { Some(Move::Read(calls)) }
    }
}

fn unreachable_model(error: &ClaudeError) -> Move {
    let why = redact::line(&error.to_string(), 512);
    decline(Outcome::NoPlan, &format!("the model gave no answer ({}): {why}", error.reason()))
}

/// Why the model's turn is over is not why the service is broken.
fn decline(outcome: Outcome, why: &str) -> Move {
    let summary = redact::line(why, 2048);
    let diagnosis = Diagnosis { summary, root_cause: NOT_KNOWN.to_owned(), confidence: Confidence::Low };
    Move::Decline { outcome, diagnosis }
}
