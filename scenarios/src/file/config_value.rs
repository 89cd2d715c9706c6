//! A Kafka configuration value as a scenario file may write it.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A number, a boolean, or Kafka's own string. `Display` is Kafka's string.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigValue {
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// Anything, as it would stand in server.properties. A decimal fraction is kept as its text.
    Text(String),
}

impl fmt::Display for ConfigValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigValue::Integer(number) => number.fmt(f),
            ConfigValue::Boolean(value) => value.fmt(f),
            ConfigValue::Text(text) => text.fmt(f),
        }
    }
}

impl From<i64> for ConfigValue {
    fn from(number: i64) -> Self {
        ConfigValue::Integer(number)
    }
}

impl From<bool> for ConfigValue {
    fn from(value: bool) -> Self {
        ConfigValue::Boolean(value)
    }
}

impl From<&str> for ConfigValue {
    fn from(text: &str) -> Self {
        ConfigValue::Text(text.to_string())
    }
}

impl Serialize for ConfigValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ConfigValue::Integer(number) => serializer.serialize_i64(*number),
            ConfigValue::Boolean(value) => serializer.serialize_bool(*value),
            ConfigValue::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl JsonSchema for ConfigValue {
    fn schema_name() -> Cow<'static, str> {
        "ConfigValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A number, a boolean, or Kafka's own string.", "type": ["number", "boolean", "string"] })
    }
}
