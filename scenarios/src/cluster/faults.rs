//! Carries out a schedule: resolves roles, breaks and mends, and keeps account of each fault and its effects.

use super::{Cluster, View, node_name};
use crate::file::{
    Action, DurationRange, Partition, PartitionGauge, Predicate, Subject, Target, Targets, Trigger, broker_id,
};
use crate::nemesis::{Schedule, ScheduledStep};
use broker_types::{NodeId, TopicPartition};
use checker::LossKind;
use rand_core::Rng;
use reports::FaultLine;
use sim::{ClockFault, DiskFault, Fault, FaultId, HostId, NetworkFault, SimTime};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How often predicates are looked at while some wait.
const LOOK: Duration = Duration::from_millis(5);

/// One fault under way or over.
struct Record {
    kind: &'static str,
    target: String,
    from: SimTime,
    to: Option<SimTime>,
    required: bool,
    /// Faults of the world that it consists of.
    parts: Vec<FaultId>,
    /// Effects of faults of processes.
    own: BTreeMap<String, u64>,
}

/// What is to happen at a time.
enum Due {
    /// Step number n of the schedule fires.
    Fire(usize),
    /// A fault ends.
    End(usize),
    /// A node starts again.
    Start { record: usize, node: NodeId },
    /// A paused node goes on.
    Resume { record: usize, node: NodeId },
    /// The next node of a rolling restart is asked to stop.
    Roll { record: usize, nodes: VecDeque<NodeId>, pause: Duration },
}

/// The hands of the nemesis.
pub struct Faults<'a> {
    cluster: &'a Cluster,
    steps: Vec<ScheduledStep>,
    /// By time, then by order of planning.
    due: BTreeMap<(SimTime, u64), Due>,
    planned: u64,
    /// Steps that wait for a predicate.
    waiting: Vec<usize>,
    fired: Vec<bool>,
    records: Vec<Record>,
    /// Start of the run proper.
    zero: SimTime,
    clients: Vec<HostId>,
    chance: rand_chacha::ChaCha8Rng,
}

impl<'a> Faults<'a> {
    /// A schedule whose times count from `zero`.
    #[must_use]
    pub fn new(cluster: &'a Cluster, schedule: Schedule, zero: SimTime, clients: Vec<HostId>) -> Self {
        let mut faults = Faults {
            cluster,
            fired: vec![false; schedule.steps.len()],
            steps: schedule.steps,
            due: BTreeMap::new(),
            planned: 0,
            waiting: Vec::new(),
            records: Vec::new(),
            zero,
            clients,
            chance: cluster.world.entropy("faults"),
        };
        for index in 0..faults.steps.len() {
            match &faults.steps[index].trigger {
                Trigger::At(at) => {
                    let at = zero + at.0;
                    faults.plan(at, Due::Fire(index));
                }
                Trigger::When(_) => faults.waiting.push(index),
            }
        }
        faults
    }

    fn plan(&mut self, at: SimTime, what: Due) {
        self.planned += 1;
        self.due.insert((at, self.planned), what);
    }

    /// Lets the schedule happen until `end`.
    pub async fn run_until(&mut self, end: SimTime) {
        loop {
            let now = self.cluster.world.now();
            while let Some(entry) = self.due.first_entry()
                && entry.key().0 <= now
            {
                let due = entry.remove();
                self.happen(due);
            }
            self.look();
            if now >= end {
                return;
            }
            let next = self.due.keys().next().map_or(end, |(at, _)| *at).min(end);
            let next = if self.waiting.is_empty() { next } else { next.min(now + LOOK) };
            self.cluster.world.sleep_until(next.max(now + Duration::from_nanos(1))).await;
        }
    }

    /// Fires the steps whose predicate holds.
    fn look(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for index in waiting {
            let Trigger::When(predicate) = &self.steps[index].trigger else { continue };
            if self.cluster.shared.view(|view| reading(view, predicate)).is_some_and(|reading| predicate.holds(reading))
            {
                self.fire(index);
            } else {
                self.waiting.push(index);
            }
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Fire(index) => self.fire(index),
            Due::End(record) => self.end(record),
            Due::Start { record, node } => {
                self.cluster.world.start(self.host(node));
                self.records[record].to = Some(self.cluster.world.now());
            }
            Due::Resume { record, node } => {
                self.cluster.world.resume(self.host(node));
                self.records[record].to = Some(self.cluster.world.now());
            }
            Due::Roll { record, nodes, pause } => self.roll(record, nodes, pause),
        }
    }

    fn host(&self, node: NodeId) -> HostId {
        self.cluster.hosts[&node]
    }

    fn end(&mut self, record: usize) {
        let now = self.cluster.world.now();
        for part in self.records[record].parts.clone() {
            self.cluster.world.remove(part);
        }
        if self.records[record].to.is_none() {
            self.records[record].to = Some(now);
        }
    }

    /// Ends every fault and starts every node of the core: it is whole afterwards. What is no part of it stops for good.
    pub fn heal(&mut self, core: &BTreeSet<NodeId>) {
        self.due.clear();
        self.waiting.clear();
        let lost: Vec<NodeId> = self.cluster.hosts.keys().filter(|node| !core.contains(node)).copied().collect();
        self.mend();
        for node in lost {
            let record = self.record("crash", node_name(node), false);
            self.records[record].own.insert("nodes stopped".to_owned(), 1);
            self.cluster.world.crash(self.cluster.hosts[&node]);
            let now = crate::recorder::moment(self.cluster.world.now());
            self.cluster.shared.judge(|judge| judge.node_down(node, now));
        }
    }

    fn mend(&mut self) {
        for record in 0..self.records.len() {
            self.end(record);
        }
        self.cluster.world.heal();
        for host in self.cluster.hosts.values() {
            if !self.cluster.world.is_up(*host) {
                self.cluster.world.start(*host);
            }
        }
    }

    fn record(&mut self, kind: &'static str, target: String, required: bool) -> usize {
        let from = self.cluster.world.now();
        let (parts, own) = (Vec::new(), BTreeMap::new());
        self.records.push(Record { kind, target, from, to: None, required, parts, own });
        self.records.len() - 1
    }

    fn install(&mut self, record: usize, fault: impl Into<Fault>) {
        let part = self.cluster.world.install(fault);
        self.records[record].parts.push(part);
    }

    fn fire(&mut self, index: usize) {
        self.fired[index] = true;
        let step = self.steps[index].clone();
        let action = step.action;
        let kind = action.word();
        let required = step.required;
        let lasts = action.lasts().map(|lasts| lasts.0);
        match action {
            Action::Crash(fault) => self.stop(kind, &fault.node, lasts, required, Stop::Crash),
            Action::PowerLoss(fault) => self.stop(kind, &fault.node, lasts, required, Stop::PowerLoss),
            Action::Wipe(fault) => self.stop(kind, &fault.node, lasts, required, Stop::Wipe),
            Action::Shutdown(fault) => self.stop(kind, &fault.node, lasts, required, Stop::Shutdown),
            Action::Restart(only) => {
                let nodes = self.resolve(&only.node);
                let record = self.record(kind, self.told(&only.node, &nodes), required);
                self.roll(record, nodes.into(), Duration::ZERO);
            }
            Action::RollingRestart(rolling) => {
                let nodes = self.resolve_all(&rolling.nodes, true);
                let names: Vec<String> = nodes.iter().map(|node| node_name(*node)).collect();
                let record = self.record(kind, names.join(", "), required);
                self.roll(record, nodes.into(), rolling.pause.0);
            }
            Action::Pause(fault) => {
                let nodes = self.resolve(&fault.node);
                for node in nodes.clone() {
                    let record = self.record(kind, self.told(&fault.node, &nodes), required);
                    if self.cluster.world.pause(self.host(node)) {
                        *self.records[record].own.entry("nodes paused".to_owned()).or_default() += 1;
                    }
                    if let Some(lasts) = lasts {
                        let at = self.cluster.world.now() + lasts;
                        self.plan(at, Due::Resume { record, node });
                    }
                }
            }
            Action::Partition(partition) => self.partition(kind, &partition, lasts, required),
            Action::Isolate(fault) => {
                let nodes = self.resolve(&fault.node);
                let record = self.record(kind, self.told(&fault.node, &nodes), required);
                let hosts = nodes.iter().map(|node| self.host(*node)).collect();
                self.install(record, NetworkFault::Isolate { hosts });
                self.end_after(record, lasts);
            }
            Action::SlowLink(link) => {
                let (a, b, told) = self.between(&link.between);
                let record = self.record(kind, told, required);
                self.install(record, NetworkFault::Slow { a, b, latency: range(link.latency) });
                self.end_after(record, lasts);
            }
            Action::LossyLink(link) => {
                let (a, b, told) = self.between(&link.between);
                let record = self.record(kind, told, required);
                self.install(record, NetworkFault::Lossy { a, b, loss_ppm: link.loss.ppm });
                self.end_after(record, lasts);
            }
            Action::FlakyLink(link) => {
                let (a, b, told) = self.between(&link.between);
                let record = self.record(kind, told, required);
                self.install(record, NetworkFault::Flaky { a, b, every: range(link.every) });
                self.end_after(record, lasts);
            }
            Action::Throttle(link) => {
                let (a, b, told) = self.between(&link.between);
                let record = self.record(kind, told, required);
                let bytes_per_second = link.rate.bytes_per_second;
                self.install(record, NetworkFault::Throttle { a, b, bytes_per_second });
                self.end_after(record, lasts);
            }
            Action::SlowDisk(fault) => {
                self.disk(kind, &fault.node, DiskFault::Slow { latency: range(fault.latency) }, lasts, required);
            }
            Action::StallDisk(fault) => self.disk(kind, &fault.node, DiskFault::Stall, lasts, required),
            Action::FullDisk(fault) => self.disk(kind, &fault.node, DiskFault::Full, lasts, required),
            Action::ReadError(fault) => {
                self.disk(kind, &fault.node, DiskFault::ReadError { ppm: 1_000_000 }, lasts, required);
            }
            Action::WriteError(fault) => {
                self.disk(kind, &fault.node, DiskFault::WriteError { ppm: 1_000_000 }, lasts, required);
            }
            Action::SyncError(fault) => {
                for node in self.resolve(&fault.node) {
                    self.cluster.shared.lost(node, self.cluster.world.now(), LossKind::SyncError);
                }
                self.disk(kind, &fault.node, DiskFault::SyncError { ppm: 1_000_000 }, lasts, required);
            }
            Action::ClockSkew(shift) => {
                self.clock(kind, &shift.node, ClockFault::Skew { by_ms: shift.by.nanos / 1_000_000 }, lasts, required);
            }
            Action::ClockStep(shift) => {
                self.clock(kind, &shift.node, ClockFault::Step { by_ms: shift.by.nanos / 1_000_000 }, lasts, required);
            }
            Action::ClockDrift(drift) => {
                self.clock(kind, &drift.node, ClockFault::Drift { ppm: i64::from(drift.ppm) }, lasts, required);
            }
            Action::ClockFreeze(fault) => self.clock(kind, &fault.node, ClockFault::Freeze, lasts, required),
            Action::Heal(_) => self.mend(),
            // What the cluster holds is looked at after every event anyway.
            Action::Check(_) => {}
            other => unreachable!("`{}` is refused when the file is checked", other.word()),
        }
    }

    fn end_after(&mut self, record: usize, lasts: Option<Duration>) {
        if let Some(lasts) = lasts {
            let at = self.cluster.world.now() + lasts;
            self.plan(at, Due::End(record));
        }
    }

    fn stop(&mut self, kind: &'static str, target: &Target, down: Option<Duration>, required: bool, how: Stop) {
        let nodes = self.resolve(target);
        let now = self.cluster.world.now();
        for node in nodes.clone() {
            let record = self.record(kind, self.told(target, &nodes), required);
            let host = self.host(node);
            let world = &self.cluster.world;
            let stopped = match how {
                Stop::Crash => {
                    let stopped = world.crash(host);
                    self.cluster.shared.judge(|judge| judge.node_down(node, crate::recorder::moment(now)));
                    stopped
                }
                Stop::PowerLoss => {
                    let stopped = world.power_loss(host);
                    self.cluster.shared.lost(node, now, LossKind::PowerLoss);
                    stopped
                }
                Stop::Wipe => {
                    let stopped = world.is_up(host);
                    world.wipe_disk(host);
                    self.cluster.shared.lost(node, now, LossKind::DiskWipe);
                    stopped
                }
                Stop::Shutdown => self.cluster.shared.ask_to_stop(node),
            };
            self.cluster.shared.stopped(node);
            if stopped {
                *self.records[record].own.entry("nodes stopped".to_owned()).or_default() += 1;
            }
            if let Some(down) = down {
                self.plan(now + down, Due::Start { record, node });
            }
        }
    }

    /// One node after the other: an orderly stop, a start when it has ended, a pause.
    fn roll(&mut self, record: usize, mut nodes: VecDeque<NodeId>, pause: Duration) {
        let now = self.cluster.world.now();
        let Some(node) = nodes.front().copied() else {
            self.records[record].to = Some(now);
            return;
        };
        let host = self.host(node);
        let world = &self.cluster.world;
        if world.is_up(host) {
            let asked = self.cluster.shared.ask_to_stop(node);
            self.cluster.shared.stopped(node);
            if asked {
                *self.records[record].own.entry("nodes stopped".to_owned()).or_default() += 1;
            }
            self.plan(now + Duration::from_millis(50), Due::Roll { record, nodes, pause });
            return;
        }
        world.start(host);
        *self.records[record].own.entry("nodes started".to_owned()).or_default() += 1;
        nodes.pop_front();
        let pause = pause.max(Duration::from_millis(50));
        self.plan(now + pause, Due::Roll { record, nodes, pause });
    }

    fn disk(&mut self, kind: &'static str, target: &Target, fault: DiskFault, lasts: Option<Duration>, required: bool) {
        let nodes = self.resolve(target);
        let record = self.record(kind, self.told(target, &nodes), required);
        for node in nodes {
            self.install(record, Fault::Disk(self.host(node), fault.clone()));
        }
        self.end_after(record, lasts);
    }

    fn clock(
        &mut self,
        kind: &'static str,
        target: &Target,
        fault: ClockFault,
        lasts: Option<Duration>,
        required: bool,
    ) {
        let nodes = self.resolve(target);
        let record = self.record(kind, self.told(target, &nodes), required);
        for node in nodes {
            self.install(record, Fault::Clock(self.host(node), fault));
        }
        self.end_after(record, lasts);
    }

    fn between(&mut self, ends: &[Target; 2]) -> (Vec<HostId>, Vec<HostId>, String) {
        let hosts = |faults: &mut Self, target: &Target| -> Vec<HostId> {
            match target {
                Target::Clients => faults.clients.clone(),
                target => faults.resolve(target).into_iter().map(|node| faults.host(node)).collect(),
            }
        };
        (hosts(self, &ends[0]), hosts(self, &ends[1]), format!("{} and {}", ends[0], ends[1]))
    }

    fn partition(&mut self, kind: &'static str, partition: &Partition, lasts: Option<Duration>, required: bool) {
        let (fault, told) = match partition {
            Partition::Groups(groups) => {
                let mut sides: Vec<Vec<HostId>> = Vec::new();
                let mut named: Vec<HostId> = Vec::new();
                for group in &groups.groups {
                    let mut side = Vec::new();
                    for target in group {
                        match target {
                            Target::Rest => {}
                            Target::Clients => side.extend(self.clients.iter().copied()),
                            target => {
                                for node in self.resolve(target) {
                                    let host = self.host(node);
                                    if !named.contains(&host) {
                                        side.push(host);
                                    }
                                }
                            }
                        }
                    }
                    named.extend(side.iter().copied());
                    sides.push(side);
                }
                if let Some(at) = groups.groups.iter().position(|group| group.contains(&Target::Rest)) {
                    let rest = self.cluster.hosts.values().copied().filter(|host| !named.contains(host));
                    sides[at].extend(rest);
                }
                let told: Vec<String> = sides.iter().map(|side| self.names(side)).collect();
                (NetworkFault::Partition { groups: sides }, told.join(" | "))
            }
            Partition::OneWay(cut) => {
                let side = |faults: &mut Self, targets: &Targets| -> Vec<HostId> {
                    if targets.0.contains(&Target::Clients) {
                        return faults.clients.clone();
                    }
                    faults.resolve_all(targets, false).into_iter().map(|node| faults.host(node)).collect()
                };
                let from = side(self, &cut.from);
                let mut to = side(self, &cut.to);
                if cut.to.0.contains(&Target::Rest) {
                    to.extend(self.cluster.hosts.values().copied().filter(|host| !from.contains(host)));
                }
                let told = format!("{} ⇥ {}", self.names(&from), self.names(&to));
                (NetworkFault::OneWay { from, to }, told)
            }
            Partition::Bridge(bridge) => {
                let middle = self.resolve(&bridge.bridge);
                let (mut left, mut right) = (Vec::new(), Vec::new());
                for first in [1, 101] {
                    let others = self
                        .cluster
                        .hosts
                        .iter()
                        .filter(|(node, _)| !middle.contains(node) && (node.0 > 100) == (first > 100));
                    for (turn, (_, host)) in others.enumerate() {
                        if turn % 2 == 0 { left.push(*host) } else { right.push(*host) }
                    }
                }
                let middle: Vec<HostId> = middle.into_iter().map(|node| self.host(node)).collect();
                let told = format!("{} | {} bridged by {}", self.names(&left), self.names(&right), self.names(&middle));
                (NetworkFault::Bridge { left, bridge: middle, right }, told)
            }
        };
        let record = self.record(kind, told, required);
        self.install(record, fault);
        self.end_after(record, lasts);
    }

    fn names(&self, hosts: &[HostId]) -> String {
        let names: Vec<String> = hosts
            .iter()
            .map(|host| self.cluster.node_of(*host).map_or_else(|| self.cluster.world.name(*host), node_name))
            .collect();
        names.join(" ")
    }

    fn told(&self, target: &Target, nodes: &[NodeId]) -> String {
        let names: Vec<String> = nodes.iter().map(|node| node_name(*node)).collect();
        let (said, names) = (target.to_string(), names.join(", "));
        match (said == names, names.is_empty()) {
            (true, _) => said,
            (false, true) => format!("{said} = nobody"),
            (false, false) => format!("{said} = {names}"),
        }
    }

    fn resolve_all(&mut self, targets: &Targets, every: bool) -> Vec<NodeId> {
        let mut nodes = Vec::new();
        for target in &targets.0 {
            let more = match target {
                Target::AnyBroker if every => self.cluster.hosts.keys().copied().filter(|id| id.0 <= 100).collect(),
                Target::AnyController if every => self.cluster.hosts.keys().copied().filter(|id| id.0 > 100).collect(),
                Target::AnyNode if every => self.cluster.hosts.keys().copied().collect(),
                target => self.resolve(target),
            };
            nodes.extend(more);
        }
        nodes.dedup();
        nodes
    }

    /// Who a target means now.
    fn resolve(&mut self, target: &Target) -> Vec<NodeId> {
        let hosts = &self.cluster.hosts;
        let known = |node: NodeId| hosts.contains_key(&node).then_some(node);
        let of = |partition: &TopicPartition, pick: &dyn Fn(&super::PartitionView) -> Vec<NodeId>| {
            self.cluster.shared.view(|view| {
                view.partition(partition.topic.as_str(), partition.partition).map(pick).unwrap_or_default()
            })
        };
        let mut nodes: Vec<NodeId> = match target {
            Target::Broker(number) => known(broker_id(*number)).into_iter().collect(),
            Target::Controller(number) => {
                let apart = NodeId(100 + i32::try_from(*number).unwrap_or(0));
                known(apart).or_else(|| known(broker_id(*number))).into_iter().collect()
            }
            Target::Leader(partition) => of(partition, &|state| state.leader.into_iter().collect()),
            Target::Follower(partition, number) => of(partition, &|state| {
                let followers = state.replicas.iter().filter(|id| Some(**id) != state.leader);
                followers.skip(number.saturating_sub(1) as usize).take(1).copied().collect()
            }),
            Target::Isr(partition) => of(partition, &|state| state.isr.clone()),
            Target::Replicas(partition) => of(partition, &|state| state.replicas.clone()),
            Target::ActiveController => {
                self.cluster.shared.view(|view| view.controller.map(|(_, node)| node)).into_iter().collect()
            }
            Target::Rack(rack) => hosts.keys().copied().filter(|node| self.rack(*node, rack)).collect(),
            Target::AnyBroker => self.any(&|id| id.0 <= 100),
            Target::AnyController => self.any(&|id| id.0 > 100),
            Target::AnyNode => self.any(&|_| true),
            Target::All => hosts.keys().copied().collect(),
            Target::GroupCoordinator(_) | Target::TransactionCoordinator(_) | Target::Rest | Target::Clients => {
                Vec::new()
            }
        };
        nodes.sort();
        nodes
    }

    fn any(&mut self, pick: &dyn Fn(NodeId) -> bool) -> Vec<NodeId> {
        let pool: Vec<NodeId> = self.cluster.hosts.keys().copied().filter(|id| pick(*id)).collect();
        if pool.is_empty() {
            return pool;
        }
        vec![pool[self.chance.next_u64() as usize % pool.len()]]
    }

    fn rack(&self, node: NodeId, rack: &str) -> bool {
        self.cluster.racks.get(&node).is_some_and(|own| own == rack)
    }

    /// What became of every fault, in order of their start; and the required ones that never fired or did nothing.
    #[must_use]
    pub fn account(&self) -> (Vec<FaultLine>, Vec<String>) {
        let ms = |at: SimTime| at.since(self.zero).as_millis() as u64;
        let mut without = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            if step.required && !self.fired[index] {
                without.push(format!("the required {} never fired", step.action.word()));
            }
        }
        let lines: Vec<FaultLine> = self
            .records
            .iter()
            .map(|record| {
                let mut effects = record.own.clone();
                for part in &record.parts {
                    for (name, count) in self.cluster.world.fault_effects(*part) {
                        *effects.entry(name.replace('-', " ")).or_default() += count;
                    }
                }
                FaultLine {
                    kind: record.kind.to_owned(),
                    target: record.target.clone(),
                    from_ms: ms(record.from),
                    to_ms: record.to.map(ms),
                    effects,
                    required: record.required,
                }
            })
            .collect();
        for line in &lines {
            if line.required && line.effects.values().all(|count| *count == 0) {
                without.push(format!("the required {} of {} had no effect", line.kind, line.target));
            }
        }
        (lines, without)
    }
}

#[derive(Clone, Copy)]
enum Stop {
    Crash,
    PowerLoss,
    Wipe,
    Shutdown,
}

fn range(range: DurationRange) -> sim::DurationRange {
    sim::DurationRange::new(range.min.0, range.max.0)
}

/// What a predicate's subject reads now; `None` if there is nothing to read yet.
fn reading(view: &View, predicate: &Predicate) -> Option<u64> {
    let count = |offset: i64| u64::try_from(offset).unwrap_or(0);
    match &predicate.subject {
        Subject::Partition { partition, gauge } => {
            let state = view.partition(partition.topic.as_str(), partition.partition)?;
            let leader = state.leader.and_then(|leader| state.logs.get(&leader));
            Some(match gauge {
                PartitionGauge::Acked => state.acked,
                PartitionGauge::HighWatermark => count(leader?.high_watermark.0),
                PartitionGauge::LogEnd => count(leader?.log_end.0),
                PartitionGauge::IsrSize => state.isr.len() as u64,
                PartitionGauge::LeaderEpoch => count(i64::from(state.leader_epoch.0)),
            })
        }
        Subject::ControllerEpoch => Some(count(i64::from(view.controller?.0.0))),
        Subject::Mark(mark) => Some(view.marks.get(mark.name()).copied().unwrap_or(0)),
        Subject::GroupGeneration(_) => None,
    }
}
