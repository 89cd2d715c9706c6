//! What can go wrong with a disk.

use broker_types::{ErrorCode, Offset};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a storage operation failed. All but [`StorageError::OutOfRange`] take the log directory offline.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The disk refused.
    #[error("{path}: cannot {doing}: {source}")]
    Io {
        /// The operation, as a verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is there and is not what it should be.
    #[error("{path}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The offset is not in the log.
    #[error("offset {offset} is not within {log_start} and {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First offset kept.
        log_start: Offset,
        /// Log end offset, exclusive.
        log_end: Offset,
    },
}

impl StorageError {
    /// The error code that tells a peer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            StorageError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            StorageError::Io { .. } | StorageError::Corrupt { .. } => ErrorCode::KafkaStorageError,
        }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        StorageError::Corrupt { path: path.to_owned(), what: what.into() }
    }
}

/// Says what was tried on which path.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::Io { doing, path: path.to_owned(), source })
    }
}
