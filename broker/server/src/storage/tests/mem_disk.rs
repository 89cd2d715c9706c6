//! A disk in memory that knows what is durable, and an environment that has nothing but this disk.

use broker_env::{Completion, DirEntry, Disk, Env, File, Network, OpenMode, RawTimer, Task, Timer};
use broker_types::{MonoTime, WallTime};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Polls once. Everything here must be done then: the disk answers at once.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("waits although the disk answers at once"),
    }
}

#[derive(Clone)]
enum Node {
    File(Arc<MemFile>),
    Dir(Arc<MemDir>),
}

#[derive(Default)]
struct MemDir {
    names: Mutex<BTreeMap<String, Node>>,
    durable: Mutex<BTreeMap<String, Node>>,
}

#[derive(Default)]
struct MemFile {
    cache: Mutex<Vec<u8>>,
    durable: Mutex<Vec<u8>>,
    faults: Arc<Faults>,
}

#[derive(Default)]
pub(crate) struct Faults {
    /// Reads so far.
    pub(crate) reads: AtomicUsize,
    /// The next append writes so many bytes and fails.
    pub(crate) torn_append: Mutex<Option<usize>>,
    /// After so many more operations that change something, none does.
    pub(crate) changes_left: Mutex<Option<usize>>,
}

impl Faults {
    fn change(&self) -> io::Result<()> {
        match lock(&self.changes_left).as_mut() {
            None => Ok(()),
            Some(0) => Err(ErrorKind::Other.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct MemEnv {
    root: Arc<MemDir>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) wall_ms: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl MemEnv {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What was not synced is lost, but for the first `torn(unsynced)` bytes that each file grew by.
    pub(crate) fn power_loss(&self, mut torn: impl FnMut(usize) -> usize) {
        lose(&self.root, &mut torn);
    }

    fn dir(&self, path: &Path) -> io::Result<Arc<MemDir>> {
        let mut dir = self.root.clone();
        for name in path.components().filter_map(normal) {
            let next = lock(&dir.names).get(&name).cloned();
            dir = match next {
                Some(Node::Dir(next)) => next,
                _ => return Err(ErrorKind::NotFound.into()),
            };
        }
        Ok(dir)
    }

    fn parent(&self, path: &Path) -> io::Result<(Arc<MemDir>, String)> {
        let name = path.components().next_back().and_then(normal).ok_or(ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap())?, name))
    }

    fn try_open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let (dir, name) = self.parent(path)?;
        let mut names = lock(&dir.names);
        match (names.get(&name), mode) {
            (Some(Node::File(_)), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), _) => Ok(file.clone()),
            (Some(Node::Dir(_)), _) => Err(ErrorKind::IsADirectory.into()),
            (None, OpenMode::Read | OpenMode::Write) => Err(ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.faults.change()?;
                let file = Arc::new(MemFile { faults: self.faults.clone(), ..MemFile::default() });
                names.insert(name, Node::File(file.clone()));
                Ok(file)
            }
        }
    }

    fn try_remove(&self, path: &Path) -> io::Result<()> {
        self.faults.change()?;
        let (dir, name) = self.parent(path)?;
        lock(&dir.names).remove(&name).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

fn normal(component: Component<'_>) -> Option<String> {
    match component {
        Component::Normal(name) => Some(name.to_str().unwrap().to_owned()),
        _ => None,
    }
}

fn lose(dir: &MemDir, torn: &mut impl FnMut(usize) -> usize) {
    let durable = lock(&dir.durable).clone();
    for node in durable.values() {
        match node {
            Node::Dir(dir) => lose(dir, torn),
            Node::File(file) => {
                let mut kept = lock(&file.durable).clone();
                let cache = lock(&file.cache).clone();
                if cache.len() > kept.len() && cache.starts_with(&kept) {
                    let grown = kept.len();
                    let more = torn(cache.len() - grown).min(cache.len() - grown);
                    kept.extend_from_slice(&cache[grown..grown + more]);
                }
                *lock(&file.durable) = kept.clone();
                *lock(&file.cache) = kept;
            }
        }
    }
    *lock(&dir.names) = durable;
}

impl Disk for MemEnv {
    fn open(&self, path: &Path, mode: OpenMode) -> Completion<Arc<dyn File>> {
        Completion::ready(self.try_open(path, mode))
    }

    fn create_dir_all(&self, path: &Path) -> Completion<()> {
        let mut dir = self.root.clone();
        for name in path.components().filter_map(normal) {
            let made = lock(&dir.names).entry(name).or_insert_with(|| Node::Dir(Arc::default())).clone();
            dir = match made {
                Node::Dir(dir) => dir,
                Node::File(_) => return Completion::ready(Err(ErrorKind::NotADirectory.into())),
            };
        }
        Completion::ready(self.faults.change())
    }

    fn list(&self, path: &Path) -> Completion<Vec<DirEntry>> {
        let entry = |(name, node): (&String, &Node)| match node {
            Node::File(file) => DirEntry { name: name.clone(), is_dir: false, len: file.len() },
            Node::Dir(_) => DirEntry { name: name.clone(), is_dir: true, len: 0 },
        };
        Completion::ready(self.dir(path).map(|dir| lock(&dir.names).iter().map(entry).collect()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Completion<()> {
        let rename = || {
            self.faults.change()?;
            let (dir, name) = self.parent(from)?;
            let node = lock(&dir.names).remove(&name).ok_or(ErrorKind::NotFound)?;
            let (dir, name) = self.parent(to)?;
            lock(&dir.names).insert(name, node);
            Ok(())
        };
        Completion::ready(rename())
    }

    fn remove_file(&self, path: &Path) -> Completion<()> {
        Completion::ready(self.try_remove(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Completion<()> {
        Completion::ready(self.try_remove(path))
    }

    fn sync_dir(&self, path: &Path) -> Completion<()> {
        let sync = || {
            self.faults.change()?;
            let dir = self.dir(path)?;
            let names = lock(&dir.names).clone();
            *lock(&dir.durable) = names;
            Ok(())
        };
        Completion::ready(sync())
    }

    fn free_space(&self, _: &Path) -> Completion<u64> {
        Completion::ready(Ok(u64::MAX))
    }
}

impl File for MemFile {
    fn len(&self) -> u64 {
        lock(&self.cache).len() as u64
    }

    fn read_at(&self, position: u64, len: usize) -> Completion<Bytes> {
        self.faults.reads.fetch_add(1, Ordering::Relaxed);
        let cache = lock(&self.cache);
        let from = (position as usize).min(cache.len());
        let to = from.saturating_add(len).min(cache.len());
        Completion::ready(Ok(Bytes::copy_from_slice(&cache[from..to])))
    }

    fn append(&self, buffers: Vec<Bytes>) -> Completion<u64> {
        let mut cache = lock(&self.cache);
        let position = cache.len();
        let bytes = buffers.concat();
        if let Some(torn) = lock(&self.faults.torn_append).take() {
            cache.extend_from_slice(&bytes[..torn.min(bytes.len())]);
            return Completion::ready(Err(ErrorKind::StorageFull.into()));
        }
        if let Err(error) = self.faults.change() {
            return Completion::ready(Err(error));
        }
        cache.extend_from_slice(&bytes);
        Completion::ready(Ok(position as u64))
    }

    fn write_at(&self, position: u64, bytes: Bytes) -> Completion<()> {
        let mut cache = lock(&self.cache);
        let from = position as usize;
        let end = cache.len().max(from + bytes.len());
        cache.resize(end, 0);
        cache[from..from + bytes.len()].copy_from_slice(&bytes);
        Completion::ready(Ok(()))
    }

    fn truncate(&self, len: u64) -> Completion<()> {
        if let Err(error) = self.faults.change() {
            return Completion::ready(Err(error));
        }
        lock(&self.cache).resize(len as usize, 0);
        Completion::ready(Ok(()))
    }

    fn sync_data(&self) -> Completion<()> {
        if let Err(error) = self.faults.change() {
            return Completion::ready(Err(error));
        }
        let cache = lock(&self.cache).clone();
        *lock(&self.durable) = cache;
        Completion::ready(Ok(()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Never;

impl RawTimer for Never {
    fn poll_fired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn reset(&mut self, _: MonoTime) {}
}

impl Env for MemEnv {
    fn mono(&self) -> MonoTime {
        MonoTime(0)
    }

    fn wall(&self) -> WallTime {
        WallTime(self.wall_ms.load(Ordering::Relaxed))
    }

    fn timer(&self, _: MonoTime) -> Timer {
        Timer::new(Box::new(Never))
    }

    fn spawn(&self, name: &'static str, _: Task) {
        panic!("storage starts no task, not even {name}");
    }

    fn entropy(&self, _: &str) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(0)
    }

    fn network(&self) -> &dyn Network {
        panic!("storage needs no network");
    }

    fn disk(&self) -> &dyn Disk {
        self
    }
}
