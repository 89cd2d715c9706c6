//! Directories and files by name.

use super::crash::{Losses, draw_prefix, survivor};
use super::page_cache::FileData;
use crate::clock::SimTime;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};

pub(crate) type InodeId = u64;
pub(crate) const ROOT: InodeId = 0;

/// One change of a directory, all of it or nothing: a rename within it is one.
struct DirChange {
    due: SimTime,
    names: Vec<(String, Option<InodeId>)>,
}

pub(crate) struct Dir {
    /// What its readers see.
    pub(crate) entries: BTreeMap<String, InodeId>,
    durable: BTreeMap<String, InodeId>,
    /// Not durable yet, oldest first; a power loss leaves some first part of them, as a journal does.
    pending: VecDeque<DirChange>,
    /// How many changes there ever were.
    changes: u64,
}

impl Dir {
    fn new() -> Self {
        Dir { entries: BTreeMap::new(), durable: BTreeMap::new(), pending: VecDeque::new(), changes: 0 }
    }

    fn change(&mut self, due: SimTime, names: Vec<(String, Option<InodeId>)>) {
        apply(&mut self.entries, &names);
        self.pending.push_back(DirChange { due, names });
        self.changes += 1;
    }

    /// The number of the next change: a sync covers those below.
    pub(crate) fn next_change(&self) -> u64 {
        self.changes
    }

    fn settle(&mut self, count: usize) {
        for change in self.pending.drain(..count) {
            apply(&mut self.durable, &change.names);
        }
    }

    pub(crate) fn synced(&mut self, end: u64) {
        let first = self.changes - self.pending.len() as u64;
        self.settle(end.saturating_sub(first) as usize);
    }

    fn settle_due(&mut self, now: SimTime) {
        let due = self.pending.iter().rposition(|change| change.due <= now).map_or(0, |index| index + 1);
        self.settle(due);
    }

    fn power_loss(&mut self, now: SimTime, rng: &mut ChaCha8Rng, losses: &mut Losses) {
        self.settle_due(now);
        let kept = draw_prefix(rng, 0, self.pending.len());
        losses.names += (self.pending.len() - kept) as u64;
        self.settle(kept);
        self.pending.clear();
        self.changes = 0;
        self.entries = self.durable.clone();
    }
}

fn apply(entries: &mut BTreeMap<String, InodeId>, names: &[(String, Option<InodeId>)]) {
    for (name, to) in names {
        match to {
            Some(inode) => entries.insert(name.clone(), *inode),
            None => entries.remove(name),
        };
    }
}

pub(crate) enum Inode {
    Dir(Dir),
    File(FileNode),
}

pub(crate) struct FileNode {
    pub(crate) data: FileData,
    /// Open handles, of any incarnation.
    pub(crate) handles: u32,
}

/// A host's files.
pub(crate) struct Tree {
    pub(crate) inodes: BTreeMap<InodeId, Inode>,
    next: InodeId,
    /// Names removed or replaced since the last look for what nobody can reach.
    removed: u32,
}

/// A path's parent directory and last name.
pub(crate) type Place = (InodeId, String);

fn names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

impl Tree {
    pub(crate) fn new() -> Self {
        Tree { inodes: BTreeMap::from([(ROOT, Inode::Dir(Dir::new()))]), next: 1, removed: 0 }
    }

    pub(crate) fn dir(&mut self, inode: InodeId) -> io::Result<&mut Dir> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Dir(dir)) => Ok(dir),
            Some(Inode::File(_)) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn file(&mut self, inode: InodeId) -> io::Result<&mut FileNode> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) => Ok(file),
            Some(Inode::Dir(_)) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn walk(&mut self, names: &[String]) -> io::Result<InodeId> {
        let mut at = ROOT;
        for name in names {
            at = *self.dir(at)?.entries.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(crate) fn find(&mut self, path: &Path) -> io::Result<InodeId> {
        self.walk(&names(path))
    }

    /// Where a path's last name is, or would be.
    pub(crate) fn place(&mut self, path: &Path) -> io::Result<Place> {
        let mut names = names(path);
        let last = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let parent = self.walk(&names)?;
        self.dir(parent)?;
        Ok((parent, last))
    }

    fn add(&mut self, (parent, name): Place, inode: Inode, due: SimTime) -> io::Result<InodeId> {
        let id = self.next;
        self.dir(parent)?.change(due, vec![(name, Some(id))]);
        self.next += 1;
        self.inodes.insert(id, inode);
        Ok(id)
    }

    pub(crate) fn create_file(&mut self, place: Place, due: SimTime) -> io::Result<InodeId> {
        self.add(place, Inode::File(FileNode { data: FileData::empty(), handles: 0 }), due)
    }

    pub(crate) fn create_dir_all(&mut self, path: &Path, due: SimTime) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            at = match self.dir(at)?.entries.get(&name) {
                Some(inode) => *inode,
                None => self.add((at, name), Inode::Dir(Dir::new()), due)?,
            };
            self.dir(at)?;
        }
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: Place, to: Place, due: SimTime) -> io::Result<()> {
        let moved = *self.dir(from.0)?.entries.get(&from.1).ok_or(ErrorKind::NotFound)?;
        if from == to {
            return Ok(());
        }
        let replaced = self.dir(to.0)?.entries.get(&to.1).copied();
        if let Some(replaced) = replaced {
            let moves_dir = self.dir(moved).is_ok();
            match &self.inodes[&replaced] {
                Inode::Dir(dir) if !moves_dir || !dir.entries.is_empty() => {
                    return Err(if moves_dir { ErrorKind::DirectoryNotEmpty } else { ErrorKind::IsADirectory }.into());
                }
                Inode::File(_) if moves_dir => return Err(ErrorKind::NotADirectory.into()),
                _ => {}
            }
            self.removed += 1;
        }
        if from.0 == to.0 {
            self.dir(from.0)?.change(due, vec![(from.1, None), (to.1, Some(moved))]);
            return Ok(());
        }
        // Between two directories a journal commits both changes as one; we commit them at once, with what is before.
        self.dir(to.0)?.change(due, vec![(to.1, Some(moved))]);
        self.dir(from.0)?.change(due, vec![(from.1, None)]);
        for dir in [from.0, to.0] {
            let dir = self.dir(dir)?;
            dir.synced(dir.next_change());
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, (parent, name): Place, due: SimTime) -> io::Result<()> {
        self.dir(parent)?.change(due, vec![(name, None)]);
        self.removed += 1;
        Ok(())
    }

    /// Every file, with its path, as its readers see the tree.
    pub(crate) fn files(&self) -> Vec<(String, InodeId)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = open.pop() {
            match self.inodes.get(&inode) {
                Some(Inode::Dir(dir)) => {
                    open.extend(dir.entries.iter().rev().map(|(name, id)| (format!("{path}/{name}"), *id)));
                }
                Some(Inode::File(_)) => found.push((path, inode)),
                None => {}
            }
        }
        found
    }

    /// Bytes of the files that are there.
    pub(crate) fn used(&self) -> u64 {
        let len = |(_, id): (String, InodeId)| match self.inodes.get(&id) {
            Some(Inode::File(file)) => file.data.cache.len(),
            _ => 0,
        };
        self.files().into_iter().map(len).sum()
    }

    /// Forgets files and directories that no name, journal or handle leads to.
    pub(crate) fn collect(&mut self, now: SimTime, at_once: bool) {
        if self.removed < 64 && !at_once {
            return;
        }
        self.removed = 0;
        let mut reached = BTreeMap::new();
        let mut open = vec![ROOT];
        while let Some(id) = open.pop() {
            if reached.insert(id, ()).is_some() {
                continue;
            }
            if let Some(Inode::Dir(dir)) = self.inodes.get_mut(&id) {
                dir.settle_due(now);
                open.extend(dir.entries.values().chain(dir.durable.values()));
                open.extend(dir.pending.iter().flat_map(|change| change.names.iter().filter_map(|(_, to)| *to)));
            }
        }
        self.inodes
            .retain(|id, inode| reached.contains_key(id) || matches!(inode, Inode::File(file) if file.handles > 0));
    }

    pub(crate) fn power_loss(&mut self, now: SimTime, rng: &mut ChaCha8Rng) -> Losses {
        let mut losses = Losses::default();
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::Dir(dir) => dir.power_loss(now, rng, &mut losses),
                Inode::File(file) => {
                    let content = survivor(&mut file.data, now, rng, &mut losses);
                    file.data = FileData::found(content);
                    file.handles = 0;
                }
            }
        }
        self.collect(now, true);
        losses
    }
}
