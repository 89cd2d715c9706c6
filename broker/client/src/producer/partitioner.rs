//! Which partition a record goes to when it does not say.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

/// By key, or, without one, the same partition until about a batch's worth of bytes went there (KIP-794).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Partitioner {
    sticky: Option<i32>,
    bytes: usize,
}

impl Partitioner {
    pub(super) fn choose(
        &mut self,
        key: Option<&[u8]>,
        bytes: usize,
        batch_size: usize,
        partitions: i32,
        rng: &mut ChaCha8Rng,
    ) -> i32 {
        if let Some(key) = key {
            return (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions;
        }
        let usable = self.sticky.filter(|sticky| *sticky < partitions && self.bytes < batch_size);
        let chosen = usable.unwrap_or_else(|| {
            self.bytes = 0;
            (rng.next_u32() & 0x7fff_ffff).cast_signed() % partitions
        });
        self.sticky = Some(chosen);
        self.bytes += bytes;
        chosen
    }
}

/// The hash that Kafka's clients agree on for keys.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    #[test]
    fn keys_hash_as_in_every_kafka_client() {
        // Known values of Kafka's own client.
        let known: [(&[u8], i32); 5] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key).cast_signed(), hash, "{key:?}");
        }
    }

    #[test]
    fn records_without_key_stay_together_for_a_batch_and_reach_every_partition() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut partitioner = Partitioner::default();
        let chosen: Vec<i32> = (0..400).map(|_| partitioner.choose(None, 100, 1000, 4, &mut rng)).collect();
        assert!(chosen.chunks(10).all(|run| run.iter().all(|p| *p == run[0])));
        assert!((0..4).all(|partition| chosen.contains(&partition)));
    }
}
