//! Hostile bytes against every decoder: a bounded, deterministic run of the fuzz targets, with every allocation counted.
//!
//! Nothing may panic, and no decode may hold more memory at once than a fixed multiple of the bytes it was given.

use broker_wire::fuzz;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what the current thread holds, and the most that it held.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grow(by: usize) {
    let held = HELD.get() + by;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator unchanged; beside it only thread-local numbers are touched.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get().saturating_sub(layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `target` held at once, over what was held before.
fn peak_of(target: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    target();
    PEAK.get() - before
}

/// Memory that a decode may hold, for each byte of its frame: the largest struct of the schemas in its widest nesting,
/// for an element of one byte.
const BYTES_PER_BYTE: usize = 300;
/// And beside that.
const BYTES: usize = 16 << 10;

/// And for a record batch: what a decompression may yield, twice while it grows, and what a decoder remembers.
const BATCH_BYTES: usize = 3 * fuzz::DECOMPRESSED_MAX_BYTES + (128 << 10);

fn feed(target: fn(&[u8]), bytes: &[u8]) {
    feed_within(BYTES, target, bytes);
}

fn feed_within(base: usize, target: fn(&[u8]), bytes: &[u8]) {
    let peak = peak_of(|| target(bytes));
    let allowed = base + BYTES_PER_BYTE * bytes.len();
    assert!(peak <= allowed, "{peak} bytes held for {} bytes: {bytes:02x?}", bytes.len());
}

/// A message that Kafka wrote, as input of a target.
struct Seed {
    bytes: Vec<u8>,
    is_request: bool,
}

const KAFKAS: &str = include_str!("data/messages-4.3.1.tsv");

/// The versions of an API's request and response headers, as Kafka says.
fn header_versions(api: &str, version: i16) -> (u8, u8) {
    let key = format!("HeaderVersions\t{version}\t{api}\t");
    let line = KAFKAS.lines().find_map(|line| line.strip_prefix(&key)).expect("every version has its headers");
    let digit = |at: usize| line.as_bytes()[at] - b'0';
    (digit(0), digit(2))
}

/// Every request of Kafka's behind a header, and every response behind the two bytes that choose how to read it.
fn seeds() -> Vec<Seed> {
    use broker_wire::ApiKey;
    let mut seeds = Vec::new();
    for line in KAFKAS.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<_> = line.split('\t').collect();
        let version: i16 = cells[1].parse().unwrap();
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let named = |name: &str| ApiKey::ALL.iter().position(|api_key| api_key.name() == name);
        if let Some(index) = cells[0].strip_suffix("Request").and_then(named) {
            let api_key = ApiKey::ALL[index];
            let mut bytes = [api_key.code().to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 7], [0, 1]].concat();
            bytes.push(b'c');
            if header_versions(api_key.name(), version).0 == 2 {
                bytes.push(0);
            }
            bytes.extend(hex(cells[3]));
            seeds.push(Seed { bytes, is_request: true });
        } else if let Some(index) = cells[0].strip_suffix("Response").and_then(named) {
            let api_key = ApiKey::ALL[index];
            let mut bytes = vec![index as u8, (version - api_key.versions().min) as u8, 0, 0, 0, 7];
            if header_versions(api_key.name(), version).1 == 1 {
                bytes.push(0);
            }
            bytes.extend(hex(cells[3]));
            seeds.push(Seed { bytes, is_request: false });
        }
    }
    assert!(seeds.len() > 300);
    seeds
}

/// A good batch of every codec.
fn batches() -> Vec<Vec<u8>> {
    use broker_wire::record_batch::{Compression, RecordBatchBuilder, RecordHeader};
    let build = |codec: Compression| {
        let mut builder = RecordBatchBuilder::new(codec);
        let headers =
            [("trace", Some("a")), ("trace", None)].map(|(key, value): (&'static str, Option<&'static str>)| {
                RecordHeader { key: key.into(), value: value.map(Into::into) }
            });
        for number in 0..4 {
            let value = [number as u8; 60];
            builder.push(1000 + number, Some(b"key"), Some(&value), &headers).unwrap();
            builder.push(2000, None, None, &[]).unwrap();
        }
        builder.build().unwrap().into_bytes().to_vec()
    };
    Compression::ALL.map(build).to_vec()
}

/// Good records of the metadata log.
fn metadata_records() -> Vec<Vec<u8>> {
    use broker_types::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, Uuid};
    use broker_wire::records::metadata::*;
    let nodes = vec![NodeId(1), NodeId(2), NodeId(300)];
    let dirs = vec![Uuid(5), Uuid(6), Uuid(7)];
    let mut change = PartitionChangeRecord::new(Uuid(9), 3);
    change.isr = Some(nodes.clone());
    let broker = RegisterBrokerRecord {
        broker: NodeId(3),
        incarnation: Uuid(8),
        broker_epoch: BrokerEpoch(1_234_567),
        endpoints: vec![Endpoint { name: "PLAINTEXT".into(), host: "b".into(), port: 9, security_protocol: 0 }],
        features: vec![SupportedFeature { name: "f".into(), min: 1, max: 2 }],
        rack: Some("r".into()),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: dirs.clone(),
        cordoned_log_dirs: None,
    };
    let partition = PartitionRecord {
        partition: 4,
        topic: Uuid(9),
        replicas: nodes.clone(),
        isr: nodes.clone(),
        removing: vec![],
        adding: vec![],
        leader: Some(NodeId(2)),
        recovery: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(9),
        directories: dirs,
        elr: vec![NodeId(1)],
        last_known_elr: vec![],
    };
    let records = [
        MetadataRecord::Topic(TopicRecord { name: "orders".into(), id: Uuid(9) }),
        MetadataRecord::RegisterBroker(broker),
        MetadataRecord::Partition(partition),
        MetadataRecord::PartitionChange(change),
        MetadataRecord::RemoveTopic(RemoveTopicRecord { topic: Uuid(9) }),
    ];
    let encode = |record: &MetadataRecord| {
        let mut out = bytes::BytesMut::new();
        record.encode(&mut out);
        out.to_vec()
    };
    records.iter().map(encode).collect()
}

fn target(seed: &Seed) -> fn(&[u8]) {
    if seed.is_request { fuzz::fuzz_decode_request } else { fuzz::fuzz_decode_response }
}

#[test]
fn the_seeds_are_good_messages() {
    use broker_wire::{ApiKey, Listener, WireError, decode_request, decode_response};
    for seed in seeds() {
        if seed.is_request {
            let read = [Listener::Broker, Listener::Controller].map(|on| decode_request(on, seed.bytes.clone().into()));
            let unserved = read.iter().all(|read| matches!(read, Err(WireError::NotOnThisListener { .. })));
            assert!(read.iter().any(Result::is_ok) || unserved, "{read:?}");
        } else {
            let api_key = ApiKey::ALL[usize::from(seed.bytes[0])];
            let version = api_key.versions().min + i16::from(seed.bytes[1]);
            let read = decode_response(api_key, version, seed.bytes[2..].to_vec().into());
            assert!(read.is_ok(), "{api_key} version {version}: {read:?}");
        }
    }
}

#[test]
fn every_truncation_of_every_message_is_survived() {
    for seed in seeds() {
        for len in 0..seed.bytes.len() {
            feed(target(&seed), &seed.bytes[..len]);
        }
    }
}

#[test]
fn every_byte_of_every_message_turned_into_a_hostile_one_is_survived() {
    for seed in seeds() {
        let mut bytes = seed.bytes.clone();
        for at in 0..bytes.len() {
            let good = bytes[at];
            for hostile in [0x00, 0x7f, 0x80, 0xff, good ^ 1] {
                bytes[at] = hostile;
                feed(target(&seed), &bytes);
            }
            bytes[at] = good;
        }
    }
}

#[test]
fn lengths_that_lie_cost_no_memory() {
    let lies: [&[u8]; 4] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0x00, 0x7f, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0xff, 0xff, 0x7f]];
    for seed in seeds() {
        for lie in lies {
            for at in 0..=seed.bytes.len().saturating_sub(lie.len()) {
                let mut bytes = seed.bytes.clone();
                bytes[at..at + lie.len()].copy_from_slice(lie);
                feed(target(&seed), &bytes);
            }
        }
    }
}

/// What travels inside of messages: its name, what its target needs at least, the target, and inputs to begin with.
type Inner<'a> = (&'a str, usize, fn(&[u8]), &'a Vec<Vec<u8>>);

/// 200,000 of them; `HOSTILE_ROUNDS` asks for more.
#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the test may ask for more rounds")]
fn random_inputs_are_survived() {
    let (seeds, batches, records) = (seeds(), batches(), metadata_records());
    let mut inputs = std::collections::BTreeMap::new();
    let mut rng = ChaCha8Rng::seed_from_u64(0x6b61_666b_6121);
    let mut below = |limit: usize| (rng.next_u64() % limit as u64) as usize;
    let rounds = std::env::var("HOSTILE_ROUNDS").map_or(200_000, |rounds| rounds.parse().expect("a count"));
    for round in 0..rounds {
        let mut bytes: Vec<u8>;
        // Three of eight go to what travels inside of messages and lies in logs.
        let inner: Option<Inner<'_>> = match round % 8 {
            1 | 3 => Some(("record_batch", BATCH_BYTES, fuzz::fuzz_record_batch, &batches)),
            5 => Some(("metadata_record", BYTES, fuzz::fuzz_metadata_record, &records)),
            _ => None,
        };
        if let Some((name, base, target, seeds)) = inner {
            bytes = seeds[below(seeds.len())].clone();
            for _ in 0..=below(6) {
                mutate(&mut bytes, &mut below);
            }
            feed_within(base, target, &bytes);
            *inputs.entry(name).or_insert(0_u64) += 1;
            continue;
        }
        let seed = &seeds[below(seeds.len())];
        if round % 4 == 0 {
            bytes = (0..below(300)).map(|_| below(256) as u8).collect();
            if seed.is_request && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&seed.bytes[..4]);
            }
        } else {
            bytes = seed.bytes.clone();
            for _ in 0..=below(6) {
                mutate(&mut bytes, &mut below);
            }
        }
        feed(target(seed), &bytes);
        *inputs.entry(if seed.is_request { "decode_request" } else { "decode_response" }).or_default() += 1;
        match round % 8 {
            0 => {
                fuzz::fuzz_frame(&bytes);
                *inputs.entry("frame").or_default() += 1;
            }
            2 => {
                feed(fuzz::fuzz_control_record, &bytes);
                *inputs.entry("control_record").or_default() += 1;
            }
            _ => {}
        }
    }
    println!("inputs: {inputs:?}");
}

#[test]
fn good_batches_and_records_pass_their_targets_and_every_byte_of_them_may_be_wrong() {
    let batches = batches().into_iter().map(|bytes| (bytes, BATCH_BYTES, fuzz::fuzz_record_batch as fn(&[u8])));
    let records = metadata_records().into_iter().map(|bytes| (bytes, BYTES, fuzz::fuzz_metadata_record as fn(&[u8])));
    for (mut bytes, base, target) in batches.chain(records) {
        feed_within(base, target, &bytes);
        for at in 0..bytes.len() {
            feed_within(base, target, &bytes[..at]);
            let good = bytes[at];
            for hostile in [0x00, 0x01, 0x7f, 0x80, 0xff, good ^ 1] {
                bytes[at] = hostile;
                feed_within(base, target, &bytes);
            }
            bytes[at] = good;
        }
    }
}

/// One small wound: a byte changed, a stretch cut out, doubled or set to one value.
fn mutate(bytes: &mut Vec<u8>, below: &mut impl FnMut(usize) -> usize) {
    if bytes.is_empty() {
        return;
    }
    let at = below(bytes.len());
    let end = at + 1 + below((bytes.len() - at).min(16));
    let end = end.min(bytes.len());
    match below(5) {
        0 => bytes[at] ^= 1 << below(8),
        1 => bytes[at] = below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let stretch = bytes[at..end].to_vec();
            bytes.splice(at..at, stretch);
        }
        _ => {
            let value = [0x00, 0x01, 0x7f, 0x80, 0xff][below(5)];
            bytes[at..end].fill(value);
        }
    }
}

#[test]
fn megabytes_of_tiny_elements_hold_bounded_memory() {
    use broker_wire::{ApiKey, Listener, decode_request};
    // An array that claims one element a byte, in front of as many zeros: cheap to send, dear to believe. The second
    // claim is the largest that any array may make.
    let claims: [&[u8]; 2] = [&[0x80, 0x80, 0x80, 0x07], &[0x81, 0x80, 0x08]];
    for api_key in [ApiKey::Metadata, ApiKey::Fetch, ApiKey::DescribeConfigs, ApiKey::CreateTopics, ApiKey::Produce] {
        let version = api_key.versions().max;
        for (claim, at) in claims.into_iter().flat_map(|claim| (11..50).map(move |at| (claim, at))) {
            let mut bytes = vec![0; 16 << 20];
            bytes[..2].copy_from_slice(&api_key.code().to_be_bytes());
            bytes[2..4].copy_from_slice(&version.to_be_bytes());
            bytes[at..at + claim.len()].copy_from_slice(claim);
            // What follows a request is passed over, so that some of these are requests.
            let peak = peak_of(|| drop(decode_request(Listener::Broker, bytes.into())));
            assert!(peak < 64 << 20, "{api_key} at {at}: {peak}");
        }
    }
}
