//! Connections to the addresses that a name led to.

use super::super::resolver::Found;
use super::failure::Broken;
use futures::StreamExt;
use futures::future::{BoxFuture, pending};
use futures::stream::FuturesUnordered;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// How long one address is tried before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most header fields of an answer.
const MAX_HEADERS: usize = 1000;
/// The most that its head may take over HTTP/2. Bytes.
const MAX_HEADER_LIST: u32 = 256 * 1024;

/// A connection over which one question can be asked at a time.
pub(super) struct Link {
    /// Whom it leads to.
    pub(super) peer: IpAddr,
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Link {
    /// Makes a connection. One that is not to be kept ends at `end`, whatever its target does.
    pub(super) async fn open(
        url: &Url,
        found: Found,
        tls: &Arc<ClientConfig>,
        end: Option<Instant>,
    ) -> Result<Self, Broken> {
        let port = url.port_or_known_default().unwrap_or_default();
        let (stream, peer) = connect(found, port).await.map_err(Broken::Connect)?;
        // It only makes small writes leave sooner.
        let _ = stream.set_nodelay(true);
        if url.scheme() != "https" {
            return Self::shake_hands(TokioIo::new(stream), false, peer, end).await;
        }
        let name = server_name(url).ok_or(Broken::Unnameable)?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(Broken::Handshake)?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Self::shake_hands(TokioIo::new(stream), is_http2, peer, end).await
    }

    async fn shake_hands<T>(stream: T, is_http2: bool, peer: IpAddr, end: Option<Instant>) -> Result<Self, Broken>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let sender = if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let (sender, connection) =
                builder.max_header_list_size(MAX_HEADER_LIST).handshake(stream).await.map_err(Broken::Exchange)?;
            drive(connection, end);
            Sender::Http2(sender)
        } else {
            let mut builder = http1::Builder::new();
            let (sender, connection) =
                builder.max_headers(MAX_HEADERS).handshake(stream).await.map_err(Broken::Exchange)?;
            drive(connection, end);
            Sender::Http1(sender)
        };
        Ok(Self { peer, sender })
    }

    /// Whether it has been closed, as far as this side knows.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Asks for a URL, and gives the head of the answer.
    pub(super) async fn ask(&mut self, url: &Url) -> Result<Response<Incoming>, Broken> {
        let before_answer = |error| if is_over(&error) { Broken::Closed(error) } else { Broken::Exchange(error) };
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(before_answer)?;
                sender.send_request(request(url, false)?).await.map_err(before_answer)
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(before_answer)?;
                sender.send_request(request(url, true)?).await.map_err(before_answer)
            }
        }
    }
}

/// Whether the connection was closed, as opposed to used wrongly.
fn is_over(error: &hyper::Error) -> bool {
    let is_cut = |error: &io::Error| {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    };
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || cause.is_some_and(is_cut)
}

fn drive<F: Future<Output = hyper::Result<()>> + Send + 'static>(connection: F, end: Option<Instant>) {
    tokio::spawn(async move {
        // What goes wrong with it is told to whoever asks over it.
        let _ = match end {
            Some(end) => timeout_at(end, connection).await.unwrap_or(Ok(())),
            None => connection.await,
        };
    });
}

fn request(url: &Url, is_http2: bool) -> Result<Request<Empty<Bytes>>, Broken> {
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = Request::get(if is_http2 { format!("https://{authority}{path}") } else { path.to_owned() })
        .header(http::header::ACCEPT, "*/*")
        .header(http::header::ACCEPT_ENCODING, "identity")
        .header(http::header::USER_AGENT, concat!("harness/", env!("CARGO_PKG_VERSION")));
    let request = if is_http2 { request } else { request.header(http::header::HOST, authority) };
    request.body(Empty::new()).map_err(Broken::Request)
}

fn server_name(url: &Url) -> Option<ServerName<'static>> {
    match url.host()? {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned()).ok(),
        Host::Ipv4(address) => Some(IpAddr::from(address).into()),
        Host::Ipv6(address) => Some(IpAddr::from(address).into()),
    }
}

/// The first address that takes a connection. One that is silent does not hold up the others.
async fn connect(found: Found, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let Found { addresses, mut later } = found;
    let mut waiting = VecDeque::from(by_turns(addresses));
    let mut attempts = FuturesUnordered::new();
    let mut failure: Option<(IpAddr, io::Error)> = None;
    let attempt = |address| async move { (address, TcpStream::connect((address, port)).await) };
    loop {
        if attempts.is_empty() {
            match waiting.pop_front() {
                Some(address) => attempts.push(attempt(address)),
                None if later.is_none() => {
                    let none = || io::Error::from(io::ErrorKind::AddrNotAvailable);
                    return Err(failure.map_or_else(none, |(_, error)| error));
                }
                None => {}
            }
        }
        tokio::select! {
            Some((address, result)) = attempts.next() => match result {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => {
                    // Not every host has IPv6: what IPv4 says tells more.
                    if address.is_ipv4() || failure.as_ref().is_none_or(|(before, _)| before.is_ipv6()) {
                        failure = Some((address, error));
                    }
                    attempts.extend(waiting.pop_front().map(attempt));
                }
            },
            more = arrival(&mut later), if later.is_some() => {
                later = None;
                waiting.extend(more);
            }
            () = sleep(ATTEMPT_DELAY), if !waiting.is_empty() => attempts.extend(waiting.pop_front().map(attempt)),
        }
    }
}

async fn arrival(later: &mut Option<BoxFuture<'static, Vec<IpAddr>>>) -> Vec<IpAddr> {
    match later {
        Some(later) => later.await,
        None => pending().await,
    }
}

/// The families in turns, IPv6 first (RFC 8305, section 4).
fn by_turns(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut all = Vec::new();
    loop {
        let turn = [v6.next(), v4.next()];
        if turn == [None, None] {
            return all;
        }
        all.extend(turn.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let given = all(&["10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3"]);
        assert_eq!(by_turns(given), all(&["fd00::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]));
    }
}
