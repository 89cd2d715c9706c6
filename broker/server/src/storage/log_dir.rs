//! A log directory: one disk's partitions, and the files about them.
//!
//! There is no lock file: who may run on a disk is the operator's business, and a simulated node has its disk to
//! itself.
//!
//! A partition is deleted in two steps, as in Kafka: its directory is renamed, at once and durably, so that a new
//! partition of the name may begin; then its files go. What a crash leaves between is swept at the next start.

use super::checkpoints::{
    CleanShutdown, MetaProperties, PartitionMetadata, read_clean_shutdown, read_meta_properties,
    read_offset_checkpoint, read_partition_metadata, remove_clean_shutdown, write_clean_shutdown,
    write_meta_properties, write_offset_checkpoint, write_partition_metadata,
};
use super::error::{Doing, StorageError};
use super::whole_file::{TEMPORARY, create_dir_durably, remove_if_there};
use broker_env::SharedEnv;
use broker_types::{Offset, TopicId, TopicPartition};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
const PARTITION_METADATA: &str = "partition.metadata";
const DELETED: &str = "-delete";
const STRAY: &str = "-stray";
/// File names have a limit of 255 bytes; what is put after a topic's name takes up to 64.
const MAX_TOPIC_IN_NAME: usize = 255 - 64;

/// One log directory.
#[derive(Clone)]
pub struct LogDir {
    env: SharedEnv,
    root: PathBuf,
}

/// A partition found in a log directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionDir {
    /// By its name.
    pub partition: TopicPartition,
    /// Where its files lie.
    pub path: PathBuf,
    /// Which topic of the name it is; `None` when `partition.metadata` is missing or makes no sense: the power went
    /// before it was written, and no such replica was ever in use (KAFKA-16814).
    pub topic_id: Option<TopicId>,
}

/// What a log directory holds when a broker starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDirContents {
    /// Whose it is; `None` for one that was never formatted.
    pub meta: Option<MetaProperties>,
    /// There after a clean shutdown.
    pub clean_shutdown: Option<CleanShutdown>,
    /// The partitions, in order.
    pub partitions: Vec<PartitionDir>,
    /// Below these everything was synced. 0 for a partition that is not named.
    pub recovery_points: BTreeMap<TopicPartition, Offset>,
    /// High watermarks when last checkpointed.
    pub high_watermarks: BTreeMap<TopicPartition, Offset>,
    /// Log start offsets that are beyond the first segment's base.
    pub log_starts: BTreeMap<TopicPartition, Offset>,
    /// Directories whose deletion has begun; to be finished.
    pub deleted: Vec<PathBuf>,
    /// Directories set aside as stray; left alone.
    pub strays: Vec<PathBuf>,
}

impl LogDirContents {
    /// Whether no log here still waits for recovery: the former end was clean, or each log that it left was opened since and
    /// taken out of `partitions`. Only then may the next end be called clean (KAFKA-10471).
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.clean_shutdown.is_some() || self.partitions.is_empty()
    }
}

impl LogDir {
    /// Opens the directory, made if it is missing, and says what is in it. Offset checkpoints that make no sense count
    /// as missing: recovery then reads more, and a high watermark is learnt anew.
    ///
    /// # Errors
    /// The disk's; `Corrupt` for `meta.properties`.
    pub async fn open(env: SharedEnv, root: &Path) -> Result<(LogDir, LogDirContents), StorageError> {
        let dir = LogDir { env, root: root.to_owned() };
        let disk = dir.env.disk();
        let entries = match disk.list(root).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dir_durably(disk, root).await?;
                Vec::new()
            }
            listed => listed.doing("list", root)?,
        };
        let mut contents = LogDirContents {
            meta: read_meta_properties(disk, &dir.file(META_PROPERTIES)).await?,
            clean_shutdown: read_clean_shutdown(disk, &dir.file(CLEAN_SHUTDOWN)).await?,
            partitions: Vec::new(),
            recovery_points: dir.read_offsets(RECOVERY_POINTS).await?,
            high_watermarks: dir.read_offsets(HIGH_WATERMARKS).await?,
            log_starts: dir.read_offsets(LOG_STARTS).await?,
            deleted: Vec::new(),
            strays: Vec::new(),
        };
        for entry in entries {
            let path = root.join(&entry.name);
            if !entry.is_dir {
                if entry.name.ends_with(TEMPORARY) {
                    remove_if_there(disk, &path).await?;
                }
            } else if entry.name.ends_with(DELETED) {
                contents.deleted.push(path);
            } else if entry.name.ends_with(STRAY) {
                contents.strays.push(path);
            } else if let Some(partition) = parse_partition_dir(&entry.name) {
                let metadata = read_partition_metadata(disk, &path.join(PARTITION_METADATA)).await;
                let topic_id = match metadata {
                    Ok(metadata) => metadata.map(|metadata| metadata.topic_id),
                    Err(StorageError::Corrupt { .. }) => None,
                    Err(error) => return Err(error),
                };
                contents.partitions.push(PartitionDir { partition, path, topic_id });
            }
        }
        contents.partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        Ok((dir, contents))
    }

    async fn read_offsets(&self, name: &str) -> Result<BTreeMap<TopicPartition, Offset>, StorageError> {
        match read_offset_checkpoint(self.env.disk(), &self.file(name)).await {
            Err(StorageError::Corrupt { path, what }) => {
                tracing::warn!(path = %path.display(), what, "offset checkpoint ignored");
                Ok(BTreeMap::new())
            }
            offsets => offsets,
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a partition's files lie, or would.
    #[must_use]
    pub fn partition_path(&self, partition: &TopicPartition) -> PathBuf {
        self.root.join(partition.to_string())
    }

    /// Makes a partition's directory with its `partition.metadata`, durably, and says where. Fine if both are there.
    ///
    /// # Errors
    /// The disk's; `Corrupt` if the directory is another topic's of the same name, which is to be deleted first.
    pub async fn create_partition(
        &self,
        partition: &TopicPartition,
        topic_id: TopicId,
    ) -> Result<PathBuf, StorageError> {
        let disk = self.env.disk();
        let path = self.partition_path(partition);
        disk.create_dir_all(&path).await.doing("create", &path)?;
        let metadata = path.join(PARTITION_METADATA);
        match read_partition_metadata(disk, &metadata).await? {
            Some(found) if found.topic_id != topic_id => {
                return Err(StorageError::corrupt(&metadata, format!("topic id {}, not {topic_id}", found.topic_id)));
            }
            Some(_) => {}
            None => write_partition_metadata(disk, &metadata, PartitionMetadata { topic_id }).await?,
        }
        disk.sync_dir(&self.root).await.doing("sync", &self.root)?;
        Ok(path)
    }

    /// Renames a partition's directory so that it is gone for good, and says what it is called now. `unique` tells
    /// apart deletions of one name. The files go with [`LogDir::finish_delete`].
    ///
    /// # Errors
    /// The disk's.
    pub async fn begin_delete(&self, partition: &TopicPartition, unique: u128) -> Result<PathBuf, StorageError> {
        self.set_aside(partition, unique, DELETED).await
    }

    /// Renames a partition's directory that the metadata knows nothing of; it is left for the operator.
    ///
    /// # Errors
    /// The disk's.
    pub async fn set_aside_stray(&self, partition: &TopicPartition, unique: u128) -> Result<PathBuf, StorageError> {
        self.set_aside(partition, unique, STRAY).await
    }

    /// Removes the files of a partition whose deletion has begun. Fine if they are gone.
    ///
    /// # Errors
    /// The disk's.
    pub async fn finish_delete(&self, path: &Path) -> Result<(), StorageError> {
        match self.env.disk().remove_dir_all(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.doing("remove", path),
        }
    }

    async fn set_aside(&self, partition: &TopicPartition, unique: u128, suffix: &str) -> Result<PathBuf, StorageError> {
        let disk = self.env.disk();
        let from = self.partition_path(partition);
        // Topic names are ASCII, so a cut lies between characters; if one is not, it is not cut.
        let topic = partition.topic.to_string();
        let short = topic.get(..MAX_TOPIC_IN_NAME).unwrap_or(&topic);
        let to = self.root.join(format!("{short}-{}.{unique:032x}{suffix}", partition.partition));
        disk.rename(&from, &to).await.doing("rename", &from)?;
        disk.sync_dir(&self.root).await.doing("sync", &self.root)?;
        Ok(to)
    }

    /// Writes `meta.properties`: formats the directory.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write_meta(&self, meta: &MetaProperties) -> Result<(), StorageError> {
        write_meta_properties(self.env.disk(), &self.file(META_PROPERTIES), meta).await
    }

    /// Marks the shutdown as clean, after every log was closed and every checkpoint written.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write_clean_shutdown(&self, mark: CleanShutdown) -> Result<(), StorageError> {
        write_clean_shutdown(self.env.disk(), &self.file(CLEAN_SHUTDOWN), mark).await
    }

    /// Takes the mark away, before the first write to any log.
    ///
    /// # Errors
    /// The disk's.
    pub async fn remove_clean_shutdown(&self) -> Result<(), StorageError> {
        remove_clean_shutdown(self.env.disk(), &self.file(CLEAN_SHUTDOWN)).await
    }

    /// Checkpoints the recovery points of all partitions here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write_recovery_points(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), StorageError> {
        write_offset_checkpoint(self.env.disk(), &self.file(RECOVERY_POINTS), offsets).await
    }

    /// Checkpoints the high watermarks of all partitions here.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write_high_watermarks(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), StorageError> {
        write_offset_checkpoint(self.env.disk(), &self.file(HIGH_WATERMARKS), offsets).await
    }

    /// Checkpoints the log start offsets of all partitions here that need it.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write_log_starts(&self, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<(), StorageError> {
        write_offset_checkpoint(self.env.disk(), &self.file(LOG_STARTS), offsets).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

/// `topic-3`. A topic's name may have hyphens and dots of its own.
fn parse_partition_dir(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition: i32 = partition.parse().ok().filter(|partition| *partition >= 0)?;
    // Only the name that we would give counts: no sign, no leading zero.
    let parsed = TopicPartition::new(topic, partition);
    (!topic.is_empty() && parsed.to_string() == name).then_some(parsed)
}
