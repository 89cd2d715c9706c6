//! How much may be broken at once, so that a lost quorum is a choice and not an accident.
//!
//! A budget knows groups of hosts (the controllers; the replicas of a partition) and how many of each may be down
//! together. A nemesis asks before each fault; a host may be in several groups, and all of them must agree.

use crate::process::HostId;
use std::collections::{BTreeMap, BTreeSet};

/// The budget and what is spent of it. A value: cloning it asks "what if".
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultBudget {
    groups: BTreeMap<String, Group>,
    /// How many faults hold each host down. A host is up again when the last of them is over.
    down: BTreeMap<HostId, u32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Group {
    members: BTreeSet<HostId>,
    max_down: usize,
}

/// Why a fault is refused: the group that would have too many down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverBudget {
    /// Its name.
    pub group: String,
    /// How many of it would be down.
    pub would_be_down: usize,
    /// How many may be.
    pub max_down: usize,
}

impl FaultBudget {
    /// No groups: everything is allowed.
    #[must_use]
    pub fn unlimited() -> Self {
        FaultBudget::default()
    }

    /// Sets, or replaces, a group.
    pub fn set_group(&mut self, name: &str, members: impl IntoIterator<Item = HostId>, max_down: usize) {
        self.groups.insert(name.to_owned(), Group { members: members.into_iter().collect(), max_down });
    }

    /// Whether these hosts may go down now, together, on top of what is down.
    ///
    /// # Errors
    /// The first group, by name, that says no.
    pub fn allows(&self, hosts: &[HostId]) -> Result<(), OverBudget> {
        for (name, group) in &self.groups {
            let down = |host: &&HostId| self.down.contains_key(host) || hosts.contains(host);
            let would_be_down = group.members.iter().filter(down).count();
            let adds = hosts.iter().any(|host| group.members.contains(host) && !self.down.contains_key(host));
            if adds && would_be_down > group.max_down {
                return Err(OverBudget { group: name.clone(), would_be_down, max_down: group.max_down });
            }
        }
        Ok(())
    }

    /// As [`FaultBudget::allows`], and spends it.
    ///
    /// # Errors
    /// As [`FaultBudget::allows`]; nothing is spent then.
    pub fn take_down(&mut self, hosts: &[HostId]) -> Result<(), OverBudget> {
        self.allows(hosts)?;
        for host in hosts {
            *self.down.entry(*host).or_default() += 1;
        }
        Ok(())
    }

    /// A fault that took these hosts down is over.
    pub fn bring_back(&mut self, hosts: &[HostId]) {
        for host in hosts {
            if let Some(count) = self.down.get_mut(host) {
                *count -= 1;
                if *count == 0 {
                    self.down.remove(host);
                }
            }
        }
    }

    /// Who is down.
    pub fn down(&self) -> impl Iterator<Item = HostId> {
        self.down.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_may_go_down_and_no_more_until_one_is_back() {
        let [a, b, c] = [HostId(0), HostId(1), HostId(2)];
        let mut budget = FaultBudget::unlimited();
        budget.set_group("controllers", [a, b, c], 1);
        assert_eq!(budget.take_down(&[a]), Ok(()));
        let refusal = OverBudget { group: "controllers".to_owned(), would_be_down: 2, max_down: 1 };
        assert_eq!(budget.take_down(&[b]), Err(refusal));
        assert_eq!(budget.take_down(&[a]), Ok(()), "who is down already costs nothing");
        budget.bring_back(&[a]);
        assert!(budget.allows(&[b]).is_err(), "two faults hold it down, one is over");
        budget.bring_back(&[a]);
        assert_eq!(budget.take_down(&[b]), Ok(()));
    }

    #[test]
    fn every_group_of_a_host_must_agree() {
        let [a, b] = [HostId(0), HostId(1)];
        let mut budget = FaultBudget::unlimited();
        budget.set_group("brokers", [a, b], 2);
        budget.set_group("rack", [b], 0);
        assert!(budget.allows(&[a]).is_ok());
        assert_eq!(budget.allows(&[a, b]).unwrap_err().group, "rack");
    }
}
