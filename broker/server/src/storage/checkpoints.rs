//! The small files about logs, byte for byte as Kafka writes them. Each is replaced as a whole, durably.
//!
//! A file that is missing is `None`, or empty; one that makes no sense is `Corrupt`, and the caller decides: an offset
//! checkpoint can be done without, at a price, `meta.properties` cannot.

use super::error::StorageError;
use super::whole_file::{read_text, remove_durably, write_whole};
use broker_env::Disk;
use broker_types::{BrokerEpoch, DirectoryId, LeaderEpoch, NodeId, Offset, TopicId, TopicPartition, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Offsets by partition: `recovery-point-offset-checkpoint`, `replication-offset-checkpoint` (high watermarks) and
/// `log-start-offset-checkpoint`.
///
/// # Errors
/// The disk's.
pub async fn write_offset_checkpoint(
    disk: &dyn Disk,
    path: &Path,
    offsets: &BTreeMap<TopicPartition, Offset>,
) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (partition, offset) in offsets {
        let _ = writeln!(text, "{} {} {offset}", partition.topic, partition.partition);
    }
    write_whole(disk, path, text.into()).await
}

/// What [`write_offset_checkpoint`] wrote; empty if there is no file.
///
/// # Errors
/// The disk's; `Corrupt`.
pub async fn read_offset_checkpoint(
    disk: &dyn Disk,
    path: &Path,
) -> Result<BTreeMap<TopicPartition, Offset>, StorageError> {
    let mut offsets = BTreeMap::new();
    for line in checkpoint_lines(disk, path).await? {
        let mut words = line.split(' ');
        let (Some(topic), Some(partition), Some(offset), None) =
            (words.next(), number(words.next()), number(words.next()), words.next())
        else {
            return Err(StorageError::corrupt(path, format!("unexpected line '{line}'")));
        };
        offsets.insert(TopicPartition::new(topic, partition), Offset(offset));
    }
    Ok(offsets)
}

/// Where a leader epoch begins in a log (KIP-101).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EpochEntry {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// First offset of the epoch.
    pub start: Offset,
}

/// A log's `leader-epoch-checkpoint`.
///
/// # Errors
/// The disk's.
pub async fn write_epoch_checkpoint(disk: &dyn Disk, path: &Path, entries: &[EpochEntry]) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", entries.len());
    for EpochEntry { epoch, start } in entries {
        let _ = writeln!(text, "{epoch} {start}");
    }
    write_whole(disk, path, text.into()).await
}

/// What [`write_epoch_checkpoint`] wrote; empty if there is no file.
///
/// # Errors
/// The disk's; `Corrupt`.
pub async fn read_epoch_checkpoint(disk: &dyn Disk, path: &Path) -> Result<Vec<EpochEntry>, StorageError> {
    let mut entries = Vec::new();
    for line in checkpoint_lines(disk, path).await? {
        let mut words = line.split(' ');
        let (Some(epoch), Some(start), None) = (number(words.next()), number(words.next()), words.next()) else {
            return Err(StorageError::corrupt(path, format!("unexpected line '{line}'")));
        };
        entries.push(EpochEntry { epoch: LeaderEpoch(epoch), start: Offset(start) });
    }
    Ok(entries)
}

/// The lines after version and count; as many as the count says.
async fn checkpoint_lines(disk: &dyn Disk, path: &Path) -> Result<Vec<String>, StorageError> {
    let Some(text) = read_text(disk, path).await? else { return Ok(Vec::new()) };
    // Kafka takes a file without a byte for one that was never written.
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let mut lines = text.lines().map(str::trim_end);
    match lines.next() {
        Some("0") => {}
        version => return Err(StorageError::corrupt(path, format!("unknown version {}", version.unwrap_or("")))),
    }
    let count: Option<usize> = number(lines.next());
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    if count != Some(lines.len()) {
        return Err(StorageError::corrupt(path, format!("{} lines, it should have {count:?}", lines.len())));
    }
    Ok(lines)
}

/// A partition's `partition.metadata`: which topic of its name this is (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PartitionMetadata {
    /// The topic's id.
    pub topic_id: TopicId,
}

/// Writes `partition.metadata`.
///
/// # Errors
/// The disk's.
pub async fn write_partition_metadata(
    disk: &dyn Disk,
    path: &Path,
    metadata: PartitionMetadata,
) -> Result<(), StorageError> {
    write_whole(disk, path, format!("version: 0\ntopic_id: {}", metadata.topic_id).into()).await
}

/// Reads `partition.metadata`.
///
/// # Errors
/// The disk's; `Corrupt`.
pub async fn read_partition_metadata(disk: &dyn Disk, path: &Path) -> Result<Option<PartitionMetadata>, StorageError> {
    let Some(text) = read_text(disk, path).await? else { return Ok(None) };
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    match (field("version"), field("topic_id").and_then(|id| Uuid::parse(id.trim_end()))) {
        (Some("0"), Some(topic_id)) => Ok(Some(PartitionMetadata { topic_id })),
        _ => Err(StorageError::corrupt(path, "no version 0 with a topic id")),
    }
}

/// A log directory's `meta.properties`, version 1: whose disk this is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MetaProperties {
    /// The cluster's id, as `kafka-storage format` was given it.
    pub cluster_id: String,
    /// The node's id.
    pub node_id: NodeId,
    /// The directory's own id (KIP-858); `None` before one was given.
    pub directory_id: Option<DirectoryId>,
}

/// Writes `meta.properties`.
///
/// # Errors
/// The disk's.
pub async fn write_meta_properties(disk: &dyn Disk, path: &Path, meta: &MetaProperties) -> Result<(), StorageError> {
    let mut text = format!("#\ncluster.id={}\n", meta.cluster_id);
    if let Some(id) = meta.directory_id {
        let _ = writeln!(text, "directory.id={id}");
    }
    let _ = write!(text, "node.id={}\nversion=1\n", meta.node_id);
    write_whole(disk, path, text.into()).await
}

/// Reads `meta.properties`. Keys that are not ours are passed over.
///
/// # Errors
/// The disk's; `Corrupt` also for another version.
pub async fn read_meta_properties(disk: &dyn Disk, path: &Path) -> Result<Option<MetaProperties>, StorageError> {
    let Some(text) = read_text(disk, path).await? else { return Ok(None) };
    let property = |key: &str| {
        let pairs = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', '!']));
        pairs
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    };
    if property("version") != Some("1") {
        return Err(StorageError::corrupt(path, "not of version 1"));
    }
    let directory_id = match property("directory.id") {
        None => None,
        Some(id) => match Uuid::parse(id) {
            Some(id) => Some(id),
            None => return Err(StorageError::corrupt(path, format!("directory.id '{id}' is no id"))),
        },
    };
    match (property("cluster.id"), number(property("node.id"))) {
        (Some(cluster_id), Some(node_id)) => {
            Ok(Some(MetaProperties { cluster_id: cluster_id.to_owned(), node_id: NodeId(node_id), directory_id }))
        }
        _ => Err(StorageError::corrupt(path, "no cluster.id or no node.id")),
    }
}

/// A log directory's `.kafka_cleanshutdown`: there only while the broker is down after a clean shutdown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CleanShutdown {
    version: i32,
    /// The broker epoch of the incarnation that shut down (KIP-966); -1 if it had none.
    #[serde(rename = "brokerEpoch", default = "no_epoch")]
    broker_epoch: i64,
}

fn no_epoch() -> i64 {
    -1
}

impl CleanShutdown {
    /// Of an incarnation that had this epoch.
    #[must_use]
    pub fn new(epoch: Option<BrokerEpoch>) -> Self {
        CleanShutdown { version: 0, broker_epoch: epoch.map_or(-1, |epoch| epoch.0) }
    }

    /// The incarnation's epoch.
    #[must_use]
    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        (self.broker_epoch >= 0).then_some(BrokerEpoch(self.broker_epoch))
    }
}

/// Writes `.kafka_cleanshutdown`, after everything else is synced.
///
/// # Errors
/// The disk's.
pub async fn write_clean_shutdown(disk: &dyn Disk, path: &Path, mark: CleanShutdown) -> Result<(), StorageError> {
    write_whole(disk, path, serde_json::to_vec(&mark).expect("two numbers").into()).await
}

/// Reads `.kafka_cleanshutdown`. One that makes no sense is none: recovery is always right.
///
/// # Errors
/// The disk's.
pub async fn read_clean_shutdown(disk: &dyn Disk, path: &Path) -> Result<Option<CleanShutdown>, StorageError> {
    match read_text(disk, path).await {
        Ok(text) => {
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()).filter(|mark: &CleanShutdown| mark.version == 0))
        }
        Err(StorageError::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes `.kafka_cleanshutdown`, durably: from here on the end is unclean until proven otherwise. To be done before
/// the first write to any log.
///
/// # Errors
/// The disk's.
pub async fn remove_clean_shutdown(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    remove_durably(disk, path).await
}

fn number<N: std::str::FromStr>(word: Option<&str>) -> Option<N> {
    word?.parse().ok()
}
