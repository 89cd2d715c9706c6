//! Random and mutated frames into the connection loop, on both listeners.

use super::town::{BROKER, CLUSTER, CONTROLLER, Heard, Raw, in_a_town, newest, wire};
use broker_types::TopicId;
use broker_wire::Request;
use broker_wire::messages::convert::{text, to_uuid};
use broker_wire::messages::*;
use broker_wire::record_batch::{Compression, RecordBatchBuilder};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

const KAFKAS: &str = include_str!("../../../broker/wire/tests/data/messages-4.3.1.tsv");

/// Frames that a listener is sent; `HOSTILE_ROUNDS` asks for more.
fn rounds() -> u64 {
    std::env::var("HOSTILE_ROUNDS").map_or(4_000, |rounds| rounds.parse().expect("a count"))
}

/// Requests as Kafka writes them, without their length.
fn kafkas() -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for line in KAFKAS.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<_> = line.split('\t').collect();
        let named = |name: &str| ApiKey::ALL.iter().find(|api_key| api_key.name() == name);
        let Some(api_key) = cells[0].strip_suffix("Request").and_then(named) else { continue };
        let version: i16 = cells[1].parse().unwrap();
        let mut bytes = [api_key.code().to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 7], [0, 1]].concat();
        bytes.push(b'c');
        let header = format!("HeaderVersions\t{version}\t{}\t", api_key.name());
        let header = KAFKAS.lines().find_map(|line| line.strip_prefix(&header)).expect("every version has its headers");
        if header.starts_with("02") {
            bytes.push(0);
        }
        let hex = cells[3];
        bytes.extend((0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()));
        requests.push(bytes);
    }
    assert!(requests.len() > 150);
    requests
}

fn name(text: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(text))
}

/// Requests about a topic that is there.
fn about(topic: TopicId) -> Vec<Vec<u8>> {
    let batch = |codec: Compression, producer: bool| {
        let mut builder = RecordBatchBuilder::new(codec);
        if producer {
            builder = builder.producer(broker_types::ProducerStamp {
                id: broker_types::ProducerId(0),
                epoch: broker_types::ProducerEpoch(0),
                base_sequence: Some(0),
            });
        }
        builder.push(1000, Some(b"key"), Some(&[7; 50]), &[]).unwrap();
        builder.push(1001, None, None, &[]).unwrap();
        builder.build().unwrap().into_bytes()
    };
    let produce = |acks: i16, records: Bytes| {
        let partition = produce_request::PartitionProduceData::default().with_index(0).with_records(Some(records));
        let one = produce_request::TopicProduceData::default().with_name(name("victims"));
        let one = one.with_partition_data(vec![partition]);
        Request::Produce(ProduceRequest::default().with_acks(acks).with_timeout_ms(100).with_topic_data(vec![one]))
    };
    let fetch = |replica: i32| {
        let partition = fetch_request::FetchPartition::default()
            .with_fetch_offset(0)
            .with_current_leader_epoch(0)
            .with_partition_max_bytes(1 << 20);
        let one = fetch_request::FetchTopic::default().with_topic_id(to_uuid(topic)).with_partitions(vec![partition]);
        let state = fetch_request::ReplicaState::default().with_replica_id(BrokerId(replica)).with_replica_epoch(1);
        let body = FetchRequest::default().with_max_bytes(1 << 20).with_max_wait_ms(20).with_topics(vec![one]);
        Request::Fetch(if replica < 0 { body } else { body.with_replica_state(state) })
    };
    let list = |timestamp: i64| {
        let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(timestamp);
        let one = list_offsets_request::ListOffsetsTopic::default().with_name(name("victims"));
        Request::ListOffsets(ListOffsetsRequest::default().with_topics(vec![one.with_partitions(vec![partition])]))
    };
    let epoch =
        offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(name("victims")).with_partitions(
            vec![offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_leader_epoch(0)],
        );
    let delete = delete_records_request::DeleteRecordsTopic::default()
        .with_name(name("victims"))
        .with_partitions(vec![delete_records_request::DeleteRecordsPartition::default().with_offset(1)]);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("victims"))
        .with_configuration_keys(None);
    let all = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut requests: Vec<Request> = all.into_iter().map(|codec| produce(1, batch(codec, false))).collect();
    requests.extend([
        produce(-1, batch(Compression::None, true)),
        produce(0, batch(Compression::None, false)),
        fetch(-1),
        fetch(1),
        fetch(2),
        list(-1),
        list(-2),
        list(-3),
        list(1000),
        Request::OffsetForLeaderEpoch(
            OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-2)).with_topics(vec![epoch]),
        ),
        Request::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![delete]).with_timeout_ms(100)),
        Request::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![resource])),
        Request::InitProducerId(
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1),
        ),
        Request::Metadata(MetadataRequest::default().with_topics(None)),
        Request::DescribeCluster(DescribeClusterRequest::default()),
    ]);
    requests
        .iter()
        .map(|request| {
            let version = match request {
                Request::Produce(_) => 12,
                other => newest(other.api_key()),
            };
            wire(version, request)[4..].to_vec()
        })
        .collect()
}

/// Requests that a controller takes from its peers and brokers, with the right cluster id.
fn among_controllers() -> Vec<Vec<u8>> {
    let metadata = || name("__cluster_metadata");
    let cluster = || Some(text(CLUSTER));
    let vote = vote_request::PartitionData::default()
        .with_replica_epoch(3)
        .with_replica_id(BrokerId(2))
        .with_last_offset(1000);
    let vote = vote_request::TopicData::default().with_topic_name(metadata()).with_partitions(vec![vote]);
    let begin = begin_quorum_epoch_request::PartitionData::default().with_leader_id(BrokerId(1)).with_leader_epoch(1);
    let begin =
        begin_quorum_epoch_request::TopicData::default().with_topic_name(metadata()).with_partitions(vec![begin]);
    let end = end_quorum_epoch_request::PartitionData::default().with_leader_id(BrokerId(1)).with_leader_epoch(1);
    let end = end_quorum_epoch_request::TopicData::default().with_topic_name(metadata()).with_partitions(vec![end]);
    let fetch = fetch_request::FetchPartition::default()
        .with_fetch_offset(1)
        .with_last_fetched_epoch(1)
        .with_current_leader_epoch(1)
        .with_partition_max_bytes(1 << 20);
    // The metadata topic's id is 1, as Kafka has it.
    let fetch =
        fetch_request::FetchTopic::default().with_topic_id(to_uuid(broker_types::Uuid(1))).with_partitions(vec![fetch]);
    let requests = [
        Request::Vote(VoteRequest::default().with_cluster_id(cluster()).with_topics(vec![vote])),
        Request::BeginQuorumEpoch(
            BeginQuorumEpochRequest::default().with_cluster_id(cluster()).with_topics(vec![begin]),
        ),
        Request::EndQuorumEpoch(EndQuorumEpochRequest::default().with_cluster_id(cluster()).with_topics(vec![end])),
        Request::Fetch(
            FetchRequest::default()
                .with_cluster_id(cluster())
                .with_max_wait_ms(20)
                .with_max_bytes(1 << 20)
                .with_topics(vec![fetch]),
        ),
        Request::BrokerHeartbeat(
            BrokerHeartbeatRequest::default()
                .with_broker_id(BrokerId(2))
                .with_broker_epoch(5)
                .with_current_metadata_offset(3),
        ),
        Request::BrokerRegistration(
            BrokerRegistrationRequest::default()
                .with_broker_id(BrokerId(2))
                .with_cluster_id(text(CLUSTER))
                .with_incarnation_id(to_uuid(broker_types::Uuid(77))),
        ),
        Request::AllocateProducerIds(
            AllocateProducerIdsRequest::default().with_broker_id(BrokerId(1)).with_broker_epoch(1),
        ),
    ];
    requests.iter().map(|request| wire(newest(request.api_key()), request)[4..].to_vec()).collect()
}

type Below = Box<dyn FnMut(usize) -> usize + Send>;

fn chance(seed: u64) -> Below {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Box::new(move |limit| (rng.next_u64() % limit as u64) as usize)
}

fn mutate(bytes: &mut Vec<u8>, below: &mut Below) {
    if bytes.is_empty() {
        return;
    }
    let at = below(bytes.len());
    let end = (at + 1 + below(16)).min(bytes.len());
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

/// A frame: mostly a mutated request behind its right length, at times a length that lies, or noise.
fn frame(seeds: &[Vec<u8>], below: &mut Below) -> Vec<u8> {
    let mut bytes = seeds[below(seeds.len())].clone();
    // The first four bytes decide who reads the rest, and are spoilt by themselves often enough.
    for _ in 0..below(4) {
        if below(4) > 0 && bytes.len() > 8 {
            let mut rest = bytes.split_off(8);
            mutate(&mut rest, below);
            bytes.extend(rest);
        } else {
            mutate(&mut bytes, below);
        }
    }
    let mut length = i32::try_from(bytes.len()).unwrap();
    match below(40) {
        0 => length = [i32::MAX, i32::MIN, -1, 0, 100_000_000, length + 1, length / 2][below(7)],
        1 => bytes = (0..below(200)).map(|_| below(256) as u8).collect(),
        _ => {}
    }
    [length.to_be_bytes().to_vec(), bytes].concat()
}

/// What one hostile client did and saw.
#[derive(Clone, Copy, Default, Debug)]
struct Deeds {
    frames: u64,
    connections: u64,
    answers: u64,
    closed: u64,
    unanswered: u64,
}

async fn attack(
    env: broker_env::SharedEnv,
    to: (&'static str, u16),
    seeds: Vec<Vec<u8>>,
    seed: u64,
    frames: u64,
) -> Deeds {
    let mut below = chance(seed);
    let mut deeds = Deeds::default();
    while deeds.frames < frames {
        let mut raw = Raw::open(&env, to).await.expect("the node takes connections");
        deeds.connections += 1;
        while deeds.frames < frames {
            deeds.frames += 1;
            if !raw.send(frame(&seeds, &mut below)).await {
                deeds.closed += 1;
                break;
            }
            match raw.frame(Duration::from_millis(200)).await {
                Heard::Frame(_) => deeds.answers += 1,
                Heard::Closed => {
                    deeds.closed += 1;
                    break;
                }
                // It waits for bytes that were promised, for records, or it was not to answer: leave it there.
                Heard::Nothing => {
                    deeds.unanswered += 1;
                    break;
                }
            }
        }
    }
    deeds
}

/// Attackers of one listener, beside an honest client. Says what they did, and why connections were closed.
fn run(seed: u64, to: (&'static str, u16)) -> (Deeds, BTreeMap<&'static str, u64>) {
    const ATTACKERS: u64 = 4;
    in_a_town(seed, "request.timeout.ms=1000", move |town| async move {
        let honest = town.honest().await;
        let topic = town.topic("victims").await;
        let mut seeds = kafkas();
        let own = if to == BROKER { about(topic) } else { among_controllers() };
        // As many of our own, which get further.
        let times = seeds.len() / own.len();
        (0..times).for_each(|_| seeds.extend(own.iter().cloned()));
        let attacks: Vec<_> = (0..ATTACKERS)
            .map(|number| {
                let seeds = seeds.clone();
                let host = town.somebody();
                town.begin(host, move |env| attack(env, to, seeds, seed << 8 | number, rounds() / ATTACKERS))
            })
            .collect();
        let mut all = Deeds::default();
        for attack in attacks {
            let deeds = attack.await.expect("an attack ends by itself");
            all.frames += deeds.frames;
            all.connections += deeds.connections;
            all.answers += deeds.answers;
            all.closed += deeds.closed;
            all.unanswered += deeds.unanswered;
        }
        let closed = town.closed();
        assert!(!closed.contains_key("unencodable-answer"), "an answer that we cannot say ourselves: {closed:?}");
        // Sampled now: the honest client's slowest record may have waited behind a whole request of another's.
        let life = honest.end().await;
        println!("{to:?}: {all:?}, closed {closed:?}, honest {life:?}");
        if to == BROKER {
            assert!(life.records > all.frames / 1000 && life.slowest < Duration::from_secs(2), "{life:?}");
        }
        (all, closed)
    })
}

#[test]
fn hostile_frames_of_clients_cost_their_connection_for_a_counted_reason() {
    let (deeds, closed) = run(0x636c, BROKER);
    assert!(deeds.answers > deeds.frames / 10, "seeds that are too bad reach nothing: {deeds:?}");
    // Whoever was closed on, was closed on for a reason.
    let counted: u64 = closed.values().sum();
    assert!(counted > 0 && counted <= deeds.closed + deeds.unanswered, "{deeds:?} {closed:?}");
    for reason in
        ["malformed-message", "unsupported-version", "unknown-api-key", "frame-too-large", "negative-frame-length"]
    {
        assert!(closed.contains_key(reason), "{reason} was never met: {closed:?}");
    }
}

#[test]
fn hostile_frames_of_controllers_break_no_node() {
    let (deeds, closed) = run(0x636f, CONTROLLER);
    assert!(deeds.answers > deeds.frames / 10 && !closed.is_empty(), "{deeds:?} {closed:?}");
}

#[test]
fn the_same_attack_goes_the_same_way_twice() {
    let attack = || {
        in_a_town(9, "", |town| async move {
            let topic = town.topic("victims").await;
            let host = town.somebody();
            let deeds = town.on(host, move |env| attack(env, BROKER, about(topic), 5, 300)).await;
            (format!("{deeds:?}"), town.closed(), town.world.trace().fingerprint())
        })
    };
    assert_eq!(attack(), attack());
}

/// What numbers, times and tables are made of.
const SIGNS: &[u8] = b"0123456789-+=.,[]{}()\"'# \nxs<>";

#[test]
fn a_scenario_file_of_any_bytes_is_read_or_refused_with_reasons() {
    let catalog = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
    let mut seeds = Vec::new();
    for folder in std::fs::read_dir(&catalog).expect("there is a catalog") {
        let Ok(files) = std::fs::read_dir(folder.expect("an entry").path()) else { continue };
        let paths = files.map(|file| file.expect("an entry").path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
        paths.sort();
        seeds.extend(paths.iter().map(|path| std::fs::read(path).expect("a file")));
    }
    seeds.sort();
    assert!(seeds.len() > 5);
    let mut below = chance(0x736365);
    let mut refused = 0;
    for _ in 0..rounds() {
        let mut bytes = seeds[below(seeds.len())].clone();
        for _ in 0..=below(4) {
            match below(3) {
                0 => mutate(&mut bytes, &mut below),
                1 => {
                    let at = below(bytes.len());
                    bytes[at] = SIGNS[below(SIGNS.len())];
                }
                // A piece of another file, where it does not belong.
                _ => {
                    let other = &seeds[below(seeds.len())];
                    let from = below(other.len());
                    let to = (from + below(60)).min(other.len());
                    let at = below(bytes.len());
                    bytes.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
        if let Err(diagnostics) = scenarios::file::parse_bytes("fuzz.toml", &bytes) {
            assert!(!diagnostics.to_string().is_empty());
            refused += 1;
        }
    }
    println!("scenario files: {} of {} refused", refused, rounds());
    assert!(refused > rounds() / 4 && refused < rounds(), "{refused} of {}", rounds());
}
