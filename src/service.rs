//! The demo's service: a rate limiter that answers over HTTP, and whose health is whatever its config file says.
//!
//! It stands for somebody else's program: it imports nothing of the other rooms, and nothing in it knows that a
//! harness exists. Steps that touch the world: [`Service::bind`] and [`Service::serve`] (sockets), [`config_file`]
//! (reads and replaces the file), [`console`] (the terminal). The rest is pure.
//!
//! - `POST /check {"key": "..."}`: may this key go on? 200 or 429.
//! - `GET /health`: 200, or 503 with the reason; late by `delay_ms`.
//! - `GET /metrics`: the same in numbers, in the Prometheus text format.

pub mod chaos;
pub mod config;
pub mod config_file;
pub mod console;
mod endpoints;
mod limiter;
mod metrics;

use axum::Router;
use config_file::ConfigFile;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Connections served at the same time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long requests under way may go on after the service was told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);
/// The pause after a failed accept: file descriptors may have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Failed accepts in a row after which the socket counts as broken.
const MAX_ACCEPT_FAILURES: u32 = 100;

/// What the service needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The config file, opened anew by its path on each request. It need not exist yet.
    pub config: PathBuf,
    /// Where to listen; port 0 lets the system choose, see [`Service::address`].
    pub address: SocketAddr,
}

/// Why the service could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Another program listens there.
    #[error(
        "port {} of {} is taken by another program: stop that program, or choose another port with --port",
        address.port(), address.ip()
    )]
    TakePort {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("could not listen on {address}: {source}; choose another address with --host and --port")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The socket keeps refusing to hand over connections.
    #[error("could not accept connections on {address}, {MAX_ACCEPT_FAILURES} times in a row: {source}")]
    Accept {
        /// The address that is listened on.
        address: SocketAddr,
        /// The reason given last.
        source: io::Error,
    },
}

/// A service whose port is taken and which does not answer yet.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    config: ConfigFile,
}

impl Service {
    /// Binds the socket. The config file is not looked at.
    pub async fn bind(settings: Settings) -> Result<Self, ServiceError> {
        let Settings { config, address } = settings;
        let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServiceError::TakePort { address },
            _ => ServiceError::Listen { address, source },
        })?;
        let address = listener.local_addr().map_err(|source| ServiceError::Listen { address, source })?;
        Ok(Self { listener, address, config: ConfigFile::new(config) })
    }

    /// The address that is listened on, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` resolves; then accepts nothing more and returns once the requests under way are
    /// answered, after 3 s at the latest. Dropping the future cuts all connections.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), ServiceError> {
        let Self { listener, address, config } = self;
        let router = endpoints::router(config);
        let stopping = CancellationToken::new();
        let mut connections = JoinSet::new();
        let mut failures = 0;
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(answer(stream, router.clone(), stopping.clone()));
                }
                Err(source) if failures >= MAX_ACCEPT_FAILURES => return Err(ServiceError::Accept { address, source }),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%address, %error, "could not accept a connection");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        drop(listener);
        stopping.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(DRAIN_DEADLINE, drained).await.is_err() {
            tracing::warn!("requests were still under way {} s after the stop and are cut", DRAIN_DEADLINE.as_secs());
        }
        Ok(())
    }
}

/// Answers the requests of one connection until the client leaves or the service stops.
async fn answer(stream: TcpStream, router: Router, stopping: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
