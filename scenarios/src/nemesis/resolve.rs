//! From a scenario and a seed to a schedule. Pure: the same seed gives the same schedule, on any machine.
//!
//! 1. The steps of the file, their drawn targets (`any broker`) drawn. Those at a time take from the budget what they
//!    break; those that wait for a predicate cannot be foreseen and take nothing.
//! 2. Each nemesis draws its moments and durations up to the end of the run.
//! 3. In the order of time, each moment draws whom it hits among those the budget allows; when it allows nobody, the
//!    moment passes unused.

use super::budget::{Away, FaultBudget, Hold};
use super::schedule::{Origin, Schedule, ScheduledStep};
use crate::file::*;
use broker_types::NodeId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeSet;

/// A rule draws no more moments than this, however long the run.
const MAX_DRAWS: usize = 1_000;
/// A fault that the end of the run would cut shorter than this is not begun.
const SHORTEST_NANOS: u64 = 10_000_000;
/// How long a controlled shutdown and a start may take a node away.
const RESTART_NANOS: u64 = 5_000_000_000;

/// Decides everything that is drawn. `stream` gives the generator of a name; each step and each rule has its own, so that
/// one more in a file moves none of the others.
#[must_use]
pub fn resolve(scenario: &Scenario, mut stream: impl FnMut(&str) -> ChaCha8Rng) -> Schedule {
    let end = scenario.run.duration.nanos();
    let mut budget = FaultBudget::of(scenario);
    let mut timed: Vec<(u64, ScheduledStep)> = Vec::new();
    let mut waiting = Vec::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        let mut action = step.action.clone();
        draw_targets(&mut action, &scenario.cluster, &mut stream(&format!("step/{index}")));
        let scheduled = ScheduledStep {
            trigger: step.trigger.clone(),
            action,
            required: step.required,
            origin: Origin::Step { index },
        };
        match &step.trigger {
            Trigger::At(at) => {
                if let Some(hold) = hold_of_step(&scheduled.action, at.nanos(), end, &scenario.cluster) {
                    budget.take(hold);
                }
                timed.push((at.nanos(), scheduled));
            }
            Trigger::When(_) => waiting.push(scheduled),
        }
    }
    let mut rules = Vec::new();
    let mut moments = Vec::new();
    for (index, rule) in scenario.nemesis.iter().enumerate() {
        let mut rng = stream(&format!("nemesis/{index}/{}", rule.word()));
        let (nodes, every, lasts) = rule.pool();
        let mut at = 0u64;
        for draw in 0..MAX_DRAWS {
            at = at.saturating_add(draw_range(&mut rng, every).max(SHORTEST_NANOS));
            let lasts = lasts.map(|range| draw_range(&mut rng, range).min(end.saturating_sub(at)));
            if at >= end || lasts.is_some_and(|lasts| lasts < SHORTEST_NANOS) {
                break;
            }
            moments.push((at, index, draw, lasts));
        }
        rules.push((rule, pool(nodes, &scenario.cluster), rng));
    }
    moments.sort();
    for (at, index, draw, lasts) in moments {
        let (rule, pool, rng) = &mut rules[index];
        let fault = Fault { rule, at, lasts, end, cluster: &scenario.cluster };
        if let Some(action) = fault.draw(pool, rng, &mut budget) {
            let trigger = Trigger::At(SimDuration::from_nanos(at));
            timed.push((
                at,
                ScheduledStep { trigger, action, required: false, origin: Origin::Nemesis { index, draw } },
            ));
        }
    }
    // Stable: at the same moment a step of the file comes before a draw, and both in their own order.
    timed.sort_by_key(|(at, _)| *at);
    Schedule { steps: timed.into_iter().map(|(_, step)| step).chain(waiting).collect() }
}

/// Uniform from 0 to `bound`, exclusive; 0 when the bound is.
fn draw_below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    u64::try_from((u128::from(rng.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
}

fn draw_range(rng: &mut ChaCha8Rng, range: DurationRange) -> u64 {
    let (min, max) = (range.min.nanos(), range.max.nanos());
    min + draw_below(rng, max.saturating_sub(min).saturating_add(1))
}

fn draw_one<T: Clone>(rng: &mut ChaCha8Rng, items: &[T]) -> Option<T> {
    let index = draw_below(rng, u64::try_from(items.len()).ok()?);
    items.get(usize::try_from(index).ok()?).cloned()
}

/// A node by its name in the grammar.
fn named(node: NodeId) -> Target {
    let number = |id: i32| u32::try_from(id).unwrap_or(0);
    if node.0 >= FIRST_CONTROLLER_ID {
        Target::Controller(number(node.0 - FIRST_CONTROLLER_ID + 1))
    } else {
        Target::Broker(number(node.0))
    }
}

/// The nodes a target stands for when the file alone decides it; `None` for a role.
fn fixed(target: &Target, cluster: &Cluster) -> Option<Vec<NodeId>> {
    Some(match target {
        Target::Broker(number) => vec![broker_id(*number)],
        Target::Controller(number) => {
            cluster.controller_ids().nth(usize::try_from(*number).ok()?.saturating_sub(1)).into_iter().collect()
        }
        Target::Rack(rack) => cluster.nodes_in_rack(rack),
        Target::AnyBroker => cluster.broker_ids().collect(),
        Target::AnyController => cluster.controller_ids().collect(),
        Target::AnyNode | Target::All => cluster.node_ids().collect(),
        Target::Rest | Target::Clients => Vec::new(),
        _ => return None,
    })
}

/// What a nemesis draws from: nodes by name, each once, and roles.
fn pool(targets: &Targets, cluster: &Cluster) -> Vec<Target> {
    let mut pool = Vec::new();
    for target in &targets.0 {
        let several =
            fixed(target, cluster).map_or_else(|| vec![target.clone()], |nodes| nodes.into_iter().map(named).collect());
        for one in several {
            if !pool.contains(&one) {
                pool.push(one);
            }
        }
    }
    pool
}

/// Puts names in the place of `any broker` and its kin; within one action never the same node twice.
fn draw_targets(action: &mut Action, cluster: &Cluster, rng: &mut ChaCha8Rng) {
    if let Action::RollingRestart(restart) = action {
        // In turn over everyone it may mean.
        restart.nodes = Targets(pool(&restart.nodes, cluster));
        return;
    }
    let mut targets = action.targets_mut();
    let mut used: BTreeSet<NodeId> = targets
        .iter()
        .filter(|target| !target.is_drawn())
        .filter_map(|target| fixed(target, cluster))
        .flatten()
        .collect();
    for target in targets.iter_mut().filter(|target| target.is_drawn()) {
        let all = fixed(target, cluster).unwrap_or_default();
        let free: Vec<NodeId> = all.iter().copied().filter(|node| !used.contains(node)).collect();
        if let Some(node) = draw_one(rng, if free.is_empty() { &all } else { &free }) {
            used.insert(node);
            **target = named(node);
        }
    }
}

/// Who is away while these targets are hit.
fn away<'t>(targets: impl IntoIterator<Item = &'t Target>, cluster: &Cluster) -> Away {
    let mut away = Away::default();
    for target in targets {
        match fixed(target, cluster) {
            Some(nodes) => away.nodes.extend(nodes),
            None if *target == Target::ActiveController => away.some_controllers += 1,
            None => away.some_brokers += 1,
        }
    }
    away
}

/// What a step at a time takes from the budget; `None` when it takes nobody away.
fn hold_of_step(action: &Action, at: u64, end: u64, cluster: &Cluster) -> Option<Hold> {
    let until = |lasts: &Option<SimDuration>| lasts.map_or(end, |lasts| at.saturating_add(lasts.nanos()));
    let (targets, to): (Vec<&Target>, u64) = match action {
        Action::Crash(fault) | Action::PowerLoss(fault) | Action::Wipe(fault) | Action::Shutdown(fault) => {
            (vec![&fault.node], until(&fault.down))
        }
        Action::Pause(fault)
        | Action::Isolate(fault)
        | Action::StallDisk(fault)
        | Action::FullDisk(fault)
        | Action::ReadError(fault)
        | Action::WriteError(fault)
        | Action::SyncError(fault)
        | Action::BitRot(fault) => (vec![&fault.node], until(&fault.lasts)),
        Action::Restart(fault) => (vec![&fault.node], at.saturating_add(RESTART_NANOS)),
        Action::RollingRestart(restart) => {
            let each = RESTART_NANOS.saturating_add(restart.pause.nanos());
            let count = u64::try_from(restart.nodes.0.len()).unwrap_or(u64::MAX);
            (restart.nodes.0.iter().take(1).collect(), at.saturating_add(each.saturating_mul(count)))
        }
        Action::Partition(Partition::Groups(partition)) => {
            // The group that stays is the one with `rest`, or else the last.
            let stays = partition.groups.iter().position(|group| group.contains(&Target::Rest));
            let stays = stays.unwrap_or(partition.groups.len().saturating_sub(1));
            let others = partition.groups.iter().enumerate().filter(|(index, _)| *index != stays);
            (others.flat_map(|(_, group)| group).collect(), until(&partition.lasts))
        }
        Action::Partition(Partition::OneWay(partition)) => (partition.from.0.iter().collect(), until(&partition.lasts)),
        _ => return None,
    };
    let loses_pages = matches!(action, Action::PowerLoss(_) | Action::Wipe(_) | Action::SyncError(_));
    Some(Hold { from: at, to, away: away(targets, cluster), loses_pages })
}

/// One moment of one rule.
struct Fault<'a> {
    rule: &'a NemesisRule,
    at: u64,
    lasts: Option<u64>,
    end: u64,
    cluster: &'a Cluster,
}

impl Fault<'_> {
    /// Draws whom it hits, and takes it from the budget.
    fn draw(&self, pool: &[Target], rng: &mut ChaCha8Rng, budget: &mut FaultBudget) -> Option<Action> {
        if !self.takes_away() {
            let node = draw_one(rng, pool)?;
            return Some(self.action(node, rng));
        }
        let allowed: Vec<Target> = pool.iter().filter(|target| self.may_hit(target, budget)).cloned().collect();
        let node = draw_one(rng, &allowed)?;
        if let NemesisRule::Partition(_) = self.rule {
            let smaller = self.smaller_side(node, rng, budget);
            budget.take(self.hold(&smaller));
            return Some(Action::Partition(Partition::Groups(PartitionGroups {
                groups: vec![smaller, vec![Target::Rest]],
                lasts: self.lasts(),
            })));
        }
        budget.take(self.hold(std::slice::from_ref(&node)));
        Some(self.action(node, rng))
    }

    fn may_hit(&self, target: &Target, budget: &FaultBudget) -> bool {
        if let NemesisRule::Wipe(_) = self.rule
            && !budget.is_unlimited()
        {
            let is_voter =
                fixed(target, self.cluster).is_none_or(|nodes| nodes.iter().any(|node| budget.is_controller(*node)));
            if is_voter || !budget.wipes {
                return false;
            }
        }
        budget.allows(&self.hold(std::slice::from_ref(target)))
    }

    /// The node and some others, fewer than half of all.
    fn smaller_side(&self, node: Target, rng: &mut ChaCha8Rng, budget: &FaultBudget) -> Vec<Target> {
        let mut side = vec![node];
        let mut others: Vec<Target> =
            self.cluster.node_ids().map(named).filter(|other| !side.contains(other)).collect();
        let most = (others.len() / 2).max(1);
        let size = 1 + usize::try_from(draw_below(rng, u64::try_from(most).unwrap_or(1))).unwrap_or(0);
        while side.len() < size && !others.is_empty() {
            let Some(other) = draw_one(rng, &others) else { break };
            others.retain(|candidate| *candidate != other);
            side.push(other);
            if !budget.allows(&self.hold(&side)) {
                side.pop();
            }
        }
        side
    }

    fn hold(&self, targets: &[Target]) -> Hold {
        let to = match (self.rule, self.lasts) {
            (NemesisRule::Restart(_), _) => self.at.saturating_add(RESTART_NANOS),
            (_, Some(lasts)) => self.at.saturating_add(lasts),
            (_, None) => self.end,
        };
        let loses_pages =
            matches!(self.rule, NemesisRule::PowerLoss(_) | NemesisRule::Wipe(_) | NemesisRule::SyncError(_));
        Hold { from: self.at, to, away: away(targets, self.cluster), loses_pages }
    }

    /// Whether the cluster has to do without the node while it lasts; the other faults only make it slow or wrong.
    fn takes_away(&self) -> bool {
        !matches!(
            self.rule,
            NemesisRule::SlowLink(_)
                | NemesisRule::LossyLink(_)
                | NemesisRule::FlakyLink(_)
                | NemesisRule::Throttle(_)
                | NemesisRule::SlowDisk(_)
                | NemesisRule::ClockSkew(_)
                | NemesisRule::ClockStep(_)
                | NemesisRule::ClockDrift(_)
                | NemesisRule::ClockFreeze(_)
        )
    }

    fn lasts(&self) -> Option<SimDuration> {
        self.lasts.map(SimDuration::from_nanos)
    }

    fn action(&self, node: Target, rng: &mut ChaCha8Rng) -> Action {
        let lasts = self.lasts();
        let down = NodeDown { node: node.clone(), down: lasts };
        let fault = NodeFault { node: node.clone(), lasts };
        let between = [node.clone(), Target::All];
        let mut shift = |by: SignedRange| {
            let span = by.max.nanos.abs_diff(by.min.nanos).saturating_add(1);
            let nanos = by.min.nanos.saturating_add_unsigned(draw_below(rng, span));
            ClockShift { node: node.clone(), by: SignedDuration { nanos }, lasts }
        };
        match self.rule {
            NemesisRule::Crash(_) => Action::Crash(down),
            NemesisRule::PowerLoss(_) => Action::PowerLoss(down),
            NemesisRule::Wipe(_) => Action::Wipe(down),
            NemesisRule::Shutdown(_) => Action::Shutdown(down),
            NemesisRule::Restart(_) => Action::Restart(NodeOnly { node }),
            NemesisRule::Pause(_) => Action::Pause(fault),
            NemesisRule::Partition(_) | NemesisRule::Isolate(_) => Action::Isolate(fault),
            NemesisRule::SlowLink(rule) => Action::SlowLink(SlowLink { between, latency: rule.latency, lasts }),
            NemesisRule::LossyLink(rule) => Action::LossyLink(LossyLink { between, loss: rule.loss, lasts }),
            NemesisRule::FlakyLink(rule) => Action::FlakyLink(FlakyLink { between, every: rule.resets, lasts }),
            NemesisRule::Throttle(rule) => Action::Throttle(Throttle { between, rate: rule.rate, lasts }),
            NemesisRule::SlowDisk(rule) => Action::SlowDisk(SlowDisk { node, latency: rule.latency, lasts }),
            NemesisRule::StallDisk(_) => Action::StallDisk(fault),
            NemesisRule::FullDisk(_) => Action::FullDisk(fault),
            NemesisRule::ReadError(_) => Action::ReadError(fault),
            NemesisRule::WriteError(_) => Action::WriteError(fault),
            NemesisRule::SyncError(_) => Action::SyncError(fault),
            NemesisRule::BitRot(_) => Action::BitRot(fault),
            NemesisRule::ClockSkew(rule) => Action::ClockSkew(shift(rule.by)),
            NemesisRule::ClockStep(rule) => Action::ClockStep(shift(rule.by)),
            NemesisRule::ClockDrift(rule) => {
                let most = u64::from(rule.ppm.unsigned_abs());
                let drawn = i64::try_from(draw_below(rng, 2 * most + 1)).unwrap_or(0) - i64::from(rule.ppm);
                Action::ClockDrift(ClockDrift { node, ppm: i32::try_from(drawn).unwrap_or(0), lasts })
            }
            NemesisRule::ClockFreeze(_) => Action::ClockFreeze(fault),
        }
    }
}
