//! What the controller decides of partitions and brokers.

pub(crate) mod proposals;
pub(crate) mod registration;
