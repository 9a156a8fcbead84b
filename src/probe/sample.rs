//! What came of a question, and what it means.

use super::condition::Condition;
use crate::redact;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One question asked once.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When it was asked.
    pub started_at: Timestamp,
    /// How long the answer took, or the failure to get one.
    pub took: Duration,
    /// What came of it.
    pub observation: Observation,
}

impl Sample {
    /// The harness itself broke down over a question or its answer, with these words.
    pub fn defect(words: &str) -> Self {
        tracing::error!(words, "a check broke down, a defect of the harness");
        let message = format!("the harness broke down over it, which is a defect: {words}");
        let observation = Observation::Unknown(Blindness::new(BlindnessReason::Defect, &message));
        Self { started_at: Timestamp::now(), took: Duration::ZERO, observation }
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// The target answered.
    Measured(Measurement),
    /// The target could not be reached or did not answer properly: a breach by itself.
    Failed(Failure),
    /// It could not be asked, for a reason on the harness's own side.
    Unknown(Blindness),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// What the query asks for.
    pub value: Value,
    /// The status code.
    pub status: Option<u16>,
    /// The time until the whole answer was there.
    pub latency: Duration,
    /// The start of the body: at most 64 KiB, with what is no UTF-8 replaced.
    pub body: String,
    /// Labels of the value; HTTP has none.
    pub labels: BTreeMap<String, String>,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) if number.fract() == 0.0 => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number:.1}"),
            Self::Text(text) => f.write_str(text),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
        }
    }
}

/// Why a target gave no proper answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In one word.
    pub reason: FailureReason,
    /// In a sentence; at most 256 characters.
    pub message: String,
}

impl Failure {
    pub(super) fn new(reason: FailureReason, message: &str) -> Self {
        Self { reason, message: redact::line(message, 256) }
    }
}

/// Why a target gave no proper answer, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// Nobody listens there.
    ConnectionRefused,
    /// The connection was cut, as opposed to closed in order.
    ConnectionReset,
    /// No whole answer within the timeout.
    TimedOut,
    /// No TLS connection could be made, or the certificate is not trusted.
    TlsFailure,
    /// The name does not exist.
    NameNotFound,
    /// There is no way to the address.
    Unreachable,
    /// The answer is no HTTP, or the connection was closed before its end.
    ProtocolError,
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of the variants are the words that users see.
        write!(f, "{self:?}")
    }
}

/// Why a question could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blindness {
    /// In one word.
    pub reason: BlindnessReason,
    /// In a sentence; at most 256 characters.
    pub message: String,
}

impl Blindness {
    /// In a word and a sentence.
    pub fn new(reason: BlindnessReason, message: &str) -> Self {
        Self { reason, message: redact::line(message, 256) }
    }
}

/// Why a question could not be asked, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BlindnessReason {
    /// The egress policy forbids the address.
    EgressDenied,
    /// The name server does not answer.
    ResolverUnavailable,
    /// The condition cannot be evaluated.
    ConditionError,
    /// The condition takes more work on this answer than is given to it.
    TooCostly,
    /// This process or host ran out of something.
    OwnResources,
    /// The harness itself broke down over it.
    Defect,
}

impl fmt::Display for BlindnessReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a sample means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The condition is met.
    Holds,
    /// It is not, or the target gave no proper answer.
    Breached,
    /// It could not be asked.
    Unknown,
}

/// What a question gave, in one word or number.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// The value.
    Value(Value),
    /// The target gave no proper answer.
    Failed(FailureReason),
    /// It could not be asked, or its answer could not be judged.
    Unknown(BlindnessReason),
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Failed(reason) => reason.fmt(f),
            Self::Unknown(reason) => reason.fmt(f),
        }
    }
}

/// What a sample means. Its words for people are made on demand: most samples are never shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What it means.
    pub verdict: Verdict,
    /// The value, or the reason why there is none.
    pub reading: Reading,
    /// Why there is no value; empty where there is one.
    message: String,
}

impl Judgement {
    /// The sample in a sentence.
    pub fn explanation(&self, condition: &Condition) -> String {
        match (&self.reading, self.verdict) {
            (Reading::Value(value), Verdict::Holds) => {
                format!("the value is {value}; the condition {condition} is met")
            }
            (Reading::Value(value), _) => format!("the value is {value}, expected {condition}"),
            (reason, _) => format!("{reason}: {}", self.message),
        }
    }

    fn unknown(blindness: &Blindness) -> Self {
        Self {
            verdict: Verdict::Unknown,
            reading: Reading::Unknown(blindness.reason),
            message: blindness.message.clone(),
        }
    }
}

/// What a sample means under a condition. Pure.
pub fn judge(sample: &Sample, condition: &Condition) -> Judgement {
    match &sample.observation {
        Observation::Measured(measurement) => {
            let verdict = match condition.judge(measurement) {
                Ok(true) => Verdict::Holds,
                Ok(false) => Verdict::Breached,
                Err(blindness) => return Judgement::unknown(&blindness),
            };
            Judgement { verdict, reading: Reading::Value(measurement.value.clone()), message: String::new() }
        }
        Observation::Failed(failure) => Judgement {
            verdict: Verdict::Breached,
            reading: Reading::Failed(failure.reason),
            message: failure.message.clone(),
        },
        Observation::Unknown(blindness) => Judgement::unknown(blindness),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict, what was read, and the sentence.
    fn judged(observation: Observation, condition: &str) -> (Verdict, String, String) {
        let sample = Sample { started_at: Timestamp::UNIX_EPOCH, took: Duration::from_millis(3), observation };
        let condition = Condition::parse(condition).unwrap();
        let judgement = judge(&sample, &condition);
        (judgement.verdict, judgement.reading.to_string(), judgement.explanation(&condition))
    }

    fn measured(value: Value) -> Observation {
        let (latency, body, labels) = (Duration::from_millis(2), String::new(), BTreeMap::new());
        Observation::Measured(Measurement { value, status: Some(200), latency, body, labels })
    }

    #[test]
    fn an_answer_holds_or_breaks_the_condition() {
        let (verdict, reading, _) = judged(measured(Value::Number(200.0)), "== 200");
        assert_eq!((verdict, reading.as_str()), (Verdict::Holds, "200"));
        let (verdict, reading, explanation) = judged(measured(Value::Number(503.0)), "== 200");
        assert_eq!((verdict, reading.as_str()), (Verdict::Breached, "503"));
        assert_eq!(explanation, "the value is 503, expected == 200");
    }

    #[test]
    fn a_failure_is_a_breach_whatever_the_condition_says() {
        let failure = Failure::new(FailureReason::ConnectionRefused, "nobody\nlistens");
        let (verdict, reading, explanation) = judged(Observation::Failed(failure), "!= 200");
        assert_eq!((verdict, reading.as_str()), (Verdict::Breached, "ConnectionRefused"));
        assert_eq!(explanation, "ConnectionRefused: nobody listens");
    }

    #[test]
    fn blindness_is_neither_a_pass_nor_a_breach() {
        let blindness = Blindness::new(BlindnessReason::ResolverUnavailable, "no answer");
        assert_eq!(judged(Observation::Unknown(blindness), "!= 200").0, Verdict::Unknown);
        let (verdict, reading, _) = judged(measured(Value::Text("x".into())), "labels.pod == 'a'");
        assert_eq!((verdict, reading.as_str()), (Verdict::Unknown, "ConditionError"));
    }

    #[test]
    fn a_message_of_a_target_is_short_and_plain() {
        let failure = Failure::new(FailureReason::ProtocolError, &"\x1b[31m".repeat(200));
        assert!(failure.message.chars().count() <= 256 && !failure.message.contains('\x1b'), "{failure:?}");
    }
}
