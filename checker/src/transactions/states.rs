//! Each transactional id's way through its states.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{CheckInfo, PRODUCER_EPOCHS, TRANSACTION_STATE};
use crate::replication::replica_set::Place;
use broker_types::{ProducerEpoch, ProducerId, TransactionFact, TransactionState, TransactionalId};
use std::collections::BTreeMap;

/// What coordinators said of every transactional id.
#[derive(Clone, Debug, Default)]
pub(crate) struct States {
    latest: BTreeMap<TransactionalId, TransactionFact>,
    owners: BTreeMap<ProducerId, TransactionalId>,
}

/// W-T1: the states from which each may be reached. PrepareAbort from Empty or a complete state is KIP-890's.
fn may_follow(old: TransactionState, new: TransactionState) -> bool {
    use TransactionState::{
        CompleteAbort, CompleteCommit, Dead, Empty, Ongoing, PrepareAbort, PrepareCommit, PrepareEpochFence,
    };
    match new {
        Empty => matches!(old, Empty | CompleteCommit | CompleteAbort),
        Ongoing => matches!(old, Ongoing | Empty | CompleteCommit | CompleteAbort),
        PrepareCommit => old == Ongoing,
        PrepareAbort => matches!(old, Ongoing | PrepareEpochFence | Empty | CompleteCommit | CompleteAbort),
        CompleteCommit => old == PrepareCommit,
        CompleteAbort => old == PrepareAbort,
        PrepareEpochFence => old == Ongoing,
        Dead => matches!(old, Empty | CompleteCommit | CompleteAbort),
    }
}

impl States {
    /// The latest word on the transaction of `producer`.
    pub(super) fn of(&self, producer: ProducerId) -> Option<&TransactionFact> {
        self.latest.get(self.owners.get(&producer)?).filter(|fact| fact.producer == producer)
    }

    /// W-T1 to W-T4, W-T6.
    pub(super) fn changed(&mut self, ctx: &Context, out: &mut Findings, place: Place, new: &TransactionFact) {
        let id = &new.transactional_id;
        let find = |out: &mut Findings, check: &'static CheckInfo, what: String| {
            out.find(check, ctx, None, Some(place.at), || {
                let (node, at) = (ctx.node_name(place.node), seconds(place.at));
                vec![format!("transactional id {id}: {what}"), format!("said by {node} at {at}")]
            });
        };
        out.opportunity(PRODUCER_EPOCHS, 1);
        let owner = self.owners.entry(new.producer).or_insert_with(|| id.clone());
        if owner != id {
            find(out, PRODUCER_EPOCHS, format!("producer id {} belongs to {owner}", new.producer.0));
        }
        let Some(old) = self.latest.insert(id.clone(), new.clone()) else { return };
        let told = |fact: &TransactionFact| {
            let (producer, ProducerEpoch(epoch)) = (fact.producer.0, fact.producer_epoch);
            format!("{:?} with producer {producer} in epoch {epoch}", fact.state)
        };
        if new.producer == old.producer && new.producer_epoch < old.producer_epoch {
            find(out, PRODUCER_EPOCHS, format!("{} after {}", told(new), told(&old)));
        }
        if new.coordinator_epoch < old.coordinator_epoch {
            let (now, before) = (new.coordinator_epoch, old.coordinator_epoch);
            find(out, PRODUCER_EPOCHS, format!("its coordinator of leader epoch {now} spoke after that of {before}"));
        }
        out.opportunity(TRANSACTION_STATE, 1);
        // A new coordinator may say again what it loaded.
        let repeats = new.state == old.state && new.coordinator_epoch > old.coordinator_epoch;
        if !repeats && !may_follow(old.state, new.state) {
            find(out, TRANSACTION_STATE, format!("{} after {}", told(new), told(&old)));
        }
        let keeps = !matches!(new.state, TransactionState::Ongoing) || old.state != TransactionState::Ongoing;
        if !keeps && old.partitions.iter().any(|partition| !new.partitions.contains(partition)) {
            find(out, TRANSACTION_STATE, "a partition left the open transaction".to_owned());
        }
    }
}
