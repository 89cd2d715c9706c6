use super::*;
use crate::messages::{Response, TopicName as WireTopicName, encode_response, fetch_response as wire};
use broker_types::{NodeId, Uuid};
use bytes::Bytes;
use proptest::prelude::*;

/// The same response in the codec's structs.
fn in_codec_structs(response: &FetchResponse<Bytes>) -> Response {
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(partition_in_codec_structs);
        wire::FetchableTopicResponse::default()
            .with_topic(WireTopicName(convert::text(topic.name.as_str())))
            .with_topic_id(convert::to_uuid(topic.id))
            .with_partitions(partitions.collect())
    });
    let endpoints = response.node_endpoints.iter().map(|endpoint| {
        wire::NodeEndpoint::default()
            .with_node_id(convert::to_broker_id(Some(endpoint.id)))
            .with_host(endpoint.host.clone())
            .with_port(endpoint.port)
            .with_rack(endpoint.rack.clone())
    });
    Response::Fetch(
        wire::FetchResponse::default()
            .with_throttle_time_ms(response.throttle_time_ms)
            .with_error_code(response.error.code())
            .with_session_id(response.session_id)
            .with_responses(topics.collect())
            .with_node_endpoints(endpoints.collect()),
    )
}

fn partition_in_codec_structs(partition: &FetchedPartition<Bytes>) -> wire::PartitionData {
    let mut out = wire::PartitionData::default()
        .with_partition_index(partition.index)
        .with_error_code(partition.error.code())
        .with_high_watermark(convert::to_offset(partition.high_watermark))
        .with_last_stable_offset(convert::to_offset(partition.last_stable_offset))
        .with_log_start_offset(convert::to_offset(partition.log_start))
        .with_preferred_read_replica(convert::to_broker_id(partition.preferred_read_replica))
        .with_current_leader(
            wire::LeaderIdAndEpoch::default()
                .with_leader_id(convert::to_broker_id(partition.current_leader.id))
                .with_leader_epoch(convert::to_leader_epoch(partition.current_leader.epoch)),
        )
        .with_records(Some(partition.records.as_ref().map_or(Bytes::new(), |records| records.slot.clone())));
    if let Some(diverging) = partition.diverging {
        out.diverging_epoch =
            wire::EpochEndOffset::default().with_epoch(diverging.epoch.0).with_end_offset(diverging.end_offset.0);
    }
    if let Some(snapshot) = partition.snapshot {
        out.snapshot_id = wire::SnapshotId::default().with_end_offset(snapshot.offset.0).with_epoch(snapshot.epoch.0);
    }
    out.with_aborted_transactions(partition.aborted_transactions.as_ref().map(|aborted| {
        let transaction = |transaction: &AbortedTransaction| {
            wire::AbortedTransaction::default()
                .with_producer_id(transaction.producer_id.0.into())
                .with_first_offset(transaction.first_offset.0)
        };
        aborted.iter().map(transaction).collect()
    }))
}

fn joined(segments: &[Segment<Bytes>]) -> Vec<u8> {
    segments
        .iter()
        .flat_map(|segment| match segment {
            Segment::Bytes(bytes) | Segment::Records(bytes) => bytes.to_vec(),
        })
        .collect()
}

prop_compose! {
    fn any_offset()(offset in prop::option::of(0..i64::MAX)) -> Option<Offset> {
        offset.map(Offset)
    }
}

prop_compose! {
    fn any_partition()(
        (index, error) in (0..9000i32, prop::sample::select(vec![ErrorCode::None, ErrorCode::OffsetOutOfRange])),
        (high_watermark, last_stable_offset, log_start) in (any_offset(), any_offset(), any_offset()),
        diverging in prop::option::of((0..i32::MAX, 0..i64::MAX)),
        leader in (prop::option::of(0..i32::MAX), prop::option::of(0..i32::MAX)),
        snapshot in prop::option::of((0..i64::MAX, 0..i32::MAX)),
        aborted in prop::option::of(prop::collection::vec((0..i64::MAX, 0..i64::MAX), 0..200)),
        preferred in prop::option::of(0..i32::MAX),
        records in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) -> FetchedPartition<Bytes> {
        FetchedPartition {
            index, error, high_watermark, last_stable_offset, log_start,
            diverging: diverging
                .map(|(epoch, end)| DivergingEpoch { epoch: LeaderEpoch(epoch), end_offset: Offset(end) }),
            current_leader: CurrentLeader { id: leader.0.map(NodeId), epoch: leader.1.map(LeaderEpoch) },
            snapshot: snapshot
                .map(|(offset, epoch)| OffsetAndEpoch { offset: Offset(offset), epoch: LeaderEpoch(epoch) }),
            aborted_transactions: aborted.map(|all| all.into_iter().map(|(id, first)| AbortedTransaction {
                producer_id: ProducerId(id), first_offset: Offset(first),
            }).collect()),
            preferred_read_replica: preferred.map(NodeId),
            records: records.map(|bytes| Records { size: bytes.len(), slot: bytes.into() }),
        }
    }
}

prop_compose! {
    fn any_topic()(
        name in "[a-z]{0,300}", id: u128, partitions in prop::collection::vec(any_partition(), 0..4),
    ) -> FetchedTopic<Bytes> {
        FetchedTopic { name: TopicName::from(name.as_str()), id: Uuid(id), partitions }
    }
}

prop_compose! {
    fn any_endpoint()(id in 0..i32::MAX, host in "[a-z.]{0,200}", port: i32, rack in prop::option::of("[a-z]{0,9}"))
        -> NodeEndpoint {
        NodeEndpoint { id: NodeId(id), host: host.into(), port, rack: rack.map(StrBytes::from_string) }
    }
}

prop_compose! {
    fn any_response()(
        throttle_time_ms: i32, session_id: i32,
        error in prop::sample::select(vec![ErrorCode::None, ErrorCode::FetchSessionIdNotFound]),
        topics in prop::collection::vec(any_topic(), 0..4),
        node_endpoints in prop::collection::vec(any_endpoint(), 0..3),
    ) -> FetchResponse<Bytes> {
        FetchResponse { throttle_time_ms, error, session_id, topics, node_endpoints }
    }
}

/// Takes away what `version` cannot say.
fn fit(mut response: FetchResponse<Bytes>, version: i16) -> FetchResponse<Bytes> {
    if version < 7 {
        response.session_id = 0;
    }
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 12 {
            partition.diverging = None;
            partition.snapshot = None;
        }
        if version < 11 {
            partition.preferred_read_replica = None;
        }
    }
    response
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_segments_joined_are_the_codecs_bytes_in_every_version(response in any_response(), id: i32) {
        for version in 4..=18 {
            let response = fit(response.clone(), version);
            let theirs = encode_response(version, id, &in_codec_structs(&response)).unwrap();
            let ours = encode(version, id, response).unwrap();
            prop_assert_eq!(joined(&ours), theirs.to_vec(), "version {}", version);
        }
    }

    #[test]
    fn what_a_version_cannot_say_is_refused_exactly_when_the_codec_refuses_it(response in any_response()) {
        for version in 4..=18 {
            let mut response = response.clone();
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                (partition.diverging, partition.snapshot) = (None, None);
            }
            let theirs = encode_response(version, 1, &in_codec_structs(&response));
            let ours = encode(version, 1, response);
            prop_assert_eq!(ours.is_err(), theirs.is_err(), "version {}: {:?}", version, theirs);
        }
    }

    #[test]
    fn the_buffer_is_allocated_once(response in any_response()) {
        let room = estimate(&response);
        let segments = encode(18, 1, response).unwrap();
        let written: usize = segments.iter().map(|segment| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::Records(_) => 0,
        }).sum();
        prop_assert!(written <= room, "{} > {}", written, room);
    }
}

#[test]
fn a_diverging_epoch_or_a_snapshot_is_never_left_out() {
    let diverging = DivergingEpoch { epoch: LeaderEpoch(3), end_offset: Offset(9) };
    let snapshot = OffsetAndEpoch { offset: Offset(9), epoch: LeaderEpoch(3) };
    for (diverging, snapshot) in [(Some(diverging), None), (None, Some(snapshot))] {
        let partition = FetchedPartition { diverging, snapshot, ..FetchedPartition::<()>::failed(0, ErrorCode::None) };
        for version in 4..=18 {
            let written = encode(version, 1, of_one(partition.clone()));
            assert_eq!(written.is_ok(), version >= 12, "version {version}");
        }
    }
}

/// A response of one partition of topic `orders`.
fn of_one<S>(partition: FetchedPartition<S>) -> FetchResponse<S> {
    FetchResponse {
        throttle_time_ms: 0,
        error: ErrorCode::None,
        session_id: 0,
        topics: vec![FetchedTopic { name: "orders".into(), id: Uuid(9), partitions: vec![partition] }],
        node_endpoints: Vec::new(),
    }
}

#[test]
fn records_leave_in_slots_of_their_own_and_in_order() {
    let partition = |index, size| FetchedPartition {
        records: Some(Records { size, slot: index }),
        ..FetchedPartition::failed(index, ErrorCode::None)
    };
    let mut response = of_one(partition(0, 100));
    response.topics[0].partitions.extend([partition(1, 0), partition(2, 1 << 20)]);
    let segments = encode(17, 5, response).unwrap();
    let slots: Vec<_> =
        segments.iter().filter_map(|s| if let Segment::Records(n) = s { Some(*n) } else { None }).collect();
    assert_eq!(slots, [0, 2]);
    let Segment::Bytes(first) = &segments[0] else { panic!("a frame begins with its prefix") };
    let ours: usize = segments.iter().map(|s| if let Segment::Bytes(bytes) = s { bytes.len() } else { 0 }).sum();
    assert_eq!(first[..4], i32::to_be_bytes((ours - 4 + 100 + (1 << 20)) as i32));
}

#[test]
fn a_frame_above_two_gib_is_refused() {
    let huge = FetchedPartition {
        records: Some(Records { size: i32::MAX as usize, slot: () }),
        ..FetchedPartition::failed(0, ErrorCode::None)
    };
    assert_eq!(encode(17, 5, of_one(huge)).unwrap_err().reason(), "unencodable-message");
}
