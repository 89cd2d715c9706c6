//! A node's log directories before anything opens them: who runs on them.

use anyhow::{Context, bail};
use broker_server::Config;
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Every directory that a node uses, each once.
pub(super) fn all(config: &Config) -> Vec<PathBuf> {
    let mut dirs = config.log_dirs.clone();
    if !dirs.contains(&config.metadata_log_dir) {
        dirs.push(config.metadata_log_dir.clone());
    }
    dirs
}

/// Whether `broker format` was here.
pub(super) fn is_formatted(dir: &Path) -> bool {
    dir.join("meta.properties").exists()
}

/// Keeps other processes out of a directory for as long as it lives. The kernel lets go of it however the process ends.
pub(super) struct Lock {
    _file: File,
}

/// Takes every directory for this process, with the lock that Kafka takes (`.lock`, fcntl).
///
/// # Errors
/// A directory that is not formatted, or that another process runs on; nothing was changed then.
pub(super) fn take(config: &Config) -> anyhow::Result<Vec<Lock>> {
    let dirs = all(config);
    if let Some(dir) = dirs.iter().find(|dir| !is_formatted(dir)) {
        bail!("{} is not formatted; run `broker format` first", dir.display());
    }
    dirs.iter().map(|dir| lock(dir)).collect()
}

/// Takes one directory, which exists.
pub(super) fn lock(dir: &Path) -> anyhow::Result<Lock> {
    let path = dir.join(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        bail!("{} is in use by another process; stop that one first, or choose another log.dirs", dir.display());
    }
    Ok(Lock { _file: file })
}
