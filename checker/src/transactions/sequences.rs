//! One partition's producers: what a leader appends continues what its log has.

use super::Stamped;
use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::PRODUCER_SEQUENCE;
use crate::replication::log_model::UNKNOWN;
use crate::replication::replica_set::{Place, ReplicaSet};
use broker_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, increment_sequence};
use std::collections::BTreeMap;

/// A producer's latest batch in the log.
#[derive(Clone, Copy, Debug)]
struct Latest {
    offset: Offset,
    leader_epoch: LeaderEpoch,
    epoch: ProducerEpoch,
    /// Sequence number of the last record; `None` after a marker.
    sequence: Option<i32>,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequences {
    producers: BTreeMap<ProducerId, Latest>,
    newest: LeaderEpoch,
}

impl Sequences {
    /// A follower has a batch that no leader was seen to append.
    pub(crate) fn copied(&mut self, Stamped { base, last, epoch, stamp, .. }: Stamped) {
        let Some(first) = stamp.base_sequence else { return };
        if self.producers.get(&stamp.id).is_none_or(|old| old.offset < base) {
            let sequence = Some(increment_sequence(first, (last.0 - base.0) as i32));
            self.producers.insert(stamp.id, Latest { offset: base, leader_epoch: epoch, epoch: stamp.epoch, sequence });
        }
    }

    /// W-S6. A deposed leader's batches are left out: they are cut off again. So is what follows a batch that this leader's
    /// log does not have, for what its log has instead nobody kept; and what follows a part of the log that nobody saw being
    /// written, for a crash may come between a write and its telling.
    pub(crate) fn appended(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &ReplicaSet,
        batch: Stamped,
    ) {
        if batch.epoch < self.newest {
            return;
        }
        self.newest = batch.epoch;
        let Stamped { base, last, stamp, .. } = batch;
        let sequence = stamp.base_sequence.map(|base| increment_sequence(base, (last.0 - batch.base.0) as i32));
        let new = Latest { offset: base, leader_epoch: batch.epoch, epoch: stamp.epoch, sequence };
        let Some(old) = self.producers.insert(stamp.id, new) else { return };
        let has = |old: &Latest| {
            let log = set.log_of(place.node).filter(|_| old.offset < base);
            log.is_some_and(|log| {
                let epoch = log.epoch_at(old.offset.0).filter(|epoch| *epoch != UNKNOWN);
                epoch == Some(old.leader_epoch.0) && !log.has_unknown(old.offset.0, base.0)
            })
        };
        if !has(&old) {
            return;
        }
        out.opportunity(PRODUCER_SEQUENCE, 1);
        let wrong = match (old.sequence, stamp.base_sequence) {
            _ if stamp.epoch < old.epoch => format!("its epoch {} is older than {}", stamp.epoch.0, old.epoch.0),
            (_, Some(first)) if stamp.epoch > old.epoch && first != 0 => {
                format!("its new epoch {} begins with sequence number {first}", stamp.epoch.0)
            }
            (Some(before), Some(first)) if stamp.epoch == old.epoch && first != increment_sequence(before, 1) => {
                format!("sequence number {first} follows {before}")
            }
            // A marker keeps its producer's place.
            (before, None) if stamp.epoch == old.epoch => {
                self.producers.insert(stamp.id, Latest { sequence: before, ..new });
                return;
            }
            _ => return,
        };
        out.find(PRODUCER_SEQUENCE, ctx, None, Some(place.at), || {
            let (name, node, at) = (ctx.partition_name(set.id()), ctx.node_name(place.node), seconds(place.at));
            vec![
                format!("{name}: {node} appended offsets {base} to {last} of producer {} at {at}: {wrong}", stamp.id.0),
                format!("the producer's batch before begins at offset {}", old.offset),
            ]
        });
    }
}
