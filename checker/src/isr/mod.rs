//! What the controller decides of partitions and brokers.

mod eligible;
pub(crate) mod proposals;
mod reassignment;
pub(crate) mod registration;
