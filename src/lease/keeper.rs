//! Takes the lease, renews it, and lets go of it. Touches the world through that one object.

use super::permit::{Deadline, Permit};
use super::{LeaseSettings, Standing};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as signal;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Another's lease is not waited for longer than this, whatever it says of itself.
const LONGEST: Duration = Duration::from_mins(1);

/// A state of the lease, and since when it is like this, by this process's own clock.
#[derive(Debug)]
struct Seen {
    version: Option<String>,
    since: Instant,
}

/// What follows from a look at the lease.
#[derive(Debug, PartialEq)]
enum Move {
    Create(Box<Lease>),
    Replace(Box<Lease>),
    Wait { holder: String },
}

/// Keeps one lease for one process.
pub(super) struct Keeper<R> {
    api: Api<Lease>,
    settings: LeaseSettings,
    until: signal::Sender<Option<Deadline>>,
    identity: Arc<str>,
    seen: Option<Seen>,
    /// The lease as this process wrote it last: mostly nobody else did since.
    written: Option<Lease>,
    standing: Option<Standing>,
    report: R,
}

impl<R: Fn(&Standing)> Keeper<R> {
    pub(super) fn new(client: Client, settings: LeaseSettings, identity: String, report: R) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            until: signal::Sender::new(None),
            identity: identity.into(),
            seen: None,
            written: None,
            standing: None,
            report,
        }
    }

    pub(super) fn permit(&self) -> Permit {
        Permit { identity: Arc::clone(&self.identity), until: self.until.subscribe() }
    }

    /// Returns when the lease is held.
    pub(super) async fn win(&mut self) {
        while self.turn().await != Standing::Holds {
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Renews the lease until the work is `over`, and lets go of it then. Ends the `term` when the lease is lost.
    pub(super) async fn keep(mut self, term: CancellationToken, over: CancellationToken) {
        let term = term.drop_guard();
        loop {
            let end = self.until.borrow().map_or_else(Instant::now, |deadline| deadline.monotonic);
            tokio::select! {
                biased;
                () = over.cancelled() => break,
                () = tokio::time::sleep_until(end) => {
                    self.until.send_replace(None);
                    tracing::warn!(lease = %self.settings, "the lease could not be renewed in time: nothing is written any more until it is held again");
                    break;
                }
                standing = async { tokio::time::sleep(self.pause()).await; self.turn().await } => {
                    if let Standing::StandsBy { holder } = standing {
                        self.until.send_replace(None);
                        tracing::warn!(lease = %self.settings, holder, "the lease was lost: nothing is written any more until it is held again");
                        break;
                    }
                }
            }
        }
        drop(term);
        over.cancelled().await;
        self.release().await;
    }

    /// Takes or renews the lease, if it can be.
    async fn turn(&mut self) -> Standing {
        let deadline = Deadline::after(self.settings.permitted());
        let standing = match timeout(self.settings.deadline(), self.look()).await {
            Ok(Ok(Standing::Holds)) => {
                self.until.send_replace(Some(deadline));
                Standing::Holds
            }
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => Standing::Unknown { why: error.to_string() },
            Err(_) => Standing::Unknown { why: "the API server does not answer".to_owned() },
        };
        self.say(&standing);
        standing
    }

    fn say(&mut self, standing: &Standing) {
        // While the permit lasts, a look that failed is nothing to speak of.
        if matches!(standing, Standing::Unknown { .. }) && self.permit().holds() {
            return;
        }
        (self.report)(standing);
        if self.standing.as_ref() == Some(standing) {
            return;
        }
        let lease = &self.settings;
        match standing {
            Standing::Holds => {
                tracing::info!(%lease, identity = &*self.identity, "this process holds the lease and works");
            }
            Standing::StandsBy { holder } => {
                tracing::info!(%lease, holder, "another process holds the lease and works; this one stands by");
            }
            Standing::Unknown { why } => tracing::warn!(%lease, why, "the lease cannot be taken; it is tried again"),
        }
        self.standing = Some(standing.clone());
    }

    /// Looks at the lease, and writes what follows. Whoever was faster is looked at again.
    async fn look(&mut self) -> Result<Standing, kube::Error> {
        let parameters = PostParams { field_manager: Some("harness-lease".to_owned()), ..PostParams::default() };
        loop {
            let found = match self.written.take() {
                Some(written) => Some(written),
                None => self.api.get_opt(self.settings.name).await?,
            };
            let unchanged_for = self.unchanged_for(found.as_ref());
            let written = match next(found, unchanged_for, &self.identity, &self.settings, Timestamp::now()) {
                Move::Wait { holder } => return Ok(Standing::StandsBy { holder }),
                Move::Create(lease) => self.api.create(&parameters, &lease).await,
                Move::Replace(lease) => self.api.replace(self.settings.name, &parameters, &lease).await,
            };
            match written {
                Ok(written) => {
                    self.written = Some(written);
                    return Ok(Standing::Holds);
                }
                // Somebody else wrote, or an earlier write of ours was done whose answer was lost.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// For how long the lease has been like this, by this process's own clock.
    fn unchanged_for(&mut self, found: Option<&Lease>) -> Duration {
        let version = found.and_then(ResourceExt::resource_version);
        match &self.seen {
            Some(seen) if seen.version == version => seen.since.elapsed(),
            Some(_) | None => {
                self.seen = Some(Seen { version, since: Instant::now() });
                Duration::ZERO
            }
        }
    }

    /// Lets go of the lease, if it is held; a failure costs the next one some waiting.
    async fn release(mut self) {
        let held = self.permit().holds();
        self.until.send_replace(None);
        let Some(mut lease) = self.written.take().filter(|_| held) else { return };
        if let Some(spec) = &mut lease.spec {
            (spec.holder_identity, spec.lease_duration_seconds) = (Some(String::new()), Some(1));
        }
        let parameters = PostParams::default();
        let released = self.api.replace(self.settings.name, &parameters, &lease);
        match timeout(self.settings.deadline(), released).await {
            Ok(Ok(_)) => tracing::info!(lease = %self.settings, "the lease was released"),
            Ok(Err(error)) => tracing::warn!(lease = %self.settings, %error, "the lease is not released; it expires"),
            Err(_) => tracing::warn!(lease = %self.settings, "the lease is not released; it expires"),
        }
    }

    /// Not in step with others.
    fn pause(&self) -> Duration {
        self.settings.period().mul_f64(0.9 + fastrand::f64() * 0.2)
    }
}

/// What to do about a lease that has been like this for so long. Pure.
fn next(
    found: Option<Lease>,
    unchanged_for: Duration,
    identity: &str,
    settings: &LeaseSettings,
    now: Timestamp,
) -> Move {
    let name = settings.name.to_owned();
    let exists = found.is_some();
    let mut lease = found
        .unwrap_or_else(|| Lease { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec: None });
    let spec = lease.spec.get_or_insert_default();
    let holder = spec.holder_identity.clone().unwrap_or_default();
    let is_ours = holder == identity;
    let valid =
        u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).map_or(Duration::ZERO, Duration::from_secs);
    if !is_ours && !holder.is_empty() && unchanged_for < valid.clamp(Duration::from_secs(1), LONGEST) {
        return Move::Wait { holder };
    }
    let transitions = spec.lease_transitions.unwrap_or_default();
    *spec = LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(settings.duration.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        acquire_time: if is_ours { spec.acquire_time.take() } else { Some(MicroTime(now)) },
        lease_transitions: Some(if is_ours || !exists { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    };
    lease.metadata.managed_fields = None;
    if exists { Move::Replace(Box::new(lease)) } else { Move::Create(Box::new(lease)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: LeaseSettings =
        LeaseSettings { namespace: String::new(), name: "harness-agent", duration: Duration::from_secs(15) };

    fn lease(holder: &str, seconds: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            lease_transitions: Some(3),
            // Long ago, by a clock that is wrong.
            renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        };
        Lease { spec: Some(spec), ..Lease::default() }
    }

    fn after(found: Option<Lease>, seconds: u64) -> Result<(bool, i32), String> {
        let spec = |lease: Lease| lease.spec.unwrap();
        match next(found, Duration::from_secs(seconds), "me", &SETTINGS, Timestamp::UNIX_EPOCH) {
            Move::Create(lease) => Ok((true, spec(*lease).lease_transitions.unwrap())),
            Move::Replace(lease) => Ok((false, spec(*lease).lease_transitions.unwrap())),
            Move::Wait { holder } => Err(holder),
        }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_renewed_it_for_its_duration_by_our_own_clock() {
        let waits = || Err("other".to_owned());
        for (found, seconds, expected) in [
            (None, 0, Ok((true, 0))),
            (Some(lease("other", 15)), 0, waits()),
            (Some(lease("other", 15)), 14, waits()),
            (Some(lease("other", 15)), 15, Ok((false, 4))),
            (Some(lease("me", 15)), 0, Ok((false, 3))),
            // Released, or never held.
            (Some(lease("", 1)), 0, Ok((false, 4))),
            (Some(Lease::default()), 0, Ok((false, 1))),
            // Nonsense keeps nobody out for long.
            (Some(lease("other", i32::MAX)), 59, waits()),
            (Some(lease("other", i32::MAX)), 60, Ok((false, 4))),
            (Some(lease("other", -1)), 1, Ok((false, 4))),
        ] {
            assert_eq!(after(found.clone(), seconds), expected, "{found:?} after {seconds} s");
        }
    }

    #[test]
    fn a_permit_ends_well_before_others_may_take_the_lease() {
        for seconds in [3, 15, 60] {
            let settings = LeaseSettings { duration: Duration::from_secs(seconds), ..SETTINGS };
            assert!(settings.permitted() < settings.duration);
            assert!(settings.period() * 2 + settings.deadline() < settings.duration);
        }
    }
}
