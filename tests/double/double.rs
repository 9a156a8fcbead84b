//! A double of the Messages API: a local HTTP server that plays a model and refuses what the real API refuses.
//!
//! It is strict about the protocol on every request ([`check`]); what it answers is a [`Brain`]'s matter, which is pure in
//! the request: as with the real API, a conversation lives in its messages.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a test's part, and an example's")]

pub(crate) mod answer;
pub(crate) mod asked;
pub(crate) mod check;
pub(crate) mod oddity;
pub(crate) mod operator;
mod stream;

pub(crate) use answer::{Answer, Fault, Turn};
pub(crate) use asked::Asked;
pub(crate) use oddity::Oddity;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use axum::serve::ListenerExt;
use check::{Issued, Rejection};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The key that the double knows.
pub(crate) const KEY: &str = "sk-ant-api03-double-0123456789abcdef";

/// Decides what is answered.
pub(crate) trait Brain: Send + Sync + 'static {
    /// The answer to a valid request.
    fn answer(&self, asked: &Asked) -> Answer;
}

impl<F: Fn(&Asked) -> Answer + Send + Sync + 'static> Brain for F {
    fn answer(&self, asked: &Asked) -> Answer {
        self(asked)
    }
}

/// A request as it was received, and the status that it was answered with.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) body: String,
    pub(crate) status: u16,
    /// Why it was refused.
    pub(crate) rejection: Option<String>,
    /// When it was there, and when its answer was ready.
    pub(crate) received_at: Instant,
    pub(crate) answered_at: Instant,
}

impl Captured {
    /// The body, parsed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A running double. It stops when it is dropped.
pub(crate) struct Double {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    brain: Box<dyn Brain>,
    captured: Mutex<Vec<Captured>>,
    /// What was answered.
    issued: Mutex<Issued>,
    /// Prefixes of conversations that were seen, with their bytes.
    cached: Mutex<HashMap<String, usize>>,
    count: AtomicU64,
    oddities: Vec<Oddity>,
    /// What was generated, in the order of the answers: the model, and its usage.
    generated: Mutex<Vec<(String, Value)>>,
}

impl Drop for Double {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Double {
    /// A double at a port of loopback that is free.
    pub(crate) async fn start(brain: impl Brain) -> Self {
        Self::odd(brain, Vec::new()).await
    }

    /// A double that behaves oddly in these ways.
    pub(crate) async fn odd(brain: impl Brain, oddities: Vec<Oddity>) -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), brain, oddities).await
    }

    /// A double at this address.
    pub(crate) async fn listen(address: SocketAddr, brain: impl Brain, oddities: Vec<Oddity>) -> Self {
        let listener = TcpListener::bind(address).await.expect("the double's address is free");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            brain: Box::new(brain),
            captured: Mutex::default(),
            issued: Mutex::default(),
            cached: Mutex::default(),
            count: AtomicU64::new(1),
            oddities,
            generated: Mutex::default(),
        });
        let limit = DefaultBodyLimit::max(check::MAX_BODY + 1);
        let router = Router::new().fallback(serve).layer(limit).with_state(Arc::clone(&shared));
        // Else the end of a stream waits for the client's acknowledgement of its begin, 40 ms later.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, task }
    }

    /// What `ANTHROPIC_BASE_URL` is to be.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Captured> {
        self.shared.captured.lock().unwrap().clone()
    }

    /// The requests with tools: those of the planner's conversations.
    pub(crate) fn planned(&self) -> Vec<Captured> {
        self.requests().into_iter().filter(|it| it.json().get("tools").is_some()).collect()
    }

    /// The requests of the planner's conversations about one ticket.
    pub(crate) fn planned_for(&self, ticket: &str) -> Vec<Captured> {
        let about = |it: &Captured| it.body.contains(&format!("# Ticket {ticket}\\n"));
        self.planned().into_iter().filter(about).collect()
    }

    /// What was generated so far: the model of each answer, and its usage.
    pub(crate) fn generated(&self) -> Vec<(String, Value)> {
        self.shared.generated.lock().unwrap().clone()
    }

    /// Why requests were refused: a client that is right has none.
    pub(crate) fn rejections(&self) -> Vec<String> {
        self.requests().into_iter().filter_map(|it| it.rejection).collect()
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let received_at = Instant::now();
    let number = shared.count.fetch_add(1, Ordering::SeqCst);
    let checked = check::check(&method, uri.path(), &headers, &body, &shared.issued.lock().unwrap());
    let (response, status, rejection) = match checked {
        Err(rejection) => (refuse(&rejection, number), rejection.status, Some(rejection.message)),
        Ok(asked) => {
            let answer = shared.brain.answer(&asked);
            let (response, status) = shared.play(&asked, answer, number);
            (response, status, None)
        }
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    let answered_at = Instant::now();
    shared.captured.lock().unwrap().push(Captured { body, status, rejection, received_at, answered_at });
    response
}

impl Shared {
    fn play(&self, asked: &Asked, answer: Answer, number: u64) -> (Response, u16) {
        match answer {
            Answer::Fault(Fault::Status { status, kind, error_code, headers }) => {
                let details = error_code.map(|code| json!({ "error_code": code }));
                let error = json!({ "type": kind, "message": format!("a scripted {status}"), "details": details });
                let mut response = error_response(status, &error, number);
                for (name, value) in headers {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                (response, status)
            }
            Answer::Fault(Fault::NotTheApi) => {
                let page = Response::builder().status(200).header("content-type", "text/html");
                (page.body(Body::from("<html>a proxy's page</html>")).unwrap(), 200)
            }
            Answer::Fault(Fault::Cut { turn, after_events }) => {
                (self.stream(asked, &turn, number, Some((after_events, None))), 200)
            }
            Answer::Fault(Fault::ErrorEvent { turn, after_events, kind }) => {
                (self.stream(asked, &turn, number, Some((after_events, Some(kind)))), 200)
            }
            Answer::Message(turn) => (self.stream(asked, &turn, number, None), 200),
        }
    }

    fn stream(&self, asked: &Asked, turn: &Turn, number: u64, cut: Option<(usize, Option<&'static str>)>) -> Response {
        let has = |oddity| self.oddities.contains(&oddity);
        let mut usage = self.usage(asked);
        let turn = if has(Oddity::EmptyText) { &turn.clone().empty_text_first() } else { turn };
        let written = turn.write(asked, number, &usage);
        usage["output_tokens"] = written.output_tokens.into();
        self.generated.lock().unwrap().push((asked.body["model"].as_str().unwrap().to_owned(), usage));
        self.issued.lock().unwrap().remember(&written);
        let mut events = written.events;
        let broken = cut.map(|(after, kind)| {
            events.truncate(after);
            if let Some(kind) = kind {
                let error = json!({ "type": "error", "error": { "type": kind, "message": "a scripted error" } });
                events.push(("error".to_owned(), error.to_string()));
            }
            kind.is_none()
        });
        let frames = oddity::frames(&events, &self.oddities);
        let body = stream::body(&frames, broken == Some(true), has(Oddity::Gathered));
        let kind =
            if has(Oddity::CapitalContentType) { "Text/Event-Stream" } else { "text/event-stream; charset=utf-8" };
        let mut response = Response::builder().status(200);
        if !has(Oddity::NoContentType) {
            response = response.header("content-type", kind);
        }
        response
            .header("request-id", format!("req_{number}"))
            .header("anthropic-ratelimit-requests-remaining", "999")
            .header("anthropic-ratelimit-input-tokens-remaining", "100000")
            .body(body)
            .unwrap()
    }

    /// What the request costs: four bytes a token; the longest prefix that was seen before is read from the cache.
    fn usage(&self, asked: &Asked) -> Value {
        let mut cached = self.cached.lock().unwrap();
        let (mut read, mut total) = (0, 0);
        for (digest, bytes) in asked.prefixes() {
            total = bytes;
            match cached.entry(digest) {
                Entry::Occupied(_) => read = bytes,
                Entry::Vacant(new) if asked.is_cached() => {
                    new.insert(bytes);
                }
                Entry::Vacant(_) => {}
            }
        }
        let rest = (total - read).div_ceil(4);
        let (plain, created) = if asked.is_cached() { (0, rest) } else { (rest, 0) };
        json!({
            "input_tokens": plain, "output_tokens": 1, "cache_creation_input_tokens": created,
            "cache_read_input_tokens": read / 4,
            "cache_creation": { "ephemeral_5m_input_tokens": created, "ephemeral_1h_input_tokens": 0 },
        })
    }
}

fn refuse(rejection: &Rejection, number: u64) -> Response {
    error_response(rejection.status, &json!({ "type": rejection.kind, "message": rejection.message }), number)
}

fn error_response(status: u16, error: &Value, number: u64) -> Response {
    let id = format!("req_{number}");
    let body = json!({ "type": "error", "error": error, "request_id": id });
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/json")
        .header("request-id", id)
        .body(Body::from(body.to_string()))
        .unwrap()
}
