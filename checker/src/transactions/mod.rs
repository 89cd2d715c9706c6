//! Producers and transactions as coordinators and partition leaders have them (KIP-98, KIP-360, KIP-890).

mod markers;
mod sequences;
mod states;

use crate::context::Context;
use crate::findings::Findings;
use crate::replication::replica_set::{Place, ReplicaSet};
use broker_types::{LeaderEpoch, Observation, Offset, ProducerId, ProducerStamp, TopicIdPartition};
use markers::Marks;
use sequences::Sequences;
use states::States;
use std::collections::BTreeMap;

/// A batch of an idempotent or transactional producer, or a marker, as its partition's leader appended it.
#[derive(Clone, Copy)]
pub(crate) struct Stamped {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) stamp: ProducerStamp,
    pub(crate) is_transactional: bool,
    pub(crate) is_control: bool,
}

/// Where a fact about one producer in one partition belongs.
type Key = (TopicIdPartition, ProducerId);

/// What is known of all producers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    sequences: BTreeMap<TopicIdPartition, Sequences>,
    marks: Marks,
    states: States,
}

impl Transactions {
    /// A leader appended a batch that names its producer.
    pub(crate) fn appended(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        set: &ReplicaSet,
        batch: Stamped,
    ) {
        self.sequences.entry(set.id()).or_default().appended(ctx, out, place, set, batch);
        if batch.is_transactional && !batch.is_control {
            self.marks.data(ctx, out, place, (set.id(), batch.stamp.id), batch, &self.states);
        } else if !batch.is_control {
            self.marks.plain(ctx, out, place, (set.id(), batch.stamp.id), batch);
        }
    }

    /// A follower copied a batch that names its producer and that no leader was seen to append.
    pub(crate) fn copied(&mut self, partition: TopicIdPartition, batch: Stamped) {
        self.sequences.entry(partition).or_default().copied(batch);
    }

    /// Takes a fact about a transaction in.
    pub(crate) fn observe(&mut self, ctx: &Context, out: &mut Findings, place: Place, fact: &Observation) {
        match fact {
            Observation::TransactionChanged(new) => {
                self.states.changed(ctx, out, place, new);
                self.marks.completed(ctx, out, place, new);
            }
            Observation::TransactionMarker {
                partition,
                offset,
                producer,
                producer_epoch,
                coordinator_epoch,
                commit,
            } => {
                let marker = markers::Marker {
                    offset: *offset,
                    epoch: *producer_epoch,
                    coordinator: *coordinator_epoch,
                    commit: *commit,
                };
                self.marks.marker(ctx, out, place, (*partition, *producer), marker, &self.states);
            }
            _ => {}
        }
    }
}
