//! What is left of a file when the power goes.
//!
//! Each 512-byte **sector** is written whole and on its own, in any order: after the loss it holds what some one moment
//! of the page cache held there, from the last one surely written back to the newest. A write is kept, dropped or torn;
//! a torn one has some of its sectors. The **length** is metadata and goes through the file system's journal in order:
//! it is the length after some first part of the unsynced writes. Inside that length, a sector whose writes were all
//! dropped holds what was durable there before, or zeros where nothing was. Nothing else can appear.

use super::page_cache::{FileData, What, Write};
use super::rope::Rope;
use crate::clock::SimTime;
use crate::seed::below;
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeMap;

/// What a disk writes in one piece.
pub(crate) const SECTOR: u64 = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    Drop,
    Tear,
}

/// What a power loss did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Losses {
    /// Unsynced writes that survived, were dropped, were torn.
    pub(crate) kept: u64,
    pub(crate) dropped: u64,
    pub(crate) torn: u64,
    /// Directory changes that did not survive.
    pub(crate) names: u64,
}

/// Draws how many of `count` ordered changes survive, at least `least`: often all, often no more than must.
pub(crate) fn draw_prefix(rng: &mut ChaCha8Rng, least: usize, count: usize) -> usize {
    match below(rng, 3) {
        0 => count,
        1 => least,
        _ => least + below(rng, (count - least + 1) as u64) as usize,
    }
}

/// The file after the power loss.
pub(crate) fn survivor(file: &mut FileData, now: SimTime, rng: &mut ChaCha8Rng, losses: &mut Losses) -> Rope {
    file.settle_due(now);
    let mut disk = file.on_disk();
    let writes: Vec<Write> =
        file.dirty.iter().filter(|write| !matches!(write.what, What::Data { lost: true, .. })).cloned().collect();
    if writes.is_empty() {
        return disk;
    }

    // 1. The journal: how many changes of the length are in.
    let surely = writes.iter().rposition(|write| write.due <= now).map_or(0, |index| index + 1);
    let journaled = draw_prefix(rng, surely, writes.len());
    let mut len = disk.len();
    let extents: Vec<(u64, u64)> = writes.iter().map(|write| extent(&mut len, write)).collect();
    let mut final_len = disk.len();
    for write in &writes[..journaled] {
        extent(&mut final_len, write);
    }

    // 2. The sectors: the newest write that each of them has; it then has all older ones, too.
    let mut newest: BTreeMap<u64, usize> = BTreeMap::new();
    for (index, (write, (from, end))) in writes.iter().zip(&extents).enumerate() {
        let fate = match below(rng, 3) {
            _ if write.due <= now => Fate::Keep,
            0 => Fate::Keep,
            1 => Fate::Drop,
            _ => Fate::Tear,
        };
        match fate {
            Fate::Keep => losses.kept += 1,
            Fate::Drop => losses.dropped += 1,
            Fate::Tear => losses.torn += 1,
        }
        let mut bits = 0_u64;
        for (nth, sector) in sectors(*from, *end).enumerate() {
            if nth % 64 == 0 && fate == Fate::Tear {
                bits = rng.next_u64();
            }
            // Blocks that a journaled truncation has freed cannot come back with their old content.
            let freed = index < journaled && matches!(write.what, What::Length(len) if sector * SECTOR >= len);
            if fate == Fate::Keep || freed || (fate == Fate::Tear && bits >> (nth % 64) & 1 == 1) {
                newest.insert(sector, index);
            }
        }
    }
    // A truncation that is not journaled has freed nothing: behind it, nothing newer can be in those blocks.
    for (index, write) in writes.iter().enumerate().skip(journaled) {
        if let What::Length(len) = write.what {
            for (_, at) in newest.range_mut(len.div_ceil(SECTOR)..).filter(|(_, at)| **at >= index) {
                *at = index.saturating_sub(1);
            }
            if index == 0 {
                newest.retain(|sector, _| *sector < len.div_ceil(SECTOR));
            }
        }
    }

    // 3. The content.
    for (index, (write, (from, end))) in writes.iter().zip(&extents).enumerate() {
        let content = match &write.what {
            What::Data { position, len, bytes, .. } => {
                bytes.clone().unwrap_or_else(|| file.cache.read(*position, *len as usize))
            }
            What::Length(_) => Bytes::new(),
        };
        for run in runs(sectors(*from, *end).filter(|sector| newest.get(sector).is_some_and(|at| *at >= index))) {
            let (a, b) = ((run.0 * SECTOR).max(*from), ((run.1 + 1) * SECTOR).min(*end));
            let piece = match write.what {
                What::Data { .. } => content.slice((a - from) as usize..(b - from) as usize),
                What::Length(_) => Bytes::from(vec![0; (b - a) as usize]),
            };
            disk.write(a, piece);
        }
    }
    disk.set_len(final_len);
    disk
}

/// The bytes that a write changes, given the length before it, which becomes the length after it.
fn extent(len: &mut u64, write: &Write) -> (u64, u64) {
    match write.what {
        What::Data { position, len: bytes, .. } => {
            *len = (*len).max(position + bytes);
            (position, position + bytes)
        }
        What::Length(new) => {
            let old = std::mem::replace(len, new);
            (new, old.max(new))
        }
    }
}

fn sectors(from: u64, end: u64) -> impl Iterator<Item = u64> {
    from / SECTOR..end.div_ceil(SECTOR).max(from / SECTOR)
}

/// Neighbours joined: first and last sector of each run.
fn runs(sectors: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for sector in sectors {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == sector => *last = sector,
            _ => runs.push((sector, sector)),
        }
    }
    runs
}
