//! Workloads that no scenario file knows: any code over our client, judged by the same checks.
//!
//! An [`Own`] is given to a run beside its scenario and gets a host of its own there. It keeps its history by a
//! [`Session`], whose sends and polls are what the judge reads. `scenarios/examples/own_workload.rs` is a complete one.

use super::{Scene, consume, digest, value_bytes};
use crate::recorder::{Sending, moment, outcome, polls_of};
use broker_client::{Consumer, Polled, ProduceError, Producer, Record, RecordMetadata};
use broker_env::{SharedEnv, Task};
use broker_types::{TopicId, TopicIdPartition, TopicPartition};
use bytes::Bytes;
use checker::{Acks, Outcome, SessionId};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A client's code: what it does with the outside it is given, in a scene.
type Work = dyn Fn(SharedEnv, Scene) -> Task + Send + Sync;

/// One client of one's own, with a host to itself.
#[derive(Clone)]
pub struct Own {
    name: String,
    work: Arc<Work>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Own {
    /// A client that does `work`. Its host is called `name`, which must differ from every other host's.
    ///
    /// The work returns soon after [`Scene::stop`] has become true, when nothing of it is on its way any more: the run
    /// waits for that before it reads everything once more.
    #[must_use]
    pub fn new<W>(name: &str, work: impl Fn(SharedEnv, Scene) -> W + Send + Sync + 'static) -> Self
    where
        W: Future<Output = ()> + Send + 'static,
    {
        Own { name: name.to_owned(), work: Arc::new(move |env, scene| Box::pin(work(env, scene))) }
    }

    /// What its host is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process of its host: the work, and then the life of an idle service.
    pub(crate) fn process(&self, env: SharedEnv, scene: Scene) -> Task {
        let work = (self.work)(env, scene.clone());
        Box::pin(async move {
            work.await;
            scene.shared.client_done();
            std::future::pending::<()>().await;
        })
    }
}

/// How a record is sent.
#[derive(Clone, Copy, Debug)]
pub struct SendAs {
    /// The producer's `acks`; the judge holds the cluster to it.
    pub acks: Acks,
    /// Whether the producer is idempotent.
    pub idempotent: bool,
    /// Size of the value. Its content is the session's: a number that tells it from every other.
    pub value_bytes: usize,
}

/// One client incarnation's hand at the history: what it sends and polls is written down.
///
/// A session does one thing after the other. A client that does several at a time has several sessions.
pub struct Session {
    env: SharedEnv,
    scene: Scene,
    id: SessionId,
}

impl Session {
    /// A new session of the client that `env` belongs to.
    #[must_use]
    pub fn new(env: &SharedEnv, scene: &Scene) -> Self {
        Session { env: env.clone(), scene: scene.clone(), id: scene.recorder.session() }
    }

    /// Sends one record and waits for its fate.
    ///
    /// # Errors
    /// Why it was not acknowledged, and whether it may be in the log all the same.
    pub async fn send(
        &self,
        producer: &Producer,
        to: &TopicPartition,
        topic_id: TopicId,
        key: Option<Bytes>,
        how: SendAs,
    ) -> Result<RecordMetadata, ProduceError> {
        let now = || moment(self.scene.world.now());
        let value = self.scene.recorder.value();
        let bytes = value_bytes(value, how.value_bytes);
        let timestamp = self.env.wall().0;
        let partition = TopicIdPartition { topic: topic_id, partition: to.partition };
        let digest = digest(key.as_deref(), Some(&bytes), timestamp, std::iter::empty());
        let sending = Sending { partition, value, digest, acks: how.acks, idempotent: how.idempotent };
        let op = self.scene.recorder.send(self.id, now(), sending);
        let record = Record {
            topic: to.topic.clone(),
            partition: Some(to.partition),
            timestamp,
            key,
            value: Some(bytes),
            headers: Vec::new(),
        };
        let fate = producer.send(record).await;
        match &fate {
            Ok(metadata) => {
                self.scene.recorder.sent(op, now(), Outcome::Ok, metadata.offset, None);
                self.scene.shared.acked(partition);
            }
            Err(error) => {
                self.scene.shared.refused(error.code);
                self.scene.recorder.sent(op, now(), outcome(error.outcome), None, Some(error.code.name().to_owned()));
            }
        }
        fate
    }

    /// Polls once.
    pub async fn poll(&self, consumer: &mut Consumer, max_wait: Duration) -> Polled {
        let polled = consumer.poll(max_wait).await;
        let returned = moment(self.scene.world.now());
        let asked = consume::asked_at(&self.env, &self.scene);
        for (invoked, poll) in polls_of(&polled, false, &consume::seeked(&polled.events), asked) {
            self.scene.recorder.polled(self.id, invoked, returned, poll);
        }
        polled
    }
}
