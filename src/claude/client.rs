//! Sends a request and waits for the whole answer. Touches the world: HTTP, and the clock.

use super::error::{ClaudeError, plain};
use super::message::{Message, RateLimits};
use super::request::Request;
use super::retry::{self, Hints};
use super::settings::{Credentials, Settings};
use super::stream::{Assembly, Events};
use http::{HeaderMap, HeaderValue, header};
use reqwest::Response;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

/// The version of the API that is spoken here.
const VERSION: &str = "2026-10-21";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an error's body that are read.
const MAX_ERROR: usize = 64 << 10;

/// What happens while an answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The model thinks.
    Thinking,
    /// It says this.
    Text(&'a str),
    /// It calls this tool.
    ToolUse {
        /// The tool.
        name: &'a str,
    },
    /// The call failed and is sent again.
    Retrying {
        /// After so long.
        after: Duration,
        /// Why it failed: one PascalCase word.
        why: &'static str,
    },
}

/// A client. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    settings: Arc<Settings>,
    url: Url,
    headers: HeaderMap,
}

impl Client {
    /// A client with these settings. Connects to nothing yet.
    pub fn new(settings: Settings) -> Result<Self, ClaudeError> {
        let failed = |error: &dyn std::fmt::Display| ClaudeError::SetUp(plain(&error.to_string()));
        // A redirect would carry the key to another host.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .hickory_dns(true)
            .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| failed(&error))?;
        let mut url = settings.base_url.clone();
        let path = format!("{}/v1/messages", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let headers = headers(&settings).map_err(|error| failed(&error))?;
        Ok(Self { http, settings: Arc::new(settings), url, headers })
    }

    /// Asks for one turn and waits until it is whole; `progress` is told how it goes. A call that fails for a passing
    /// reason is sent again: nothing of an answer is used before all of it is there.
    pub async fn send(
        &self,
        request: &Request,
        mut progress: impl FnMut(Progress<'_>) + Send,
    ) -> Result<Message, ClaudeError> {
        let body = bytes::Bytes::from(request.body()?);
        let deadline = Instant::now() + self.settings.deadline;
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = timeout_at(deadline, self.attempt(body.clone(), &mut progress)).await;
            let (error, hints) = match attempt {
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(failed)) => failed,
                Err(_) => return Err(ClaudeError::TimedOut(self.settings.deadline)),
            };
            let after = retry::wait(&error, hints, tries, fastrand::f64()).filter(|_| tries <= self.settings.retries);
            // A wait beyond the deadline is in vain.
            let Some(after) = after.filter(|after| Instant::now() + *after < deadline) else { return Err(error) };
            progress(Progress::Retrying { after, why: error.reason() });
            sleep(after).await;
        }
    }

    async fn attempt(
        &self,
        body: bytes::Bytes,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<Message, (ClaudeError, Hints)> {
        let plainly = |error: ClaudeError| (error, Hints::default());
        let sent = self.http.post(self.url.clone()).headers(self.headers.clone()).body(body).send();
        let response = match timeout(self.settings.idle_timeout, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(plainly(ClaudeError::Connect(cause(&error)))),
            Err(_) => return Err(plainly(self.silent())),
        };
        let request_id = response.headers().get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let hints = Hints::of(status, response.headers(), SystemTime::now());
            let body = timeout(self.settings.idle_timeout, error_body(response)).await.unwrap_or_default();
            return Err((ClaudeError::of_body(Some(status), &body, request_id), hints));
        }
        self.receive(response, request_id, progress).await.map_err(plainly)
    }

    async fn receive(
        &self,
        mut response: Response,
        request_id: Option<String>,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<Message, ClaudeError> {
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("text/event-stream") {
            return Err(ClaudeError::Malformed("it is no event stream".to_owned()));
        }
        let limits = RateLimits::of(response.headers());
        let (mut events, mut assembly) = (Events::default(), Assembly::default());
        while !assembly.is_whole() {
            let chunk = match timeout(self.settings.idle_timeout, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(ClaudeError::StreamBroken(cause(&error))),
                Err(_) => return Err(self.silent()),
            };
            for data in events.feed(&chunk)? {
                assembly.take(&data, progress)?;
            }
        }
        assembly.finish(request_id, limits)
    }

    fn silent(&self) -> ClaudeError {
        ClaudeError::StreamBroken(format!("nothing came for {} s", self.settings.idle_timeout.as_secs()))
    }
}

fn headers(settings: &Settings) -> Result<HeaderMap, http::header::InvalidHeaderValue> {
    let mut headers = settings.extra_headers.clone();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
    let (name, text) = match &settings.credentials {
        Credentials::ApiKey(key) => (header::HeaderName::from_static("x-api-key"), key.expose().to_owned()),
        Credentials::Bearer(token) => (header::AUTHORIZATION, format!("Bearer {}", token.expose())),
    };
    let mut value = HeaderValue::from_str(&text)?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(headers)
}

async fn error_body(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ERROR {
            break;
        }
    }
    body
}

/// The innermost cause: the outer ones name the URL again.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}
