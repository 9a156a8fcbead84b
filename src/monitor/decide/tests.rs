//! What the monitor does about whole rows of samples.

use super::*;
use crate::monitor::flapping;
use crate::monitor::record::Judged;
use crate::probe::Value;
use crate::question;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::time::Duration;

/// One invariant and its tickets, without anything around.
struct World {
    invariant: Invariant,
    record: Record,
    before: InvariantStatus,
    ticket: Option<Ticket>,
    healed: Vec<Timestamp>,
    /// When tickets were opened, in seconds.
    opened: Vec<i64>,
    now: i64,
}

impl World {
    fn new(spec: &Json) -> Self {
        let mut whole = json!({ "query": "http://api/", "condition": "== 200" });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let invariant = json!({
            "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant",
            "metadata": { "name": "api", "namespace": "shop", "uid": "uid", "generation": 1 }, "spec": whole,
        });
        Self {
            invariant: serde_json::from_value(invariant).unwrap(),
            record: Record::default(),
            before: InvariantStatus::default(),
            ticket: None,
            healed: Vec::new(),
            opened: Vec::new(),
            now: 0,
        }
    }

    fn interval(&self) -> i64 {
        i64::try_from(Duration::from(self.invariant.spec.interval).as_secs()).unwrap()
    }

    /// One sample, and what follows from it.
    fn sample(&mut self, holds: bool) {
        let at = Timestamp::from_second(self.now).unwrap();
        let judged = Judged {
            started_at: at,
            verdict: if holds { VerdictName::Holds } else { VerdictName::Breached },
            reading: Reading::Value(Value::Number(if holds { 200.0 } else { 503.0 })),
            latency_milliseconds: 1,
            findings: None,
        };
        self.record.count_for(counting(self.ticket.as_ref()), false);
        self.record.add(judged, crate::crd::NoData::Unknown);
        let question = question::digest(&self.invariant.spec);
        let input = Input {
            invariant: &self.invariant,
            rejection: None,
            question: &question,
            question_since: 1,
            cycle: None,
            record: &self.record,
            before: &self.before,
            broken_dependencies: &[],
            umbrella: None,
            starting: None,
            healed: &self.healed,
            ticket: self.ticket.as_ref(),
            guards_hold: true,
        };
        let decision = decide(&input, at);
        self.before = decision.status;
        match decision.ticket {
            TicketAction::Leave => {}
            TicketAction::Open => {
                self.opened.push(self.now);
                self.ticket = Some(ticket(self.opened.len()));
            }
            TicketAction::Resolve => {
                flapping::note(&mut self.healed, at);
                self.ticket = None;
            }
        }
        self.now += self.interval();
    }

    /// The most tickets that were opened within any hour.
    fn most_in_an_hour(&self) -> usize {
        let within = |from: &i64| self.opened.iter().filter(|it| (*from..from + 3600).contains(*it)).count();
        self.opened.iter().map(within).max().unwrap_or(0)
    }

    fn flaps(&self) -> Option<&str> {
        condition_status(&self.before, type_::FLAPPING)
    }
}

/// A ticket that the agent has handed over to people.
fn ticket(number: usize) -> Ticket {
    serde_json::from_value(json!({
        "apiVersion": "harness.dev/v1alpha1", "kind": "Ticket",
        "metadata": { "name": format!("api-{number}"), "namespace": "shop", "uid": format!("ticket-{number}") },
        "spec": {
            "invariantRef": { "name": "api", "uid": "uid", "generation": 1 }, "severity": "Warning", "title": "",
            "query": "", "condition": "",
            "opening": {
                "firstBreachAt": "1970-01-01T00:00:00.000000Z", "openedAt": "1970-01-01T00:00:00.000000Z",
                "value": "503", "observed": "",
            },
        },
        "status": { "phase": if number.is_multiple_of(2) { "Escalated" } else { "Open" } },
    }))
    .unwrap()
}

#[test]
fn a_square_wave_has_three_tickets_and_one_that_stays_until_it_is_calm() {
    let mut world = World::new(&json!({ "interval": "1s", "failureThreshold": 2, "successThreshold": 2 }));
    for second in 0..600 {
        world.sample(second % 10 >= 5);
    }
    assert_eq!(world.opened.len(), 4);
    assert_eq!(world.flaps(), Some("True"));
    // It holds, for five seconds already: but not for long enough to be believed.
    for _ in 0..890 {
        world.sample(true);
    }
    assert!(world.ticket.is_some());
    for _ in 0..10 {
        world.sample(true);
    }
    assert!(world.ticket.is_none());
    assert_eq!(world.opened.len(), 4);
    // The tickets before are forgotten in the end.
    for _ in 0..3600 {
        world.sample(true);
    }
    assert_eq!(world.flaps(), Some("False"));
    world.sample(false);
    world.sample(false);
    world.sample(true);
    world.sample(true);
    assert_eq!((world.opened.len(), world.ticket.is_none()), (5, true));
}

#[test]
fn a_few_tickets_in_an_hour_are_no_flapping() {
    let mut world = World::new(&json!({ "interval": "30s", "failureThreshold": 1, "successThreshold": 1 }));
    for minute in 0..240 {
        world.sample(minute % 35 > 0);
        world.sample(minute % 35 > 0);
    }
    assert_eq!((world.opened.len(), world.flaps()), (7, None));
}

proptest! {
    #[test]
    fn whatever_the_wave_tickets_are_few_and_a_lasting_breach_has_one(
        interval in 1i64..90, failure in 1u32..5, success in 1u32..5,
        halves in prop::collection::vec((1u32..40, 1u32..40), 1..6),
    ) {
        let mut world = World::new(&json!({
            "interval": format!("{interval}s"), "failureThreshold": failure, "successThreshold": success,
        }));
        let wave = halves.iter().cycle().flat_map(|(holds, breaks)| {
            std::iter::repeat_n(true, *holds as usize).chain(std::iter::repeat_n(false, *breaks as usize))
        });
        let samples = usize::try_from(3 * 3600 / interval).unwrap();
        for holds in wave.take(samples) {
            world.sample(holds);
        }
        prop_assert!(world.most_in_an_hour() <= 7, "{:?}", world.opened);
        for _ in 0..failure {
            world.sample(false);
        }
        prop_assert!(world.ticket.is_some());
        // And what lasts well has none.
        for _ in 0..=(900 / interval + i64::from(success)) {
            world.sample(true);
        }
        prop_assert!(world.ticket.is_none());
    }
}
