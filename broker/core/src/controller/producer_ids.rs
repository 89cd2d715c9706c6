//! Blocks of producer ids (KIP-730). A block is given once: its record says where the next begins.

use super::{Active, ControllerResponse, Decision, Refusal};
use broker_types::{BrokerEpoch, BrokerId, ErrorCode, ProducerId};
use broker_wire::records::metadata::{MetadataRecord, ProducerIdsRecord};

/// Ids in a block.
const BLOCK_SIZE: i32 = 1000;

impl Active {
    pub(super) fn allocate_producer_ids(
        &self,
        broker: BrokerId,
        broker_epoch: BrokerEpoch,
    ) -> Result<Decision, Refusal> {
        self.check_broker_epoch(broker, broker_epoch)?;
        let first = self.speculative.next_producer_id();
        let Some(next) = first.0.checked_add(i64::from(BLOCK_SIZE)).map(ProducerId) else {
            return Err(Refusal::new(ErrorCode::UnknownServerError, "all producer ids are given away"));
        };
        let (broker, broker_epoch) = (Some(broker), Some(broker_epoch));
        let record = MetadataRecord::ProducerIds(ProducerIdsRecord { broker, broker_epoch, next });
        let response = ControllerResponse::AllocateProducerIds { first, count: BLOCK_SIZE };
        Ok(Decision { records: vec![record], response })
    }
}
