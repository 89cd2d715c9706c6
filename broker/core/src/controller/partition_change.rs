//! How one partition changes: the ISR it shall have, the election that follows, and the record for both.
//!
//! A leader comes from the ISR. Only where unclean election is enabled, or asked for, may it come from elsewhere; then
//! the ISR is that leader alone and it recovers before anyone joins (KIP-704). The last member of an ISR stays in it
//! when it goes away, so that it is known who holds every acknowledged record. An ISR that merely shrinks or grows
//! bumps no leader epoch (KAFKA-15021).

use super::{
    Active, AlterOnePartition, AlterPartition, AlteredPartition, ControllerConfig, ControllerResponse, Decision,
    ElectionType, Refusal, check_batch_size,
};
use crate::metadata::{MetadataImage, PartitionRegistration};
use broker_types::{BrokerEpoch, BrokerId, ErrorCode, TopicId, TopicIdPartition};
use broker_wire::records::metadata::{LeaderRecoveryState, MetadataRecord, PartitionChangeRecord};

/// Which replica may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Election {
    /// The first replica if it can; else as `Online`.
    Preferred,
    /// The present leader if it can; else the first replica in the ISR that can.
    Online,
    /// As `Online`; failing that, the first replica that lives.
    Unclean,
}

/// A change of one partition in the making.
pub(super) struct PartitionChange<'a> {
    pub(super) id: TopicIdPartition,
    pub(super) partition: &'a PartitionRegistration,
    /// The ISR to have. Empty: it would be, but its last member stays.
    pub(super) target_isr: Vec<BrokerId>,
    pub(super) recovery: LeaderRecoveryState,
    pub(super) election: Election,
}

impl PartitionChange<'_> {
    /// The record, or `None` if nothing changes. `is_acceptable` says who lives and may lead.
    pub(super) fn build(self, is_acceptable: &dyn Fn(BrokerId) -> bool) -> Option<PartitionChangeRecord> {
        let partition = self.partition;
        let mut record = PartitionChangeRecord::new(self.id.topic, self.id.partition);
        let (leader, unclean) = self.elect(is_acceptable);
        if leader != partition.leader {
            record.leader = Some(leader);
        }
        let mut recovery = self.recovery;
        if unclean && record.leader.is_some() {
            record.isr = leader.map(|leader| vec![leader]);
            recovery = LeaderRecoveryState::Recovering;
        } else if !self.target_isr.is_empty() && self.target_isr != partition.isr {
            record.isr = Some(self.target_isr);
        }
        if recovery != partition.recovery {
            record.recovery = Some(recovery);
        }
        (!record.is_no_op()).then_some(record)
    }

    fn elect(&self, is_acceptable: &dyn Fn(BrokerId) -> bool) -> (Option<BrokerId>, bool) {
        let PartitionRegistration { replicas, leader, .. } = self.partition;
        let can_lead = |replica: &BrokerId| self.target_isr.contains(replica) && is_acceptable(*replica);
        let preferred = replicas.first().filter(|replica| self.election == Election::Preferred && can_lead(replica));
        let clean = preferred
            .or(leader.as_ref().filter(|leader| can_lead(leader)))
            .or_else(|| replicas.iter().find(|replica| can_lead(replica)));
        if let Some(leader) = clean {
            return (Some(*leader), false);
        }
        let unclean = replicas.iter().find(|r| self.election == Election::Unclean && is_acceptable(**r));
        (unclean.copied(), unclean.is_some())
    }
}

/// Whether acknowledged records of this topic may be given up for a leader.
pub(super) fn unclean_enabled(config: &ControllerConfig, image: &MetadataImage, topic: TopicId) -> bool {
    let name = image.topic(topic).map(|topic| &topic.name);
    let value =
        name.and_then(|name| image.topic_config(name, Some(config.node), super::configs::UNCLEAN_LEADER_ELECTION));
    value.map_or(config.unclean_leader_election, |value| value.eq_ignore_ascii_case("true"))
}

impl Active {
    pub(super) fn alter_partition(
        &self,
        config: &ControllerConfig,
        request: &AlterPartition,
    ) -> Result<Decision, Refusal> {
        self.check_broker_epoch(request.broker, request.broker_epoch)?;
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(request.partitions.len());
        // Each partition is decided on the outcome of those before it.
        let mut image = self.speculative.clone();
        for asked in &request.partitions {
            let result = alter_one(config, &image, request.broker, asked).map(|(registration, record)| {
                if let Some(record) = record {
                    let record = MetadataRecord::PartitionChange(record);
                    let at = image.end().offset;
                    image.replay(&record, at, self.epoch).expect("the partition was just found");
                    records.push(record);
                }
                registration
            });
            if let Err(error) = result {
                let (broker, partition) = (request.broker, asked.partition);
                tracing::debug!(%broker, %partition, %error, "ISR change refused");
            }
            results.push((asked.partition, result));
        }
        check_batch_size(config, &records)?;
        Ok(Decision { records, response: ControllerResponse::AlterPartition(results) })
    }

    pub(super) fn elect_leaders(
        &self,
        election: ElectionType,
        partitions: Option<Vec<TopicIdPartition>>,
    ) -> Result<Decision, Refusal> {
        let asked_for_all = partitions.is_none();
        let asked = partitions.unwrap_or_else(|| self.speculative.partitions().map(|(id, _)| id).collect());
        let (mut records, mut results) = (Vec::new(), Vec::new());
        let mut seen = std::collections::BTreeSet::new();
        for id in asked {
            // Asked twice, elected once; the answer to the repetition is the first one's.
            if !seen.insert(id) {
                continue;
            }
            let result = self.elect_one(election, id).map(|record| records.push(record));
            if !(asked_for_all && result.as_ref().is_err_and(|r| r.error == ErrorCode::ElectionNotNeeded)) {
                results.push((id, result));
            }
        }
        Ok(Decision { records, response: ControllerResponse::ElectLeaders(results) })
    }

    fn elect_one(&self, election: ElectionType, id: TopicIdPartition) -> Result<MetadataRecord, Refusal> {
        let Some(partition) = self.speculative.partition(id) else {
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, "no such partition"));
        };
        let preferred = partition.preferred_leader();
        let (election, needed, failure) = match election {
            ElectionType::Preferred => {
                (Election::Preferred, partition.leader != preferred, ErrorCode::PreferredLeaderNotAvailable)
            }
            ElectionType::Unclean => {
                (Election::Unclean, partition.leader.is_none(), ErrorCode::EligibleLeadersNotAvailable)
            }
        };
        if !needed {
            return Err(Refusal::new(ErrorCode::ElectionNotNeeded, "the partition has the leader it should have"));
        }
        let record = self.election_record(election, id, partition);
        record.map(MetadataRecord::PartitionChange).ok_or_else(|| Refusal::new(failure, "no replica can take over"))
    }

    fn election_record(
        &self,
        election: Election,
        id: TopicIdPartition,
        partition: &PartitionRegistration,
    ) -> Option<PartitionChangeRecord> {
        let (target_isr, recovery) = (partition.isr.clone(), partition.recovery);
        let change = PartitionChange { id, partition, target_isr, recovery, election };
        let record = change.build(&|replica| self.speculative.is_active(replica))?;
        let preferred = Some(partition.preferred_leader());
        (election != Election::Preferred || record.leader == preferred).then_some(record)
    }

    /// Gives leaderships back to preferred leaders that can take them; at most a thousand at a time, as Kafka does.
    pub(super) fn preferred_elections(&self) -> Vec<MetadataRecord> {
        let misled = self.speculative.partitions().filter(|(_, p)| p.leader != p.preferred_leader());
        let records = misled.filter_map(|(id, p)| self.election_record(Election::Preferred, id, p));
        records.take(1000).map(MetadataRecord::PartitionChange).collect()
    }
}

/// Judges a leader's proposal. Its answer is the registration as it will be, and the record if it changes.
fn alter_one(
    config: &ControllerConfig,
    image: &MetadataImage,
    broker: BrokerId,
    asked: &AlterOnePartition,
) -> Result<(AlteredPartition, Option<PartitionChangeRecord>), ErrorCode> {
    let id = asked.partition;
    let topic = image.topic(id.topic).ok_or(ErrorCode::UnknownTopicId)?;
    let partition = topic.partitions.get(&id.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_proposal(image, broker, partition, asked)?;
    let target_isr: Vec<BrokerId> = asked.isr.iter().map(|(member, _)| *member).collect();
    let election = match unclean_enabled(config, image, id.topic) {
        true => Election::Unclean,
        false => Election::Online,
    };
    let change = PartitionChange { id, partition, target_isr, recovery: asked.recovery, election };
    let record = change.build(&|replica| image.is_active(replica));
    let after = record.as_ref().map_or_else(|| (**partition).clone(), |record| partition.merge(record));
    // The asker is an eligible member of the ISR it asks for, and so goes on leading. (In Kafka the end of a
    // reassignment may depose it with NEW_LEADER_ELECTED.)
    assert_eq!(after.leader, Some(broker), "{id}: an ISR change elected another leader");
    Ok((altered(&after), record))
}

/// The checks of KIP-497, KIP-841 and KIP-903, in Kafka's order.
fn check_proposal(
    image: &MetadataImage,
    broker: BrokerId,
    partition: &PartitionRegistration,
    asked: &AlterOnePartition,
) -> Result<(), ErrorCode> {
    // Whoever knows more than we do has heard of it from a newer controller.
    if asked.leader_epoch > partition.leader_epoch || asked.partition_epoch > partition.partition_epoch {
        return Err(ErrorCode::NotController);
    }
    if asked.leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FencedLeaderEpoch);
    }
    if partition.leader != Some(broker) {
        return Err(ErrorCode::InvalidRequest);
    }
    if asked.partition_epoch < partition.partition_epoch {
        return Err(ErrorCode::InvalidUpdateVersion);
    }
    let members: std::collections::BTreeSet<BrokerId> = asked.isr.iter().map(|(member, _)| *member).collect();
    let is_isr = members.len() == asked.isr.len() && members.iter().all(|m| partition.replicas.contains(m));
    if !is_isr || !members.contains(&broker) {
        return Err(ErrorCode::InvalidRequest);
    }
    // A leader that recovers from an unclean election stays alone, and recovered is for good (KIP-704).
    if asked.recovery == LeaderRecoveryState::Recovering
        && (members.len() > 1 || partition.recovery == LeaderRecoveryState::Recovered)
    {
        return Err(ErrorCode::InvalidRequest);
    }
    match asked.isr.iter().all(|(member, epoch)| is_eligible(image, *member, *epoch)) {
        true => Ok(()),
        false => Err(ErrorCode::IneligibleReplica),
    }
}

/// Whether a replica may be in an ISR: its broker lives, stays, and is the very incarnation that fetched. A follower
/// that crashed and lost its disk after it caught up has another epoch by now (KAFKA-14139).
fn is_eligible(image: &MetadataImage, member: BrokerId, fetched_in: Option<BrokerEpoch>) -> bool {
    image.broker(member).is_some_and(|registration| {
        registration.is_active() && fetched_in.is_none_or(|epoch| epoch == registration.epoch)
    })
}

fn altered(partition: &PartitionRegistration) -> AlteredPartition {
    AlteredPartition {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        isr: partition.isr.clone(),
        recovery: partition.recovery,
        partition_epoch: partition.partition_epoch,
    }
}
