//! Transactions: what orders them, and what that order may not be.

pub(crate) mod cycles;
pub(crate) mod dependency_graph;
pub(crate) mod fencing;
pub(crate) mod levels;
pub(crate) mod order;
pub(crate) mod transactions;
pub(crate) mod visibility;
