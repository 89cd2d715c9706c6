//! Objects as linearizable ones: a partition as a log, by a sweep; others by a search.

pub(crate) mod answers;
pub(crate) mod append_order;
pub(crate) mod cluster;
pub(crate) mod log_start;
pub(crate) mod models;
pub(crate) mod objects;
mod picture;
pub(crate) mod search;
mod shrink;
pub(crate) mod stale_poll;

#[cfg(test)]
mod tests;
