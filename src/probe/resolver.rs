//! Names to addresses, with the egress guard at the last moment before the connection, so that a name that changes
//! its address between two look-ups gains nothing.

use super::egress::EgressPolicy;
use super::sample::{BlindnessReason, FailureReason};
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Answers are remembered for so long at least: a check looks its name up twice, once to know whose fault a silence
/// is and once to connect. And for so long at most: a check should see a change soon.
const MIN_POSITIVE_TTL: Duration = Duration::from_secs(1);
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(30);
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// Why a name led to no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The name does not exist, or has no address.
    #[error("the name {name} does not exist")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name server gave no answer.
    #[error("the name {name} cannot be looked up: {why}")]
    Unavailable {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// All its addresses are forbidden.
    #[error("checks may not reach {address}, the address of {name}")]
    Denied {
        /// The name.
        name: String,
        /// One of them.
        address: IpAddr,
    },
}

impl ResolveError {
    /// Whose fault it is.
    pub(super) fn reason(&self) -> Result<FailureReason, BlindnessReason> {
        match self {
            Self::NotFound { .. } => Ok(FailureReason::NameNotFound),
            Self::Unavailable { .. } => Err(BlindnessReason::ResolverUnavailable),
            Self::Denied { .. } => Err(BlindnessReason::EgressDenied),
        }
    }
}

/// A resolver behind the egress guard.
#[derive(Clone)]
pub struct GuardedResolver {
    // None: the system has no resolver configuration; only `localhost` and addresses work then.
    resolver: Option<Arc<TokioResolver>>,
    policy: EgressPolicy,
}

impl GuardedResolver {
    /// The system's resolver: its name servers, search domains and hosts file.
    pub fn system(policy: EgressPolicy) -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.positive_min_ttl = Some(MIN_POSITIVE_TTL);
            options.positive_max_ttl = Some(MAX_POSITIVE_TTL);
            options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
            builder.build()
        });
        let resolver = built.inspect_err(|error| tracing::warn!(%error, "no name server is configured")).ok();
        Self { resolver: resolver.map(Arc::new), policy }
    }

    /// A given resolver.
    pub fn new(resolver: TokioResolver, policy: EgressPolicy) -> Self {
        Self { resolver: Some(Arc::new(resolver)), policy }
    }

    /// Whether the host of a URL leads to an address that may be reached; the answer is there within `timeout`.
    ///
    /// A host that is an address is judged as it stands: a connection to it never asks a resolver.
    pub async fn check(&self, url: &Url, timeout: Duration) -> Result<(), ResolveError> {
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(name)) => {
                let found = tokio::time::timeout(timeout, self.addresses(name)).await;
                return found.map_or_else(|_| Err(silent(name, timeout)), |found| found.map(drop));
            }
            None => return Err(ResolveError::NotFound { name: String::new() }),
        };
        if self.policy.allows(address) {
            return Ok(());
        }
        Err(ResolveError::Denied { name: address.to_string(), address })
    }

    /// The addresses of a name that may be reached; at least one.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.look_up(name).await?;
        let first = found.first().copied();
        let allowed: Vec<IpAddr> = found.into_iter().filter(|address| self.policy.allows(*address)).collect();
        match first {
            None => Err(ResolveError::NotFound { name: name.to_owned() }),
            Some(address) if allowed.is_empty() => Err(ResolveError::Denied { name: name.to_owned(), address }),
            Some(_) => Ok(allowed),
        }
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // RFC 6761: these are loopback, whatever a name server would say. If nobody listens, the failure at the last
        // family of addresses is reported: IPv4, since not every host has IPv6.
        let plain = name.trim_end_matches('.').to_ascii_lowercase();
        if plain == "localhost" || plain.ends_with(".localhost") {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let unavailable = |why: String| ResolveError::Unavailable { name: name.to_owned(), why };
        let Some(resolver) = &self.resolver else {
            return Err(unavailable("no name server is configured".to_owned()));
        };
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if says_no_such_name(&error) => Err(ResolveError::NotFound { name: name.to_owned() }),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }
}

fn silent(name: &str, timeout: Duration) -> ResolveError {
    ResolveError::Unavailable { name: name.to_owned(), why: format!("no answer within {} ms", timeout.as_millis()) }
}

/// A name server answered that there is no such name, as opposed to not answering or failing.
fn says_no_such_name(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(answer)) => {
            matches!(answer.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
        }
        _ => false,
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
