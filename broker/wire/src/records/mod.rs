//! What our own logs hold, byte for byte as Kafka writes it.

pub mod control;
pub mod metadata;
