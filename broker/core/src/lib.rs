//! Every decision a Kafka cluster takes, as plain state machines.
//!
//! The promise: nothing here has heard of sockets, files, tasks or clocks. A machine is a value. It is given `now` and
//! one input at a time, and answers with outputs to be carried out in order; the disk answers as an input.
//!
//! - [`raft`]: who leads the metadata quorum, and what of its log is committed (KIP-595, KIP-996)
//! - [`metadata`]: what the committed metadata log says, as an image that every node can compute (KIP-500)
//! - [`controller`]: what the active controller writes into that log (KIP-631, KIP-497, KIP-841, KIP-903)
//! - [`log`]: one log without its bytes: offsets, leader epochs, producers (KIP-101, KIP-98)
//! - [`partition`]: one replica of one partition, leading or following (KIP-320, KIP-497)
//! - [`purgatory`]: requests that wait for an offset or for time
//! - [`planted`]: historic bugs, for a testbed to prove itself on; not compiled into what ships

pub mod controller;
pub mod log;
pub mod metadata;
pub mod partition;
pub mod planted;
pub mod purgatory;
pub mod raft;
