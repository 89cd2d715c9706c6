//! Which links a network fault touches, and how.

use super::link::LinkFault;
use crate::process::HostId;
use crate::seed::DurationRange;

/// What may be wrong between hosts. Traffic of a host with itself is never touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetworkFault {
    /// Hosts of different groups cannot talk. Hosts of no group reach everybody.
    Partition {
        /// The groups.
        groups: Vec<Vec<HostId>>,
    },
    /// Nothing gets from one side to the other; the way back is open.
    OneWay {
        /// Whose packets are lost.
        from: Vec<HostId>,
        /// On their way to whom.
        to: Vec<HostId>,
    },
    /// Both sides reach the bridge, and not each other.
    Bridge {
        /// One side.
        left: Vec<HostId>,
        /// Who hears everybody.
        bridge: Vec<HostId>,
        /// The other side.
        right: Vec<HostId>,
    },
    /// These hosts reach nobody, not even each other.
    Isolate {
        /// Who.
        hosts: Vec<HostId>,
    },
    /// Everything takes longer, both ways.
    Slow {
        /// Between one of these
        a: Vec<HostId>,
        /// and one of these.
        b: Vec<HostId>,
        /// On top of what it takes anyway.
        latency: DurationRange,
    },
    /// Packets are lost and sent again, both ways.
    Lossy {
        /// Between one of these
        a: Vec<HostId>,
        /// and one of these.
        b: Vec<HostId>,
        /// How many of a million.
        loss_ppm: u32,
    },
    /// Every now and then one of the connections is reset.
    Flaky {
        /// Between one of these
        a: Vec<HostId>,
        /// and one of these.
        b: Vec<HostId>,
        /// How often.
        every: DurationRange,
    },
    /// A narrow link, each way.
    Throttle {
        /// Between one of these
        a: Vec<HostId>,
        /// and one of these.
        b: Vec<HostId>,
        /// How much gets through.
        bytes_per_second: u64,
    },
}

impl NetworkFault {
    /// What it does to packets from one host to another.
    pub(crate) fn on_link(&self, from: HostId, to: HostId) -> Option<LinkFault> {
        if from == to {
            return None;
        }
        let between = |a: &[HostId], b: &[HostId]| {
            (a.contains(&from) && b.contains(&to)) || (b.contains(&from) && a.contains(&to))
        };
        let blocked = match self {
            NetworkFault::Partition { groups } => {
                let group = |host| groups.iter().position(|group| group.contains(&host));
                matches!((group(from), group(to)), (Some(a), Some(b)) if a != b)
            }
            NetworkFault::OneWay { from: cut, to: off } => cut.contains(&from) && off.contains(&to),
            NetworkFault::Bridge { left, right, .. } => between(left, right),
            NetworkFault::Isolate { hosts } => hosts.contains(&from) || hosts.contains(&to),
            NetworkFault::Slow { a, b, latency } => return between(a, b).then_some(LinkFault::Slow(*latency)),
            NetworkFault::Lossy { a, b, loss_ppm } => return between(a, b).then_some(LinkFault::Lossy(*loss_ppm)),
            NetworkFault::Throttle { a, b, bytes_per_second } => {
                return between(a, b).then_some(LinkFault::Throttle(*bytes_per_second));
            }
            NetworkFault::Flaky { .. } => false,
        };
        blocked.then_some(LinkFault::Block)
    }

    /// Whether it resets connections between these two.
    pub(crate) fn resets(&self, x: HostId, y: HostId) -> bool {
        match self {
            NetworkFault::Flaky { a, b, .. } => {
                (a.contains(&x) && b.contains(&y)) || (b.contains(&x) && a.contains(&y))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(fault: &NetworkFault) -> Vec<(u32, u32)> {
        let mut links = Vec::new();
        for from in 0..4 {
            for to in 0..4 {
                if fault.on_link(HostId(from), HostId(to)) == Some(LinkFault::Block) {
                    links.push((from, to));
                }
            }
        }
        links
    }

    fn hosts(ids: &[u32]) -> Vec<HostId> {
        ids.iter().copied().map(HostId).collect()
    }

    #[test]
    fn a_partition_cuts_between_its_groups_and_leaves_the_ungrouped_alone() {
        let fault = NetworkFault::Partition { groups: vec![hosts(&[0]), hosts(&[1, 2])] };
        assert_eq!(cut(&fault), [(0, 1), (0, 2), (1, 0), (2, 0)]);
    }

    #[test]
    fn one_way_bridge_and_isolation_cut_what_they_say() {
        assert_eq!(cut(&NetworkFault::OneWay { from: hosts(&[0]), to: hosts(&[1, 2]) }), [(0, 1), (0, 2)]);
        let bridge = NetworkFault::Bridge { left: hosts(&[0]), bridge: hosts(&[1]), right: hosts(&[2]) };
        assert_eq!(cut(&bridge), [(0, 2), (2, 0)]);
        let isolate = NetworkFault::Isolate { hosts: hosts(&[3]) };
        assert_eq!(cut(&isolate), [(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)]);
    }
}
