//! One of several processes works at a time: the one that holds a Lease (`coordination.k8s.io`), which all of them see.
//!
//! Of our own, because the crates there are (kube-lease-manager, kubert) judge a lease by the wall clock of whoever wrote
//! it, and do not tell its holder until when it may act. Here, as in client-go, another's lease is over when it was not
//! renewed for its duration by the watcher's own clock; and the holder's permit is over earlier than that by the clock of
//! the holder, counted from before the renewal was sent. So clocks need not agree, only run at about the same speed.
//!
//! A request that was sent in time may still arrive late. That is why a lease alone guards nothing: each write tests the
//! version that it was decided on, and whoever takes over writes first to what its predecessor might write to.

mod keeper;
mod permit;

pub use permit::Permit;

use crate::panics;
use keeper::Keeper;
use kube::Client;
use std::fmt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a lease is valid that its holder does not renew.
pub const DURATION: Duration = Duration::from_secs(15);

/// The most that a process's name takes of its host's, in characters; a pod's name is mostly shorter.
const MAX_HOST: usize = 100;

/// A lease, and who wants it.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// The namespace of the lease: the harness's own.
    pub namespace: String,
    /// The name of the lease.
    pub name: &'static str,
    /// How long it is valid without being renewed; whole seconds, at least 3.
    pub duration: Duration,
}

impl LeaseSettings {
    /// How long a permit lasts, counted from before its renewal: well shorter than the others wait.
    fn permitted(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// Between two looks at the lease. Two may fail before a permit is over.
    fn period(&self) -> Duration {
        self.duration / 5
    }

    /// How long one look may take.
    fn deadline(&self) -> Duration {
        self.duration / 3
    }
}

impl fmt::Display for LeaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How a process stands to a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not known yet, or not any more.
    Unknown {
        /// Why.
        why: String,
    },
    /// Another process holds it; this one waits.
    StandsBy {
        /// Who holds it.
        holder: String,
    },
    /// This process holds it.
    Holds,
}

/// A name for this process that no other has: that of its host, which is that of its pod, and something random.
pub fn identity() -> String {
    let host: String = rustix::system::uname().nodename().to_string_lossy().chars().take(MAX_HOST).collect();
    format!("{host}_{:08x}", fastrand::u32(..))
}

/// Works for as long as this process holds the lease, and waits while it does not, until `shutdown` or until the work
/// ends by itself. The work is told to stop when the lease is lost, and begins anew when it is held again; it must have
/// stopped all it began when it returns.
pub async fn work_under<F, E>(
    client: Client,
    settings: LeaseSettings,
    report: impl Fn(&Standing) + Send + Sync + Clone + 'static,
    shutdown: CancellationToken,
    mut work: impl FnMut(Permit, CancellationToken) -> F,
) -> Result<(), E>
where
    F: Future<Output = Result<(), E>>,
{
    let identity = identity();
    loop {
        let mut keeper = Keeper::new(client.clone(), settings.clone(), identity.clone(), report.clone());
        let won = tokio::select! {
            () = keeper.win() => true,
            () = shutdown.cancelled() => false,
        };
        if !won {
            return Ok(());
        }
        let (term, over) = (shutdown.child_token(), CancellationToken::new());
        let permit = keeper.permit();
        let kept = tokio::spawn(panics::caught(keeper.keep(term.clone(), over.clone())));
        // Whatever becomes of this future, the lease is kept no longer.
        let over = over.drop_guard();
        let result = work(permit, term.clone()).await;
        drop(over);
        // It was released, if it was still held: the next one need not wait.
        if let Ok(Err(why)) = kept.await {
            tracing::error!(why, "the keeper of the lease broke down, a defect of the harness");
        }
        if result.is_err() || shutdown.is_cancelled() || !term.is_cancelled() {
            return result;
        }
    }
}
