//! What may be wrong with a disk.

use crate::fault::FaultId;
use crate::seed::DurationRange;

/// What may be wrong with a host's disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskFault {
    /// Every operation takes this much longer.
    Slow {
        /// How much.
        latency: DurationRange,
    },
    /// No operation finishes while it holds.
    Stall,
    /// No room for one more byte, nor for a new file.
    Full,
    /// Reads fail with an I/O error.
    ReadError {
        /// How many of a million.
        ppm: u32,
    },
    /// Writes fail with an I/O error, perhaps after a part was written.
    WriteError {
        /// How many of a million.
        ppm: u32,
    },
    /// `sync_data` fails with an I/O error; what was dirty is marked clean and never becomes durable, as Linux does.
    SyncError {
        /// How many of a million.
        ppm: u32,
    },
    /// Once: durable bits flip, in files drawn at random.
    BitRot {
        /// Only in files whose path contains this; empty for any.
        path_contains: String,
        /// How many.
        bits: u32,
    },
}

/// The faults of one disk, and what waits for a stall to end.
#[derive(Default)]
pub(crate) struct DiskFaults {
    list: Vec<(FaultId, DiskFault)>,
    /// What finishes when the disk goes on.
    pub(crate) stalled: Vec<Box<dyn FnOnce() + Send>>,
}

impl DiskFaults {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn add(&mut self, id: FaultId, fault: DiskFault) {
        self.list.push((id, fault));
    }

    pub(crate) fn remove(&mut self, id: FaultId) {
        self.list.retain(|(other, _)| *other != id);
    }

    pub(crate) fn find<T>(&self, pick: impl Fn(&DiskFault) -> Option<T>) -> Option<(FaultId, T)> {
        self.list.iter().find_map(|(id, fault)| Some((*id, pick(fault)?)))
    }

    pub(crate) fn stall(&self) -> Option<FaultId> {
        self.find(|fault| matches!(fault, DiskFault::Stall).then_some(())).map(|found| found.0)
    }

    pub(crate) fn full(&self) -> Option<FaultId> {
        self.find(|fault| matches!(fault, DiskFault::Full).then_some(())).map(|found| found.0)
    }

    pub(crate) fn slow(&self) -> Vec<(FaultId, DurationRange)> {
        let slow = |(id, fault): &(FaultId, DiskFault)| match fault {
            DiskFault::Slow { latency } => Some((*id, *latency)),
            _ => None,
        };
        self.list.iter().filter_map(slow).collect()
    }
}
