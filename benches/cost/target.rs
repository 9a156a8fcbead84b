//! What is checked: a server on ten loopback addresses that answers each connection once, as quickly as it can.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Addresses, so that closed connections of the last minute do not use up the ports towards one of them.
const ADDRESSES: usize = 10;

const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 20\r\nconnection: close\r\n\r\n{\"status\":\"healthy\"}";
const BAD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndown";

/// The server. It answers paths `/0`, `/1` and so on.
pub(crate) struct Target {
    port: u16,
    state: Arc<State>,
}

struct State {
    broken: Vec<AtomicBool>,
    /// Who asked when, while it is recorded.
    arrivals: Mutex<Option<Vec<(usize, Instant)>>>,
}

impl Target {
    /// Serves so many paths.
    pub(crate) async fn start(paths: usize) -> Self {
        let broken = std::iter::repeat_with(|| AtomicBool::new(false)).take(paths).collect();
        let state = Arc::new(State { broken, arrivals: Mutex::new(None) });
        let mut port = 0;
        for number in 0..ADDRESSES {
            let listener = TcpListener::bind((address(number), port)).await.unwrap();
            port = listener.local_addr().unwrap().port();
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (state, arrived) = (Arc::clone(&state), Instant::now());
                    tokio::spawn(async move { state.answer(stream, arrived).await });
                }
            });
        }
        Self { port, state }
    }

    /// Where a path is.
    pub(crate) fn url(&self, path: usize) -> String {
        format!("http://{}:{}/{path}", address(path % ADDRESSES), self.port)
    }

    /// Breaks or heals a path.
    pub(crate) fn set_broken(&self, path: usize, broken: bool) {
        self.state.broken[path].store(broken, Ordering::SeqCst);
    }

    /// Begins to record who asks when.
    pub(crate) fn record(&self) {
        *self.state.arrivals.lock().unwrap() = Some(Vec::new());
    }

    /// Ends that, and gives it in order.
    pub(crate) fn recorded(&self) -> Vec<(usize, Instant)> {
        let mut arrivals = self.state.arrivals.lock().unwrap().take().unwrap_or_default();
        arrivals.sort_by_key(|(_, at)| *at);
        arrivals
    }
}

impl State {
    async fn answer(&self, mut stream: TcpStream, arrived: Instant) {
        let mut head = [0; 1024];
        let Ok(length) = stream.read(&mut head).await else { return };
        let head = String::from_utf8_lossy(&head[..length]);
        let path = head.strip_prefix("GET /").and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        let broken = path.and_then(|path| self.broken.get(path)).is_some_and(|it| it.load(Ordering::SeqCst));
        if let (Some(path), Some(arrivals)) = (path, self.arrivals.lock().unwrap().as_mut()) {
            arrivals.push((path, arrived));
        }
        let _ = stream.write_all(if broken { BAD } else { GOOD }).await;
    }
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number).unwrap())
}
