//! A real cluster in a simulated world: the only place where both names appear.
//!
//! Each node's process is `Broker::start` on the world's `Env`, as the binary `broker` calls it on the real one. What a
//! node observes goes into the trace, to the white-box judge and into the [`View`].

pub mod core;
pub mod faults;
mod replica_files;
mod scan;
pub mod view;

pub use scan::{controllers_agree, end_state};
pub use view::{Event, Happening, PartitionView, View};

use crate::file::Scenario;
use broker_server::{Beliefs, Broker, Config};
use broker_types::{ErrorCode, NodeId, Observation, Observer, TopicIdPartition, Uuid};
use checker::{LossKind, WhiteBox};
use sim::{HostId, Incarnation, World};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;

/// Where every node keeps its data, on its own disk.
pub const DATA: &str = "/data";
/// Port of client listeners.
const BROKER_PORT: u16 = 9092;
/// Port of controller listeners.
const CONTROLLER_PORT: u16 = 9093;

/// What the nodes, the clients and the driver of one run share. One thread runs them all.
pub struct Shared {
    inner: Mutex<Inner>,
}

struct Inner {
    view: View,
    judge: Option<WhiteBox>,
    clients_done: u32,
    refused: BTreeMap<&'static str, u64>,
    /// How to ask each running node for an orderly end.
    stoppers: BTreeMap<NodeId, oneshot::Sender<()>>,
    /// What each node's last process believes, or believed.
    beliefs: BTreeMap<NodeId, Beliefs>,
}

impl Shared {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(judge: WhiteBox) -> Arc<Self> {
        Arc::new(Shared {
            inner: Mutex::new(Inner {
                view: View::default(),
                judge: Some(judge),
                clients_done: 0,
                refused: BTreeMap::new(),
                stoppers: BTreeMap::new(),
                beliefs: BTreeMap::new(),
            }),
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().expect("one thread a world"))
    }

    /// Looks at the view.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        self.with(|inner| look(&inner.view))
    }

    /// A producer was told that a record is written.
    pub fn acked(&self, partition: TopicIdPartition) {
        self.with(|inner| inner.view.acked(partition));
    }

    /// A producer was told an error.
    pub fn refused(&self, code: ErrorCode) {
        self.with(|inner| {
            *inner.refused.entry(code.name()).or_default() += 1;
            match code {
                ErrorCode::RequestTimedOut => inner.view.mark("delivery-timed-out"),
                ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
                    inner.view.mark("below-min-isr");
                }
                _ => {}
            }
        });
    }

    /// Errors told to producers, by name.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.with(|inner| inner.refused.clone())
    }

    /// Counts a mark.
    pub fn mark(&self, name: &'static str) {
        self.with(|inner| inner.view.mark(name));
    }

    /// A workload's client has nothing on its way any more.
    pub fn client_done(&self) {
        self.with(|inner| inner.clients_done += 1);
    }

    /// Clients that are done.
    #[must_use]
    pub fn clients_done(&self) -> u32 {
        self.with(|inner| inner.clients_done)
    }

    /// Talks to the judge.
    pub fn judge<T>(&self, tell: impl FnOnce(&mut WhiteBox) -> T) -> Option<T> {
        self.with(|inner| inner.judge.as_mut().map(tell))
    }

    /// Takes the judge out, at the end.
    #[must_use]
    pub fn take_judge(&self) -> Option<WhiteBox> {
        self.with(|inner| inner.judge.take())
    }

    /// A node's process ends.
    pub fn stopped(&self, node: NodeId) {
        self.with(|inner| inner.view.settled.remove(&node));
    }

    /// A node may have lost bytes.
    pub fn lost(&self, node: NodeId, at: sim::SimTime, kind: LossKind) {
        self.judge(|judge| judge.node_lost(node, crate::recorder::moment(at), kind));
    }

    /// What a node's last process believes, or believed; `None` before it was up for the first time.
    #[must_use]
    pub fn beliefs(&self, node: NodeId) -> Option<Beliefs> {
        self.with(|inner| inner.beliefs.get(&node).cloned())
    }

    /// Asks a node for an orderly end. False if none runs there.
    #[must_use]
    pub fn ask_to_stop(&self, node: NodeId) -> bool {
        self.with(|inner| inner.stoppers.remove(&node)).is_some_and(|stopper| stopper.send(()).is_ok())
    }
}

/// The nodes of a scenario, each on its host.
pub struct Cluster {
    /// The world.
    pub world: World,
    /// Hosts by node id.
    pub hosts: BTreeMap<NodeId, HostId>,
    /// Racks by node id.
    pub racks: BTreeMap<NodeId, String>,
    /// Nodes of the metadata quorum.
    pub voters: Vec<NodeId>,
    /// What is shared.
    pub shared: Arc<Shared>,
}

/// `broker-1`, `controller-1`: what a node is called, and its host.
#[must_use]
pub fn node_name(node: NodeId) -> String {
    if node.0 > 100 { format!("controller-{}", node.0 - 100) } else { format!("broker-{node}") }
}

impl Cluster {
    /// Adds the scenario's nodes to the world. None is started yet.
    #[must_use]
    pub fn build(world: World, scenario: &Scenario, shared: Arc<Shared>) -> Cluster {
        let mut cluster_id = world.entropy("cluster-id");
        use rand_core::Rng;
        let cluster_id = Uuid(u128::from(cluster_id.next_u64()) << 64 | u128::from(cluster_id.next_u64())).to_string();
        let mut hosts = BTreeMap::new();
        for node in scenario.cluster.node_ids() {
            let host = world.add_node(&node_name(node), Arc::new(|_, _| Box::pin(async {})));
            hosts.insert(node, host);
        }
        for (node, host) in &hosts {
            let (world, shared) = (world.clone(), shared.clone());
            let properties = properties(scenario, *node);
            let (node, host, cluster_id) = (*node, *host, cluster_id.clone());
            let again = world.clone();
            again.set_boot(
                host,
                Arc::new(move |env, incarnation| {
                    let observer = Arc::new(WorldObserver {
                        world: world.clone(),
                        shared: shared.clone(),
                        node,
                        host,
                        incarnation,
                    });
                    let (properties, cluster_id, shared) = (properties.clone(), cluster_id.clone(), shared.clone());
                    Box::pin(async move {
                        let config = match Config::from_properties(&properties) {
                            Ok(parsed) => parsed.config,
                            Err(error) => {
                                tracing::error!(%error, "the node does not start");
                                return;
                            }
                        };
                        if let Err(error) = broker_server::format(&env, &config, &cluster_id).await {
                            tracing::error!(%error, "the node is not formatted");
                            return;
                        }
                        let mut broker = match Broker::start(env, observer, config).await {
                            Ok(broker) => broker,
                            Err(error) => {
                                tracing::error!(%error, "the node does not start");
                                return;
                            }
                        };
                        let (stop, asked) = oneshot::channel();
                        shared.with(|inner| {
                            inner.stoppers.insert(node, stop);
                            inner.beliefs.insert(node, broker.beliefs());
                        });
                        if until_stopped(&broker, asked).await {
                            shared.mark("controlled-shutdown");
                            broker.shutdown().await;
                        }
                    })
                }),
            );
        }
        let racks =
            hosts.keys().filter_map(|node| Some((*node, scenario.cluster.rack_of(*node)?.to_owned()))).collect();
        let voters = scenario.cluster.controller_ids().collect();
        Cluster { world, hosts, racks, voters, shared }
    }

    /// Starts every node.
    pub fn start_all(&self) {
        for host in self.hosts.values() {
            self.world.start(*host);
        }
    }

    /// The node on a host.
    #[must_use]
    pub fn node_of(&self, host: HostId) -> Option<NodeId> {
        self.hosts.iter().find(|(_, other)| **other == host).map(|(node, _)| *node)
    }
}

/// Waits for the node's own end (false) or for the wish that it ends (true).
async fn until_stopped(broker: &Broker, asked: oneshot::Receiver<()>) -> bool {
    use std::future::Future;
    use std::task::Poll;
    let mut ended = std::pin::pin!(broker.stopped());
    let mut asked = std::pin::pin!(asked);
    std::future::poll_fn(|cx| {
        if ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        match asked.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(true),
            // Nobody can ask any more; only its own end is left.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// One node's `server.properties`.
fn properties(scenario: &Scenario, node: NodeId) -> BTreeMap<String, String> {
    let cluster = &scenario.cluster;
    let is_controller = cluster.controller_ids().any(|id| id == node);
    let is_broker = cluster.broker_ids().any(|id| id == node);
    let name = node_name(node);
    let voters: Vec<String> =
        cluster.controller_ids().map(|id| format!("{id}@{}:{CONTROLLER_PORT}", node_name(id))).collect();
    let mut listeners = Vec::new();
    if is_broker {
        listeners.push(format!("PLAINTEXT://{name}:{BROKER_PORT}"));
    }
    if is_controller {
        listeners.push(format!("CONTROLLER://{name}:{CONTROLLER_PORT}"));
    }
    let roles = match (is_broker, is_controller) {
        (true, true) => "broker,controller",
        (true, false) => "broker",
        _ => "controller",
    };
    let mut properties: BTreeMap<String, String> =
        cluster.config.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    for (key, value) in [
        ("node.id", node.to_string()),
        ("process.roles", roles.to_owned()),
        ("controller.quorum.voters", voters.join(",")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listeners", listeners.join(",")),
        ("log.dirs", DATA.to_owned()),
    ] {
        properties.insert(key.to_owned(), value);
    }
    if let Some(rack) = cluster.rack_of(node) {
        properties.insert("broker.rack".to_owned(), rack.to_owned());
    }
    properties
}

/// `bootstrap.servers` of a scenario.
#[must_use]
pub fn bootstrap(scenario: &Scenario) -> Vec<(String, u16)> {
    scenario.cluster.broker_ids().map(|id| (node_name(id), BROKER_PORT)).collect()
}

/// Takes one incarnation's observations into the trace, to the judge and into the view.
struct WorldObserver {
    world: World,
    shared: Arc<Shared>,
    node: NodeId,
    host: HostId,
    incarnation: Incarnation,
}

impl Observer for WorldObserver {
    fn observe(&self, fact: Observation) {
        let at = self.world.now();
        self.world.metered("trace", || self.world.record(self.host, kind_of(&fact), &encode(&fact)));
        self.shared.with(|inner| {
            inner.view.observe(at.0, self.node, &fact);
            if let Some(judge) = &mut inner.judge {
                let incarnation = u32::try_from(self.incarnation.0).unwrap_or(u32::MAX);
                let at = crate::recorder::moment(at);
                self.world.metered("judge", || judge.observe(at, self.node, incarnation, &fact));
            }
        });
    }
}

/// The trace's number for a kind of observation.
fn kind_of(fact: &Observation) -> u16 {
    let index = match fact {
        Observation::LogLoaded { .. } => 0,
        Observation::Appended { .. } => 1,
        Observation::Truncated { .. } => 2,
        Observation::HighWatermark { .. } => 3,
        Observation::LogStart { .. } => 4,
        Observation::BecameLeader { .. } => 5,
        Observation::BecameFollower { .. } => 6,
        Observation::IsrCommitted { .. } => 7,
        Observation::Acknowledged { .. } => 8,
        Observation::LogDirFailed => 9,
        Observation::QuorumEpoch { .. } => 10,
        Observation::QuorumCandidate { .. } => 11,
        Observation::QuorumVote { .. } => 12,
        Observation::QuorumLeader { .. } => 13,
        Observation::QuorumFollower { .. } => 14,
        Observation::QuorumResigned { .. } => 15,
        Observation::BrokerRegistered { .. } => 16,
        Observation::BrokerFenced { .. } => 17,
        Observation::BrokerUnfenced { .. } => 18,
        Observation::PartitionChanged { .. } => 19,
        Observation::Mark { .. } => 20,
        Observation::IsrProposed { .. } => 21,
        Observation::QuorumProspective { .. } => 22,
        Observation::BrokerShuttingDown { .. } => 23,
        Observation::ControllerAnswered { .. } => 24,
        Observation::CoordinatorLoaded { .. } => 25,
        Observation::CoordinatorUnloaded { .. } => 26,
        Observation::GroupChanged { .. } => 27,
        Observation::MemberChanged(_) => 28,
        Observation::MemberGone { .. } => 29,
        Observation::OffsetCommitted { .. } => 30,
        Observation::TransactionChanged(_) => 31,
        Observation::TransactionMarker { .. } => 32,
        Observation::SegmentsDeleted { .. } => 33,
        Observation::Cleaned { .. } => 34,
        Observation::SnapshotTaken(_) => 35,
        Observation::SnapshotLoaded(_) => 36,
        Observation::VotersChanged { .. } => 37,
        Observation::TopicCreated { .. } => 38,
        Observation::TopicDeleted { .. } => 39,
    };
    sim::trace::kind::FIRST_FREE + index
}

/// An observation's content as bytes, little-endian, in the order of its fields.
fn encode(fact: &Observation) -> Vec<u8> {
    let mut bytes = ByteSink(Vec::with_capacity(96));
    fact.hash(&mut bytes);
    bytes.0
}

/// Writes down what a hash would be taken over.
struct ByteSink(Vec<u8>);

impl Hasher for ByteSink {
    fn finish(&self) -> u64 {
        0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn write_u8(&mut self, value: u8) {
        self.0.push(value);
    }
    fn write_u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn write_u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn write_u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn write_usize(&mut self, value: usize) {
        self.0.extend_from_slice(&(value as u64).to_le_bytes());
    }
}
