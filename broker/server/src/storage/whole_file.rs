//! Small files that are replaced as a whole.
//!
//! A reader finds the old content or the new one, whole, whenever the power goes: the new content is written beside
//! the old, synced, renamed over it, and the directory is synced (KAFKA-1539: a rename that overtakes the data leaves
//! an empty file behind).

use super::error::{Doing, StorageError};
use broker_env::{Disk, OpenMode};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};

/// Suffix of the file beside; one that is found at start is a leftover.
pub(super) const TEMPORARY: &str = ".tmp";

/// Replaces `path` by `bytes`, durably.
///
/// # Errors
/// The disk's. The old content is still there then, or the new one is.
pub async fn write_whole(disk: &dyn Disk, path: &Path, bytes: Bytes) -> Result<(), StorageError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(TEMPORARY);
    let beside = PathBuf::from(beside);
    let file = disk.open(&beside, OpenMode::Create).await.doing("create", &beside)?;
    if !file.is_empty() {
        file.truncate(0).await.doing("truncate", &beside)?;
    }
    file.append(vec![bytes]).await.doing("write", &beside)?;
    file.sync_data().await.doing("sync", &beside)?;
    drop(file);
    disk.rename(&beside, path).await.doing("replace", path)?;
    let dir = parent(path);
    disk.sync_dir(dir).await.doing("sync", dir)
}

/// The whole content; `None` if there is no such file.
///
/// # Errors
/// The disk's.
pub async fn read_whole(disk: &dyn Disk, path: &Path) -> Result<Option<Bytes>, StorageError> {
    let file = match disk.open(path, OpenMode::Read).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.doing("open", path)?,
    };
    let len = usize::try_from(file.len()).map_err(|_| StorageError::corrupt(path, "too large"))?;
    let bytes = file.read_at(0, len).await.doing("read", path)?;
    Ok(Some(bytes))
}

/// As [`read_whole`], as text.
pub(super) async fn read_text(disk: &dyn Disk, path: &Path) -> Result<Option<String>, StorageError> {
    match read_whole(disk, path).await? {
        None => Ok(None),
        Some(bytes) => match String::from_utf8(bytes.into()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(StorageError::corrupt(path, "not UTF-8")),
        },
    }
}

/// Removes a file, durably. Fine if there is none.
///
/// # Errors
/// The disk's.
pub async fn remove_durably(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    remove_if_there(disk, path).await?;
    let dir = parent(path);
    disk.sync_dir(dir).await.doing("sync", dir)
}

/// Removes a file; fine if there is none. Whether it stays removed is the next directory sync's matter.
pub(super) async fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    match disk.remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", path),
    }
}

/// Makes a directory and what is missing above it, durably.
pub(super) async fn create_dir_durably(disk: &dyn Disk, path: &Path) -> Result<(), StorageError> {
    disk.create_dir_all(path).await.doing("create", path)?;
    // Any of them may be new.
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        disk.sync_dir(above).await.doing("sync", above)?;
    }
    Ok(())
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
