//! Who owns a field of an object, by its managed fields. Pure.

use super::Writer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;

/// Who of the owners of a field, or of anything in it, wrote to the object last. The path is made of names of fields, and
/// of keys of lists as managed fields spell them (`k:{"name":"main"}`). Those who write its status do not count.
pub fn writer_of(entries: &[ManagedFieldsEntry], path: &[&str]) -> Option<Writer> {
    let owns = |entry: &&ManagedFieldsEntry| {
        let Some(fields) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { return false };
        let step = |fields: &'_ Value, name: &&str| {
            let name = if name.starts_with("k:") { (*name).to_owned() } else { format!("f:{name}") };
            fields.get(name).cloned()
        };
        path.iter().try_fold(fields.clone(), |fields, name| step(&fields, name)).is_some()
    };
    let writers = entries.iter().filter(|entry| entry.subresource.as_deref() != Some("status")).filter(owns);
    let last = writers.max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    Some(Writer {
        manager: last.manager.clone().unwrap_or_else(|| "unknown".to_owned()),
        at: last.time.as_ref().map(|time| time.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_owner_of_a_field_is_its_writer_and_who_writes_the_status_is_not() {
        let image = json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": {
            "k:{\"name\":\"main\"}": { "f:image": {} },
        } } } } });
        let entries: Vec<ManagedFieldsEntry> = serde_json::from_value(json!([
            { "manager": "kubectl-create", "time": "2026-11-23T10:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": "kubectl", "subresource": "scale", "time": "2026-11-23T11:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": "kubectl-set", "time": "2026-11-23T10:30:00Z", "fieldsV1": image },
            { "manager": "controller", "subresource": "status", "time": "2026-11-23T12:00:00Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
        ]))
        .unwrap();
        let manager = |path: &[&str]| writer_of(&entries, path).map(|writer| writer.manager);
        assert_eq!(manager(&["spec", "replicas"]).as_deref(), Some("kubectl"));
        let container = r#"k:{"name":"main"}"#;
        assert_eq!(
            manager(&["spec", "template", "spec", "containers", container, "image"]).as_deref(),
            Some("kubectl-set")
        );
        assert_eq!(manager(&["spec", "template", "spec", "containers", container, "args"]), None);
    }
}
