//! All replicas of one partition as they admit what they do, and what follows from that.
//!
//! `committed` is the checker's own knowledge, which no broker has: what any leader ever put below its high watermark,
//! and with it everything that a consumer may have read and acks=all may have acknowledged. It only grows, but for losses
//! that the configuration excuses.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::history::SimTime;
use crate::registry::{
    ACK_RULE, COMMITTED_TRUNCATED, CheckInfo, HIGH_WATERMARK, HIGH_WATERMARK_MONOTONE, LEADER_COMPLETENESS,
    LEADER_PER_EPOCH, LOG_MATCHING, METADATA_LEADER_COMPLETENESS, METADATA_LOG_MATCHING, METADATA_TRUNCATED,
    QUORUM_HIGH_WATERMARK, QUORUM_LEADER_PER_EPOCH,
};
use crate::replication::log_model::{Canon, Known, Runs, UNKNOWN};
use crate::replication::loss_budget::LossBudget;
use broker_types::{LeaderEpoch, NodeId, Offset, ReplicaRole, TopicIdPartition};
use std::collections::BTreeMap;

/// One replica.
#[derive(Clone, Debug)]
struct Replica {
    node: NodeId,
    incarnation: u32,
    log: Runs,
    /// The log's end is known for this incarnation.
    settled: bool,
    /// It may have lost bytes since its log was last loaded.
    lossy: bool,
    /// Below this offset the log was compared with what is committed.
    verified_to: i64,
    /// The last high watermark it set as leader, and in which epoch.
    led_to: Option<(LeaderEpoch, Offset)>,
    /// Where its next batch is in the canon.
    hint: usize,
}

/// A broker that believes that it leads.
#[derive(Clone, Debug)]
pub(crate) struct Believer {
    pub(crate) node: NodeId,
    pub(crate) epoch: LeaderEpoch,
    /// The ISR as it knows it to be committed.
    isr: Vec<NodeId>,
    /// Where its epoch begins.
    start: Offset,
}

/// One partition.
#[derive(Clone, Debug)]
pub(crate) struct ReplicaSet {
    id: TopicIdPartition,
    canon: Canon,
    committed: Runs,
    /// The highest high watermark that a leader ever set.
    true_high_watermark: i64,
    replicas: Vec<Replica>,
    /// Who appended in which leader epoch: node and incarnation.
    appenders: BTreeMap<LeaderEpoch, (NodeId, u32)>,
    newest_appender: Option<(LeaderEpoch, NodeId, u32)>,
    pub(crate) believers: Vec<Believer>,
    pub(crate) budget: LossBudget,
    /// Opportunities on the hot path, added to the findings at the end.
    compared: u64,
    led: u64,
    watermarks: u64,
    pub(crate) batches: usize,
}

/// Where and when something was observed.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) at: SimTime,
    pub(crate) node: NodeId,
    pub(crate) incarnation: u32,
}

/// A batch as its name.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) crc: u32,
}

impl ReplicaSet {
    pub(crate) fn new(id: TopicIdPartition) -> Self {
        ReplicaSet {
            id,
            canon: Canon::default(),
            committed: Runs::default(),
            true_high_watermark: 0,
            replicas: Vec::new(),
            appenders: BTreeMap::new(),
            newest_appender: None,
            believers: Vec::new(),
            budget: LossBudget::default(),
            compared: 0,
            led: 0,
            watermarks: 0,
            batches: 0,
        }
    }

    pub(crate) fn id(&self) -> TopicIdPartition {
        self.id
    }

    fn is_metadata(&self) -> bool {
        self.id == TopicIdPartition::METADATA
    }

    fn matching(&self) -> &'static CheckInfo {
        if self.is_metadata() { METADATA_LOG_MATCHING } else { LOG_MATCHING }
    }

    fn completeness(&self) -> &'static CheckInfo {
        if self.is_metadata() { METADATA_LEADER_COMPLETENESS } else { LEADER_COMPLETENESS }
    }

    fn truncation(&self) -> &'static CheckInfo {
        if self.is_metadata() { METADATA_TRUNCATED } else { COMMITTED_TRUNCATED }
    }

    fn watermark(&self) -> &'static CheckInfo {
        if self.is_metadata() { QUORUM_HIGH_WATERMARK } else { HIGH_WATERMARK }
    }

    /// The place of `node`'s replica. A new incarnation starts with the log of the one before, whose end is not known
    /// until it is told.
    fn replica(&mut self, place: Place) -> usize {
        let Place { node, incarnation, .. } = place;
        let at = match self.replicas.iter().position(|replica| replica.node == node) {
            Some(at) => at,
            None => {
                self.replicas.push(Replica {
                    node,
                    incarnation,
                    log: Runs::default(),
                    settled: false,
                    lossy: false,
                    verified_to: 0,
                    led_to: None,
                    hint: 0,
                });
                self.replicas.len() - 1
            }
        };
        let replica = &mut self.replicas[at];
        if replica.incarnation != incarnation {
            (replica.incarnation, replica.settled, replica.led_to) = (incarnation, false, None);
        }
        at
    }

    /// The first thing heard of a log in an incarnation tells where it ends.
    fn settle(&mut self, at: usize, end: Offset) {
        let replica = &mut self.replicas[at];
        if replica.settled {
            return;
        }
        replica.settled = true;
        replica.lossy = false;
        if replica.log.end() == 0 {
            // Nothing was seen of it before: a snapshot may stand for what is below.
            replica.log.reset(end.0);
        }
        replica.log.truncate(end.0);
        replica.log.extend(end.0, UNKNOWN);
        replica.verified_to = replica.verified_to.min(end.0);
    }

    // ---- the log

    pub(crate) fn loaded(&mut self, ctx: &Context, out: &mut Findings, place: Place, start: Offset, end: Offset) {
        let at = self.replica(place);
        let lossy = self.replicas[at].lossy && !ctx.rules(self.id).flush_before_ack;
        if !lossy && end.0 < self.replicas[at].log.end() {
            self.check_truncation(ctx, out, place, at, end, "when it started again");
        }
        let replica = &mut self.replicas[at];
        replica.settled = true;
        replica.lossy = false;
        replica.log.truncate(end.0);
        replica.log.extend(end.0, UNKNOWN);
        replica.log.set_start(start.0);
        replica.verified_to = replica.verified_to.min(end.0);
    }

    pub(crate) fn appended(&mut self, ctx: &Context, out: &mut Findings, place: Place, name: Name, role: ReplicaRole) {
        let Name { base, last, epoch, crc } = name;
        let at = self.replica(place);
        self.settle(at, base);
        let end = self.replicas[at].log.end();
        if base.0 != end || last < base {
            self.find_matching(out, ctx, place, base.0, || {
                format!("{} appended offsets {base} to {last} to a log that ended at {end}", ctx.node_name(place.node))
            });
            self.replicas[at].log.truncate(base.0);
            self.replicas[at].log.extend(base.0, UNKNOWN);
            self.replicas[at].verified_to = self.replicas[at].verified_to.min(base.0);
        }
        let former = self.replicas[at].log.last_epoch();
        if former > epoch.0 {
            self.find_matching(out, ctx, place, base.0, || {
                let node = ctx.node_name(place.node);
                format!("{node} appended offset {base} of leader epoch {epoch} after records of leader epoch {former}")
            });
        }
        if role == ReplicaRole::Leader {
            self.led += 1;
            if self.newest_appender != Some((epoch, place.node, place.incarnation)) {
                self.check_appender(ctx, out, place, epoch, base);
            }
        }
        if self.batches < usize::MAX {
            let mut hint = self.replicas[at].hint;
            match self.canon.enter(epoch.0, base.0, last.0, crc, &mut hint) {
                Known::New => self.batches += 1,
                Known::Same => self.compared += 1,
                Known::Other { base: others, last: to, crc: other } => {
                    self.compared += 1;
                    self.find_matching(out, ctx, place, base.0, || {
                        let node = ctx.node_name(place.node);
                        format!(
                            "{node} appended {base}..={last} of leader epoch {epoch} with CRC {crc:08x}; that epoch's \
                             batch there is {others}..={to} with CRC {other:08x}"
                        )
                    });
                }
            }
            self.replicas[at].hint = hint;
        }
        self.replicas[at].log.extend(last.0 + 1, epoch.0);
    }

    /// Forgets all batches: there are more than the budget pays for.
    pub(crate) fn forget_batches(&mut self) {
        self.canon = Canon::default();
        self.batches = usize::MAX;
    }

    fn check_appender(&mut self, ctx: &Context, out: &mut Findings, place: Place, epoch: LeaderEpoch, base: Offset) {
        let check = if self.is_metadata() { QUORUM_LEADER_PER_EPOCH } else { LEADER_PER_EPOCH };
        let (node, incarnation) = *self.appenders.entry(epoch).or_insert((place.node, place.incarnation));
        self.newest_appender = Some((epoch, place.node, place.incarnation));
        if (node, incarnation) != (place.node, place.incarnation) {
            out.find(check, ctx, None, Some(place.at), || {
                let partition = ctx.partition_name(self.id);
                let (second, first) = (ctx.node_name(place.node), ctx.node_name(node));
                vec![
                    format!(
                        "{partition}: {second} (start {}) appended offset {base} as leader of epoch {epoch}",
                        place.incarnation
                    ),
                    format!("{first} (start {incarnation}) had appended as leader of that epoch before"),
                ]
            });
        }
    }

    pub(crate) fn truncated(&mut self, ctx: &Context, out: &mut Findings, place: Place, from: Offset, to: Offset) {
        let at = self.replica(place);
        self.settle(at, from.max(to));
        if to.0 > self.replicas[at].log.end() {
            self.replicas[at].log.reset(to.0);
            self.replicas[at].verified_to = to.0;
            return;
        }
        self.check_truncation(ctx, out, place, at, to, "by truncating its log");
        let replica = &mut self.replicas[at];
        replica.log.truncate(to.0);
        replica.verified_to = replica.verified_to.min(to.0);
    }

    /// W-R15: what an ISR member cuts off was not committed.
    fn check_truncation(&mut self, ctx: &Context, out: &mut Findings, place: Place, at: usize, to: Offset, how: &str) {
        let check = self.truncation();
        let is_member = self.budget.in_isr(place.node) || (self.is_metadata() && ctx.voters.contains(&place.node));
        let log = &self.replicas[at].log;
        if !is_member || to.0 >= log.end() {
            return;
        }
        out.opportunity(check, 1);
        let removes = self.committed.epoch_at(to.0).zip(log.epoch_at(to.0)).filter(|(committed, own)| committed == own);
        if let Some((epoch, _)) = removes.filter(|(epoch, _)| *epoch != UNKNOWN) {
            let end = log.end();
            out.find(check, ctx, self.excuse(), Some(place.at), || {
                let (partition, node) = (ctx.partition_name(self.id), ctx.node_name(place.node));
                vec![
                    format!("{partition}: {node} removed offsets {to} to {end} {how} at {}", seconds(place.at)),
                    format!("offset {to} of leader epoch {epoch} was committed, up to {}", self.committed.end()),
                    match self.is_metadata() {
                        true => format!("{node} is a voter"),
                        false => format!("{node} was in the ISR {}", ctx.node_names(self.budget.isr())),
                    },
                ]
            });
        }
    }

    pub(crate) fn log_start(&mut self, place: Place, start: Offset) {
        let at = self.replica(place);
        self.replicas[at].log.set_start(start.0);
    }

    // ---- leadership

    pub(crate) fn became_leader(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        epoch: LeaderEpoch,
        start: Offset,
        isr: Vec<NodeId>,
    ) {
        let at = self.replica(place);
        self.settle(at, start);
        self.stopped_leading(place.node);
        self.believers.push(Believer { node: place.node, epoch, isr, start });
        // A broker may be late: what leaders of its own and later epochs committed it need not have.
        let must_have = self.committed.end_below(epoch.0);
        let replica = &self.replicas[at];
        out.opportunity(self.completeness(), u64::from(must_have > replica.log.start()));
        let from = replica.verified_to.min(must_have);
        let differs = replica.log.first_difference(&self.committed, from, must_have);
        let lacks = (replica.log.end() < must_have).then_some(replica.log.end());
        let excuse = self.excuse();
        if let Some(offset) = differs.into_iter().chain(lacks).min() {
            out.find(self.completeness(), ctx, excuse, Some(place.at), || {
                let (partition, node) = (ctx.partition_name(self.id), ctx.node_name(place.node));
                let end = replica.log.end();
                vec![
                    format!("{partition}: {node} became leader of epoch {epoch} without the committed offset {offset}"),
                    format!("its log ended at {end}; committed was up to {must_have}, at {}", seconds(place.at)),
                ]
            });
            // From now on this leader's log is the log: one loss is told once.
            self.committed.truncate(offset);
            for replica in &mut self.replicas {
                replica.verified_to = replica.verified_to.min(offset);
            }
        }
        self.replicas[at].verified_to = self.replicas[at].verified_to.max(must_have.min(self.committed.end()));
        self.budget.leads(place.node, epoch, place.at, &self.believers, ctx.rules(self.id));
    }

    /// `node` leads no longer: it follows, or is down.
    pub(crate) fn stopped_leading(&mut self, node: NodeId) {
        self.believers.retain(|believer| believer.node != node);
    }

    pub(crate) fn isr_committed(&mut self, node: NodeId, isr: &[NodeId]) {
        if let Some(believer) = self.believers.iter_mut().find(|believer| believer.node == node) {
            believer.isr = isr.to_vec();
        }
    }

    /// The process of `node` is gone.
    pub(crate) fn down(&mut self, node: NodeId) {
        self.stopped_leading(node);
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.node == node) {
            replica.settled = false;
        }
    }

    /// `node` may have lost bytes; with `wiped` all of them.
    pub(crate) fn lost(&mut self, node: NodeId, wiped: bool) {
        if let Some(replica) = self.replicas.iter_mut().find(|replica| replica.node == node) {
            replica.lossy = true;
            if wiped {
                replica.log.reset(0);
                replica.verified_to = 0;
            }
        }
    }

    /// Why what was committed may be gone just now.
    fn excuse(&self) -> Option<&'static str> {
        self.budget.open_excuse()
    }

    // ---- the high watermark

    pub(crate) fn high_watermark(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        (epoch, to, log_end): (LeaderEpoch, Offset, Offset),
        role: ReplicaRole,
    ) {
        let at = self.replica(place);
        self.settle(at, log_end);
        self.watermarks += 1;
        let check = self.watermark();
        let own_end = self.replicas[at].log.end();
        if to > log_end || to.0 > own_end {
            let what = format!("high watermark {to}, but its log ends at {}", log_end.0.min(own_end));
            self.find_watermark(out, check, ctx, place, epoch, &what);
        }
        match role {
            ReplicaRole::Leader => self.leader_high_watermark(ctx, out, place, at, epoch, to),
            ReplicaRole::Follower => {
                if to.0 > self.true_high_watermark {
                    let what = format!(
                        "high watermark {to} as follower, but no leader went past {}",
                        self.true_high_watermark
                    );
                    self.find_watermark(out, check, ctx, place, epoch, &what);
                }
                self.verify(ctx, out, place, at, to);
            }
        }
    }

    fn find_watermark(
        &self,
        out: &mut Findings,
        check: &'static CheckInfo,
        ctx: &Context,
        place: Place,
        epoch: LeaderEpoch,
        what: &str,
    ) {
        out.find(check, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(self.id), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} in leader epoch {epoch} at {at}: {what}")]
        });
    }

    fn leader_high_watermark(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        at: usize,
        epoch: LeaderEpoch,
        to: Offset,
    ) {
        let former = self.replicas[at].led_to.filter(|(led, _)| *led == epoch).map(|(_, former)| former);
        if let Some(former) = former {
            let check = if self.is_metadata() { QUORUM_HIGH_WATERMARK } else { HIGH_WATERMARK_MONOTONE };
            out.opportunity(check, 1);
            if to < former {
                self.find_watermark(
                    out,
                    check,
                    ctx,
                    place,
                    epoch,
                    &format!("high watermark from {former} back to {to}"),
                );
            }
        }
        self.replicas[at].led_to = Some((epoch, to));
        if self.is_metadata() {
            self.quorum_high_watermark(ctx, out, place, epoch, to, former.is_none());
        } else if self.excuse().is_none()
            && let Some(believer) = self.believers.iter().find(|b| b.node == place.node && b.epoch == epoch)
        {
            for member in believer.isr.iter().filter(|member| **member != place.node) {
                let Some(replica) = self.replicas.iter().find(|replica| replica.node == *member) else { continue };
                if replica.log.end() < to.0 && !replica.lossy && !self.budget.is_lossy(*member) {
                    let (name, end) = (ctx.node_name(*member), replica.log.end());
                    let what =
                        format!("high watermark {to}, but the log of {name}, a member of its ISR, ends at {end}");
                    self.find_watermark(out, HIGH_WATERMARK, ctx, place, epoch, &what);
                }
            }
        }
        self.true_high_watermark = self.true_high_watermark.max(to.0);
        // While a loss is excused, a deposed leader's own idea of what is committed counts no more.
        let is_newest = self.believers.iter().all(|believer| believer.epoch <= epoch);
        if self.excuse().is_some() && !is_newest {
            return;
        }
        self.verify(ctx, out, place, at, to);
        self.committed.extend_from(&self.replicas[at].log, to.0);
        self.replicas[at].verified_to = self.replicas[at].verified_to.max(to.0);
    }

    fn quorum_high_watermark(
        &self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        epoch: LeaderEpoch,
        to: Offset,
        is_first: bool,
    ) {
        let check = QUORUM_HIGH_WATERMARK;
        if is_first && to.0 < self.true_high_watermark {
            let what = format!("high watermark {to}, but an earlier leader had {}", self.true_high_watermark);
            self.find_watermark(out, check, ctx, place, epoch, &what);
        }
        if let Some(believer) = self.believers.iter().find(|b| b.node == place.node && b.epoch == epoch)
            && to <= believer.start
        {
            let what = format!("high watermark moved to {to}, not past the start {} of the epoch", believer.start);
            self.find_watermark(out, check, ctx, place, epoch, &what);
        }
        if ctx.voters.is_empty() {
            return;
        }
        let has = |voter: &&NodeId| {
            let replica = self.replicas.iter().find(|replica| replica.node == **voter);
            replica.is_some_and(|replica| replica.log.end() >= to.0)
        };
        let holders = ctx.voters.iter().filter(has).count();
        if holders * 2 <= ctx.voters.len() {
            let what = format!("high watermark {to}, but only {holders} of {} voters have it", ctx.voters.len());
            self.find_watermark(out, check, ctx, place, epoch, &what);
        }
    }

    /// W-R12: below its high watermark a log is equal to what is committed.
    fn verify(&mut self, ctx: &Context, out: &mut Findings, place: Place, at: usize, to: Offset) {
        let replica = &self.replicas[at];
        let (from, end) = (replica.verified_to, to.0.min(self.committed.end()));
        if from >= end {
            return;
        }
        let differs = replica.log.first_difference(&self.committed, from, end);
        self.replicas[at].verified_to = end.min(self.replicas[at].log.end());
        if let Some(offset) = differs {
            let epochs = self.replicas[at].log.epoch_at(offset).zip(self.committed.epoch_at(offset));
            self.find_matching(out, ctx, place, offset, || {
                let node = ctx.node_name(place.node);
                let (own, committed) = epochs.unwrap_or((UNKNOWN, UNKNOWN));
                format!(
                    "{node} has offset {offset} of leader epoch {own} below its high watermark {to}; committed there is \
                     leader epoch {committed}"
                )
            });
        }
    }

    fn find_matching(&self, out: &mut Findings, ctx: &Context, place: Place, at: i64, what: impl FnOnce() -> String) {
        let _ = at;
        out.find(self.matching(), ctx, self.excuse(), Some(place.at), || {
            vec![format!("{}: {}", ctx.partition_name(self.id), what()), format!("seen at {}", seconds(place.at))]
        });
    }

    // ---- acknowledgements, and the end

    pub(crate) fn acknowledged(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        (base, last): (Offset, Offset),
        (high_watermark, isr_size): (Offset, u32),
    ) {
        out.opportunity(ACK_RULE, 1);
        let min_isr = ctx.rules(self.id).min_isr.min(ctx.rules(self.id).replication_factor.max(1));
        let wrong = match () {
            () if high_watermark <= last => format!("the high watermark was {high_watermark}"),
            () if self.true_high_watermark <= last.0 => {
                format!("no leader had a high watermark past {}", self.true_high_watermark)
            }
            () if isr_size < min_isr => format!("the ISR had {isr_size} members, min.insync.replicas is {min_isr}"),
            () => return,
        };
        out.find(ACK_RULE, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(self.id), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} acknowledged offsets {base} to {last} with acks=all at {at}"), wrong]
        });
    }

    /// A batch as read from the disk at the end.
    pub(crate) fn on_disk(&mut self, ctx: &Context, out: &mut Findings, node: NodeId, name: Name) {
        let Name { base, last, epoch, crc } = name;
        if self.batches == usize::MAX {
            return;
        }
        self.compared += 1;
        if let Known::Other { base: others, last: to, crc: other } = self.canon.look_up(epoch.0, base.0, last.0, crc) {
            out.find(self.matching(), ctx, self.excuse(), None, || {
                vec![format!(
                    "{}: {} has {base}..={last} of leader epoch {epoch} with CRC {crc:08x} on its disk; that epoch's \
                     batch there was written as {others}..={to} with CRC {other:08x}",
                    ctx.partition_name(self.id),
                    ctx.node_name(node),
                )]
            });
        }
    }

    /// Adds the opportunities of the hot path.
    pub(crate) fn count(&self, out: &mut Findings) {
        out.opportunity(self.matching(), self.compared);
        out.opportunity(self.watermark(), self.watermarks);
        out.opportunity(if self.is_metadata() { QUORUM_LEADER_PER_EPOCH } else { LEADER_PER_EPOCH }, self.led);
    }
}
