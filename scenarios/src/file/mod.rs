//! Scenario files: the grammar, and error messages that point at the letter that is wrong.
//!
//! [`Scenario`] and the types in it are the grammar as values; Rust code may build them as well as a file may. [`parse`]
//! reads a file by walking its TOML by hand, so that all of its errors come at once ([`Diagnostics`]), and
//! [`Scenario::to_toml`] writes one that reads back to the same value. What the grammar knows and this version cannot run
//! is listed in one table, [`NOT_BUILT`]; [`check_supported`] blames it.
//!
//! | file | what is in it |
//! |---|---|
//! | scenario.rs workload.rs action.rs config_value.rs | the grammar as types |
//! | quantity.rs target.rs predicate.rs marks.rs | the words inside strings |
//! | table.rs read.rs read_action.rs read_workload.rs references.rs words.rs | from text to types, or to errors |
//! | kafka_configs.rs | which configuration keys Kafka has, and what they take |
//! | diagnostics.rs supported.rs | errors, and how they look |
//! | write.rs schema.rs | from types to text; the JSON schema |
//! | catalog.rs | the scenarios that come with the program |

mod action;
mod catalog;
mod config_value;
mod diagnostics;
mod kafka_configs;
mod marks;
mod predicate;
mod quantity;
mod read;
mod read_action;
mod read_workload;
mod references;
mod scenario;
mod schema;
mod supported;
mod table;
mod target;
mod words;
mod workload;
mod write;
pub use action::*;
pub use catalog::{CatalogEntry, Loaded, check, find, list_catalog, nearest_name, new_template};
pub use config_value::ConfigValue;
pub use diagnostics::{Diagnostic, DiagnosticKind, Diagnostics};
pub use kafka_configs::{ConfigKey, ConfigScope, config_keys};
pub use marks::{MARKS, Mark};
pub use predicate::{Comparison, PartitionGauge, Predicate, Subject};
pub use quantity::{
    ByteRange, ByteRate, Bytes, DurationRange, Proportion, Rate, SignedDuration, SignedRange, SimDuration,
};
pub use read::{MAX_FILE_BYTES, parse, parse_bytes, parse_seed};
pub use read_action::{ACTIONS, NEMESES};
pub use scenario::*;
pub use schema::schema;
pub use supported::{NOT_BUILT, check_supported, unsupported};
pub use target::{FIRST_CONTROLLER_ID, TARGETS, Target, Targets, broker_id};
pub use workload::*;

#[cfg(test)]
mod tests;
