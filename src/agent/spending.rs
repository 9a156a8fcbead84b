//! The ledger of what models cost: by ticket, and by day (UTC). It survives a restart.
//!
//! Touches the world in one way: a ConfigMap in the harness's own namespace. The worst case of a call is written there
//! before the call is sent, so that a crash in between cannot lose it; what was not used is given back afterwards.

mod call;

pub use call::AskError;

use super::budget::{self, Amount, Exhausted};
use super::executor::FIELD_MANAGER;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The name of the ConfigMap.
pub const LEDGER_NAME: &str = "harness-agent-spend";
const LEDGER_KEY: &str = "ledger.json";

/// Another process may write in between, or an answer be lost; so often it is tried.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(100);
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
    #[error("the ledger of spending (ConfigMap {LEDGER_NAME}) cannot be kept: {0}")]
    KeepLedger(String),
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
    api: Api<ConfigMap>,
    day_limit: Amount,
    /// One writer at a time in this process, which remembers what it wrote last: mostly nobody else writes.
    last: Arc<Mutex<Option<ConfigMap>>>,
}

impl Spending {
    /// The ledger in the harness's own namespace.
    pub fn new(client: Client, namespace: &str, day_limit: Amount) -> Self {
        Self { api: Api::namespaced(client, namespace), day_limit, last: Arc::default() }
    }

    /// What one ticket can spend from. A person's `retry` opens a new purse.
    pub fn purse(&self, ticket: String, limit: Amount) -> Purse {
        Purse { spending: self.clone(), ticket, limit }
    }

    /// Returns once all that was being written is written.
    pub async fn settled(&self) {
        drop(self.turn().await);
    }

    /// Waits for one's turn to write, and holds it.
    async fn turn(&self) -> OwnedMutexGuard<Option<ConfigMap>> {
        Arc::clone(&self.last).lock_owned().await
    }

    /// `written`: what was written last, held for as long as this takes.
    async fn change<T>(
        &self,
        mut written: OwnedMutexGuard<Option<ConfigMap>>,
        mut edit: impl FnMut(&mut Ledger) -> Result<T, SpendingError>,
    ) -> Result<T, SpendingError> {
        let mut failed = None;
        for _ in 0..TRIES {
            if failed.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            // A write whose answer was lost may count twice: then the ledger says too much rather than too little.
            match self.change_once(written.take(), &mut edit).await {
                Ok(result) => {
                    return result.map(|(result, object)| {
                        *written = Some(object);
                        result
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        let why = failed.map_or_else(String::new, |error| error.to_string());
        Err(SpendingError::KeepLedger(why))
    }

    /// Changes the ledger as it was written last, or as it is found; an outdated one meets a conflict.
    async fn change_once<T>(
        &self,
        known: Option<ConfigMap>,
        edit: &mut impl FnMut(&mut Ledger) -> Result<T, SpendingError>,
    ) -> Result<Result<(T, ConfigMap), SpendingError>, kube::Error> {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let found = match known {
            Some(known) => Some(known),
            None => self.api.get_opt(LEDGER_NAME).await?,
        };
        let mut ledger = match read(found.as_ref()) {
            Ok(ledger) => ledger.at(Timestamp::now()),
            Err(error) => return Ok(Err(error)),
        };
        let result = match edit(&mut ledger) {
            Ok(result) => result,
            Err(error) => return Ok(Err(error)),
        };
        let text = serde_json::to_string(&ledger).map_err(kube::Error::SerdeError)?;
        // Whatever else others wrote on it stays.
        let mut object = found.clone().unwrap_or_else(|| ConfigMap {
            metadata: ObjectMeta { name: Some(LEDGER_NAME.to_owned()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        });
        object.metadata.managed_fields = None;
        object.data = Some(BTreeMap::from([(LEDGER_KEY.to_owned(), text)]));
        let written = match found {
            Some(_) => self.api.replace(LEDGER_NAME, &parameters, &object).await?,
            None => self.api.create(&parameters, &object).await?,
        };
        Ok(Ok((result, written)))
    }
}

fn read(found: Option<&ConfigMap>) -> Result<Ledger, SpendingError> {
    let text = found.and_then(|object| object.data.as_ref()?.get(LEDGER_KEY));
    text.map_or(Ok(Ledger::default()), |text| {
        serde_json::from_str(text).map_err(|error| {
            SpendingError::KeepLedger(format!("its key {LEDGER_KEY} is not understood ({error}); delete the ConfigMap"))
        })
    })
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
        let turn = self.spending.turn().await;
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
        let turn = self.spending.turn().await;
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
