//! The Produce request, written around batches that stay where they are.
//!
//! A client's batches are already one buffer each; only the few bytes between them are new. Layout as Kafka's
//! ProduceRequest, versions 3 to 13: flexible from 9, topic ids from 13. The bytes equal
//! [`encode_request`](crate::encode_request)'s for the same request.

use crate::error::WireError;
use crate::messages::codec::{check_version, encode_request_header, frame_length};
use crate::messages::{ApiKey, ProduceRequest, StrBytes};
use crate::spliced::{PutKafka, Segment, Spliced};
use bytes::{BufMut, Bytes};

/// Writes `request` as a whole frame, length prefix included: buffers to be sent in this order. Unknown tagged fields
/// are left out.
///
/// # Errors
/// [`WireError::UnsupportedVersion`]; [`WireError::Unencodable`] for a name above 32,767 bytes or a frame above 2 GiB.
pub fn encode(
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&StrBytes>,
    request: &ProduceRequest,
) -> Result<Vec<Bytes>, WireError> {
    check_version(ApiKey::Produce, api_version)?;
    check_names(api_version, request)?;
    let flexible = api_version >= 9;
    let mut frame = Spliced::frame(estimate(client_id, request));
    encode_request_header(frame.out(), ApiKey::Produce, api_version, correlation_id, client_id)?;
    let out = frame.out();
    out.put_string(request.transactional_id.as_ref().map(|id| id.0.as_str()), flexible);
    out.put_i16(request.acks);
    out.put_i32(request.timeout_ms);
    out.put_array_len(request.topic_data.len(), flexible);
    for topic in &request.topic_data {
        let out = frame.out();
        if api_version >= 13 {
            out.put_slice(topic.topic_id.as_bytes());
        } else {
            out.put_string(Some(topic.name.0.as_str()), flexible);
        }
        out.put_array_len(topic.partition_data.len(), flexible);
        for partition in &topic.partition_data {
            let out = frame.out();
            out.put_i32(partition.index);
            out.put_records_len(partition.records.as_ref().map(Bytes::len), flexible);
            if let Some(records) = &partition.records {
                frame.records(records.len(), records.clone());
            }
            if flexible {
                frame.out().put_uvarint(0);
            }
        }
        if flexible {
            frame.out().put_uvarint(0);
        }
    }
    if flexible {
        frame.out().put_uvarint(0);
    }
    let prefix = frame_length(ApiKey::Produce, api_version, frame.frame_size())?;
    let bytes_of = |segment| match segment {
        Segment::Bytes(bytes) | Segment::Records(bytes) => bytes,
    };
    Ok(frame.finish(prefix).into_iter().map(bytes_of).collect())
}

fn check_names(api_version: i16, request: &ProduceRequest) -> Result<(), WireError> {
    let names = request.topic_data.iter().map(|topic| &topic.name.0);
    let ids = request.transactional_id.iter().map(|id| &id.0);
    match names.chain(ids).find(|name| name.len() > i16::MAX as usize) {
        None => Ok(()),
        Some(name) => Err(WireError::Unencodable {
            api_key: ApiKey::Produce,
            api_version,
            detail: format!("a name of {} bytes", name.len()),
        }),
    }
}

/// At least the bytes that are not records.
fn estimate(client_id: Option<&StrBytes>, request: &ProduceRequest) -> usize {
    let topics = request.topic_data.iter().map(|topic| 24 + topic.name.0.len() + 10 * topic.partition_data.len());
    40 + client_id.map_or(0, |id| id.len())
        + request.transactional_id.as_ref().map_or(0, |id| id.0.len())
        + topics.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use crate::messages::{Request, TopicName, TransactionalId, encode_request};

    fn request(version: i16) -> ProduceRequest {
        let partition = |index, records: Option<&'static [u8]>| {
            PartitionProduceData::default().with_index(index).with_records(records.map(Bytes::from_static))
        };
        let topic = |name: &'static str, partitions| {
            let topic = TopicProduceData::default().with_partition_data(partitions);
            if version >= 13 {
                topic.with_topic_id(uuid::Uuid::from_u128(name.len() as u128))
            } else {
                topic.with_name(TopicName(StrBytes::from_static_str(name)))
            }
        };
        ProduceRequest::default()
            .with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("payments"))))
            .with_acks(-1)
            .with_timeout_ms(1500)
            .with_topic_data(vec![
                topic("orders", vec![partition(0, Some(b"batch")), partition(1, None), partition(2, Some(b""))]),
                topic("bills", vec![partition(7, Some(&[9; 200]))]),
                topic("none", vec![]),
            ])
    }

    #[test]
    fn the_buffers_joined_are_the_codecs_bytes_in_every_version() {
        let client = StrBytes::from_static_str("test");
        for version in 3..=13 {
            for request in [request(version), ProduceRequest::default()] {
                let theirs = encode_request(version, 3, Some(&client), &Request::Produce(request.clone())).unwrap();
                let ours = encode(version, 3, Some(&client), &request).unwrap();
                assert_eq!(ours.concat(), theirs, "version {version}");
            }
        }
        assert_eq!(encode(2, 3, None, &request(2)).unwrap_err().reason(), "unsupported-version");
    }

    #[test]
    fn batches_are_not_copied() {
        let request = request(12);
        let batch = request.topic_data[1].partition_data[0].records.clone().unwrap();
        let sent = encode(12, 3, None, &request).unwrap();
        assert!(sent.iter().any(|bytes| bytes.as_ptr() == batch.as_ptr() && bytes.len() == 200));
    }
}
