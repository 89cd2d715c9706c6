//! Transactions: what orders them, and what that order may not be.

pub(crate) mod cycles;
pub(crate) mod dependency_graph;
pub(crate) mod levels;
