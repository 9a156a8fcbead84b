//! A target that answers as the test says.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the target answers.
#[derive(Debug, Clone)]
struct Answer {
    /// Statuses of the next answers, before `status` counts.
    first: VecDeque<StatusCode>,
    status: StatusCode,
    delay: Duration,
    body: String,
}

/// A server on loopback. Dropping it ends it.
pub(crate) struct Target {
    address: SocketAddr,
    answer: watch::Sender<Answer>,
    asked: watch::Sender<u32>,
    _server: JoinSet<()>,
}

/// A port where nobody listens, and nobody else can.
pub(crate) struct Refusing {
    socket: TcpSocket,
}

impl Refusing {
    /// Takes a free port.
    pub(crate) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self { socket }
    }

    /// The URL that is refused.
    pub(crate) fn url(&self) -> String {
        url(self.socket.local_addr().unwrap())
    }

    /// Begins to answer there.
    pub(crate) fn listen(self) -> Target {
        let listener = self.socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = watch::Sender::new(Answer {
            first: VecDeque::new(),
            status: StatusCode::OK,
            delay: Duration::ZERO,
            body: String::new(),
        });
        let asked = watch::Sender::new(0);
        let router = Router::new().fallback(respond).with_state((answer.clone(), asked.clone()));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Target { address, answer, asked, _server: server }
    }
}

impl Target {
    /// A target that answers 200 at once.
    #[expect(clippy::unused_async, reason = "a listener needs a runtime, which only an async caller has")]
    pub(crate) async fn start() -> Self {
        Refusing::new().listen()
    }

    /// Where it is asked.
    pub(crate) fn url(&self) -> String {
        url(self.address)
    }

    /// Answers this status from now on.
    pub(crate) fn answer(&self, status: u16) {
        self.answer.send_modify(|answer| answer.status = StatusCode::from_u16(status).unwrap());
    }

    /// Answers these statuses, once each, and then this one.
    pub(crate) fn answer_first(&self, first: &[u16], then: u16) {
        let status = |code: &u16| StatusCode::from_u16(*code).unwrap();
        self.answer.send_modify(|answer| {
            answer.first = first.iter().map(status).collect();
            answer.status = status(&then);
        });
    }

    /// Answers so much later from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.answer.send_modify(|answer| answer.delay = delay);
    }

    /// Answers with this body from now on.
    pub(crate) fn body(&self, body: &str) {
        self.answer.send_modify(|answer| body.clone_into(&mut answer.body));
    }

    /// Returns when it was asked so many times more.
    pub(crate) async fn asked_again(&self, times: u32) {
        let mut asked = self.asked.subscribe();
        let end = *asked.borrow() + times;
        let enough = asked.wait_for(|count| *count >= end);
        tokio::time::timeout(super::PATIENCE, enough).await.expect("the target is asked").unwrap();
    }

    /// How many times it was asked.
    pub(crate) fn asked(&self) -> u32 {
        *self.asked.borrow()
    }
}

type Shared = (watch::Sender<Answer>, watch::Sender<u32>);

async fn respond(State((answer, asked)): State<Shared>) -> (StatusCode, String) {
    let mut first = None;
    answer.send_modify(|answer| first = answer.first.pop_front());
    let Answer { first: _, status, delay, body } = answer.borrow().clone();
    asked.send_modify(|count| *count += 1);
    tokio::time::sleep(delay).await;
    (first.unwrap_or(status), body)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/")
}
