//! One log without its bytes: where it begins, ends and is committed ([`LogOffsets`]), which leader wrote which part
//! ([`LeaderEpochCache`], KIP-101, KIP-279, KIP-320) and who produced into it ([`ProducerState`], KIP-98, KIP-360).
//!
//! [`LogState`] bundles the three, so that an append, a truncation or a restart changes them together and in one
//! order.

mod leader_epoch_cache;
mod offsets;
mod producer_state;
mod state;

pub use leader_epoch_cache::{EpochEntry, LeaderEpochCache};
pub use offsets::{Ends, LogOffsets, ReadLimit};
pub use producer_state::{
    AppendOrigin, BatchRecord, ProducerEntry, ProducerSnapshotRow, ProducerState, SequenceCheck, WINDOW,
};
pub use state::{LogState, RecoveredLog, Truncation};
