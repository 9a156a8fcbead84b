//! Asks a model for one turn, within the purse of a ticket.
//!
//! Every request counts for itself: its worst case is in the ledger before it is sent, and stays there unless it is
//! known what it used, or that nothing was generated.

use super::{Purse, SpendingError};
use crate::agent::budget::Amount;
use crate::agent::planner::ModelCalls;
use crate::claude::{ClaudeError, Client, Message, NanoDollars, Price, Request, Usage};

/// Why there is no turn.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The first request may not be paid for.
    #[error(transparent)]
    Spending(#[from] SpendingError),
    /// The model gave none.
    #[error(transparent)]
    Model(#[from] ClaudeError),
}

impl Purse {
    /// Asks for one turn, which is at most `input_tokens` long before it is answered; says what that cost, whatever came
    /// of it.
    pub async fn ask(
        &self,
        client: &Client,
        request: &Request,
        price: &Price,
        input_tokens: u64,
    ) -> (Result<Message, AskError>, ModelCalls) {
        let mut calls = ModelCalls::none(&request.model);
        let answer = self.ask_until_answered(client, request, price, input_tokens, &mut calls).await;
        (answer, calls)
    }

    async fn ask_until_answered(
        &self,
        client: &Client,
        request: &Request,
        price: &Price,
        input_tokens: u64,
        calls: &mut ModelCalls,
    ) -> Result<Message, AskError> {
        let output_tokens = u64::from(request.max_tokens);
        let worst = Amount::worst_case(input_tokens, output_tokens, price);
        let at_worst = Usage { input_tokens, output_tokens, ..Usage::default() };
        let mut call = client.call(request)?;
        let mut failed: Option<ClaudeError> = None;
        loop {
            let reservation = match self.reserve(worst).await {
                Ok(reservation) => reservation,
                // What kept the model from answering says more than that there is no money for another try.
                Err(error) => return Err(failed.map_or(AskError::Spending(error), AskError::Model)),
            };
            let attempt = call.attempt(&mut |_| ()).await;
            match &attempt {
                Ok(Message { usage: Some(usage), .. }) => {
                    let used = Amount::of(usage, price);
                    calls.note(*usage, used);
                    self.settle(reservation, used).await;
                }
                Err(failed) if failed.error.is_free() => self.settle(reservation, Amount::default()).await,
                // What was generated is not known, and may be all that there could be.
                Ok(Message { usage: None, .. }) | Err(_) => calls.note(at_worst, worst),
            }
            match attempt {
                Ok(message) => return Ok(message),
                Err(attempt) => {
                    let Some(pause) = attempt.retry_after else { return Err(attempt.error.into()) };
                    tracing::debug!(reason = attempt.error.reason(), ?pause, "a model is asked again");
                    failed = Some(attempt.error);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

impl ModelCalls {
    /// No call of this model.
    pub fn none(model: &str) -> Self {
        Self { model: model.to_owned(), calls: 0, usage: Usage::default(), cost: NanoDollars(0) }
    }

    fn note(&mut self, usage: Usage, amount: Amount) {
        self.calls += 1;
        self.usage += usage;
        self.cost = self.cost.saturating_add(NanoDollars(amount.nanodollars));
    }

    /// Adds other calls of the same model.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.usage += other.usage;
        self.cost = self.cost.saturating_add(other.cost);
    }
}
