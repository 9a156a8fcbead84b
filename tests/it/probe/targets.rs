//! Targets of questions: real listeners on ephemeral ports that behave as a test says.
#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A listener on 127.0.0.1 only. It lives as long as the test's runtime.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    ended: watch::Receiver<usize>,
}

impl Target {
    /// Starts a target that treats each connection so.
    pub(crate) async fn start<F, B>(behaviour: B) -> Self
    where
        B: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (end, ended) = watch::channel(0);
        let (counter, end) = (Arc::clone(&accepted), Arc::new(end));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (treatment, end) = (behaviour(stream), Arc::clone(&end));
                tokio::spawn(async move {
                    treatment.await;
                    end.send_modify(|count| *count += 1);
                });
            }
        });
        Self { address, accepted, ended }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until one connection was treated to its end.
    pub(crate) async fn finished(&self) {
        let mut ended = self.ended.clone();
        tokio::time::timeout(super::AMPLE, ended.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    }
}

/// Reads the head of a question: an answer before the question is no HTTP.
pub(crate) async fn head(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Reads a question and answers. `status` may hold headers.
pub(crate) async fn respond(mut stream: TcpStream, status: &str, body: &[u8]) {
    head(&mut stream).await;
    answer(stream, status, body).await;
}

/// Answers a question that was read.
pub(crate) async fn answer(mut stream: TcpStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.shutdown().await;
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
