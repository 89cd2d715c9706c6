//! Producers that write records with unique values at a steady rate.

use super::{ProducerIds, Scene, digest, value_bytes};
use crate::file::{Acks as FileAcks, Compression as FileCompression, Produce};
use crate::recorder::{Sending, moment, outcome};
use broker_client::{Acks, Producer, ProducerConfig, Record};
use broker_env::{SharedEnv, Task};
use broker_types::{TopicIdPartition, TopicName};
use broker_wire::record_batch::Compression;
use bytes::Bytes;
use checker::{OpId, Outcome};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rand_core::Rng;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

/// Records of one producer that are on their way, at most.
const MAX_ON_THE_WAY: usize = 1000;

/// The loop of producer number `number` of a workload.
#[must_use]
pub fn produce(env: SharedEnv, scene: Scene, workload: Produce, number: u32) -> Task {
    Box::pin(async move {
        let name = format!("producer-{number}");
        let client = scene.client(env.clone(), &name);
        let producer = Producer::new(&client, config(&workload));
        let topic = TopicName::from(workload.topic.as_str());
        let Ok(described) = client.topic(&topic).await else { return };
        let (Some(topic_id), partitions) = (described.id, described.partitions.len()) else { return };
        let partitions = i32::try_from(partitions).unwrap_or(1).max(1);
        let mut chance = env.entropy(&format!("workload/{name}"));
        let session = scene.recorder.session();
        let mut ids = ProducerIds::new(&scene, session);
        let acks = match workload.acks {
            FileAcks::All => checker::Acks::All,
            FileAcks::Leader => checker::Acks::Leader,
            FileAcks::None => checker::Acks::None,
        };
        let interval = workload.rate.interval() * workload.clients.max(1);
        let mut on_the_way = FuturesUnordered::new();
        let mut turn = i32::try_from(number).unwrap_or(0);
        // Producers of one workload take turns within one interval.
        let first = interval * number / workload.clients.max(1);
        let mut next = env.mono() + first;
        let mut timer = env.timer(next);
        let mut stop = scene.stop.clone();
        loop {
            if *stop.borrow_and_update() {
                break;
            }
            match tick_or_delivery(&mut timer, &mut on_the_way).await {
                Event::Tick => {
                    next += interval;
                    timer.reset(next);
                    if on_the_way.len() >= MAX_ON_THE_WAY {
                        continue;
                    }
                    let value = scene.recorder.value();
                    let spread = workload.value_bytes.max.0.saturating_sub(workload.value_bytes.min.0) + 1;
                    let size = workload.value_bytes.min.0 + chance.next_u64() % spread;
                    let key = (workload.keys > 0).then(|| chance.next_u32() % workload.keys);
                    let partition = match key {
                        Some(key) => i32::try_from(key).unwrap_or(0) % partitions,
                        None => {
                            turn = (turn + 1) % partitions;
                            turn
                        }
                    };
                    let key = key.map(|key| Bytes::from(format!("key-{key}")));
                    let bytes = value_bytes(value, usize::try_from(size).unwrap_or(16));
                    let timestamp = env.wall().0;
                    let sending = Sending {
                        partition: TopicIdPartition { topic: topic_id, partition },
                        value,
                        digest: digest(key.as_deref(), Some(&bytes), timestamp, std::iter::empty()),
                        acks,
                        idempotent: workload.idempotence,
                    };
                    let op = scene.recorder.send(session, moment(scene.world.now()), sending);
                    let delivery = producer.send(Record {
                        topic: topic.clone(),
                        partition: Some(partition),
                        timestamp,
                        key,
                        value: Some(bytes),
                        headers: Vec::new(),
                    });
                    on_the_way.push(async move { (op, sending.partition, delivery.await) });
                }
                Event::Delivery(settled) => {
                    settle(&scene, settled);
                    ids.look(&scene, &producer);
                }
            }
        }
        // Whatever is on its way comes to an end within delivery.timeout.ms.
        while let Some(settled) = on_the_way.next().await {
            settle(&scene, settled);
            ids.look(&scene, &producer);
        }
        scene.shared.client_done();
        // The process lives on, as a service would; the run ends it.
        std::future::pending::<()>().await;
    })
}

type Settled = (OpId, TopicIdPartition, Result<broker_client::RecordMetadata, broker_client::ProduceError>);

enum Event {
    Tick,
    Delivery(Settled),
}

async fn tick_or_delivery<F: Future<Output = Settled>>(
    timer: &mut broker_env::Timer,
    on_the_way: &mut FuturesUnordered<F>,
) -> Event {
    std::future::poll_fn(|cx| {
        if let Poll::Ready(Some(outcome)) = on_the_way.poll_next_unpin(cx) {
            return Poll::Ready(Event::Delivery(outcome));
        }
        Pin::new(&mut *timer).poll(cx).map(|()| Event::Tick)
    })
    .await
}

fn settle(scene: &Scene, (op, partition, result): Settled) {
    let at = moment(scene.world.now());
    match result {
        Ok(metadata) => {
            scene.recorder.sent(op, at, Outcome::Ok, metadata.offset, None);
            scene.shared.acked(partition);
        }
        Err(error) => {
            scene.shared.refused(error.code);
            scene.recorder.sent(op, at, outcome(error.outcome), None, Some(error.code.name().to_owned()));
        }
    }
}

fn config(workload: &Produce) -> ProducerConfig {
    ProducerConfig {
        acks: match workload.acks {
            FileAcks::All => Acks::All,
            FileAcks::Leader => Acks::Leader,
            FileAcks::None => Acks::None,
        },
        idempotence: workload.idempotence,
        linger: workload.linger.0,
        max_in_flight: usize::try_from(workload.max_in_flight).unwrap_or(5),
        compression: match workload.compression {
            FileCompression::None => Compression::None,
            FileCompression::Gzip => Compression::Gzip,
            FileCompression::Snappy => Compression::Snappy,
            FileCompression::Lz4 => Compression::Lz4,
            FileCompression::Zstd => Compression::Zstd,
        },
        ..ProducerConfig::default()
    }
}
