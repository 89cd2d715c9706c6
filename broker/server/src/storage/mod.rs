//! Kafka's files, through the disk door.
//!
//! One partition is a [`Log`]: segments of record batches with their indexes, byte for byte as Kafka lays them out, so
//! that Kafka's own tools read them. One [`LogDir`] holds the partitions of a disk, and the small files about them.
//!
//! What counts as durable is Kafka's rule: an appended batch counts once the page cache has it, a checkpoint once it is
//! synced. After a clean shutdown the files are taken at their word; after any other end a log is read again from the
//! recovery point and cut where its batches stop making sense. What is learnt of the batches on the way goes to the
//! caller, who keeps leader epochs and producers.
//!
//! An operation is `async` only because the disk may let it wait. Where the disk answers at once, as the page cache
//! does for an append and for a read of the tail, its future is ready when first polled. Operations that may take long
//! (cold reads, flushes, searches by time) are values of their own, which run while the log takes appends.

mod batch_scan;
mod checkpoints;
mod error;
mod index_file;
mod log;
mod log_dir;
mod offset_index;
mod producer_snapshot;
mod quorum_state_file;
mod read;
mod recovery;
mod segment;
mod time_index;
mod whole_file;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "tests/mem_disk.rs"]
pub(crate) mod mem_disk;
#[cfg(test)]
mod tests;

pub use checkpoints::{
    CleanShutdown, EpochEntry, MetaProperties, PartitionMetadata, read_clean_shutdown, read_epoch_checkpoint,
    read_meta_properties, read_offset_checkpoint, read_partition_metadata, remove_clean_shutdown, write_clean_shutdown,
    write_epoch_checkpoint, write_meta_properties, write_offset_checkpoint, write_partition_metadata,
};
pub use error::StorageError;
pub use log::{Flush, Flushed, LoadedLog, Log, LogBatch, LogConfig, OpenLog, SegmentInfo, Truncation};
pub use log_dir::{LogDir, LogDirContents, PartitionDir};
pub use producer_snapshot::{
    ProducerSnapshotEntry, list_producer_snapshots, read_producer_snapshot, remove_old_producer_snapshots,
    remove_producer_snapshots_beyond, write_producer_snapshot,
};
pub use quorum_state_file::{QuorumStateFile, read_quorum_state, write_quorum_state};
pub use read::{ColdRead, FileSlice, Read, Scan, TimeSearch, TimestampedOffset, read_slices};
pub use whole_file::{read_whole, remove_durably, write_whole};
