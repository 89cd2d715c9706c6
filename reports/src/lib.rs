//! One finished run, rendered for people and machines.
//!
//! [`RunReport`] is the one struct; every rendering reads it and nothing else.

mod json;
mod run_report;
pub mod terminal;

pub use json::run_json;
pub use run_report::{CheckLine, FaultLine, RunReport};
