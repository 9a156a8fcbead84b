//! The monitor asks what is due, and takes the answers.

use super::Monitor;
use super::deciding::Occasion;
use super::record::Judged;
use super::schedule::Due;
use super::shares::Admission;
use crate::panics;
use crate::probe::Sample;
use crate::watch::ObjectKey;
use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use std::sync::Arc;
use std::time::Duration;

/// Checks in flight at most; a due check beyond that waits. Each holds a file descriptor, of which a process may have
/// 1024 by default.
pub(super) const MAX_IN_FLIGHT: usize = 512;

/// Checks that are due within this time of each other begin together: to wake up costs more than to ask.
const TICK: Duration = Duration::from_millis(10);

/// A check that is done.
pub(super) struct Asked {
    key: ObjectKey,
    uid: String,
    generation: i64,
    judged: Judged,
}

impl Monitor {
    /// When the next checks begin; `None` while too many are in flight.
    pub(super) fn next_check(&mut self) -> Option<Duration> {
        if self.asking.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let due = self.schedule.next_due()?;
        let ticks = u32::try_from(due.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u32::MAX);
        Some(TICK * ticks)
    }

    pub(super) fn ask_due(&mut self) {
        let now = self.origin.elapsed();
        while self.asking.len() < MAX_IN_FLIGHT
            && let Some(due) = self.schedule.take_due(now)
        {
            self.ask(due);
        }
    }

    fn ask(&mut self, Due { key, late, missed }: Due) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        if missed > 0 || watched.asking {
            tracing::warn!(%key, missed, overlapping = watched.asking, "checks were skipped");
            self.settings.vitals.skipped(u64::from(missed) + u64::from(watched.asking));
        }
        let Some(question) = watched.begin_asking() else { return };
        if let Admission::Refused { first } = self.shares.take(&key.namespace) {
            watched.asking = false;
            self.settings.vitals.skipped(1);
            if first {
                tracing::warn!(%key, "checks are skipped: too many of this namespace are under way, and not answered");
            }
            return;
        }
        self.settings.vitals.started(late);
        let (uid, generation) = (watched.invariant.uid().unwrap_or_default(), watched.generation());
        let (prober, evaluator) = (Arc::clone(&self.prober), Arc::clone(&self.evaluator));
        let asked = async move {
            let asked = panics::caught(prober.ask(&question.query, question.connection, question.timeout)).await;
            let sample = asked.unwrap_or_else(|why| Sample::defect(&why));
            let judged = evaluator.judge(&key.namespace, question.condition, sample).await;
            Asked { key, uid, generation, judged }
        };
        self.asking.push(asked.boxed());
    }

    /// Takes an answer, and all others that are there with it.
    pub(super) fn answered(&mut self, asked: Asked) {
        self.take_answer(asked);
        while let Some(Some(asked)) = self.asking.next().now_or_never() {
            self.take_answer(asked);
        }
    }

    fn take_answer(&mut self, asked: Asked) {
        self.shares.give_back(&asked.key.namespace);
        let Some(watched) = self.watched.get_mut(&asked.key) else { return };
        watched.asking = false;
        // An answer to the question of an earlier spec says nothing about this one.
        if watched.invariant.uid().as_deref() == Some(&asked.uid) && watched.generation() == asked.generation {
            self.settings.vitals.checked(asked.judged.verdict);
            watched.add(asked.judged);
            self.reconsider(&asked.key, Occasion::News);
        }
    }
}
