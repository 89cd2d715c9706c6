//! A broker's standing with the controller: registration, heartbeats, controlled shutdown (KIP-631, KIP-841).
//!
//! Registering gives the broker its epoch; heartbeats keep it unfenced; before a stop it asks the controller to move
//! its leaderships away.

use super::forward::ControllerChannel;
use crate::net::channel::Backoff;
use crate::net::race::{First, race};
use crate::node::Node;
use crate::requests::controller_api;
use broker_env::watch;
use broker_types::{BrokerEpoch, DirectoryId, ErrorCode};
use broker_wire::messages::convert::{text, to_broker_epoch, to_uuid};
use broker_wire::messages::{BrokerHeartbeatRequest, BrokerId, BrokerRegistrationRequest, broker_registration_request};
use broker_wire::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a controlled shutdown waits for its leaderships to move.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(30);

/// Asks for a controlled shutdown; answered when the broker may stop.
pub(crate) type ShutdownRequest = oneshot::Sender<()>;

/// What the lifecycle needs to know once.
pub(crate) struct Standing {
    pub(crate) log_dirs: Vec<DirectoryId>,
    /// The epoch in the clean-shutdown file (KIP-966); `None` after an unclean stop.
    pub(crate) previous_epoch: Option<BrokerEpoch>,
    pub(crate) epoch: watch::Sender<Option<BrokerEpoch>>,
    /// Set once the controller told that this broker is not fenced.
    pub(crate) unfenced: watch::Sender<bool>,
}

/// Registers, then keeps the session alive until the node stops.
pub(crate) async fn run(node: Arc<Node>, standing: Standing, mut shutdown: oneshot::Receiver<ShutdownRequest>) {
    let mut channel = ControllerChannel::new(node.clone(), "broker-lifecycle");
    let Some(epoch) = register(&node, &standing, &mut channel).await else { return };
    tracing::info!(broker_epoch = %epoch, "registered");
    standing.epoch.send(Some(epoch));
    let interval = node.config.settings.heartbeat_interval;
    let mut stopping: Option<(ShutdownRequest, broker_types::MonoTime)> = None;
    let mut shutdown_taken = false;
    let mut pause = Duration::ZERO;
    loop {
        let until = node.env.mono() + pause;
        if shutdown_taken {
            node.env.timer(until).await;
        } else if let First::Left(asked) = race(&mut shutdown, node.env.timer(until)).await {
            shutdown_taken = true;
            if let Ok(done) = asked {
                stopping = Some((done, node.env.mono() + SHUTDOWN_PATIENCE));
            }
        }
        let image = node.image();
        let body = BrokerHeartbeatRequest::default()
            .with_broker_id(BrokerId(node.config.node_id.0))
            .with_broker_epoch(epoch.0)
            .with_current_metadata_offset(controller_api::heartbeat_offset(image.last_offset()))
            .with_want_fence(false)
            .with_want_shut_down(stopping.is_some());
        let request = Request::BrokerHeartbeat(body);
        let deadline = node.env.mono() + node.config.settings.session_timeout;
        let reply = channel.ask(controller_api::version(&request), &request, deadline).await;
        pause = interval;
        if let Some(Response::BrokerHeartbeat(body)) = reply {
            if body.error_code == 0 {
                standing.unfenced.send(!body.is_fenced);
                if body.is_fenced {
                    pause = pause.min(Duration::from_millis(100));
                }
            } else {
                let error = ErrorCode::from_code(body.error_code).unwrap_or(ErrorCode::UnknownServerError);
                tracing::warn!(%error, "heartbeat refused");
                pause = pause.min(Duration::from_millis(500));
            }
            let may_stop = body.error_code == 0 && body.should_shut_down;
            if let Some((done, patience)) = stopping.take() {
                if may_stop || node.env.mono() >= patience {
                    let _ = done.send(());
                    return;
                }
                stopping = Some((done, patience));
                pause = pause.min(Duration::from_millis(50));
            }
        } else if let Some((done, _)) = stopping.take() {
            // Nobody answered for a whole session: this broker is fenced by now, or there is nobody to move its
            // leaderships.
            let _ = done.send(());
            return;
        }
    }
}

/// Registers until it is accepted. A restarted broker is refused while the session of its former life lasts.
async fn register(node: &Arc<Node>, standing: &Standing, channel: &mut ControllerChannel) -> Option<BrokerEpoch> {
    let bound = node.bound.lock().expect("never held across a panic").clone();
    let listeners = node.config.advertised_listeners.iter().map(|endpoint| {
        let port = if endpoint.port == 0 { bound.get(&endpoint.name).copied().unwrap_or(0) } else { endpoint.port };
        let host = if endpoint.host.is_empty() { "localhost" } else { &endpoint.host };
        broker_registration_request::Listener::default()
            .with_name(text(&endpoint.name))
            .with_host(text(host))
            .with_port(port)
            .with_security_protocol(0)
    });
    let feature = broker_registration_request::Feature::default()
        .with_name(text("metadata.version"))
        .with_min_supported_version(7)
        .with_max_supported_version(30);
    let body = BrokerRegistrationRequest::default()
        .with_broker_id(BrokerId(node.config.node_id.0))
        .with_cluster_id(text(&node.config.cluster_id))
        .with_incarnation_id(to_uuid(node.incarnation))
        .with_listeners(listeners.collect())
        .with_features(vec![feature])
        .with_rack(node.config.rack.as_deref().map(text))
        .with_log_dirs(standing.log_dirs.iter().map(|id| to_uuid(*id)).collect())
        .with_previous_broker_epoch(to_broker_epoch(standing.previous_epoch));
    let request = Request::BrokerRegistration(body);
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));
    loop {
        let deadline = node.env.mono() + Duration::from_secs(60);
        let reply = channel.ask(controller_api::version(&request), &request, deadline).await;
        if let Some(Response::BrokerRegistration(body)) = reply {
            match ErrorCode::from_code(body.error_code) {
                Some(ErrorCode::None) => return Some(BrokerEpoch(body.broker_epoch)),
                Some(error @ (ErrorCode::InconsistentClusterId | ErrorCode::UnsupportedVersion)) => {
                    tracing::error!(%error, "the controller will never accept this broker");
                    node.fail();
                    return None;
                }
                Some(error) => tracing::info!(%error, "registration refused, trying again"),
                None => {}
            }
        }
        backoff.pause(&*node.env).await;
    }
}
