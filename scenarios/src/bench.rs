//! `trial bench`: how fast the simulated world runs, on fixed seeds. Prints figures; judges nothing.

use crate::cluster::{Cluster, Shared, bootstrap};
use crate::file::{Scenario, Topic};
use crate::recorder::{Recorder, Sending, moment};
use crate::run::{Options, Watch};
use crate::workload::{Scene, digest, value_bytes};
use broker_client::{Acks, NewTopic, Producer, ProducerConfig, Record};
use broker_env::watch;
use broker_types::{TopicIdPartition, TopicName};
use checker::{Context, Outcome, WhiteBox};
use sim::meter::Meter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What was measured once.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// acks=all produce requests at replication factor 3, one 100-byte record each, per CPU-second.
    pub produces_per_cpu_second: f64,
    /// Simulated seconds of an idle cluster of three brokers and three controllers per CPU-second.
    pub idle_simulated_seconds_per_cpu_second: f64,
    /// CPU-seconds of a 60 s run at 300 requests per second with every check.
    pub run_60s_cpu_seconds: f64,
    /// The process's largest resident set so far, bytes.
    pub peak_rss_bytes: u64,
    /// Which share of the busy run's time went where. Sums to 1.
    pub layers: BTreeMap<&'static str, f64>,
}

/// Real time as the kernel tells it, past the simulated clocks.
fn real_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The layer that a task, or what was metered by name, belongs to.
fn layer(label: &str) -> &'static str {
    match label {
        "connection" | "listener" => "broker: connections",
        "replicas" | "flush" | "search-by-time" => "broker: replicas and storage",
        "replica-fetcher" => "broker: fetchers",
        "quorum" | "quorum-channel" | "alter-partition" | "forward" | "lifecycle" => "broker: quorum and controller",
        "client connection" | "client metadata" | "producer" | "producer id" => "client",
        "trace" => "trace",
        "judge" => "online judge",
        "main" => "workload and recorder",
        _ => "world: executor, network, disks, clocks",
    }
}

/// The split of the busy run's time, from a run of its own: measuring costs a little.
fn layers() -> BTreeMap<&'static str, f64> {
    let meter = Meter::new(real_time);
    let _ = busy(42, Duration::from_secs(5), Some(meter.clone()));
    let spent = meter.spent();
    let all: Duration = spent.values().sum();
    let mut layers = BTreeMap::new();
    for (label, time) in spent {
        *layers.entry(layer(label)).or_default() += time.as_secs_f64() / all.as_secs_f64();
    }
    layers
}

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The largest resident set, from the kernel's own account; 0 where there is none.
#[allow(clippy::disallowed_methods)]
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Measures everything once.
#[must_use]
pub fn measure() -> Figures {
    let (produces, busy_cpu) = busy(42, Duration::from_secs(20), None);
    let start = cpu();
    let idle_for = idle(42, Duration::from_secs(600));
    let idle_cpu = cpu() - start;
    let start = cpu();
    steady(42);
    let run_cpu = cpu() - start;
    Figures {
        produces_per_cpu_second: produces as f64 / busy_cpu.as_secs_f64(),
        idle_simulated_seconds_per_cpu_second: idle_for.as_secs_f64() / idle_cpu.as_secs_f64(),
        run_60s_cpu_seconds: run_cpu.as_secs_f64(),
        peak_rss_bytes: peak_rss(),
        layers: layers(),
    }
}

fn cluster_of_three() -> Scenario {
    let mut scenario = Scenario { name: "bench".to_owned(), ..Scenario::default() };
    scenario.cluster.config.insert("min.insync.replicas".to_owned(), 2.into());
    scenario.topics.push(Topic::new("bench", 3, 3));
    scenario
}

/// Eight producers, three partitions, one request in flight each, as fast as answers come.
#[must_use]
pub fn busy(seed: u64, duration: Duration, meter: Option<Meter>) -> (u64, Duration) {
    let scenario = cluster_of_three();
    let start = cpu();
    let outcome = sim::run(seed, sim::Config { meter, ..sim::Config::default() }, move |world| async move {
        let shared = Shared::new(WhiteBox::new(Context::default()));
        let cluster = Cluster::build(world.clone(), &scenario, shared.clone());
        cluster.start_all();
        let recorder = Recorder::default();
        let (_stop, stop) = watch::channel(false);
        let scene =
            Scene { world: world.clone(), recorder, shared: shared.clone(), stop, bootstrap: bootstrap(&scenario) };
        let admin = world.add_node("admin", Arc::new(|_, _| Box::pin(std::future::pending())));
        world.start(admin);
        let env = world.env(admin).expect("just started");
        let ready = || shared.view(|view| view.unfenced.values().filter(|unfenced| **unfenced).count()) == 3;
        let booted = world.wait_for(world.now() + Duration::from_secs(60), Duration::from_millis(10), ready).await;
        assert!(booted, "the cluster boots");
        let wanted = NewTopic {
            name: TopicName::from("bench"),
            partitions: Some(3),
            replication_factor: Some(3),
            assignment: BTreeMap::new(),
            config: BTreeMap::new(),
        };
        let created = scene.client(env, "admin").admin().create_topic(&wanted).await.expect("the topic is created");
        let topic_id = created.id.expect("brokers of ours know ids");
        world.sleep(Duration::from_secs(1)).await;
        for number in 0..8_i32 {
            let scene = scene.clone();
            let host = world.add_node(
                &format!("producer-{number}"),
                Arc::new(move |env, _| {
                    let scene = scene.clone();
                    Box::pin(async move {
                        let client = scene.client(env.clone(), "bench");
                        let config = ProducerConfig {
                            acks: Acks::All,
                            linger: Duration::ZERO,
                            max_in_flight: 1,
                            ..ProducerConfig::default()
                        };
                        let producer = Producer::new(&client, config);
                        let session = scene.recorder.session();
                        let partition = TopicIdPartition { topic: topic_id, partition: number % 3 };
                        loop {
                            let value = scene.recorder.value();
                            let bytes = value_bytes(value, 100);
                            let timestamp = env.wall().0;
                            let sending = Sending {
                                partition,
                                value,
                                digest: digest(None, Some(&bytes), timestamp, std::iter::empty()),
                                acks: checker::Acks::All,
                                idempotent: true,
                            };
                            let op = scene.recorder.send(session, moment(scene.world.now()), sending);
                            let record = Record {
                                topic: TopicName::from("bench"),
                                partition: Some(partition.partition),
                                timestamp,
                                key: None,
                                value: Some(bytes),
                                headers: Vec::new(),
                            };
                            let delivered = producer.send(record).await;
                            let at = moment(scene.world.now());
                            let offset = delivered.ok().and_then(|metadata| metadata.offset);
                            let outcome = if offset.is_some() { Outcome::Ok } else { Outcome::Unknown };
                            scene.recorder.sent(op, at, outcome, offset, None);
                        }
                    })
                }),
            );
            world.start(host);
        }
        world.sleep(duration).await;
        scene.recorder.counts().0
    });
    (outcome.finished().unwrap_or(0), cpu() - start)
}

/// A cluster without clients.
fn idle(seed: u64, duration: Duration) -> Duration {
    let scenario = cluster_of_three();
    let outcome = sim::run(seed, sim::Config::default(), move |world| async move {
        let shared = Shared::new(WhiteBox::new(Context::default()));
        let cluster = Cluster::build(world.clone(), &scenario, shared);
        cluster.start_all();
        world.sleep(duration).await;
    });
    outcome.simulated.since(sim::SimTime(0))
}

/// The steady scenario of the budget: 300 requests per second for 60 s, every check on.
fn steady(seed: u64) {
    let text = r#"
name = "bench-60s"
question = "How much does an ordinary run cost?"
[cluster]
config = { "min.insync.replicas" = 2 }
[[topic]]
name = "orders"
partitions = 3
[[workload]]
produce = { topic = "orders", clients = 3, rate = "150/s" }
[[workload]]
consume = { topic = "orders", clients = 1 }
[run]
duration = "60s"
"#;
    let scenario = crate::file::parse("bench-60s", text).expect("a good scenario");
    let report = crate::run::run(&scenario, seed, &Options::default(), &Arc::new(Watch::default()));
    assert_eq!(report.verdict, checker::Verdict::Pass, "{:?}", report.reasons);
}
