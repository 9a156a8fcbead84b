//! Sends a request and waits for the whole answer. Touches the world: HTTP, and the clock.

use super::error::{ApiErrorKind, ClaudeError, plain};
use super::identity::TokenCache;
use super::message::{Message, RateLimits};
use super::request::Request;
use super::retry::{self, Hints};
use super::settings::{Credentials, Secret, Settings};
use super::stream::{Assembly, Events};
use bytes::Bytes;
use http::header::InvalidHeaderValue;
use http::{HeaderMap, HeaderValue, header};
use reqwest::Response;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

/// The version of the API that is spoken here.
const VERSION: &str = "2026-10-21";
/// What a token of a workload's identity must be sent with.
const IDENTITY_BETA: &str = "oauth-2025-04-20";
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
    tokens: Arc<TokenCache>,
}

/// Why a request gave no answer, and when it is worth another.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: ClaudeError,
    /// The pause before the next one; `None`: there is to be none.
    pub retry_after: Option<Duration>,
}

/// One turn that is asked for: as many requests as it takes, one by one, so that each can be accounted for.
#[derive(Debug)]
pub struct Call<'a> {
    client: &'a Client,
    body: Bytes,
    deadline: Instant,
    tries: u32,
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
        Ok(Self { http, settings: Arc::new(settings), url, headers, tokens: Arc::default() })
    }

    /// Begins to ask for one turn.
    pub fn call(&self, request: &Request) -> Result<Call<'_>, ClaudeError> {
        let body = Bytes::from(request.body()?);
        Ok(Call { client: self, body, deadline: Instant::now() + self.settings.deadline, tries: 0 })
    }

    /// Asks for one turn and waits until it is whole; `progress` is told how it goes. A call that fails for a passing
    /// reason is sent again: nothing of an answer is used before all of it is there.
    pub async fn send(
        &self,
        request: &Request,
        mut progress: impl FnMut(Progress<'_>) + Send,
    ) -> Result<Message, ClaudeError> {
        let mut call = self.call(request)?;
        loop {
            let Failed { error, retry_after } = match call.attempt(&mut progress).await {
                Ok(message) => return Ok(message),
                Err(failed) => failed,
            };
            let Some(after) = retry_after else { return Err(error) };
            progress(Progress::Retrying { after, why: error.reason() });
            sleep(after).await;
        }
    }

    async fn attempt(
        &self,
        body: Bytes,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<Message, (ClaudeError, Hints)> {
        let plainly = |error: ClaudeError| (error, Hints::default());
        let token = self.token().await.map_err(plainly)?;
        let headers = self.headers_with(token.as_ref()).map_err(plainly)?;
        let sent = self.http.post(self.url.clone()).headers(headers).body(body).send();
        let response = match timeout(self.settings.response_timeout, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(plainly(ClaudeError::Connect(cause(&error)))),
            // The request was on its way: what became of it is not known.
            Ok(Err(error)) => return Err(plainly(ClaudeError::StreamBroken(cause(&error)))),
            Err(_) => return Err(plainly(silent(self.settings.response_timeout))),
        };
        let request_id = response.headers().get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let hints = Hints::of(status, response.headers(), SystemTime::now());
            let body = timeout(self.settings.idle_timeout, error_body(response)).await.unwrap_or_default();
            let error = ClaudeError::of_body(Some(status), &body, request_id);
            if let (Some(token), ClaudeError::Api { kind: ApiErrorKind::Authentication, .. }) = (&token, &error) {
                self.tokens.refused(token).await;
            }
            return Err((error, hints));
        }
        self.receive(response, request_id, progress).await.map_err(plainly)
    }

    async fn receive(
        &self,
        mut response: Response,
        request_id: Option<String>,
        progress: &mut (impl FnMut(Progress<'_>) + Send),
    ) -> Result<Message, ClaudeError> {
        // Some gateways leave it out.
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| !kind.trim().to_ascii_lowercase().starts_with("text/event-stream")) {
            return Err(ClaudeError::Malformed("it is no event stream".to_owned()));
        }
        let limits = RateLimits::of(response.headers());
        let (mut events, mut assembly) = (Events::default(), Assembly::default());
        while !assembly.is_whole() {
            let chunk = match timeout(self.settings.idle_timeout, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(ClaudeError::StreamBroken(cause(&error))),
                Err(_) => return Err(silent(self.settings.idle_timeout)),
            };
            for event in events.feed(&chunk)? {
                assembly.take(&event, progress)?;
            }
        }
        assembly.finish(request_id, limits)
    }

    /// The token of the workload's identity, where that is the credential.
    async fn token(&self) -> Result<Option<Secret>, ClaudeError> {
        match &self.settings.credentials {
            Credentials::Identity(identity) => {
                self.tokens.token(&self.http, &self.settings.base_url, identity).await.map(Some)
            }
            Credentials::ApiKey(_) | Credentials::Bearer(_) | Credentials::CustomHeaders => Ok(None),
        }
    }

    fn headers_with(&self, token: Option<&Secret>) -> Result<HeaderMap, ClaudeError> {
        let mut headers = self.headers.clone();
        if let Some(token) = token {
            let value = sensitive(&format!("Bearer {}", token.expose()));
            let value = value.map_err(|_| ClaudeError::Malformed("the exchanged token is no token".to_owned()))?;
            headers.entry(header::AUTHORIZATION).or_insert(value);
            headers.append("anthropic-beta", HeaderValue::from_static(IDENTITY_BETA));
        }
        Ok(headers)
    }
}

impl Call<'_> {
    /// Sends one request and waits for the whole answer. To be repeated after the pause that a failure names: nothing of
    /// an answer is used before all of it is there.
    pub async fn attempt(&mut self, progress: &mut (impl FnMut(Progress<'_>) + Send)) -> Result<Message, Failed> {
        let settings = &self.client.settings;
        self.tries += 1;
        let (error, hints) = match timeout_at(self.deadline, self.client.attempt(self.body.clone(), progress)).await {
            Ok(Ok(message)) => return Ok(message),
            Ok(Err(failed)) => failed,
            Err(_) => return Err(Failed { error: ClaudeError::TimedOut(settings.deadline), retry_after: None }),
        };
        let pause = retry::wait(&error, hints, self.tries, fastrand::f64()).filter(|_| self.tries <= settings.retries);
        // A pause beyond the deadline is in vain.
        let retry_after = pause.filter(|pause| Instant::now() + *pause < self.deadline);
        Err(Failed { error, retry_after })
    }
}

fn silent(limit: Duration) -> ClaudeError {
    ClaudeError::StreamBroken(format!("nothing came for {} s", limit.as_secs()))
}

fn headers(settings: &Settings) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("anthropic-version", HeaderValue::from_static(VERSION));
    match &settings.credentials {
        Credentials::ApiKey(key) => {
            headers.insert("x-api-key", sensitive(key.expose())?);
        }
        Credentials::Bearer(token) => {
            headers.insert(header::AUTHORIZATION, sensitive(&format!("Bearer {}", token.expose()))?);
        }
        Credentials::Identity(_) | Credentials::CustomHeaders => {}
    }
    // Theirs replace these, where both have one.
    headers.extend(settings.extra_headers.clone());
    Ok(headers)
}

fn sensitive(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) async fn error_body(mut response: Response) -> Vec<u8> {
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
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}
