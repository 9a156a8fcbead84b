//! Keeps the revisions that have become good. Beside the dispatcher, which waits for none of this: to see for itself that
//! everything holds may take as long as the slowest target.

use super::Context;
use super::baseline;
use super::setbacks::Setbacks;
use super::target::{self, kind_name};
use crate::crd::{Invariant, Workload};
use crate::history::{ConfigHistory, Revision};
use crate::pods::{self, Version};
use crate::watch::ObjectKey;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
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

/// A state that may be good, and what must hold for that.
struct Candidate {
    key: ObjectKey,
    what: What,
    group: Vec<Arc<Invariant>>,
    since: Timestamp,
}

/// What may be good.
enum What {
    /// A revision of a ConfigMap.
    Config(Arc<Revision>),
    /// A workload as it is now, and when it was seen first at which generation.
    Workload(Workload, Option<Sighting>),
}

/// A workload was seen with all its pods as its spec says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sighting {
    generation: i64,
    at: Timestamp,
}

/// What came of a look at a candidate.
enum Found {
    /// The revision of a ConfigMap with this resourceVersion is kept.
    Config(String),
    /// The workload is kept as it was seen then.
    Workload(Sighting),
    /// The workload is as its spec says, but not for long enough yet.
    Sighted(Sighting),
}

/// Learns what is good.
pub(super) struct Learner {
    context: Arc<Context>,
    history: ConfigHistory,
    /// The resourceVersion of the data of each ConfigMap that was found to be good last.
    learned: HashMap<ObjectKey, String>,
    /// When each workload was first seen as it is now.
    sighted: HashMap<ObjectKey, Sighting>,
    /// When each workload is looked at again: nothing tells of its changes.
    look_again: HashMap<ObjectKey, Instant>,
    /// What is being kept.
    keeping: JoinMap<ObjectKey, Option<Found>>,
    setbacks: Setbacks<ObjectKey>,
}

impl Learner {
    pub(super) fn new(context: Arc<Context>, history: ConfigHistory) -> Self {
        Self {
            context,
            history,
            learned: HashMap::new(),
            sighted: HashMap::new(),
            look_again: HashMap::new(),
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
                Some((key, found)) = self.keeping.join_next() => self.kept(key, found.ok().flatten()),
                () = super::sleep_until(look_at) => { look_at = self.look(); continue }
            }
            let soon = Instant::now() + GATHER;
            look_at = Some(look_at.map_or(soon, |at| at.min(soon)));
        }
    }

    fn kept(&mut self, key: ObjectKey, found: Option<Found>) {
        match found {
            Some(Found::Config(data_version)) => {
                self.setbacks.forget(&key);
                self.learned.insert(key, data_version);
            }
            Some(Found::Workload(sighting)) => {
                self.setbacks.forget(&key);
                let pause = self.context.settings.good_after.max(GATHER);
                self.look_again.insert(key.clone(), Instant::now() + pause);
                self.sighted.insert(key, sighting);
            }
            Some(Found::Sighted(sighting)) => {
                self.sighted.insert(key.clone(), sighting);
                self.setbacks.failed(&key, Instant::now());
            }
            None => {
                self.setbacks.failed(&key, Instant::now());
            }
        }
    }

    /// Begins to keep what has become good, as much as there is room for; says when to look again.
    fn look(&mut self) -> Option<Instant> {
        let now = Timestamp::now();
        let (mut candidates, ripens) = self.candidates(now);
        let workloads_ripen = self.add_workloads(now, &mut candidates);
        candidates.sort_by_key(|candidate| candidate.since);
        let room = AT_ONCE.saturating_sub(self.keeping.len());
        for candidate in candidates.into_iter().take(room) {
            let (context, history) = (Arc::clone(&self.context), self.history.clone());
            self.keeping.spawn(candidate.key.clone(), async move { keep(&context, &history, &candidate).await });
        }
        self.setbacks.take_due(Instant::now());
        let looks = self.look_again.values().copied().min();
        [ripens, workloads_ripen, self.setbacks.next_due(), looks].into_iter().flatten().min()
    }

    /// What may be good now, and when the next one ripens.
    fn candidates(&self, now: Timestamp) -> (Vec<Candidate>, Option<Instant>) {
        let (mut found, mut next) = (Vec::new(), None::<Timestamp>);
        for config in self.context.board.config_maps() {
            let Some(revision) = self.history.latest(&config) else { continue };
            if self.learned.get(&config) == Some(&revision.data_version) || self.rests(&config) {
                continue;
            }
            let state = self.context.board.lock();
            let group = baseline::group(&config, &state.invariants);
            match baseline::ripe(revision.seen_at, &group, &state.runs, self.context.settings.good_after) {
                Some(since) if since <= now => {
                    let group = group.into_iter().cloned().collect();
                    found.push(Candidate { key: config, what: What::Config(revision), group, since });
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        (found, until(next, now))
    }

    /// Adds the workloads about which everything holds for long enough; says when the next one ripens.
    fn add_workloads(&mut self, now: Timestamp, candidates: &mut Vec<Candidate>) -> Option<Instant> {
        self.look_again.retain(|_, at| *at > Instant::now());
        let mut next = None::<Timestamp>;
        for (key, workload) in self.context.board.workloads() {
            if self.look_again.contains_key(&key) || self.rests(&key) {
                continue;
            }
            let state = self.context.board.lock();
            let group = baseline::group_of_workload(&key.namespace, &workload, &state.invariants);
            let ripe = baseline::ripe(Timestamp::MIN, &group, &state.runs, self.context.settings.good_after);
            match ripe {
                Some(since) if since <= now => {
                    let group = group.into_iter().cloned().collect();
                    let what = What::Workload(workload, self.sighted.get(&key).copied());
                    candidates.push(Candidate { key, what, group, since });
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        until(next, now)
    }

    /// Whether a candidate is being looked at, worked on by a ticket, or was no good a moment ago.
    fn rests(&self, key: &ObjectKey) -> bool {
        self.keeping.contains_key(key)
            || self.context.claims.is_claimed(key)
            || !self.setbacks.may_try(key, Instant::now())
    }
}

/// The moment at which that time comes.
fn until(at: Option<Timestamp>, now: Timestamp) -> Option<Instant> {
    let wait = Duration::try_from(at?.duration_since(now)).ok()?;
    Some(Instant::now() + wait)
}

/// Keeps what is good as such, if everything holds at this very moment.
async fn keep(context: &Context, history: &ConfigHistory, candidate: &Candidate) -> Option<Found> {
    let kept = match &candidate.what {
        What::Config(revision) => keep_config(context, history, candidate, revision).await,
        What::Workload(workload, sighting) => keep_workload(context, candidate, workload, *sighting).await,
    };
    kept.unwrap_or_else(|error| {
        let object = &candidate.key;
        tracing::warn!(%object, %error, "what is good of it is not kept yet; it is tried again");
        None
    })
}

/// Keeps a revision, if every pod is known to run it for long enough and it is still there.
async fn keep_config(
    context: &Context,
    history: &ConfigHistory,
    candidate: &Candidate,
    revision: &Arc<Revision>,
) -> Result<Option<Found>, kube::Error> {
    let (config, now) = (&candidate.key, Timestamp::now());
    let pods = pods::all(&context.client, &config.namespace).await?;
    let run_since = match pods::run_by_all_since(&pods, Version::of(&config.name, revision)) {
        Ok(run_since) => run_since,
        Err(pod) => {
            let pod = pod.name_any();
            tracing::debug!(%config, pod, "it is not known that this pod runs the revision, which is not kept yet");
            return Ok(None);
        }
    };
    if !is_ripe(context, candidate, run_since, now) || !baseline::holds_now(&context.prober, &candidate.group).await {
        return Ok(None);
    }
    if !history.latest(config).is_some_and(|latest| latest.is_same_data(revision)) {
        return Ok(None);
    }
    baseline::keep(&context.client, config, revision, now).await?;
    Ok(Some(Found::Config(revision.data_version.clone())))
}

/// Keeps a workload as it is, if it was seen like this, all its pods as its spec says, for long enough.
async fn keep_workload(
    context: &Context,
    candidate: &Candidate,
    workload: &Workload,
    sighting: Option<Sighting>,
) -> Result<Option<Found>, kube::Error> {
    let (namespace, now) = (&candidate.key.namespace, Timestamp::now());
    let read = || context.executor.read(namespace, kind_name(workload.kind), &workload.name);
    let Some(object) = read().await?.filter(target::is_rolled_out) else { return Ok(None) };
    let generation = object.metadata.generation.unwrap_or_default();
    let Some(sighting) = sighting.filter(|seen| seen.generation == generation) else {
        return Ok(Some(Found::Sighted(Sighting { generation, at: now })));
    };
    if !is_ripe(context, candidate, sighting.at, now) {
        return Ok(Some(Found::Sighted(sighting)));
    }
    if !baseline::holds_now(&context.prober, &candidate.group).await {
        return Ok(None);
    }
    let is_same = |it: &DynamicObject| it.metadata.generation == object.metadata.generation;
    if !read().await?.is_some_and(|it| is_same(&it)) {
        return Ok(None);
    }
    baseline::workload::keep(&context.client, namespace, workload, &object, now).await?;
    Ok(Some(Found::Workload(sighting)))
}

/// Whether everything held for long enough since the candidate is run.
fn is_ripe(context: &Context, candidate: &Candidate, run_since: Timestamp, now: Timestamp) -> bool {
    let group: Vec<&Arc<Invariant>> = candidate.group.iter().collect();
    let runs = &context.board.lock().runs;
    baseline::ripe(run_since, &group, runs, context.settings.good_after).is_some_and(|at| at <= now)
}
