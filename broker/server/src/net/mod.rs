//! Sockets: listeners, connections, and channels to other nodes.

pub(crate) mod admission;
pub(crate) mod channel;
pub(crate) mod connection;
pub(crate) mod listener;
pub(crate) mod race;
