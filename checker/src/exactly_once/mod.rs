//! Transactions: what orders them, and what that order may not be.

pub(crate) mod compacted;
pub(crate) mod conservation;
pub(crate) mod cycles;
pub(crate) mod dependency_graph;
pub(crate) mod fencing;
pub(crate) mod final_reads;
pub(crate) mod levels;
pub(crate) mod order;
pub(crate) mod transactions;
pub(crate) mod transform;
pub(crate) mod visibility;
