//! What is committed stays: as clients see it, and as replicas hold it.

pub(crate) mod cleanup;
pub(crate) mod log_model;
pub(crate) mod loss_budget;
pub(crate) mod lost_write;
pub(crate) mod quorum;
pub(crate) mod quorum_log;
pub(crate) mod replica_set;
