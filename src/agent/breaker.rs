//! How often each object was repaired within the last hour, whatever became of the tickets and of the agent that did it.
//! The rule is pure ([`Repairs`]); the record is a page of the agent's books, written before the intent of an attempt.
//!
//! An object counts by its name: one that is deleted and made again is no other for its breaker.

use super::books::{Books, BooksError};
use crate::crd::ObjectReference;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

const KEY: &str = "repairs.json";

/// Repairs count for so long.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);

/// The page is kept below this, by forgetting the oldest repairs. Bytes; a ConfigMap holds a mebibyte.
const MAX_PAGE: usize = 400_000;

/// The repairs of the last hour, by object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Repairs {
    objects: BTreeMap<String, Vec<Repair>>,
}

/// One repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// The attempt: the ticket's UID and its number. Noted twice, it counts once.
    pub attempt: String,
    /// When it was intended.
    pub at: Timestamp,
}

/// What the tickets that are still there say of the repairs of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Written, by the tickets' word: they count, should the record be lost.
    pub written: Vec<Repair>,
    /// Attempts of which nothing was written: they do not count.
    pub not_written: Vec<String>,
}

/// An open breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The object's kind and name.
    pub object: String,
    /// Repairs within the last hour.
    pub repairs: usize,
    /// When so many are older than an hour that it closes.
    pub closes_at: Timestamp,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, repairs, closes_at } = self;
        write!(
            f,
            "the breaker is open: {object} was repaired {repairs} times within an hour; it closes at {closes_at:.0}"
        )
    }
}

/// An attempt of a ticket.
pub fn attempt(ticket_uid: &str, number: u32) -> String {
    format!("{ticket_uid}/{number}")
}

impl Repairs {
    /// Forgets what does not count any more. A time to come was written by another clock: it is taken for now.
    pub fn at(&mut self, now: Timestamp) {
        for repairs in self.objects.values_mut() {
            for repair in repairs.iter_mut() {
                repair.at = repair.at.min(now);
            }
            repairs.retain(|it| now.duration_since(it.at) < WINDOW);
        }
        self.objects.retain(|_, repairs| !repairs.is_empty());
    }

    /// The breaker of an object, if it is open for one more repair.
    pub fn open(&self, key: &str, object: &ObjectReference, told: &Told, limit: usize, now: Timestamp) -> Option<Open> {
        let mut repairs: BTreeMap<&str, Timestamp> = BTreeMap::new();
        let kept = self.objects.get(key).into_iter().flatten();
        for repair in kept.chain(&told.written).filter(|it| now.duration_since(it.at) < WINDOW) {
            if !told.not_written.contains(&repair.attempt) {
                repairs.insert(&repair.attempt, repair.at);
            }
        }
        let mut times: Vec<Timestamp> = repairs.into_values().collect();
        times.sort();
        let closing = times.len().checked_sub(limit.max(1))?;
        Some(Open {
            object: format!("{} {}", object.kind, object.name),
            repairs: times.len(),
            closes_at: times[closing].checked_add(WINDOW).unwrap_or(Timestamp::MAX),
        })
    }

    fn has(&self, key: &str, attempt: &str) -> bool {
        self.objects.get(key).into_iter().flatten().any(|it| it.attempt == attempt)
    }

    /// Notes a repair of an object.
    pub fn note(&mut self, key: &str, attempt: &str, now: Timestamp) {
        if !self.has(key, attempt) {
            let repairs = self.objects.entry(key.to_owned()).or_default();
            repairs.push(Repair { attempt: attempt.to_owned(), at: now });
        }
        while self.size() > MAX_PAGE {
            let oldest = self.objects.iter().filter_map(|(key, of)| Some((of.first()?.at, key.clone()))).min();
            let Some((_, key)) = oldest else { break };
            let Some(repairs) = self.objects.get_mut(&key) else { break };
            repairs.remove(0);
            if repairs.is_empty() {
                self.objects.remove(&key);
            }
        }
    }

    /// About the size of its text, and not less.
    fn size(&self) -> usize {
        let of = |repairs: &Vec<Repair>| repairs.iter().map(|it| it.attempt.len() + 72).sum::<usize>();
        self.objects.iter().map(|(key, repairs)| key.len() + 16 + of(repairs)).sum()
    }
}

/// An object of a namespace, with what the tickets say of it.
pub struct Counted<'a> {
    /// The object.
    pub object: &'a ObjectReference,
    /// What the tickets say.
    pub told: Told,
}

/// The breakers of all objects.
#[derive(Clone)]
pub struct Breaker {
    books: Books,
}

impl Breaker {
    /// The breakers that these books keep.
    pub fn new(books: Books) -> Self {
        Self { books }
    }

    /// Counts an attempt at these objects, unless the breaker of one is open: then nothing is counted.
    pub async fn admit(
        &self,
        namespace: &str,
        objects: &[Counted<'_>],
        attempt: &str,
        limit: usize,
    ) -> Result<Result<(), Open>, BooksError> {
        let now = Timestamp::now();
        let turn = self.books.turn().await;
        self.books
            .change(turn, KEY, |repairs: &mut Repairs| {
                repairs.at(now);
                let keyed = || objects.iter().map(|it| (key(namespace, it.object), it));
                let open = keyed().find_map(|(key, it)| {
                    // A step that is made again was admitted already.
                    let open = repairs.open(&key, it.object, &it.told, limit, now);
                    open.filter(|_| !repairs.has(&key, attempt))
                });
                if let Some(open) = open {
                    return Err(open);
                }
                for (key, _) in keyed() {
                    repairs.note(&key, attempt, now);
                }
                Ok(())
            })
            .await
    }

    /// Counts an attempt that a person allowed.
    pub async fn note(&self, namespace: &str, objects: &[&ObjectReference], attempt: &str) -> Result<(), BooksError> {
        let now = Timestamp::now();
        let turn = self.books.turn().await;
        let noted: Result<(), std::convert::Infallible> = self
            .books
            .change(turn, KEY, |repairs: &mut Repairs| {
                repairs.at(now);
                for object in objects {
                    repairs.note(&key(namespace, object), attempt, now);
                }
                Ok(())
            })
            .await?;
        let Ok(()) = noted;
        Ok(())
    }
}

fn key(namespace: &str, object: &ObjectReference) -> String {
    format!("{namespace}/{}/{}", object.kind, object.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute)
    }

    fn object() -> ObjectReference {
        ObjectReference { kind: "ConfigMap".into(), name: "config".into(), uid: "uid".into() }
    }

    fn repaired(minutes: &[i64]) -> Repairs {
        let mut repairs = Repairs::default();
        for (number, minute) in minutes.iter().enumerate() {
            repairs.note("shop/ConfigMap/config", &number.to_string(), at(*minute));
        }
        repairs
    }

    fn open(repairs: &Repairs, told: &Told, now: i64) -> Option<(usize, Timestamp)> {
        let open = repairs.open("shop/ConfigMap/config", &object(), told, 3, at(now))?;
        Some((open.repairs, open.closes_at))
    }

    #[test]
    fn it_opens_at_the_limit_says_when_it_closes_and_is_closed_then() {
        let repairs = repaired(&[0, 10, 20]);
        assert_eq!(open(&repairs, &Told::default(), 30), Some((3, at(60))));
        assert_eq!(open(&repairs, &Told::default(), 60), None);
        assert_eq!(open(&repaired(&[0, 10, 20, 30]), &Told::default(), 40), Some((4, at(70))));
        assert_eq!(open(&repaired(&[0, 10]), &Told::default(), 20), None);
    }

    #[test]
    fn what_tickets_tell_counts_once_and_an_attempt_that_wrote_nothing_does_not() {
        let written = vec![Repair { attempt: "1".into(), at: at(11) }, Repair { attempt: "9".into(), at: at(20) }];
        let told = Told { written, not_written: Vec::new() };
        assert_eq!(open(&repaired(&[0, 10]), &told, 30), Some((3, at(60))));
        let told = Told { not_written: vec!["0".into()], ..told };
        assert_eq!(open(&repaired(&[0, 10]), &told, 30), None);
    }

    #[test]
    fn an_attempt_that_is_noted_again_counts_once_and_another_clock_is_no_obstacle() {
        let mut repairs = Repairs::default();
        repairs.note("shop/ConfigMap/config", "a", at(10_000));
        repairs.note("shop/ConfigMap/config", "a", at(10_001));
        repairs.at(at(0));
        assert_eq!(repairs.objects["shop/ConfigMap/config"], [Repair { attempt: "a".into(), at: at(0) }]);
        repairs.at(at(60));
        assert_eq!(repairs, Repairs::default());
    }

    #[test]
    fn the_page_has_a_size_and_the_oldest_go_first() {
        let mut repairs = Repairs::default();
        for number in 0..2_000 {
            repairs.note(&format!("{}/{number}", "n".repeat(300)), &"a".repeat(40), at(number));
        }
        let text = serde_json::to_string(&repairs).unwrap();
        assert!(text.len() <= MAX_PAGE, "{}", text.len());
        assert!(text.contains("/1999\"") && !text.contains("/0\""));
    }

    proptest! {
        #[test]
        fn whenever_it_is_tried_no_hour_has_more_repairs_than_the_limit(steps in prop::collection::vec(0i64..20, 1..80), limit in 1usize..6) {
            let (mut repairs, mut now, mut made) = (Repairs::default(), 0, Vec::new());
            for (number, step) in steps.into_iter().enumerate() {
                now += step;
                repairs.at(at(now));
                if repairs.open("o", &object(), &Told::default(), limit, at(now)).is_none() {
                    repairs.note("o", &number.to_string(), at(now));
                    made.push(now);
                }
                let in_last_hour = made.iter().filter(|it| now - **it < 60).count();
                prop_assert!(in_last_hour <= limit);
            }
            // It never stays open: an hour later there is leave again.
            prop_assert!(repairs.open("o", &object(), &Told::default(), limit, at(now + 60)).is_none());
        }
    }
}
