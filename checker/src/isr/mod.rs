//! What the controller decides of partitions and brokers.

pub(crate) mod registration;
