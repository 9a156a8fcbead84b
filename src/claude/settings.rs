//! Where the API is, and who asks.

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
    /// Headers that are sent besides.
    pub extra_headers: HeaderMap,
    /// How often a failed call is sent again; the official SDKs do so twice.
    pub retries: u32,
    /// What a call may take, retries and waiting included; in the official SDKs 10 minutes.
    pub deadline: Duration,
    /// A stream that brings nothing for so long is broken; pings count.
    pub idle_timeout: Duration,
}

/// How the API knows who asks.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `x-api-key: KEY`.
    ApiKey(Secret),
    /// `Authorization: Bearer TOKEN`.
    Bearer(Secret),
}

impl Credentials {
    /// The key or the token.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::ApiKey(secret) | Self::Bearer(secret) => secret,
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
    /// A line of the custom headers.
    #[error("line {0} of ANTHROPIC_CUSTOM_HEADERS is no header: write `Name: Value` in each line")]
    ReadCustomHeader(usize),
    /// The key or the token.
    #[error("{0} has characters that no header can have: look for a line break or a quote in it")]
    ReadCredential(&'static str),
}

impl Settings {
    /// Settings from variables with the names that the official SDKs use; `None` without a key or a token. An empty
    /// variable counts as none. The key goes before the token.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SettingsError> {
        let set = |name: &str| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let credential = |name: &'static str, text: String| match HeaderValue::from_str(&text) {
            Ok(_) => Ok(Secret::new(text)),
            Err(_) => Err(SettingsError::ReadCredential(name)),
        };
        let credentials = if let Some(key) = set("ANTHROPIC_API_KEY") {
            Credentials::ApiKey(credential("ANTHROPIC_API_KEY", key)?)
        } else if let Some(token) = set("ANTHROPIC_AUTH_TOKEN") {
            Credentials::Bearer(credential("ANTHROPIC_AUTH_TOKEN", token)?)
        } else {
            return Ok(None);
        };
        let base_url = set("ANTHROPIC_BASE_URL").unwrap_or_else(|| DEFAULT_BASE_URL.to_owned());
        let mut settings = Self::new(base_url_of(&base_url)?, credentials);
        settings.extra_headers = headers(&set("ANTHROPIC_CUSTOM_HEADERS").unwrap_or_default())?;
        Ok(Some(settings))
    }

    /// Settings with the patience of the official SDKs.
    pub fn new(base_url: Url, credentials: Credentials) -> Self {
        Self {
            base_url,
            credentials,
            extra_headers: HeaderMap::new(),
            retries: 2,
            deadline: Duration::from_mins(10),
            idle_timeout: Duration::from_mins(1),
        }
    }
}

fn base_url_of(text: &str) -> Result<Url, SettingsError> {
    let url = Url::parse(text).map_err(|error| SettingsError::ReadBaseUrl(error.to_string()))?;
    if matches!(url.scheme(), "http" | "https") && url.host().is_some() {
        Ok(url)
    } else {
        Err(SettingsError::ReadBaseUrl("it has no host, or another scheme".to_owned()))
    }
}

fn headers(lines: &str) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    for (at, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let parsed = line.split_once(':').and_then(|(name, value)| {
            Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value.trim()).ok()?))
        });
        let (name, value) = parsed.ok_or(SettingsError::ReadCustomHeader(at + 1))?;
        headers.append(name, value);
    }
    Ok(headers)
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
        assert_eq!(with("ANTHROPIC_CUSTOM_HEADERS", "a: b\nnonsense"), SettingsError::ReadCustomHeader(2));
        let error = of(&[("ANTHROPIC_API_KEY", "sk-\u{7f}secret")]).unwrap_err();
        assert!(!error.to_string().contains("secret"));
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
