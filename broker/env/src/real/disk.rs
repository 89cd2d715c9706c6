//! Files of the local file system.

use super::on_blocking_thread;
use crate::{Completion, DirEntry, Disk, File, OpenMode};
use bytes::Bytes;
use std::any::Any;
use std::fs;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Longer reads leave the caller's thread: they may wait for the device.
const READ_INLINE: usize = 1024 * 1024;
/// Buffers handed to the kernel in one append.
const APPEND_SLICES: usize = 256;

pub(super) struct LocalDisk {
    handle: Handle,
}

impl LocalDisk {
    pub(super) fn new(handle: Handle) -> Self {
        LocalDisk { handle }
    }

    fn open_now(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(false);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        let file = options.open(path)?;
        Ok(Arc::new(LocalFile { handle: self.handle.clone(), file: Arc::new(file), end: Mutex::new(()) }))
    }
}

impl Disk for LocalDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Completion<Arc<dyn File>> {
        Completion::ready(self.open_now(path, mode))
    }

    fn create_dir_all(&self, path: &Path) -> Completion<()> {
        Completion::ready(fs::create_dir_all(path))
    }

    fn list(&self, path: &Path) -> Completion<Vec<DirEntry>> {
        Completion::ready(list_now(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Completion<()> {
        Completion::ready(fs::rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Completion<()> {
        Completion::ready(fs::remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Completion<()> {
        Completion::ready(fs::remove_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> Completion<()> {
        let path: PathBuf = path.to_owned();
        on_blocking_thread(&self.handle, move || fs::File::open(path)?.sync_all())
    }

    fn free_space(&self, path: &Path) -> Completion<u64> {
        let free = rustix::fs::statvfs(path).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        Completion::ready(free.map_err(Into::into))
    }
}

fn list_now(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let facts = match entry.metadata() {
            Ok(facts) => facts,
            // Removed between the two looks: it is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let len = if facts.is_dir() { 0 } else { facts.len() };
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(DirEntry { name, is_dir: facts.is_dir(), len });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

pub(super) struct LocalFile {
    handle: Handle,
    file: Arc<fs::File>,
    /// Held while bytes are added at the end: two appends never mix, and the file's cursor is theirs alone.
    end: Mutex<()>,
}

impl LocalFile {
    /// For sendfile.
    #[cfg(target_os = "linux")]
    pub(super) fn descriptor(&self) -> &fs::File {
        &self.file
    }

    fn append_now(&self, buffers: &[Bytes]) -> io::Result<u64> {
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = &*self.file;
        let start = file.seek(SeekFrom::End(0))?;
        for group in buffers.chunks(APPEND_SLICES) {
            let mut slices: Vec<IoSlice<'_>> =
                group.iter().filter(|bytes| !bytes.is_empty()).map(|bytes| IoSlice::new(bytes)).collect();
            let mut rest = &mut slices[..];
            while !rest.is_empty() {
                match file.write_vectored(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => IoSlice::advance_slices(&mut rest, written),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(start)
    }
}

impl File for LocalFile {
    fn len(&self) -> u64 {
        // Asked of the kernel each time: another handle of the same file may have moved the end. It cannot fail on an
        // open descriptor of a local file system.
        self.file.metadata().map_or(0, |facts| facts.len())
    }

    fn read_at(&self, position: u64, len: usize) -> Completion<Bytes> {
        if len <= READ_INLINE {
            return Completion::ready(read_now(&self.file, position, len));
        }
        let file = self.file.clone();
        on_blocking_thread(&self.handle, move || read_now(&file, position, len))
    }

    fn append(&self, buffers: Vec<Bytes>) -> Completion<u64> {
        Completion::ready(self.append_now(&buffers))
    }

    fn write_at(&self, position: u64, bytes: Bytes) -> Completion<()> {
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if position > self.len() {
            return Completion::ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        Completion::ready(self.file.write_all_at(&bytes, position))
    }

    fn truncate(&self, len: u64) -> Completion<()> {
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        Completion::ready(self.file.set_len(len))
    }

    fn sync_data(&self) -> Completion<()> {
        let file = self.file.clone();
        on_blocking_thread(&self.handle, move || file.sync_data())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn read_now(file: &fs::File, position: u64, len: usize) -> io::Result<Bytes> {
    // Not more room than the file can fill, whatever the caller asked.
    let there = file.metadata()?.len().saturating_sub(position);
    let mut bytes = vec![0; len.min(usize::try_from(there).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}
