//! What a model may cost. Pure: limits, what is spent, and whether the worst case of the next call still fits.
//!
//! Tokens are those of input and output; what is read from the model's cache does not count. Money is in billionths of
//! a dollar, so that sums are exact.

use crate::claude::{NanoDollars, Price, Usage};
use crate::crd::Budget;
use serde::{Deserialize, Serialize};

/// An amount of tokens and money.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Tokens.
    pub tokens: u64,
    /// Billionths of a dollar.
    pub nanodollars: u64,
}

impl Amount {
    /// What a call cost.
    pub fn of(usage: &Usage, price: &Price) -> Self {
        let tokens = usage.total_input().saturating_sub(usage.cache_read_input_tokens) + usage.output_tokens;
        Self { tokens, nanodollars: price.cost(usage).0 }
    }

    /// The most that a call can cost: no input token cached, all output tokens used.
    pub fn worst_case(input_tokens: u64, output_tokens: u64, price: &Price) -> Self {
        let tokens = input_tokens.saturating_add(output_tokens);
        Self { tokens, nanodollars: price.worst_case(input_tokens, output_tokens).0 }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            nanodollars: self.nanodollars.saturating_add(other.nanodollars),
        }
    }

    /// The difference; never below nothing.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            nanodollars: self.nanodollars.saturating_sub(other.nanodollars),
        }
    }
}

/// What a ticket may spend.
pub fn of_ticket(budget: &Budget) -> Amount {
    // The schema admits nothing else than a decimal number; should it be one that is not understood, nothing is spent.
    let nanodollars = budget.dollars.parse().map_or(0, |NanoDollars(amount)| amount);
    Amount { tokens: budget.tokens.into(), nanodollars }
}

/// Which limit the worst case of a call would break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The ticket's tokens.
    #[error("the next call could exceed this ticket's budget of {0} tokens")]
    TicketTokens(u64),
    /// The ticket's dollars.
    #[error("the next call could exceed this ticket's budget of {0}")]
    TicketDollars(NanoDollars),
    /// The tokens of the day.
    #[error("the next call could exceed the budget of {0} tokens for today (UTC)")]
    DayTokens(u64),
    /// The dollars of the day.
    #[error("the next call could exceed the budget of {0} for today (UTC)")]
    DayDollars(NanoDollars),
}

/// Whether a call whose worst case is `worst` fits into both budgets.
pub fn admit(ticket: (Amount, Amount), day: (Amount, Amount), worst: Amount) -> Result<(), Exhausted> {
    let ((ticket_limit, ticket_spent), (day_limit, day_spent)) = (ticket, day);
    let (for_ticket, for_day) = (ticket_spent.plus(worst), day_spent.plus(worst));
    if for_ticket.tokens > ticket_limit.tokens {
        return Err(Exhausted::TicketTokens(ticket_limit.tokens));
    }
    if for_ticket.nanodollars > ticket_limit.nanodollars {
        return Err(Exhausted::TicketDollars(NanoDollars(ticket_limit.nanodollars)));
    }
    if for_day.tokens > day_limit.tokens {
        return Err(Exhausted::DayTokens(day_limit.tokens));
    }
    if for_day.nanodollars > day_limit.nanodollars {
        return Err(Exhausted::DayDollars(NanoDollars(day_limit.nanodollars)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(tokens: u64, nanodollars: u64) -> Amount {
        Amount { tokens, nanodollars }
    }

    #[test]
    fn the_limit_that_would_break_is_named() {
        let (wide, nothing) = (amount(1000, 1000), Amount::default());
        let table = [
            (amount(10, 1000), wide, amount(11, 0), Some(Exhausted::TicketTokens(10))),
            (amount(1000, 10), wide, amount(0, 11), Some(Exhausted::TicketDollars(NanoDollars(10)))),
            (wide, amount(10, 1000), amount(11, 0), Some(Exhausted::DayTokens(10))),
            (wide, amount(1000, 10), amount(0, 11), Some(Exhausted::DayDollars(NanoDollars(10)))),
            (wide, wide, amount(1000, 1000), None),
        ];
        for (ticket, day, worst, expected) in table {
            assert_eq!(admit((ticket, nothing), (day, nothing), worst).err(), expected);
        }
    }

    #[test]
    fn cache_reads_are_paid_and_do_not_count_as_tokens() {
        let usage = Usage { input_tokens: 10, output_tokens: 5, cache_read_input_tokens: 1000, ..Usage::default() };
        let cost = Amount::of(&usage, &Price::of("claude-opus-5-5"));
        assert_eq!(cost.tokens, 15);
        assert_eq!(cost.nanodollars, 10 * 4_000 + 5 * 20_000 + 1000 * 200);
    }

    proptest! {
        #[test]
        fn no_row_of_calls_ever_spends_more_than_its_limit(
            limit in 0_u64..10_000,
            calls in proptest::collection::vec((0_u64..2_000, 0_u64..2_000), 0..50),
        ) {
            let mut spent = Amount::default();
            for (worst, actual) in calls {
                let worst_case = amount(worst, worst);
                if admit((amount(limit, limit), spent), (amount(limit, limit), spent), worst_case).is_ok() {
                    let actual = actual.min(worst);
                    spent = spent.plus(worst_case).minus(worst_case.minus(amount(actual, actual)));
                }
            }
            prop_assert!(spent.tokens <= limit && spent.nanodollars <= limit);
        }
    }
}
