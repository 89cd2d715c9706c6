//! What is committed stays: as clients see it, and as replicas hold it.

pub(crate) mod lost_write;
