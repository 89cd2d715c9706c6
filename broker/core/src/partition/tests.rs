use super::*;
use crate::log::{LeaderEpochCache, ProducerState};
use broker_types::{NodeId, ProducerEpoch, ProducerId, ProducerStamp, TopicIdPartition, Uuid};

const ME: BrokerId = NodeId(1);
const B: BrokerId = NodeId(2);
const C: BrokerId = NodeId(3);

fn ms(at: u64) -> MonoTime {
    MonoTime::from_millis(at)
}

fn plain(count: i32) -> BatchSummary {
    BatchSummary {
        base_offset: Offset::ZERO,
        last_offset_delta: count - 1,
        leader_epoch: None,
        record_count: u32::try_from(count).unwrap(),
        size: 100,
        crc: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer: None,
        is_transactional: false,
        is_control: false,
    }
}

fn from(producer: i64, sequence: i32, count: i32) -> BatchSummary {
    let stamp = ProducerStamp { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: Some(sequence) };
    BatchSummary { producer: Some(stamp), ..plain(count) }
}

fn copied(base: i64, epoch: i32, count: i32) -> BatchSummary {
    BatchSummary { base_offset: Offset(base), leader_epoch: Some(LeaderEpoch(epoch)), ..plain(count) }
}

/// A log of plain records: each epoch with its end.
fn log_of(epochs: &[(i32, i64)]) -> RecoveredLog {
    let mut start = 0;
    let mut entries = Vec::new();
    for (epoch, end) in epochs {
        entries.push((LeaderEpoch(*epoch), Offset(start)));
        start = *end;
    }
    RecoveredLog {
        log_end: Offset(start),
        flushed_end: Offset(start),
        epochs: LeaderEpochCache::from_entries(entries),
        ..RecoveredLog::empty()
    }
}

/// A replica on broker 1 and its test's hands.
struct Lab {
    replica: Replica,
    metadata: PartitionMetadata,
    now: MonoTime,
    next: u64,
    /// Appends are answered at once unless this is set.
    slow_disk: bool,
    last_append: Option<BatchId>,
}

impl Lab {
    fn new(found: RecoveredLog) -> Self {
        let config = ReplicaConfig::new(ME, TopicIdPartition { topic: Uuid(9), partition: 0 });
        Lab {
            replica: Replica::new(config, found, ms(0)),
            metadata: PartitionMetadata {
                leader: Some(ME),
                leader_epoch: LeaderEpoch(1),
                partition_epoch: PartitionEpoch(1),
                isr: [ME, B, C].into(),
                replicas: [ME, B, C].into(),
                eligible: [(ME, BrokerEpoch(10)), (B, BrokerEpoch(20)), (C, BrokerEpoch(30))].into(),
                local_broker_epoch: BrokerEpoch(10),
                topic: TopicConfig { min_insync_replicas: 2, ..TopicConfig::default() },
            },
            now: ms(1),
            next: 0,
            slow_disk: false,
            last_append: None,
        }
    }

    fn leader() -> Self {
        Lab::leader_with(RecoveredLog::empty(), |_| {})
    }

    fn leader_with(found: RecoveredLog, edit: impl FnOnce(&mut PartitionMetadata)) -> Self {
        let mut lab = Lab::new(found);
        edit(&mut lab.metadata);
        lab.tell();
        lab
    }

    fn follower(found: RecoveredLog, epoch: i32) -> Self {
        Lab::leader_with(found, |metadata| {
            metadata.leader = Some(B);
            metadata.leader_epoch = LeaderEpoch(epoch);
        })
    }

    fn tell(&mut self) -> Vec<Output> {
        let metadata = Box::new(self.metadata.clone());
        self.step(Input::Metadata(metadata))
    }

    /// One step and, the disk being quick, the answer to what it appended.
    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.replica.step(self.now, input, &mut out);
        let last = out.iter().rev().find_map(|output| match output {
            Output::Append { batch, .. } => Some(*batch),
            _ => None,
        });
        if let Some(through) = last {
            self.last_append = Some(through);
            if !self.slow_disk {
                self.replica.step(self.now, Input::Appended { through }, &mut out);
            }
        }
        self.replica.check_invariants();
        out
    }

    fn produce(&mut self, summary: BatchSummary, acks: Acks) -> Vec<Output> {
        self.next += 1;
        let produce = Produce {
            request: RequestId(self.next),
            batch: BatchId(self.next),
            summary,
            acks,
            origin: AppendOrigin::Client,
            deadline: self.now + Duration::from_secs(30),
        };
        self.step(Input::Produce(produce))
    }

    fn fetch_of(&self, replica: BrokerId, offset: i64, last_fetched_epoch: i32) -> FollowerFetch {
        let broker_epoch = self.metadata.eligible.iter().find(|(id, _)| *id == replica).map(|(_, epoch)| *epoch);
        FollowerFetch {
            replica,
            broker_epoch,
            offset: Offset(offset),
            last_fetched_epoch: (last_fetched_epoch >= 0).then_some(LeaderEpoch(last_fetched_epoch)),
            current_leader_epoch: Some(self.metadata.leader_epoch),
            log_start: Some(Offset::ZERO),
        }
    }

    fn fetch(&mut self, fetch: FollowerFetch) -> (Result<Read, ErrorCode>, Vec<Output>) {
        let mut out = Vec::new();
        let read = self.replica.follower_fetch(self.now, &fetch, &mut out);
        self.replica.check_invariants();
        (read, out)
    }

    /// `replica` fetches from `offset` in the current epoch, having last read `epoch`.
    fn fetched(&mut self, replica: BrokerId, offset: i64) -> Vec<Output> {
        let epoch = self.replica.log().epochs().epoch_at(Offset(offset - 1)).map_or(-1, |epoch| epoch.0);
        let fetch = self.fetch_of(replica, offset, epoch);
        let (read, out) = self.fetch(fetch);
        assert!(matches!(read, Ok(Read::Records { .. })), "{read:?}");
        out
    }

    fn high_watermark(&self) -> i64 {
        self.replica.log().offsets().high_watermark.0
    }

    fn log_end(&self) -> i64 {
        self.replica.log().offsets().log_end.0
    }

    fn answer(&mut self, asked: FetchPosition, result: FetchResult) -> Vec<Output> {
        self.step(Input::FetchResponse(FetchResponse { asked, result }))
    }

    fn records(&mut self, summaries: &[BatchSummary], high_watermark: i64) -> FetchResult {
        let batches = summaries
            .iter()
            .map(|summary| {
                self.next += 1;
                (BatchId(self.next), *summary)
            })
            .collect();
        FetchResult::Records { batches, high_watermark: Offset(high_watermark), log_start: Offset::ZERO }
    }
}

fn replies(out: &[Output]) -> Vec<(ErrorCode, Option<i64>)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Reply { result, .. } => Some((result.error, result.base_offset.map(|offset| offset.0))),
            _ => None,
        })
        .collect()
}

fn proposals(out: &[Output]) -> Vec<(ProposalId, Vec<i32>)> {
    out.iter()
        .filter_map(|output| match output {
            Output::ProposeIsr { proposal, isr, .. } => Some((*proposal, isr.iter().map(|(id, _)| id.0).collect())),
            _ => None,
        })
        .collect()
}

fn position(out: &[Output]) -> FetchPosition {
    out.iter()
        .rev()
        .find_map(|output| match output {
            Output::FetchFrom { position, .. } => Some(*position),
            _ => None,
        })
        .expect("a fetch")
}

fn ok(base: i64) -> Vec<(ErrorCode, Option<i64>)> {
    vec![(ErrorCode::None, Some(base))]
}

fn refused(error: ErrorCode) -> Vec<(ErrorCode, Option<i64>)> {
    vec![(error, None)]
}

// ---- acknowledgement and high watermark

#[test]
fn a_replica_without_metadata_serves_nobody() {
    let mut lab = Lab::new(log_of(&[(0, 5)]));
    assert_eq!(replies(&lab.produce(plain(1), Acks::Leader)), refused(ErrorCode::NotLeaderOrFollower));
    let consumer = ConsumerFetch {
        offset: Offset(0),
        read_committed: false,
        current_leader_epoch: None,
        last_fetched_epoch: None,
        from_follower: true,
    };
    assert_eq!(lab.replica.consumer_fetch(&consumer), Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(lab.replica.wakeup(), None);
}

#[test]
fn acks_all_waits_for_every_member_of_the_isr() {
    let mut lab = Lab::leader();
    assert_eq!(replies(&lab.produce(plain(3), Acks::All)), []);
    assert_eq!(replies(&lab.fetched(B, 3)), []);
    assert_eq!(lab.high_watermark(), 0);
    let out = lab.fetched(C, 3);
    assert_eq!(replies(&out), ok(0));
    assert_eq!(lab.high_watermark(), 3);
    assert!(matches!(out.last(), Some(Output::Moved { ends, all: false }) if ends.high_watermark == Offset(3)));
}

#[test]
fn acks_one_is_answered_when_the_leader_has_it_and_consumers_do_not_see_it_yet() {
    let mut lab = Lab::leader();
    assert_eq!(replies(&lab.produce(plain(2), Acks::Leader)), ok(0));
    let consumer = ConsumerFetch {
        offset: Offset(0),
        read_committed: false,
        current_leader_epoch: Some(LeaderEpoch(1)),
        last_fetched_epoch: None,
        from_follower: false,
    };
    let read = lab.replica.consumer_fetch(&consumer).unwrap();
    assert!(matches!(read, Read::Records { up_to: Offset(0), .. }), "{read:?}");
}

#[test]
fn nothing_is_answered_or_readable_before_the_append_arrives() {
    let mut lab = Lab::leader();
    lab.slow_disk = true;
    assert_eq!(replies(&lab.produce(plain(2), Acks::Leader)), []);
    assert_eq!(lab.log_end(), 0);
    assert_eq!(replies(&lab.produce(plain(1), Acks::Leader)), []);
    let through = lab.last_append.unwrap();
    let out = lab.step(Input::Appended { through });
    assert_eq!(replies(&out), [(ErrorCode::None, Some(0)), (ErrorCode::None, Some(2))]);
    assert_eq!(lab.log_end(), 3);
}

#[test]
fn with_flush_before_ack_only_what_is_durable_counts_on_a_leader() {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| metadata.topic.flush_before_ack = true);
    let out = lab.produce(plain(2), Acks::Leader);
    assert_eq!(replies(&out), []);
    assert!(out.contains(&Output::Flush { to: Offset(2) }));
    lab.fetched(B, 2);
    lab.fetched(C, 2);
    assert_eq!(lab.high_watermark(), 0);
    assert_eq!(replies(&lab.step(Input::Flushed { to: Offset(2) })), ok(0));
    assert_eq!(lab.high_watermark(), 2);
}

#[test]
fn with_flush_before_ack_a_follower_fetches_on_only_once_durable() {
    let mut lab = Lab::new(RecoveredLog::empty());
    lab.metadata.leader = Some(B);
    lab.metadata.topic.flush_before_ack = true;
    let asked = position(&lab.tell());
    let result = lab.records(&[copied(0, 1, 2)], 0);
    let out = lab.answer(asked, result);
    assert!(out.contains(&Output::Flush { to: Offset(2) }));
    assert!(!out.iter().any(|output| matches!(output, Output::FetchFrom { .. })));
    assert_eq!(position(&lab.step(Input::Flushed { to: Offset(2) })).offset, Offset(2));
}

#[test]
fn too_small_an_isr_refuses_acks_all_before_the_append() {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| metadata.isr = [ME].into());
    let out = lab.produce(plain(1), Acks::All);
    assert_eq!(replies(&out), refused(ErrorCode::NotEnoughReplicas));
    assert!(out.contains(&Output::Discard { batch: BatchId(1) }));
    assert_eq!(lab.log_end(), 0);
}

#[test]
fn the_high_watermark_stands_still_below_min_insync_replicas() {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| metadata.isr = [ME].into());
    assert_eq!(replies(&lab.produce(plain(1), Acks::Leader)), ok(0));
    assert_eq!(lab.high_watermark(), 0);

    let mut older = Lab::new(RecoveredLog::empty());
    older.replica.config.hw_needs_min_isr = false;
    older.metadata.isr = [ME].into();
    older.tell();
    older.produce(plain(1), Acks::Leader);
    assert_eq!(older.high_watermark(), 1);
}

#[test]
fn an_isr_that_shrank_after_the_append_is_admitted_in_the_answer() {
    let mut lab = Lab::new(RecoveredLog::empty());
    lab.replica.config.hw_needs_min_isr = false;
    lab.tell();
    lab.produce(plain(1), Acks::All);
    lab.metadata.isr = [ME].into();
    lab.metadata.eligible = [(ME, BrokerEpoch(10))].into();
    lab.metadata.partition_epoch = PartitionEpoch(2);
    assert_eq!(replies(&lab.tell()), [(ErrorCode::NotEnoughReplicasAfterAppend, Some(0))]);
}

#[test]
fn min_insync_replicas_above_the_replication_factor_counts_as_the_replication_factor() {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| {
        metadata.replicas = [ME].into();
        metadata.isr = [ME].into();
    });
    assert_eq!(replies(&lab.produce(plain(1), Acks::All)), ok(0));
}

#[test]
fn a_request_that_waits_too_long_is_told_so_and_its_records_stay() {
    let mut lab = Lab::leader();
    lab.produce(plain(1), Acks::All);
    lab.now = ms(31_000);
    assert!(lab.replica.wakeup().unwrap() <= lab.now);
    let out = lab.step(Input::Wakeup);
    assert_eq!(replies(&out), [(ErrorCode::RequestTimedOut, Some(0))]);
    assert_eq!(lab.log_end(), 1);
}

#[test]
fn whoever_waits_hears_that_leadership_went() {
    let mut lab = Lab::leader();
    lab.produce(plain(1), Acks::All);
    lab.slow_disk = true;
    lab.produce(plain(1), Acks::Leader);
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let out = lab.tell();
    assert_eq!(replies(&out), refused(ErrorCode::NotLeaderOrFollower).repeat(2));
    assert!(!out.iter().any(|output| matches!(output, Output::FetchFrom { .. })), "an append is still on its way");
    let through = lab.last_append.unwrap();
    let out = lab.step(Input::Appended { through });
    assert_eq!(position(&out).offset, Offset(2));
}

#[test]
fn a_leader_elected_again_answers_what_waited() {
    let mut lab = Lab::leader();
    lab.produce(plain(1), Acks::All);
    lab.metadata.leader_epoch = LeaderEpoch(3);
    assert_eq!(replies(&lab.tell()), []);
    lab.fetched(B, 1);
    assert_eq!(replies(&lab.fetched(C, 1)), ok(0));
}

#[test]
fn a_failed_append_takes_the_replica_offline() {
    let mut lab = Lab::leader();
    lab.produce(plain(1), Acks::All);
    lab.slow_disk = true;
    lab.produce(from(5, 0, 1), Acks::Leader);
    let batch = lab.last_append.unwrap();
    let out = lab.step(Input::AppendFailed { batch });
    assert_eq!(replies(&out), refused(ErrorCode::KafkaStorageError).repeat(2));
    assert!(lab.replica.is_offline());
    assert!(lab.replica.log().producers().is_empty(), "an append that failed left no trace");
    assert_eq!(replies(&lab.produce(plain(1), Acks::Leader)), refused(ErrorCode::KafkaStorageError));
    lab.metadata.leader_epoch = LeaderEpoch(9);
    lab.tell();
    assert!(lab.replica.is_offline());
}

// ---- elections and metadata

#[test]
fn a_new_leader_marks_its_epoch_before_it_writes() {
    let lab = Lab::leader_with(log_of(&[(0, 10)]), |_| {});
    assert_eq!(lab.replica.log().epochs().start_of(LeaderEpoch(1)), Some(Offset(10)));
    let end = lab.replica.offset_for_leader_epoch(LeaderEpoch(0), Some(LeaderEpoch(1))).unwrap().unwrap();
    assert_eq!((end.epoch, end.offset), (LeaderEpoch(0), Offset(10)));
}

#[test]
fn a_new_leader_knows_nothing_of_its_followers_until_they_fetch() {
    let mut lab = Lab::leader();
    lab.produce(plain(2), Acks::Leader);
    lab.fetched(B, 2);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    lab.tell();
    lab.fetched(C, 2);
    assert_eq!(lab.high_watermark(), 0, "what broker 2 had in the last epoch does not count");
    lab.fetched(B, 2);
    assert_eq!(lab.high_watermark(), 2);
}

#[test]
fn a_change_of_the_isr_within_an_epoch_resets_nothing() {
    let mut lab = Lab::leader();
    lab.produce(plain(2), Acks::Leader);
    lab.fetched(B, 2);
    let epochs = lab.replica.log().epochs().clone();
    lab.metadata.isr = [ME, B].into();
    lab.metadata.eligible = [(ME, BrokerEpoch(10)), (B, BrokerEpoch(20))].into();
    lab.metadata.partition_epoch = PartitionEpoch(2);
    lab.tell();
    assert_eq!(lab.high_watermark(), 2, "broker 2's progress is still known, and broker 3 no longer counts");
    assert_eq!(lab.replica.log().epochs(), &epochs);
}

#[test]
fn older_metadata_changes_nothing() {
    let mut lab = Lab::leader();
    lab.metadata.partition_epoch = PartitionEpoch(0);
    lab.metadata.isr = [ME].into();
    lab.tell();
    assert_eq!(lab.replica.isr(), Some(&[ME, B, C][..]));
    lab.metadata.partition_epoch = PartitionEpoch(9);
    lab.metadata.leader_epoch = LeaderEpoch(0);
    lab.metadata.leader = Some(B);
    lab.tell();
    assert_eq!(lab.replica.role(), Some(ReplicaRole::Leader));
}

#[test]
fn the_latest_offset_is_not_available_while_the_high_watermark_lags_behind_the_epoch() {
    let mut lab = Lab::leader_with(log_of(&[(0, 10)]), |_| {});
    let by = ListedBy::Client { read_committed: false };
    assert_eq!(lab.replica.latest_offset(by, None), Err(ErrorCode::OffsetNotAvailable));
    assert_eq!(lab.replica.timestamp_bound(by, None).unwrap().beyond, Some(ErrorCode::OffsetNotAvailable));
    assert_eq!(lab.replica.latest_offset(ListedBy::Replica, None).unwrap().offset, Offset(10));
    lab.fetched(B, 10);
    lab.fetched(C, 10);
    assert_eq!(lab.replica.latest_offset(by, None).unwrap().offset, Offset(10));
    assert_eq!(lab.replica.earliest_offset(None).unwrap().leader_epoch, Some(LeaderEpoch(0)));
}

#[test]
fn requests_of_another_epoch_are_turned_away() {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| metadata.leader_epoch = LeaderEpoch(5));
    for (epoch, error) in [(4, ErrorCode::FencedLeaderEpoch), (6, ErrorCode::UnknownLeaderEpoch)] {
        let epoch = Some(LeaderEpoch(epoch));
        let fetch = FollowerFetch { current_leader_epoch: epoch, ..lab.fetch_of(B, 0, -1) };
        assert_eq!(lab.fetch(fetch).0, Err(error));
        assert_eq!(lab.replica.earliest_offset(epoch), Err(error));
    }
    let stranger = lab.fetch_of(NodeId(9), 0, -1);
    assert_eq!(lab.fetch(stranger).0, Err(ErrorCode::UnknownLeaderEpoch));
}

// ---- what a fetch proves

#[test]
fn a_diverging_fetch_proves_nothing() {
    let mut lab = Lab::leader_with(log_of(&[(0, 10)]), |metadata| metadata.leader_epoch = LeaderEpoch(3));
    lab.produce(plain(10), Acks::All);
    lab.fetched(C, 20);
    // Broker 2 led epoch 1 meanwhile and has 15 records nobody else has.
    let fetch = lab.fetch_of(B, 25, 1);
    let (read, out) = lab.fetch(fetch);
    assert!(matches!(read, Ok(Read::Diverging { epoch: LeaderEpoch(0), end_offset: Offset(10), .. })), "{read:?}");
    assert_eq!(out, []);
    assert_eq!(lab.high_watermark(), 0);
}

#[test]
fn a_fetch_out_of_range_proves_nothing() {
    let mut lab = Lab::leader();
    lab.produce(plain(2), Acks::Leader);
    lab.fetched(C, 2);
    let fetch = lab.fetch_of(B, 3, -1);
    assert_eq!(lab.fetch(fetch).0, Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(lab.high_watermark(), 0);
}

#[test]
fn a_fetch_of_a_former_incarnation_is_turned_away() {
    let mut lab = Lab::leader();
    let fetch = FollowerFetch { broker_epoch: Some(BrokerEpoch(19)), ..lab.fetch_of(B, 0, -1) };
    assert_eq!(lab.fetch(fetch).0, Err(ErrorCode::NotLeaderOrFollower));
}

// ---- ISR

fn leader_alone() -> Lab {
    let mut lab = Lab::leader_with(RecoveredLog::empty(), |metadata| {
        metadata.isr = [ME].into();
        metadata.topic.min_insync_replicas = 1;
    });
    lab.produce(plain(10), Acks::Leader);
    lab
}

#[test]
fn a_follower_that_has_everything_committed_is_proposed_and_counts_at_once() {
    let mut lab = leader_alone();
    assert_eq!(lab.high_watermark(), 10);
    assert_eq!(proposals(&lab.fetched(B, 9)), []);
    let out = lab.fetched(B, 10);
    let (proposal, isr) = proposals(&out)[0].clone();
    assert_eq!(isr, [1, 2]);
    lab.produce(plain(1), Acks::All);
    assert_eq!(lab.high_watermark(), 10, "acks=all already waits for broker 2");
    let committed = CommittedIsr {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(2),
        isr: [ME, B].into(),
    };
    lab.step(Input::AlterPartition(AlterPartitionResponse { proposal, result: Ok(committed) }));
    assert_eq!(lab.replica.isr(), Some(&[ME, B][..]));
    assert_eq!(replies(&lab.fetched(B, 11)), ok(10));
}

#[test]
fn a_follower_below_the_start_of_the_epoch_does_not_join_though_above_the_high_watermark() {
    let found = RecoveredLog { high_watermark: Offset(7), ..log_of(&[(0, 10)]) };
    let mut lab = Lab::leader_with(found, |metadata| metadata.isr = [ME, B].into());
    assert_eq!(lab.high_watermark(), 7);
    assert_eq!(proposals(&lab.fetched(C, 7)), []);
    assert_eq!(proposals(&lab.fetched(C, 10)).len(), 1);
}

#[test]
fn a_caught_up_replica_outside_the_isr_holds_the_high_watermark_until_it_lags() {
    let mut lab = leader_alone();
    lab.fetched(B, 10);
    lab.metadata.partition_epoch = PartitionEpoch(2); // cancels the proposal
    lab.tell();
    lab.produce(plain(1), Acks::All);
    assert_eq!(lab.high_watermark(), 10);
    lab.now = ms(30_500);
    lab.step(Input::Wakeup);
    assert_eq!(lab.high_watermark(), 11);
}

#[test]
fn a_fenced_or_stopping_replica_neither_joins_nor_holds_the_high_watermark() {
    let mut lab = leader_alone();
    lab.metadata.eligible = [(ME, BrokerEpoch(10)), (C, BrokerEpoch(30))].into();
    lab.tell();
    let fetch = FollowerFetch { broker_epoch: Some(BrokerEpoch(20)), ..lab.fetch_of(B, 10, 1) };
    assert_eq!(proposals(&lab.fetch(fetch).1), []);
    lab.produce(plain(1), Acks::Leader);
    assert_eq!(lab.high_watermark(), 11);
}

#[test]
fn a_proposal_names_the_incarnation_that_caught_up() {
    let mut lab = leader_alone();
    let out = lab.fetched(B, 10);
    let Some(Output::ProposeIsr { proposal, isr, .. }) =
        out.iter().find(|output| matches!(output, Output::ProposeIsr { .. }))
    else {
        panic!("{out:?}")
    };
    assert_eq!(isr[..], [(ME, Some(BrokerEpoch(10))), (B, Some(BrokerEpoch(20)))]);
    // Broker 2 comes back empty while the answer is lost: the retry still names the one that had everything.
    lab.metadata.eligible = [(ME, BrokerEpoch(10)), (B, BrokerEpoch(21))].into();
    lab.tell();
    lab.fetched(B, 0);
    let lost = AlterPartitionResponse { proposal: *proposal, result: Err(ErrorCode::RequestTimedOut) };
    lab.step(Input::AlterPartition(lost));
    lab.now = lab.replica.wakeup().unwrap();
    let out = lab.step(Input::Wakeup);
    assert!(
        out.iter().any(|output| matches!(output, Output::ProposeIsr { isr, .. }
            if isr[..] == [(ME, Some(BrokerEpoch(10))), (B, Some(BrokerEpoch(20)))])),
        "{out:?}"
    );
}

#[test]
fn a_refused_proposal_is_taken_back_and_not_repeated_at_once() {
    let mut lab = leader_alone();
    let (proposal, _) = proposals(&lab.fetched(B, 10))[0].clone();
    let refused = AlterPartitionResponse { proposal, result: Err(ErrorCode::IneligibleReplica) };
    lab.step(Input::AlterPartition(refused));
    assert_eq!(lab.replica.isr(), Some(&[ME][..]));
    assert_eq!(proposals(&lab.fetched(B, 10)), []);
    lab.now += Duration::from_millis(50);
    assert_eq!(proposals(&lab.fetched(B, 10)).len(), 1);
}

#[test]
fn two_proposals_are_never_out_at_once_and_newer_metadata_cancels() {
    let mut lab = leader_alone();
    let (first, _) = proposals(&lab.fetched(B, 10))[0].clone();
    lab.metadata.partition_epoch = PartitionEpoch(2);
    lab.tell();
    assert_eq!(proposals(&lab.fetched(B, 10)), [], "the first one is still out");
    let stale = CommittedIsr {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(2),
        isr: [ME, B, C].into(),
    };
    lab.step(Input::AlterPartition(AlterPartitionResponse { proposal: first, result: Ok(stale) }));
    assert_eq!(lab.replica.isr(), Some(&[ME][..]), "its answer no longer decides");
    let (second, _) = proposals(&lab.fetched(B, 10))[0].clone();
    assert_ne!(first, second);
}

#[test]
fn an_answer_with_an_unchanged_partition_epoch_settles_the_proposal() {
    let mut lab = leader_alone();
    let (proposal, _) = proposals(&lab.fetched(B, 10))[0].clone();
    let same = CommittedIsr {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        isr: [ME, B].into(),
    };
    lab.step(Input::AlterPartition(AlterPartitionResponse { proposal, result: Ok(same) }));
    assert_eq!(lab.replica.isr(), Some(&[ME, B][..]));
    assert_eq!(proposals(&lab.fetched(C, 10)).len(), 1, "and the next one may go out");
}

#[test]
fn a_follower_that_lags_too_long_leaves_and_counts_until_it_has() {
    let mut lab = Lab::leader();
    lab.produce(plain(1), Acks::All);
    lab.fetched(B, 1);
    lab.fetched(C, 0);
    lab.now = ms(20_000);
    lab.fetched(B, 1);
    lab.fetched(C, 0);
    assert_eq!(proposals(&lab.step(Input::Wakeup)), []);
    lab.now = ms(36_000);
    let out = lab.step(Input::Wakeup);
    let (proposal, isr) = proposals(&out)[0].clone();
    assert_eq!(isr, [1, 2]);
    assert_eq!(lab.high_watermark(), 0, "broker 3 still counts");
    let committed = CommittedIsr {
        leader: Some(ME),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(2),
        isr: [ME, B].into(),
    };
    lab.step(Input::AlterPartition(AlterPartitionResponse { proposal, result: Ok(committed) }));
    assert_eq!(lab.high_watermark(), 1);
}

#[test]
fn a_follower_always_a_little_behind_a_busy_leader_is_in_sync() {
    let mut lab = Lab::leader();
    for second in 1..60 {
        lab.now = ms(second * 1000);
        lab.produce(plain(1), Acks::Leader);
        // Each fetch asks for what the leader had at the fetch before.
        lab.fetched(B, i64::try_from(second).unwrap() - 1);
        lab.fetched(C, i64::try_from(second).unwrap() - 1);
        assert_eq!(proposals(&lab.step(Input::Wakeup)), [], "second {second}");
    }
}

// ---- idempotent producers

#[test]
fn a_retry_gets_its_old_offset_and_appends_nothing() {
    let mut lab = Lab::leader();
    lab.produce(plain(4), Acks::Leader);
    assert_eq!(replies(&lab.produce(from(7, 0, 2), Acks::Leader)), ok(4));
    for sequence in 1..5 {
        lab.produce(from(7, sequence * 2, 2), Acks::Leader);
    }
    let end = lab.log_end();
    for sequence in 0..5 {
        let out = lab.produce(from(7, sequence * 2, 2), Acks::Leader);
        assert_eq!(replies(&out), ok(4 + i64::from(sequence) * 2));
    }
    assert_eq!(lab.log_end(), end);
    assert_eq!(replies(&lab.produce(from(7, 12, 1), Acks::Leader)), refused(ErrorCode::OutOfOrderSequenceNumber));
}

#[test]
fn a_retry_with_acks_all_waits_until_the_first_one_is_committed() {
    let mut lab = Lab::leader();
    lab.produce(from(7, 0, 2), Acks::All);
    assert_eq!(replies(&lab.produce(from(7, 0, 2), Acks::All)), []);
    lab.fetched(B, 2);
    assert_eq!(replies(&lab.fetched(C, 2)), ok(0).repeat(2));
}

#[test]
fn a_retry_of_what_is_still_on_its_way_to_the_log_is_recognised() {
    let mut lab = Lab::leader();
    lab.slow_disk = true;
    lab.produce(from(7, 0, 2), Acks::Leader);
    let out = lab.produce(from(7, 0, 2), Acks::Leader);
    assert_eq!(replies(&out), []);
    assert!(lab.replica.log().producers().is_empty(), "nothing is published before the append");
    let through = lab.last_append.unwrap();
    assert_eq!(replies(&lab.step(Input::Appended { through })), ok(0).repeat(2));
    assert_eq!(lab.log_end(), 2);
}

#[test]
fn a_follower_learns_the_producers_and_recognises_a_retry_when_it_leads() {
    let mut lab = Lab::follower(RecoveredLog::empty(), 1);
    let asked = position(&{
        lab.metadata.leader_epoch = LeaderEpoch(2);
        lab.tell()
    });
    let copied = BatchSummary { leader_epoch: Some(LeaderEpoch(2)), ..from(7, 0, 2) };
    let result = lab.records(&[copied], 0);
    lab.answer(asked, result);
    lab.metadata.leader = Some(ME);
    lab.metadata.leader_epoch = LeaderEpoch(3);
    lab.tell();
    assert_eq!(replies(&lab.produce(from(7, 0, 2), Acks::Leader)), ok(0));
}

#[test]
fn what_no_log_may_hold_is_refused() {
    let mut lab = Lab::leader();
    let control = BatchSummary { is_control: true, ..plain(1) };
    assert_eq!(replies(&lab.produce(control, Acks::Leader)), refused(ErrorCode::InvalidRecord));
    let miscounted = BatchSummary { record_count: 3, ..plain(2) };
    assert_eq!(replies(&lab.produce(miscounted, Acks::Leader)), refused(ErrorCode::InvalidRecord));
    let large = BatchSummary { size: 2_000_000, ..plain(1) };
    assert_eq!(replies(&lab.produce(large, Acks::Leader)), refused(ErrorCode::MessageTooLarge));
    assert_eq!(lab.log_end(), 0);
}

// ---- follower

#[test]
fn a_new_follower_keeps_its_tail_and_asks_where_its_last_epoch_ended() {
    let mut lab = Lab::new(RecoveredLog { high_watermark: Offset(3), ..log_of(&[(1, 10)]) });
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let out = lab.tell();
    assert!(!out.iter().any(|output| matches!(output, Output::Truncate { .. })));
    let asked = position(&out);
    assert_eq!((asked.offset, asked.last_fetched_epoch), (Offset(10), Some(LeaderEpoch(1))));
}

#[test]
fn follower_truncates_to_the_end_of_the_last_shared_epoch() {
    let mut lab = Lab::follower(log_of(&[(1, 10), (2, 15)]), 4);
    let asked = position(&{
        lab.metadata.leader_epoch = LeaderEpoch(5);
        lab.tell()
    });
    let out = lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(1), end_offset: Offset(8) });
    assert!(out.contains(&Output::Truncate { to: Offset(8) }));
    let asked = position(&out);
    assert_eq!((asked.offset, asked.last_fetched_epoch), (Offset(8), Some(LeaderEpoch(1))));
}

#[test]
fn a_follower_that_lacks_the_leaders_epoch_cuts_its_own_and_asks_again() {
    let mut lab = Lab::follower(log_of(&[(1, 10), (3, 15)]), 4);
    let asked = position(&{
        lab.metadata.leader_epoch = LeaderEpoch(5);
        lab.tell()
    });
    // The leader has 1, 2 and 4: epoch 2, which it names, was never here.
    let out = lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(2), end_offset: Offset(12) });
    assert!(out.contains(&Output::Truncate { to: Offset(10) }));
    assert_eq!(position(&out).last_fetched_epoch, Some(LeaderEpoch(1)));
}

#[test]
fn a_deposed_leader_that_wrote_nothing_drops_its_epoch_and_keeps_its_log() {
    let mut lab = Lab::leader_with(log_of(&[(0, 10)]), |_| {});
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    assert_eq!(asked.last_fetched_epoch, Some(LeaderEpoch(1)));
    let out = lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(0), end_offset: Offset(10) });
    assert!(!out.iter().any(|output| matches!(output, Output::Truncate { .. })));
    assert_eq!((position(&out).offset, position(&out).last_fetched_epoch), (Offset(10), Some(LeaderEpoch(0))));
}

#[test]
fn a_leader_that_calls_us_diverging_for_nothing_is_not_asked_in_a_tight_loop() {
    let mut lab = Lab::follower(log_of(&[(1, 10)]), 1);
    let asked = position(&{
        lab.metadata.leader_epoch = LeaderEpoch(2);
        lab.tell()
    });
    let out = lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(1), end_offset: Offset(10) });
    assert!(matches!(out[..], [.., Output::FetchFrom { delay, .. }, Output::Moved { .. }] if delay > Duration::ZERO));
}

#[test]
fn a_diverging_answer_to_a_replica_that_leads_by_now_cuts_nothing() {
    let mut lab = Lab::follower(log_of(&[(1, 10)]), 1);
    let asked = position(&{
        lab.metadata.leader_epoch = LeaderEpoch(2);
        lab.tell()
    });
    lab.metadata.leader = Some(ME);
    lab.metadata.leader_epoch = LeaderEpoch(3);
    lab.tell();
    assert_eq!(lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(0), end_offset: Offset(0) }), []);
    assert_eq!(lab.log_end(), 10);
}

#[test]
fn an_answer_to_an_earlier_fetch_is_thrown_away() {
    let mut lab = Lab::new(RecoveredLog::empty());
    lab.metadata.leader = Some(B);
    let first = position(&lab.tell());
    let result = lab.records(&[copied(0, 1, 2)], 0);
    lab.answer(first, result);
    assert_eq!(lab.log_end(), 2);
    let again = lab.records(&[copied(0, 1, 2)], 0);
    let out = lab.answer(first, again);
    assert_eq!(out, [Output::Discard { batch: BatchId(2) }]);
}

#[test]
fn a_batch_that_does_not_continue_the_log_is_refused() {
    for wrong in [copied(1, 1, 2), copied(11, 1, 2), copied(10, 3, 2), copied(10, 0, 2), plain(2)] {
        let mut lab = Lab::new(log_of(&[(1, 10)]));
        lab.metadata.leader = Some(B);
        lab.metadata.leader_epoch = LeaderEpoch(2);
        let asked = position(&lab.tell());
        let result = lab.records(&[wrong], 0);
        let out = lab.answer(asked, result);
        assert!(out.contains(&Output::Discard { batch: BatchId(1) }), "{wrong:?}");
        assert_eq!(lab.log_end(), 10, "{wrong:?}");
    }
    let mut lab = Lab::new(log_of(&[(1, 10)]));
    lab.metadata.leader = Some(B);
    lab.metadata.topic.compacted = true;
    let asked = position(&lab.tell());
    let result = lab.records(&[copied(12, 1, 2)], 0);
    lab.answer(asked, result);
    assert_eq!(lab.log_end(), 14, "a compacted log may have gaps");
}

#[test]
fn an_empty_answer_keeps_the_last_fetched_epoch_and_sets_the_high_watermark() {
    let mut lab = Lab::new(log_of(&[(1, 10)]));
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    let result = lab.records(&[], 25);
    let out = lab.answer(asked, result);
    assert_eq!(position(&out).last_fetched_epoch, Some(LeaderEpoch(1)));
    assert_eq!(lab.high_watermark(), 10, "the leader's, as far as the own log goes");
}

#[test]
fn a_follower_behind_the_leaders_log_start_begins_there_with_its_high_watermark() {
    let mut lab = Lab::new(log_of(&[(1, 10)]));
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    let out = lab.answer(asked, FetchResult::Error(ErrorCode::OffsetOutOfRange));
    assert!(out.contains(&Output::AskLeaderOffsets { position: asked }));
    let out = lab.step(Input::LeaderOffsets { asked, result: Ok((Offset(40), Offset(50))) });
    assert!(out.contains(&Output::TruncateFullyAndStartAt { offset: Offset(40) }));
    assert_eq!((lab.high_watermark(), position(&out).offset), (40, Offset(40)));
    assert_eq!(position(&out).last_fetched_epoch, None);
}

#[test]
fn a_follower_out_of_range_for_a_moment_drops_nothing() {
    let mut lab = Lab::new(log_of(&[(1, 10)]));
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    lab.answer(asked, FetchResult::Error(ErrorCode::OffsetOutOfRange));
    let out = lab.step(Input::LeaderOffsets { asked, result: Ok((Offset(0), Offset(8))) });
    assert_eq!((lab.log_end(), position(&out).offset), (10, Offset(10)));
}

#[test]
fn a_log_that_begins_inside_a_batch_takes_the_whole_batch() {
    let mut lab = Lab::new(RecoveredLog { log_start: Offset(5), log_end: Offset(5), ..RecoveredLog::empty() });
    lab.metadata.leader = Some(B);
    let asked = position(&lab.tell());
    let FetchResult::Records { batches, high_watermark, .. } = lab.records(&[copied(3, 1, 4)], 7) else { panic!() };
    let result = FetchResult::Records { batches, high_watermark, log_start: Offset(5) };
    let out = lab.answer(asked, result);
    assert!(out.contains(&Output::TruncateFullyAndStartAt { offset: Offset(3) }));
    assert_eq!(lab.log_end(), 7);
    assert_eq!(lab.replica.log().offsets().log_start, Offset(5));
}

#[test]
fn producers_beyond_a_truncation_come_back_from_disk_before_anything_else() {
    let mut lab = Lab::new(RecoveredLog::empty());
    lab.metadata.leader = Some(B);
    let asked = position(&lab.tell());
    let batches = [
        BatchSummary { leader_epoch: Some(LeaderEpoch(1)), ..from(7, 0, 2) },
        BatchSummary { leader_epoch: Some(LeaderEpoch(1)), base_offset: Offset(2), ..from(7, 2, 2) },
    ];
    let result = lab.records(&batches, 0);
    lab.answer(asked, result);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    let out = lab.answer(asked, FetchResult::Diverging { epoch: LeaderEpoch(1), end_offset: Offset(2) });
    assert!(out.contains(&Output::ReloadProducers { up_to: Offset(2) }));
    assert!(!out.iter().any(|output| matches!(output, Output::FetchFrom { .. })));
    let mut producers = ProducerState::default();
    producers.replay(Offset(0), &batches[0], lab.now);
    let out = lab.step(Input::ProducersReloaded { up_to: Offset(2), producers: Box::new(producers) });
    assert_eq!(position(&out).offset, Offset(2));
    lab.metadata.leader = Some(ME);
    lab.metadata.leader_epoch = LeaderEpoch(3);
    lab.tell();
    assert_eq!(replies(&lab.produce(from(7, 2, 2), Acks::Leader)), ok(2), "the cut batch is new again");
}

#[test]
fn the_log_start_follows_the_leaders_up_to_the_own_high_watermark() {
    let mut lab = Lab::new(log_of(&[(1, 10)]));
    lab.metadata.leader = Some(B);
    lab.metadata.leader_epoch = LeaderEpoch(2);
    let asked = position(&lab.tell());
    let result = FetchResult::Records { batches: vec![], high_watermark: Offset(6), log_start: Offset(8) };
    let out = lab.answer(asked, result);
    assert!(out.contains(&Output::LogStartMoved { to: Offset(6) }));
}

#[test]
fn a_clone_that_takes_the_same_steps_is_equal() {
    let mut lab = Lab::leader();
    lab.produce(from(7, 0, 2), Acks::All);
    let mut twin = lab.replica.clone();
    let fetch = lab.fetch_of(B, 2, 1);
    lab.fetched(B, 2);
    let mut out = Vec::new();
    twin.follower_fetch(lab.now, &fetch, &mut out).unwrap();
    assert_eq!(twin, lab.replica);
}
