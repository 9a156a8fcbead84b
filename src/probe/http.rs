//! Asks over HTTP. Each question makes a connection of its own, as a new client of the service would, unless its invariant
//! says otherwise.

use super::egress::EgressPolicy;
use super::query::{Kind, Query};
use super::resolver::{GuardedResolver, ResolveError};
use super::sample::{Blindness, BlindnessReason, Failure, FailureReason, Measurement, Observation, Sample, Value};
use crate::crd::Connection;
use jiff::Timestamp;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most of a body that is read. Bytes.
const MAX_BODY: usize = 64 * 1024;

/// Connections kept to one host and port while nobody asks over them.
const KEPT_PER_HOST: usize = 4;
/// How long such a connection is kept.
const KEPT_IDLE: Duration = Duration::from_mins(2);

/// Why a prober cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// The HTTP client.
    #[error("the HTTP client for checks cannot be made: {0}")]
    BuildClient(#[from] reqwest::Error),
}

/// Asks questions.
#[derive(Clone)]
pub struct Prober {
    new: reqwest::Client,
    reuse: reqwest::Client,
    resolver: GuardedResolver,
}

impl Prober {
    /// A prober that finds names as the system does.
    pub fn new(policy: EgressPolicy) -> Result<Self, ProberError> {
        Self::with_resolver(GuardedResolver::system(policy))
    }

    /// A prober with a given resolver, whose policy it obeys.
    pub fn with_resolver(resolver: GuardedResolver) -> Result<Self, ProberError> {
        let builder = || {
            reqwest::Client::builder()
                .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(resolver.clone()))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
        };
        let new = builder().pool_max_idle_per_host(0).build()?;
        // Kept as a client would: not for ever, so that a name that moved is noticed.
        let reuse = builder().pool_max_idle_per_host(KEPT_PER_HOST).pool_idle_timeout(KEPT_IDLE).build()?;
        Ok(Self { new, reuse, resolver })
    }

    /// Asks once. The answer is there within `timeout`, whatever the target does.
    ///
    /// The name is looked up before the connection looks it up again (from what the resolver remembers), so that the
    /// silence of a name server is told from the silence of the target.
    pub async fn ask(&self, query: &Query, connection: Connection, timeout: Duration) -> Sample {
        let (started_at, began) = (Timestamp::now(), Instant::now());
        let observation = match self.resolver.check(query.url(), timeout).await {
            Err(error) => unresolved(&error),
            Ok(()) => {
                match tokio::time::timeout(timeout.saturating_sub(began.elapsed()), self.get(query, connection, began))
                    .await
                {
                    Ok(Ok(measurement)) => Observation::Measured(measurement),
                    Ok(Err(observation)) => observation,
                    Err(_) => {
                        let message = format!("no whole answer within {} ms", timeout.as_millis());
                        Observation::Failed(Failure::new(FailureReason::TimedOut, &message))
                    }
                }
            }
        };
        Sample { started_at, took: began.elapsed(), observation }
    }

    async fn get(&self, query: &Query, connection: Connection, began: Instant) -> Result<Measurement, Observation> {
        let client = match connection {
            Connection::New => &self.new,
            Connection::Reuse => &self.reuse,
        };
        let mut response = client.get(query.url().clone()).send().await.map_err(|error| classify(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while body.len() < MAX_BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(classify(&error)),
            }
        }
        body.truncate(MAX_BODY);
        let latency = began.elapsed();
        Ok(Measurement {
            value: match query.kind() {
                Kind::Status => Value::Number(status.into()),
                Kind::Latency => Value::Number(latency.as_secs_f64() * 1000.0),
            },
            status: Some(status),
            latency,
            body: String::from_utf8_lossy(&body).into_owned(),
            labels: BTreeMap::new(),
        })
    }
}

/// Whose fault it is that a name led to no address.
fn unresolved(error: &ResolveError) -> Observation {
    match error.reason() {
        Ok(reason) => Observation::Failed(Failure::new(reason, &error.to_string())),
        Err(reason) => Observation::Unknown(Blindness::new(reason, &error.to_string())),
    }
}

/// Whose fault it is, by the types of the errors that caused it.
fn classify(error: &reqwest::Error) -> Observation {
    let failed = |reason, cause: &dyn Error| Observation::Failed(Failure::new(reason, &cause.to_string()));
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut innermost: &dyn Error = error;
    while let Some(current) = cause {
        innermost = current;
        if let Some(resolve) = current.downcast_ref::<ResolveError>() {
            return unresolved(resolve);
        }
        if current.is::<rustls::Error>() {
            return failed(FailureReason::TlsFailure, current);
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            if let Some(observation) = classify_io(io) {
                return observation;
            }
            // An io::Error hides what it wraps from `source`.
            cause = io.get_ref().map(|inner| inner as &(dyn Error + 'static)).or_else(|| io.source());
            continue;
        }
        cause = current.source();
    }
    failed(FailureReason::ProtocolError, innermost)
}

fn classify_io(error: &io::Error) -> Option<Observation> {
    use io::ErrorKind::{
        AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, TimedOut,
    };
    let failed = |reason| Some(Observation::Failed(Failure::new(reason, &error.to_string())));
    let out_of_resources = Errno::from_io_error(error)
        .is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno));
    match error.kind() {
        AddrNotAvailable => Some(own_resources(error)),
        _ if out_of_resources => Some(own_resources(error)),
        ConnectionRefused => failed(FailureReason::ConnectionRefused),
        ConnectionReset | ConnectionAborted | BrokenPipe => failed(FailureReason::ConnectionReset),
        TimedOut => failed(FailureReason::TimedOut),
        HostUnreachable | NetworkUnreachable => failed(FailureReason::Unreachable),
        _ => None,
    }
}

fn own_resources(error: &io::Error) -> Observation {
    Observation::Unknown(Blindness::new(BlindnessReason::OwnResources, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_side_ran_out_of_is_no_breach() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            let observation = classify_io(&errno.into());
            let Some(Observation::Unknown(blindness)) = observation else { panic!("{errno}: {observation:?}") };
            assert_eq!(blindness.reason, BlindnessReason::OwnResources, "{errno}");
        }
    }

    #[test]
    fn what_the_way_to_the_target_says_is_a_breach_with_its_reason() {
        for (errno, reason) in [
            (Errno::CONNREFUSED, FailureReason::ConnectionRefused),
            (Errno::CONNRESET, FailureReason::ConnectionReset),
            (Errno::PIPE, FailureReason::ConnectionReset),
            (Errno::TIMEDOUT, FailureReason::TimedOut),
            (Errno::HOSTUNREACH, FailureReason::Unreachable),
            (Errno::NETUNREACH, FailureReason::Unreachable),
        ] {
            let observation = classify_io(&errno.into());
            let Some(Observation::Failed(failure)) = observation else { panic!("{errno}: {observation:?}") };
            assert_eq!(failure.reason, reason, "{errno}");
        }
    }
}
