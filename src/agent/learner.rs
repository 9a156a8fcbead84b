//! Keeps the revisions that have become good. Beside the dispatcher, which waits for none of this: to see for itself that
//! everything holds may take as long as the slowest target.

use super::Context;
use super::baseline;
use super::setbacks::Setbacks;
use crate::crd::Invariant;
use crate::history::{ConfigHistory, Revision};
use crate::pods::{self, Version};
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::JoinMap;

/// Changes are gathered for so long before the baseline is looked at again.
const GATHER: Duration = Duration::from_millis(250);
/// What was not found to be good is looked at again after this, and after twice as long each time that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// ConfigMaps whose invariants are asked at once.
const AT_ONCE: usize = 4;

/// A revision that may be good, and what must hold for that.
struct Candidate {
    config: ObjectKey,
    revision: Arc<Revision>,
    group: Vec<Arc<Invariant>>,
    since: Timestamp,
}

/// Learns what is good.
pub(super) struct Learner {
    context: Arc<Context>,
    history: ConfigHistory,
    /// The resourceVersion of the data of each ConfigMap that was found to be good last.
    learned: HashMap<ObjectKey, String>,
    /// What is being kept; gives the resourceVersion that was.
    keeping: JoinMap<ObjectKey, Option<String>>,
    setbacks: Setbacks<ObjectKey>,
}

impl Learner {
    pub(super) fn new(context: Arc<Context>, history: ConfigHistory) -> Self {
        Self {
            context,
            history,
            learned: HashMap::new(),
            keeping: JoinMap::new(),
            setbacks: Setbacks::new(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// Learns for as long as it is not dropped.
    pub(super) async fn run(mut self) {
        let mut changed = self.context.changed.subscribe();
        let mut look_at = Some(Instant::now());
        loop {
            tokio::select! {
                () = self.context.board.changed() => {}
                Ok(()) = changed.changed() => {}
                Some((config, kept)) = self.keeping.join_next() => self.kept(config, kept.ok().flatten()),
                () = super::sleep_until(look_at) => { look_at = self.look(); continue }
            }
            let soon = Instant::now() + GATHER;
            look_at = Some(look_at.map_or(soon, |at| at.min(soon)));
        }
    }

    fn kept(&mut self, config: ObjectKey, resource_version: Option<String>) {
        match resource_version {
            Some(resource_version) => {
                self.setbacks.forget(&config);
                self.learned.insert(config, resource_version);
            }
            None => {
                self.setbacks.failed(&config, Instant::now());
            }
        }
    }

    /// Begins to keep the revisions that have become good, as many as there is room for; says when to look again.
    fn look(&mut self) -> Option<Instant> {
        let (mut candidates, ripens) = self.candidates(Timestamp::now());
        candidates.sort_by_key(|candidate| candidate.since);
        let room = AT_ONCE.saturating_sub(self.keeping.len());
        for candidate in candidates.into_iter().take(room) {
            let (context, history) = (Arc::clone(&self.context), self.history.clone());
            self.keeping.spawn(candidate.config.clone(), async move {
                keep(&context, &history, &candidate).await.then(|| candidate.revision.data_version.clone())
            });
        }
        self.setbacks.take_due(Instant::now());
        [ripens, self.setbacks.next_due()].into_iter().flatten().min()
    }

    /// What may be good now, and when the next one ripens.
    fn candidates(&self, now: Timestamp) -> (Vec<Candidate>, Option<Instant>) {
        let (mut found, mut next) = (Vec::new(), None::<Timestamp>);
        for config in self.context.board.config_maps() {
            let Some(revision) = self.history.latest(&config) else { continue };
            let rests = self.learned.get(&config) == Some(&revision.data_version)
                || self.keeping.contains_key(&config)
                || self.context.claims.is_claimed(&config)
                || !self.setbacks.may_try(&config, Instant::now());
            if rests {
                continue;
            }
            let state = self.context.board.lock();
            let group = baseline::group(&config, &state.invariants);
            match baseline::ripe(revision.seen_at, &group, &state.runs, self.context.settings.good_after) {
                Some(since) if since <= now => {
                    let group = group.into_iter().cloned().collect();
                    found.push(Candidate { config, revision, group, since });
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        let wait = next.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        (found, wait.map(|wait| Instant::now() + wait))
    }
}

/// Keeps a revision as good, if every pod is known to run it for long enough, everything holds at this very moment, and
/// it is still there then.
async fn keep(context: &Context, history: &ConfigHistory, candidate: &Candidate) -> bool {
    let Candidate { config, revision, group, since: _ } = candidate;
    let now = Timestamp::now();
    if !is_run_long_enough(context, candidate, now).await || !baseline::holds_now(&context.prober, group).await {
        return false;
    }
    if !history.latest(config).is_some_and(|latest| latest.is_same_data(revision)) {
        return false;
    }
    let kept = baseline::keep(&context.client, config, revision, now).await;
    kept.inspect_err(|error| {
        tracing::warn!(%config, %error, "a good revision is not kept yet; it is tried again");
    })
    .is_ok()
}

/// Whether everything held for long enough since the last pod that takes the ConfigMap runs this revision of it.
async fn is_run_long_enough(context: &Context, candidate: &Candidate, now: Timestamp) -> bool {
    let Candidate { config, revision, group, since: _ } = candidate;
    let pods = match pods::all(&context.client, &config.namespace).await {
        Ok(pods) => pods,
        Err(error) => {
            tracing::warn!(%config, %error, "the pods cannot be listed; the revision is not kept yet");
            return false;
        }
    };
    let run_since = match pods::run_by_all_since(&pods, Version::of(&config.name, revision)) {
        Ok(run_since) => run_since,
        Err(pod) => {
            let pod = pod.name_any();
            tracing::debug!(%config, pod, "it is not known that this pod runs the revision, which is not kept yet");
            return false;
        }
    };
    let group: Vec<&Arc<Invariant>> = group.iter().collect();
    let runs = &context.board.lock().runs;
    baseline::ripe(run_since, &group, runs, context.settings.good_after).is_some_and(|at| at <= now)
}
