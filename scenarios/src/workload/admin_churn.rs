//! Clients that create topics, delete them, give them partitions, and ask what there is; and that set a configuration of topics
//! that stay, and ask brokers for it.
//!
//! A request goes to any broker, once: a client that tries again by itself is told of what its first try did, and then
//! neither it nor the judge knows which of the two is meant. A question is a request with `validate_only`, since it is
//! answered by the active controller; what brokers tell of topics (Metadata) may be old.

use super::Scene;
use crate::file::AdminChurn;
use crate::recorder::moment;
use broker_client::{Admin, ClientConfig, ClientError, NewTopic};
use broker_env::{SharedEnv, Task};
use broker_types::TopicName;
use checker::{SessionId, TopicAsk};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a client waits for an answer. What has none by then may still take effect.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most replicas of a topic's partitions.
const MOST_REPLICAS: usize = 3;

/// The configuration that is set. Nothing that happens in a run depends on it.
const CONFIG: &str = "file.delete.delay.ms";
/// Kafka's default of it, in milliseconds: no client sets this value.
const DEFAULT: u64 = 60_000;

/// The loop of client number `number` of a workload, from 0. Topics in `kept` stay, and are configured.
#[must_use]
pub fn admin_churn(env: SharedEnv, scene: Scene, workload: AdminChurn, kept: Vec<String>, number: u32) -> Task {
    Box::pin(async move {
        let name = format!("admin-{number}");
        let config = ClientConfig {
            retries: 0,
            request_timeout: PATIENCE,
            default_api_timeout: PATIENCE,
            ..scene.client_config(&name)
        };
        let admin = scene.client_of(env.clone(), config).admin();
        let mut chance = env.entropy(&format!("workload/{name}"));
        let mut session = scene.recorder.session();
        let interval = workload.rate.interval() * workload.clients;
        // Clients of one workload take turns within one interval.
        let mut next = env.mono() + interval * number / workload.clients;
        let mut stop = scene.stop.clone();
        while env.until(next, stop.wait_for(|stop| *stop)).await.is_none() {
            let (topic, ask) = draw(&mut chance, workload.topics);
            let topic = AdminChurn::topic(topic);
            let op = scene.recorder.topic(session, moment(scene.world.now()), &topic, ask);
            let answer = request(&admin, &topic, ask, scene.bootstrap.len()).await;
            scene.recorder.topic_answered(op, moment(scene.world.now()), answer.as_ref().copied());
            let mut is_lost = answer.is_err_and(|error| error.outcome == broker_client::Outcome::Indeterminate);
            if !is_lost && let Some((topic, is_set)) = draw_config(&mut chance, &kept) {
                is_lost = configure(&scene, session, &admin, topic, is_set).await;
            }
            if is_lost {
                // Whoever does not know what it has done is over; what comes now is another's.
                session = scene.recorder.session();
            }
            // A turn that was missed is not made up for.
            next = env.mono().max(next + interval);
        }
        scene.shared.client_done();
        std::future::pending::<()>().await;
    })
}

/// What is asked next, and of which topic.
fn draw(chance: &mut ChaCha8Rng, topics: u32) -> (u32, TopicAsk) {
    let topic = chance.next_u32() % topics;
    let mut partitions = |least: i32, choices: u8| least + i32::from(chance.next_u32().to_le_bytes()[0] % choices);
    let ask = match partitions(0, 12) {
        0..=2 => TopicAsk::Create(partitions(1, 3)),
        3..=4 => TopicAsk::Delete,
        5..=6 => TopicAsk::CreatePartitions(partitions(2, 4)),
        7..=8 => TopicAsk::ValidateCreate,
        _ => TopicAsk::ValidatePartitions(partitions(1, 6)),
    };
    (topic, ask)
}

/// Now and then: of which topic that stays the configuration is set, or asked for.
fn draw_config<'a>(chance: &mut ChaCha8Rng, kept: &'a [String]) -> Option<(&'a str, bool)> {
    let (turn, which) = (chance.next_u32() % 6, chance.next_u32() as usize);
    let topic = kept.get(which.checked_rem(kept.len())?)?;
    (turn < 3).then_some((topic, turn == 0))
}

/// Sets the configuration to a value of which there is no other, or asks for it. True if nobody knows what came of it.
async fn configure(scene: &Scene, session: SessionId, admin: &Admin, topic: &str, is_set: bool) -> bool {
    let name = TopicName::from(topic);
    let value = is_set.then(|| (DEFAULT + scene.recorder.value().0).to_string());
    let now = || moment(scene.world.now());
    let op = scene.recorder.config(session, now(), format!("topic {topic}"), CONFIG, value.clone());
    let answer = match &value {
        Some(value) => admin.set_topic_config(&name, CONFIG, Some(value)).await.map(|()| None),
        None => admin.topic_config(&name, CONFIG).await.map(Some),
    };
    let is_lost = answer.as_ref().is_err_and(|error| error.outcome == broker_client::Outcome::Indeterminate);
    scene.recorder.config_answered(op, now(), answer);
    is_lost
}

async fn request(admin: &Admin, topic: &str, ask: TopicAsk, brokers: usize) -> Result<(), ClientError> {
    let name = TopicName::from(topic);
    let new_topic = |partitions: i32| NewTopic {
        name: name.clone(),
        partitions: Some(partitions),
        replication_factor: i16::try_from(brokers.min(MOST_REPLICAS)).ok(),
        assignment: BTreeMap::new(),
        config: BTreeMap::new(),
    };
    match ask {
        TopicAsk::Create(partitions) => admin.create_topic(&new_topic(partitions)).await.map(drop),
        TopicAsk::Delete => admin.delete_topic(&name).await,
        TopicAsk::CreatePartitions(partitions) => admin.create_partitions(&name, partitions).await,
        TopicAsk::ValidatePartitions(partitions) => admin.validate_partitions(&name, partitions).await,
        TopicAsk::ValidateCreate | TopicAsk::Describe => admin.validate_topic(&new_topic(1)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use std::collections::BTreeSet;

    #[test]
    fn every_topic_that_stays_is_configured_and_asked_about() {
        let (mut chance, kept) = (ChaCha8Rng::seed_from_u64(1), ["orders".to_owned(), "bills".to_owned()]);
        let drawn: BTreeSet<_> = (0..200).filter_map(|_| draw_config(&mut chance, &kept)).collect();
        assert_eq!(drawn.len(), 4, "{drawn:?}");
        assert_eq!(draw_config(&mut chance, &[]), None);
    }

    #[test]
    fn every_kind_of_request_is_drawn_for_every_topic() {
        let mut chance = ChaCha8Rng::seed_from_u64(1);
        let drawn: BTreeSet<(u32, String)> =
            (0..2000).map(|_| draw(&mut chance, 3)).map(|(topic, ask)| (topic, format!("{ask:?}"))).collect();
        // Three sizes of a new topic, one end, four extensions, one question for a topic, six for its partitions.
        assert_eq!(drawn.len(), 3 * (3 + 1 + 4 + 1 + 6), "{drawn:?}");
    }
}
