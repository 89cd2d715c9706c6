//! The cluster as one client sees it.

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::connection::{CallError, Inbox, Lane, LinkConfig};
use crate::error::ClientError;
use crate::metadata_cache::{MetadataAnswer, MetadataCache, NodeAddress, PartitionMetadata, TopicMetadata};
use crate::signal::{Alarm, Signal, lock};
use broker_env::SharedEnv;
use broker_env::watch;
use broker_types::{ErrorCode, MonoTime, NodeId, TopicName};
use broker_wire::messages::convert::{
    from_broker_id, from_broker_ids, from_error_code, from_leader_epoch, from_optional_uuid, from_topic_name, text,
    to_topic_name,
};
use broker_wire::messages::metadata_request::MetadataRequestTopic;
use broker_wire::messages::{ApiKey, MetadataRequest, MetadataResponse, Request, Response};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use tracing::{debug, warn};

/// How a client behaves. Names, meanings and defaults are Kafka's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientConfig {
    /// `bootstrap.servers`.
    pub bootstrap: Vec<(String, u16)>,
    /// `client.id`.
    pub client_id: String,
    /// `request.timeout.ms`: the connection ends when an answer takes longer.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: an admin call or an offset lookup, all attempts together.
    pub default_api_timeout: Duration,
    /// `retries` of an admin client: how often an admin call is tried again. With 0 the cluster is asked once, and what it
    /// is told is told of that one request.
    pub retries: u32,
    /// `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `socket.connection.setup.timeout.ms`: from the connect to the end of the ApiVersions handshake.
    pub connection_setup_timeout: Duration,
    /// `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
    /// Largest answer accepted; it bounds the memory of one connection.
    pub max_response_bytes: usize,
    /// `allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            bootstrap: Vec::new(),
            client_id: "client".to_owned(),
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            retries: u32::MAX,
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            connection_setup_timeout: Duration::from_secs(10),
            metadata_max_age: Duration::from_secs(300),
            max_response_bytes: 128 * 1024 * 1024,
            allow_auto_create_topics: true,
        }
    }
}

/// A client of one cluster: cheap to clone; producers and consumers are made from it. It ends, with its connections,
/// when the last clone, producer and consumer are dropped.
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
    _alive: Arc<Alive>,
}

/// Ends the metadata task when the last client goes.
struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.refresh.raise();
    }
}

/// One broker's answer to Metadata, as it came: what the client makes of it is another matter, for it remembers more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataHeard {
    /// Who answered; negative for a bootstrap server, which is only known by its number: the first is -1.
    pub served_by: NodeId,
    /// When it was asked, by the client's clock.
    pub asked_at: MonoTime,
    /// The topics that it told of without an error.
    pub topics: Vec<(TopicName, TopicMetadata)>,
}

type Listener = Box<dyn Fn(&MetadataHeard) + Send + Sync>;

/// What all parts of a client share.
pub(crate) struct Core {
    pub(crate) env: SharedEnv,
    pub(crate) config: ClientConfig,
    pub(crate) metadata: Mutex<MetadataCache>,
    /// For metadata and admin requests.
    pub(crate) lane: Lane,
    /// Wakes the metadata task.
    refresh: Signal,
    /// The cache's version, told after each change.
    changed: watch::Sender<u64>,
    /// Loops to wake after each change.
    listeners: Mutex<Vec<Weak<Inbox>>>,
    /// Hears every answer to Metadata.
    heard: OnceLock<Listener>,
    rng: Mutex<ChaCha8Rng>,
    closed: AtomicBool,
}

impl Client {
    /// A client; nothing is sent before something is asked of it.
    #[must_use]
    pub fn new(env: SharedEnv, config: ClientConfig) -> Client {
        let core = Arc::new(Core {
            lane: Lane::new(link_config(&env, &config)),
            rng: Mutex::new(env.entropy("client/nodes")),
            metadata: Mutex::default(),
            refresh: Signal::default(),
            changed: watch::Sender::new(0),
            listeners: Mutex::default(),
            heard: OnceLock::new(),
            closed: AtomicBool::new(false),
            env,
            config,
        });
        core.env.go("client metadata", keep_metadata(core.clone()));
        Client { _alive: Arc::new(Alive(core.clone())), core }
    }

    /// Requests about topics and the cluster.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What is known of a topic now, without asking.
    #[must_use]
    pub fn cached_topic(&self, topic: &TopicName) -> Option<TopicMetadata> {
        lock(&self.core.metadata).topic(topic).cloned()
    }

    /// Waits until a topic is known.
    ///
    /// # Errors
    /// After `default.api.timeout.ms`, the reason it is not known; all definite.
    pub async fn topic(&self, topic: &TopicName) -> Result<TopicMetadata, ClientError> {
        let deadline = self.core.env.mono() + self.core.config.default_api_timeout;
        self.core.want(topic);
        loop {
            let mut changed = self.core.changed.subscribe();
            {
                let cache = lock(&self.core.metadata);
                if let Some(found) = cache.topic(topic) {
                    return Ok(found.clone());
                }
                if let Some(code) = cache.error(topic)
                    && !code.is_retriable()
                {
                    return Err(ClientError::definite(code, topic.as_str()));
                }
            }
            if self.core.env.until(deadline, changed.changed()).await.is_none() {
                let code = lock(&self.core.metadata).error(topic).unwrap_or(ErrorCode::RequestTimedOut);
                return Err(ClientError::definite(code, topic.as_str()));
            }
        }
    }

    /// The nodes known now.
    #[must_use]
    pub fn nodes(&self) -> BTreeMap<NodeId, NodeAddress> {
        lock(&self.core.metadata).nodes().clone()
    }

    /// Calls `hear` with each answer to Metadata from now on, before anything is made of it. The first listener stays.
    pub fn on_metadata(&self, hear: impl Fn(&MetadataHeard) + Send + Sync + 'static) {
        let _ = self.core.heard.set(Box::new(hear));
    }

    /// Asks for fresh metadata, without waiting for it.
    pub fn refresh_metadata(&self) {
        self.core.refresh_soon();
    }
}

pub(crate) fn link_config(env: &SharedEnv, config: &ClientConfig) -> LinkConfig {
    LinkConfig {
        env: env.clone(),
        client_id: text(&config.client_id),
        request_timeout: config.request_timeout,
        connection_setup_timeout: config.connection_setup_timeout,
        reconnect_backoff: config.reconnect_backoff,
        reconnect_backoff_max: config.reconnect_backoff_max,
        max_response_bytes: config.max_response_bytes,
    }
}

impl Core {
    /// Keeps `topic` in the cache from now on.
    pub(crate) fn want(&self, topic: &TopicName) {
        let mut cache = lock(&self.metadata);
        if cache.want(topic) {
            cache.mark_stale();
            drop(cache);
            self.refresh.raise();
        }
    }

    /// Something in the cache was found out of date.
    pub(crate) fn refresh_soon(&self) {
        lock(&self.metadata).mark_stale();
        self.refresh.raise();
    }

    /// Wakes `inbox`'s loop after each change of the cache.
    pub(crate) fn listen(&self, inbox: &Arc<Inbox>) {
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(inbox));
    }

    /// Tells everybody that the cache changed.
    pub(crate) fn announce(&self) {
        let version = lock(&self.metadata).version();
        self.changed.send(version);
        lock(&self.listeners).retain(|listener| match listener.upgrade() {
            Some(inbox) => {
                inbox.signal.raise();
                true
            }
            None => false,
        });
    }

    /// Some node to ask what any node can answer: a known broker, or a bootstrap address. `attempt` counts the failures
    /// before; every third attempt goes to a bootstrap address, in case all known brokers are gone (KIP-899).
    pub(crate) fn any_node(&self, attempt: u32) -> Option<(NodeId, NodeAddress)> {
        let draw = lock(&self.rng).next_u32() as usize;
        let cache = lock(&self.metadata);
        let nodes = cache.nodes();
        if !nodes.is_empty() && attempt % 3 != 2 {
            return nodes.iter().nth(draw % nodes.len()).map(|(node, address)| (*node, address.clone()));
        }
        let servers = &self.config.bootstrap;
        let index = draw.checked_rem(servers.len())?;
        let (host, port) = &servers[index];
        // Bootstrap servers have no id yet; negative ones keep their links apart.
        let node = NodeId(-1 - i32::try_from(index).unwrap_or(0));
        Some((node, NodeAddress { host: host.clone(), port: *port, rack: None }))
    }

    async fn ask_for_metadata(&self, attempt: u32) -> Result<bool, CallError> {
        let (node, address) = self.any_node(attempt).ok_or(CallError::NotSent)?;
        let topics = lock(&self.metadata).begin_refresh();
        let asked_at = self.env.mono();
        let deadline = asked_at + self.config.request_timeout;
        let create = self.config.allow_auto_create_topics;
        let make = |_| {
            let topics = topics.iter().map(|t| MetadataRequestTopic::default().with_name(Some(to_topic_name(t))));
            let ask =
                MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(create);
            Request::Metadata(ask)
        };
        match self.lane.call(node, &address, ApiKey::Metadata, deadline, make).await? {
            Response::Metadata(answer) => {
                let error = from_error_code(answer.error_code);
                if !error.is_none() || answer.brokers.is_empty() {
                    return Err(CallError::Malformed);
                }
                let answer = read_metadata(&answer);
                if let Some(hear) = self.heard.get() {
                    let told = answer.topics.iter().filter_map(|(name, told)| Some((name.clone(), told.clone().ok()?)));
                    hear(&MetadataHeard { served_by: node, asked_at, topics: told.collect() });
                }
                let incomplete = lock(&self.metadata).merge(self.env.mono(), answer);
                self.announce();
                Ok(incomplete)
            }
            _ => Err(CallError::Malformed),
        }
    }
}

/// A Metadata answer in our words.
pub(crate) fn read_metadata(answer: &MetadataResponse) -> MetadataAnswer {
    let nodes = answer.brokers.iter().filter_map(|broker| {
        let address = NodeAddress {
            host: broker.host.to_string(),
            port: u16::try_from(broker.port).ok()?,
            rack: broker.rack.as_ref().map(ToString::to_string),
        };
        Some((from_broker_id(broker.node_id)?, address))
    });
    let topics = answer.topics.iter().filter_map(|topic| {
        let name = from_topic_name(topic.name.as_ref()?);
        let error = from_error_code(topic.error_code);
        if !error.is_none() {
            return Some((name, Err(error)));
        }
        let partitions = topic.partitions.iter().map(|partition| {
            // A partition may tell of a listener or replica that is missing and still name its leader.
            let told = PartitionMetadata {
                leader: from_broker_id(partition.leader_id),
                leader_epoch: from_leader_epoch(partition.leader_epoch),
                replicas: from_broker_ids(&partition.replica_nodes),
                isr: from_broker_ids(&partition.isr_nodes),
            };
            (partition.partition_index, told)
        });
        let told = TopicMetadata { id: from_optional_uuid(topic.topic_id), partitions: partitions.collect() };
        Some((name, Ok(told)))
    });
    MetadataAnswer {
        cluster_id: answer.cluster_id.as_ref().map(ToString::to_string),
        controller: from_broker_id(answer.controller_id),
        nodes: nodes.collect(),
        topics: topics.collect(),
    }
}

/// The metadata task: refreshes when something is out of date or old, never faster than the backoff allows.
async fn keep_metadata(core: Arc<Core>) {
    let rng = core.env.entropy("client/metadata");
    let mut backoff = Backoff::new(core.config.retry_backoff, core.config.retry_backoff_max, rng);
    let mut alarm = Alarm::new(&*core.env);
    let (mut failures, mut incomplete) = (0, 0);
    let mut not_before = MonoTime(0);
    while !core.closed.load(Ordering::SeqCst) {
        let due = {
            let cache = lock(&core.metadata);
            let age_out = cache.refreshed_at().map_or(MonoTime::NEVER, |at| at + core.config.metadata_max_age);
            if cache.is_stale() { not_before } else { age_out.max(not_before) }
        };
        if core.env.mono() < due {
            alarm.or_signal(&core.refresh, due).await;
            continue;
        }
        match core.ask_for_metadata(failures).await {
            Ok(again) => {
                failures = 0;
                incomplete = if again { incomplete + 1 } else { 0 };
                not_before = core.env.mono() + backoff.delay(incomplete);
                if again {
                    lock(&core.metadata).mark_stale();
                }
            }
            Err(error) => {
                // Whatever was asked for is still wanted.
                lock(&core.metadata).mark_stale();
                not_before = core.env.mono() + backoff.delay(failures);
                failures += 1;
                debug!(?error, failures, "no metadata");
                if failures % 10 == 0 {
                    warn!(?error, failures, "still no metadata");
                }
            }
        }
    }
}
