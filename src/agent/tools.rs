//! The closed list of what a planner may ask to read, and the hands that read it.
//!
//! Touches the world by reading only. Whatever comes back from a target is hostile: capped and redacted before it is
//! stored, shown or told to a model; exact texts are handed on for comparison and never leave the process.

use super::baseline::{self, KnownGood};
use super::policy;
use crate::crd::Invariant;
use crate::document;
use crate::history::{ConfigHistory, Revision};
use crate::probe::{Observation, Prober, Query};
use crate::redact;
use crate::watch::ObjectKey;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The agent's own look at an endpoint is for the journal; the monitor judges. A slow target must not hold up its
/// repair.
const LOOK_TIMEOUT: Duration = Duration::from_millis(700);

/// A call that reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Asks the invariant's own endpoint.
    HttpGet {
        /// The URL; only the one that the invariant asks is reached.
        url: String,
    },
    /// Reads a key of a ConfigMap that the `allow` list names.
    ReadConfig {
        /// The ConfigMap.
        name: String,
        /// The key.
        key: String,
    },
    /// Reads the last revision of such a key under which everything held.
    ReadLastKnownGood {
        /// The ConfigMap.
        name: String,
        /// The key.
        key: String,
    },
}

/// What a call gave.
#[derive(Debug, Clone)]
pub enum Reading {
    /// The endpoint answered, or why it did not; in one line.
    Http {
        /// Status and start of the body, or the reason of the failure; redacted.
        answer: String,
    },
    /// A key of a ConfigMap.
    Config {
        /// The ConfigMap as it is now; `None`: it does not exist.
        revision: Option<Box<Revision>>,
        /// The states that were seen before it, oldest first.
        history: Vec<std::sync::Arc<Revision>>,
    },
    /// The last good revision; `None`: none is known.
    LastKnownGood(Option<Box<KnownGood>>),
    /// The call was not executed.
    Refused {
        /// Why.
        why: String,
    },
    /// The call failed.
    Failed {
        /// Why, in one line.
        why: String,
    },
}

impl Call {
    /// The tool's name.
    pub fn tool(&self) -> &'static str {
        match self {
            Self::HttpGet { .. } => "http_get",
            Self::ReadConfig { .. } => "read_config",
            Self::ReadLastKnownGood { .. } => "read_last_known_good",
        }
    }

    /// The tool's input, as the journal shows it.
    pub fn input(&self) -> Map<String, Value> {
        let value = match self {
            Self::HttpGet { url } => json!({ "url": url }),
            Self::ReadConfig { name, key } | Self::ReadLastKnownGood { name, key } => {
                json!({ "name": name, "key": key })
            }
        };
        value.as_object().cloned().unwrap_or_default()
    }

    /// One line for people, made from the call alone.
    pub fn summary(&self) -> String {
        let line = match self {
            Self::HttpGet { .. } => "Checking the health endpoint".to_owned(),
            Self::ReadConfig { name, key } => format!("Reading {key} of {name}"),
            Self::ReadLastKnownGood { name, .. } => format!("Comparing {name} with its last good revision"),
        };
        redact::line(&line, 80)
    }
}

impl Reading {
    /// One line for the journal.
    pub fn outcome(&self, call: &Call) -> String {
        let line = match self {
            Self::Http { answer } => answer.clone(),
            Self::Config { revision, .. } => match (revision, call) {
                (Some(revision), Call::ReadConfig { key, .. }) => describe_key(revision, key),
                (Some(revision), _) => format!("revision {}", revision.resource_version),
                (None, _) => "the ConfigMap does not exist".to_owned(),
            },
            Self::LastKnownGood(Some(good)) => {
                format!("good revision {}, learned at {:.0}", good.resource_version, good.learned_at)
            }
            Self::LastKnownGood(None) => "no revision is known under which everything held".to_owned(),
            Self::Refused { why } => format!("refused: {why}"),
            Self::Failed { why } => format!("failed: {why}"),
        };
        redact::line(&line, 512)
    }
}

fn describe_key(revision: &Revision, key: &str) -> String {
    let Some(text) = revision.data.get(key) else { return format!("there is no key {key}") };
    let content = match document::parse(text) {
        Ok(value) => redact::line(&value.to_string(), 300),
        Err(error) => error.to_string(),
    };
    match revision.writers.get(key) {
        Some(writer) => format!("{content}, last written by {}{}", writer.manager, at(writer.at)),
        None => content,
    }
}

/// ` at TIME`, or nothing.
pub fn at(time: Option<Timestamp>) -> String {
    time.map(|time| format!(" at {time:.0}")).unwrap_or_default()
}

/// The hands: executes calls within the limits of one invariant.
#[derive(Clone)]
pub struct Tools {
    client: Client,
    history: ConfigHistory,
    prober: std::sync::Arc<Prober>,
}

impl Tools {
    /// Tools on this API.
    pub fn new(client: Client, history: ConfigHistory, prober: std::sync::Arc<Prober>) -> Self {
        Self { client, history, prober }
    }

    /// Executes one call for an invariant.
    pub async fn read(&self, invariant: &Invariant, call: &Call) -> Reading {
        match call {
            Call::HttpGet { url } => self.http_get(invariant, url).await,
            Call::ReadConfig { name, key } => {
                self.with_allowed_key(invariant, name, key, self.config(invariant, name)).await
            }
            Call::ReadLastKnownGood { name, key } => {
                self.with_allowed_key(invariant, name, key, self.last_known_good(invariant, name)).await
            }
        }
    }

    async fn with_allowed_key(
        &self,
        invariant: &Invariant,
        name: &str,
        key: &str,
        reading: impl Future<Output = Result<Reading, kube::Error>>,
    ) -> Reading {
        let allowed =
            policy::config_entries(&invariant.spec.remediation.allow).any(|it| it.name == name && it.key == key);
        if !allowed {
            return Reading::Refused { why: format!("the allow list does not name key {key} of ConfigMap {name}") };
        }
        reading.await.unwrap_or_else(|error| Reading::Failed { why: redact::line(&error.to_string(), 256) })
    }

    async fn config(&self, invariant: &Invariant, name: &str) -> Result<Reading, kube::Error> {
        let namespace = invariant.namespace().unwrap_or_default();
        let found = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace).get_opt(name).await?;
        Ok(Reading::Config {
            revision: found.map(|object| Box::new(Revision::of(&object, Timestamp::now(), false))),
            history: self.history.revisions(&ObjectKey::new(namespace, name)),
        })
    }

    async fn last_known_good(&self, invariant: &Invariant, name: &str) -> Result<Reading, kube::Error> {
        let key = ObjectKey::new(invariant.namespace().unwrap_or_default(), name);
        Ok(Reading::LastKnownGood(baseline::newest(&self.client, &key).await?.map(Box::new)))
    }

    async fn http_get(&self, invariant: &Invariant, url: &str) -> Reading {
        let own = Query::parse(&invariant.spec.query).ok();
        let asked = Query::parse(url).ok();
        let (Some(own), Some(asked)) = (own, asked) else {
            return Reading::Refused { why: "it is not a URL that can be asked".to_owned() };
        };
        if own.url() != asked.url() {
            return Reading::Refused { why: "only the endpoint that the invariant asks may be reached".to_owned() };
        }
        let timeout = LOOK_TIMEOUT.min(invariant.spec.timeout.into());
        let sample = self.prober.ask(&asked, timeout).await;
        let took = sample.took.as_millis();
        let answer = match &sample.observation {
            Observation::Measured(measurement) => {
                format!("{} after {took} ms: {}", measurement.value, redact::line(&measurement.body, 200))
            }
            Observation::Failed(failure) => format!("{} after {took} ms: {}", failure.reason, failure.message),
            Observation::Unknown(blindness) => format!("{}: {}", blindness.reason, blindness.message),
        };
        Reading::Http { answer: redact::line(&answer, 400) }
    }
}
