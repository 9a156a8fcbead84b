//! Faults of the demo service, as edits of its configuration. Pure.

use crate::document::{self, NotJson};
use serde_json::{Value, json};

/// A fault, or its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Health answers so much later than it does now.
    Slow {
        /// Added to `delay_ms`.
        milliseconds: u64,
    },
    /// The service plays dead: health answers 503.
    Dead,
    /// A value out of range in a place that no repair may touch: health answers 503.
    Forbidden,
    /// No fault: what the others changed is put right.
    Heal,
}

/// Why the configuration cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChaosError {
    /// It is no JSON.
    #[error("the configuration is {0}")]
    Parse(#[from] NotJson),
    /// It is JSON, but no object.
    #[error("the configuration is no JSON object, expected one such as {{\"enabled\": true, \"delay_ms\": 0}}")]
    NotAnObject,
}

/// The configuration with the fault in it; everything else stays as it is.
pub fn apply(text: &str, fault: &Fault) -> Result<String, ChaosError> {
    let value = document::parse(text)?;
    let Value::Object(object) = &value else { return Err(ChaosError::NotAnObject) };
    let delay = object.get("delay_ms").and_then(Value::as_u64).unwrap_or(0);
    let rate_is_broken =
        object.get("requests_per_second").is_some_and(|rate| rate.as_f64().is_none_or(|rate| rate <= 0.0));
    let edits = match fault {
        Fault::Slow { milliseconds } => vec![("/delay_ms", Some(json!(delay.saturating_add(*milliseconds))))],
        Fault::Dead => vec![("/enabled", Some(json!(false)))],
        Fault::Forbidden => vec![("/requests_per_second", Some(json!(-1)))],
        Fault::Heal => {
            let mut edits = vec![("/enabled", Some(json!(true))), ("/delay_ms", Some(json!(0)))];
            if rate_is_broken {
                edits.push(("/requests_per_second", None));
            }
            edits
        }
    };
    Ok(document::edit(text, &edits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTHY: &str = r#"{"enabled": true, "delay_ms": 20, "burst": 7}"#;

    fn after(fault: &Fault) -> String {
        apply(HEALTHY, fault).unwrap()
    }

    #[test]
    fn each_fault_changes_one_value_and_keeps_the_rest() {
        assert_eq!(after(&Fault::Slow { milliseconds: 500 }), r#"{"enabled": true, "delay_ms": 520, "burst": 7}"#);
        assert_eq!(after(&Fault::Dead), r#"{"enabled": false, "delay_ms": 20, "burst": 7}"#);
        let forbidden = after(&Fault::Forbidden);
        assert_eq!(forbidden, r#"{"enabled": true, "delay_ms": 20, "burst": 7, "requests_per_second": -1}"#);
        assert_eq!(apply(&forbidden, &Fault::Heal).unwrap(), r#"{"enabled": true, "delay_ms": 0, "burst": 7}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(apply("[]", &Fault::Dead), Err(ChaosError::NotAnObject));
        assert!(matches!(apply("{", &Fault::Dead), Err(ChaosError::Parse(_))));
    }
}
