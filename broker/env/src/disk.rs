//! Files and directories.

use crate::Completion;
use bytes::Bytes;
use std::any::Any;
use std::path::Path;
use std::sync::Arc;

/// The disk door. Paths are the node's own; a simulated world gives each node a tree of its own.
///
/// Durability is POSIX's: written bytes are in the page cache until [`File::sync_data`] returns; a created, renamed or
/// removed name is durable once [`Disk::sync_dir`] of its directory returned. A process crash keeps the page cache, a
/// power loss does not.
pub trait Disk: Send + Sync {
    /// Opens a file. Errors: `NotFound`, `AlreadyExists` (for `CreateNew`), `StorageFull`, other I/O errors.
    fn open(&self, path: &Path, mode: OpenMode) -> Completion<Arc<dyn File>>;
    /// Creates a directory and its missing parents.
    fn create_dir_all(&self, path: &Path) -> Completion<()>;
    /// Lists a directory, sorted by name. Error: `NotFound`.
    fn list(&self, path: &Path) -> Completion<Vec<DirEntry>>;
    /// Renames a file or directory, replacing a file of the new name in one step.
    fn rename(&self, from: &Path, to: &Path) -> Completion<()>;
    /// Removes a file. Error: `NotFound`.
    fn remove_file(&self, path: &Path) -> Completion<()>;
    /// Removes a directory and all that is in it. Error: `NotFound`.
    fn remove_dir_all(&self, path: &Path) -> Completion<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &Path) -> Completion<()>;
    /// Bytes still free on the device that holds `path`.
    fn free_space(&self, path: &Path) -> Completion<u64>;
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// Must exist; read only.
    Read,
    /// Must exist; read and write.
    Write,
    /// Created empty when missing; read and write.
    Create,
    /// Must not exist; read and write.
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name, without its directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// An open file. Removing its name leaves it usable until dropped, as POSIX has it.
pub trait File: Send + Sync {
    /// Length in bytes, from the page cache; costs no I/O.
    fn len(&self) -> u64;
    /// Whether the file holds no byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads up to `len` bytes from `position`; fewer only at the end of the file. What lies in the page cache is
    /// ready at once.
    fn read_at(&self, position: u64, len: usize) -> Completion<Bytes>;
    /// Writes all `buffers` at the end, in order, and says where the first byte went. Ready at once as long as the
    /// page cache takes it. On an error the file may hold a part: its length tells; the caller truncates.
    fn append(&self, buffers: Vec<Bytes>) -> Completion<u64>;
    /// Writes at a position inside the file or at its end.
    fn write_at(&self, position: u64, bytes: Bytes) -> Completion<()>;
    /// Cuts the file to `len` bytes; a longer `len` fills with zeros.
    fn truncate(&self, len: u64) -> Completion<()>;
    /// Makes durable every byte, and the length, that the file had when this was called. After an error the data that
    /// was dirty must be taken for lost, also if a later call succeeds, as Linux has it.
    fn sync_data(&self) -> Completion<()>;
    /// For the world that made this file: its own type back.
    fn as_any(&self) -> &dyn Any;
}
