//! Where the API is, and who asks.

use super::identity::WorkloadIdentity;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::time::Duration;
use url::Url;

const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";

/// Where the API is, who asks, and how patiently.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `/v1/messages` is appended to its path.
    pub base_url: Url,
    /// Who asks.
    pub credentials: Credentials,
    /// Headers that are sent besides; they go before the client's own, the credential included.
    pub extra_headers: HeaderMap,
    /// How often a failed call is sent again; the official SDKs do so twice.
    pub retries: u32,
    /// What a call may take, retries and waiting included; in the official SDKs 10 minutes.
    pub deadline: Duration,
    /// An answer may take so long to begin: servers may think, and gateways gather, before the first byte.
    pub response_timeout: Duration,
    /// An answer that has begun and brings nothing for so long is broken; pings count.
    pub idle_timeout: Duration,
}

/// How the API knows who asks.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `x-api-key: KEY`.
    ApiKey(Secret),
    /// `Authorization: Bearer TOKEN`.
    Bearer(Secret),
    /// `Authorization: Bearer TOKEN`, with a token that the platform's own is exchanged for.
    Identity(WorkloadIdentity),
    /// The custom headers hold it.
    CustomHeaders,
}

impl Credentials {
    /// The key or the token, where it is one that was given.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::ApiKey(secret) | Self::Bearer(secret) => Some(secret),
            Self::Identity(_) | Self::CustomHeaders => None,
        }
    }
}

/// Text that no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why the variables cannot be used. No value is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The base URL.
    #[error("ANTHROPIC_BASE_URL is no http(s) URL ({0}): write one such as {DEFAULT_BASE_URL}")]
    ReadBaseUrl(String),
    /// The workload's identity is not whole.
    #[error("ANTHROPIC_IDENTITY_TOKEN_FILE needs {0} too")]
    IncompleteIdentity(&'static str),
    /// The key or the token.
    #[error("{0} has characters that no header can have: look for a line break or a quote in it")]
    ReadCredential(&'static str),
}

impl Settings {
    /// Settings from variables with the names that the official SDKs use; `None` without a credential. An empty
    /// variable counts as none. The key goes before the token, the token before the workload's identity; a custom header
    /// that is a credential may stand alone.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let set = |name: &str| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let extra_headers = headers(&set("ANTHROPIC_CUSTOM_HEADERS").unwrap_or_default());
        let credential = |name: &'static str, text: String| match HeaderValue::from_str(&text) {
            Ok(_) => Ok(Secret::new(text)),
            Err(_) => Err(SettingsError::ReadCredential(name)),
        };
        let credentials = if let Some(key) = set("ANTHROPIC_API_KEY") {
            Credentials::ApiKey(credential("ANTHROPIC_API_KEY", key)?)
        } else if let Some(token) = set("ANTHROPIC_AUTH_TOKEN") {
            Credentials::Bearer(credential("ANTHROPIC_AUTH_TOKEN", token)?)
        } else if let Some(file) = set("ANTHROPIC_IDENTITY_TOKEN_FILE") {
            Credentials::Identity(identity(file, set)?)
        } else if CREDENTIAL_HEADERS.iter().any(|name| extra_headers.contains_key(*name)) {
            Credentials::CustomHeaders
        } else {
            return Ok(None);
        };
        let base_url = set("ANTHROPIC_BASE_URL").unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
        Ok(Some(Self { extra_headers, ..Self::new(base_url_of(&base_url)?, credentials) }))
    }

    /// Settings with the patience of the official clients.
    pub fn new(base_url: Url, credentials: Credentials) -> Self {
        Self {
            base_url,
            credentials,
            extra_headers: HeaderMap::new(),
            retries: 2,
            deadline: Duration::from_mins(10),
            response_timeout: Duration::from_mins(10),
            idle_timeout: Duration::from_mins(3),
        }
    }
}

/// Headers that are a credential.
const CREDENTIAL_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

fn identity(token_file: String, set: impl Fn(&str) -> Option<String>) -> Result<WorkloadIdentity, SettingsError> {
    let needed = |name: &'static str| set(name).ok_or(SettingsError::IncompleteIdentity(name));
    Ok(WorkloadIdentity {
        token_file: token_file.into(),
        federation_rule_id: needed("ANTHROPIC_FEDERATION_RULE_ID")?,
        organization_id: needed("ANTHROPIC_ORGANIZATION_ID")?,
        service_account_id: set("ANTHROPIC_SERVICE_ACCOUNT_ID"),
        workspace_id: set("ANTHROPIC_WORKSPACE_ID"),
    })
}

fn base_url_of(text: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(text).map_err(|error| SettingsError::ReadBaseUrl(error.to_string()))?;
    if matches!(url.scheme(), "http" | "https") && url.host().is_some() {
        Ok(url)
    } else {
        Err(SettingsError::ReadBaseUrl("it has no host, or another scheme".to_owned()))
    }
}

/// One header a line. A line that is none is left out with a warning, which does not show it: it may hold a secret.
fn headers(lines: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (at, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        let Some((name, mut value)) = parsed else {
            let line = at + 1;
            tracing::warn!(
                line,
                "a line of ANTHROPIC_CUSTOM_HEADERS is no header and is left out: write `Name: Value`"
            );
            continue;
        };
        value.set_sensitive(CREDENTIAL_HEADERS.contains(&name.as_str()));
        headers.append(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Settings>, SettingsError> {
        Settings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_credential_there_are_no_settings() {
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&[("ANTHROPIC_API_KEY", " "), ("ANTHROPIC_BASE_URL", "nonsense")]).unwrap().is_none());
    }

    #[test]
    fn a_key_goes_before_a_token_and_neither_is_ever_shown() {
        let both = [("ANTHROPIC_API_KEY", "sk-key"), ("ANTHROPIC_AUTH_TOKEN", "tok")];
        let settings = of(&both).unwrap().unwrap();
        assert!(matches!(&settings.credentials, Credentials::ApiKey(key) if key.expose() == "sk-key"));
        assert!(!format!("{settings:?}").contains("sk-key"));
        assert_eq!(settings.base_url.as_str(), "https://api.anthropic.com/");
        let token = of(&both[1..]).unwrap().unwrap();
        assert!(matches!(&token.credentials, Credentials::Bearer(token) if token.expose() == "tok"));
    }

    #[test]
    fn bad_variables_are_named_and_not_shown() {
        let with = |name, value| of(&[("ANTHROPIC_API_KEY", "k"), (name, value)]).unwrap_err();
        assert!(matches!(with("ANTHROPIC_BASE_URL", "api.anthropic.com"), SettingsError::ReadBaseUrl(_)));
        assert!(matches!(with("ANTHROPIC_BASE_URL", "file:///etc"), SettingsError::ReadBaseUrl(_)));
        let error = of(&[("ANTHROPIC_API_KEY", "sk-\u{7f}secret")]).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_custom_header_may_be_the_credential_and_a_line_that_is_none_is_left_out() {
        let settings =
            of(&[("ANTHROPIC_CUSTOM_HEADERS", "nonsense sk-secret\nAuthorization: Bearer gateway\n: x\nX-A: b")]);
        let settings = settings.unwrap().unwrap();
        assert!(matches!(settings.credentials, Credentials::CustomHeaders));
        assert_eq!((settings.extra_headers.len(), &settings.extra_headers["x-a"]), (2, &HeaderValue::from_static("b")));
        assert!(!format!("{settings:?}").contains("gateway"));
        assert!(of(&[("ANTHROPIC_CUSTOM_HEADERS", "X-Team: sre")]).unwrap().is_none());
    }

    #[test]
    fn a_workload_has_an_identity_where_its_variables_are_whole() {
        let file = ("ANTHROPIC_IDENTITY_TOKEN_FILE", "/run/token");
        let rule = ("ANTHROPIC_FEDERATION_RULE_ID", "fdrl_1");
        let organization = ("ANTHROPIC_ORGANIZATION_ID", "org");
        let settings = of(&[file, rule, organization]).unwrap().unwrap();
        assert!(matches!(&settings.credentials, Credentials::Identity(it) if it.federation_rule_id == "fdrl_1"));
        let missing = of(&[file, rule]).unwrap_err();
        assert_eq!(missing, SettingsError::IncompleteIdentity("ANTHROPIC_ORGANIZATION_ID"));
        let with_key = of(&[file, ("ANTHROPIC_API_KEY", "k")]).unwrap().unwrap();
        assert!(matches!(with_key.credentials, Credentials::ApiKey(_)), "the key goes first");
    }

    #[test]
    fn custom_headers_are_lines() {
        let settings = of(&[("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_CUSTOM_HEADERS", "X-Team: sre\nX-Env:prod\n")]);
        let headers = settings.unwrap().unwrap().extra_headers;
        assert_eq!(
            (&headers["x-team"], &headers["x-env"]),
            (&HeaderValue::from_static("sre"), &HeaderValue::from_static("prod"))
        );
    }
}
