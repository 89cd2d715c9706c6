//! Our bytes against Kafka's own.

use super::codec::Body;
use super::*;
use crate::api_versions::Listener;
use crate::error::WireError;
use crate::frame::PREFIX;
use crate::records::control::ControlRecord;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeSet;

/// One line of the table of messages that Kafka wrote; the table's head explains it.
pub(crate) struct Vector {
    pub message: &'static str,
    pub version: i16,
    pub filling: &'static str,
    pub last: &'static str,
}

impl Vector {
    pub fn all() -> impl Iterator<Item = Vector> {
        let lines = include_str!("../../tests/data/messages-4.3.1.tsv").lines();
        lines.filter(|line| !line.starts_with('#')).map(|line| {
            let cells: Vec<_> = line.split('\t').collect();
            let [message, version, filling, last] = cells[..] else { panic!("four cells: {line}") };
            Vector { message, version: version.parse().unwrap(), filling, last }
        })
    }

    pub fn named(message: &str, version: i16) -> Bytes {
        let mut all = Vector::all();
        all.find(|v| v.message == message && v.version == version && v.filling == "full").unwrap().bytes()
    }

    pub fn bytes(&self) -> Bytes {
        let digit = |index| u8::from_str_radix(&self.last[index..index + 2], 16).unwrap();
        (0..self.last.len()).step_by(2).map(digit).collect()
    }

    /// The API and whether this is its request.
    pub fn api(&self) -> Option<(ApiKey, bool)> {
        let named = |suffix: &str| {
            let name = self.message.strip_suffix(suffix)?;
            ApiKey::ALL.iter().copied().find(|api_key| api_key.name() == name)
        };
        named("Request").map(|key| (key, true)).or_else(|| named("Response").map(|key| (key, false)))
    }
}

/// A body as bytes, measured as [`codec`] measures it.
fn written(body: &impl Body, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    body.write(&mut out, version).unwrap();
    assert_eq!(body.size(version).unwrap(), out.len());
    out.freeze()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_message_of_kafka_decodes_to_its_end_and_encodes_to_the_same_bytes() {
    let mut seen = BTreeSet::new();
    for vector in Vector::all() {
        let Some((api_key, is_request)) = vector.api() else {
            continue;
        };
        let bytes = vector.bytes();
        let mut from = Guarded::response(bytes.clone());
        let what = format!("{} version {}", vector.message, vector.version);
        let again = if is_request {
            let body = Request::decode(api_key, &mut from, vector.version).expect(&what);
            assert_eq!(body.api_key(), api_key);
            written(&body, vector.version)
        } else {
            let body = Response::decode(api_key, &mut from, vector.version).expect(&what);
            assert_eq!(body.api_key(), api_key);
            written(&body, vector.version)
        };
        assert_eq!(from.left(), 0, "{what}");
        assert_eq!(hex(&again), hex(&bytes), "{what}");
        seen.insert((api_key, is_request, vector.version));
    }
    for api_key in ApiKey::ALL {
        let range = api_key.versions();
        for version in range.min..=range.max {
            for is_request in [true, false] {
                assert!(
                    seen.contains(&(*api_key, is_request, version)),
                    "{api_key} version {version} was not compared"
                );
            }
        }
    }
}

#[test]
fn every_version_has_kafkas_header_versions() {
    let mut compared = 0;
    for vector in Vector::all().filter(|vector| vector.message == "HeaderVersions") {
        let api_key = ApiKey::ALL.iter().find(|api_key| api_key.name() == vector.filling).unwrap();
        if !api_key.versions().contains(vector.version) {
            continue;
        }
        let ours = (api_key.request_header_version(vector.version), api_key.response_header_version(vector.version));
        assert_eq!(format!("{} {}", ours.0, ours.1), vector.last, "{api_key} version {}", vector.version);
        compared += 1;
    }
    let versions = ApiKey::ALL.iter().map(|api_key| api_key.versions()).map(|range| range.max - range.min + 1);
    assert_eq!(compared, versions.sum::<i16>());
}

fn crc(path: &str) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, path.as_bytes())
}

fn int16(path: &str) -> i16 {
    (crc(path) % 32766 + 1) as i16
}

fn int32(path: &str) -> i32 {
    (crc(path) % (i32::MAX as u64)) as i32
}

fn int64(path: &str) -> i64 {
    ((crc(path) << 20 | crc(&format!("{path}#"))) % (1 << 62)) as i64
}

fn string(path: &str) -> String {
    format!("{}-{:02x}", path.rsplit('.').next().unwrap(), crc(path) % 256)
}

/// Kafka's request of that name and version as a frame for [`decode_request`].
fn request_frame(message: &str, api_key: ApiKey, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    codec::encode_request_header(&mut frame, api_key, version, 5, Some(&StrBytes::from_static_str("me"))).unwrap();
    frame.extend_from_slice(&Vector::named(message, version));
    frame.freeze()
}

#[test]
fn the_fields_of_the_messages_that_move_data_are_kafkas_fields() {
    let frame = request_frame("FetchRequest", ApiKey::Fetch, 18);
    let (header, Request::Fetch(fetch)) = decode_request(Listener::Controller, frame).unwrap() else { panic!() };
    assert_eq!((header.api_version, header.correlation_id, header.client_id.as_deref()), (18, 5, Some("me")));
    assert_eq!(fetch.max_wait_ms, int32("Fetch.MaxWaitMs"));
    assert_eq!(fetch.min_bytes, int32("Fetch.MinBytes"));
    assert_eq!(fetch.max_bytes, int32("Fetch.MaxBytes"));
    assert_eq!(fetch.replica_state.replica_epoch, int64("Fetch.ReplicaState.ReplicaEpoch"));
    let partition = &fetch.topics[1].partitions[0];
    let path = |field: &str| format!("Fetch.Topics[1].Partitions[0].{field}");
    assert_eq!(partition.fetch_offset, int64(&path("FetchOffset")));
    assert_eq!(partition.log_start_offset, int64(&path("LogStartOffset")));
    assert_eq!(partition.high_watermark, int64(&path("HighWatermark")));
    assert_eq!(partition.current_leader_epoch, int32(&path("CurrentLeaderEpoch")));
    assert_eq!(partition.last_fetched_epoch, int32(&path("LastFetchedEpoch")));

    let frame = request_frame("ProduceRequest", ApiKey::Produce, 9);
    let (_, Request::Produce(produce)) = decode_request(Listener::Broker, frame).unwrap() else { panic!() };
    assert_eq!(produce.acks, int16("Produce.Acks"));
    assert_eq!(produce.timeout_ms, int32("Produce.TimeoutMs"));
    assert_eq!(*produce.topic_data[1].name.0, string("Produce.TopicData[1].Name"));
    let partition = &produce.topic_data[1].partition_data[0];
    let half = (crc("Produce.TopicData[1].PartitionData[0].Records") as u32).to_be_bytes();
    assert_eq!(partition.records.as_ref().unwrap()[..], [half, half].concat());
    assert_eq!(partition.index, int32("Produce.TopicData[1].PartitionData[0].Index"));
}

#[test]
fn the_fields_of_the_quorums_messages_are_kafkas_fields() {
    let frame = request_frame("VoteRequest", ApiKey::Vote, 2);
    let (_, Request::Vote(vote)) = decode_request(Listener::Controller, frame).unwrap() else { panic!() };
    let partition = &vote.topics[0].partitions[1];
    let path = |field: &str| format!("Vote.Topics[0].Partitions[1].{field}");
    assert_eq!(partition.replica_epoch, int32(&path("ReplicaEpoch")));
    assert_eq!(partition.replica_id.0, int32(&path("ReplicaId")));
    assert_eq!(partition.last_offset_epoch, int32(&path("LastOffsetEpoch")));
    assert_eq!(partition.last_offset, int64(&path("LastOffset")));
    assert!(partition.pre_vote);

    let frame = request_frame("AlterPartitionRequest", ApiKey::AlterPartition, 3);
    let (_, Request::AlterPartition(alter)) = decode_request(Listener::Controller, frame).unwrap() else { panic!() };
    assert_eq!(alter.broker_epoch, int64("AlterPartition.BrokerEpoch"));
    let partition = &alter.topics[0].partitions[1];
    let path = |field: &str| format!("AlterPartition.Topics[0].Partitions[1].{field}");
    assert_eq!(partition.leader_epoch, int32(&path("LeaderEpoch")));
    assert_eq!(partition.partition_epoch, int32(&path("PartitionEpoch")));
    assert_eq!(partition.new_isr_with_epochs[1].broker_epoch, int64(&path("NewIsrWithEpochs[1].BrokerEpoch")));

    let frame = request_frame("BrokerRegistrationRequest", ApiKey::BrokerRegistration, 4);
    let (_, Request::BrokerRegistration(broker)) = decode_request(Listener::Controller, frame).unwrap() else {
        panic!()
    };
    assert_eq!(broker.previous_broker_epoch, int64("BrokerRegistration.PreviousBrokerEpoch"));
    assert_eq!(*broker.listeners[1].host, string("BrokerRegistration.Listeners[1].Host"));
    let port = (crc("BrokerRegistration.Listeners[1].Port") % 65535 + 1) as u16;
    assert_eq!(broker.listeners[1].port, port);
}

#[test]
fn headers_are_kafkas_bytes() {
    for (version, api_version) in [(1, 8), (2, 9)] {
        let kafka = Vector::named("RequestHeader", version);
        let client = StrBytes::from_string(string("RequestHeader.ClientId"));
        let mut ours = BytesMut::new();
        let id = int32("RequestHeader.CorrelationId");
        codec::encode_request_header(&mut ours, ApiKey::Produce, api_version, id, Some(&client)).unwrap();
        assert_eq!(ours[4..], kafka[4..], "header version {version}");
        assert_eq!(ours[..4], [0, 0, 0, api_version as u8]);
    }
    let id = int32("ResponseHeader.CorrelationId");
    for (version, api_version) in [(0, 5), (1, 6)] {
        let kafka = Vector::named("ResponseHeader", version);
        let body = Response::ListOffsets(ListOffsetsResponse::default());
        let frame = encode_response(api_version, id, &body).unwrap();
        assert_eq!(frame[PREFIX..PREFIX + kafka.len()], kafka);
        assert_eq!(frame.len(), PREFIX + kafka.len() + body.size(api_version).unwrap());
    }
}

#[test]
fn control_records_are_kafkas_bytes() {
    for (message, version, record_type) in [
        ("LeaderChangeMessage", 0, 2),
        ("LeaderChangeMessage", 1, 2),
        ("SnapshotHeaderRecord", 0, 3),
        ("SnapshotFooterRecord", 0, 4),
    ] {
        let kafka = Vector::named(message, version);
        let record = ControlRecord::decode(&[0, 0, 0, record_type], &kafka).unwrap();
        assert_eq!(record.encode().1, kafka, "{message} version {version}");
        match record {
            ControlRecord::LeaderChange(change) => {
                assert_eq!(change.leader.0, int32("LeaderChangeMessage.LeaderId"));
                assert_eq!(change.granting_voters[1].id.0, int32("LeaderChangeMessage.GrantingVoters[1].VoterId"));
                assert_eq!(change.voters[0].directory.is_some(), version == 1);
            }
            ControlRecord::SnapshotHeader { last_contained_log_timestamp } => {
                assert_eq!(last_contained_log_timestamp, int64("SnapshotHeaderRecord.LastContainedLogTimestamp"));
            }
            _ => assert_eq!(record, ControlRecord::SnapshotFooter),
        }
    }
}

#[test]
fn what_we_write_we_read() {
    for api_key in ApiKey::ALL {
        let range = api_key.versions();
        for version in range.min..=range.max {
            let bytes = Vector::named(&format!("{api_key}Response"), version);
            let body = Response::decode(*api_key, &mut Guarded::response(bytes), version).unwrap();
            let frame = encode_response(version, 41, &body).unwrap();
            assert_eq!(frame[..PREFIX], i32::to_be_bytes((frame.len() - PREFIX) as i32));
            assert_eq!(codec::response_correlation_id(&frame[PREFIX..]), Some(41));
            assert_eq!(decode_response(*api_key, version, frame.slice(PREFIX..)), Ok((41, body)));
        }
    }
}

#[test]
fn each_refusal_has_its_reason() {
    let good = request_frame("MetadataRequest", ApiKey::Metadata, 12);
    let refused = |listener, bytes: &[u8]| decode_request(listener, Bytes::copy_from_slice(bytes)).unwrap_err();
    let with = |at: usize, value: i16| {
        let mut bytes = good.to_vec();
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    assert!(decode_request(Listener::Broker, good.clone()).is_ok());
    for len in 0..8 {
        assert_eq!(refused(Listener::Broker, &good[..len]), WireError::ShortHeader { len });
    }
    for len in 8..good.len() {
        assert_eq!(refused(Listener::Broker, &good[..len]).reason(), "malformed-message", "cut at {len}");
    }
    for key in [-1, 4, 8, 9, 11, 93, i16::MAX] {
        assert_eq!(refused(Listener::Broker, &with(0, key)).reason(), "unknown-api-key", "{key}");
    }
    for key in [10, 52, 58, 62] {
        assert_eq!(refused(Listener::Broker, &with(0, key)).reason(), "api-not-on-this-listener", "{key}");
    }
    assert_eq!(refused(Listener::Controller, &good).reason(), "api-not-on-this-listener");
    for version in [-1, 14, i16::MAX, i16::MIN] {
        let error = refused(Listener::Broker, &with(2, version));
        assert_eq!((error.reason(), error.api_versions_fallback()), ("unsupported-version", None), "{version}");
    }
}

#[test]
fn bytes_after_a_request_are_passed_over_and_after_a_response_refused() {
    // As librdkafka 2.16.1 sends it: Metadata version 13 of all topics, with three bytes too many.
    let frame = b"\0\x03\0\x0d\0\0\0\x03\0\x07rdkafka\0\0\0\0\0\x01\0\0";
    let (header, request) = decode_request(Listener::Broker, Bytes::from_static(frame)).unwrap();
    assert_eq!((header.api_version, header.correlation_id), (13, 3));
    let Request::Metadata(body) = request else { panic!("{request:?}") };
    assert_eq!(body.topics, None);

    let response = Response::Metadata(crate::messages::MetadataResponse::default());
    let mut longer = encode_response(12, 1, &response).unwrap().slice(4..).to_vec();
    longer.extend([0, 0]);
    let error = decode_response(ApiKey::Metadata, 12, Bytes::from(longer)).unwrap_err();
    assert_eq!(error, WireError::TrailingBytes { api_key: ApiKey::Metadata, api_version: 12, count: 2 });
}

#[test]
fn produce_below_version_3_is_advertised_and_refused() {
    let mut frame = request_frame("ProduceRequest", ApiKey::Produce, 3).to_vec();
    for version in 0..3 {
        frame[2..4].copy_from_slice(&i16::to_be_bytes(version));
        let error = decode_request(Listener::Broker, Bytes::copy_from_slice(&frame)).unwrap_err();
        assert_eq!(error.reason(), "unsupported-version");
    }
}

#[test]
fn what_a_version_cannot_say_is_an_error_and_not_a_lie() {
    let forgotten = fetch_request::ForgottenTopic::default().with_partitions(vec![1]);
    let fetch = FetchRequest::default().with_session_id(7).with_forgotten_topics_data(vec![forgotten]);
    assert!(encode_request(12, 1, None, &Request::Fetch(fetch.clone())).is_ok());
    assert_eq!(encode_request(6, 1, None, &Request::Fetch(fetch.clone())).unwrap_err().reason(), "unencodable-message");
    assert_eq!(encode_request(19, 1, None, &Request::Fetch(fetch)).unwrap_err().reason(), "unsupported-version");
    let name = TopicName(StrBytes::from_string("x".repeat(40_000)));
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(name));
    let metadata = MetadataRequest::default().with_topics(Some(vec![topic]));
    assert_eq!(encode_request(5, 1, None, &Request::Metadata(metadata)).unwrap_err().reason(), "unencodable-message");
}

/// A Metadata request of version 12 that claims `claimed` topics and holds `topics` empty ones.
fn metadata_frame(claimed: u32, topics: usize) -> Bytes {
    use crate::spliced::PutKafka;
    let mut frame = BytesMut::new();
    codec::encode_request_header(&mut frame, ApiKey::Metadata, 12, 1, None).unwrap();
    frame.put_uvarint(claimed + 1);
    for _ in 0..topics {
        frame.put_slice(&[0; 18]);
    }
    frame.put_slice(&[1, 1, 0]);
    frame.freeze()
}

#[test]
fn an_array_may_not_claim_more_than_the_frame_holds_nor_more_than_anyone_needs() {
    let reason = |frame| decode_request(Listener::Broker, frame).map(|_| ()).map_err(|error| error.reason());
    assert_eq!(reason(metadata_frame(3, 3)), Ok(()));
    assert_eq!(reason(metadata_frame(u32::MAX - 1, 3)), Err("malformed-message"));
    assert_eq!(reason(metadata_frame(i32::MAX as u32, 3)), Err("malformed-message"));
    assert_eq!(reason(metadata_frame(1000, 3)), Err("malformed-message"));
    let most = guarded::REQUEST_ELEMENTS;
    assert_eq!(reason(metadata_frame(most as u32, most)), Ok(()));
    assert_eq!(reason(metadata_frame(most as u32 + 1, most + 1)), Err("malformed-message"));
}

#[test]
fn a_request_of_very_many_fields_is_refused_while_it_is_read() {
    use crate::spliced::PutKafka;
    let mut frame = BytesMut::new();
    codec::encode_request_header(&mut frame, ApiKey::Fetch, 12, 1, None).unwrap();
    let from_header = frame.len();
    frame.put_slice(&[0; 4 + 4 + 4 + 4 + 1 + 4 + 4]);
    let (topics, partitions) = (40u32, 20_000u32);
    frame.put_uvarint(topics + 1);
    for _ in 0..topics {
        frame.put_slice(&[2, b't']);
        frame.put_uvarint(partitions + 1);
        frame.put_bytes(0, partitions as usize * 33);
        frame.put_u8(0);
    }
    frame.put_slice(&[1, 1, 0]);
    let mut body = frame.clone().freeze().slice(from_header..);
    let error = decode_request(Listener::Broker, frame.freeze()).unwrap_err();
    assert_eq!(error, WireError::TooManyFields { api_key: ApiKey::Fetch, api_version: 12 });
    assert!(FetchRequest::decode(&mut body, 12).is_ok() && body.is_empty(), "it was honest but too much");
}

#[test]
fn strings_and_records_are_slices_of_the_frame() {
    let frame = request_frame("ProduceRequest", ApiKey::Produce, 9);
    let range = frame.as_ptr_range();
    let (_, Request::Produce(produce)) = decode_request(Listener::Broker, frame.clone()).unwrap() else { panic!() };
    let records = produce.topic_data[0].partition_data[1].records.as_ref().unwrap();
    assert!(range.contains(&records.as_ptr()));
    assert!(range.contains(&produce.topic_data[0].name.0.as_ptr()));
}

#[test]
fn a_tag_that_the_codec_counts_but_does_not_write_makes_no_frame() {
    let tagged = |tag: i32| {
        let body = BrokerHeartbeatResponse::default().with_unknown_tagged_field(tag, Bytes::from_static(b"x"));
        encode_response(1, 1, &Response::BrokerHeartbeat(body))
    };
    assert!(tagged(9).is_ok());
    assert_eq!(tagged(-2).unwrap_err().reason(), "unencodable-message");
}
