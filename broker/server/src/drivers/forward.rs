//! Asking the active controller, whoever it is.
//!
//! What may be asked twice is sent until it is answered. A client's change of topics is sent once: when its answer does not
//! come, the client is told REQUEST_TIMED_OUT, for nobody knows. Kafka's brokers send it again, and then a client is
//! refused for what its own first attempt did, or a first attempt that was held up undoes what others did since.

use crate::net::channel::{Backoff, Channel};
use crate::net::race::{First, race};
use crate::node::Node;
use crate::requests::controller_api;
use broker_types::{ErrorCode, MonoTime, NodeId};
use broker_wire::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Questions that wait to be forwarded, at most; connections wait beyond.
pub(crate) const INBOX: usize = 128;

/// A client's request that only the active controller can answer.
pub(crate) struct Forward {
    pub(crate) request: Request,
    pub(crate) version: i16,
    /// Give up then.
    pub(crate) deadline: MonoTime,
    /// Not to be sent again once the controller may have seen it.
    pub(crate) once: bool,
    pub(crate) reply: oneshot::Sender<Response>,
}

/// What came of one attempt.
enum Attempt {
    Answered(Response),
    /// Nobody acts on it: it was not sent, or whom it was sent to is not the active controller.
    NotTaken,
    /// It was sent and not answered.
    Unanswered,
}

/// A channel to the active controller that follows it when it moves.
pub(crate) struct ControllerChannel {
    node: Arc<Node>,
    name: &'static str,
    channel: Option<(NodeId, Channel)>,
    backoff: Backoff,
}

impl ControllerChannel {
    pub(crate) fn new(node: Arc<Node>, name: &'static str) -> Self {
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(1000));
        ControllerChannel { node, name, channel: None, backoff }
    }

    /// Asks until the active controller answers or `deadline` comes. A request that was sent and not answered may have
    /// taken effect; whoever asks must be able to live with asking twice.
    pub(crate) async fn ask(&mut self, version: i16, request: &Request, deadline: MonoTime) -> Option<Response> {
        self.ask_until(version, request, deadline, false).await
    }

    /// Asks; gives up when `deadline` comes, and with `once` also when the request was sent and not answered.
    async fn ask_until(&mut self, version: i16, request: &Request, deadline: MonoTime, once: bool) -> Option<Response> {
        let env = self.node.env.clone();
        let mut leader = self.node.leader.clone();
        let answer = env.until(deadline, async {
            loop {
                leader.borrow_and_update();
                match self.attempt(version, request, deadline).await {
                    Attempt::Answered(response) => {
                        self.backoff.reset();
                        return Some(response);
                    }
                    Attempt::Unanswered if once => {
                        self.channel = None;
                        return None;
                    }
                    Attempt::Unanswered | Attempt::NotTaken => self.channel = None,
                }
                // News of a leader end the pause; a quorum that has ended has no more of them.
                match race(leader.changed(), self.backoff.pause(&*env)).await {
                    First::Left(Ok(())) => self.backoff.reset(),
                    First::Left(Err(_)) => self.backoff.pause(&*env).await,
                    First::Right(()) => {}
                }
            }
        });
        answer.await.flatten()
    }

    async fn attempt(&mut self, version: i16, request: &Request, deadline: MonoTime) -> Attempt {
        let Some(leader) = self.node.leader.borrow().leader else { return Attempt::NotTaken };
        if self.channel.as_ref().is_none_or(|(to, _)| *to != leader) {
            let Some(voter) = self.node.config.voters.iter().find(|voter| voter.id == leader) else {
                return Attempt::NotTaken;
            };
            let client_id = format!("{}-{}", self.name, self.node.config.node_id);
            let channel = Channel::new(self.node.env.clone(), client_id, voter.host.clone(), voter.port);
            self.channel = Some((leader, channel));
        }
        let (_, channel) = self.channel.as_mut().expect("just made");
        // A controller that does not answer may be cut off: another one may be elected meanwhile.
        let left = deadline.since(self.node.env.mono());
        let patience = left.min(self.node.config.settings.session_timeout / 2).max(Duration::from_millis(1));
        match channel.ask(version, request, patience).await {
            Ok(response) if controller_api::is_not_controller(&response) => Attempt::NotTaken,
            Ok(response) => Attempt::Answered(response),
            Err(error) => {
                tracing::debug!(controller = %leader, %error, "the controller did not answer");
                if channel.was_sent() { Attempt::Unanswered } else { Attempt::NotTaken }
            }
        }
    }
}

/// Forwards clients' requests, one at a time, in order.
pub(crate) async fn run(node: Arc<Node>, mut inbox: mpsc::Receiver<Forward>) {
    let mut channel = ControllerChannel::new(node, "forwarding");
    while let Some(Forward { request, version, deadline, once, reply }) = inbox.recv().await {
        let response = match channel.ask_until(version, &request, deadline, once).await {
            Some(response) => response,
            None => controller_api::refused(&request, &ErrorCode::RequestTimedOut.into()),
        };
        let _ = reply.send(response);
    }
}
