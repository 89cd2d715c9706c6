//! Which brokers live: sessions on the controller's monotonic clock, and what a heartbeat leads to (KIP-631).
//!
//! A broker is fenced, unfenced, in controlled shutdown, or free to stop:
//!
//! - fenced → unfenced, when it no longer wants to be fenced and has applied its own registration;
//! - unfenced → controlled shutdown, when it wants to stop and still leads; its leaderships move away;
//! - controlled shutdown → free to stop, when it leads nothing and every live broker has applied that;
//! - anything → fenced, when it asks for it, stops, or was not heard of for a whole session.
//!
//! Sessions are no part of the log. A new active controller has heard of nobody and gives each unfenced broker a
//! whole new session (so a fail-over never fences a broker that lives).

use super::{Active, BrokerHeartbeat, ControllerConfig, ControllerResponse, Decision, HeartbeatReply, Refusal};
use crate::metadata::MetadataImage;
use broker_types::{BrokerEpoch, BrokerId, MonoTime, Offset};
use std::collections::BTreeMap;

/// The sessions of all brokers that were heard of in this controller's term.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Sessions(BTreeMap<BrokerId, Session>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Session {
    /// Of which registration. A session of another one says nothing.
    epoch: BrokerEpoch,
    /// When it ends.
    deadline: MonoTime,
    /// Last metadata offset the broker said it has applied, inclusive.
    metadata_offset: Option<Offset>,
    /// Offset of the last record of its controlled shutdown: live brokers must have applied it before it may stop.
    shutdown_offset: Option<Offset>,
}

/// What a heartbeat leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Fenced,
    Unfenced,
    ControlledShutdown,
    ShutdownNow,
}

impl Sessions {
    /// Gives every unfenced broker a session until `deadline`.
    pub(super) fn start(image: &MetadataImage, deadline: MonoTime) -> Self {
        let mut sessions = Sessions(BTreeMap::new());
        for registration in image.brokers().values().filter(|registration| !registration.fenced) {
            sessions.touch(registration.broker, registration.epoch, deadline);
        }
        sessions
    }

    /// The broker was heard of.
    pub(super) fn touch(&mut self, broker: BrokerId, epoch: BrokerEpoch, deadline: MonoTime) {
        self.session(broker, epoch, deadline);
    }

    fn session(&mut self, broker: BrokerId, epoch: BrokerEpoch, deadline: MonoTime) -> &mut Session {
        let new = Session { epoch, deadline, metadata_offset: None, shutdown_offset: None };
        let session = self.0.entry(broker).or_insert_with(|| new.clone());
        if session.epoch != epoch {
            *session = new;
        }
        session.deadline = session.deadline.max(deadline);
        session
    }

    /// Whether that registration was heard of within a session.
    pub(super) fn is_alive(&self, broker: BrokerId, epoch: BrokerEpoch, now: MonoTime) -> bool {
        self.0.get(&broker).is_some_and(|session| session.epoch == epoch && now < session.deadline)
    }

    fn unfenced<'a>(&'a self, image: &'a MetadataImage) -> impl Iterator<Item = (MonoTime, BrokerId)> + 'a {
        let unfenced = image.brokers().values().filter(|registration| !registration.fenced);
        unfenced.map(|registration| {
            let session = self.0.get(&registration.broker).filter(|session| session.epoch == registration.epoch);
            // An unfenced broker without a session is never left to live for ever.
            (session.map_or(MonoTime(0), |session| session.deadline), registration.broker)
        })
    }

    /// When the first session of an unfenced broker ends.
    pub(super) fn first_deadline(&self, image: &MetadataImage) -> Option<MonoTime> {
        self.unfenced(image).map(|(deadline, _)| deadline).min()
    }

    /// The unfenced broker whose session ended first, if it has.
    pub(super) fn first_expired(&self, image: &MetadataImage, now: MonoTime) -> Option<BrokerId> {
        self.unfenced(image).min().filter(|(deadline, _)| *deadline <= now).map(|(_, broker)| broker)
    }

    /// Whether every live broker but `stopping` has applied the metadata log up to `offset`, inclusive.
    fn all_applied(&self, image: &MetadataImage, stopping: BrokerId, offset: Offset) -> bool {
        image.brokers().values().filter(|r| r.is_active() && r.broker != stopping).all(|registration| {
            let session = self.0.get(&registration.broker).filter(|session| session.epoch == registration.epoch);
            session.and_then(|session| session.metadata_offset) >= Some(offset)
        })
    }
}

impl Active {
    pub(super) fn heartbeat(
        &mut self,
        config: &ControllerConfig,
        now: MonoTime,
        request: &BrokerHeartbeat,
    ) -> Result<Decision, Refusal> {
        let BrokerHeartbeat { broker, broker_epoch, metadata_offset, .. } = *request;
        self.check_broker_epoch(broker, broker_epoch)?;
        let session = self.sessions.session(broker, broker_epoch, now + config.session_timeout);
        session.metadata_offset = session.metadata_offset.max(metadata_offset);
        // The epoch is the offset of the registration's record.
        let caught_up = metadata_offset >= Some(Offset(broker_epoch.0));
        let (current, next) = self.next_standing(request, caught_up);
        let records = match next {
            _ if next == current => Vec::new(),
            Standing::Unfenced => self.unfence(config, broker),
            Standing::ControlledShutdown => self.begin_controlled_shutdown(config, broker),
            Standing::ShutdownNow if current == Standing::Fenced => Vec::new(),
            Standing::Fenced | Standing::ShutdownNow => self.fence(config, broker),
        };
        if next == Standing::ControlledShutdown {
            let last = Offset(self.speculative.end().offset.0 + records.len() as i64 - 1);
            let session = self.sessions.session(broker, broker_epoch, MonoTime(0));
            session.shutdown_offset.get_or_insert(last);
        }
        let fenced = matches!(next, Standing::Fenced | Standing::ShutdownNow);
        let reply = HeartbeatReply { caught_up, fenced, should_shut_down: next == Standing::ShutdownNow };
        Ok(Decision { records, response: ControllerResponse::BrokerHeartbeat(reply) })
    }

    fn next_standing(&self, request: &BrokerHeartbeat, caught_up: bool) -> (Standing, Standing) {
        let BrokerHeartbeat { broker, want_fence, want_shutdown, .. } = *request;
        let leads = || self.speculative.partitions().any(|(_, partition)| partition.leader == Some(broker));
        let Some(registration) = self.speculative.broker(broker) else {
            return (Standing::Fenced, Standing::Fenced);
        };
        let current = match (registration.fenced, registration.in_controlled_shutdown) {
            (true, _) => Standing::Fenced,
            (false, true) => Standing::ControlledShutdown,
            (false, false) => Standing::Unfenced,
        };
        let next = match current {
            Standing::Fenced if want_shutdown => Standing::ShutdownNow,
            // A fenced broker that had begun to stop is not let in again: its next incarnation is.
            Standing::Fenced if registration.in_controlled_shutdown => Standing::ShutdownNow,
            Standing::Fenced if !want_fence && caught_up => Standing::Unfenced,
            Standing::Fenced => Standing::Fenced,
            Standing::Unfenced if want_shutdown && (want_fence || !leads()) => Standing::ShutdownNow,
            Standing::Unfenced if want_shutdown => Standing::ControlledShutdown,
            Standing::Unfenced if want_fence => Standing::Fenced,
            Standing::Unfenced => Standing::Unfenced,
            _ if !leads() && self.shutdown_is_known(broker) => Standing::ShutdownNow,
            _ => Standing::ControlledShutdown,
        };
        (current, next)
    }

    /// Whether every live broker knows that `broker` stops. A new controller does not know since when it does, and
    /// counts from its first heartbeat.
    fn shutdown_is_known(&self, broker: BrokerId) -> bool {
        let offset = self.sessions.0.get(&broker).and_then(|session| session.shutdown_offset);
        offset.is_some_and(|offset| self.sessions.all_applied(&self.speculative, broker, offset))
    }
}
