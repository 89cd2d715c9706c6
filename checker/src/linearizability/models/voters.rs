//! L10: the voters of the metadata quorum, as its leader knows them (KIP-853).

use crate::history::{Op, Outcome, VoterAsk, VoterRequest};
use crate::linearizability::search::{Model, State};
use broker_types::NodeId;

/// Most nodes that may be voters in one history: a set of them is a state.
pub(crate) const MOST: usize = 64;

/// What a request did, or was told; voters by number, sets of them by bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Add(u8),
    Remove(u8),
    Is(u8),
    IsNot(u8),
    Found(u64),
}

/// The requests about the voters.
pub(crate) struct Voters {
    pub(crate) initial: u64,
    pub(crate) accesses: Vec<Access>,
    pub(crate) nodes: Vec<NodeId>,
}

/// What `request` says of the voters, each of which is one of `nodes`; `None`: nothing.
pub(crate) fn access(op: &Op, request: &VoterRequest, nodes: &[NodeId]) -> Option<Access> {
    let number = |node: NodeId| nodes.iter().position(|other| *other == node).map(|at| at as u8);
    let is = |error: &str| request.error.as_deref() == Some(error);
    match (request.ask, op.outcome) {
        (VoterAsk::Add(node), Outcome::Fail) => number(node).filter(|_| is("DUPLICATE_VOTER")).map(Access::Is),
        (VoterAsk::Remove(node), Outcome::Fail) => number(node).filter(|_| is("VOTER_NOT_FOUND")).map(Access::IsNot),
        (VoterAsk::Add(node), _) => number(node).map(Access::Add),
        (VoterAsk::Remove(node), _) => number(node).map(Access::Remove),
        (VoterAsk::Describe, Outcome::Ok) => Some(Access::Found(set(&request.told, nodes))),
        (VoterAsk::Describe, _) => None,
    }
}

/// Some of `nodes`, as bits.
pub(crate) fn set(some: &[NodeId], nodes: &[NodeId]) -> u64 {
    let bits = (0..).zip(nodes).filter(|(_, node)| some.contains(node)).map(|(bit, _): (u32, _)| 1u64 << bit);
    bits.sum()
}

impl Model for Voters {
    fn initial(&self) -> State {
        self.initial
    }

    fn step(&self, state: State, op: usize) -> Option<State> {
        let has = |voter: u8| state & 1 << voter != 0;
        match self.accesses[op] {
            Access::Add(voter) => (!has(voter)).then_some(state | 1 << voter),
            // The last voter cannot go.
            Access::Remove(voter) => (has(voter) && state != 1 << voter).then_some(state & !(1 << voter)),
            Access::Is(voter) => has(voter).then_some(state),
            Access::IsNot(voter) => (!has(voter)).then_some(state),
            Access::Found(voters) => (state == voters).then_some(state),
        }
    }

    fn only_reads(&self, op: usize) -> bool {
        !matches!(self.accesses[op], Access::Add(_) | Access::Remove(_))
    }

    fn is_telling(&self, _: usize) -> bool {
        true
    }

    fn name(&self, op: usize) -> u64 {
        match self.accesses[op] {
            Access::Add(voter) => u64::from(voter) << 1,
            Access::Remove(voter) => u64::from(voter) << 1 | 1,
            _ => u64::MAX,
        }
    }

    fn is_promising(&self, _: State) -> bool {
        true
    }

    fn observes(&self, op: usize, writer: usize) -> bool {
        let (Access::Add(written) | Access::Remove(written)) = self.accesses[writer] else { return false };
        match self.accesses[op] {
            Access::Add(voter) | Access::Remove(voter) | Access::Is(voter) | Access::IsNot(voter) => voter == written,
            Access::Found(_) => true,
        }
    }

    fn overwrites(&self, _: usize) -> bool {
        false
    }

    fn tell(&self, op: usize) -> String {
        let node = |voter: u8| self.nodes[usize::from(voter)];
        match self.accesses[op] {
            Access::Add(voter) => format!("add {}", node(voter)),
            Access::Remove(voter) => format!("remove {}", node(voter)),
            Access::Is(voter) => format!("add {}: DUPLICATE_VOTER", node(voter)),
            Access::IsNot(voter) => format!("remove {}: VOTER_NOT_FOUND", node(voter)),
            Access::Found(voters) => {
                let found = (0u8..).zip(&self.nodes).filter(|(bit, _)| voters & 1 << bit != 0);
                format!("describe → {}", found.map(|(_, node)| node.to_string()).collect::<Vec<_>>().join(" "))
            }
        }
    }
}
