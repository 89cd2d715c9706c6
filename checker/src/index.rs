//! A history by partition: who sent what, and which values were seen at which offset.

use crate::context::{Context, ExcuseKind, seconds};
use crate::exactly_once::transactions::{Fate, Transactions};
use crate::groups::members::GroupView;
use crate::history::{
    Acks, Assign, ConfigAsk, History, Op, OpKind, Outcome, Poll, Send, SimTime, TailRead, TopicAsk, ValueId, VoterAsk,
};
use broker_types::{Offset, TopicIdPartition};
use sent::{EMPTY, SendTable};
use std::collections::BTreeMap;

mod sent;

/// One value that somebody saw at one offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) offset: Offset,
    pub(crate) value: ValueId,
    /// The send that was told this offset.
    pub(crate) acked: Option<u32>,
    /// The first poll that returned it here.
    pub(crate) read: Option<u32>,
    /// The last poll that returned it here.
    pub(crate) read_last: Option<u32>,
    /// A final read that returned it here.
    pub(crate) read_finally: Option<u32>,
    /// A read_committed poll returned it here.
    pub(crate) read_committed: bool,
}

/// What concerns one partition. Lists of operations are indexes into the history, in its order.
#[derive(Default)]
pub(crate) struct PartitionView {
    pub(crate) sends: Vec<u32>,
    pub(crate) polls: Vec<u32>,
    pub(crate) tail_reads: Vec<u32>,
    /// By offset, then value.
    pub(crate) seen: Vec<Seen>,
    /// Indexes into `seen`, by value, then offset.
    by_value: Vec<u32>,
    /// Ranges that final reads covered: half open, disjoint, ascending.
    pub(crate) read_finally: Vec<(Offset, Offset)>,
    /// The largest log start that a poll told.
    pub(crate) log_start: Offset,
    /// By key: the highest offset at which it is known. The largest of all where a record of it may lie anywhere.
    last_of_key: BTreeMap<u64, Offset>,
}

impl PartitionView {
    /// Where `value` was seen, by offset.
    pub(crate) fn places(&self, value: ValueId) -> impl Iterator<Item = &Seen> {
        let from = self.by_value.partition_point(|at| self.seen[*at as usize].value < value);
        let places = self.by_value[from..].iter().map(|at| &self.seen[*at as usize]);
        places.take_while(move |seen| seen.value == value)
    }

    /// Each value with its places, by value.
    pub(crate) fn values(&self) -> impl Iterator<Item = (ValueId, Vec<&Seen>)> {
        let same = |a: &u32, b: &u32| self.seen[*a as usize].value == self.seen[*b as usize].value;
        self.by_value.chunk_by(same).filter(|chunk| chunk.len() > 1).map(|chunk| {
            let places: Vec<&Seen> = chunk.iter().map(|at| &self.seen[*at as usize]).collect();
            (places[0].value, places)
        })
    }

    /// What was seen at and after `offset`.
    pub(crate) fn from(&self, offset: Offset) -> &[Seen] {
        &self.seen[self.seen.partition_point(|seen| seen.offset < offset)..]
    }

    /// A final read covered `offset`.
    pub(crate) fn finally_covered(&self, offset: Offset) -> bool {
        let after = self.read_finally.partition_point(|(from, _)| *from <= offset);
        after > 0 && offset < self.read_finally[after - 1].1
    }

    /// The end of what final reads covered.
    pub(crate) fn final_end(&self) -> Option<Offset> {
        self.read_finally.last().map(|(_, end)| *end)
    }
}

/// A history by partition.
pub(crate) struct Index<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) partitions: BTreeMap<TopicIdPartition, PartitionView>,
    pub(crate) transactions: Transactions,
    /// By `group.id`.
    pub(crate) groups: BTreeMap<&'a str, GroupView>,
    /// Sends of records that were made of others, and of those that tell a balance.
    pub(crate) sourced: Vec<u32>,
    pub(crate) balances: Vec<u32>,
    /// By name.
    pub(crate) topics: BTreeMap<&'a str, Vec<u32>>,
    /// Requests about the quorum's voters, and for producer ids.
    pub(crate) voters: Vec<u32>,
    pub(crate) producers: Vec<u32>,
    /// Brokers' answers about the metadata.
    pub(crate) metadata: Vec<u32>,
    /// By resource and key.
    pub(crate) configs: BTreeMap<(&'a str, &'a str), Vec<u32>>,
    sent: SendTable,
}

impl<'a> Index<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let ops = history.ops.as_slice();
        assert!(u32::try_from(ops.len()).is_ok_and(|count| count < EMPTY), "a history of 4 billion operations");
        let transactions = Transactions::new(ops);
        let mut index = Index {
            ops,
            partitions: BTreeMap::new(),
            transactions,
            groups: BTreeMap::new(),
            sourced: Vec::new(),
            balances: Vec::new(),
            topics: BTreeMap::new(),
            voters: Vec::new(),
            producers: Vec::new(),
            metadata: Vec::new(),
            configs: BTreeMap::new(),
            sent: SendTable::new(ops.len()),
        };
        for (at, op) in ops.iter().enumerate() {
            let at = at as u32;
            match &op.kind {
                OpKind::Send(send) => {
                    index.partitions.entry(send.partition).or_default().sends.push(at);
                    index.sent.insert(ops, send.value, at);
                    index.sourced.extend(send.source.is_some().then_some(at));
                    index.balances.extend(send.balance.is_some().then_some(at));
                }
                OpKind::Poll(poll) => index.partitions.entry(poll.partition).or_default().polls.push(at),
                OpKind::TailRead(read) => index.partitions.entry(read.partition).or_default().tail_reads.push(at),
                OpKind::CommitOffsets(commit) => {
                    index.groups.entry(&commit.group).or_default().committed(at, op.session);
                }
                OpKind::FetchOffsets(fetch) => index.groups.entry(&fetch.group).or_default().fetches.push(at),
                OpKind::Assign(assign) => index.groups.entry(&assign.group).or_default().assigned(at, op.session),
                OpKind::Topic(request) => index.topics.entry(&request.name).or_default().push(at),
                OpKind::Voters(_) => index.voters.push(at),
                OpKind::InitProducer(_) | OpKind::ProducerId(_) => index.producers.push(at),
                OpKind::Metadata(_) => index.metadata.push(at),
                OpKind::Config(request) => {
                    index.configs.entry((&request.resource, &request.key)).or_default().push(at);
                }
                OpKind::Begin | OpKind::EndTransaction(_) => {}
            }
        }
        for view in index.partitions.values_mut() {
            fill(ops, view);
            keys(ops, &index.transactions, view);
        }
        index
    }

    /// Where a record lies that was acknowledged, and whose transaction, if it is in one, has committed.
    pub(crate) fn acknowledged(&self, at: u32) -> Option<Offset> {
        let (op, send) = self.send(at);
        let counts = self.transactions.of(at).is_none_or(|transaction| transaction.fate == Fate::Committed);
        send.offset.filter(|_| op.outcome == Outcome::Ok && counts)
    }

    /// Compaction may have taken `value` from `offset`: a later record of its key may be there, or its transaction may not
    /// have committed, or it only deletes its key. Nobody knows this of a record without a known key.
    pub(crate) fn may_be_compacted(
        &self,
        ctx: &Context,
        partition: TopicIdPartition,
        value: ValueId,
        offset: Offset,
    ) -> bool {
        if !ctx.rules(partition).compacted {
            return false;
        }
        let Some((at, _, send)) = self.sender(partition, value) else { return false };
        let counts = self.transactions.of(at).is_none_or(|transaction| transaction.fate == Fate::Committed);
        let last = |key: u64| self.partitions.get(&partition).and_then(|view| view.last_of_key.get(&key));
        !counts || send.is_tombstone || send.key.is_none_or(|key| last(key).is_some_and(|last| *last > offset))
    }

    pub(crate) fn op(&self, at: u32) -> &'a Op {
        &self.ops[at as usize]
    }

    pub(crate) fn send(&self, at: u32) -> (&'a Op, &'a Send) {
        let op = self.op(at);
        match &op.kind {
            OpKind::Send(send) => (op, send),
            _ => unreachable!("operation {} is listed as a send", op.id.0),
        }
    }

    pub(crate) fn poll(&self, at: u32) -> (&'a Op, &'a Poll) {
        let op = self.op(at);
        match &op.kind {
            OpKind::Poll(poll) => (op, poll),
            _ => unreachable!("operation {} is listed as a poll", op.id.0),
        }
    }

    pub(crate) fn tail_read(&self, at: u32) -> (&'a Op, &'a TailRead) {
        let op = self.op(at);
        match &op.kind {
            OpKind::TailRead(read) => (op, read),
            _ => unreachable!("operation {} is listed as a tail read", op.id.0),
        }
    }

    /// The send of `value` to `partition`.
    pub(crate) fn sender(&self, partition: TopicIdPartition, value: ValueId) -> Option<(u32, &'a Op, &'a Send)> {
        let at = self.sent.find(self.ops, value)?;
        let (op, send) = self.send(at);
        (send.partition == partition).then_some((at, op, send))
    }
}

fn fill(ops: &[Op], view: &mut PartitionView) {
    let blank = |offset, value| Seen {
        offset,
        value,
        acked: None,
        read: None,
        read_last: None,
        read_finally: None,
        read_committed: false,
    };
    let mut entries: Vec<(Offset, ValueId, u32)> = Vec::new();
    for at in &view.sends {
        let op = &ops[*at as usize];
        if let (OpKind::Send(send), Outcome::Ok) = (&op.kind, op.outcome)
            && let Some(offset) = send.offset
        {
            entries.push((offset, send.value, *at));
        }
    }
    for at in &view.polls {
        let OpKind::Poll(poll) = &ops[*at as usize].kind else { continue };
        if poll.is_final && poll.next_position > poll.position {
            view.read_finally.push((poll.position, poll.next_position));
        }
        view.log_start = view.log_start.max(poll.log_start.unwrap_or_default());
        entries.extend(poll.records.iter().filter_map(|read| Some((read.offset, read.value?, *at))));
    }
    entries.sort_unstable();
    for (offset, value, at) in entries {
        if view.seen.last().is_none_or(|last| (last.offset, last.value) != (offset, value)) {
            view.seen.push(blank(offset, value));
        }
        let seen = view.seen.last_mut().expect("just pushed");
        match &ops[at as usize].kind {
            OpKind::Send(_) => seen.acked = Some(at),
            OpKind::Poll(poll) => {
                seen.read.get_or_insert(at);
                seen.read_last = Some(at);
                if poll.is_final {
                    seen.read_finally = Some(at);
                }
                seen.read_committed |= poll.isolation == crate::history::Isolation::ReadCommitted;
            }
            _ => {}
        }
    }
    view.by_value = (0..view.seen.len() as u32).collect();
    let seen = &view.seen;
    view.by_value.sort_unstable_by_key(|at| (seen[*at as usize].value, *at));
    view.read_finally.sort_unstable();
    let mut merged: Vec<(Offset, Offset)> = Vec::new();
    for (from, end) in view.read_finally.drain(..) {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((from, end)),
        }
    }
    view.read_finally = merged;
}

/// What is last of each key.
fn keys(ops: &[Op], transactions: &Transactions, view: &mut PartitionView) {
    let mut last_of_key: BTreeMap<u64, Offset> = BTreeMap::new();
    for at in &view.sends {
        let op = &ops[*at as usize];
        let OpKind::Send(Send { key: Some(key), value, .. }) = &op.kind else { continue };
        let is_aborted = transactions.of(*at).is_some_and(|transaction| transaction.fate == Fate::Aborted);
        if op.outcome == Outcome::Fail || is_aborted {
            continue;
        }
        let anywhere = Offset(i64::MAX);
        let place = view.places(*value).map(|seen| seen.offset).max().unwrap_or(anywhere);
        let last = last_of_key.entry(*key).or_insert(place);
        *last = (*last).max(place);
    }
    view.last_of_key = last_of_key;
}

/// Why a record of `partition` that was sent or read by an operation invoked at `at`, and is as durable as `acks` asked,
/// may be gone.
pub(crate) fn excuse(ctx: &Context, partition: TopicIdPartition, acks: Acks, at: SimTime) -> Option<&'static str> {
    if acks == Acks::None {
        return Some("acks-0");
    }
    let rules = ctx.rules(partition);
    let Some(all) = &ctx.excuses else {
        let mut lost: Vec<_> = ctx.losses.iter().filter(|loss| loss.at >= at).map(|loss| loss.node).collect();
        lost.sort_unstable();
        lost.dedup();
        let beyond = lost.len() >= rules.min_isr as usize;
        return match acks {
            _ if rules.unclean_election => Some("unclean-election"),
            _ if beyond => Some("loss-beyond-budget"),
            Acks::Leader => Some("acks-1"),
            _ => None,
        };
    };
    let covering = all.get(&partition).into_iter().flatten().filter(|excuse| excuse.until.is_none_or(|end| end >= at));
    let reasons = covering.filter_map(|excuse| match excuse.kind {
        ExcuseKind::LeaderPowerLoss if acks == Acks::Leader => Some((0, "acks-1-power-loss")),
        ExcuseKind::LeaderChange if acks == Acks::Leader => Some((1, "acks-1-leader-change")),
        ExcuseKind::UncleanElection if rules.unclean_election => Some((2, "unclean-election")),
        ExcuseKind::LossBeyondBudget => Some((3, "loss-beyond-budget")),
        _ => None,
    });
    reasons.min().map(|(_, reason)| reason)
}

/// Why a leader may not have known of what was acknowledged before, when asked from `invoked` to `returned`: it was deposed and
/// had not heard of it.
pub(crate) fn stale_leader(
    ctx: &Context,
    partition: TopicIdPartition,
    invoked: SimTime,
    returned: SimTime,
) -> Option<&'static str> {
    let deposed = |kind| kind != ExcuseKind::HighWatermarkRecovering;
    match &ctx.excuses {
        Some(_) => lasts(ctx, partition, deposed, invoked, returned).then_some("stale-leader"),
        None => Some("stale-leader-possible"),
    }
}

/// Why a leader's high watermark may not have covered what was acknowledged before, when asked from `invoked` to `returned`: it
/// was deposed, or had taken over and its own high watermark had not reached the start of its epoch. What a predecessor
/// acknowledged, also after it was deposed and before it heard of it, its whole ISR has: it is below that start.
pub(crate) fn stale_high_watermark(
    ctx: &Context,
    partition: TopicIdPartition,
    invoked: SimTime,
    returned: SimTime,
) -> Option<&'static str> {
    let recovering = |kind| kind == ExcuseKind::HighWatermarkRecovering;
    stale_leader(ctx, partition, invoked, returned)
        .or_else(|| lasts(ctx, partition, recovering, invoked, returned).then_some("high-watermark-recovering"))
}

/// Whether an excuse of this kind lasted at some time from `invoked` to `returned`.
fn lasts(
    ctx: &Context,
    partition: TopicIdPartition,
    kind: impl Fn(ExcuseKind) -> bool,
    invoked: SimTime,
    returned: SimTime,
) -> bool {
    let all = ctx.excuses.iter().filter_map(|all| all.get(&partition)).flatten();
    let mut lasting = all.filter(|excuse| excuse.at <= returned && excuse.until.is_none_or(|end| end >= invoked));
    lasting.any(|excuse| kind(excuse.kind))
}

// ---- evidence

impl Index<'_> {
    /// Any operation, in one line.
    pub(crate) fn tell(&self, ctx: &Context, at: u32) -> String {
        match &self.op(at).kind {
            OpKind::Send(_) => self.tell_send(ctx, at),
            OpKind::Poll(_) => self.tell_poll(ctx, at),
            kind @ (OpKind::InitProducer(_)
            | OpKind::Begin
            | OpKind::EndTransaction(_)
            | OpKind::CommitOffsets(_)
            | OpKind::FetchOffsets(_)
            | OpKind::Assign(_)
            | OpKind::Topic(_)
            | OpKind::Voters(_)
            | OpKind::ProducerId(_)
            | OpKind::Config(_)) => self.tell_other(ctx, at, kind),
            // All that it told would be a page; who accuses it says of which partition.
            OpKind::Metadata(read) => {
                let op = self.op(at);
                let (who, broker) = (op.session.0, ctx.node_name(read.broker));
                let returned = op.returned.map_or("never".to_owned(), seconds);
                format!("session {who} asked {broker} for the metadata at {}..{returned}", seconds(op.invoked))
            }
            OpKind::TailRead(read) => {
                let op = self.op(at);
                format!(
                    "{}: session {} asked {} for the end of the log at {}..{} and was told {}",
                    ctx.partition_name(read.partition),
                    op.session.0,
                    ctx.node_name(read.broker),
                    seconds(op.invoked),
                    op.returned.map_or("never".to_owned(), seconds),
                    read.end,
                )
            }
        }
    }

    /// What a session did about its transactions, its group's offsets, or the cluster.
    fn tell_other(&self, ctx: &Context, at: u32, kind: &OpKind) -> String {
        let op = self.op(at);
        let offset = |(partition, offset): (TopicIdPartition, Option<Offset>)| {
            let offset = offset.map_or("nothing".to_owned(), |offset| offset.to_string());
            format!("{} {offset}", ctx.partition_name(partition))
        };
        let (what, error) = match kind {
            OpKind::InitProducer(init) => {
                let told = init.producer.map_or(String::new(), |(id, epoch)| format!(" and got {id} epoch {epoch}"));
                (format!("became producer of {}{told}", init.transactional_id), init.error.as_deref())
            }
            OpKind::EndTransaction(end) if end.commit => ("committed its transaction".to_owned(), end.error.as_deref()),
            OpKind::EndTransaction(end) => ("aborted its transaction".to_owned(), end.error.as_deref()),
            OpKind::CommitOffsets(commit) => {
                let told: Vec<String> = commit.offsets.iter().map(|(at, to)| offset((*at, Some(*to)))).collect();
                let generation = commit.generation.map_or(String::new(), |number| format!(" in generation {number}"));
                let what = format!("committed for group {}{generation}: {}", commit.group, told.join(", "));
                (what, commit.error.as_deref())
            }
            OpKind::FetchOffsets(fetch) => {
                let told: Vec<String> = fetch.offsets.iter().copied().map(offset).collect();
                (format!("was told of group {}: {}", fetch.group, told.join(", ")), None)
            }
            OpKind::Assign(Assign { group, generation, partitions, instance, .. }) => {
                let held: Vec<String> = partitions.iter().map(|at| ctx.partition_name(*at)).collect();
                let held = if held.is_empty() { "nothing".to_owned() } else { held.join(", ") };
                let who = instance.as_ref().map_or(String::new(), |instance| format!(" as instance {instance}"));
                (format!("was assigned for group {group} in generation {generation}{who}: {held}"), None)
            }
            OpKind::Topic(request) => {
                let what = match request.ask {
                    TopicAsk::Create(partitions) => format!("asked for {partitions} partitions of a new topic"),
                    TopicAsk::Delete => "asked for the end of topic".to_owned(),
                    TopicAsk::CreatePartitions(partitions) => format!("asked for {partitions} partitions of topic"),
                    TopicAsk::Describe => "asked for the partitions of topic".to_owned(),
                    TopicAsk::ValidateCreate => "asked whether it could create topic".to_owned(),
                    TopicAsk::ValidatePartitions(partitions) => {
                        format!("asked for fewer than {partitions} partitions of topic")
                    }
                };
                let told = request.told.map_or(String::new(), |told| format!(" and was told {told}"));
                (format!("{what} {}{told}", request.name), request.error.as_deref())
            }
            OpKind::Voters(request) => {
                let what = match request.ask {
                    VoterAsk::Add(node) => format!("asked to add voter {node}"),
                    VoterAsk::Remove(node) => format!("asked to remove voter {node}"),
                    VoterAsk::Describe => format!("was told the voters: {}", ctx.node_names(&request.told)),
                };
                (what, request.error.as_deref())
            }
            OpKind::ProducerId(request) => {
                let told = request.producer.map_or("nothing".to_owned(), |id| format!("producer id {id}"));
                (format!("asked for a producer id and got {told}"), request.error.as_deref())
            }
            OpKind::Config(request) => {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "its default".to_owned());
                let what = match &request.ask {
                    ConfigAsk::Set(to) => format!("set {} of {} to {}", request.key, request.resource, value(to)),
                    ConfigAsk::Describe(broker) => {
                        let told = request.told.as_deref().unwrap_or("nothing");
                        format!(
                            "was told by {} that {} of {} is {told}",
                            ctx.node_name(*broker),
                            request.key,
                            request.resource
                        )
                    }
                };
                (what, request.error.as_deref())
            }
            _ => ("began a transaction".to_owned(), None),
        };
        let came = match op.outcome {
            Outcome::Ok => "",
            Outcome::Fail => ", refused",
            Outcome::Unknown => ", without a known outcome",
        };
        let error = error.map_or(String::new(), |error| format!(" ({error})"));
        let returned = op.returned.map_or("never".to_owned(), seconds);
        format!("session {} {what} at {}..{returned}{came}{error}", op.session.0, seconds(op.invoked))
    }

    /// Who sent a value, when, how, and what came of it.
    pub(crate) fn tell_send(&self, ctx: &Context, at: u32) -> String {
        let (op, send) = self.send(at);
        let acks = match send.acks {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        };
        let idempotent = if send.idempotent { ", idempotent" } else { "" };
        let came = match (op.outcome, op.returned) {
            (Outcome::Ok, Some(at)) => match send.offset {
                Some(offset) => format!("acknowledged at {} with offset {offset}", seconds(at)),
                None => format!("done at {} without an offset", seconds(at)),
            },
            (Outcome::Ok, None) => "acknowledged".to_owned(),
            (outcome, returned) => {
                let word = if outcome == Outcome::Fail { "refused" } else { "without a known outcome" };
                let error = send.error.as_deref().map_or(String::new(), |error| format!(" ({error})"));
                let when = returned.map_or("; it never returned".to_owned(), |at| format!(" at {}", seconds(at)));
                format!("{word}{error}{when}")
            }
        };
        format!(
            "{}: value {} sent by session {} at {} with acks={acks}{idempotent}, {came}",
            ctx.partition_name(send.partition),
            send.value.0,
            op.session.0,
            seconds(op.invoked),
        )
    }

    /// Who polled, when, whom, and how far.
    pub(crate) fn tell_poll(&self, ctx: &Context, at: u32) -> String {
        let (op, poll) = self.poll(at);
        let kind = if poll.is_final { "final read" } else { "poll" };
        let bound = |name: &str, offset: Option<Offset>| offset.map_or(String::new(), |at| format!(", {name} {at}"));
        format!(
            "{}: {kind} of session {} from {} at {}..{} went from offset {} to {}, {} records{}{}",
            ctx.partition_name(poll.partition),
            op.session.0,
            ctx.node_name(poll.broker),
            seconds(op.invoked),
            op.returned.map_or("never".to_owned(), seconds),
            poll.position,
            poll.next_position,
            poll.records.len(),
            bound("high watermark", poll.high_watermark),
            bound("last stable offset", poll.last_stable),
        )
    }

    /// One value at one offset, and how that is known.
    pub(crate) fn tell_seen(&self, ctx: &Context, partition: TopicIdPartition, seen: &Seen) -> Vec<String> {
        let mut lines =
            vec![format!("{}: offset {}: value {}", ctx.partition_name(partition), seen.offset, seen.value.0)];
        match self.sender(partition, seen.value) {
            Some((at, ..)) => lines.push(self.tell_send(ctx, at)),
            None => lines.push(format!("value {} was never sent there", seen.value.0)),
        }
        let reader = seen.read_finally.or(seen.read);
        lines.extend(reader.map(|at| self.tell_poll(ctx, at)));
        lines
    }
}
