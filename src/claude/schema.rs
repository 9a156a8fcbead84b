//! Schemas that the API's strict mode accepts: no bounds, no formats of numbers, nothing open. What is taken out is
//! checked when the input is read.

use serde_json::{Map, Value};

/// What strict mode refuses, or nobody reads.
const DROPPED: [&str; 12] = [
    "$schema",
    "title",
    "default",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
];

/// The schema in the form that strict mode accepts. Of a type that is recursive there is none.
pub fn strict_schema(schema: &schemars::Schema) -> Value {
    let mut strict = cleaned(schema.as_value());
    if let Value::Object(fields) = &mut strict {
        // The description of the whole is the tool's.
        fields.shift_remove("description");
    }
    strict
}

fn cleaned(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    if let Some(names) = names(fields) {
        let description = fields.get("description").cloned().map(|text| ("description".to_owned(), text));
        let kind = [("type".to_owned(), Value::from("string")), ("enum".to_owned(), Value::Array(names))];
        return Value::Object(description.into_iter().chain(kind).collect());
    }
    let is_number = fields.get("type").is_some_and(|kind| kind == "integer" || kind == "number");
    let mut strict = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            (dropped, _) if DROPPED.contains(&dropped) => continue,
            ("format", _) if is_number => continue,
            ("properties", Value::Object(properties)) => {
                Value::Object(properties.iter().map(|(name, schema)| (name.clone(), cleaned(schema))).collect())
            }
            ("items", schema) => cleaned(schema),
            ("anyOf" | "allOf", Value::Array(parts)) => Value::Array(parts.iter().map(cleaned).collect()),
            ("description", Value::String(text)) => Value::String(text.replace('\n', " ")),
            (_, value) => value.clone(),
        };
        strict.insert(name.clone(), value);
    }
    if fields.get("type").is_some_and(|kind| kind == "object") {
        strict.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(strict)
}

/// The names of an enumeration whose variants are described one by one.
fn names(fields: &Map<String, Value>) -> Option<Vec<Value>> {
    fields.get("oneOf")?.as_array()?.iter().map(|variant| variant.get("const").cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemars::JsonSchema;
    use serde_json::json;

    /// The whole.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Input {
        /// How many,
        /// at most.
        #[schemars(range(min = 1, max = 9))]
        count: u32,
        /// Which.
        choice: Choice,
        names: Option<Vec<String>>,
    }

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Choice {
        /// The one.
        One,
        /// The other.
        Other,
    }

    #[test]
    fn bounds_formats_and_titles_are_gone_and_objects_are_closed() {
        let generator = schemars::generate::SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
        let schema = schemars::SchemaGenerator::new(generator).into_root_schema_for::<Input>();
        assert_eq!(
            strict_schema(&schema),
            json!({
                "type": "object",
                "properties": {
                    "count": { "description": "How many, at most.", "type": "integer" },
                    "choice": { "description": "Which.", "type": "string", "enum": ["One", "Other"] },
                    "names": { "type": ["array", "null"], "items": { "type": "string" } },
                },
                "additionalProperties": false,
                "required": ["count", "choice"],
            })
        );
    }
}
