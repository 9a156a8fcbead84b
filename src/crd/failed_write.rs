//! A write of an attempt that could not be done, and why.

use super::schema;
use super::ticket_status::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A write of an attempt that could not be done.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FailedWrite {
    /// The object.
    pub object: ObjectReference,
    /// Why, as far as the answer of the API server tells.
    pub cause: FailureCause,
    /// The words of whoever refused it: redacted, cut at 512 characters.
    #[schemars(length(max = 512))]
    pub message: String,
    /// When it failed first.
    #[schemars(schema_with = "schema::micro_time")]
    pub since: MicroTime,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again; absent where that cannot help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_micro_time")]
    pub retry_at: Option<MicroTime>,
}

/// Why a write could not be done.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureCause {
    /// Others write to the object so often that none of our writes came through.
    Busy,
    /// The object does not exist any more.
    Gone,
    /// The object, or the part of it, is immutable.
    Immutable,
    /// An admission webhook or an admission policy denied it.
    Denied,
    /// It would exceed a resource quota.
    QuotaExceeded,
    /// The object would be larger than the API server keeps.
    TooLarge,
    /// The agent's account may not do it.
    Forbidden,
    /// The namespace is being deleted.
    NamespaceTerminating,
    /// The object would not be valid.
    Invalid,
    /// The exact texts of the attempt are not there or cannot be read.
    TextsLost,
    /// The API server has too much to do.
    TooManyRequests,
    /// The API server, or a webhook that it must ask, did not answer or failed.
    Unavailable,
}
