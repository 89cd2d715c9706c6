//! All replicas of one partition as they admit what they do, and what follows from that.
//!
//! `committed` is the checker's own knowledge, which no broker has: what any leader ever put below its high watermark,
//! and with it everything that a consumer may have read and acks=all may have acknowledged. It only grows, but for losses
//! that the configuration excuses.

use crate::context::{Context, seconds};
use crate::convergence::ReplicaEnd;
use crate::findings::Findings;
use crate::history::SimTime;
use crate::registry::{
    ACK_RULE, COMMITTED_ON_DISK, COMMITTED_TRUNCATED, CONTROLLER_ANSWER, CheckInfo, HIGH_WATERMARK,
    HIGH_WATERMARK_MONOTONE, LEADER_COMPLETENESS, LEADER_PER_EPOCH, LOG_MATCHING, METADATA_LEADER_COMPLETENESS,
    METADATA_LOG_MATCHING, METADATA_TRUNCATED, QUORUM_HIGH_WATERMARK, QUORUM_LEADER_PER_EPOCH, RECOVERED_LOG,
    TRUNCATION_POINT,
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
    /// Its own high watermark, as it said last in this incarnation.
    high_watermark: i64,
    /// The one that its log was opened with.
    recovered: Offset,
    /// Whom it follows, and in which epoch.
    following: Option<(NodeId, LeaderEpoch)>,
    /// Where its next batch is in the canon.
    hint: usize,
}

/// A broker that believes that it leads.
#[derive(Clone, Debug)]
pub(crate) struct Believer {
    pub(crate) node: NodeId,
    pub(crate) epoch: LeaderEpoch,
    /// The ISR as it knows it to be committed.
    pub(super) isr: Vec<NodeId>,
    /// Those that it proposed to add and that nobody decided on yet: they count already.
    pub(super) joining: Vec<NodeId>,
    /// Where its epoch begins.
    pub(super) start: Offset,
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
                    high_watermark: 0,
                    recovered: Offset(0),
                    following: None,
                    hint: 0,
                });
                self.replicas.len() - 1
            }
        };
        let replica = &mut self.replicas[at];
        if replica.incarnation != incarnation {
            (replica.incarnation, replica.settled, replica.led_to) = (incarnation, false, None);
            (replica.high_watermark, replica.following) = (0, None);
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

    pub(crate) fn loaded(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        (start, end, high_watermark): (Offset, Offset, Offset),
    ) {
        let at = self.replica(place);
        self.check_recovery(ctx, out, place, at, (start, end, high_watermark));
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
        replica.recovered = high_watermark;
    }

    /// W-S10: a process that ends, and even a node that loses power, leaves a log that begins, is committed and ends in
    /// this order; and what was in the page cache of a node that lost none of it is there again.
    fn check_recovery(
        &self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        at: usize,
        (start, end, high_watermark): (Offset, Offset, Offset),
    ) {
        let replica = &self.replicas[at];
        out.opportunity(RECOVERED_LOG, 1);
        let former = replica.log.end();
        let wrong = match () {
            () if start > end => "it begins after its end".to_owned(),
            () if high_watermark > end => format!("its high watermark is {high_watermark}"),
            () if end.0 < former && !replica.lossy => format!("it had ended at {former}, and nothing was lost"),
            () => return,
        };
        out.find(RECOVERED_LOG, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(self.id), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} opened a log from {start} to {end} at {at}"), wrong]
        });
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
        self.check_truncation_point(ctx, out, place, at, to);
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

    /// W-R15, W-K9: a follower cuts only where its leader's log differs from its own, as its leader told it; and a voter
    /// nothing below its own high watermark.
    fn check_truncation_point(&self, ctx: &Context, out: &mut Findings, place: Place, at: usize, to: Offset) {
        let (own, log) = (&self.replicas[at], &self.replicas[at].log);
        if to.0 >= log.end() || to.0 < log.start() {
            return;
        }
        out.opportunity(TRUNCATION_POINT, 1);
        let leads = |believer: &&Believer| own.following == Some((believer.node, believer.epoch));
        let leader = self.believers.iter().find(leads);
        let leader = leader.and_then(|leader| self.replicas.iter().find(|replica| replica.node == leader.node));
        let shared = leader.filter(|leader| !leader.lossy && self.excuse().is_none()).and_then(|leader| {
            let epochs = leader.log.epoch_at(to.0).zip(log.epoch_at(to.0));
            epochs.filter(|(theirs, own)| theirs == own && *own != UNKNOWN).map(|(epoch, _)| (leader.node, epoch))
        });
        let wrong = match shared {
            _ if self.is_metadata() && to.0 < own.high_watermark => {
                format!("its own high watermark was {}", own.high_watermark)
            }
            _ if own.following.is_none() => "it followed nobody who could have told it where".to_owned(),
            Some((leader, epoch)) => {
                format!("its leader {} has offset {to} of leader epoch {epoch} as well", ctx.node_name(leader))
            }
            None => return,
        };
        out.find(TRUNCATION_POINT, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(self.id), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} cut its log from {} back to {to} at {at}", log.end()), wrong]
        });
    }

    /// `place`'s node follows `leader` from now on.
    pub(crate) fn follows(&mut self, place: Place, leader: Option<NodeId>, epoch: LeaderEpoch) {
        let at = self.replica(place);
        self.replicas[at].following = leader.map(|leader| (leader, epoch));
        self.stopped_leading(place.node);
    }

    pub(crate) fn log_start(&mut self, ctx: &Context, out: &mut Findings, place: Place, start: Offset) {
        let at = self.replica(place);
        let led = self.replicas[at].led_to.filter(|_| self.believers.iter().any(|b| b.node == place.node));
        if let Some((epoch, high_watermark)) = led.filter(|(_, high_watermark)| start > *high_watermark) {
            let what = format!("log start {start}, past its high watermark {high_watermark}");
            self.find_watermark(out, self.watermark(), ctx, place, epoch, &what);
        }
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
        self.replicas[at].following = None;
        self.believers.push(Believer { node: place.node, epoch, isr, joining: Vec::new(), start });
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
        self.budget.leads((place.node, epoch, start), place.at, &self.believers, ctx.rules(self.id));
    }

    /// `node` leads no longer: it follows, or is down.
    pub(crate) fn stopped_leading(&mut self, node: NodeId) {
        self.believers.retain(|believer| believer.node != node);
    }

    pub(crate) fn isr_committed(&mut self, node: NodeId, isr: &[NodeId]) {
        if let Some(believer) = self.believers.iter_mut().find(|believer| believer.node == node) {
            believer.isr = isr.to_vec();
            believer.joining.clear();
        }
    }

    /// What `node` holds, for rules that live elsewhere.
    pub(crate) fn log_of(&self, node: NodeId) -> Option<&Runs> {
        let replica = self.replicas.iter().find(|replica| replica.node == node)?;
        (!replica.lossy).then_some(&replica.log)
    }

    /// The highest high watermark that `node` knows to be its own.
    pub(crate) fn high_watermark_of(&self, node: NodeId) -> Offset {
        let replica = self.replicas.iter().find(|replica| replica.node == node);
        replica.map_or(Offset(0), |replica| {
            let led = replica.led_to.map_or(Offset(0), |(_, to)| to);
            led.max(replica.recovered).max(Offset(replica.high_watermark))
        })
    }

    /// The log of `place`'s node begins at `start` at the earliest.
    pub(crate) fn starts_at(&mut self, place: Place, start: Offset) {
        let at = self.replica(place);
        let log = &mut self.replicas[at].log;
        log.set_start(start.0.max(log.start()));
    }

    /// The log of `place`'s node is empty, and goes on at `start`.
    pub(crate) fn begins_anew(&mut self, place: Place, start: Offset) {
        let at = self.replica(place);
        let replica = &mut self.replicas[at];
        replica.log.reset(start.0);
        (replica.settled, replica.lossy, replica.verified_to) = (true, false, start.0);
    }

    /// The last high watermark that `node` set as leader of `epoch`; where the epoch begins if it set none.
    pub(crate) fn led_to(&self, node: NodeId, epoch: LeaderEpoch) -> Option<Offset> {
        let believer = self.believers.iter().find(|believer| (believer.node, believer.epoch) == (node, epoch))?;
        let replica = self.replicas.iter().find(|replica| replica.node == node)?;
        let led = replica.led_to.filter(|(led, _)| *led == epoch).map_or(Offset(0), |(_, to)| to);
        Some(led.max(believer.start))
    }

    /// What is committed, unless some of it may be gone just now.
    pub(crate) fn committed(&self) -> Option<&Runs> {
        self.excuse().is_none().then_some(&self.committed)
    }

    /// `node` wants these, too, in its ISR.
    pub(crate) fn proposes(&mut self, node: NodeId, isr: &[NodeId]) -> Vec<NodeId> {
        let Some(believer) = self.believers.iter_mut().find(|believer| believer.node == node) else {
            return Vec::new();
        };
        believer.joining = isr.iter().filter(|member| !believer.isr.contains(member)).copied().collect();
        believer.joining.clone()
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
        self.replicas[at].high_watermark = to.0;
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
        self.budget.high_watermark(place.node, epoch, to, place.at);
        if self.is_metadata() {
            self.quorum_high_watermark(ctx, out, place, epoch, to, former.is_none());
        } else if self.excuse().is_none() {
            self.check_members(ctx, out, place, at, epoch, (former.unwrap_or_default(), to));
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

    /// W-R7 and W-R9: what is committed is on every member of the ISR, also on those about to join, and the ISR is large
    /// enough.
    fn check_members(
        &self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        at: usize,
        epoch: LeaderEpoch,
        (from, to): (Offset, Offset),
    ) {
        let Some(believer) = self.believers.iter().find(|b| b.node == place.node && b.epoch == epoch) else { return };
        let rules = ctx.rules(self.id);
        let min_isr = rules.min_isr.min(rules.replication_factor.max(1)) as usize;
        if to > from && believer.isr.len() < min_isr {
            let what = format!(
                "high watermark {to}, though the ISR has {} members and min.insync.replicas is {min_isr}",
                believer.isr.len()
            );
            self.find_watermark(out, HIGH_WATERMARK, ctx, place, epoch, &what);
        }
        for member in believer.isr.iter().chain(&believer.joining).filter(|member| **member != place.node) {
            let Some(replica) = self.replicas.iter().find(|replica| replica.node == *member) else { continue };
            if replica.lossy || self.budget.is_lossy(*member) {
                continue;
            }
            let (log, own) = (&replica.log, &self.replicas[at].log);
            if log.end() < to.0 {
                let (name, end) = (ctx.node_name(*member), log.end());
                let what = format!("high watermark {to}, but the log of {name}, a member of its ISR, ends at {end}");
                self.find_watermark(out, HIGH_WATERMARK, ctx, place, epoch, &what);
            } else if let Some(offset) = log.first_difference(own, from.0, to.0) {
                let name = ctx.node_name(*member);
                let what =
                    format!("high watermark {to}, but {name}, a member of its ISR, has another record at {offset}");
                self.find_watermark(out, HIGH_WATERMARK, ctx, place, epoch, &what);
            }
        }
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

    /// W-K16: what the controller answered rests on committed records.
    pub(crate) fn controller_answered(&self, ctx: &Context, out: &mut Findings, place: Place, until: Offset) {
        out.opportunity(CONTROLLER_ANSWER, 1);
        if until.0 > self.true_high_watermark {
            out.find(CONTROLLER_ANSWER, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                vec![
                    format!("{node} answered at {at} what it decided on records up to {until}"),
                    format!("the metadata log was committed up to {}", self.true_high_watermark),
                ]
            });
        }
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

    /// W-R14: some disk has all that is committed.
    pub(crate) fn check_on_disk(&self, ctx: &Context, out: &mut Findings, replicas: &[ReplicaEnd]) {
        let Some(committed) = self.committed().filter(|committed| committed.end() > committed.start()) else { return };
        let read = |replica: &ReplicaEnd| {
            let mut log = Runs::default();
            log.reset(replica.batches.first().map_or(replica.log_start.0, |batch| batch.base.0));
            for batch in &replica.batches {
                log.extend(batch.last.0 + 1, batch.leader_epoch.0);
            }
            log
        };
        let lacks = |replica: &ReplicaEnd| {
            let log = read(replica);
            let differs = log.first_difference(committed, log.start(), committed.end());
            differs.or((log.end() < committed.end()).then_some(log.end()))
        };
        let missing: Vec<Option<i64>> = replicas.iter().map(lacks).collect();
        if missing.is_empty() {
            return;
        }
        out.opportunity(COMMITTED_ON_DISK, 1);
        if missing.iter().all(Option::is_some) {
            out.find(COMMITTED_ON_DISK, ctx, None, None, || {
                let lines = replicas.iter().zip(&missing).map(|(replica, offset)| {
                    format!("{} lacks offset {}", ctx.node_name(replica.node), offset.unwrap_or_default())
                });
                let first = format!("{}: offsets up to {} are committed", ctx.partition_name(self.id), committed.end());
                std::iter::once(first).chain(lines).collect()
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
