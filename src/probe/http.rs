//! Asks over HTTP. Each question makes a connection of its own, as a new client of the service would.

use super::egress::EgressPolicy;
use super::query::{Kind, Query};
use super::resolver::{GuardedResolver, ResolveError};
use super::sample::{Blindness, BlindnessReason, Failure, FailureReason, Measurement, Observation, Sample, Value};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use url::Host;

/// The most of a body that is read. Bytes.
const MAX_BODY: usize = 64 * 1024;

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
    client: reqwest::Client,
    policy: EgressPolicy,
}

impl Prober {
    /// A prober that finds names as the system does.
    pub fn new(policy: EgressPolicy) -> Result<Self, ProberError> {
        Self::with_resolver(policy, GuardedResolver::system(policy))
    }

    /// A prober with a given resolver.
    pub fn with_resolver(policy: EgressPolicy, resolver: GuardedResolver) -> Result<Self, ProberError> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(resolver))
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, policy })
    }

    /// Asks once. The answer is there within `timeout`, whatever the target does.
    pub async fn ask(&self, query: &Query, timeout: Duration) -> Sample {
        let (started_at, began) = (Timestamp::now(), Instant::now());
        let observation = match tokio::time::timeout(timeout, self.get(query, began)).await {
            Ok(Ok(measurement)) => Observation::Measured(measurement),
            Ok(Err(observation)) => observation,
            Err(_) => {
                let message = format!("no whole answer within {} ms", timeout.as_millis());
                Observation::Failed(Failure::new(FailureReason::TimedOut, &message))
            }
        };
        Sample { started_at, took: began.elapsed(), observation }
    }

    async fn get(&self, query: &Query, began: Instant) -> Result<Measurement, Observation> {
        self.check_literal_address(query)?;
        let mut response = self.client.get(query.url().clone()).send().await.map_err(|error| classify(&error))?;
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

    /// A host that is an address is never looked up, so that the resolver's guard does not see it.
    fn check_literal_address(&self, query: &Query) -> Result<(), Observation> {
        let address: IpAddr = match query.url().host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.policy.allows(address) {
            return Ok(());
        }
        let message = format!("{address} may not be reached by checks");
        Err(Observation::Unknown(Blindness::new(BlindnessReason::EgressDenied, &message)))
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
            return match resolve.reason() {
                Ok(reason) => failed(reason, resolve),
                Err(reason) => Observation::Unknown(Blindness::new(reason, &resolve.to_string())),
            };
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
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: this side ran out of something.
    let out_of_resources = matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12));
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
