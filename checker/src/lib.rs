//! A history in, a verdict out.
//!
//! The judge shares no logic with the accused: it knows what clients saw ([`History`]) and what brokers admit
//! ([`WhiteBox`]), and nothing of how either came about. Three doors:
//!
//! - [`WhiteBox`] takes every [`Observation`](broker_types::Observation) while the run goes on;
//! - [`judge`] reads the clients' history at its end;
//! - [`converged`] looks at the cluster after it was healed.
//!
//! A fourth, [`judge_text`], takes a history that was recorded anywhere, as text.
//!
//! Each gives [`CheckResult`]s, one per check of [`CHECKS`]; [`verdict`] makes one judgement of them all.

mod context;
mod convergence;
mod exactly_once;
mod findings;
mod groups;
mod history;
mod index;
mod isr;
mod jepsen_kafka;
mod jsonl;
mod judge;
mod linearizability;
mod list_append;
mod observed;
mod ordering;
pub mod readers;
mod recorded;
mod registry;
mod replication;
mod storage;
mod transactions;
mod verdict;

pub use context::{
    Allowed, Cleanup, Compaction, Context, Excuse, ExcuseKind, Loss, LossKind, OffsetReset, PartitionRules,
    TransactionVersion,
};
pub use convergence::{
    BatchEnd, BrokerEnd, Canary, ControllerEnd, Convergence, EndState, GroupEnd, Idle, ImageEnd, PartitionEnd,
    ReplicaEnd, converged,
};
pub use exactly_once::levels::Level;
pub use history::{
    Acks, Assign, CommitOffsets, ConfigAsk, ConfigRequest, EndTransaction, FetchOffsets, GroupProtocol, History,
    InitProducer, Isolation, MetadataRead, Op, OpId, OpKind, Outcome, PartitionRead, Poll, ProducerIdRequest, Read,
    Send, SessionId, SimTime, TailRead, TopicAsk, TopicRequest, ValueId, VoterAsk, VoterRequest,
};
pub use isr::registration::Registration;
pub use jsonl::{read_history, read_recording, write_history, write_recording};
pub use judge::{judge, judge_log};
pub use observed::WhiteBox;
pub use ordering::lag::{RealtimeLag, realtime_lag};
pub use recorded::{Judged, Model, Options, judge_text};
pub use registry::{CHECKS, CheckInfo, Evidence};
pub use storage::{LastBatch, OffsetEntry, ProducerRow, SegmentEnd, SnapshotEnd, TimeEntry};
pub use verdict::{CheckOutcome, CheckResult, Progress, Verdict, Violation, verdict};

#[cfg(test)]
mod tests;
