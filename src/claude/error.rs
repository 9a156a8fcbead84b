//! What can go wrong.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::time::Duration;

/// Characters of an error's text that are kept.
const MESSAGE: usize = 300;

/// Why there is no answer. No text of it holds a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaudeError {
    /// The client cannot be made.
    #[error("the client of the Messages API cannot be set up: {0}")]
    SetUp(String),
    /// The request is not one that the API could accept.
    #[error("the request cannot be sent: {0}")]
    MakeRequest(String),
    /// No connection: nothing was sent.
    #[error("the Messages API cannot be reached ({0}): check the network and ANTHROPIC_BASE_URL")]
    Connect(String),
    /// No whole answer by the deadline.
    #[error("the Messages API gave no whole answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The stream ended or fell silent before the answer was whole.
    #[error("the answer of the Messages API broke off: {0}")]
    StreamBroken(String),
    /// The answer is not what the API documents.
    #[error("the answer is not one of the Messages API ({0}): check ANTHROPIC_BASE_URL")]
    Malformed(String),
    /// The API says no.
    #[error("{}{}", explain(*kind, *status, message), request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
    Api {
        /// What kind of no.
        kind: ApiErrorKind,
        /// The API's own words, capped.
        message: String,
        /// The id of the request, for support.
        request_id: Option<String>,
        /// The HTTP status; `None` where it was said after the answer had begun.
        status: Option<u16>,
    },
}

/// The kinds of errors of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiErrorKind {
    /// 400.
    InvalidRequest,
    /// 401.
    Authentication,
    /// 402.
    Billing,
    /// 403.
    Permission,
    /// 404.
    NotFound,
    /// 409.
    Conflict,
    /// 413.
    RequestTooLarge,
    /// 429.
    RateLimited,
    /// 429 that does not pass by waiting: a limit on what the account may spend.
    SpendLimitReached,
    /// 500.
    Internal,
    /// 504.
    Timeout,
    /// 529.
    Overloaded,
    /// Something else.
    Other,
}

/// Advice and the API's own words, so put that no name of a credential stands right before what could be taken for one.
fn explain(kind: ApiErrorKind, status: Option<u16>, message: &str) -> String {
    let advice = match kind {
        ApiErrorKind::Authentication => "the API does not know the key (check ANTHROPIC_API_KEY)",
        ApiErrorKind::Permission => "the key may not do this (check its workspace and the model)",
        ApiErrorKind::Billing | ApiErrorKind::SpendLimitReached => {
            "the account may not spend more (see its plan and its spend limit)"
        }
        ApiErrorKind::NotFound => "the API does not have this (check the model's name and ANTHROPIC_BASE_URL)",
        ApiErrorKind::RateLimited => "the account's rate is exceeded",
        ApiErrorKind::Overloaded | ApiErrorKind::Internal | ApiErrorKind::Timeout => "the API has a passing problem",
        ApiErrorKind::InvalidRequest | ApiErrorKind::RequestTooLarge | ApiErrorKind::Conflict | ApiErrorKind::Other => {
            "the API refused the request"
        }
    };
    match status {
        Some(status) => format!("{advice}; status {status}: {message}"),
        None => format!("{advice}; in the middle of the answer: {message}"),
    }
}

/// An error as the API writes it, and as gateways do.
#[derive(Deserialize)]
struct Envelope {
    error: Option<Said>,
    detail: Option<Value>,
    message: Option<String>,
    request_id: Option<String>,
}

/// `error` is an object here, and a text where a gateway answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Detail(Detail),
    Text(String),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "type")]
    kind: Option<String>,
    message: Option<String>,
    details: Option<Codes>,
}

#[derive(Deserialize)]
struct Codes {
    error_code: Option<String>,
}

impl Envelope {
    fn message(&self) -> Option<String> {
        let of_error = match &self.error {
            Some(Said::Detail(detail)) => detail.message.clone(),
            Some(Said::Text(text)) => Some(text.clone()),
            Some(Said::Other(_)) | None => None,
        };
        let of_detail = self.detail.as_ref().map(|detail| match detail {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        of_error.or_else(|| self.message.clone()).or(of_detail).filter(|text| !text.trim().is_empty())
    }
}

impl ClaudeError {
    /// An error body of the API, or whatever a proxy said instead; `status` is `None` in the middle of a stream.
    pub(super) fn of_body(status: Option<u16>, body: &[u8], request_id: Option<String>) -> Self {
        let parsed: Option<Envelope> = serde_json::from_slice(body).ok();
        let detail = match parsed.as_ref().and_then(|it| it.error.as_ref()) {
            Some(Said::Detail(detail)) => Some(detail),
            Some(Said::Text(_) | Said::Other(_)) | None => None,
        };
        let code = detail.and_then(|it| it.details.as_ref()?.error_code.as_deref());
        let type_ = detail.and_then(|it| it.kind.as_deref());
        let message = parsed.as_ref().and_then(Envelope::message);
        let said_id = parsed.as_ref().and_then(|it| it.request_id.clone());
        Self::Api {
            kind: ApiErrorKind::of(status, type_, code),
            message: plain(&message.unwrap_or_else(|| "without an explanation".to_owned())),
            request_id: request_id.or(said_id).map(|id| plain(&id)),
            status,
        }
    }

    /// In one PascalCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::SetUp(_) => "SetUp",
            Self::MakeRequest(_) => "MakeRequest",
            Self::Connect(_) => "Unreachable",
            Self::TimedOut(_) => "TimedOut",
            Self::StreamBroken(_) => "StreamBroken",
            Self::Malformed(_) => "Malformed",
            Self::Api { kind, .. } => kind.reason(),
        }
    }

    /// Whether it is known that nothing was generated, and so that nothing is to be paid.
    pub fn is_free(&self) -> bool {
        match self {
            Self::SetUp(_) | Self::MakeRequest(_) | Self::Connect(_) => true,
            // A gateway that gave up waiting does not know what became of the request behind it.
            Self::Api { status, .. } => status.is_some_and(|status| !matches!(status, 408 | 502 | 504)),
            Self::TimedOut(_) | Self::StreamBroken(_) | Self::Malformed(_) => false,
        }
    }
}

impl ApiErrorKind {
    fn of(status: Option<u16>, type_: Option<&str>, code: Option<&str>) -> Self {
        match (code, type_, status) {
            (Some("enforced_spend_limit_reached" | "contract_spend_limit_reached"), _, _) => Self::SpendLimitReached,
            (_, Some("authentication_error"), _) | (_, None, Some(401)) => Self::Authentication,
            (_, Some("billing_error"), _) | (_, None, Some(402)) => Self::Billing,
            (_, Some("permission_error"), _) | (_, None, Some(403)) => Self::Permission,
            (_, Some("not_found_error"), _) | (_, None, Some(404)) => Self::NotFound,
            (_, Some("conflict_error"), _) | (_, None, Some(409)) => Self::Conflict,
            (_, Some("request_too_large"), _) | (_, None, Some(413)) => Self::RequestTooLarge,
            (_, Some("rate_limit_error"), _) | (_, None, Some(429)) => Self::RateLimited,
            (_, Some("api_error"), _) | (_, None, Some(500)) => Self::Internal,
            (_, Some("timeout_error"), _) | (_, None, Some(504)) => Self::Timeout,
            (_, Some("overloaded_error"), _) | (_, None, Some(529)) => Self::Overloaded,
            (_, Some("invalid_request_error"), _) | (_, None, Some(400)) => Self::InvalidRequest,
            (_, _, _) => Self::Other,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::InvalidRequest => "InvalidRequest",
            Self::Authentication => "AuthenticationFailed",
            Self::Billing => "Billing",
            Self::Permission => "PermissionDenied",
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
            Self::RequestTooLarge => "RequestTooLarge",
            Self::RateLimited => "RateLimited",
            Self::SpendLimitReached => "SpendLimitReached",
            Self::Internal => "InternalError",
            Self::Timeout => "UpstreamTimeout",
            Self::Overloaded => "Overloaded",
            Self::Other => "UnexpectedError",
        }
    }
}

/// One short line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_codes_and_types_and_else_by_the_status() {
        let table = [
            (Some(400), r#"{"error":{"type":"invalid_request_error","message":"m"}}"#, "InvalidRequest"),
            (Some(401), r#"{"error":{"type":"authentication_error"}}"#, "AuthenticationFailed"),
            (Some(429), r#"{"error":{"type":"rate_limit_error","message":"m"}}"#, "RateLimited"),
            (
                Some(429),
                r#"{"error":{"type":"rate_limit_error","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                "SpendLimitReached",
            ),
            (Some(529), "<html>overloaded</html>", "Overloaded"),
            (Some(502), "", "UnexpectedError"),
            (Some(504), "", "UpstreamTimeout"),
            (None, r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, "Overloaded"),
        ];
        for (status, body, expected) in table {
            let error = ClaudeError::of_body(status, body.as_bytes(), None);
            assert_eq!(error.reason(), expected, "{body}");
            assert_eq!(error.is_free(), status.is_some_and(|it| !matches!(it, 502 | 504)));
        }
    }

    #[test]
    fn the_words_of_gateways_are_kept_with_the_status() {
        for (body, expected) in [
            (r#"{"error":"model not loaded"}"#, "model not loaded"),
            (r#"{"detail":"Not Found"}"#, "Not Found"),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (r#"{"message":"no route"}"#, "no route"),
            (r#"{"error":{"message":"typed"}}"#, "typed"),
            (r#"{"error":17}"#, "without an explanation"),
            ("<html>", "without an explanation"),
        ] {
            let text = ClaudeError::of_body(Some(418), body.as_bytes(), None).to_string();
            assert!(text.contains("status 418") && text.contains(expected), "{body}: {text}");
        }
    }

    #[test]
    fn what_an_error_says_is_short_and_plain() {
        let body = serde_json::json!({ "error": { "type": "api_error", "message": format!("\u{1b}[31m{}", "x".repeat(5000)) } });
        let text = ClaudeError::of_body(Some(500), body.to_string().as_bytes(), Some("req_1".into())).to_string();
        assert!(text.len() < 400 && !text.contains('\u{1b}') && text.ends_with("(request req_1)"), "{text}");
    }
}
