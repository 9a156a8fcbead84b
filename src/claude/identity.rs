//! Workload identity: a token of the platform is exchanged for a short-lived one of the API, as the official SDKs do
//! (`POST {base}/v1/oauth/token`, RFC 7523 `jwt-bearer`). Touches the world: a file, and HTTP.

use super::client::{cause, error_body};
use super::error::{ClaudeError, plain};
use super::settings::Secret;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

/// A token is exchanged anew so long before it ends.
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_mins(1);
/// An exchange may take this long.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a server that does not say how long its token lives is taken to mean.
const UNSAID_LIFETIME: Duration = Duration::from_mins(5);

/// Who the workload is, by the names that the official SDKs use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadIdentity {
    /// The file of the platform's token (`ANTHROPIC_IDENTITY_TOKEN_FILE`): read again for each exchange.
    pub token_file: PathBuf,
    /// `ANTHROPIC_FEDERATION_RULE_ID`.
    pub federation_rule_id: String,
    /// `ANTHROPIC_ORGANIZATION_ID`.
    pub organization_id: String,
    /// `ANTHROPIC_SERVICE_ACCOUNT_ID`.
    pub service_account_id: Option<String>,
    /// `ANTHROPIC_WORKSPACE_ID`.
    pub workspace_id: Option<String>,
}

/// The token that an identity was exchanged for last.
#[derive(Debug, Default)]
pub(super) struct TokenCache(Mutex<Option<Token>>);

#[derive(Debug)]
struct Token {
    text: Secret,
    refresh_at: Instant,
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: Option<u64>,
}

impl TokenCache {
    /// A token that is still good. Those who ask at once share one exchange.
    pub(super) async fn token(
        &self,
        http: &reqwest::Client,
        base_url: &Url,
        identity: &WorkloadIdentity,
    ) -> Result<Secret, ClaudeError> {
        let mut known = self.0.lock().await;
        if let Some(token) = known.as_ref().filter(|token| Instant::now() < token.refresh_at) {
            return Ok(token.text.clone());
        }
        let exchange = timeout(EXCHANGE_TIMEOUT, exchange(http, base_url, identity)).await;
        let exchanged =
            exchange.map_err(|_| ClaudeError::Connect("the exchange of the identity token".to_owned()))??;
        let text = Secret::new(exchanged.access_token);
        let lifetime = exchanged.expires_in.map_or(UNSAID_LIFETIME, Duration::from_secs);
        let refresh_at = Instant::now() + lifetime.saturating_sub(REFRESH_BEFORE_EXPIRY);
        *known = Some(Token { text: text.clone(), refresh_at });
        Ok(text)
    }

    /// Forgets a token that the API did not accept, unless another was exchanged since.
    pub(super) async fn refused(&self, token: &Secret) {
        let mut known = self.0.lock().await;
        if known.as_ref().is_some_and(|it| it.text == *token) {
            *known = None;
        }
    }
}

async fn exchange(
    http: &reqwest::Client,
    base_url: &Url,
    identity: &WorkloadIdentity,
) -> Result<Exchanged, ClaudeError> {
    let file = identity.token_file.display();
    let assertion = tokio::fs::read_to_string(&identity.token_file)
        .await
        .map_err(|error| ClaudeError::SetUp(format!("the identity token {file} cannot be read: {error}")))?;
    if assertion.trim().is_empty() {
        return Err(ClaudeError::SetUp(format!("the identity token {file} is empty")));
    }
    let mut body = json!({
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion.trim(),
        "federation_rule_id": identity.federation_rule_id, "organization_id": identity.organization_id,
    });
    for (name, value) in
        [("service_account_id", &identity.service_account_id), ("workspace_id", &identity.workspace_id)]
    {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    let mut url = base_url.clone();
    url.set_path(&format!("{}/v1/oauth/token", base_url.path().trim_end_matches('/')));
    let request = http.post(url).header(http::header::CONTENT_TYPE, "application/json").body(body.to_string());
    let response = request.send().await.map_err(|error| ClaudeError::Connect(cause(&error)))?;
    let status = response.status();
    let answer = error_body(response).await;
    if !status.is_success() {
        // An error may repeat what was sent.
        let shown = String::from_utf8_lossy(&answer).replace(assertion.trim(), "…");
        return Err(ClaudeError::of_body(Some(status.as_u16()), shown.as_bytes(), None));
    }
    serde_json::from_slice(&answer)
        .map_err(|_| ClaudeError::Malformed(plain("the exchange of the identity token gave no token")))
}
