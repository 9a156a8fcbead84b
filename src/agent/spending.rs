//! The ledger of what models cost: by ticket, and by day (UTC). It survives a restart.
//!
//! Touches the world in one way: a page of the agent's books. The worst case of a call is written there before the call
//! is sent, so that a crash in between cannot lose it; what was not used is given back afterwards.

mod call;

pub use call::AskError;

use super::books::{Books, BooksError, Turn};
use super::budget::{self, Amount, Exhausted};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const LEDGER_KEY: &str = "ledger.json";

/// What a ticket spent is forgotten so long after its last call.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 8);
/// Tickets in the ledger; the longest unused go first.
const KEPT_TICKETS: usize = 2000;

/// Why nothing may be spent now.
#[derive(Debug, thiserror::Error)]
pub enum SpendingError {
    /// A limit would be exceeded.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The ledger cannot be read or written; without it nothing is spent.
    #[error("the ledger of spending: {0}")]
    KeepLedger(#[from] BooksError),
}

/// What is in the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ledger {
    /// The day (UTC) that `spent` is about.
    day: String,
    /// What was spent on that day, open reservations included.
    spent: Amount,
    /// What each ticket spent, open reservations included.
    tickets: BTreeMap<String, Account>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    spent: Amount,
    at: Timestamp,
}

impl Ledger {
    /// The ledger as it counts now.
    fn at(mut self, now: Timestamp) -> Self {
        let today = now.strftime("%Y-%m-%d").to_string();
        if self.day != today {
            self.day = today;
            self.spent = Amount::default();
        }
        self.tickets.retain(|_, account| now.duration_since(account.at) < KEPT);
        while self.tickets.len() > KEPT_TICKETS {
            let oldest = self.tickets.iter().min_by_key(|(_, account)| account.at).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.tickets.remove(&name));
        }
        self
    }

    fn spent_by(&self, ticket: &str) -> Amount {
        self.tickets.get(ticket).map(|account| account.spent).unwrap_or_default()
    }

    fn add(&mut self, ticket: &str, amount: Amount, now: Timestamp) {
        self.spent = self.spent.plus(amount);
        let spent = self.spent_by(ticket).plus(amount);
        self.tickets.insert(ticket.to_owned(), Account { spent, at: now });
    }

    fn give_back(&mut self, ticket: &str, amount: Amount, day: &str) {
        // What was reserved yesterday is not owed by today.
        if self.day == day {
            self.spent = self.spent.minus(amount);
        }
        if let Some(account) = self.tickets.get_mut(ticket) {
            account.spent = account.spent.minus(amount);
        }
    }
}

/// The ledger. Cheap to clone; clones share all.
#[derive(Clone)]
pub struct Spending {
    books: Books,
    day_limit: Amount,
}

impl Spending {
    /// The ledger in these books.
    pub fn new(books: Books, day_limit: Amount) -> Self {
        Self { books, day_limit }
    }

    /// What one ticket can spend from. A person's `retry` opens a new purse.
    pub fn purse(&self, ticket: String, limit: Amount) -> Purse {
        Purse { spending: self.clone(), ticket, limit }
    }

    /// Returns once all that was being written is written.
    pub async fn settled(&self) {
        drop(self.books.turn().await);
    }

    /// A write whose answer was lost may count twice: then the ledger says too much rather than too little.
    async fn change<T>(
        &self,
        turn: Turn,
        mut edit: impl FnMut(&mut Ledger) -> Result<T, Exhausted>,
    ) -> Result<T, SpendingError> {
        let edit = |ledger: &mut Ledger| {
            *ledger = std::mem::take(ledger).at(Timestamp::now());
            edit(ledger)
        };
        Ok(self.books.change(turn, LEDGER_KEY, edit).await??)
    }
}

/// What one ticket can spend from.
#[derive(Clone)]
pub struct Purse {
    spending: Spending,
    ticket: String,
    limit: Amount,
}

/// Money and tokens that are set aside for one call.
#[derive(Debug)]
#[must_use = "what a call did not use is to be given back"]
pub struct Reservation {
    amount: Amount,
    day: String,
}

impl Purse {
    /// Sets the worst case of a call aside, before it is sent.
    pub async fn reserve(&self, worst: Amount) -> Result<Reservation, SpendingError> {
        let day_limit = self.spending.day_limit;
        let turn = self.spending.books.turn().await;
        self.spending
            .change(turn, |ledger| {
                budget::admit((self.limit, ledger.spent_by(&self.ticket)), (day_limit, ledger.spent), worst)?;
                ledger.add(&self.ticket, worst, Timestamp::now());
                Ok(Reservation { amount: worst, day: ledger.day.clone() })
            })
            .await
    }

    /// Gives back what the call did not use, in the background: its turn at the ledger comes before any later call's.
    /// If it fails, the ledger says too much rather than too little.
    pub async fn settle(&self, reservation: Reservation, used: Amount) {
        let turn = self.spending.books.turn().await;
        let purse = self.clone();
        tokio::spawn(async move {
            let unused = reservation.amount.minus(used);
            let give_back = |ledger: &mut Ledger| {
                ledger.give_back(&purse.ticket, unused, &reservation.day);
                Ok(())
            };
            if let Err(error) = purse.spending.change(turn, give_back).await {
                tracing::warn!(ticket = purse.ticket, %error, "a reservation stays in the ledger");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn amount(tokens: u64) -> Amount {
        Amount { tokens, nanodollars: tokens }
    }

    #[test]
    fn a_new_day_begins_with_nothing_spent_and_tickets_keep_their_accounts() {
        let mut ledger = Ledger::default().at(at("2026-11-23T23:59:00Z"));
        ledger.add("a/x-1", amount(5), at("2026-11-23T23:59:00Z"));
        let ledger = ledger.at(at("2026-11-24T00:01:00Z"));
        assert_eq!((ledger.spent, ledger.spent_by("a/x-1")), (amount(0), amount(5)));
    }

    #[test]
    fn what_was_reserved_yesterday_is_not_given_back_to_today() {
        let mut ledger = Ledger::default().at(at("2026-11-23T23:59:00Z"));
        ledger.add("a/x-1", amount(5), at("2026-11-23T23:59:00Z"));
        let mut ledger = ledger.at(at("2026-11-24T00:01:00Z"));
        ledger.add("a/x-1", amount(2), at("2026-11-24T00:01:00Z"));
        ledger.give_back("a/x-1", amount(4), "2026-11-23");
        assert_eq!((ledger.spent, ledger.spent_by("a/x-1")), (amount(2), amount(3)));
    }

    #[test]
    fn an_account_is_forgotten_a_week_after_its_last_call() {
        let mut ledger = Ledger::default().at(at("2026-11-01T00:00:00Z"));
        ledger.add("a/x-1", amount(5), at("2026-11-01T00:00:00Z"));
        assert_eq!(ledger.at(at("2026-11-10T00:00:00Z")).tickets.len(), 0);
    }
}
