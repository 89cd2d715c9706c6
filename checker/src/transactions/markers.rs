//! What a transaction wrote into partitions, and what became of it there.

use super::{Key, Stamped, states::States};
use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{CheckInfo, TRANSACTION_DATA, TRANSACTION_MARKERS};
use crate::replication::replica_set::Place;
use broker_types::{LeaderEpoch, Offset, ProducerEpoch, TransactionFact, TransactionState};
use std::collections::BTreeMap;

/// A transaction's marker in one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub(super) offset: Offset,
    pub(super) epoch: ProducerEpoch,
    pub(super) coordinator: LeaderEpoch,
    pub(super) commit: bool,
}

#[derive(Clone, Debug, Default)]
struct Trace {
    /// Last offset of data since the last marker, and its producer epoch.
    open: Option<(Offset, ProducerEpoch)>,
    last: Option<Marker>,
}

/// Producers' traces in partitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    traces: BTreeMap<Key, Trace>,
}

fn find(
    ctx: &Context,
    out: &mut Findings,
    place: Place,
    check: &'static CheckInfo,
    (partition, producer): Key,
    what: impl FnOnce() -> String,
) {
    out.find(check, ctx, None, Some(place.at), || {
        let (name, node, at) = (ctx.partition_name(partition), ctx.node_name(place.node), seconds(place.at));
        vec![format!("{name}: producer {}: {}", producer.0, what()), format!("said by {node} at {at}")]
    });
}

impl Marks {
    /// W-T8, W-T9: data enters a transaction that its coordinator knows to be open there, in one producer epoch.
    pub(super) fn data(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        key: Key,
        batch: Stamped,
        states: &States,
    ) {
        let trace = self.traces.entry(key).or_default();
        out.opportunity(TRANSACTION_DATA, 1);
        if let Some((_, epoch)) = trace.open.filter(|(_, epoch)| *epoch != batch.stamp.epoch) {
            find(ctx, out, place, TRANSACTION_DATA, key, || {
                format!("data of epoch {} in an open transaction of epoch {}", batch.stamp.epoch.0, epoch.0)
            });
        }
        trace.open = Some((batch.last, batch.stamp.epoch));
        let Some(known) = states.of(key.1) else { return };
        let is_open = known.state == TransactionState::Ongoing && known.partitions.contains(&key.0);
        if !is_open {
            find(ctx, out, place, TRANSACTION_DATA, key, || {
                let within = if known.partitions.contains(&key.0) { "with" } else { "without" };
                format!(
                    "data at offset {} enters no open transaction: its coordinator has {:?}, {within} this partition",
                    batch.base, known.state
                )
            });
        }
    }

    /// W-T8: while a transaction is open in a partition, its producer writes nothing outside it there.
    pub(super) fn plain(&mut self, ctx: &Context, out: &mut Findings, place: Place, key: Key, batch: Stamped) {
        let Some(trace) = self.traces.get(&key) else { return };
        out.opportunity(TRANSACTION_DATA, 1);
        if trace.open.is_some() {
            find(ctx, out, place, TRANSACTION_DATA, key, || {
                format!("offset {} is no part of the transaction that is open there", batch.base)
            });
        }
    }

    /// W-T5, W-T7: a marker says what was decided, and its coordinator's epoch never falls. The same one may come again.
    pub(super) fn marker(
        &mut self,
        ctx: &Context,
        out: &mut Findings,
        place: Place,
        key: Key,
        marker: Marker,
        states: &States,
    ) {
        out.opportunity(TRANSACTION_MARKERS, 1);
        let trace = self.traces.entry(key).or_default();
        if let Some(last) = trace.last.filter(|last| marker.coordinator < last.coordinator) {
            find(ctx, out, place, TRANSACTION_MARKERS, key, || {
                format!("a marker of coordinator epoch {} after one of {}", marker.coordinator, last.coordinator)
            });
        }
        let decided = states.of(key.1).map(|known| known.state);
        let fits = decided.is_none_or(|state| match marker.commit {
            true => matches!(state, TransactionState::PrepareCommit | TransactionState::CompleteCommit),
            false => matches!(state, TransactionState::PrepareAbort | TransactionState::CompleteAbort),
        });
        if !fits {
            find(ctx, out, place, TRANSACTION_MARKERS, key, || {
                let (word, state) = (if marker.commit { "commit" } else { "abort" }, decided.expect("it does not fit"));
                format!("a marker to {word} at offset {}, but its coordinator has {state:?}", marker.offset)
            });
        }
        let older = trace.open.filter(|(_, epoch)| marker.epoch < *epoch);
        if let Some((_, epoch)) = older {
            find(ctx, out, place, TRANSACTION_MARKERS, key, || {
                format!("a marker of epoch {} for data of epoch {}", marker.epoch.0, epoch.0)
            });
        }
        (trace.open, trace.last) = (None, Some(marker));
    }

    /// W-T5: a transaction is complete once every partition in it has its marker, after all of its data.
    pub(super) fn completed(&mut self, ctx: &Context, out: &mut Findings, place: Place, new: &TransactionFact) {
        let commit = match new.state {
            TransactionState::CompleteCommit => true,
            TransactionState::CompleteAbort => false,
            _ => return,
        };
        for partition in &new.partitions {
            let key = (*partition, new.producer);
            out.opportunity(TRANSACTION_MARKERS, 1);
            let trace = self.traces.get(&key);
            let wrong = match trace.map(|trace| (trace.open, trace.last)) {
                Some((None, Some(last))) if last.commit == commit => continue,
                Some((Some((offset, _)), _)) => format!("its data up to offset {offset} has no marker"),
                Some((None, Some(last))) => format!("the marker at offset {} says the contrary", last.offset),
                Some((None, None)) | None => "it has no marker".to_owned(),
            };
            find(ctx, out, place, TRANSACTION_MARKERS, key, || format!("{:?}, but {wrong}", new.state));
        }
    }
}
