//! Histories recorded elsewhere, in the forms others write them.

pub mod edn;
