//! One finished run, or one judged history, rendered for people and machines.
//!
//! [`RunReport`] is the one struct of a run, [`Checked`] that of a history; every rendering reads it and nothing else.

mod checked;
mod json;
mod run_report;
pub mod terminal;

pub use checked::{Checked, check_json};
pub use json::run_json;
pub use run_report::{CheckLine, FaultLine, Lag, RunReport};
