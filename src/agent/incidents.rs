//! The tasks of the open tickets, each of them on its own: one that breaks down is started again after a pause, and
//! concerns no other.

use super::setbacks::Setbacks;
use crate::panics;
use crate::watch::ObjectKey;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::watch as signal;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::JoinMap;

/// A task that broke down is started again after this, and after twice as long each time that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// No pause is longer. A kubelet waits as long before it starts a container that crashes.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The tasks of the open tickets. Dropping it aborts them.
pub(super) struct Incidents {
    tasks: JoinMap<ObjectKey, ()>,
    /// Counts what concerns one incident alone: its ticket, or an invariant of its namespace, changed.
    changed: HashMap<ObjectKey, signal::Sender<u64>>,
    setbacks: Setbacks<ObjectKey>,
}

/// How a task ended.
pub(super) enum Ended {
    /// As it should.
    Well(ObjectKey),
    /// It panicked, or was aborted. It may be started again after the pause.
    BrokeDown {
        /// Its ticket.
        key: ObjectKey,
        /// What it said.
        why: String,
        /// How often this happened in a row.
        in_a_row: u32,
        /// How long it pauses.
        pause: Duration,
    },
}

impl Default for Incidents {
    fn default() -> Self {
        Self { tasks: JoinMap::new(), changed: HashMap::new(), setbacks: Setbacks::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }
}

impl Incidents {
    /// Whether a task runs for this ticket, or ended and was not told of yet.
    pub(super) fn is_running(&self, key: &ObjectKey) -> bool {
        self.tasks.contains_key(key)
    }

    /// Whether a task may be started for this ticket.
    pub(super) fn may_start(&self, key: &ObjectKey) -> bool {
        !self.is_running(key) && self.setbacks.may_try(key, Instant::now())
    }

    /// Starts a ticket's task, which hears of its changes.
    pub(super) fn start<F>(&mut self, key: &ObjectKey, task: impl FnOnce(signal::Receiver<u64>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let changed = signal::Sender::new(0);
        self.tasks.spawn(key.clone(), task(changed.subscribe()));
        self.changed.insert(key.clone(), changed);
    }

    /// Lets a ticket's task look again.
    pub(super) fn wake(&self, key: &ObjectKey) {
        if let Some(changed) = self.changed.get(key) {
            changed.send_modify(|count| *count += 1);
        }
    }

    /// The tickets whose tasks run.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.changed.keys()
    }

    /// Waits for a task to end; `None` while none runs. May be dropped at any time.
    pub(super) async fn next_ended(&mut self) -> Option<Ended> {
        let (key, ended) = self.tasks.join_next().await?;
        self.changed.remove(&key);
        Some(match ended {
            Ok(()) => {
                self.setbacks.forget(&key);
                Ended::Well(key)
            }
            Err(error) => {
                let (in_a_row, pause) = self.setbacks.failed(&key, Instant::now());
                Ended::BrokeDown { key, why: what_it_said(error), in_a_row, pause }
            }
        })
    }

    /// When the next pause is over.
    pub(super) fn next_restart(&self) -> Option<Instant> {
        self.setbacks.next_due()
    }

    /// The tickets whose pause is over.
    pub(super) fn take_restarts(&mut self) -> Vec<ObjectKey> {
        self.setbacks.take_due(Instant::now())
    }

    /// There is no such ticket any more.
    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.setbacks.forget(key);
    }
}

fn what_it_said(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panics::words(panic),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    /// What the dispatcher does, for a while.
    async fn supervise(incidents: &mut Incidents, begun: &Arc<AtomicU32>, during: Duration) -> Vec<(u32, Duration)> {
        let (end, mut seen) = (Instant::now() + during, Vec::new());
        loop {
            let restart = incidents.next_restart().unwrap_or(end).min(end);
            tokio::select! {
                Some(ended) = incidents.next_ended() => match ended {
                    Ended::BrokeDown { key, in_a_row, pause, .. } => {
                        assert!(!incidents.may_start(&key), "not before its pause is over");
                        seen.push((in_a_row, pause));
                    }
                    Ended::Well(key) => panic!("{key} ended"),
                },
                () = tokio::time::sleep_until(restart) => {
                    if Instant::now() >= end { return seen }
                    for key in incidents.take_restarts() {
                        assert!(incidents.may_start(&key));
                        start_failing(incidents, &key, begun);
                    }
                }
            }
        }
    }

    fn start_failing(incidents: &mut Incidents, key: &ObjectKey, begun: &Arc<AtomicU32>) {
        let begun = Arc::clone(begun);
        incidents.start(key, |_| async move {
            begun.fetch_add(1, Ordering::SeqCst);
            panic!("there is no such thing");
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_breaks_down_is_started_again_alone_after_pauses_that_grow() {
        let (mut incidents, begun, others) = (Incidents::default(), Arc::default(), Arc::new(AtomicU32::new(0)));
        for other in 0..75 {
            let others = Arc::clone(&others);
            incidents.start(&key(&format!("other-{other}")), |mut changed| async move {
                others.fetch_add(1, Ordering::SeqCst);
                let _ = changed.wait_for(|_| false).await;
            });
        }
        start_failing(&mut incidents, &key("a-1"), &begun);
        let seen = supervise(&mut incidents, &begun, Duration::from_secs(10)).await;
        assert_eq!(seen, [1, 2, 3, 4].map(|row| (row, Duration::from_secs(1 << (row - 1)))));
        assert_eq!(begun.load(Ordering::SeqCst), 4);
        assert_eq!((incidents.keys().count(), others.load(Ordering::SeqCst)), (75, 75));
        let an_hour = supervise(&mut incidents, &begun, Duration::from_hours(1)).await;
        assert!((10..20).contains(&an_hour.len()), "{}", an_hour.len());
    }

    #[tokio::test]
    async fn its_words_are_kept() {
        let mut incidents = Incidents::default();
        start_failing(&mut incidents, &key("a-1"), &Arc::default());
        let ended = incidents.next_ended().await;
        let Some(Ended::BrokeDown { why, .. }) = ended else { panic!("it broke down") };
        assert_eq!(why, "there is no such thing");
    }
}
