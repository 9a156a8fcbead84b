//! Asks over HTTP. Each question makes a connection of its own, as a new client of the service would, unless its invariant
//! says otherwise.

mod body;
mod connecting;
mod failure;
mod kept;
mod tls;

use super::egress::EgressPolicy;
use super::query::{Kind, Query};
use super::resolver::{Found, GuardedResolver};
use super::sample::{Failure, FailureReason, Measurement, Observation, Sample, Value};
use crate::crd::Connection;
use connecting::Link;
use failure::Broken;
use jiff::Timestamp;
use kept::Kept;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A connection that is not kept is given so long to be closed in order.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a prober cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// This system trusts nobody.
    #[error("this system knows no certificate authority ({0}); install ca-certificates, or set SSL_CERT_FILE")]
    TrustNobody(String),
    /// TLS.
    #[error("TLS for checks cannot be set up: {0}")]
    SetUpTls(#[from] rustls::Error),
}

/// Asks questions.
#[derive(Clone)]
pub struct Prober {
    resolver: GuardedResolver,
    tls: Arc<ClientConfig>,
    kept: Kept,
}

impl Prober {
    /// A prober that finds names as the system does.
    pub fn new(policy: EgressPolicy) -> Result<Self, ProberError> {
        Self::with_resolver(GuardedResolver::system(policy))
    }

    /// A prober with a given resolver, whose policy it obeys.
    pub fn with_resolver(resolver: GuardedResolver) -> Result<Self, ProberError> {
        Self::trusting(tls::system_authorities()?, resolver)
    }

    /// A prober that trusts given authorities, and not those of the system.
    pub fn trusting(authorities: RootCertStore, resolver: GuardedResolver) -> Result<Self, ProberError> {
        Ok(Self { resolver, tls: tls::config(authorities)?, kept: Kept::default() })
    }

    /// Asks once. The answer is there within `timeout`, whatever the target does.
    ///
    /// The name is looked up first, and only once, so that the silence of a name server is told from the silence of the
    /// target.
    pub async fn ask(&self, query: &Query, connection: Connection, timeout: Duration) -> Sample {
        let (started_at, began) = (Timestamp::now(), Instant::now());
        let deadline = began + timeout;
        let observation = match self.resolver.find(query.url(), deadline).await {
            Err(error) => failure::unresolved(&error),
            Ok(found) => match timeout_at(deadline, self.get(query, connection, found, (began, deadline))).await {
                Ok(Ok(measurement)) => Observation::Measured(measurement),
                Ok(Err(broken)) => broken.observation(),
                Err(_) => {
                    let message = format!("no whole answer within {} ms", timeout.as_millis());
                    Observation::Failed(Failure::new(FailureReason::TimedOut, &message))
                }
            },
        };
        Sample { started_at, took: began.elapsed(), observation }
    }

    async fn get(
        &self,
        query: &Query,
        connection: Connection,
        found: Found,
        (began, deadline): (Instant, Instant),
    ) -> Result<Measurement, Broken> {
        let (status, body) = match connection {
            Connection::New => {
                let link = Box::pin(Link::open(query.url(), found, &self.tls, Some(deadline + FAREWELL))).await?;
                exchange(link, query).await?.1
            }
            Connection::Reuse => Box::pin(self.get_over_a_kept_connection(query, found)).await?,
        };
        let latency = began.elapsed();
        Ok(Measurement {
            value: match query.kind() {
                Kind::Status => Value::Number(status.into()),
                Kind::Latency => Value::Number(latency.as_secs_f64() * 1000.0),
            },
            status: Some(status),
            latency,
            body,
            labels: BTreeMap::new(),
        })
    }

    /// What is kept may be closed by the other side at any moment, and so at the very moment of the question: then it is
    /// asked again, once, over a new connection (RFC 9110, 9.2.2).
    async fn get_over_a_kept_connection(&self, query: &Query, found: Found) -> Result<(u16, String), Broken> {
        let mut answered = None;
        if let Some(link) = self.kept.take(query.url(), &found.addresses) {
            match exchange(link, query).await {
                Err(Broken::Closed(_)) => {}
                result => answered = Some(result?),
            }
        }
        let (link, answer) = match answered {
            Some(answered) => answered,
            None => exchange(Link::open(query.url(), found, &self.tls, None).await?, query).await?,
        };
        self.kept.put(query.url(), link);
        Ok(answer)
    }
}

/// Asks over a connection: the status and the start of the body, whose end has been seen.
async fn exchange(mut link: Link, query: &Query) -> Result<(Link, (u16, String)), Broken> {
    let (head, body) = link.ask(query.url()).await?.into_parts();
    let body = body::read(&head.headers, body).await?;
    Ok((link, (head.status.as_u16(), body)))
}
