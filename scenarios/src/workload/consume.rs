//! Consumers that read every partition of a topic, and the reads at the end of a run.

use super::Scene;
use crate::file::{Consume, Isolation};
use crate::recorder::{moment, polls_of};
use broker_client::{AutoOffsetReset, Consumer, ConsumerConfig, ConsumerEvent, IsolationLevel, OffsetSpec};
use broker_env::{SharedEnv, Task};
use broker_types::{Offset, TopicIdPartition, TopicName, TopicPartition};
use checker::TailRead;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(500);
/// How long the final reads may take, simulated.
const FINAL_PATIENCE: Duration = Duration::from_secs(120);

fn config(isolation: Isolation) -> ConsumerConfig {
    ConsumerConfig {
        isolation: match isolation {
            Isolation::ReadUncommitted => IsolationLevel::ReadUncommitted,
            Isolation::ReadCommitted => IsolationLevel::ReadCommitted,
        },
        auto_offset_reset: AutoOffsetReset::Earliest,
        fetch_min_bytes: 1,
        ..ConsumerConfig::default()
    }
}

/// Partitions whose position was set otherwise than by reading.
pub(super) fn seeked(events: &[ConsumerEvent]) -> Vec<TopicPartition> {
    let moved = events.iter().filter_map(|event| match event {
        ConsumerEvent::Positioned { partition, .. } | ConsumerEvent::Truncated { partition, .. } => {
            Some(partition.clone())
        }
        ConsumerEvent::Failed(_) => None,
    });
    moved.collect()
}

/// A moment of this client's clock as simulated time; a little early rather than late, since its clock may drift.
pub(super) fn asked_at(env: &SharedEnv, scene: &Scene) -> impl Fn(broker_types::MonoTime) -> checker::SimTime {
    let (mono, now) = (env.mono(), moment(scene.world.now()));
    move |at| {
        let ago = mono.since(at);
        checker::SimTime(now.0.saturating_sub(u64::try_from((ago + ago / 100).as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The loop of consumer number `number` of a workload.
#[must_use]
pub fn consume(env: SharedEnv, scene: Scene, workload: Consume, number: u32) -> Task {
    Box::pin(async move {
        let client = scene.client(env.clone(), &format!("consumer-{number}"));
        let topic = TopicName::from(workload.topic.as_str());
        let Ok(described) = client.topic(&topic).await else { return };
        let partitions: Vec<TopicPartition> = described
            .partitions
            .keys()
            .map(|index| TopicPartition { topic: topic.clone(), partition: *index })
            .collect();
        let mut consumer = Consumer::new(&client, config(workload.isolation));
        consumer.assign(&partitions);
        let session = scene.recorder.session();
        let stop = scene.stop.clone();
        while !*stop.borrow() {
            let polled = consumer.poll(POLL).await;
            let returned = moment(scene.world.now());
            for event in &polled.events {
                if let ConsumerEvent::Truncated { .. } = event {
                    scene.shared.mark("offset-out-of-range");
                }
            }
            let asked = asked_at(&env, &scene);
            for (invoked, poll) in polls_of(&polled, false, &seeked(&polled.events), asked) {
                scene.recorder.polled(session, invoked, returned, poll);
            }
        }
        scene.shared.client_done();
        std::future::pending::<()>().await;
    })
}

/// Reads whole partitions once more, from their beginning to the end that their leaders tell now. Returns the
/// partitions whose end was reached.
pub async fn read_to_end(env: SharedEnv, scene: Scene, topic: TopicName) -> Vec<TopicIdPartition> {
    let client = scene.client(env.clone(), "final-reader");
    let deadline = env.mono() + FINAL_PATIENCE;
    let Some(Ok(described)) = env.until(deadline, client.topic(&topic)).await else { return Vec::new() };
    let Some(topic_id) = described.id else { return Vec::new() };
    let admin = client.admin();
    let session = scene.recorder.session();
    let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for index in described.partitions.keys() {
        let partition = TopicPartition { topic: topic.clone(), partition: *index };
        let invoked = moment(scene.world.now());
        let listed = admin.list_offset(&partition, OffsetSpec::Latest, IsolationLevel::ReadUncommitted);
        if let Some(Ok(found)) = env.until(deadline, listed).await
            && let Some(end) = found.offset
        {
            let returned = moment(scene.world.now());
            let tail = TailRead {
                partition: TopicIdPartition { topic: topic_id, partition: *index },
                end,
                broker: found.served_by,
                leader_epoch: found.leader_epoch,
            };
            scene.recorder.tail(session, invoked, returned, tail);
            ends.insert(partition, end);
        }
    }
    let mut consumer = Consumer::new(&client, config(Isolation::ReadUncommitted));
    let partitions: Vec<TopicPartition> = ends.keys().cloned().collect();
    consumer.assign(&partitions);
    let session = scene.recorder.session();
    let at_end = |consumer: &Consumer, partition: &TopicPartition, end: Offset| {
        end == Offset::ZERO || consumer.position(partition).is_some_and(|position| position >= end)
    };
    while env.mono() < deadline && !ends.iter().all(|(partition, end)| at_end(&consumer, partition, *end)) {
        let polled = consumer.poll(POLL).await;
        let returned = moment(scene.world.now());
        let asked = asked_at(&env, &scene);
        for (invoked, poll) in polls_of(&polled, true, &seeked(&polled.events), asked) {
            scene.recorder.polled(session, invoked, returned, poll);
        }
    }
    ends.iter()
        .filter(|(partition, end)| at_end(&consumer, partition, **end))
        .map(|(partition, _)| TopicIdPartition { topic: topic_id, partition: partition.partition })
        .collect()
}
