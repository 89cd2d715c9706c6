//! Where the replicas of new partitions go.
//!
//! Brokers stand in one ring per rack, in shuffled order. The first replica of each partition comes from the next
//! rack, the following ones from the racks after it in turn, so that a partition spans as many racks as it can. Within
//! a rack unfenced brokers go first; the first replica, which will lead, is always unfenced.

use super::{ErrorCode, Refusal};
use crate::metadata::MetadataImage;
use broker_types::BrokerId;
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Places the partitions of one topic.
pub(super) struct Placer {
    racks: Vec<Rack>,
    /// The rack that the next partition's search for a leader starts with.
    next_rack: usize,
    brokers: usize,
    unfenced: usize,
    /// Partitions placed since the rings were last shuffled.
    placed: usize,
}

#[derive(Default)]
struct Rack {
    unfenced: Vec<BrokerId>,
    fenced: Vec<BrokerId>,
    /// How often the rack gave a partition its leader: where its ring starts.
    led: usize,
}

impl Rack {
    /// The rack's brokers in the order to try: unfenced first, each ring from its present start.
    fn order(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let ring = |ring: &[BrokerId]| {
            let start = if ring.is_empty() { 0 } else { self.led % ring.len() };
            ring[start..].iter().chain(&ring[..start]).copied().collect::<Vec<_>>()
        };
        ring(&self.unfenced).into_iter().chain(ring(&self.fenced))
    }
}

impl Placer {
    /// Places on every registered broker that is not about to stop.
    pub(super) fn new(image: &MetadataImage, rng: &mut ChaCha8Rng) -> Self {
        let mut racks: BTreeMap<Option<Arc<str>>, Rack> = BTreeMap::new();
        let (mut brokers, mut unfenced) = (0, 0);
        for registration in image.brokers().values().filter(|r| !r.in_controlled_shutdown) {
            let rack = racks.entry(registration.rack.clone()).or_default();
            brokers += 1;
            unfenced += usize::from(!registration.fenced);
            let ring = if registration.fenced { &mut rack.fenced } else { &mut rack.unfenced };
            ring.push(registration.broker);
        }
        let mut placer = Placer { racks: racks.into_values().collect(), next_rack: 0, brokers, unfenced, placed: 0 };
        placer.shuffle(rng);
        placer
    }

    fn shuffle(&mut self, rng: &mut ChaCha8Rng) {
        shuffle(&mut self.racks, rng);
        for rack in &mut self.racks {
            shuffle(&mut rack.unfenced, rng);
            shuffle(&mut rack.fenced, rng);
        }
        self.placed = 0;
    }

    /// Replicas for one more partition, the leader-to-be first.
    pub(super) fn place(&mut self, replicas: i16, rng: &mut ChaCha8Rng) -> Result<Vec<BrokerId>, Refusal> {
        let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        let wanted = match usize::try_from(replicas) {
            Ok(wanted) if wanted > 0 => wanted,
            _ => return refuse(format!("replication factor {replicas} is not at least 1")),
        };
        if wanted > self.brokers {
            return refuse(format!(
                "replication factor {wanted} is larger than the {} available brokers",
                self.brokers
            ));
        }
        if self.unfenced == 0 {
            return refuse("all brokers are fenced".to_owned());
        }
        if self.placed == self.unfenced {
            self.shuffle(rng);
        }
        self.placed += 1;
        let racks = self.racks.len();
        let mut leading = self.next_rack % racks;
        while self.racks[leading].unfenced.is_empty() {
            leading = (leading + 1) % racks;
        }
        self.next_rack = (self.next_rack + 1) % racks;
        let mut orders: Vec<_> = self.racks.iter().map(|rack| rack.order().collect::<Vec<_>>().into_iter()).collect();
        let mut chosen = Vec::with_capacity(wanted);
        let mut rack = leading;
        // Ends: `wanted` is no more than all racks hold together.
        while chosen.len() < wanted {
            chosen.extend(orders[rack].next());
            rack = (rack + 1) % racks;
        }
        drop(orders);
        self.racks[leading].led += 1;
        Ok(chosen)
    }
}

/// Fisher and Yates, with a draw that favours low indexes by less than one part in 2^32.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for index in (1..items.len()).rev() {
        let draw = (u64::from(rng.next_u32()) * (index as u64 + 1)) >> 32;
        items.swap(index, draw as usize);
    }
}
