//! What the replicas of the metadata log ask each other: the wire's structs to raft's, and back.
//!
//! Versions in which we ask: Vote 2 (KIP-996), BeginQuorumEpoch 1, EndQuorumEpoch 1, Fetch 18 (KIP-1166).

use broker_core::raft::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, EpochResponse, FetchOutcome, FetchRequest, FetchResponse,
    LeaderAndEpoch, ReplicaKey, VoteRequest, VoteResponse,
};
use broker_core::raft::{Request as RaftRequest, Response as RaftResponse};
use broker_types::{ErrorCode, LeaderEpoch, NodeId, Offset, OffsetAndEpoch, Uuid};
use broker_wire::messages::convert::{
    from_broker_id, from_leader_epoch, from_offset, from_optional_uuid, text, to_broker_id, to_leader_epoch, to_offset,
    to_optional_uuid, to_uuid,
};
use broker_wire::messages::{
    BeginQuorumEpochResponse, BrokerId, EndQuorumEpochResponse, StrBytes, TopicName, begin_quorum_epoch_request,
    begin_quorum_epoch_response, end_quorum_epoch_request, end_quorum_epoch_response, fetch_request, fetch_response,
    vote_request, vote_response,
};
use broker_wire::{Request, Response};
use bytes::Bytes;
use std::time::Duration;

/// The metadata log's topic.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str(METADATA_TOPIC))
}

fn directory(id: Option<broker_types::DirectoryId>) -> uuid::Uuid {
    to_optional_uuid(id)
}

fn replica(id: BrokerId, directory: uuid::Uuid) -> Option<ReplicaKey> {
    Some(ReplicaKey { id: from_broker_id(id)?, directory: from_optional_uuid(directory) })
}

/// Says a question to `to` in the wire's words.
pub(crate) fn to_wire(request: &RaftRequest, cluster_id: &str, to: NodeId, fetch_max_bytes: i32) -> Request {
    match request {
        RaftRequest::Vote(vote) => Request::Vote(
            broker_wire::messages::VoteRequest::default()
                .with_cluster_id(Some(text(cluster_id)))
                .with_voter_id(BrokerId(to.0))
                .with_topics(vec![vote_request::TopicData::default().with_topic_name(topic_name()).with_partitions(
                    vec![
                        vote_request::PartitionData::default()
                            .with_replica_epoch(vote.epoch.0)
                            .with_replica_id(BrokerId(vote.candidate.id.0))
                            .with_replica_directory_id(directory(vote.candidate.directory))
                            .with_voter_directory_id(directory(vote.voter.and_then(|voter| voter.directory)))
                            .with_last_offset_epoch(vote.log_end.epoch.0)
                            .with_last_offset(vote.log_end.offset.0)
                            .with_pre_vote(vote.pre_vote),
                    ],
                )]),
        ),
        RaftRequest::BeginQuorumEpoch(begin) => Request::BeginQuorumEpoch(
            broker_wire::messages::BeginQuorumEpochRequest::default()
                .with_cluster_id(Some(text(cluster_id)))
                .with_voter_id(BrokerId(to.0))
                .with_topics(vec![
                    begin_quorum_epoch_request::TopicData::default().with_topic_name(topic_name()).with_partitions(
                        vec![
                            begin_quorum_epoch_request::PartitionData::default()
                                .with_voter_directory_id(directory(begin.voter.and_then(|voter| voter.directory)))
                                .with_leader_id(BrokerId(begin.leader.0))
                                .with_leader_epoch(begin.epoch.0),
                        ],
                    ),
                ]),
        ),
        RaftRequest::EndQuorumEpoch(end) => Request::EndQuorumEpoch(
            broker_wire::messages::EndQuorumEpochRequest::default()
                .with_cluster_id(Some(text(cluster_id)))
                .with_topics(vec![
                    end_quorum_epoch_request::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![
                        end_quorum_epoch_request::PartitionData::default()
                            .with_leader_id(BrokerId(end.leader.0))
                            .with_leader_epoch(end.epoch.0)
                            .with_preferred_candidates(
                                end.preferred_successors
                                    .iter()
                                    .map(|one| {
                                        end_quorum_epoch_request::ReplicaInfo::default()
                                            .with_candidate_id(BrokerId(one.id.0))
                                            .with_candidate_directory_id(directory(one.directory))
                                    })
                                    .collect(),
                            ),
                    ]),
                ]),
        ),
        RaftRequest::Fetch(fetch) => Request::Fetch(
            broker_wire::messages::FetchRequest::default()
                .with_cluster_id(Some(text(cluster_id)))
                .with_replica_state(
                    fetch_request::ReplicaState::default()
                        .with_replica_id(to_broker_id(fetch.replica.map(|key| key.id)))
                        .with_replica_epoch(-1),
                )
                .with_max_wait_ms(i32::try_from(fetch.max_wait.as_millis()).unwrap_or(i32::MAX))
                .with_min_bytes(0)
                .with_max_bytes(fetch_max_bytes)
                .with_session_epoch(-1)
                .with_topics(vec![
                    fetch_request::FetchTopic::default().with_topic_id(to_uuid(Uuid::METADATA_TOPIC)).with_partitions(
                        vec![
                            fetch_request::FetchPartition::default()
                                .with_current_leader_epoch(fetch.epoch.0)
                                .with_fetch_offset(fetch.fetch_offset.0)
                                .with_last_fetched_epoch(fetch.last_fetched_epoch.0)
                                .with_partition_max_bytes(fetch_max_bytes)
                                .with_replica_directory_id(directory(fetch.replica.and_then(|key| key.directory)))
                                .with_high_watermark(fetch.high_watermark.map_or(i64::MAX, |offset| offset.0)),
                        ],
                    ),
                ]),
        ),
    }
}

/// What a peer asks, or the error it must be told. `voter_id` is checked by the caller through the request's `voter`.
pub(crate) fn from_wire(request: &Request, cluster_id: &str, node: NodeId) -> Result<RaftRequest, ErrorCode> {
    let same_cluster = |claimed: &Option<StrBytes>| match claimed {
        Some(id) if id.as_str() != cluster_id => Err(ErrorCode::InconsistentClusterId),
        _ => Ok(()),
    };
    match request {
        Request::Vote(body) => {
            same_cluster(&body.cluster_id)?;
            let partition =
                one(body.topics.iter().filter(|topic| topic.topic_name.0.as_str() == METADATA_TOPIC), |topic| {
                    &topic.partitions
                })?;
            Ok(RaftRequest::Vote(VoteRequest {
                candidate: replica(partition.replica_id, partition.replica_directory_id)
                    .ok_or(ErrorCode::InvalidRequest)?,
                epoch: from_leader_epoch(partition.replica_epoch).ok_or(ErrorCode::InvalidRequest)?,
                log_end: OffsetAndEpoch {
                    offset: from_offset(partition.last_offset).ok_or(ErrorCode::InvalidRequest)?,
                    epoch: from_leader_epoch(partition.last_offset_epoch).ok_or(ErrorCode::InvalidRequest)?,
                },
                pre_vote: partition.pre_vote,
                voter: replica(body.voter_id, partition.voter_directory_id),
            }))
        }
        Request::BeginQuorumEpoch(body) => {
            same_cluster(&body.cluster_id)?;
            let partition =
                one(body.topics.iter().filter(|topic| topic.topic_name.0.as_str() == METADATA_TOPIC), |topic| {
                    &topic.partitions
                })?;
            Ok(RaftRequest::BeginQuorumEpoch(BeginQuorumEpochRequest {
                leader: from_broker_id(partition.leader_id).ok_or(ErrorCode::InvalidRequest)?,
                epoch: from_leader_epoch(partition.leader_epoch).ok_or(ErrorCode::InvalidRequest)?,
                voter: replica(body.voter_id, partition.voter_directory_id),
            }))
        }
        Request::EndQuorumEpoch(body) => {
            same_cluster(&body.cluster_id)?;
            let partition =
                one(body.topics.iter().filter(|topic| topic.topic_name.0.as_str() == METADATA_TOPIC), |topic| {
                    &topic.partitions
                })?;
            let by_info = partition
                .preferred_candidates
                .iter()
                .filter_map(|one| replica(one.candidate_id, one.candidate_directory_id));
            let by_id = partition.preferred_successors.iter().filter(|id| **id >= 0);
            Ok(RaftRequest::EndQuorumEpoch(EndQuorumEpochRequest {
                leader: from_broker_id(partition.leader_id).ok_or(ErrorCode::InvalidRequest)?,
                epoch: from_leader_epoch(partition.leader_epoch).ok_or(ErrorCode::InvalidRequest)?,
                preferred_successors: by_info
                    .chain(by_id.map(|id| ReplicaKey { id: NodeId(*id), directory: None }))
                    .collect(),
            }))
        }
        Request::Fetch(body) => {
            same_cluster(&body.cluster_id)?;
            let _ = node;
            let partition = one(body.topics.iter(), |topic| &topic.partitions)?;
            let replica_id =
                if body.replica_state.replica_id.0 >= 0 { body.replica_state.replica_id } else { body.replica_id };
            Ok(RaftRequest::Fetch(FetchRequest {
                replica: replica(replica_id, partition.replica_directory_id),
                epoch: from_leader_epoch(partition.current_leader_epoch).unwrap_or(LeaderEpoch(0)),
                fetch_offset: from_offset(partition.fetch_offset).ok_or(ErrorCode::InvalidRequest)?,
                last_fetched_epoch: from_leader_epoch(partition.last_fetched_epoch).unwrap_or(LeaderEpoch(0)),
                // A version without the field leaves the default, the largest number, which no high watermark exceeds.
                high_watermark: (partition.high_watermark != i64::MAX)
                    .then(|| from_offset(partition.high_watermark))
                    .flatten(),
                max_wait: Duration::from_millis(u64::try_from(body.max_wait_ms).unwrap_or(0)),
            }))
        }
        _ => Err(ErrorCode::InvalidRequest),
    }
}

/// The only partition of the only topic.
fn one<'a, T: 'a, P>(
    mut topics: impl Iterator<Item = &'a T>,
    partitions: impl Fn(&'a T) -> &'a Vec<P>,
) -> Result<&'a P, ErrorCode> {
    match (topics.next(), topics.next()) {
        (Some(topic), None) => match partitions(topic).as_slice() {
            [partition] => Ok(partition),
            _ => Err(ErrorCode::UnknownTopicOrPartition),
        },
        _ => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

/// What the request is answered with when it could not even be considered.
pub(crate) fn refused(request: &Request, error: ErrorCode) -> Response {
    let code = error.code();
    match request {
        Request::Vote(_) => Response::Vote(broker_wire::messages::VoteResponse::default().with_error_code(code)),
        Request::BeginQuorumEpoch(_) => {
            Response::BeginQuorumEpoch(BeginQuorumEpochResponse::default().with_error_code(code))
        }
        Request::EndQuorumEpoch(_) => Response::EndQuorumEpoch(EndQuorumEpochResponse::default().with_error_code(code)),
        _ => Response::Fetch(broker_wire::messages::FetchResponse::default().with_error_code(code)),
    }
}

fn error_code(error: Option<ErrorCode>) -> i16 {
    error.map_or(0, ErrorCode::code)
}

/// Our answer in the wire's words; `records` are the bytes that the answer's range named.
pub(crate) fn reply_to_wire<R>(reply: &RaftResponse<R>, records: Bytes) -> Response {
    match reply {
        RaftResponse::Vote(vote) => Response::Vote(broker_wire::messages::VoteResponse::default().with_topics(vec![
            vote_response::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![
                vote_response::PartitionData::default()
                    .with_error_code(error_code(vote.error))
                    .with_leader_id(to_broker_id(vote.current.leader))
                    .with_leader_epoch(vote.current.epoch.0)
                    .with_vote_granted(vote.granted),
            ]),
        ])),
        RaftResponse::BeginQuorumEpoch(answer) => {
            Response::BeginQuorumEpoch(BeginQuorumEpochResponse::default().with_topics(vec![
                begin_quorum_epoch_response::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![
                    begin_quorum_epoch_response::PartitionData::default()
                        .with_error_code(error_code(answer.error))
                        .with_leader_id(to_broker_id(answer.current.leader))
                        .with_leader_epoch(answer.current.epoch.0),
                ]),
            ]))
        }
        RaftResponse::EndQuorumEpoch(answer) => {
            Response::EndQuorumEpoch(EndQuorumEpochResponse::default().with_topics(vec![
                end_quorum_epoch_response::TopicData::default().with_topic_name(topic_name()).with_partitions(vec![
                    end_quorum_epoch_response::PartitionData::default()
                        .with_error_code(error_code(answer.error))
                        .with_leader_id(to_broker_id(answer.current.leader))
                        .with_leader_epoch(answer.current.epoch.0),
                ]),
            ]))
        }
        RaftResponse::Fetch(fetch) => {
            let mut partition = fetch_response::PartitionData::default()
                .with_error_code(error_code(fetch.error))
                .with_high_watermark(fetch.high_watermark.0)
                .with_last_stable_offset(fetch.high_watermark.0)
                .with_log_start_offset(fetch.log_start.0)
                .with_current_leader(
                    fetch_response::LeaderIdAndEpoch::default()
                        .with_leader_id(to_broker_id(fetch.current.leader))
                        .with_leader_epoch(fetch.current.epoch.0),
                )
                .with_records(Some(records));
            match &fetch.outcome {
                FetchOutcome::Nothing | FetchOutcome::Records(_) => {}
                FetchOutcome::Diverging(at) => {
                    partition.diverging_epoch =
                        fetch_response::EpochEndOffset::default().with_epoch(at.epoch.0).with_end_offset(at.offset.0);
                }
                FetchOutcome::Snapshot(id) => {
                    partition.snapshot_id =
                        fetch_response::SnapshotId::default().with_epoch(id.epoch.0).with_end_offset(id.offset.0);
                }
            }
            Response::Fetch(broker_wire::messages::FetchResponse::default().with_responses(vec![
                fetch_response::FetchableTopicResponse::default()
                    .with_topic(topic_name())
                    .with_topic_id(to_uuid(Uuid::METADATA_TOPIC))
                    .with_partitions(vec![partition]),
            ]))
        }
    }
}

/// A peer's answer; a Fetch answer's record bytes come beside it. `None` if it makes no sense or refuses as a whole.
pub(crate) fn reply_from_wire(response: Response) -> Option<(RaftResponse<()>, Bytes)> {
    fn considered(code: i16) -> Option<ErrorCode> {
        (code != 0).then(|| ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError))
    }
    let current = |leader: BrokerId, epoch: i32| {
        Some(LeaderAndEpoch { leader: from_broker_id(leader), epoch: from_leader_epoch(epoch)? })
    };
    Some(match response {
        Response::Vote(body) if body.error_code == 0 => {
            let partition = one(body.topics.iter(), |topic| &topic.partitions).ok()?;
            let answer = VoteResponse {
                error: considered(partition.error_code),
                current: current(partition.leader_id, partition.leader_epoch)?,
                granted: partition.vote_granted,
            };
            (RaftResponse::Vote(answer), Bytes::new())
        }
        Response::BeginQuorumEpoch(body) if body.error_code == 0 => {
            let partition = one(body.topics.iter(), |topic| &topic.partitions).ok()?;
            let answer = EpochResponse {
                error: considered(partition.error_code),
                current: current(partition.leader_id, partition.leader_epoch)?,
            };
            (RaftResponse::BeginQuorumEpoch(answer), Bytes::new())
        }
        Response::EndQuorumEpoch(body) if body.error_code == 0 => {
            let partition = one(body.topics.iter(), |topic| &topic.partitions).ok()?;
            let answer = EpochResponse {
                error: considered(partition.error_code),
                current: current(partition.leader_id, partition.leader_epoch)?,
            };
            (RaftResponse::EndQuorumEpoch(answer), Bytes::new())
        }
        Response::Fetch(mut body) if body.error_code == 0 => {
            let partition = body.responses.first_mut()?.partitions.first_mut()?;
            let records = partition.records.take().unwrap_or_default();
            let outcome = if let Some(epoch) = from_leader_epoch(partition.diverging_epoch.epoch) {
                FetchOutcome::Diverging(OffsetAndEpoch { offset: Offset(partition.diverging_epoch.end_offset), epoch })
            } else if let Some(epoch) = from_leader_epoch(partition.snapshot_id.epoch) {
                FetchOutcome::Snapshot(OffsetAndEpoch { offset: Offset(partition.snapshot_id.end_offset), epoch })
            } else if records.is_empty() {
                FetchOutcome::Nothing
            } else {
                FetchOutcome::Records(())
            };
            let answer = FetchResponse {
                error: considered(partition.error_code),
                current: current(partition.current_leader.leader_id, partition.current_leader.leader_epoch)?,
                high_watermark: from_offset(partition.high_watermark).unwrap_or(Offset::ZERO),
                log_start: from_offset(partition.log_start_offset).unwrap_or(Offset::ZERO),
                outcome,
            };
            (RaftResponse::Fetch(answer), records)
        }
        _ => return None,
    })
}

/// The leader epoch of a description; -1 where there is none.
pub(crate) fn described_epoch(current: LeaderAndEpoch) -> i32 {
    to_leader_epoch(Some(current.epoch))
}

/// A replica's log end in a description; -1 where it is not known.
pub(crate) fn described_end(end: Option<Offset>) -> i64 {
    to_offset(end)
}
