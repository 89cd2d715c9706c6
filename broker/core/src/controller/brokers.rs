//! Who is in the cluster: registration, fencing, controlled shutdown, removal (KIP-631, KIP-841).
//!
//! A new incarnation of a broker is refused while the session of the former one lives. Then the former one is fenced
//! with all that fencing entails, and only then is the new one registered, fenced, under a new epoch: whatever the old
//! process led or was in sync with, the new one must be let in again (KAFKA-18106).

use super::partition_change::{Election, PartitionChange, unclean_enabled};
use super::{Active, ControllerConfig, ControllerResponse, Decision, Refusal, RegisterBroker, RegisterController};
use crate::metadata::PartitionRegistration;
use broker_types::{BrokerEpoch, BrokerId, ErrorCode, MonoTime, TopicIdPartition};
use broker_wire::records::metadata::{
    BrokerRegistrationChangeRecord, MetadataRecord, RegisterBrokerRecord, RegisterControllerRecord,
    UnregisterBrokerRecord,
};

impl Active {
    pub(super) fn register_broker(
        &mut self,
        config: &ControllerConfig,
        now: MonoTime,
        request: RegisterBroker,
    ) -> Result<Decision, Refusal> {
        let broker = request.broker;
        self.check_registration(config, &request)?;
        let former = self.speculative.broker(broker);
        let amends = former.filter(|former| former.incarnation == request.incarnation);
        let mut records = Vec::new();
        let (epoch, fenced, in_controlled_shutdown) = match (amends, former) {
            // The answer was lost, or an endpoint changed: the same process keeps its epoch and its standing.
            (Some(same), _) => (same.epoch, same.fenced, same.in_controlled_shutdown),
            (None, former) => {
                if let Some(former) = former {
                    if self.sessions.is_alive(broker, former.epoch, now) && !former.in_controlled_shutdown {
                        return Err(Refusal::new(
                            ErrorCode::DuplicateBrokerRegistration,
                            format!("broker {broker} is registered by another process, whose session is alive"),
                        ));
                    }
                    if !former.fenced {
                        records = self.fence(config, broker);
                    }
                }
                let offset = self.speculative.end().offset + records.len() as i64;
                (BrokerEpoch(offset.0), true, false)
            }
        };
        records.push(MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker,
            incarnation: request.incarnation,
            broker_epoch: epoch,
            endpoints: request.endpoints,
            features: request.features,
            rack: request.rack,
            fenced,
            in_controlled_shutdown,
            log_dirs: request.log_dirs,
            cordoned_log_dirs: amends.and_then(|same| same.cordoned_log_dirs.clone()),
        }));
        tracing::info!(%broker, broker_epoch = %epoch, amends = amends.is_some(), "registering broker");
        self.sessions.touch(broker, epoch, now + config.session_timeout);
        Ok(Decision { records, response: ControllerResponse::RegisterBroker { broker_epoch: epoch } })
    }

    fn check_registration(&self, config: &ControllerConfig, request: &RegisterBroker) -> Result<(), Refusal> {
        if request.cluster_id != config.cluster_id {
            let message = format!("expected cluster id {}, but got {}", config.cluster_id, request.cluster_id);
            return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
        }
        if request.endpoints.is_empty() {
            return Err(Refusal::new(ErrorCode::InvalidRegistration, "no listeners"));
        }
        for (name, level) in self.speculative.features() {
            let supported = request.features.iter().find(|feature| feature.name == *name);
            if !supported.is_some_and(|feature| (feature.min..=feature.max).contains(level)) {
                let message = format!("broker {} does not support level {level} of {name}", request.broker);
                return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
            }
        }
        Ok(())
    }

    pub(super) fn register_controller(&self, request: RegisterController) -> Decision {
        let record = MetadataRecord::RegisterController(RegisterControllerRecord {
            controller: request.controller,
            incarnation: request.incarnation,
            endpoints: request.endpoints,
            features: request.features,
        });
        Decision { records: vec![record], response: ControllerResponse::RegisterController }
    }

    pub(super) fn unregister_broker(&self, config: &ControllerConfig, broker: BrokerId) -> Result<Decision, Refusal> {
        let Some(registration) = self.speculative.broker(broker) else {
            let message = format!("broker {broker} is not registered");
            return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
        };
        let mut records = if registration.fenced { Vec::new() } else { self.fence(config, broker) };
        let broker_epoch = registration.epoch;
        records.push(MetadataRecord::UnregisterBroker(UnregisterBrokerRecord { broker, broker_epoch }));
        Ok(Decision { records, response: ControllerResponse::UnregisterBroker })
    }

    /// Takes an unfenced broker out of every ISR and leadership, then fences it. In this order also within the log, so
    /// that no prefix of it shows a fenced leader.
    pub(super) fn fence(&self, config: &ControllerConfig, broker: BrokerId) -> Vec<MetadataRecord> {
        let mut records = self.remove_from_isrs(config, broker);
        records.extend(self.registration_change(broker, |change| change.fenced = Some(true)));
        records
    }

    /// Unfences a broker, then gives it the leaderless partitions that wait for it.
    pub(super) fn unfence(&self, config: &ControllerConfig, broker: BrokerId) -> Vec<MetadataRecord> {
        let mut records: Vec<_> =
            self.registration_change(broker, |change| change.fenced = Some(false)).into_iter().collect();
        let is_acceptable = |replica| replica == broker || self.speculative.is_active(replica);
        for (id, partition) in self.speculative.partitions().filter(|(_, p)| p.leader.is_none()) {
            records.extend(self.re_elect(config, id, partition, partition.isr.clone(), &is_acceptable));
        }
        records
    }

    /// Marks a broker as about to stop, then takes it out of every ISR and leadership. It stays unfenced: until it
    /// stops it still answers, and must learn that it no longer leads.
    pub(super) fn begin_controlled_shutdown(&self, config: &ControllerConfig, broker: BrokerId) -> Vec<MetadataRecord> {
        let mut records: Vec<_> =
            self.registration_change(broker, |change| change.in_controlled_shutdown = true).into_iter().collect();
        records.extend(self.remove_from_isrs(config, broker));
        records
    }

    fn registration_change(
        &self,
        broker: BrokerId,
        change: impl FnOnce(&mut BrokerRegistrationChangeRecord),
    ) -> Option<MetadataRecord> {
        let registration = self.speculative.broker(broker)?;
        let mut record = BrokerRegistrationChangeRecord::new(broker, registration.epoch);
        change(&mut record);
        Some(MetadataRecord::BrokerRegistrationChange(record))
    }

    /// Scans every partition. An index by broker would make this faster and every replay slower; fencing is rare.
    fn remove_from_isrs(&self, config: &ControllerConfig, broker: BrokerId) -> Vec<MetadataRecord> {
        let is_acceptable = |replica| replica != broker && self.speculative.is_active(replica);
        let mut records = Vec::new();
        for (id, partition) in self.speculative.partitions().filter(|(_, p)| p.isr.contains(&broker)) {
            let isr = partition.isr.iter().copied().filter(|member| *member != broker).collect();
            records.extend(self.re_elect(config, id, partition, isr, &is_acceptable));
        }
        records
    }

    pub(super) fn re_elect(
        &self,
        config: &ControllerConfig,
        id: TopicIdPartition,
        partition: &PartitionRegistration,
        target_isr: Vec<BrokerId>,
        is_acceptable: &dyn Fn(BrokerId) -> bool,
    ) -> Option<MetadataRecord> {
        let election = match unclean_enabled(config, &self.speculative, id.topic) {
            true => Election::Unclean,
            false => Election::Online,
        };
        let change = PartitionChange { id, partition, target_isr, recovery: partition.recovery, election };
        change.build(is_acceptable).map(MetadataRecord::PartitionChange)
    }
}
