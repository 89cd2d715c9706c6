//! Cycles among transactions: each is a proof that no order explains what was seen. Named after Adya and Elle.
//!
//! A cycle is named by its edges, the strongest reason of each: writes only is G0; with a read of what another wrote, G1c;
//! with one read of what another overwrote, G-single; with several, G-nonadjacent when no two of them follow each other, and
//! G2 otherwise. Reads here are of items, never of predicates. Where the order of a process or of real time is needed
//! to close the cycle, the name says so.
//!
//! Each strongly connected component is searched by itself, the worst kinds first; what a found cycle implies is not searched
//! for again. Components decide whether a kind exists at all; then a breadth-first walk finds a short one.

use crate::exactly_once::dependency_graph::{DependencyGraph, Edge, Kinds, UNSEEN};

/// What the data in a cycle says. A worse one comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    G0,
    G1c,
    GSingle,
    GNonadjacent,
    G2,
}

/// What else than data a cycle needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Needs {
    Nothing,
    Process,
    Realtime,
}

/// The kind of a cycle. One that needs less comes first, then the worse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct CycleType {
    pub(crate) needs: Needs,
    pub(crate) class: Class,
}

impl CycleType {
    /// All, in order.
    pub(crate) fn all() -> impl Iterator<Item = CycleType> {
        let classes = [Class::G0, Class::G1c, Class::GSingle, Class::GNonadjacent, Class::G2];
        [Needs::Nothing, Needs::Process, Needs::Realtime]
            .into_iter()
            .flat_map(move |needs| classes.into_iter().map(move |class| CycleType { needs, class }))
    }

    /// As Elle prints it.
    pub(crate) fn name(self) -> &'static str {
        match (self.class, self.needs) {
            (Class::G0, Needs::Nothing) => "G0",
            (Class::G0, Needs::Process) => "G0-process",
            (Class::G0, Needs::Realtime) => "G0-realtime",
            (Class::G1c, Needs::Nothing) => "G1c",
            (Class::G1c, Needs::Process) => "G1c-process",
            (Class::G1c, Needs::Realtime) => "G1c-realtime",
            (Class::GSingle, Needs::Nothing) => "G-single-item",
            (Class::GSingle, Needs::Process) => "G-single-item-process",
            (Class::GSingle, Needs::Realtime) => "G-single-item-realtime",
            (Class::GNonadjacent, Needs::Nothing) => "G-nonadjacent-item",
            (Class::GNonadjacent, Needs::Process) => "G-nonadjacent-item-process",
            (Class::GNonadjacent, Needs::Realtime) => "G-nonadjacent-item-realtime",
            (Class::G2, Needs::Nothing) => "G2-item",
            (Class::G2, Needs::Process) => "G2-item-process",
            (Class::G2, Needs::Realtime) => "G2-item-realtime",
        }
    }

    /// Where this is, that is nothing new.
    pub(crate) fn implies(self, that: CycleType) -> bool {
        let writes_and_reads = |class| matches!(class, Class::G0 | Class::G1c);
        self.needs <= that.needs
            && self.class <= that.class
            && writes_and_reads(self.class) == writes_and_reads(that.class)
    }
}

/// Transactions each of which comes before the next, and the last before the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cycle {
    pub(crate) of: CycleType,
    pub(crate) nodes: Vec<u32>,
    /// Why each comes before the next: the strongest reason.
    pub(crate) kinds: Vec<Kinds>,
}

/// What a search found.
#[derive(Default)]
pub(crate) struct Found {
    /// At most one of each kind and component.
    pub(crate) cycles: Vec<Cycle>,
    /// The components that have cycles, each a graph of its own.
    components: Vec<DependencyGraph>,
    /// Some walk was given up: there may be kinds of cycles beside those found.
    pub(crate) gave_up: bool,
}

impl Found {
    /// Transactions in the smallest cluster of cycles over edges that have one of `kinds`; if `nonadjacent`, also over a read
    /// of what another overwrote, where no two of these follow each other. `None`: there are no such cycles.
    pub(crate) fn smallest_cluster(&self, kinds: Kinds, nonadjacent: bool) -> Option<usize> {
        let clusters = self.components.iter().filter_map(|graph| {
            let alternating = nonadjacent.then(|| alternating(graph, kinds));
            let (graph, kinds) = alternating.as_ref().map_or((graph, kinds), |graph| (graph, ANY));
            graph.components(kinds).cyclic().first().map(Vec::len)
        });
        clusters.min()
    }
}

const ANY: Kinds = Kinds::REALTIME; // See `alternating`: its edges need no name.

/// Finds cycles of every kind. It looks at `work` edges at most, and for one kind in one component at a tenth of them.
pub(crate) fn find(graph: &DependencyGraph, work: u64) -> Found {
    find_with(graph, work, work / 10)
}

fn find_with(graph: &DependencyGraph, mut work: u64, work_for_one: u64) -> Found {
    let all = Kinds::WW | Kinds::WR | Kinds::RW | Kinds::PROCESS | Kinds::REALTIME;
    let mut found = Found::default();
    let mut scratch = vec![UNSEEN; graph.nodes()];
    for members in graph.components(all).cyclic() {
        let component = graph.within(&members, &mut scratch);
        let mut search = Search::new(component.strongest(), work, work_for_one);
        search.run();
        work = search.work;
        found.gave_up |= search.gave_up;
        for mut cycle in search.found {
            cycle.nodes.iter_mut().for_each(|node| *node = members[*node as usize]);
            found.cycles.push(cycle);
        }
        found.components.push(component);
    }
    found
}

/// Each node twice: reached by a read of what it overwrote (odd), or otherwise (even). Its cycles are those of `graph` where
/// no two such reads follow each other.
fn alternating(graph: &DependencyGraph, kinds: Kinds) -> DependencyGraph {
    let mut edges = Vec::new();
    let mut edge = |from: u32, to: u32| edges.push(Edge { from, to, kinds: ANY });
    for Edge { from, to, kinds: why } in graph.edges() {
        if why.has(kinds) {
            edge(2 * from, 2 * to);
            edge(2 * from + 1, 2 * to);
        }
        if why.has(Kinds::RW) {
            edge(2 * from, 2 * to + 1);
        }
    }
    DependencyGraph::new(2 * graph.nodes(), &edges)
}

/// The search of one component, in which each edge has one reason.
struct Search {
    graph: DependencyGraph,
    found: Vec<Cycle>,
    work: u64,
    work_for_one: u64,
    gave_up: bool,
}

impl Search {
    fn new(graph: DependencyGraph, work: u64, work_for_one: u64) -> Self {
        Search { graph, found: Vec::new(), work, work_for_one, gave_up: false }
    }

    fn run(&mut self) {
        let (writes, reads) = (Kinds::WW, Kinds::WW | Kinds::WR);
        // What one process did one after the other lies so in real time, too.
        let real_time = Kinds::PROCESS | Kinds::REALTIME;
        for (needs, order, own) in [
            (Needs::Nothing, Kinds::NONE, Kinds::NONE),
            (Needs::Process, Kinds::PROCESS, Kinds::PROCESS),
            (Needs::Realtime, real_time, Kinds::REALTIME),
        ] {
            if needs != Needs::Nothing && !self.graph.edges().any(|edge| edge.kinds == own) {
                continue;
            }
            self.shortest(CycleType { needs, class: Class::G0 }, writes | order);
            self.shortest(CycleType { needs, class: Class::G1c }, reads | order);
            self.nonadjacent(needs, reads | order);
            self.through_overwritten_reads(CycleType { needs, class: Class::G2 }, reads | Kinds::RW | order);
        }
    }

    fn is_known(&self, wanted: CycleType) -> bool {
        self.found.iter().any(|cycle| cycle.of.implies(wanted))
    }

    /// A short cycle over edges of `kinds`.
    fn shortest(&mut self, wanted: CycleType, kinds: Kinds) {
        if self.is_known(wanted) {
            return;
        }
        let components = self.graph.components(kinds);
        let Some(members) = components.cyclic().into_iter().next() else { return };
        let inside = components.of[members[0] as usize];
        let mut walk = Walk::new(&self.graph, self.work.min(self.work_for_one));
        let mut best: Option<Vec<u32>> = None;
        for start in members {
            let longest = best.as_ref().map_or(usize::MAX, |cycle| cycle.len() - 1);
            if longest < 2 || walk.work == 0 {
                break;
            }
            if let Some(mut cycle) =
                walk.path(start, start, kinds, longest, |node| components.of[node as usize] == inside)
            {
                cycle.pop();
                best = Some(cycle);
            }
        }
        let spent = walk.spent;
        self.done(spent, best);
    }

    /// A cycle with reads of what another overwrote, no two of them after each other: with one of them if there is one.
    fn nonadjacent(&mut self, needs: Needs, kinds: Kinds) {
        let [single, several] = [Class::GSingle, Class::GNonadjacent].map(|class| CycleType { needs, class });
        if self.is_known(single) {
            return;
        }
        let alternating = alternating(&self.graph, kinds);
        let around = alternating.components(ANY).of;
        let inside = |edge: &Edge| around[2 * edge.from as usize] == around[2 * edge.to as usize + 1];
        let reads: Vec<Edge> = self.graph.edges().filter(|edge| edge.kinds == Kinds::RW && inside(edge)).collect();
        if reads.is_empty() {
            return;
        }
        // One of them: the way back is without. Components are numbered so that no way leads to a higher one.
        let back = self.graph.components(kinds);
        let mut walk = Walk::new(&self.graph, self.work.min(self.work_for_one));
        let mut best: Option<Vec<u32>> = None;
        for edge in &reads {
            let (from, to) = (back.of[edge.from as usize], back.of[edge.to as usize]);
            let longest = best.as_ref().map_or(usize::MAX, |cycle| cycle.len() - 2);
            if longest < 1 || walk.work == 0 {
                break;
            }
            if to < from {
                continue;
            }
            let found =
                walk.path(edge.to, edge.from, kinds, longest, |node| (from..=to).contains(&back.of[node as usize]));
            best = found.or(best);
        }
        let (spent, single) = (walk.spent, best.is_some());
        self.done(spent, best);
        if single || self.is_known(several) {
            return;
        }
        let mut walk = Walk::new(&alternating, self.work.min(self.work_for_one));
        let mut best: Option<Vec<u32>> = None;
        for edge in &reads {
            let longest = best.as_ref().map_or(usize::MAX, |cycle| cycle.len() - 2);
            if longest < 3 || walk.work == 0 {
                break;
            }
            let place = around[2 * edge.from as usize];
            let inside = |node: u32| around[node as usize] == place;
            let found = walk.path(2 * edge.to + 1, 2 * edge.from, ANY, longest, inside);
            best = found.and_then(|walk| self.simple(walk.into_iter().map(|node| node / 2).collect())).or(best);
        }
        let spent = walk.spent;
        self.done(spent, best);
    }

    /// A cycle within a walk of [`alternating`] that was the shortest: no two reads of overwritten values after each other,
    /// either. Where the walk passes a node twice it first came by such a read and then not, or the way between would have
    /// been left out. So what lies between begins and ends without one, and is the cycle. `None`: it has no such read at
    /// all.
    fn simple(&self, mut walk: Vec<u32>) -> Option<Vec<u32>> {
        let repeated = (0..walk.len()).find_map(|to| Some((walk[..to].iter().position(|node| *node == walk[to])?, to)));
        if let Some((from, to)) = repeated {
            walk = walk[from..to].to_vec();
        }
        self.kinds(&walk).contains(&Kinds::RW).then_some(walk)
    }

    /// A short cycle over `kinds` with at least one read of what another overwrote.
    fn through_overwritten_reads(&mut self, wanted: CycleType, kinds: Kinds) {
        if self.is_known(wanted) {
            return;
        }
        let around = self.graph.components(kinds).of;
        let mut walk = Walk::new(&self.graph, self.work.min(self.work_for_one));
        let mut best: Option<Vec<u32>> = None;
        for edge in self.graph.edges().filter(|edge| edge.kinds == Kinds::RW) {
            let place = around[edge.from as usize];
            if around[edge.to as usize] != place {
                continue;
            }
            let longest = best.as_ref().map_or(usize::MAX, |cycle| cycle.len() - 2);
            if longest < 1 || walk.work == 0 {
                break;
            }
            best = walk.path(edge.to, edge.from, kinds, longest, |node| around[node as usize] == place).or(best);
        }
        let spent = walk.spent;
        self.done(spent, best);
    }

    fn kinds(&self, cycle: &[u32]) -> Vec<Kinds> {
        let next = cycle.iter().cycle().skip(1);
        cycle.iter().zip(next).map(|(from, to)| self.graph.between(*from, *to)).collect()
    }

    /// A walk is over: keeps its cycle under the name that its edges give it.
    fn done(&mut self, spent: u64, cycle: Option<Vec<u32>>) {
        self.work = self.work.saturating_sub(spent);
        // A walk that was cut short after it had found something has found something.
        self.gave_up |= cycle.is_none() && (spent >= self.work_for_one || self.work == 0);
        let Some(nodes) = cycle else { return };
        let kinds = self.kinds(&nodes);
        let Some(of) = name(&kinds) else { return };
        if !self.is_known(of) {
            self.found.push(Cycle { of, nodes, kinds });
        }
    }
}

/// `None`: there is no data in it.
fn name(kinds: &[Kinds]) -> Option<CycleType> {
    let has = |kind: Kinds| kinds.contains(&kind);
    let overwritten = kinds.iter().filter(|kind| **kind == Kinds::RW).count();
    let next = kinds.iter().cycle().skip(1);
    let adjacent = kinds.iter().zip(next).any(|(one, two)| *one == Kinds::RW && *two == Kinds::RW);
    let class = match overwritten {
        0 if has(Kinds::WR) => Class::G1c,
        0 if has(Kinds::WW) => Class::G0,
        0 => return None,
        1 => Class::GSingle,
        _ if adjacent => Class::G2,
        _ => Class::GNonadjacent,
    };
    let needs = match (has(Kinds::REALTIME), has(Kinds::PROCESS)) {
        (true, _) => Needs::Realtime,
        (false, true) => Needs::Process,
        (false, false) => Needs::Nothing,
    };
    Some(CycleType { needs, class })
}

/// Breadth-first walks over one graph, with a bound on the edges looked at.
struct Walk<'a> {
    graph: &'a DependencyGraph,
    parents: Vec<u32>,
    /// In which walk a node was last seen.
    seen: Vec<u32>,
    walks: u32,
    work: u64,
    spent: u64,
}

impl<'a> Walk<'a> {
    fn new(graph: &'a DependencyGraph, work: u64) -> Self {
        let nodes = graph.nodes();
        Walk { graph, parents: vec![UNSEEN; nodes], seen: vec![0; nodes], walks: 0, work, spent: 0 }
    }

    /// The shortest way from one node to another, or back to itself, both ends included: over edges of `kinds`, at most
    /// `longest` of them, and nodes that are `inside`.
    fn path(
        &mut self,
        from: u32,
        to: u32,
        kinds: Kinds,
        longest: usize,
        inside: impl Fn(u32) -> bool,
    ) -> Option<Vec<u32>> {
        self.walks += 1;
        let (mut level, mut next) = (vec![from], Vec::new());
        let mut length = 0;
        while !level.is_empty() && length < longest {
            length += 1;
            for node in level.drain(..) {
                for (reached, why) in self.graph.after(node) {
                    self.spent += 1;
                    self.work = self.work.saturating_sub(1);
                    if !why.has(kinds) || self.seen[reached as usize] == self.walks || !inside(reached) {
                        continue;
                    }
                    self.seen[reached as usize] = self.walks;
                    self.parents[reached as usize] = node;
                    if reached == to {
                        return Some(self.way(from, to));
                    }
                    next.push(reached);
                }
                if self.work == 0 {
                    return None;
                }
            }
            std::mem::swap(&mut level, &mut next);
        }
        None
    }

    fn way(&self, from: u32, to: u32) -> Vec<u32> {
        let mut way = vec![to, self.parents[to as usize]];
        while way[way.len() - 1] != from {
            way.push(self.parents[way[way.len() - 1] as usize]);
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests;
