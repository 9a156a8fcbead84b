//! The service, as its configuration describes it.

use crate::tui::text::plain;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

/// What is known of the service's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Nothing was heard yet.
    Unseen,
    /// There is no such ConfigMap.
    Absent,
    /// The ConfigMap has no such key.
    KeyAbsent,
    /// The key is no JSON object: the reason.
    Broken(String),
    /// It is understood.
    Configured(ConfigState),
}

/// The values that the chaos keys change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigState {
    /// `enabled`: false is playing dead.
    pub enabled: bool,
    /// `delay_ms`: by how much each answer is late, in milliseconds.
    pub delay_milliseconds: u64,
    /// `requests_per_second`, where it is not a positive number.
    pub invalid_rate: Option<String>,
}

impl Service {
    /// What the ConfigMap says at `key`.
    pub fn of(config: &ConfigMap, key: &str) -> Self {
        let Some(text) = config.data.as_ref().and_then(|data| data.get(key)) else {
            return Self::KeyAbsent;
        };
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(values)) => Self::Configured(ConfigState {
                enabled: values.get("enabled").and_then(Value::as_bool).unwrap_or(true),
                delay_milliseconds: values.get("delay_ms").and_then(Value::as_u64).unwrap_or(0),
                invalid_rate: values.get("requests_per_second").filter(|rate| !is_positive(rate)).map(shown),
            }),
            Ok(_) => Self::Broken("it is JSON, but no object".to_owned()),
            Err(error) => Self::Broken(plain(&error.to_string(), 120)),
        }
    }

    /// The state in a few words.
    pub fn summary(&self) -> String {
        match self {
            Self::Unseen => "waiting for the API server".to_owned(),
            Self::Absent => "there is no such ConfigMap".to_owned(),
            Self::KeyAbsent => "the ConfigMap has no such key".to_owned(),
            Self::Broken(reason) => format!("its configuration cannot be read: {reason}"),
            Self::Configured(state) => state.summary(),
        }
    }
}

impl ConfigState {
    /// Whether nothing is wrong on purpose.
    pub fn is_healthy(&self) -> bool {
        self.enabled && self.delay_milliseconds == 0 && self.invalid_rate.is_none()
    }

    fn summary(&self) -> String {
        let faults: Vec<String> = [
            (!self.enabled).then(|| "playing dead".to_owned()),
            (self.delay_milliseconds > 0).then(|| format!("slow by {} ms", self.delay_milliseconds)),
            self.invalid_rate.as_ref().map(|rate| format!("requests_per_second is {rate}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if faults.is_empty() { "in order".to_owned() } else { faults.join(", ") }
    }
}

fn is_positive(rate: &Value) -> bool {
    rate.as_f64().is_some_and(|rate| rate > 0.0)
}

fn shown(value: &Value) -> String {
    plain(&value.to_string(), 32)
}
