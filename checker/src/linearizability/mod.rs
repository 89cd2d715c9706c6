//! A partition as one linearizable log.

pub(crate) mod append_order;
pub(crate) mod stale_poll;
