//! The border between the wire's words and ours: here -1 becomes `None`, and `None` becomes -1.
//!
//! A negative number where only -1 is meant reads as `None` as well. `from_` reads the wire, `to_` writes it.

use super::{BrokerId as WireBrokerId, ProducerId as WireProducerId, StrBytes, TopicName as WireTopicName};
use broker_types::{
    BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, NodeId, Offset, PartitionEpoch, ProducerEpoch, ProducerId,
    TopicName, Uuid,
};

/// A topic, directory or incarnation id.
#[must_use]
pub fn from_uuid(wire: uuid::Uuid) -> Uuid {
    Uuid(wire.as_u128())
}

/// A topic, directory or incarnation id.
#[must_use]
pub fn to_uuid(id: Uuid) -> uuid::Uuid {
    uuid::Uuid::from_u128(id.0)
}

/// An id that may be absent: all zero on the wire.
#[must_use]
pub fn from_optional_uuid(wire: uuid::Uuid) -> Option<Uuid> {
    Some(from_uuid(wire)).filter(|id| *id != Uuid::ZERO)
}

/// An id that may be absent: all zero on the wire.
#[must_use]
pub fn to_optional_uuid(id: Option<Uuid>) -> uuid::Uuid {
    to_uuid(id.unwrap_or(Uuid::ZERO))
}

/// An offset, or none.
#[must_use]
pub fn from_offset(wire: i64) -> Option<Offset> {
    (wire >= 0).then_some(Offset(wire))
}

/// An offset, or -1.
#[must_use]
pub fn to_offset(offset: Option<Offset>) -> i64 {
    offset.map_or(-1, |offset| offset.0)
}

/// A leader or quorum epoch, or none.
#[must_use]
pub fn from_leader_epoch(wire: i32) -> Option<LeaderEpoch> {
    (wire >= 0).then_some(LeaderEpoch(wire))
}

/// A leader or quorum epoch, or -1.
#[must_use]
pub fn to_leader_epoch(epoch: Option<LeaderEpoch>) -> i32 {
    epoch.map_or(-1, |epoch| epoch.0)
}

/// A partition epoch, or none.
#[must_use]
pub fn from_partition_epoch(wire: i32) -> Option<PartitionEpoch> {
    (wire >= 0).then_some(PartitionEpoch(wire))
}

/// A broker epoch, or none.
#[must_use]
pub fn from_broker_epoch(wire: i64) -> Option<BrokerEpoch> {
    (wire >= 0).then_some(BrokerEpoch(wire))
}

/// A broker epoch, or -1.
#[must_use]
pub fn to_broker_epoch(epoch: Option<BrokerEpoch>) -> i64 {
    epoch.map_or(-1, |epoch| epoch.0)
}

/// A node's id, or none.
#[must_use]
pub fn from_broker_id(wire: WireBrokerId) -> Option<BrokerId> {
    (wire.0 >= 0).then_some(NodeId(wire.0))
}

/// A node's id, or -1.
#[must_use]
pub fn to_broker_id(id: Option<BrokerId>) -> WireBrokerId {
    WireBrokerId(id.map_or(-1, |id| id.0))
}

/// Node ids; negative ones, which name nobody, are left out.
#[must_use]
pub fn from_broker_ids(wire: &[WireBrokerId]) -> Vec<BrokerId> {
    wire.iter().filter_map(|id| from_broker_id(*id)).collect()
}

/// Node ids.
#[must_use]
pub fn to_broker_ids(ids: &[BrokerId]) -> Vec<WireBrokerId> {
    ids.iter().map(|id| WireBrokerId(id.0)).collect()
}

/// A producer id, or none.
#[must_use]
pub fn from_producer_id(wire: WireProducerId) -> Option<ProducerId> {
    (wire.0 >= 0).then_some(ProducerId(wire.0))
}

/// A producer id, or -1.
#[must_use]
pub fn to_producer_id(id: Option<ProducerId>) -> WireProducerId {
    WireProducerId(id.map_or(-1, |id| id.0))
}

/// A producer epoch, or none.
#[must_use]
pub fn from_producer_epoch(wire: i16) -> Option<ProducerEpoch> {
    (wire >= 0).then_some(ProducerEpoch(wire))
}

/// A producer epoch, or -1.
#[must_use]
pub fn to_producer_epoch(epoch: Option<ProducerEpoch>) -> i16 {
    epoch.map_or(-1, |epoch| epoch.0)
}

/// A topic's name, copied out of its frame.
#[must_use]
pub fn from_topic_name(wire: &WireTopicName) -> TopicName {
    TopicName::from(wire.0.as_str())
}

/// A topic's name.
#[must_use]
pub fn to_topic_name(name: &TopicName) -> WireTopicName {
    WireTopicName(text(name.as_str()))
}

/// An error code; a number that Kafka 4.3 lacks is [`ErrorCode::UnknownServerError`].
#[must_use]
pub fn from_error_code(wire: i16) -> ErrorCode {
    ErrorCode::from_code(wire).unwrap_or(ErrorCode::UnknownServerError)
}

/// Text for a string field, copied.
#[must_use]
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_none_in_both_directions() {
        assert_eq!((from_offset(-1), from_offset(0), from_offset(i64::MIN)), (None, Some(Offset(0)), None));
        assert_eq!((to_offset(None), to_offset(Some(Offset(7)))), (-1, 7));
        assert_eq!((from_leader_epoch(-1), from_leader_epoch(3)), (None, Some(LeaderEpoch(3))));
        assert_eq!((to_leader_epoch(None), to_leader_epoch(Some(LeaderEpoch(3)))), (-1, 3));
        assert_eq!((from_broker_id(WireBrokerId(-1)), to_broker_id(None)), (None, WireBrokerId(-1)));
        assert_eq!((from_producer_id(WireProducerId(-1)), to_producer_id(None)), (None, WireProducerId(-1)));
        assert_eq!((from_producer_epoch(-1), to_producer_epoch(None)), (None, -1));
        assert_eq!((from_broker_epoch(-1), to_broker_epoch(None)), (None, -1));
        assert_eq!(from_broker_ids(&[WireBrokerId(2), WireBrokerId(-1)]), [NodeId(2)]);
    }

    #[test]
    fn an_id_keeps_its_sixteen_bytes_in_order() {
        let id = Uuid(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
        assert_eq!(to_uuid(id).as_bytes()[..3], [1, 2, 3]);
        assert_eq!(from_uuid(to_uuid(id)), id);
        assert_eq!((from_optional_uuid(to_uuid(Uuid::ZERO)), to_optional_uuid(None)), (None, to_uuid(Uuid::ZERO)));
    }

    #[test]
    fn an_error_code_of_a_later_kafka_is_an_unknown_server_error() {
        assert_eq!(from_error_code(3), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(from_error_code(999), ErrorCode::UnknownServerError);
    }
}
