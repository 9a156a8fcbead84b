//! Judges answers. What may take long is judged on a thread of its own, so that nobody's next check waits for it: whoever
//! writes an invariant, or answers its question, says how long that takes.
//!
//! The namespaces take turns, and each may have a few answers waiting. An answer for which there is no room is not judged:
//! nothing is known of its invariant until the next one.

use super::record::{Findings, Judged};
use crate::crd::VerdictName;
use crate::panics;
use crate::probe::{self, Blindness, BlindnessReason, Condition, Observation, Reading, Sample, Value, Verdict};
use crate::redact;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most of an answer's body that is kept as evidence, in characters.
const KEPT_BODY: usize = 1024;
/// A longer body is redacted off the loop. Bytes.
const SHORT_BODY: usize = 1024;
/// The most answers of one namespace, and of all, that wait to be judged.
const WAITING_OF_ONE: usize = 64;
const WAITING: usize = 256;
/// How much lower the priority of the thread is; as for nice(1).
const NICENESS: i32 = 10;
/// How long an answer waits at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// The thread that judges. It ends when this is dropped.
pub(super) struct Evaluator(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

/// What waits to be judged. Pure.
struct Queue<T = Job> {
    lanes: HashMap<String, VecDeque<T>>,
    turns: VecDeque<String>,
    waiting: usize,
    closed: bool,
}

struct Job {
    sample: Sample,
    condition: Arc<Condition>,
    reply: oneshot::Sender<Judged>,
}

impl Evaluator {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new().name("conditions".to_owned()).spawn(move || theirs.serve())?;
        Ok(Self(shared))
    }

    /// Judges a sample of a namespace: at once, if that is a matter of microseconds.
    pub(super) async fn judge(&self, namespace: &str, condition: Arc<Condition>, sample: Sample) -> Judged {
        if let Some(judged) = at_once(&sample, &condition) {
            return judged;
        }
        let (started_at, took) = (sample.started_at, sample.took);
        let (reply, judged) = oneshot::channel();
        let job = Job { sample, condition: Arc::clone(&condition), reply };
        let is_taken = self.0.lock().add(namespace, job);
        self.0.news.notify_one();
        let judged = async { if is_taken { judged.await.ok() } else { None } };
        if let Ok(Some(judged)) = tokio::time::timeout(PATIENCE, judged).await {
            return judged;
        }
        let message = "the answer was not judged: too many others wait to be";
        let blindness = Blindness::new(BlindnessReason::OwnResources, message);
        in_words(&Sample { started_at, took, observation: Observation::Unknown(blindness) }, &condition)
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.news.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self) {
        step_back();
        while let Some(Job { sample, condition, reply }) = self.next() {
            // Whoever waited for it may have gone.
            if reply.is_closed() {
                continue;
            }
            let judged = panics::caught_now(|| in_words(&sample, &condition))
                .unwrap_or_else(|why| in_words(&Sample::defect(&why), &condition));
            let _ = reply.send(judged);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.take() {
                return Some(job);
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Where the processor is short, the loop goes first.
fn step_back() {
    let this_thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(this_thread), NICENESS) {
        tracing::debug!(%error, "conditions are judged with the same priority as the rest");
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), turns: VecDeque::new(), waiting: 0, closed: false }
    }
}

impl<T> Queue<T> {
    /// Adds a job, if there is room.
    fn add(&mut self, namespace: &str, job: T) -> bool {
        let waiting = self.lanes.get(namespace).map_or(0, VecDeque::len);
        if waiting >= WAITING_OF_ONE || self.waiting >= WAITING {
            return false;
        }
        if waiting == 0 {
            self.turns.push_back(namespace.to_owned());
        }
        self.lanes.entry(namespace.to_owned()).or_default().push_back(job);
        self.waiting += 1;
        true
    }

    /// The next job of the namespace whose turn it is.
    fn take(&mut self) -> Option<T> {
        let namespace = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&namespace)?;
        let job = lane.pop_front()?;
        self.waiting -= 1;
        if lane.is_empty() {
            self.lanes.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        Some(job)
    }
}

/// Judges a sample, unless that may take long.
fn at_once(sample: &Sample, condition: &Condition) -> Option<Judged> {
    let Observation::Measured(measurement) = &sample.observation else { return Some(in_words(sample, condition)) };
    if condition.is_costly(measurement) {
        return None;
    }
    let judgement = probe::judge(sample, condition);
    let is_short = judgement.verdict == Verdict::Holds || measurement.body.len() <= SHORT_BODY;
    is_short.then(|| put(sample, judgement, condition))
}

fn in_words(sample: &Sample, condition: &Condition) -> Judged {
    put(sample, probe::judge(sample, condition), condition)
}

/// A judgement as it is remembered, with its words if it does not hold.
fn put(sample: &Sample, judgement: probe::Judgement, condition: &Condition) -> Judged {
    let findings = (judgement.verdict != Verdict::Holds)
        .then(|| Findings { observed: redact::line(&judgement.explanation(condition), 1024), body: body(sample) });
    Judged {
        started_at: sample.started_at,
        verdict: match judgement.verdict {
            Verdict::Holds => VerdictName::Holds,
            Verdict::Breached => VerdictName::Breached,
            Verdict::Unknown => VerdictName::Unknown,
        },
        reading: match judgement.reading {
            Reading::Value(Value::Text(text)) => Reading::Value(Value::Text(redact::line(&text, 256))),
            reading => reading,
        },
        findings: findings.map(Box::new),
        latency_milliseconds: u32::try_from(sample.took.as_micros().div_ceil(1000)).unwrap_or(u32::MAX),
    }
}

fn body(sample: &Sample) -> Option<String> {
    match &sample.observation {
        Observation::Measured(measurement) if !measurement.body.is_empty() => {
            Some(redact::excerpt(&measurement.body, KEPT_BODY))
        }
        Observation::Measured(_) | Observation::Failed(_) | Observation::Unknown(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Measurement;
    use jiff::Timestamp;
    use std::collections::BTreeMap;

    fn sample(body: &str) -> Sample {
        let took = Duration::from_millis(3);
        let measurement = Measurement {
            value: Value::Number(200.0),
            status: Some(200),
            latency: took,
            body: body.to_owned(),
            labels: BTreeMap::new(),
        };
        Sample { started_at: Timestamp::UNIX_EPOCH, took, observation: Observation::Measured(measurement) }
    }

    fn condition(text: &str) -> Arc<Condition> {
        Arc::new(Condition::parse(text).unwrap())
    }

    #[test]
    fn namespaces_take_turns_whoever_has_more_to_judge() {
        let mut queue = Queue::default();
        for number in 0..10 {
            assert!(queue.add("greedy", format!("greedy-{number}")));
        }
        assert!(queue.add("modest", "modest-0".to_owned()) && queue.add("other", "other-0".to_owned()));
        let judged: Vec<String> = std::iter::from_fn(|| queue.take()).collect();
        assert_eq!(judged[..4], ["greedy-0", "modest-0", "other-0", "greedy-1"]);
        assert_eq!((judged.len(), queue.waiting, queue.lanes.len()), (12, 0, 0));
    }

    #[test]
    fn a_namespace_that_waits_for_much_is_refused_more_and_others_are_not() {
        let mut queue = Queue::default();
        assert_eq!((0..1000).filter(|number| queue.add("greedy", *number)).count(), WAITING_OF_ONE);
        assert!(queue.add("modest", 0));
        for namespace in 0..1000 {
            queue.add(&format!("{namespace}"), 0);
        }
        assert_eq!(queue.waiting, WAITING);
    }

    #[tokio::test]
    async fn what_takes_long_is_judged_as_what_does_not() {
        let evaluator = Evaluator::start().unwrap();
        let secret = format!("password=hunter2\n{}", "x".repeat(40_000));
        for (text, body, verdict) in [
            ("== 200", "", VerdictName::Holds),
            ("== 500", "password=hunter2", VerdictName::Breached),
            ("== 500", &secret, VerdictName::Breached),
            ("body.matches('^password')", &secret, VerdictName::Holds),
            ("body.matches('[0-9]x+[^x]')", &secret, VerdictName::Breached),
            ("body", &secret, VerdictName::Unknown),
        ] {
            let judged = evaluator.judge("shop", condition(text), sample(body)).await;
            assert_eq!(judged.verdict, verdict, "{text}");
            let said = judged.findings.as_ref().and_then(|findings| findings.body.as_deref()).unwrap_or_default();
            assert!(!said.contains("hunter2") && said.chars().count() <= KEPT_BODY, "{said}");
        }
    }

    #[tokio::test]
    async fn an_answer_for_which_there_is_no_room_is_neither_a_pass_nor_a_breach() {
        let evaluator = Evaluator(Arc::default());
        let mut waiting = Vec::new();
        for _ in 0..WAITING_OF_ONE {
            let (reply, judged) = oneshot::channel();
            let job = Job { sample: sample(""), condition: condition("true"), reply };
            assert!(evaluator.0.lock().add("greedy", job));
            waiting.push(judged);
        }
        let judged = evaluator.judge("greedy", condition("body.matches('x')"), sample("x")).await;
        assert_eq!(judged.verdict, VerdictName::Unknown);
        assert_eq!(judged.reading, Reading::Unknown(BlindnessReason::OwnResources));
    }
}
