//! Whether and when a failed call is sent again: the policy of the official SDKs. Pure.

use super::error::{ApiErrorKind, ClaudeError};
use http::HeaderMap;
use std::time::{Duration, SystemTime};

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

/// What the server says about sending again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    should_retry: Option<bool>,
    after: Option<Duration>,
    status: Option<u16>,
}

impl Hints {
    pub(super) fn of(status: u16, headers: &HeaderMap, now: SystemTime) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let should_retry = match header("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) | None => None,
        };
        let milliseconds = header("retry-after-ms").and_then(|text| text.parse::<f64>().ok()).map(|it| it / 1000.0);
        let seconds = milliseconds.or_else(|| header("retry-after").and_then(|text| text.parse().ok()));
        let after = match seconds {
            Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            None => header("retry-after")
                .and_then(|text| httpdate::parse_http_date(text).ok())
                .map(|date| date.duration_since(now).unwrap_or_default()),
        };
        // Not at all, or a time that is over, is no answer to "when": the client's own pauses go on growing.
        Self { should_retry, after: after.filter(|after| !after.is_zero()), status: Some(status) }
    }
}

/// How long to wait before the call is sent again; `None`: it is not. `tries` were made; `chance` is from 0 to 1.
pub(super) fn wait(error: &ClaudeError, hints: Hints, tries: u32, chance: f64) -> Option<Duration> {
    if !worth_a_try(error, hints) {
        return None;
    }
    if let Some(after) = hints.after {
        return Some(after);
    }
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_WAIT);
    Some(doubled.mul_f64(1.0 - 0.25 * chance.clamp(0.0, 1.0)))
}

fn worth_a_try(error: &ClaudeError, hints: Hints) -> bool {
    match error {
        ClaudeError::Api { kind, .. } => match (hints.should_retry, hints.status) {
            // Waiting does not raise a limit on spending, whatever the headers say.
            _ if *kind == ApiErrorKind::SpendLimitReached => false,
            (Some(said), _) => said,
            (None, Some(status)) => matches!(status, 408 | 409 | 429) || status >= 500,
            (None, None) => is_passing(*kind),
        },
        // Nothing of an answer is used before all of it is there.
        ClaudeError::Connect(_) | ClaudeError::StreamBroken(_) => true,
        ClaudeError::SetUp(_) | ClaudeError::MakeRequest(_) | ClaudeError::TimedOut(_) | ClaudeError::Malformed(_) => {
            false
        }
    }
}

/// Of errors that are said in the middle of a stream.
fn is_passing(kind: ApiErrorKind) -> bool {
    matches!(
        kind,
        ApiErrorKind::Overloaded | ApiErrorKind::Internal | ApiErrorKind::Timeout | ApiErrorKind::RateLimited
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn after(status: u16, headers: &[(&'static str, &str)]) -> Option<Duration> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        let error = ClaudeError::of_body(Some(status), b"", None);
        wait(&error, Hints::of(status, &headers, UNIX_EPOCH), 1, 0.0)
    }

    #[test]
    fn it_is_decided_as_in_the_official_sdks() {
        let (half, none) = (Some(Duration::from_millis(500)), None);
        for (status, expected) in [
            (400, none),
            (401, none),
            (403, none),
            (404, none),
            (408, half),
            (409, half),
            (413, none),
            (429, half),
            (500, half),
            (504, half),
            (529, half),
        ] {
            assert_eq!(after(status, &[]), expected, "{status}");
        }
        assert_eq!(after(400, &[("x-should-retry", "true")]), half);
        assert_eq!(after(529, &[("x-should-retry", "false")]), none);
        assert_eq!(after(429, &[("retry-after", "7"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(after(429, &[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(after(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:30 GMT")]), Some(Duration::from_secs(30)));
        for at_once in ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT", "Wed, 31 Dec 1969 23:59:59 GMT"] {
            assert_eq!(after(429, &[("retry-after", at_once)]), half, "{at_once}");
        }
        assert_eq!(after(429, &[("retry-after-ms", "0")]), half);
        assert_eq!(after(429, &[("retry-after", "soon")]), half);
        assert_eq!(after(429, &[("retry-after", "-5")]), half);
    }

    #[test]
    fn waits_double_up_to_8_seconds_less_a_quarter_at_most() {
        let broken = ClaudeError::StreamBroken("cut".into());
        let wait = |tries, chance| wait(&broken, Hints::default(), tries, chance).unwrap().as_millis();
        assert_eq!([1, 2, 3, 4, 5, 6, 40].map(|tries| wait(tries, 0.0)), [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(wait(5, 1.0), 6000);
    }

    #[test]
    fn a_limit_on_spending_is_never_waited_for() {
        let body = br#"{"error":{"type":"rate_limit_error","details":{"error_code":"contract_spend_limit_reached"}}}"#;
        let error = ClaudeError::of_body(Some(429), body, None);
        let hints = Hints { should_retry: Some(true), ..Hints::default() };
        assert_eq!(wait(&error, hints, 1, 0.0), None);
    }
}
