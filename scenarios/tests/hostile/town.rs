//! A simulated world with one real node in it, one honest client, and room for others.

use broker_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, NewTopic, Producer, ProducerConfig, Record,
};
use broker_env::{Connection, SharedEnv};
use broker_server::{Broker, Config, parse_properties};
use broker_types::{Silent, TopicId, TopicName, TopicPartition};
use broker_wire::frame::FrameReader;
use broker_wire::messages::ApiKey;
use broker_wire::{Request, Response, decode_response, encode_request};
use bytes::Bytes;
use sim::{HostId, World};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Id of the cluster that the node is formatted for.
pub const CLUSTER: &str = "vPeOCWypqUOSepEvx0cbog";
/// Where clients come in.
pub const BROKER: (&str, u16) = ("node", 9092);
/// Where controllers come in.
pub const CONTROLLER: (&str, u16) = ("node", 9093);

/// Counts what the current thread holds. A world has a thread of its own: node, network and clients together.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call goes to the system's allocator unchanged; beside it only a thread-local number is touched.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size().cast_signed());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size().cast_signed());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this world holds now.
pub fn held() -> isize {
    HELD.get()
}

/// The world as a test sees it.
pub struct Town {
    pub world: World,
    broker: Arc<Mutex<Option<Arc<Broker>>>>,
    people: Cell<u32>,
}

/// Runs a test in a world with one node, broker and controller in one. `settings` are lines of its properties.
pub fn in_a_town<T, F>(seed: u64, settings: &str, test: impl FnOnce(Town) -> F + Send + 'static) -> T
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let text = format!(
        "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://node:9092,CONTROLLER://node:9093\n\
         controller.quorum.voters=1@node:9093\ncontroller.listener.names=CONTROLLER\nlog.dirs=/data\n\
         auto.create.topics.enable=false\n{settings}\n"
    );
    // A small trace, which does not blur what is measured.
    let config =
        sim::Config { time_limit: Some(Duration::from_secs(100_000)), trace_bytes: 64 << 10, ..sim::Config::default() };
    let outcome = sim::run(seed, config, move |world| async move {
        let broker: Arc<Mutex<Option<Arc<Broker>>>> = Arc::default();
        let slot = broker.clone();
        let node = world.add_node(
            BROKER.0,
            Arc::new(move |env, _| {
                let (slot, text) = (slot.clone(), text.clone());
                Box::pin(async move {
                    let parsed = Config::from_properties(&parse_properties(&text)).expect("good properties");
                    assert!(parsed.unknown.is_empty(), "{:?}", parsed.unknown);
                    broker_server::format(&env, &parsed.config, CLUSTER).await.expect("a well disk");
                    let broker = Broker::start(env, Arc::new(Silent), parsed.config).await.expect("it starts");
                    broker.ready().await;
                    let broker = Arc::new(broker);
                    *slot.lock().unwrap() = Some(broker.clone());
                    assert!(!broker.stopped().await, "the node broke");
                })
            }),
        );
        world.start(node);
        let town = Town { world, broker, people: Cell::new(0) };
        while town.broker.lock().unwrap().is_none() {
            town.world.sleep(Duration::from_millis(100)).await;
        }
        let (world, slot) = (town.world.clone(), town.broker.clone());
        let result = test(town).await;
        assert!(world.is_up(node), "the node is gone");
        slot.lock().unwrap().take();
        result
    });
    outcome.expect_clean()
}

impl Town {
    /// A machine of its own, with an address of its own.
    pub fn somebody(&self) -> HostId {
        let number = self.people.get();
        self.people.set(number + 1);
        let host = self.world.add_node(&format!("client-{number}"), Arc::new(|_, _| Box::pin(std::future::pending())));
        self.world.start(host);
        host
    }

    /// Runs a task on a machine; its value can be waited for, and need not be.
    pub fn begin<T, F>(&self, host: HostId, task: impl FnOnce(SharedEnv) -> F) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (done, value) = oneshot::channel();
        let task = task(self.world.env(host).expect("it runs"));
        let begun = self.world.spawn_on(
            host,
            "client",
            Box::pin(async move {
                let _ = done.send(task.await);
            }),
        );
        assert!(begun);
        value
    }

    /// Runs a task on a machine to its end.
    pub async fn on<T, F>(&self, host: HostId, task: impl FnOnce(SharedEnv) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.begin(host, task).await.expect("the task ends by itself")
    }

    pub async fn sleep(&self, seconds: u64) {
        self.world.sleep(Duration::from_secs(seconds)).await;
    }

    fn with<T>(&self, look: impl FnOnce(&Broker) -> T) -> T {
        look(self.broker.lock().unwrap().as_ref().expect("it runs"))
    }

    /// Connections that the node closed, by reason.
    pub fn closed(&self) -> BTreeMap<&'static str, u64> {
        self.with(|broker| broker.counters().closed())
    }

    /// Connections open at the node.
    pub fn connections(&self) -> i64 {
        self.with(|broker| broker.counters().connections.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Connections turned away.
    pub fn refused(&self) -> u64 {
        self.with(|broker| broker.counters().connections_refused.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Makes a topic of one partition.
    pub async fn topic(&self, name: &'static str) -> TopicId {
        let host = self.somebody();
        self.on(host, move |env| async move {
            let client = client(env);
            let wanted = NewTopic {
                name: name.into(),
                partitions: Some(1),
                replication_factor: Some(1),
                assignment: BTreeMap::new(),
                config: BTreeMap::new(),
            };
            let created = client.admin().create_topic(&wanted).await.expect("a topic is made");
            client.topic(&name.into()).await.expect("it is known");
            created.id.expect("topics have ids")
        })
        .await
    }

    /// Somebody who writes records to a topic of his own and reads each of them back, until asked to stop.
    pub async fn honest(&self) -> Honest {
        self.topic("orders").await;
        let (stop, stopping) = watch::channel(false);
        let host = self.somebody();
        let honest = Honest { stop, life: self.begin(host, |env| live(env, stopping)) };
        // Until it has all its connections, and whoever made the topic is gone.
        self.sleep(2).await;
        honest
    }
}

/// The honest client at work.
pub struct Honest {
    stop: watch::Sender<bool>,
    life: oneshot::Receiver<Life>,
}

/// What the honest client saw.
#[derive(Debug)]
pub struct Life {
    /// Records written, acknowledged and read back.
    pub records: u64,
    /// The longest that it took from the send of a record until it was read.
    pub slowest: Duration,
}

impl Honest {
    /// Ends the work. All of it went well, or this panics.
    pub async fn end(self) -> Life {
        let _ = self.stop.send(true);
        self.life.await.expect("the honest client ends by itself")
    }
}

fn client(env: SharedEnv) -> Client {
    let bootstrap = vec![(BROKER.0.to_owned(), BROKER.1)];
    Client::new(env, ClientConfig { bootstrap, ..ClientConfig::default() })
}

async fn live(env: SharedEnv, stop: watch::Receiver<bool>) -> Life {
    let client = client(env.clone());
    let producer = Producer::new(&client, ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() });
    let reset = ConsumerConfig { auto_offset_reset: AutoOffsetReset::Earliest, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(&client, reset);
    consumer.assign(&[TopicPartition::new("orders", 0)]);
    let mut life = Life { records: 0, slowest: Duration::ZERO };
    while !*stop.borrow() {
        let begun = env.mono();
        let value = Bytes::from(life.records.to_string());
        let record = Record {
            topic: TopicName::from("orders"),
            partition: Some(0),
            timestamp: env.wall().0,
            key: None,
            value: Some(value.clone()),
            headers: Vec::new(),
        };
        producer.send(record).await.unwrap_or_else(|error| panic!("record {}: {error}", life.records));
        let read = loop {
            let polled = consumer.poll(Duration::from_secs(1)).await;
            assert!(env.mono().since(begun) < Duration::from_secs(60), "record {} is not to be read", life.records);
            if let Some(read) = polled.records.into_iter().next() {
                break read;
            }
        };
        assert_eq!(read.value, Some(value));
        life.records += 1;
        life.slowest = life.slowest.max(env.mono().since(begun));
        env.sleep(Duration::from_millis(20)).await;
    }
    life
}

/// A connection without any manners.
pub struct Raw {
    pub env: SharedEnv,
    pub connection: Connection,
    inbound: FrameReader,
}

impl Raw {
    /// Connects; patient for a minute.
    pub async fn open(env: &SharedEnv, to: (&str, u16)) -> Option<Raw> {
        let deadline = env.mono() + Duration::from_secs(60);
        let connection = env.until(deadline, env.network().connect(to.0, to.1)).await?.ok()?;
        Some(Raw { env: env.clone(), connection, inbound: FrameReader::new(usize::MAX) })
    }

    /// Sends bytes, all of them. False if the connection is gone, or takes none for five seconds.
    pub async fn send(&mut self, bytes: impl Into<Bytes>) -> bool {
        let deadline = self.env.mono() + Duration::from_secs(5);
        self.env.until(deadline, self.connection.writer.write(bytes.into())).await.is_some_and(|sent| sent.is_ok())
    }

    /// The next frame; `None` if none comes in that time.
    pub async fn frame(&mut self, patience: Duration) -> Heard {
        let deadline = self.env.mono() + patience;
        loop {
            if let Ok(Some(frame)) = self.inbound.next_frame() {
                return Heard::Frame(frame);
            }
            let read = self.connection.reader.read(self.inbound.room());
            match self.env.until(deadline, read).await {
                None => return Heard::Nothing,
                Some(Ok(0) | Err(_)) => return Heard::Closed,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Asks and waits for the answer.
    pub async fn ask(&mut self, version: i16, request: &Request, patience: Duration) -> Option<Response> {
        if !self.send(wire(version, request)).await {
            return None;
        }
        match self.frame(patience).await {
            Heard::Frame(frame) => Some(decode_response(request.api_key(), version, frame).expect("a good answer").1),
            Heard::Nothing | Heard::Closed => None,
        }
    }
}

/// What came of waiting for a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Frame(Bytes),
    Nothing,
    Closed,
}

/// A request as a whole frame.
pub fn wire(version: i16, request: &Request) -> Bytes {
    encode_request(version, 7, None, request).expect("a good request")
}

/// The newest version of an API that a listener of that kind takes.
pub fn newest(api_key: ApiKey) -> i16 {
    api_key.versions().max
}
