//! Nodes on real sockets and disks, and our own client beside them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The real world is the point.

use broker_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumedRecord, Consumer, ConsumerConfig, Delivery, NewTopic, Producer,
    ProducerConfig, Record, RecordHeader,
};
use broker_env::{SharedEnv, TokioEnv};
use broker_server::{Broker, Config, StartError, parse_properties};
use broker_types::{NodeId, Offset, Silent, TopicName, TopicPartition};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLUSTER: &str = "vPeOCWypqUOSepEvx0cbog";
const CONTROLLER: i32 = 3001;

/// A controller and brokers 1 to n, each with a directory that outlives it.
struct Cluster {
    root: tempfile::TempDir,
    controller_port: u16,
    nodes: BTreeMap<i32, Broker>,
    ports: BTreeMap<i32, u16>,
}

impl Cluster {
    /// Nothing runs yet.
    fn new() -> Cluster {
        let probe = TcpListener::bind("127.0.0.1:0").unwrap();
        Cluster {
            root: tempfile::tempdir().unwrap(),
            controller_port: probe.local_addr().unwrap().port(),
            nodes: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    async fn with_brokers(count: i32) -> Cluster {
        let mut cluster = Cluster::new();
        cluster.start(CONTROLLER).await;
        for id in 1..=count {
            cluster.start(id).await;
        }
        for id in 1..=count {
            cluster.nodes[&id].ready().await;
            cluster.nodes[&id].knows_brokers(usize::try_from(count).unwrap()).await;
        }
        cluster
    }

    fn dir(&self, id: i32) -> PathBuf {
        self.root.path().join(id.to_string())
    }

    fn config(&self, id: i32) -> Config {
        let (role, listeners) = match id {
            CONTROLLER => ("controller", format!("CONTROLLER://127.0.0.1:{}", self.controller_port)),
            _ => ("broker", "PLAINTEXT://127.0.0.1:0".to_owned()),
        };
        let text = format!(
            "node.id={id}\nprocess.roles={role}\nlisteners={listeners}\nlog.dirs={}\n\
             controller.quorum.voters={CONTROLLER}@127.0.0.1:{}\ncontroller.listener.names=CONTROLLER\n\
             broker.heartbeat.interval.ms=200\nbroker.session.timeout.ms=2000\n",
            self.dir(id).display(),
            self.controller_port,
        );
        Config::from_properties(&parse_properties(&text)).unwrap().config
    }

    async fn try_start(&self, id: i32) -> Result<Broker, StartError> {
        let env = env();
        let config = self.config(id);
        broker_server::format(&env, &config, CLUSTER).await?;
        Broker::start(env, Arc::new(Silent), config).await
    }

    /// Starts a node and does not wait for it.
    async fn start(&mut self, id: i32) {
        let node = self.try_start(id).await.unwrap();
        if let Some(port) = node.bound_ports().get("PLAINTEXT") {
            self.ports.insert(id, *port);
        }
        self.nodes.insert(id, node);
    }

    async fn stop(&mut self, id: i32) {
        self.ports.remove(&id);
        let mut node = self.nodes.remove(&id).unwrap();
        node.shutdown().await;
        assert!(!node.stopped().await, "node {id} broke");
    }

    fn client(&self) -> Client {
        self.client_with(|_| {})
    }

    fn client_with(&self, set: impl FnOnce(&mut ClientConfig)) -> Client {
        let bootstrap = self.ports.values().map(|port| ("127.0.0.1".to_owned(), *port)).collect();
        let mut config = ClientConfig { bootstrap, ..ClientConfig::default() };
        set(&mut config);
        Client::new(env(), config)
    }
}

fn env() -> SharedEnv {
    TokioEnv::new(tokio::runtime::Handle::current())
}

fn in_the_real_world(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends in a minute");
    });
}

fn topic() -> TopicName {
    TopicName::from("orders")
}

fn partition() -> TopicPartition {
    TopicPartition { topic: topic(), partition: 0 }
}

async fn create(client: &Client, replication_factor: i16) {
    create_named(client, topic(), replication_factor).await;
}

async fn create_named(client: &Client, name: TopicName, replication_factor: i16) {
    let wanted = NewTopic {
        name,
        partitions: Some(1),
        replication_factor: Some(replication_factor),
        assignment: BTreeMap::new(),
        config: BTreeMap::new(),
    };
    client.admin().create_topic(&wanted).await.unwrap();
}

fn record(n: usize) -> Record {
    Record {
        topic: topic(),
        partition: Some(0),
        timestamp: 1_700_000_000_000 + i64::try_from(n).unwrap(),
        key: (n % 5 != 4).then(|| format!("key-{n}").into()),
        value: (n % 7 != 6).then(|| vec![b'v'; n % 300].into()),
        headers: vec![RecordHeader { key: "h".into(), value: Some(n.to_string().into()) }],
    }
}

/// Produces these records; they are acknowledged at these offsets.
async fn produce(client: &Client, range: std::ops::Range<usize>) {
    let producer = Producer::new(client, ProducerConfig::default());
    let deliveries: Vec<(usize, Delivery)> = range.map(|n| (n, producer.send(record(n)))).collect();
    producer.flush().await;
    for (n, delivery) in deliveries {
        let told = delivery.await.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert_eq!(told.offset, Some(Offset(i64::try_from(n).unwrap())));
    }
}

/// Reads this many records from the beginning: they are the ones that were sent, in order.
async fn read_back(client: &Client, count: usize) {
    let config = ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(client, config);
    consumer.assign(&[partition()]);
    let mut got: Vec<ConsumedRecord> = Vec::new();
    let patience = Instant::now() + Duration::from_secs(20);
    while got.len() < count && Instant::now() < patience {
        got.extend(consumer.poll(Duration::from_millis(200)).await.records);
    }
    assert_eq!(got.len(), count);
    for (n, got) in got.into_iter().enumerate() {
        let sent = record(n);
        assert_eq!(got.offset, Offset(i64::try_from(n).unwrap()));
        assert_eq!(
            (got.timestamp, got.key, got.value, got.headers),
            (sent.timestamp, sent.key, sent.value, sent.headers)
        );
    }
}

/// Waits until the partition has this ISR size, and says who leads.
async fn leader_with_isr(client: &Client, size: usize) -> NodeId {
    let patience = Instant::now() + Duration::from_secs(20);
    loop {
        let found = client.admin().describe_topic(&topic()).await.unwrap();
        let facts = &found.metadata.partitions[&0];
        match facts.leader {
            Some(leader) if facts.isr.len() == size => return leader,
            _ => assert!(Instant::now() < patience, "no leader with an ISR of {size}: {facts:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_cluster_gives_back_what_it_acknowledged() {
    in_the_real_world(async {
        let cluster = Cluster::with_brokers(3).await;
        let client = cluster.client();
        create(&client, 3).await;
        produce(&client, 0..3000).await;
        read_back(&client, 3000).await;
        let described = client.admin().describe_cluster().await.unwrap();
        assert_eq!(described.cluster_id.as_deref(), Some(CLUSTER));
        assert_eq!(described.nodes.keys().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 3]);
    });
}

#[test]
fn a_controlled_shutdown_moves_the_leadership_before_the_broker_goes() {
    in_the_real_world(async {
        let mut cluster = Cluster::with_brokers(3).await;
        let client = cluster.client();
        create(&client, 3).await;
        produce(&client, 0..500).await;
        let before = leader_with_isr(&client, 3).await;
        cluster.stop(before.0).await;
        assert!(cluster.dir(before.0).join(".kafka_cleanshutdown").exists());
        // No session had to run out first.
        let client = cluster.client();
        let after = leader_with_isr(&client, 2).await;
        assert_ne!(after, before);
        produce(&client, 500..1000).await;
        cluster.start(before.0).await;
        cluster.nodes[&before.0].ready().await;
        leader_with_isr(&client, 3).await;
        read_back(&client, 1000).await;
    });
}

#[test]
fn a_cluster_that_starts_again_has_its_data_and_denies_no_topic_meanwhile() {
    in_the_real_world(async {
        let mut cluster = Cluster::with_brokers(2).await;
        create(&cluster.client(), 2).await;
        produce(&cluster.client(), 0..1000).await;
        for id in [1, 2, CONTROLLER] {
            cluster.stop(id).await;
        }
        for id in [CONTROLLER, 1, 2] {
            cluster.start(id).await;
        }
        // Asked before it is ready, a broker lets one wait; it never says that it does not know the topic.
        let client = cluster.client();
        leader_with_isr(&client, 2).await;
        produce(&client, 1000..1500).await;
        read_back(&client, 1500).await;
    });
}

#[test]
fn a_broker_that_never_found_its_controller_still_shuts_down() {
    in_the_real_world(async {
        let mut cluster = Cluster::new();
        cluster.start(1).await;
        let begun = Instant::now();
        cluster.stop(1).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}

#[test]
fn nodes_that_have_shut_down_touch_their_disks_no_more() {
    in_the_real_world(async {
        let mut cluster = Cluster::with_brokers(1).await;
        let client = cluster.client();
        create(&client, 1).await;
        produce(&client, 0..10).await;
        cluster.stop(1).await;
        let before = contents(&cluster.dir(1));
        // A broker that still took part in the quorum would note that its leader went.
        cluster.stop(CONTROLLER).await;
        let controller_before = contents(&cluster.dir(CONTROLLER));
        tokio::time::sleep(Duration::from_secs(3)).await;
        for (id, before) in [(1, before), (CONTROLLER, controller_before)] {
            let after = contents(&cluster.dir(id));
            let changed: Vec<_> =
                before.keys().chain(after.keys()).filter(|file| before.get(*file) != after.get(*file)).collect();
            assert!(changed.is_empty(), "node {id} wrote {changed:?}");
        }
    });
}

/// Every file under a directory, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

#[test]
fn another_clusters_directory_is_refused_and_left_as_it_was() {
    in_the_real_world(async {
        let cluster = Cluster::new();
        let env = env();
        broker_server::format(&env, &cluster.config(1), "another-cluster").await.unwrap();
        let meta = cluster.dir(1).join("meta.properties");
        let before = std::fs::read(&meta).unwrap();
        let Err(error) = cluster.try_start(1).await else { panic!("it started") };
        assert!(error.to_string().contains("already formatted for node 1 of cluster another-cluster"), "{error}");
        assert_eq!(std::fs::read(&meta).unwrap(), before);
    });
}

#[test]
fn a_change_of_topics_goes_over_a_new_connection_when_the_controller_was_restarted_meanwhile() {
    in_the_real_world(async {
        let mut cluster = Cluster::with_brokers(1).await;
        let client = cluster.client_with(|config| config.retries = 0);
        create(&client, 1).await;
        cluster.stop(CONTROLLER).await;
        cluster.start(CONTROLLER).await;
        // The broker has a connection to the controller's former process. What would be sent over it would not be answered.
        create_named(&client, TopicName::from("payments"), 1).await;
    });
}
