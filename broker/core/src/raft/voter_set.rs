//! Who may vote.
//!
//! The set is static here (`controller.quorum.voters`, kraft.version 0): ids, each with the directory id of its disk
//! where that is known. A voter whose disk was replaced has another directory id; it is then another replica, which may
//! watch but not vote (KIP-853). Without that, a voter that lost its log could help to elect a leader that never saw a
//! committed record.

use broker_types::{DirectoryId, NodeId};
use std::collections::BTreeMap;
use std::fmt;

/// One replica of the metadata log: a node, and the disk it had when it spoke.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The node.
    pub id: NodeId,
    /// Its metadata log directory; `None` when it did not say (old protocol version) or is not known.
    pub directory: Option<DirectoryId>,
}

impl fmt::Debug for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.directory {
            Some(directory) => write!(f, "{:?}/{directory}", self.id),
            None => write!(f, "{:?}", self.id),
        }
    }
}

/// The voters of the quorum. Never empty.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VoterSet {
    voters: BTreeMap<NodeId, Option<DirectoryId>>,
}

impl VoterSet {
    /// A set of these voters; `None` if there are none.
    #[must_use]
    pub fn new(voters: impl IntoIterator<Item = (NodeId, Option<DirectoryId>)>) -> Option<Self> {
        let voters: BTreeMap<_, _> = voters.into_iter().collect();
        if voters.is_empty() { None } else { Some(VoterSet { voters }) }
    }

    /// A set of voters whose directory ids are not known.
    #[must_use]
    pub fn of_ids(ids: impl IntoIterator<Item = NodeId>) -> Option<Self> {
        VoterSet::new(ids.into_iter().map(|id| (id, None)))
    }

    /// The voters' ids, ascending.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = NodeId> + Clone + '_ {
        self.voters.keys().copied()
    }

    /// The voters with their directory ids, ascending by id.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = ReplicaKey> + '_ {
        self.voters.iter().map(|(id, directory)| ReplicaKey { id: *id, directory: *directory })
    }

    /// How many voters there are. At least 1.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.voters.len()
    }

    /// How many voters are more than half of them.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether a voter has this id, whatever its disk.
    #[must_use]
    pub fn contains_id(&self, id: NodeId) -> bool {
        self.voters.contains_key(&id)
    }

    /// Whether `replica` is a voter: the id is one, and the directory ids do not contradict each other.
    #[must_use]
    pub fn contains(&self, replica: ReplicaKey) -> bool {
        match (self.voters.get(&replica.id), replica.directory) {
            (None, _) => false,
            (Some(Some(ours)), Some(theirs)) => *ours == theirs,
            (Some(_), _) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_types::Uuid;

    #[test]
    fn a_voter_with_another_disk_is_not_that_voter() {
        let set = VoterSet::new([(NodeId(1), Some(Uuid(7))), (NodeId(2), None)]).expect("two voters");
        let key = |id, directory| ReplicaKey { id: NodeId(id), directory };
        assert!(set.contains(key(1, Some(Uuid(7)))));
        assert!(set.contains(key(1, None)), "an old protocol version names no directory");
        assert!(!set.contains(key(1, Some(Uuid(8)))), "the disk was replaced");
        assert!(set.contains(key(2, Some(Uuid(8)))), "no directory is configured for voter 2");
        assert!(!set.contains(key(3, None)));
    }

    #[test]
    fn a_majority_is_more_than_half_and_a_set_is_never_empty() {
        let majority = |n| VoterSet::of_ids((0..n).map(NodeId)).map(|set| set.majority());
        assert_eq!((0..6).map(majority).collect::<Vec<_>>(), [None, Some(1), Some(2), Some(2), Some(3), Some(3)]);
    }
}
