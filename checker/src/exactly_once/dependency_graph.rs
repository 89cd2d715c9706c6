//! Who comes before whom: transactions as nodes, and for each pair a set of reasons.
//!
//! A lone send or poll is a transaction of one. The graph is fixed once built: for each node its edges lie side by side.
//! Nothing here calls itself as deep as the history is long.

use crate::history::Outcome;
use crate::readers::Operation;
use std::collections::VecDeque;
use std::fmt;
use std::ops::BitOr;

/// Why one transaction comes before another: a set of reasons, the strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// None.
    pub(crate) const NONE: Kinds = Kinds(0);
    /// It overwrote what the other wrote.
    pub(crate) const WW: Kinds = Kinds(1);
    /// It read what the other wrote.
    pub(crate) const WR: Kinds = Kinds(2);
    /// It overwrote what the other read.
    pub(crate) const RW: Kinds = Kinds(4);
    /// One process did both, this one later.
    pub(crate) const PROCESS: Kinds = Kinds(8);
    /// It was invoked after the other had returned.
    pub(crate) const REALTIME: Kinds = Kinds(16);

    pub(crate) fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    /// Both; in constants.
    pub(crate) const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    /// The reason that says most.
    pub(crate) fn strongest(self) -> Kinds {
        Kinds(self.0 & self.0.wrapping_neg())
    }
}

impl BitOr for Kinds {
    type Output = Kinds;

    fn bitor(self, other: Kinds) -> Kinds {
        self.and(other)
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Kinds::WW, "ww"),
            (Kinds::WR, "wr"),
            (Kinds::RW, "rw"),
            (Kinds::PROCESS, "process"),
            (Kinds::REALTIME, "realtime"),
        ];
        let names: Vec<&str> = names.iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| *name).collect();
        f.write_str(&names.join("+"))
    }
}

/// `from` comes before `to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Edge {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) kinds: Kinds,
}

/// Transactions, and for each those that come after it.
#[derive(Clone, Debug)]
pub(crate) struct DependencyGraph {
    /// Where each node's edges begin; one more at the end.
    starts: Vec<u32>,
    /// Where they lead, ascending for each node, and why.
    targets: Vec<(u32, Kinds)>,
}

/// Which strongly connected component each node is in. A component has a higher number than those it leads to.
pub(crate) struct Components {
    pub(crate) of: Vec<u32>,
    pub(crate) count: u32,
}

impl DependencyGraph {
    /// A graph of `nodes` nodes. Edges between the same two become one; an edge from a node to itself says nothing and is
    /// left out.
    pub(crate) fn new(nodes: usize, edges: &[Edge]) -> Self {
        assert!(nodes < UNSEEN as usize && edges.len() < UNSEEN as usize, "a graph of 4 billion nodes or edges");
        let mut starts = vec![0u32; nodes + 1];
        for edge in edges {
            starts[edge.from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut targets = vec![(0u32, Kinds::NONE); edges.len()];
        for edge in edges {
            let place = &mut next[edge.from as usize];
            targets[*place as usize] = (edge.to, edge.kinds);
            *place += 1;
        }
        drop(next);
        // Sorted and merged in place: what is merged never reaches what is still to be.
        let mut end = 0;
        for node in 0..nodes {
            let unmerged = starts[node] as usize..starts[node + 1] as usize;
            targets[unmerged.clone()].sort_unstable_by_key(|(to, _)| *to);
            let first = end;
            starts[node] = first as u32;
            for at in unmerged {
                let (to, kinds) = targets[at];
                if to as usize == node {
                    continue;
                }
                match targets[first..end].last_mut() {
                    Some(last) if last.0 == to => last.1 = last.1 | kinds,
                    _ => {
                        targets[end] = (to, kinds);
                        end += 1;
                    }
                }
            }
        }
        starts[nodes] = end as u32;
        targets.truncate(end);
        DependencyGraph { starts, targets }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    fn range(&self, node: u32) -> std::ops::Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }

    /// Those that come after `node`, by number, and why.
    pub(crate) fn after(&self, node: u32) -> impl Iterator<Item = (u32, Kinds)> {
        self.targets[self.range(node)].iter().copied()
    }

    /// Why `from` comes directly before `to`.
    pub(crate) fn between(&self, from: u32, to: u32) -> Kinds {
        let after = &self.targets[self.range(from)];
        after.binary_search_by_key(&to, |(to, _)| *to).map_or(Kinds::NONE, |at| after[at].1)
    }

    /// Every edge.
    pub(crate) fn edges(&self) -> impl Iterator<Item = Edge> {
        (0..self.nodes() as u32).flat_map(|from| self.after(from).map(move |(to, kinds)| Edge { from, to, kinds }))
    }

    /// The same with the strongest reason only.
    pub(crate) fn strongest(&self) -> Self {
        let targets = self.targets.iter().map(|(to, kinds)| (*to, kinds.strongest())).collect();
        DependencyGraph { starts: self.starts.clone(), targets }
    }

    /// What lies between these nodes, renumbered in the order given. `number` is scratch space: as many as there are nodes,
    /// [`UNSEEN`] before and after.
    pub(crate) fn within(&self, nodes: &[u32], number: &mut [u32]) -> Self {
        for (at, node) in nodes.iter().enumerate() {
            number[*node as usize] = at as u32;
        }
        let mut edges = Vec::new();
        for (from, node) in nodes.iter().enumerate() {
            for (to, kinds) in self.after(*node).filter(|(to, _)| number[*to as usize] != UNSEEN) {
                edges.push(Edge { from: from as u32, to: number[to as usize], kinds });
            }
        }
        for node in nodes {
            number[*node as usize] = UNSEEN;
        }
        DependencyGraph::new(nodes.len(), &edges)
    }

    /// Strongly connected components over edges that have one of `kinds`: Tarjan's algorithm with a stack of its own.
    pub(crate) fn components(&self, kinds: Kinds) -> Components {
        let nodes = self.nodes();
        let mut components = Components { of: vec![UNSEEN; nodes], count: 0 };
        // When a node was first seen, and the earliest seen node that it is known to reach.
        let (mut seen_at, mut low) = (vec![UNSEEN; nodes], vec![0u32; nodes]);
        let mut seen = 0;
        // Nodes without a component yet; and the path walked, with the edge to look at next.
        let (mut open, mut path): (Vec<u32>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        for root in 0..nodes as u32 {
            if seen_at[root as usize] != UNSEEN {
                continue;
            }
            path.push((root, self.starts[root as usize]));
            while let Some((node, edge)) = path.last_mut() {
                let (at, place) = (*node, *node as usize);
                if *edge == self.starts[place] && seen_at[place] == UNSEEN {
                    (seen_at[place], low[place]) = (seen, seen);
                    seen += 1;
                    open.push(at);
                }
                let end = self.starts[place + 1];
                let mut deeper = None;
                while *edge < end {
                    let (to, why) = self.targets[*edge as usize];
                    *edge += 1;
                    if !why.has(kinds) {
                        continue;
                    }
                    if seen_at[to as usize] == UNSEEN {
                        deeper = Some(to);
                        break;
                    }
                    if components.of[to as usize] == UNSEEN {
                        low[place] = low[place].min(seen_at[to as usize]);
                    }
                }
                if let Some(to) = deeper {
                    path.push((to, self.starts[to as usize]));
                    continue;
                }
                path.pop();
                if let Some((before, _)) = path.last() {
                    low[*before as usize] = low[*before as usize].min(low[place]);
                }
                if low[place] == seen_at[place] {
                    while let Some(member) = open.pop() {
                        components.of[member as usize] = components.count;
                        if member == at {
                            break;
                        }
                    }
                    components.count += 1;
                }
            }
        }
        components
    }
}

/// No node, no number.
pub(crate) const UNSEEN: u32 = u32::MAX;

impl Components {
    /// The members of every component that has more than one, the small components first.
    pub(crate) fn cyclic(&self) -> Vec<Vec<u32>> {
        let mut sizes = vec![0u32; self.count as usize];
        for component in &self.of {
            sizes[*component as usize] += 1;
        }
        let mut place = vec![UNSEEN; self.count as usize];
        let mut found: Vec<Vec<u32>> = Vec::new();
        for (node, component) in self.of.iter().enumerate().filter(|(_, of)| sizes[**of as usize] > 1) {
            let place = &mut place[*component as usize];
            if *place == UNSEEN {
                *place = found.len() as u32;
                found.push(Vec::with_capacity(sizes[*component as usize] as usize));
            }
            found[*place as usize].push(node as u32);
        }
        found.sort_by_key(Vec::len);
        found
    }
}

/// When a transaction was invoked and, if it took effect and said so, when it returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Interval {
    pub(crate) invoked: u64,
    pub(crate) returned: Option<u64>,
}

impl Interval {
    /// Only what succeeded is over when it returns.
    pub(crate) fn of(operation: &Operation<'_>) -> Self {
        let returned = operation.returned.filter(|_| operation.outcome == Outcome::Ok);
        Interval { invoked: u64::from(operation.invoked), returned: returned.map(u64::from) }
    }
}

/// The order of real time, without the edges that follow from others: each transaction comes after those that had
/// returned when it was invoked, but for those that returned before one of them was invoked. There may be many, and they
/// go where the others are.
pub(crate) fn realtime(intervals: &[Interval], edges: &mut Vec<Edge>) {
    let mut starts: Vec<(u64, u32)> = (0..).zip(intervals).map(|(node, interval)| (interval.invoked, node)).collect();
    let mut ends: Vec<(u64, u32)> =
        (0..).zip(intervals).filter_map(|(node, interval)| Some((interval.returned?, node))).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    // Those that returned last, in order of their return: never more than ran at one time.
    let mut latest: VecDeque<(u64, u32)> = VecDeque::new();
    let mut ends = ends.into_iter().peekable();
    for (invoked, to) in starts {
        while let Some((returned, node)) = ends.next_if(|(returned, _)| *returned < invoked) {
            let began = intervals[node as usize].invoked;
            while latest.front().is_some_and(|(before, _)| *before < began) {
                latest.pop_front();
            }
            latest.push_back((returned, node));
        }
        edges.extend(latest.iter().map(|(_, from)| Edge { from: *from, to, kinds: Kinds::REALTIME }));
    }
}

/// Each process's transactions, one after the other. `processes` has the nodes that returned, in order of time.
pub(crate) fn process_order(processes: impl Iterator<Item = (u64, u32)>) -> Vec<Edge> {
    let mut last = std::collections::BTreeMap::new();
    let mut edges = Vec::new();
    for (process, to) in processes {
        if let Some(from) = last.insert(process, to) {
            edges.push(Edge { from, to, kinds: Kinds::PROCESS });
        }
    }
    edges
}
