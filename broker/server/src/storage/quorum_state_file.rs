//! `quorum-state`: what a KRaft node must never forget, in Kafka's JSON of data version 0 (`kraft.version` 0).
//!
//! The file also says, by being there or not, whether this node ever took part: one that finds none has no vote to
//! keep to.

use super::error::StorageError;
use super::whole_file::{read_whole, write_whole};
use broker_env::Disk;
use broker_types::{LeaderEpoch, NodeId};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The quorum state of one node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct QuorumStateFile {
    /// The epoch this node is in. Never goes back.
    pub epoch: LeaderEpoch,
    /// Who leads the epoch, if known. Never changes within an epoch once known.
    pub leader: Option<NodeId>,
    /// For whom this node voted in the epoch. Never changes within an epoch once given.
    pub voted: Option<NodeId>,
    /// The voters as configured.
    pub voters: Vec<NodeId>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    cluster_id: String,
    leader_id: i32,
    leader_epoch: i32,
    voted_id: i32,
    applied_offset: i64,
    current_voters: Option<Vec<Voter>>,
    #[serde(rename = "data_version")]
    data_version: i16,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Voter {
    voter_id: i32,
}

/// Writes the file, durably: a vote counts once this has returned.
///
/// # Errors
/// The disk's.
pub async fn write_quorum_state(disk: &dyn Disk, path: &Path, state: &QuorumStateFile) -> Result<(), StorageError> {
    let json = Json {
        cluster_id: String::new(),
        leader_id: state.leader.map_or(-1, |id| id.0),
        leader_epoch: state.epoch.0,
        voted_id: state.voted.map_or(-1, |id| id.0),
        applied_offset: 0,
        current_voters: Some(state.voters.iter().map(|id| Voter { voter_id: id.0 }).collect()),
        data_version: 0,
    };
    write_whole(disk, path, serde_json::to_vec(&json).expect("numbers and a list").into()).await
}

/// Reads the file; `None` if this node never took part.
///
/// # Errors
/// The disk's; `Corrupt`, also for another data version. The node must not go on then: it may have voted.
pub async fn read_quorum_state(disk: &dyn Disk, path: &Path) -> Result<Option<QuorumStateFile>, StorageError> {
    let Some(bytes) = read_whole(disk, path).await? else { return Ok(None) };
    let json: Json = serde_json::from_slice(&bytes).map_err(|error| StorageError::corrupt(path, error.to_string()))?;
    if json.data_version != 0 {
        return Err(StorageError::corrupt(path, format!("unknown data version {}", json.data_version)));
    }
    if json.leader_epoch < 0 {
        return Err(StorageError::corrupt(path, format!("negative epoch {}", json.leader_epoch)));
    }
    let id = |id: i32| (id >= 0).then_some(NodeId(id));
    Ok(Some(QuorumStateFile {
        epoch: LeaderEpoch(json.leader_epoch),
        leader: id(json.leader_id),
        voted: id(json.voted_id),
        voters: json.current_voters.unwrap_or_default().iter().map(|voter| NodeId(voter.voter_id)).collect(),
    }))
}
