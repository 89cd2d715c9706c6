//! Against a running Kafka cluster, over TCP: `KAFKA_BOOTSTRAP=host:port[,...] cargo test -p broker-client -- --ignored`.

use broker_client::{
    Acks, AutoOffsetReset, Client, ClientConfig, ConsumedRecord, Consumer, ConsumerConfig, Delivery, IsolationLevel,
    NewTopic, OffsetSpec, Producer, ProducerConfig, Record, RecordHeader,
};
use broker_env::{Env, TokioEnv};
use broker_types::{ErrorCode, Offset, TopicName, TopicPartition};
use broker_wire::record_batch::Compression;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const PARTITIONS: i32 = 4;

/// Runs `test` with a client and the name of a topic of its own.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test says where the cluster is")]
fn with_cluster<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Client, TopicName, Arc<dyn Env>) -> F) {
    let bootstrap = std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP names a cluster");
    let bootstrap = bootstrap.split(',').map(|server| {
        let (host, port) = server.rsplit_once(':').expect("host:port");
        (host.to_owned(), port.parse().expect("a port"))
    });
    let config = ClientConfig { bootstrap: bootstrap.collect(), ..ClientConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let env: Arc<dyn Env> = TokioEnv::new(runtime.handle().clone());
    let topic = TopicName::from(format!("{name}-{}", env.wall().0).as_str());
    runtime.block_on(async move {
        let client = Client::new(env.clone(), config);
        let wanted = NewTopic {
            name: topic.clone(),
            partitions: Some(PARTITIONS),
            replication_factor: Some(std::env::var("KAFKA_RF").map_or(1, |rf| rf.parse().unwrap())),
            assignment: BTreeMap::new(),
            // The records' timestamps lie years back.
            config: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
        };
        client.admin().create_topic(&wanted).await.unwrap();
        test(client.clone(), topic.clone(), env).await;
        client.admin().delete_topic(&topic).await.unwrap();
    });
}

fn record(topic: &TopicName, n: u32) -> Record {
    Record {
        topic: topic.clone(),
        partition: None,
        timestamp: 1_700_000_000_000 + i64::from(n),
        key: Some(format!("key-{}", n % 64).into()),
        value: Some(format!("value-{n:08}").into()),
        headers: vec![
            RecordHeader { key: Bytes::from_static(b"h"), value: Some(n.to_string().into()) },
            RecordHeader { key: Bytes::from_static(b"h"), value: None },
        ],
    }
}

fn all(topic: &TopicName) -> Vec<TopicPartition> {
    (0..PARTITIONS).map(|partition| TopicPartition { topic: topic.clone(), partition }).collect()
}

async fn read(client: &Client, topic: &TopicName, count: usize, isolation: IsolationLevel) -> Vec<ConsumedRecord> {
    let config =
        ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, isolation, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(&all(topic));
    let mut records = Vec::new();
    for _ in 0..200 {
        if records.len() >= count {
            break;
        }
        let polled = consumer.poll(Duration::from_millis(300)).await;
        for facts in &polled.facts {
            assert!(facts.log_start <= facts.last_stable_offset && facts.last_stable_offset <= facts.high_watermark);
            assert!(
                facts.position_before <= facts.position_after && Some(facts.position_after) <= facts.high_watermark
            );
        }
        records.extend(polled.records);
    }
    records
}

#[test]
#[ignore = "needs a Kafka cluster"]
fn what_is_produced_is_read_back_in_order_with_every_codec() {
    with_cluster("codecs", |client, topic, _env| async move {
        let mut sent = 0..;
        let mut total = 0;
        for compression in Compression::ALL {
            let producer = Producer::new(&client, ProducerConfig { compression, ..ProducerConfig::default() });
            let deliveries: Vec<(u32, Delivery)> =
                sent.by_ref().take(2000).map(|n| (n, producer.send(record(&topic, n)))).collect();
            total += deliveries.len();
            producer.flush().await;
            let mut last: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
            for (n, delivery) in deliveries {
                let told = delivery.await.unwrap_or_else(|error| panic!("{n}: {error}"));
                let before = last.insert(told.partition, told.offset.unwrap());
                assert!(before < told.offset, "{n} went before its predecessor");
            }
        }
        for isolation in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
            let records = read(&client, &topic, total, isolation).await;
            assert_eq!(records.len(), total);
            let mut seen: BTreeMap<TopicPartition, (Offset, i64)> = BTreeMap::new();
            for got in records {
                let n = (got.timestamp - 1_700_000_000_000) as u32;
                let expected = record(&topic, n);
                assert_eq!((&got.key, &got.value, &got.headers), (&expected.key, &expected.value, &expected.headers));
                let before = seen.insert(got.partition.clone(), (got.offset, got.timestamp));
                assert!(before.is_none_or(|before| before.0 + 1 == got.offset && before.1 < got.timestamp));
            }
        }
    });
}

#[test]
#[ignore = "needs a Kafka cluster"]
fn every_acks_and_no_idempotence_are_understood() {
    with_cluster("acks", |client, topic, _env| async move {
        for (acks, idempotence) in [(Acks::None, false), (Acks::Leader, false), (Acks::All, false), (Acks::All, true)] {
            let producer = Producer::new(&client, ProducerConfig { acks, idempotence, ..ProducerConfig::default() });
            let deliveries: Vec<Delivery> = (0..500).map(|n| producer.send(record(&topic, n))).collect();
            producer.flush().await;
            for delivery in deliveries {
                let told = delivery.await.unwrap();
                assert_eq!(told.offset.is_some(), acks != Acks::None);
                assert_eq!(told.producer.is_some(), idempotence);
            }
        }
        assert_eq!(read(&client, &topic, 2000, IsolationLevel::ReadUncommitted).await.len(), 2000);
    });
}

#[test]
#[ignore = "needs a Kafka cluster"]
fn offsets_are_listed_and_positions_found() {
    with_cluster("offsets", |client, topic, _env| async move {
        let producer = Producer::new(&client, ProducerConfig::default());
        let partition = TopicPartition { topic: topic.clone(), partition: 1 };
        for n in 0..10 {
            let told = producer.send(Record { partition: Some(1), ..record(&topic, n) }).await.unwrap();
            assert_eq!(told.offset, Some(Offset(i64::from(n))));
        }
        let admin = client.admin();
        let at = |spec| admin.list_offset(&partition, spec, IsolationLevel::ReadUncommitted);
        assert_eq!(at(OffsetSpec::Earliest).await.unwrap().offset, Some(Offset(0)));
        assert_eq!(at(OffsetSpec::Latest).await.unwrap().offset, Some(Offset(10)));
        let fourth = at(OffsetSpec::Timestamp(1_700_000_000_004)).await.unwrap();
        assert_eq!((fourth.offset, fourth.timestamp), (Some(Offset(4)), Some(1_700_000_000_004)));
        assert_eq!(at(OffsetSpec::Timestamp(1_800_000_000_000)).await.unwrap().offset, None);

        let mut consumer = Consumer::new(&client, ConsumerConfig::default());
        consumer.assign(std::slice::from_ref(&partition));
        assert!(consumer.seek(&partition, Offset(7)));
        let offsets: Vec<Offset> =
            consumer.poll(Duration::from_secs(10)).await.records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [7, 8, 9].map(Offset));
        assert_eq!(consumer.position(&partition), Some(Offset(10)));
        // Beyond the end: the reset policy finds the end again.
        assert!(consumer.seek(&partition, Offset(999)));
        for _ in 0..20 {
            consumer.poll(Duration::from_millis(200)).await;
        }
        assert_eq!(consumer.position(&partition), Some(Offset(10)));
    });
}

#[test]
#[ignore = "needs a Kafka cluster"]
fn the_cluster_and_its_topics_are_described() {
    with_cluster("admin", |client, topic, _env| async move {
        let admin = client.admin();
        let cluster = admin.describe_cluster().await.unwrap();
        assert!(cluster.cluster_id.is_some() && !cluster.nodes.is_empty());
        let found = client.topic(&topic).await.unwrap();
        assert_eq!(found.partitions.len(), PARTITIONS as usize);
        assert!(found.id.is_some());
        admin.create_partitions(&topic, PARTITIONS + 1).await.unwrap();
        let missing = admin.describe_topic(&"surely-not-there".into()).await.unwrap_err();
        assert_eq!(missing.code, ErrorCode::UnknownTopicOrPartition);
        let again = NewTopic {
            name: topic.clone(),
            partitions: None,
            replication_factor: None,
            assignment: BTreeMap::new(),
            config: BTreeMap::new(),
        };
        assert_eq!(admin.create_topic(&again).await.unwrap_err().code, ErrorCode::TopicAlreadyExists);
    });
}

/// Meant to run while somebody kills and restarts brokers; `KAFKA_SECONDS` says how long.
#[test]
#[ignore = "needs a Kafka cluster"]
#[expect(clippy::disallowed_methods, reason = "a test is told how long to go on")]
fn nothing_acknowledged_is_lost_repeated_or_reordered() {
    let seconds = std::env::var("KAFKA_SECONDS").map_or(2, |seconds| seconds.parse().unwrap());
    with_cluster("chaos", |client, topic, env| async move {
        let producer = Producer::new(&client, ProducerConfig::default());
        let (mut deliveries, mut n) = (Vec::new(), 0);
        for _ in 0..seconds * 100 {
            for _ in 0..5 {
                deliveries.push((n, producer.send(record(&topic, n))));
                n += 1;
            }
            producer.room().await;
            env.sleep(Duration::from_millis(10)).await;
        }
        producer.flush().await;
        let (mut acknowledged, mut failures, mut unknown) = (BTreeMap::new(), 0, 0);
        for (n, delivery) in deliveries {
            match delivery.await {
                Ok(told) => {
                    failures += usize::from(told.failures > 0);
                    acknowledged.insert(n, (told.partition, told.offset));
                }
                Err(error) => {
                    unknown += 1;
                    println!("{n}: {error}");
                }
            }
        }
        println!("{n} sent, {} acknowledged, {failures} of them after a failure, {unknown} not", acknowledged.len());
        let records = read(&client, &topic, n as usize, IsolationLevel::ReadUncommitted).await;
        let mut seen = BTreeMap::new();
        let mut last: BTreeMap<TopicPartition, u32> = BTreeMap::new();
        for got in records {
            let n = (got.timestamp - 1_700_000_000_000) as u32;
            assert!(last.insert(got.partition.clone(), n).is_none_or(|before| before < n), "{n} out of order or twice");
            seen.insert(n, (got.partition, Some(got.offset)));
        }
        for (n, place) in &acknowledged {
            let found = seen.get(n).unwrap_or_else(|| panic!("{n} was acknowledged at {place:?} and is gone"));
            assert!(place.1.is_none() || found == place, "{n} acknowledged at {place:?}, read at {found:?}");
        }
    });
}
