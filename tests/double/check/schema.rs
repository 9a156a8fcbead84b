//! Schemas in strict mode.

use super::{Rejection, ensure, invalid};
use serde_json::Value;

const KNOWN: [&str; 11] = [
    "type",
    "description",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "format",
];

/// Refuses what strict mode refuses.
pub(super) fn check(schema: &Value, at: &str) -> Result<(), Rejection> {
    let fields = schema.as_object().ok_or_else(|| invalid(format!("{at}: Input should be an object")))?;
    for name in fields.keys() {
        ensure(KNOWN.contains(&name.as_str()), || {
            format!("{at}: For strict mode, property '{name}' is not supported")
        })?;
    }
    if fields.get("type").is_some_and(|kind| kind == "object") {
        ensure(fields.get("additionalProperties") == Some(&Value::Bool(false)), || {
            format!("{at}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        })?;
        let properties = fields.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for name in fields.get("required").and_then(Value::as_array).into_iter().flatten() {
            let known = name.as_str().is_some_and(|name| properties.contains_key(name));
            ensure(known, || format!("{at}.required: {name} is not one of the properties"))?;
        }
        for (name, property) in &properties {
            check(property, &format!("{at}.properties.{name}"))?;
        }
    }
    let number = |kind: &Value| kind == "integer" || kind == "number";
    if fields.get("type").is_some_and(number) {
        ensure(!fields.contains_key("format"), || {
            format!("{at}: For 'integer' type, property 'format' is not supported")
        })?;
    }
    if let Some(items) = fields.get("items") {
        check(items, &format!("{at}.items"))?;
    }
    for combined in ["anyOf", "allOf"] {
        for (index, part) in fields.get(combined).and_then(Value::as_array).into_iter().flatten().enumerate() {
            check(part, &format!("{at}.{combined}.{index}"))?;
        }
    }
    Ok(())
}
