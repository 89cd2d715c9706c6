//! What a committed record tells an observer.

use crate::metadata::MetadataImage;
use broker_types::{Observation, TopicIdPartition};
use broker_wire::records::metadata::MetadataRecord;

/// What `record`, about to be replayed on `before`, changes that is worth seeing.
pub(super) fn observation(before: &MetadataImage, record: &MetadataRecord) -> Option<Observation> {
    match record {
        MetadataRecord::RegisterBroker(r) => {
            // A process that registers again (the answer was lost with its controller) keeps epoch and standing.
            let amends = before.broker(r.broker).is_some_and(|known| known.incarnation == r.incarnation);
            (!amends).then_some(Observation::BrokerRegistered { broker: r.broker, broker_epoch: r.broker_epoch })
        }
        MetadataRecord::BrokerRegistrationChange(r) => {
            let known = before.broker(r.broker)?;
            let (broker, broker_epoch) = (r.broker, r.broker_epoch);
            match (known.fenced, r.fenced) {
                (false, Some(true)) => Some(Observation::BrokerFenced { broker, broker_epoch }),
                (true, Some(false)) => Some(Observation::BrokerUnfenced { broker, broker_epoch }),
                _ if r.in_controlled_shutdown && !known.in_controlled_shutdown => {
                    Some(Observation::BrokerShuttingDown { broker, broker_epoch })
                }
                _ => None,
            }
        }
        MetadataRecord::Topic(r) => Some(Observation::TopicCreated { topic: r.id, name: r.name.clone() }),
        MetadataRecord::RemoveTopic(r) => Some(Observation::TopicDeleted { topic: r.topic }),
        MetadataRecord::Partition(r) => Some(Observation::PartitionChanged {
            partition: TopicIdPartition { topic: r.topic, partition: r.partition },
            leader: r.leader,
            leader_epoch: r.leader_epoch,
            partition_epoch: r.partition_epoch,
            isr: r.isr.clone().into(),
            replicas: r.replicas.clone().into(),
            adding: r.adding.clone().into(),
            removing: r.removing.clone().into(),
            elr: r.elr.clone().into(),
            last_known_elr: r.last_known_elr.clone().into(),
            unclean: false,
        }),
        MetadataRecord::PartitionChange(r) => {
            let partition = TopicIdPartition { topic: r.topic, partition: r.partition };
            let old = before.partition(partition)?;
            let new = old.merge(r);
            Some(Observation::PartitionChanged {
                partition,
                leader: new.leader,
                leader_epoch: new.leader_epoch,
                partition_epoch: new.partition_epoch,
                unclean: new.leader.is_some_and(|leader| new.leader != old.leader && !old.isr.contains(&leader)),
                isr: new.isr.into(),
                replicas: new.replicas.into(),
                adding: new.adding.into(),
                removing: new.removing.into(),
                elr: new.elr.into(),
                last_known_elr: new.last_known_elr.into(),
            })
        }
        _ => None,
    }
}
