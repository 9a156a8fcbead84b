//! Why a request to the API server failed, and what follows from that. Pure.

use crate::crd::{FailedWrite, FailureCause, ObjectReference};
use crate::redact;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::Status;

/// A write that is refused for now is tried again for so long; then the phase ends.
pub const DEADLINE: SignedDuration = SignedDuration::from_mins(5);

/// The pause after the first failure, what it is multiplied with for each further one, and the longest. Seconds.
const PAUSES: (i64, i64, i64) = (2, 3, 60);

/// Characters of somebody else's words that a ticket keeps.
const MAX_WORDS: usize = 512;

/// What the answer to a failed request means; `None`: the object is not at the version that was tested.
pub fn cause(error: &kube::Error) -> Option<FailureCause> {
    match error {
        kube::Error::Api(status) => of_status(status),
        // No answer, or none that could be understood. Whether it was written is seen on the object.
        _ => Some(FailureCause::Unavailable),
    }
}

/// The message comes before the code: a webhook denies with whatever code it likes, and without one the API server says
/// 400.
fn of_status(status: &Status) -> Option<FailureCause> {
    let says = |words: &str| status.message.contains(words);
    let names = |reason: &str| status.details.iter().flat_map(|it| &it.causes).any(|cause| cause.reason == reason);
    let is_webhook = says("admission webhook \"") && says("\" denied the request");
    let is_policy = says("ValidatingAdmissionPolicy '") && says("denied request");
    if is_webhook || is_policy {
        return Some(FailureCause::Denied);
    }
    Some(match status.code {
        404 => FailureCause::Gone,
        409 if status.reason == "Conflict" => return None,
        // What a failed `test` of a JSON patch is answered, whatever it tested.
        422 if says("the server rejected our request due to an error in our request") => return None,
        413 => FailureCause::TooLarge,
        _ if names("FieldValueTooLong") || says("request is too large") => FailureCause::TooLarge,
        403 if names("NamespaceTerminating") => FailureCause::NamespaceTerminating,
        403 if says("exceeded quota") => FailureCause::QuotaExceeded,
        403 => FailureCause::Forbidden,
        422 if says("immutable") => FailureCause::Immutable,
        429 => FailureCause::TooManyRequests,
        // A token is renewed, a request is repeated.
        401 | 408 | 500.. => FailureCause::Unavailable,
        _ => FailureCause::Invalid,
    })
}

/// Whether what failed may succeed when it is tried again, without anybody changing anything for it.
pub fn may_pass(cause: FailureCause) -> bool {
    match cause {
        FailureCause::Busy | FailureCause::TooManyRequests | FailureCause::Unavailable => true,
        FailureCause::Gone
        | FailureCause::Immutable
        | FailureCause::Denied
        | FailureCause::QuotaExceeded
        | FailureCause::TooLarge
        | FailureCause::Forbidden
        | FailureCause::NamespaceTerminating
        | FailureCause::Invalid
        | FailureCause::TextsLost => false,
    }
}

/// A failure with the words that explain it; `before` is what was known of the failures of the same phase.
pub fn failed(
    object: &ObjectReference,
    cause: FailureCause,
    words: &str,
    before: Option<&FailedWrite>,
    now: Timestamp,
) -> FailedWrite {
    let tries = before.map_or(0, |it| it.tries).saturating_add(1);
    let (first, factor, most) = PAUSES;
    let seconds = first.saturating_mul(factor.saturating_pow(tries - 1)).min(most);
    let retry_at = now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
    FailedWrite {
        object: object.clone(),
        cause,
        message: redact::line(words, MAX_WORDS),
        since: before.map_or(MicroTime(now), |it| it.since.clone()),
        tries,
        retry_at: may_pass(cause).then_some(MicroTime(retry_at)),
    }
}

/// The words of an answer.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// A failure in a sentence for people, with what to do about it.
pub fn sentence(failure: &FailedWrite) -> String {
    let FailedWrite { object, message, .. } = failure;
    let what = format!("{} {}", object.kind, object.name);
    match failure.cause {
        FailureCause::Busy => format!("{what} is written by others so often that no write of the agent came through"),
        FailureCause::Gone => format!("{what} does not exist any more"),
        FailureCause::Immutable => format!("{what} is immutable and must be replaced: {message}"),
        FailureCause::Denied => {
            format!("the write to {what} was denied: {message}; lift that, or make the change by hand")
        }
        FailureCause::QuotaExceeded => format!("a quota leaves no room for the write to {what}: {message}"),
        FailureCause::TooLarge => format!("{what} would be too large: {message}"),
        FailureCause::Forbidden => {
            format!("the agent's account may not write {what}: {message}; grant it, or make the change by hand")
        }
        FailureCause::NamespaceTerminating => format!("the namespace of {what} is being deleted: {message}"),
        FailureCause::Invalid => format!("the API server refused the write to {what}: {message}"),
        FailureCause::TextsLost => format!("the exact texts of the change of {what} cannot be used: {message}"),
        FailureCause::TooManyRequests => format!("the API server has no time for the write to {what}: {message}"),
        FailureCause::Unavailable => format!("the write to {what} has no answer yet: {message}"),
    }
}

/// The same of one that is tried again.
pub fn delayed(failure: &FailedWrite) -> String {
    let next = failure.retry_at.as_ref().map(|at| format!("; it is tried again at {:.0}", at.0)).unwrap_or_default();
    let end = failure.since.0.checked_add(DEADLINE).map(|at| format!(" and given up at {at:.0}")).unwrap_or_default();
    format!("{}{next}{end}", sentence(failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn object() -> ObjectReference {
        ObjectReference { kind: "ConfigMap".into(), name: "config".into(), uid: "u".into() }
    }

    #[test]
    fn pauses_grow_so_that_a_minute_has_at_most_twelve_tries_and_the_first_failure_sets_the_deadline() {
        let (mut now, mut last, mut tried) = (at(0), None, Vec::new());
        while now < at(300) {
            let failure = failed(&object(), FailureCause::Unavailable, "x", last.as_ref(), now);
            tried.push(now.as_second());
            now = failure.retry_at.as_ref().unwrap().0;
            assert_eq!(failure.since, MicroTime(at(0)));
            last = Some(failure);
        }
        assert_eq!(tried[..5], [0, 2, 8, 26, 80]);
        assert!(tried.windows(12).all(|minute| minute[11] - minute[0] >= 60), "{tried:?}");
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again_and_secrets_in_the_words_of_others_are_hidden() {
        let words = format!("denied: password=hunter2hunter2 {}", "x".repeat(1000));
        let failure = failed(&object(), FailureCause::Denied, &words, None, at(0));
        assert_eq!(failure.retry_at, None);
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        assert_eq!(failure.message.chars().count(), MAX_WORDS);
    }

    #[test]
    fn an_answer_that_the_api_server_did_not_give_says_nothing_of_the_object() {
        let lost = kube::Error::Service(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        assert_eq!(cause(&lost), Some(FailureCause::Unavailable));
        for code in [401, 408, 500, 503, 504] {
            let status = Status::failure("x", "y").with_code(code);
            assert_eq!(cause(&kube::Error::Api(status.boxed())), Some(FailureCause::Unavailable), "{code}");
        }
    }
}
