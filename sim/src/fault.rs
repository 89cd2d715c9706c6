//! Faults as data, and what each of them did.

use crate::clock::ClockFault;
use crate::disk::DiskFault;
use crate::network::NetworkFault;
use crate::process::HostId;
use std::collections::BTreeMap;

/// Names one installed fault of this run. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FaultId(pub u64);

/// What a fault did to somebody, by kind of effect: `connects-refused` is not counted where nobody connected. Empty
/// means that the fault was there and nobody met it.
pub type Effects = BTreeMap<&'static str, u64>;

/// A fault that holds until it is removed (or happens once, where it says so). Faults of processes are methods of
/// [`World`](crate::World): they leave no state here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Something between hosts.
    Network(NetworkFault),
    /// Something about one host's disk.
    Disk(HostId, DiskFault),
    /// Something about one host's clock.
    Clock(HostId, ClockFault),
}

impl From<NetworkFault> for Fault {
    fn from(fault: NetworkFault) -> Self {
        Fault::Network(fault)
    }
}

/// The effects of all faults of a run. A leaf among the locks.
#[derive(Default)]
pub(crate) struct EffectCounters(BTreeMap<FaultId, Effects>);

impl EffectCounters {
    pub(crate) fn count(&mut self, fault: FaultId, effect: &'static str, by: u64) {
        if by > 0 {
            *self.0.entry(fault).or_default().entry(effect).or_default() += by;
        }
    }

    pub(crate) fn of(&self, fault: FaultId) -> Effects {
        self.0.get(&fault).cloned().unwrap_or_default()
    }
}
