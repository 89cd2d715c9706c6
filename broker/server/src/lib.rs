//! The hands of a Kafka node: sockets, files, timers. [`Broker::start`] is the one door.
//!
//! Deciding happens in `broker-core`; this crate waits for messages, completions and deadlines, steps the machines and
//! carries out what they say. It reaches the outside only through `broker-env` and cannot tell a simulated world from
//! the real one.

mod config;
mod drivers;
mod inspect;
mod net;
mod node;
mod requests;
pub mod storage;

pub use config::{Config, ConfigError, Endpoint, Parsed, Settings, VoterEndpoint, parse_properties};
pub use inspect::{Beliefs, Inspector, PartitionCounts};
pub use node::Counters;

use broker_core::controller::{Controller, ControllerConfig};
use broker_core::metadata::MetadataImage;
use broker_core::raft::{
    ElectionState, EpochStart, LeaderAndEpoch, LogView, Raft, RaftConfig, ReplicaKey, Restored, VoterSet,
};
use broker_env::SharedEnv;
use broker_env::watch;
use broker_types::{LeaderEpoch, Observation, Observer, Offset, OffsetAndEpoch, TopicIdPartition, Uuid};
use drivers::lifecycle::{ShutdownRequest, Standing};
use drivers::quorum::{Publish, Quorum, QuorumMessage};
use drivers::replicas::{ReplicaMessage, Replicas};
use drivers::{forward, isr, lifecycle, quorum, replicas};
use node::{ListenerKind, Node};
use rand_core::Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use storage::{Log, LogConfig, LogDir, MetaProperties, OpenLog, StorageError, read_quorum_state};
use tokio::sync::{mpsc, oneshot};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A log directory was never formatted.
    #[error("{0} is not formatted; run `broker format` first")]
    NotFormatted(PathBuf),
    /// A log directory belongs to somebody else.
    #[error("{dir}: {what}")]
    WrongDirectory {
        /// Which.
        dir: PathBuf,
        /// Whose it is.
        what: String,
    },
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A listener cannot listen.
    #[error("cannot listen on {host}:{port}: {source}")]
    Listen {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// Why.
        source: std::io::Error,
    },
    /// A value that only shows its fault when used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// A Kafka node: broker, controller, or both.
pub struct Broker {
    node: Arc<Node>,
    replicas: Option<mpsc::Sender<ReplicaMessage>>,
    shutdown: Option<oneshot::Sender<ShutdownRequest>>,
    unfenced: watch::Receiver<bool>,
}

/// Writes `meta.properties` into every log directory that has none yet.
///
/// # Errors
/// The disk's; `WrongDirectory` if one belongs to another cluster or node.
pub async fn format(env: &SharedEnv, config: &Config, cluster_id: &str) -> Result<(), StartError> {
    let mut ids = env.entropy("format");
    let mut dirs = config.log_dirs.clone();
    if !dirs.contains(&config.metadata_log_dir) {
        dirs.push(config.metadata_log_dir.clone());
    }
    for root in dirs {
        let (dir, found) = LogDir::open(env.clone(), &root).await?;
        match found.meta {
            Some(meta) if meta.cluster_id == cluster_id && meta.node_id == config.node_id => {}
            Some(meta) => {
                let what = format!("already formatted for node {} of cluster {}", meta.node_id, meta.cluster_id);
                return Err(StartError::WrongDirectory { dir: root, what });
            }
            None => {
                let directory_id = Uuid(u128::from(ids.next_u64()) << 64 | u128::from(ids.next_u64()));
                let meta = MetaProperties {
                    cluster_id: cluster_id.to_owned(),
                    node_id: config.node_id,
                    directory_id: Some(directory_id),
                };
                dir.write_meta(&meta).await?;
            }
        }
    }
    Ok(())
}

impl Broker {
    /// Starts a node. It runs until [`Broker::shutdown`], or until something breaks that it cannot live with.
    ///
    /// # Errors
    /// A directory that is not this node's, a disk that fails, a port that is taken.
    pub async fn start(env: SharedEnv, observer: Arc<dyn Observer>, mut config: Config) -> Result<Broker, StartError> {
        let root = config.log_dirs[0].clone();
        let (dir, mut found) = LogDir::open(env.clone(), &root).await?;
        // The metadata log lies beside the partitions and is none of them.
        found.partitions.retain(|dir| dir.partition.topic.as_str() != requests::quorum_api::METADATA_TOPIC);
        let meta = found.meta.clone().ok_or_else(|| StartError::NotFormatted(root.clone()))?;
        if meta.node_id != config.node_id {
            let what = format!("formatted for node {}, but node.id is {}", meta.node_id, config.node_id);
            return Err(StartError::WrongDirectory { dir: root, what });
        }
        config.cluster_id = meta.cluster_id.clone();
        let directory = meta.directory_id.unwrap_or_default();
        let mut entropy = env.entropy(&format!("node/{}/ids", config.node_id));
        let incarnation = Uuid(u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64()));

        let (stop, stopping) = watch::channel(false);
        let (metadata_tx, metadata) = watch::channel(Arc::new(MetadataImage::new()));
        let (leader_tx, leader) = watch::channel(LeaderAndEpoch { leader: None, epoch: LeaderEpoch(0) });
        let (epoch_tx, broker_epoch) = watch::channel(None);
        let (quorum_tx, quorum_rx) = mpsc::channel(quorum::INBOX);
        let (replicas_tx, replicas_rx) = mpsc::channel(replicas::INBOX);
        let (forward_tx, forward_rx) = mpsc::channel(forward::INBOX);
        let (proposals_tx, proposals_rx) = mpsc::channel(isr::INBOX);
        let (unfenced_tx, unfenced) = watch::channel(false);
        let is_broker = config.is_broker;
        let node = Arc::new(Node {
            env: env.clone(),
            observer,
            config,
            incarnation,
            directory,
            stopping,
            stop,
            failed: AtomicBool::new(false),
            metadata,
            leader,
            broker_epoch,
            quorum: quorum_tx,
            replicas: is_broker.then(|| replicas_tx.clone()),
            forward: forward_tx,
            producer_ids: tokio::sync::Mutex::new(None),
            bound: Mutex::new(BTreeMap::new()),
            counters: Counters::default(),
        });

        let publish = Publish { metadata: metadata_tx, leader: leader_tx };
        let driver = open_quorum(&node, quorum_rx, publish).await?;
        listen(&node, &unfenced).await?;
        env.go("quorum", driver.run());

        let mut shutdown = None;
        if is_broker {
            // Whatever ends this life without a word was not clean.
            let previous_epoch = found.clean_shutdown.as_ref().and_then(storage::CleanShutdown::broker_epoch);
            dir.remove_clean_shutdown().await?;
            for path in &found.deleted {
                dir.finish_delete(path).await?;
            }
            let hands = Replicas::new(node.clone(), replicas_rx, replicas_tx.clone(), proposals_tx, dir, found);
            env.go("replicas", hands.run());
            env.go("alter-partition", isr::run(node.clone(), replicas_tx.clone(), proposals_rx));
            env.go("forward", forward::run(node.clone(), forward_rx));
            let (ask, asked) = oneshot::channel();
            let standing =
                Standing { log_dirs: vec![directory], previous_epoch, epoch: epoch_tx, unfenced: unfenced_tx };
            env.go("lifecycle", lifecycle::run(node.clone(), standing, asked));
            shutdown = Some(ask);
        }
        Ok(Broker { node, replicas: is_broker.then_some(replicas_tx), shutdown, unfenced })
    }

    /// Waits until the controller lets this broker lead and follow; returns at once for a mere controller.
    pub async fn ready(&self) {
        if self.replicas.is_some() {
            let _ = self.unfenced.clone().wait_for(|unfenced| *unfenced).await;
        }
    }

    /// Waits until this node's metadata has that many brokers that are not fenced.
    pub async fn knows_brokers(&self, count: usize) {
        let enough = |image: &Arc<MetadataImage>| image.brokers().values().filter(|one| !one.fenced).count() >= count;
        let _ = self.node.metadata.clone().wait_for(enough).await;
    }

    /// Waits until the node has ended; `true` if it did so on its own because something broke.
    pub async fn stopped(&self) -> bool {
        let _ = self.node.stopping.clone().wait_for(|stop| *stop).await;
        self.node.failed.load(Ordering::Relaxed)
    }

    /// A controlled shutdown: leaderships move away first, logs are closed cleanly, a leading controller hands over.
    pub async fn shutdown(&mut self) {
        if let Some(ask) = self.shutdown.take()
            && self.node.config.settings.controlled_shutdown
            // A broker that was never registered leads nothing, and may wait for its controller for ever.
            && self.node.broker_epoch.borrow().is_some()
        {
            let (done, moved) = oneshot::channel();
            if ask.send(done).is_ok() {
                let _ = moved.await;
            }
        }
        if let Some(replicas) = &self.replicas {
            let (done, closed) = oneshot::channel();
            if replicas.send(ReplicaMessage::Shutdown { done }).await.is_ok() {
                let _ = closed.await;
            }
        }
        let (done, handed_over) = oneshot::channel();
        if self.node.quorum.send(QuorumMessage::Shutdown { done }).await.is_ok() {
            let patience = self.node.env.mono() + self.node.config.settings.quorum_request_timeout;
            let _ = self.node.env.until(patience, handed_over).await;
        }
        self.node.stop.send(true);
    }

    /// What this node counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.node.counters
    }

    /// A look at this node that needs no borrow of it.
    #[must_use]
    pub fn inspector(&self) -> Inspector {
        Inspector::new(self.node.clone())
    }

    /// What this node believes of the cluster, as it goes on.
    #[must_use]
    pub fn beliefs(&self) -> Beliefs {
        Beliefs::new(&self.node)
    }

    /// Ports as bound, by listener name.
    #[must_use]
    pub fn bound_ports(&self) -> BTreeMap<String, u16> {
        self.node.bound.lock().expect("never held across a panic").clone()
    }
}

async fn listen(node: &Arc<Node>, unfenced: &watch::Receiver<bool>) -> Result<(), StartError> {
    let broker = node.config.listeners.iter().map(|endpoint| (ListenerKind::Broker, endpoint));
    let controller = node.config.controller_listeners.iter().map(|endpoint| (ListenerKind::Controller, endpoint));
    let wanted: Vec<_> = broker
        .filter(|_| node.config.is_broker)
        .chain(controller.filter(|_| node.config.is_controller))
        .map(|(kind, endpoint)| (kind, endpoint.clone()))
        .collect();
    let [for_brokers, for_controllers] = [(); 2].map(|()| net::admission::Admission::new(&node.config.settings));
    for (kind, endpoint) in wanted {
        let network = node.env.network();
        // No host means every interface: of both families where the system has IPv6, and one socket serves both then.
        let host = if endpoint.host.is_empty() { "::" } else { &endpoint.host };
        let mut bound = network.listen(host, endpoint.port).await;
        if endpoint.host.is_empty() && bound.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::AddrInUse)
        {
            bound = network.listen("0.0.0.0", endpoint.port).await;
        }
        let listener =
            bound.map_err(|source| StartError::Listen { host: endpoint.host.clone(), port: endpoint.port, source })?;
        let port = listener.local_addr().port();
        node.bound.lock().expect("never held across a panic").insert(endpoint.name.clone(), port);
        // Until the controller lets it, a broker knows too little to answer clients: it would deny topics that it has.
        let open = (kind == ListenerKind::Broker).then(|| unfenced.clone());
        let admission = if kind == ListenerKind::Broker { &for_brokers } else { &for_controllers };
        let exempt = endpoint.name == node.config.inter_broker_listener && node.config.listeners.len() > 1;
        node.env.go("listener", net::listener::accept(node.clone(), kind, listener, admission.clone(), exempt, open));
    }
    Ok(())
}

/// Opens the metadata log and what the quorum promised, and makes the machines.
async fn open_quorum(
    node: &Arc<Node>,
    inbox: mpsc::Receiver<QuorumMessage>,
    publish: Publish,
) -> Result<Quorum, StartError> {
    let config = &node.config;
    let env = &node.env;
    let path = config.metadata_log_dir.join(format!("{}-0", requests::quorum_api::METADATA_TOPIC));
    env.disk().create_dir_all(&path).await.map_err(|source| StorageError::Io {
        doing: "create",
        path: path.clone(),
        source,
    })?;
    // The directory's own name must be durable before anything in it is promised.
    let _ = env.disk().sync_dir(&config.metadata_log_dir).await;
    let log_config = LogConfig::default();
    // No checkpoint vouches for this log: it is read from its beginning each time, which its state needs anyway.
    let (mut log, loaded) = Log::open(env.clone(), &path, log_config, OpenLog::default()).await?;
    log.flush_now().await?;
    let mut epochs: Vec<EpochStart> = Vec::new();
    for batch in &loaded.batches {
        if let Some(epoch) = batch.leader_epoch
            && epochs.last().is_none_or(|last| last.epoch < epoch)
        {
            epochs.push(EpochStart { epoch, start: batch.base_offset });
        }
    }
    node.observer.observe(Observation::LogLoaded {
        partition: TopicIdPartition::METADATA,
        log_start: loaded.log_start,
        log_end: loaded.log_end,
        high_watermark: loaded.log_start,
        truncated_bytes: loaded.truncated_bytes,
    });
    let start = OffsetAndEpoch { offset: loaded.log_start, epoch: LeaderEpoch(0) };
    let view = LogView::recovered(start, loaded.log_end, loaded.log_end, epochs);
    let state_file = path.join("quorum-state");
    let state = read_quorum_state(env.disk(), &state_file).await?;
    let quorum_state = state.map_or_else(ElectionState::default, |file| ElectionState {
        epoch: file.epoch,
        leader: file.leader,
        voted: file.voted.map(|id| ReplicaKey { id, directory: None }),
    });
    let voters = VoterSet::of_ids(config.voter_ids()).ok_or_else(|| ConfigError {
        key: "controller.quorum.voters".to_owned(),
        problem: "names nobody".to_owned(),
    })?;
    let settings = &config.settings;
    let raft_config = RaftConfig {
        election_timeout: settings.quorum_election_timeout,
        fetch_timeout: settings.quorum_fetch_timeout,
        election_backoff_max: settings.quorum_election_backoff_max,
        retry_backoff: settings.quorum_retry_backoff,
        ..RaftConfig::new(config.node_id, node.directory, voters)
    };
    let restored = Restored { quorum_state, log: view, high_watermark: Offset::ZERO };
    let rng = env.entropy(&format!("node/{}/raft", config.node_id));
    let raft = Raft::new(raft_config, restored, rng, env.mono());
    let controller = config.is_controller.then(|| {
        let wanted = ControllerConfig {
            session_timeout: settings.session_timeout,
            max_idle_interval: settings.metadata_max_idle_interval,
            default_partitions: i32::try_from(settings.num_partitions).unwrap_or(1),
            default_replication_factor: i16::try_from(settings.default_replication_factor).unwrap_or(1),
            min_insync_replicas: i32::try_from(settings.min_insync_replicas).unwrap_or(1),
            unclean_leader_election: settings.unclean_leader_election,
            ..ControllerConfig::new(config.node_id, &config.cluster_id)
        };
        Controller::new(wanted, env.entropy(&format!("node/{}/controller", config.node_id)))
    });
    Ok(Quorum::new(node.clone(), raft, controller, log, state_file, inbox, publish))
}
