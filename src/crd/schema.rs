//! Schemas that the derive cannot express: bounded durations, micro-times, condition lists, whole configuration keys.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A Go duration such as `500ms`, `5s` or `1h30m`; also as Rust clients write it: `0ns`, `1.5s`.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$", "maxLength": 32 })
}

/// A duration, or nothing.
pub(super) fn optional_duration(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = duration(generator);
    schema.insert("nullable".to_owned(), true.into());
    schema
}

/// A time with microseconds (RFC 3339).
pub(super) fn micro_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "maxLength": 40 })
}

/// A time with microseconds (RFC 3339), or nothing.
pub(super) fn optional_micro_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "nullable": true, "maxLength": 40 })
}

/// At most three times with microseconds (RFC 3339).
pub(super) fn last_three_times(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 3, "items": micro_time(generator) })
}

/// The standard condition list, a map by `type`, so that server-side apply merges it by type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": { "type": "string", "minLength": 1, "maxLength": 1024 },
                "message": { "type": "string", "maxLength": 32768 },
                "lastTransitionTime": { "type": "string", "format": "date-time" },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 }
            }
        }
    })
}

/// The input of a tool call: an object of any shape.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
