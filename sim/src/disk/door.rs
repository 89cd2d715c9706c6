//! What a process sees of its host's disk.

use super::tree::{Inode, InodeId};
use super::{DiskFault, HostDisk, State, io_error};
use crate::alarm::lock;
use crate::process::Life;
use crate::seed::below;
use broker_env::{Completion, DirEntry, Disk, File, OpenMode};
use bytes::Bytes;
use std::any::Any;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, MutexGuard};

/// One process's disk door.
pub(crate) struct SimDisk {
    pub(crate) disk: Arc<HostDisk>,
    pub(crate) life: Arc<Life>,
}

/// What a process that is no more gets to hear.
fn dead() -> io::Error {
    ErrorKind::BrokenPipe.into()
}

impl SimDisk {
    /// Does something to the tree and answers, at once unless a fault delays it.
    fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> Completion<T> {
        if !self.life.is_alive() {
            return Completion::ready(Err(dead()));
        }
        let mut state = lock(&self.disk.state);
        let outcome = act(&mut state);
        self.disk.answer(&mut state, outcome)
    }

    fn open_in(&self, state: &mut State, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let found = state.tree.find(path);
        let inode = match (found, mode) {
            (Ok(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Ok(inode), _) => inode,
            (Err(error), OpenMode::Read | OpenMode::Write) => return Err(error),
            (Err(_), OpenMode::Create | OpenMode::CreateNew) => {
                let place = state.tree.place(path)?;
                if let Some(id) = state.faults.full() {
                    self.disk.count(id, "operations-failed", 1);
                    return Err(ErrorKind::StorageFull.into());
                }
                let due = self.disk.due(state);
                state.tree.create_file(place, due)?
            }
        };
        state.tree.file(inode)?.handles += 1;
        let writable = mode != OpenMode::Read;
        let generation = state.generation;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.disk),
            life: Arc::clone(&self.life),
            inode,
            writable,
            generation,
        }))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Completion<Arc<dyn File>> {
        self.act(|state| self.open_in(state, path, mode))
    }

    fn create_dir_all(&self, path: &Path) -> Completion<()> {
        self.act(|state| {
            let due = self.disk.due(state);
            state.tree.create_dir_all(path, due)
        })
    }

    fn list(&self, path: &Path) -> Completion<Vec<DirEntry>> {
        self.act(|state| {
            let inode = state.tree.find(path)?;
            let entries = state.tree.dir(inode)?.entries.clone();
            let entry = |(name, inode)| match state.tree.inodes.get(&inode) {
                Some(Inode::File(file)) => DirEntry { name, is_dir: false, len: file.data.cache.len() },
                _ => DirEntry { name, is_dir: true, len: 0 },
            };
            Ok(entries.into_iter().map(entry).collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Completion<()> {
        self.act(|state| {
            let (from, to) = (state.tree.place(from)?, state.tree.place(to)?);
            let due = self.disk.due(state);
            state.used = None;
            state.tree.rename(from, to, due)?;
            state.tree.collect(self.disk.alarm.now(), false);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> Completion<()> {
        self.act(|state| {
            let inode = state.tree.find(path)?;
            state.tree.file(inode)?;
            let place = state.tree.place(path)?;
            let due = self.disk.due(state);
            state.used = None;
            state.tree.remove(place, due)?;
            state.tree.collect(self.disk.alarm.now(), false);
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> Completion<()> {
        self.act(|state| {
            let inode = state.tree.find(path)?;
            state.tree.dir(inode)?;
            let place = state.tree.place(path)?;
            let due = self.disk.due(state);
            state.used = None;
            state.tree.remove(place, due)?;
            state.tree.collect(self.disk.alarm.now(), false);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Completion<()> {
        if !self.life.is_alive() {
            return Completion::ready(Err(dead()));
        }
        let mut state = lock(&self.disk.state);
        let (inode, end) =
            match state.tree.find(path).and_then(|inode| Ok((inode, state.tree.dir(inode)?.next_change()))) {
                Ok(found) => found,
                Err(error) => return self.disk.answer(&mut state, Err(error)),
            };
        let (generation, disk) = (state.generation, Arc::clone(&self.disk));
        let delay = self.disk.sync_time(&mut state, 0);
        let (completer, completion) = Completion::pending();
        self.disk.after(&mut state, delay, move || {
            let mut state = lock(&disk.state);
            if state.generation == generation
                && let Ok(dir) = state.tree.dir(inode)
            {
                dir.synced(end);
            }
            drop(state);
            completer.complete(Ok(()));
        });
        completion
    }

    fn free_space(&self, _: &Path) -> Completion<u64> {
        self.act(|state| Ok(self.disk.free(state)))
    }
}

struct SimFile {
    disk: Arc<HostDisk>,
    life: Arc<Life>,
    inode: InodeId,
    writable: bool,
    /// Of the disk when it was opened: no handle survives a power loss.
    generation: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = lock(&self.disk.state);
        if !self.life.is_alive() || state.generation != self.generation {
            return Err(dead());
        }
        Ok(state)
    }

    fn act<T: Send + 'static>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> Completion<T> {
        match self.state() {
            Ok(mut state) => {
                let outcome = act(&mut state);
                self.disk.answer(&mut state, outcome)
            }
            Err(error) => Completion::ready(Err(error)),
        }
    }

    /// Writes as much of the buffers as there is room for, and fails if that is not all.
    fn put(&self, state: &mut State, mut position: u64, buffers: Vec<Bytes>) -> io::Result<()> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let len = state.tree.file(self.inode)?.data.cache.len();
        if position > len {
            return Err(ErrorKind::InvalidInput.into());
        }
        let total: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        let grows = (position + total).saturating_sub(len);
        let mut takes = total;
        let mut outcome = Ok(());
        if self.disk.fails(state, "operations-failed", |fault| match fault {
            DiskFault::WriteError { ppm } => Some(*ppm),
            _ => None,
        }) {
            takes = below(&mut state.rng, total + 1);
            outcome = Err(io_error());
        } else if grows > self.disk.free(state) {
            takes = total - grows + self.disk.free(state);
            outcome = Err(ErrorKind::StorageFull.into());
            if let Some(id) = state.faults.full() {
                self.disk.count(id, "operations-failed", 1);
            }
        }
        for mut buffer in buffers {
            buffer.truncate(usize::try_from(takes).unwrap_or(usize::MAX));
            takes -= buffer.len() as u64;
            let due = self.disk.due(state);
            let step = buffer.len() as u64;
            state.tree.file(self.inode)?.data.write(position, buffer, due);
            position += step;
        }
        let now = self.disk.alarm.now();
        let data = &mut state.tree.file(self.inode)?.data;
        data.settle_due(now);
        let grown = data.cache.len() - len;
        if let Some(used) = &mut state.used {
            *used += grown;
        }
        outcome
    }
}

impl File for SimFile {
    fn len(&self) -> u64 {
        self.state().map_or(0, |mut state| state.tree.file(self.inode).map_or(0, |file| file.data.cache.len()))
    }

    fn read_at(&self, position: u64, len: usize) -> Completion<Bytes> {
        self.act(|state| {
            if self.disk.fails(state, "operations-failed", |fault| match fault {
                DiskFault::ReadError { ppm } => Some(*ppm),
                _ => None,
            }) {
                return Err(io_error());
            }
            Ok(state.tree.file(self.inode)?.data.cache.read(position, len))
        })
    }

    fn append(&self, buffers: Vec<Bytes>) -> Completion<u64> {
        self.act(|state| {
            let position = state.tree.file(self.inode)?.data.cache.len();
            self.put(state, position, buffers)?;
            Ok(position)
        })
    }

    fn write_at(&self, position: u64, bytes: Bytes) -> Completion<()> {
        self.act(|state| self.put(state, position, vec![bytes]))
    }

    fn truncate(&self, len: u64) -> Completion<()> {
        self.act(|state| {
            if !self.writable {
                return Err(ErrorKind::PermissionDenied.into());
            }
            let grows = len.saturating_sub(state.tree.file(self.inode)?.data.cache.len());
            if grows > self.disk.free(state) {
                return Err(ErrorKind::StorageFull.into());
            }
            let due = self.disk.due(state);
            state.used = None;
            state.tree.file(self.inode)?.data.set_len(len, due);
            Ok(())
        })
    }

    fn sync_data(&self) -> Completion<()> {
        let mut state = match self.state() {
            Ok(state) => state,
            Err(error) => return Completion::ready(Err(error)),
        };
        let (end, dirty) = match state.tree.file(self.inode) {
            Ok(file) => (file.data.next_write(), file.data.dirty_bytes()),
            Err(error) => return Completion::ready(Err(error)),
        };
        let fault = state.faults.find(|fault| match fault {
            DiskFault::SyncError { ppm } => Some(*ppm),
            _ => None,
        });
        let fails = self.disk.fails(&mut state, "operations-failed", |fault| match fault {
            DiskFault::SyncError { ppm } => Some(*ppm),
            _ => None,
        });
        let delay = self.disk.sync_time(&mut state, dirty);
        let (generation, disk, inode) = (self.generation, Arc::clone(&self.disk), self.inode);
        let (completer, completion) = Completion::pending();
        self.disk.after(&mut state, delay, move || {
            let mut state = lock(&disk.state);
            let void = state.generation != generation;
            if let (false, Ok(file)) = (void, state.tree.file(inode)) {
                if fails {
                    let lost = file.data.sync_failed(end);
                    if let Some((id, _)) = fault {
                        disk.count(id, "bytes-lost", lost);
                    }
                } else {
                    file.data.synced(end);
                }
            }
            drop(state);
            completer.complete(match (void, fails) {
                (true, _) => Err(dead()),
                (false, true) => Err(io_error()),
                (false, false) => Ok(()),
            });
        });
        completion
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = lock(&self.disk.state);
        if state.generation == self.generation
            && let Ok(file) = state.tree.file(self.inode)
        {
            file.handles = file.handles.saturating_sub(1);
        }
    }
}
