//! Ask one question of a target, get a sample of facts, and judge it by a condition.
//!
//! [`Query`] and [`Condition`] are the two strings of an invariant, parsed; [`Prober`] asks; [`judge`] says what the
//! answer means. What a target does wrong is a breach with its reason; unknown is only what the harness's own side
//! caused, and it is never a pass.

pub mod condition;
pub mod egress;
pub mod http;
pub mod query;
pub mod resolver;
pub mod sample;

pub use condition::Condition;
pub use egress::EgressPolicy;
pub use http::{Prober, ProberError};
pub use query::Query;
pub use sample::{
    Blindness, BlindnessReason, Failure, FailureReason, Judgement, Measurement, Observation, Reading, Sample, Value,
    Verdict, judge,
};

/// Where a text stopped making sense, and what would have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: found {found}, expected {expected}")]
pub struct SyntaxError {
    /// In characters, from 0.
    pub position: usize,
    /// What stands there.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

impl SyntaxError {
    fn new(text: &str, position: usize, expected: impl Into<String>) -> Self {
        let rest: String = text.chars().skip(position).take(24).filter(|c| !c.is_control()).collect();
        let found = if rest.is_empty() { "the end".to_owned() } else { format!("`{rest}`") };
        Self { position, found, expected: expected.into() }
    }
}
