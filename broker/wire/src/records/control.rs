//! Control records of the metadata log: who leads, and where a snapshot begins and ends (KIP-595, KIP-630).
//!
//! A control batch holds one or more of them. The key is two big-endian `i16`: version 0 and the type. The value is the
//! type's message, which names its version once more in its first two bytes.

use crate::error::WireError;
use crate::messages::convert;
use broker_types::{NodeId, Uuid};
use bytes::{BufMut, Bytes, BytesMut};
use proto_kafka::messages::leader_change_message::Voter as WireVoter;
use proto_kafka::messages::{LeaderChangeMessage, SnapshotFooterRecord, SnapshotHeaderRecord};
use proto_kafka::protocol::{Decodable, Encodable};

/// Type of a leader change in the key.
pub const LEADER_CHANGE: i16 = 2;
/// Type of a snapshot header in the key.
pub const SNAPSHOT_HEADER: i16 = 3;
/// Type of a snapshot footer in the key.
pub const SNAPSHOT_FOOTER: i16 = 4;

/// The only version of the key.
const KEY_VERSION: i16 = 0;

/// One control record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlRecord {
    /// The first record of a leader's epoch.
    LeaderChange(LeaderChange),
    /// The first record of a snapshot.
    SnapshotHeader {
        /// When the last record that the snapshot covers was appended, milliseconds since the Unix epoch; -1 for none.
        last_contained_log_timestamp: i64,
    },
    /// The last record of a snapshot: without it the snapshot is not whole.
    SnapshotFooter,
    /// A type of another Kafka, or one of transactions. Readers pass over it.
    Other {
        /// The type in the key.
        record_type: i16,
    },
}

/// A leader was elected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderChange {
    /// The leader; the batch's leader epoch is its epoch.
    pub leader: NodeId,
    /// All voters of the epoch.
    pub voters: Vec<Voter>,
    /// Those who voted for the leader.
    pub granting_voters: Vec<Voter>,
}

/// A voter, by its id and, where the quorum knows it, by its disk (KIP-853).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Voter {
    /// The node.
    pub id: NodeId,
    /// Its metadata log directory. Kept only when a voter of the record has one: the record is then of version 1.
    pub directory: Option<Uuid>,
}

impl ControlRecord {
    /// The type in the key.
    #[must_use]
    pub fn record_type(&self) -> i16 {
        match self {
            ControlRecord::LeaderChange(_) => LEADER_CHANGE,
            ControlRecord::SnapshotHeader { .. } => SNAPSHOT_HEADER,
            ControlRecord::SnapshotFooter => SNAPSHOT_FOOTER,
            ControlRecord::Other { record_type } => *record_type,
        }
    }

    /// The record's key and value.
    #[must_use]
    pub fn encode(&self) -> (Bytes, Bytes) {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(KEY_VERSION);
        key.put_i16(self.record_type());
        let value = match self {
            ControlRecord::LeaderChange(change) => change.encode(),
            ControlRecord::SnapshotHeader { last_contained_log_timestamp } => written(
                &SnapshotHeaderRecord::default().with_last_contained_log_timestamp(*last_contained_log_timestamp),
                0,
            ),
            ControlRecord::SnapshotFooter => written(&SnapshotFooterRecord::default(), 0),
            ControlRecord::Other { .. } => Bytes::new(),
        };
        (key.freeze(), value)
    }

    /// Reads a record of a control batch. Bytes after the value's fields are ignored, as Kafka does.
    ///
    /// # Errors
    /// A key or a value that is too short, or of a version that is not known.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, WireError> {
        let Some([v0, v1, t0, t1]) = key.first_chunk() else {
            return Err(malformed(format!("a key of {} bytes", key.len())));
        };
        let key_version = i16::from_be_bytes([*v0, *v1]);
        if key_version < KEY_VERSION {
            return Err(malformed(format!("key version {key_version}")));
        }
        match i16::from_be_bytes([*t0, *t1]) {
            LEADER_CHANGE => LeaderChange::decode(value).map(ControlRecord::LeaderChange),
            SNAPSHOT_HEADER => Ok(ControlRecord::SnapshotHeader {
                last_contained_log_timestamp: read::<SnapshotHeaderRecord>(value, 0)?.last_contained_log_timestamp,
            }),
            SNAPSHOT_FOOTER => read::<SnapshotFooterRecord>(value, 0).map(|_| ControlRecord::SnapshotFooter),
            record_type => Ok(ControlRecord::Other { record_type }),
        }
    }
}

impl LeaderChange {
    fn encode(&self) -> Bytes {
        let knows_directories = self.voters.iter().chain(&self.granting_voters).any(|voter| voter.directory.is_some());
        let version = i16::from(knows_directories);
        let voters = |voters: &[Voter]| {
            let voter = |voter: &Voter| {
                let out = WireVoter::default().with_voter_id(voter.id.0);
                out.with_voter_directory_id(convert::to_optional_uuid(voter.directory))
            };
            voters.iter().map(voter).collect()
        };
        let message = LeaderChangeMessage::default()
            .with_version(version)
            .with_leader_id(convert::to_broker_id(Some(self.leader)))
            .with_voters(voters(&self.voters))
            .with_granting_voters(voters(&self.granting_voters));
        written(&message, version)
    }

    fn decode(value: &[u8]) -> Result<Self, WireError> {
        let version = value.first_chunk().map_or(0, |version| i16::from_be_bytes(*version));
        let message: LeaderChangeMessage = read(value, version)?;
        let voter = |voter: &WireVoter| Voter {
            id: NodeId(voter.voter_id),
            directory: convert::from_optional_uuid(voter.voter_directory_id),
        };
        Ok(LeaderChange {
            leader: convert::from_broker_id(message.leader_id)
                .ok_or_else(|| malformed(format!("leader {}", message.leader_id.0)))?,
            voters: message.voters.iter().map(voter).collect(),
            granting_voters: message.granting_voters.iter().map(voter).collect(),
        })
    }
}

fn written(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out, version).expect("control records are made of integers and short lists");
    out.freeze()
}

/// Reads a message whose first two bytes must name `version`.
fn read<M: Decodable>(value: &[u8], version: i16) -> Result<M, WireError> {
    let Some(named) = value.first_chunk() else {
        return Err(malformed(format!("a value of {} bytes", value.len())));
    };
    let named = i16::from_be_bytes(*named);
    if named != version {
        return Err(malformed(format!("version {named}")));
    }
    let mut from = value;
    M::decode(&mut from, version).map_err(|error| malformed(error.to_string()))
}

fn malformed(detail: String) -> WireError {
    WireError::MalformedControlRecord { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(directory: Option<Uuid>) -> ControlRecord {
        let voter = |id| Voter { id: NodeId(id), directory };
        ControlRecord::LeaderChange(LeaderChange {
            leader: NodeId(101),
            voters: vec![voter(101), voter(102), voter(103)],
            granting_voters: vec![voter(101), voter(103)],
        })
    }

    #[test]
    fn a_control_record_reads_back_what_it_wrote() {
        let header = ControlRecord::SnapshotHeader { last_contained_log_timestamp: 1_700_000_000_000 };
        for record in [change(None), change(Some(Uuid(5))), header, ControlRecord::SnapshotFooter] {
            let (key, value) = record.encode();
            assert_eq!(ControlRecord::decode(&key, &value), Ok(record));
        }
    }

    #[test]
    fn the_bytes_are_kafkas() {
        let (key, value) = change(None).encode();
        assert_eq!(key[..], [0, 0, 0, 2]);
        let mut expected = vec![0, 0, 0, 0, 0, 101, 4];
        for id in [101, 102, 103] {
            expected.extend([0, 0, 0, id, 0]);
        }
        expected.push(3);
        for id in [101, 103] {
            expected.extend([0, 0, 0, id, 0]);
        }
        expected.push(0);
        assert_eq!(value[..], expected);
        let (key, value) = ControlRecord::SnapshotHeader { last_contained_log_timestamp: 258 }.encode();
        assert_eq!((&key[..], &value[..]), (&[0, 0, 0, 3][..], &[0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0][..]));
        let (key, value) = ControlRecord::SnapshotFooter.encode();
        assert_eq!((&key[..], &value[..]), (&[0, 0, 0, 4][..], &[0, 0, 0][..]));
    }

    #[test]
    fn cut_or_strange_control_records_are_errors_and_unknown_types_are_passed_over() {
        let (key, value) = change(Some(Uuid(5))).encode();
        for cut in 0..value.len() {
            assert!(ControlRecord::decode(&key, &value[..cut]).is_err(), "cut at {cut}");
        }
        for cut in 0..key.len() {
            assert!(ControlRecord::decode(&key[..cut], &value).is_err());
        }
        assert!(ControlRecord::decode(&key, &[0, 2, 0, 0, 0, 1]).is_err(), "version 2 is not known");
        assert!(ControlRecord::decode(&[0, 0, 0, 2], &[0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x07]).is_err());
        assert_eq!(ControlRecord::decode(&[0, 0, 0, 6], &[1]), Ok(ControlRecord::Other { record_type: 6 }));
    }
}
