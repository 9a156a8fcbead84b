//! The invariants on the real API server, and the tickets that come of them.

use crate::operator::{INTERVAL, NAMESPACE};
use crate::target::Target;
use futures::{StreamExt, TryStreamExt, stream};
use harness::crd::{Invariant, Ticket};
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Requests under way at once.
const AT_ONCE: usize = 24;
/// Consecutive breaches that open a ticket.
const THRESHOLD: u32 = 2;
/// How long a ticket may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Creates the invariants of these paths, checked so often.
pub(crate) async fn create(client: &Client, target: &Target, paths: Range<usize>, interval: Duration) {
    let api: Api<Invariant> = Api::namespaced(client.clone(), NAMESPACE);
    let created = stream::iter(paths).map(|path| {
        let api = api.clone();
        let query = target.url(path);
        async move {
            let invariant: Invariant = serde_json::from_value(json!({
                "apiVersion": "harness.dev/v1alpha1", "kind": "Invariant", "metadata": { "name": name(path) },
                "spec": {
                    "query": query, "condition": "== 200", "interval": format!("{}s", interval.as_secs()),
                    "failureThreshold": THRESHOLD,
                },
            }))
            .unwrap();
            api.create(&PostParams::default(), &invariant).await.map(drop)
        }
    });
    created.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.unwrap();
}

/// The invariant of a path.
pub(crate) fn name(path: usize) -> String {
    format!("path-{path}")
}

/// How many tickets there are.
pub(crate) async fn tickets(client: &Client) -> usize {
    Api::<Ticket>::namespaced(client.clone(), NAMESPACE).list(&ListParams::default()).await.unwrap().items.len()
}

/// Breaks so many paths one after the other, spread over `time`, and waits for the ticket of each in a watch. Gives how
/// long each took beyond interval × threshold, in order; milliseconds, less than 0 where it was sooner.
pub(crate) async fn detect(client: &Client, target: &Target, faults: usize, of: usize, time: Duration) -> Vec<f64> {
    let api: Api<Ticket> = Api::namespaced(client.clone(), NAMESPACE);
    let mut events = Box::pin(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
    let mut visible: HashMap<String, Instant> = HashMap::new();
    let mut broken: HashMap<String, Instant> = HashMap::new();
    let mut ticks = tokio::time::interval(time / u32::try_from(faults).unwrap());
    let began = Instant::now();
    while visible.len() < faults {
        assert!(began.elapsed() < time + PATIENCE, "{} of {faults} tickets came", visible.len());
        tokio::select! {
            _ = ticks.tick(), if broken.len() < faults => {
                // Spread over all of them, and so over the interval.
                let path = broken.len() * (of / faults);
                target.set_broken(path, true);
                broken.insert(name(path), Instant::now());
            }
            Some(Ok(ticket)) = events.next() => {
                visible.entry(ticket.spec.invariant_ref.name).or_insert_with(Instant::now);
            }
        }
    }
    let least = INTERVAL * THRESHOLD;
    let late = |(name, at): (&String, &Instant)| {
        (visible[name].duration_since(*at).as_secs_f64() - least.as_secs_f64()) * 1000.0
    };
    let mut beyond: Vec<f64> = broken.iter().map(late).collect();
    beyond.sort_by(f64::total_cmp);
    beyond
}
