//! One loop for each machine: wait, step, carry out.

pub(crate) mod fetcher;
pub(crate) mod forward;
mod hosted;
pub(crate) mod isr;
pub(crate) mod lifecycle;
pub(crate) mod quorum;
pub(crate) mod replicas;
