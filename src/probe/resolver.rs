//! Names to addresses, once a check, behind the egress guard: the connection is made to the addresses that were judged
//! here, so that a name that changes its address in between gains nothing.

mod plan;

use super::egress::EgressPolicy;
use super::sample::{BlindnessReason, FailureReason};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use plan::Plan;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};
use url::{Host, Url};

/// Answers are remembered for so long at most: a check should see a change soon.
const MAX_POSITIVE_TTL: Duration = Duration::from_secs(30);
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// How long the addresses of one family wait for those of the other (RFC 8305, section 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

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
    /// The port is that of a part of the cluster.
    #[error("checks may not reach port {port}, where a part of the cluster itself listens")]
    DeniedPort {
        /// The port.
        port: u16,
    },
}

impl ResolveError {
    /// Whose fault it is.
    pub(super) fn reason(&self) -> Result<FailureReason, BlindnessReason> {
        match self {
            Self::NotFound { .. } => Ok(FailureReason::NameNotFound),
            Self::Unavailable { .. } => Err(BlindnessReason::ResolverUnavailable),
            Self::Denied { .. } | Self::DeniedPort { .. } => Err(BlindnessReason::EgressDenied),
        }
    }
}

/// What a name led to. All of it may be reached.
pub(super) struct Found {
    /// At least one address.
    pub(super) addresses: Vec<IpAddr>,
    /// The IPv4 addresses, where those of IPv6 were there much earlier.
    pub(super) later: Option<BoxFuture<'static, Vec<IpAddr>>>,
}

/// What a name server says of one name, and of one family or both.
enum Outcome<T> {
    Addresses(T),
    NoSuchName,
    /// There is such a name; it has no address.
    Empty,
    Failed(String),
}

type Pair = (Vec<IpAddr>, Option<BoxFuture<'static, Outcome<Vec<IpAddr>>>>);

/// A resolver behind the egress guard.
#[derive(Clone)]
pub struct GuardedResolver {
    // None: the system has no resolver configuration; only `localhost`, the hosts file and addresses work then.
    domains: Option<Arc<Domains>>,
    hosts: Arc<Hosts>,
    policy: EgressPolicy,
}

struct Domains {
    resolver: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
}

impl GuardedResolver {
    /// The system's resolver: its name servers, search domains and hosts file.
    pub fn system(policy: EgressPolicy) -> Self {
        let hosts = Hosts::from_system().inspect_err(|error| tracing::debug!(%error, "there is no hosts file"));
        let domains = hickory_resolver::system_conf::read_system_conf()
            .and_then(|(config, options)| Domains::new(config, options))
            .inspect_err(|error| tracing::warn!(%error, "no name server is configured"));
        Self { domains: domains.ok().map(Arc::new), hosts: Arc::new(hosts.unwrap_or_default()), policy }
    }

    /// A resolver with a given configuration and hosts file.
    pub fn new(
        config: ResolverConfig,
        options: ResolverOpts,
        hosts: Hosts,
        policy: EgressPolicy,
    ) -> Result<Self, NetError> {
        let domains = Some(Arc::new(Domains::new(config, options)?));
        Ok(Self { domains, hosts: Arc::new(hosts), policy })
    }

    /// The addresses of a URL's host that may be reached; the answer is there by the deadline.
    ///
    /// A host that is an address is judged as it stands.
    pub(super) async fn find(&self, url: &Url, deadline: Instant) -> Result<Found, ResolveError> {
        if let Some(port) = url.port_or_known_default().filter(|port| !EgressPolicy::allows_port(*port)) {
            return Err(ResolveError::DeniedPort { port });
        }
        let address: IpAddr = match url.host() {
            Some(Host::Ipv4(address)) => address.into(),
            Some(Host::Ipv6(address)) => address.into(),
            Some(Host::Domain(name)) => return self.find_name(name, deadline).await,
            None => return Err(ResolveError::NotFound { name: String::new() }),
        };
        if self.policy.allows(address) {
            return Ok(Found { addresses: vec![address], later: None });
        }
        Err(ResolveError::Denied { name: address.to_string(), address })
    }

    async fn find_name(&self, name: &str, deadline: Instant) -> Result<Found, ResolveError> {
        let began = Instant::now();
        let unavailable = |why: String| ResolveError::Unavailable { name: name.to_owned(), why };
        let silent = || unavailable(format!("no answer within {} ms", (deadline - began).as_millis()));
        let outcome = timeout_at(deadline, self.look_up(name, deadline)).await.map_err(|_| silent())?;
        let (addresses, later) = match outcome {
            Outcome::Addresses(pair) => pair,
            Outcome::NoSuchName | Outcome::Empty => return Err(ResolveError::NotFound { name: name.to_owned() }),
            Outcome::Failed(why) => return Err(unavailable(why)),
        };
        let (policy, first) = (self.policy, addresses.first().copied());
        let allowed: Vec<IpAddr> = addresses.into_iter().filter(|it| policy.allows(*it)).collect();
        let later = later.map(|later| {
            let allowed = later.map(move |outcome| match outcome {
                Outcome::Addresses(found) => found.into_iter().filter(|it| policy.allows(*it)).collect(),
                Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_) => Vec::new(),
            });
            allowed.boxed()
        });
        match first {
            Some(address) if allowed.is_empty() => Err(ResolveError::Denied { name: name.to_owned(), address }),
            Some(_) => Ok(Found { addresses: allowed, later }),
            None => Err(ResolveError::NotFound { name: name.to_owned() }),
        }
    }

    async fn look_up(&self, name: &str, deadline: Instant) -> Outcome<Pair> {
        if let Some(addresses) = self.in_hosts_file(name) {
            return Outcome::Addresses((addresses, None));
        }
        // RFC 6761: these are loopback, whatever a name server would say.
        let lowercase = name.trim_end_matches('.').to_ascii_lowercase();
        if lowercase == "localhost" || lowercase.ends_with(".localhost") {
            let loopback = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            return Outcome::Addresses((loopback, None));
        }
        let Some(domains) = &self.domains else {
            return Outcome::Failed("no name server is configured".to_owned());
        };
        match Plan::of(name, &domains.search, domains.ndots) {
            Ok(plan) => Box::pin(domains.follow(plan, deadline)).await,
            // What is no name of the DNS has no address there.
            Err(_) => Outcome::NoSuchName,
        }
    }

    /// What the hosts file says comes before any name server, for both families and whatever search domains say.
    fn in_hosts_file(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = Name::from_str_relaxed(name).ok()?;
        let mut found = Vec::new();
        for family in [RecordType::AAAA, RecordType::A] {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), family));
            found.extend(lookup.iter().flat_map(Lookup::answers).filter_map(|record| record.data.ip_addr()));
        }
        (!found.is_empty()).then_some(found)
    }
}

impl Domains {
    fn new(config: ResolverConfig, mut options: ResolverOpts) -> Result<Self, NetError> {
        options.positive_max_ttl = Some(MAX_POSITIVE_TTL);
        options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        // It comes first, and only once.
        options.use_hosts_file = ResolveHosts::Never;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        Ok(Self { resolver: builder.with_options(options).build()?, search, ndots })
    }

    async fn follow(&self, plan: Plan, deadline: Instant) -> Outcome<Pair> {
        match plan {
            Plan::InOrder(names) => self.first_of(&names).await,
            Plan::Bare { cluster, node } => match self.first_of(&cluster).await {
                // The cluster said no. Whoever else may know has half of the time left to say so.
                Outcome::NoSuchName => {
                    let patience = deadline.saturating_duration_since(Instant::now()) / 2;
                    match timeout(patience, self.first_of(&node)).await {
                        Ok(Outcome::Addresses(found)) => Outcome::Addresses(found),
                        Ok(Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_)) | Err(_) => Outcome::NoSuchName,
                    }
                }
                outcome => outcome,
            },
            Plan::Dotted { cluster, parents, world } => match self.first_of(&cluster).await {
                Outcome::NoSuchName => self.of_the_cluster_or_the_world(&parents, &world).await,
                Outcome::Failed(why) => match self.first_of(&world).await {
                    Outcome::Addresses(found) => Outcome::Addresses(found),
                    Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_) => Outcome::Failed(why),
                },
                outcome => outcome,
            },
        }
    }

    /// The cluster has no such name. If the name is one of the cluster's by its form, that is the answer, and the world
    /// is not believed, whatever it says.
    async fn of_the_cluster_or_the_world(&self, parents: &[Name], world: &[Name]) -> Outcome<Pair> {
        let (is_of_the_cluster, in_the_world) = (pin!(self.exists(parents)), pin!(self.first_of(world)));
        match select(is_of_the_cluster, in_the_world).await {
            Either::Left((true, _)) | Either::Right((Outcome::NoSuchName, _)) => Outcome::NoSuchName,
            Either::Left((false, in_the_world)) => in_the_world.await,
            Either::Right((outcome, is_of_the_cluster)) => {
                if is_of_the_cluster.await {
                    Outcome::NoSuchName
                } else {
                    outcome
                }
            }
        }
    }

    async fn exists(&self, names: &[Name]) -> bool {
        for name in names {
            if let Outcome::Addresses(_) | Outcome::Empty = self.ask(name.clone(), RecordType::A).await {
                return true;
            }
        }
        false
    }

    /// The first name that has an address. There is none only if each was answered.
    async fn first_of(&self, names: &[Name]) -> Outcome<Pair> {
        let (mut failure, mut exists) = (None, false);
        for name in names {
            match self.addresses(name).await {
                Outcome::Addresses(found) => return Outcome::Addresses(found),
                Outcome::NoSuchName => {}
                Outcome::Empty => exists = true,
                Outcome::Failed(why) => failure = failure.or(Some(why)),
            }
        }
        match failure {
            Some(why) => Outcome::Failed(why),
            None if exists => Outcome::Empty,
            None => Outcome::NoSuchName,
        }
    }

    /// Both families at once. The one that is there first waits a little for the other; no name server has to know
    /// about IPv6.
    async fn addresses(&self, name: &Name) -> Outcome<Pair> {
        let (v4, v6) = (self.ask(name.clone(), RecordType::A), self.ask(name.clone(), RecordType::AAAA));
        match select(v4, v6).await {
            Either::Left((Outcome::Addresses(v4), v6)) => match timeout(RESOLUTION_DELAY, v6).await {
                Ok(Outcome::Addresses(v6)) => Outcome::Addresses((v6.into_iter().chain(v4).collect(), None)),
                Ok(Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_)) | Err(_) => {
                    Outcome::Addresses((v4, None))
                }
            },
            Either::Left((Outcome::NoSuchName, v6)) => match timeout(RESOLUTION_DELAY, v6).await {
                Ok(Outcome::Addresses(v6)) => Outcome::Addresses((v6, None)),
                // There is no such name, of whatever family (RFC 8020).
                Ok(Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_)) | Err(_) => Outcome::NoSuchName,
            },
            Either::Left((v4, v6)) => only(v6.await, v4),
            Either::Right((Outcome::Addresses(v6), mut v4)) => match timeout(RESOLUTION_DELAY, &mut v4).await {
                Ok(Outcome::Addresses(v4)) => Outcome::Addresses((v6.into_iter().chain(v4).collect(), None)),
                Ok(Outcome::NoSuchName | Outcome::Empty | Outcome::Failed(_)) => Outcome::Addresses((v6, None)),
                Err(_) => Outcome::Addresses((v6, Some(v4))),
            },
            // Some name servers say that there is no such name when they are asked for IPv6: IPv4 decides.
            Either::Right((v6, v4)) => only(v4.await, v6),
        }
    }

    fn ask(&self, name: Name, family: RecordType) -> BoxFuture<'static, Outcome<Vec<IpAddr>>> {
        let resolver = self.resolver.clone();
        let asked = async move {
            match resolver.lookup(name, family).await {
                Ok(found) => {
                    let addresses: Vec<IpAddr> =
                        found.answers().iter().filter_map(|record| record.data.ip_addr()).collect();
                    if addresses.is_empty() { Outcome::Empty } else { Outcome::Addresses(addresses) }
                }
                Err(error) => negative(&error),
            }
        };
        asked.boxed()
    }
}

/// What two families say together, of which the second has no address.
fn only(decisive: Outcome<Vec<IpAddr>>, other: Outcome<Vec<IpAddr>>) -> Outcome<Pair> {
    match (decisive, other) {
        (Outcome::Addresses(found), _) | (_, Outcome::Addresses(found)) => Outcome::Addresses((found, None)),
        (Outcome::Failed(why), _) | (_, Outcome::Failed(why)) => Outcome::Failed(why),
        (Outcome::NoSuchName, Outcome::NoSuchName) => Outcome::NoSuchName,
        (Outcome::Empty | Outcome::NoSuchName, Outcome::Empty | Outcome::NoSuchName) => Outcome::Empty,
    }
}

/// A name server answered that there is no such name or address, as opposed to not answering or failing.
fn negative<T>(error: &NetError) -> Outcome<T> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(answer)) if answer.response_code == ResponseCode::NXDomain => {
            Outcome::NoSuchName
        }
        NetError::Dns(DnsError::NoRecordsFound(answer)) if answer.response_code == ResponseCode::NoError => {
            Outcome::Empty
        }
        error => Outcome::Failed(error.to_string()),
    }
}
