//! Connections that are kept for the next question.

use super::connecting::Link;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// Connections kept to one host and port while nobody asks over them.
const KEPT_PER_HOST: usize = 4;
/// How long such a connection is kept. Not for ever, so that a name that moved is noticed.
const KEPT_IDLE: Duration = Duration::from_mins(2);

type Idle = HashMap<String, Vec<(Instant, Link)>>;

/// Connections over which nobody asks. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Idle>>);

impl Kept {
    /// A connection to one of these addresses.
    pub(super) fn take(&self, url: &Url, addresses: &[IpAddr]) -> Option<Link> {
        let mut idle = self.lock();
        let links = idle.get_mut(&origin(url))?;
        links.retain(|(since, link)| is_fresh(*since, link));
        let at = links.iter().position(|(_, link)| addresses.contains(&link.peer))?;
        Some(links.swap_remove(at).1)
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(&self, url: &Url, link: Link) {
        let mut idle = self.lock();
        // Those to hosts of which nobody asks any more go, too.
        idle.retain(|_, links| {
            links.retain(|(since, link)| is_fresh(*since, link));
            !links.is_empty()
        });
        let links = idle.entry(origin(url)).or_default();
        if links.len() < KEPT_PER_HOST {
            links.push((Instant::now(), link));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_fresh(since: Instant, link: &Link) -> bool {
    since.elapsed() < KEPT_IDLE && !link.is_closed()
}

fn origin(url: &Url) -> String {
    url[..url::Position::BeforePath].to_owned()
}
