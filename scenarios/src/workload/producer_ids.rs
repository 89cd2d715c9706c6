//! Which producer ids an idempotent producer was given.

use super::Scene;
use crate::recorder::moment;
use broker_client::Producer;
use broker_types::ProducerId;
use checker::{SessionId, SimTime};

/// Writes down each producer id that one producer is given. The producer asks for it by itself, before its first batch.
pub struct ProducerIds {
    session: SessionId,
    known: Option<ProducerId>,
    /// When it had no newer one yet.
    since: SimTime,
}

impl ProducerIds {
    /// The ids of a producer that was just made, in its session.
    #[must_use]
    pub fn new(scene: &Scene, session: SessionId) -> Self {
        ProducerIds { session, known: None, since: moment(scene.world.now()) }
    }

    /// Looks whether there is a new one. A record that is settled was sent under an id: after each is often enough.
    pub fn look(&mut self, scene: &Scene, producer: &Producer) {
        let now = moment(scene.world.now());
        let since = std::mem::replace(&mut self.since, now);
        let Some((id, _)) = producer.state().session else { return };
        if self.known.replace(id) != Some(id) {
            scene.recorder.producer_id(self.session, since, now, id);
        }
    }
}
