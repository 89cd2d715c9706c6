//! The JSON schema of a scenario file, for editors. Draft-07, which the TOML editors know.

use super::scenario::Scenario;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The JSON schema (draft-07) of a scenario file.
#[must_use]
pub fn schema() -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<Scenario>();
    let mut schema = schema.to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".into(), "A scenario of Kafka Trial".into());
    }
    if let Some(step) = schema.pointer_mut("/definitions/Step") {
        close(step);
    }
    schema
}

/// A step is put together of a trigger and an action, and in draft-07 the parts cannot refuse what only the whole knows:
/// the whole names every key once more and refuses the others.
fn close(step: &mut Value) {
    fn gather(schema: &Value, keys: &mut Map<String, Value>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            keys.extend(properties.clone());
        }
        for parts in ["allOf", "oneOf"] {
            for part in schema.get(parts).and_then(Value::as_array).into_iter().flatten() {
                gather(part, keys);
            }
        }
    }
    let mut keys = Map::new();
    gather(step, &mut keys);
    if let Some(step) = step.as_object_mut() {
        step.insert("properties".into(), Value::Object(keys));
        step.insert("additionalProperties".into(), Value::Bool(false));
    }
}
