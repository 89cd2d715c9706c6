//! One scenario, one seed, one verdict.
//!
//! Boot the cluster and its topics; let clients and faults do their worst for the scenario's duration; end every fault
//! and start every node; wait until the cluster is whole; read everything once more; judge.

use crate::cleanup;
use crate::cluster::{
    self, Cluster, PartitionView, Shared, bootstrap, controllers_agree, end_state, faults::Faults, node_name,
};
use crate::file::{Allowed as FileAllowed, ConfigValue, ExpectedVerdict, Heal, Produce, Scenario, Workload};
use crate::nemesis::{Schedule, resolve};
use crate::recorder::{Recorder, START, moment, outcome};
use crate::story;
use crate::workload::{self, ProducerIds, Scene};
use broker_client::{Acks, NewTopic, Producer, ProducerConfig, Record};
use broker_core::planted::Bug;
use broker_env::SharedEnv;
use broker_env::watch;
use broker_types::{NodeId, TopicIdPartition, TopicName};
use checker::{
    Allowed, Canary, CheckOutcome, CheckResult, Cleanup, Context, Convergence, EndState, PartitionRules, Progress,
    TopicAsk, Verdict, WhiteBox,
};
use reports::{CheckLine, FaultLine, Lag, RunReport};
use sim::trace::Checkpoint;
use sim::{HostId, RunEnd, SimTime, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long the cluster may take to be ready, simulated.
const BOOT: Duration = Duration::from_secs(60);
/// After the last fault, the longest that clients may take to end what they began: `delivery.timeout.ms` and some.
const SETTLE: Duration = Duration::from_secs(150);

/// The command line of the build that has planted bugs in it; `cargo museum` is this and `bugs`.
pub(crate) const MUSEUM: &str = "cargo run --release --quiet -p scenarios --features planted-bugs --bin trial --";

/// What a run is asked for beyond its scenario and seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stops workload and faults at this time.
    pub until: Option<Duration>,
    /// Writes the events of the trace there, to see where two runs part.
    pub events: Option<std::path::PathBuf>,
    /// Writes what clients did there, and the context it is judged in, for `trial check`.
    pub history: Option<std::path::PathBuf>,
    /// How the reproducing line names the scenario.
    pub named: String,
    /// A filter for node logs, and where they go.
    pub log: Option<(String, std::path::PathBuf)>,
    /// Clients beside those of the scenario.
    pub workloads: Vec<workload::Own>,
    /// Planted in the brokers and controllers of this run; a build without planted bugs has none to plant.
    pub bug: Option<Bug>,
}

/// How far a run is, for whoever watches from another thread.
#[derive(Debug, Default)]
pub struct Watch {
    /// 0 boot, 1 run, 2 heal, 3 read, 4 judge.
    pub phase: AtomicU8,
    /// Simulated milliseconds since the cluster was ready.
    pub simulated_ms: AtomicU64,
    /// Records acknowledged.
    pub acked: AtomicU64,
    /// Records delivered.
    pub read: AtomicU64,
}

/// What the driver brings back from the world.
struct Brought {
    zero: SimTime,
    healed: SimTime,
    converged: Option<SimTime>,
    stuck: Option<String>,
    faults: Vec<FaultLine>,
    without_effect: Vec<String>,
    checks: Vec<CheckResult>,
    recorder: Recorder,
    shared: Arc<Shared>,
    context: Context,
    reached_end: Vec<TopicIdPartition>,
}

/// Runs a scenario.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, options: &Options, progress: &Arc<Watch>) -> RunReport {
    run_traced(scenario, seed, options, progress).0
}

/// Runs a scenario, and brings its trace's checkpoints along; the last one is the end of the run.
#[must_use]
pub fn run_traced(
    scenario: &Scenario,
    seed: u64,
    options: &Options,
    progress: &Arc<Watch>,
) -> (RunReport, Vec<Checkpoint>) {
    let mut scenario = scenario.clone();
    if let Some(until) = options.until {
        scenario.run.duration.0 = scenario.run.duration.0.min(until);
    }
    let schedule = resolve(&scenario, |name| sim::Seed(seed).stream(&format!("nemesis/{name}")));
    let config = world_config(&scenario);
    let (driven, watching, logs) = (scenario.clone(), progress.clone(), options.log.clone());
    let own = options.workloads.clone();
    #[cfg(feature = "planted-bugs")]
    let bug = options.bug;
    let outcome = sim::run(seed, config, move |world| async move {
        // The world has this thread to itself, and it ends with the world.
        #[cfg(feature = "planted-bugs")]
        broker_core::planted::plant(bug);
        let _logging = logs.and_then(|(filter, dir)| crate::logs::start(&filter, &dir, &world));
        drive(world, driven, own, schedule, watching).await
    });
    progress.phase.store(4, Ordering::Relaxed);
    let fingerprint = outcome.trace.fingerprint;
    let events = outcome.trace.events;
    let panics = outcome.panics.clone();
    let simulated = outcome.simulated;
    if let Some(file) = &options.events
        && let Err(error) = std::fs::write(file, events_text(&outcome.trace))
    {
        eprintln!("trial: {}: {error}", file.display());
    }
    let mut checkpoints = outcome.trace.checkpoints;
    checkpoints.push(Checkpoint { events, at: outcome.trace.last, hash: fingerprint });
    let report = match outcome.end {
        RunEnd::Finished(brought) => {
            let mut report = judge(&scenario, seed, options, brought, &panics);
            (report.fingerprint, report.events) = (fingerprint, events);
            report.simulated_ms = simulated.as_millis();
            report
        }
        end => {
            let why = match end {
                RunEnd::DriverPanicked { message, location } => format!("the runner panicked at {location}: {message}"),
                RunEnd::TimeLimit => "the run's simulated time was used up".to_owned(),
                RunEnd::PollLimit => "the world went round in circles without simulated time passing".to_owned(),
                RunEnd::Stuck | RunEnd::Finished(_) => "everybody waited and nothing would ever happen".to_owned(),
            };
            let mut report = empty(&scenario, seed, options);
            (report.fingerprint, report.events) = (fingerprint, events);
            report.simulated_ms = simulated.as_millis();
            report.reasons.push(why);
            report.reasons.extend(panics.iter().map(|panic| format!("{} panicked: {}", panic.name, panic.message)));
            report
        }
    };
    (report, checkpoints)
}

/// The events that a trace still has, one a line: number, time, host, kind, payload in hex.
fn events_text(trace: &sim::TraceRecord) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for event in trace.iter() {
        let _ = write!(text, "{} {} {} {} ", event.seq, event.at.0, event.host.0, event.kind);
        for byte in &event.payload {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

fn world_config(scenario: &Scenario) -> sim::Config {
    let range = |range: crate::file::DurationRange| sim::DurationRange::new(range.min.0, range.max.0);
    let mut config = sim::Config::default();
    config.network.link.latency = range(scenario.network.latency);
    config.network.link.loss_ppm = scenario.network.loss.ppm;
    if let Some(bandwidth) = scenario.network.bandwidth {
        config.network.link.bytes_per_second = Some(bandwidth.bytes_per_second);
    }
    config.network.send_buffer = usize::try_from(scenario.network.send_buffer.0).unwrap_or(256 << 10);
    config.disk.sync_latency = range(scenario.disk.sync_latency);
    config.disk.write_back = range(scenario.disk.write_back);
    if let Some(bandwidth) = scenario.disk.bandwidth {
        config.disk.bytes_per_second = Some(bandwidth.bytes_per_second);
    }
    if let Some(capacity) = scenario.disk.capacity {
        config.disk.capacity = capacity.0;
    }
    config.clock.max_skew = Duration::from_millis(50);
    config.poll_limit = Some(50_000_000);
    config.time_limit = Some(time_limit(scenario));
    config
}

/// The simulated time that a run may take, from the nodes' start to the verdict.
fn time_limit(scenario: &Scenario) -> Duration {
    longest_run(scenario) + cleaning(scenario).unwrap_or_default()
}

/// The time that brokers get at the end, if they are to clean up in some topic.
fn cleaning(scenario: &Scenario) -> Option<Duration> {
    let is_owed = scenario.topics.iter().any(|topic| rules(scenario, Some(topic)).cleanup != Cleanup::default());
    cleanup::patience(|key, default| millis(scenario, key, default)).filter(|_| is_owed)
}

/// The same without the time that brokers are given for cleaning up.
fn longest_run(scenario: &Scenario) -> Duration {
    BOOT + scenario.run.duration.0 + converges_within(scenario) + SETTLE * 3
}

fn millis(scenario: &Scenario, key: &str, default: u64) -> u64 {
    match scenario.cluster.config.get(key) {
        Some(ConfigValue::Integer(ms)) => u64::try_from(*ms).unwrap_or(default),
        Some(ConfigValue::Text(text)) => text.parse().unwrap_or(default),
        _ => default,
    }
}

/// Three times the timers in the chain: election, fetch, backoff, session, replica lag, fetch wait.
fn converges_within(scenario: &Scenario) -> Duration {
    scenario.expect.converges_within.map_or_else(
        || {
            let timers = [
                ("controller.quorum.election.timeout.ms", 1000),
                ("controller.quorum.fetch.timeout.ms", 2000),
                ("controller.quorum.election.backoff.max.ms", 1000),
                ("broker.heartbeat.interval.ms", 2000),
                ("broker.session.timeout.ms", 9000),
                ("replica.lag.time.max.ms", 30_000),
                ("replica.fetch.wait.max.ms", 500),
            ];
            Duration::from_millis(3 * timers.iter().map(|(key, default)| millis(scenario, key, *default)).sum::<u64>())
        },
        |within| within.0,
    )
}

async fn drive(
    world: World,
    scenario: Scenario,
    own: Vec<workload::Own>,
    schedule: Schedule,
    progress: Arc<Watch>,
) -> Brought {
    let context = context(&scenario);
    let shared = Shared::new(WhiteBox::new(context.clone()));
    let recorder = Recorder::default();
    let cluster = Cluster::build(world.clone(), &scenario, shared.clone());
    let (stop_tx, stop) = watch::channel(false);
    let scene = Scene {
        world: world.clone(),
        recorder: recorder.clone(),
        shared: shared.clone(),
        stop,
        bootstrap: bootstrap(&scenario),
    };
    cluster.start_all();
    let mut brought = Brought {
        zero: world.now(),
        healed: world.now(),
        converged: None,
        stuck: None,
        faults: Vec::new(),
        without_effect: Vec::new(),
        checks: Vec::new(),
        recorder: recorder.clone(),
        shared: shared.clone(),
        context,
        reached_end: Vec::new(),
    };
    let clients = add_clients(&world, &scenario, &own, &scene);
    let admin = world.add_node("admin", Arc::new(|_, _| Box::pin(std::future::pending())));
    world.start(admin);
    let admin = world.env(admin).expect("just started");
    if let Err(why) = boot(&world, &cluster, &scenario, &scene, &admin).await {
        brought.stuck = Some(why);
        return brought;
    }
    world.sleep_until(START).await;
    brought.zero = world.now().max(START);
    progress.phase.store(1, Ordering::Relaxed);
    for (host, _) in &clients {
        world.start(*host);
    }
    let hosts: Vec<HostId> = clients.iter().map(|(host, _)| *host).collect();
    let mut faults = Faults::new(&cluster, schedule, brought.zero, hosts);
    let end = brought.zero + scenario.run.duration.0;
    while world.now() < end {
        let next = (world.now() + Duration::from_millis(250)).min(end);
        faults.run_until(next).await;
        report_progress(&progress, &world, &brought, &recorder);
    }
    progress.phase.store(2, Ordering::Relaxed);
    let core = core(&cluster, &scenario);
    faults.heal(&core);
    brought.healed = world.now();
    // Traffic goes on for a moment, so that what needs a new record to move does; then it ends.
    world.sleep(Duration::from_millis(500)).await;
    stop_tx.send(true);
    let waited_for = u32::try_from(clients.len()).unwrap_or(u32::MAX);
    let deadline = brought.healed + converges_within(&scenario).max(Duration::from_secs(1));
    let whole = || is_formed(&cluster, &core) && is_caught_up(&cluster, &core);
    // The cluster may be whole long before the last client has given up what it waits for, and then have work again. Since
    // when it was, counts as long as everybody stays where he belongs.
    let whole_since = std::cell::Cell::new(None);
    let is_settled = || {
        if !is_formed(&cluster, &core) {
            whole_since.set(None);
        } else if whole_since.get().is_none() && is_caught_up(&cluster, &core) {
            whole_since.set(Some(world.now()));
        }
        whole_since.get().is_some() && shared.clients_done() >= waited_for
    };
    if !world.wait_for(deadline.max(world.now() + SETTLE), Duration::from_millis(20), is_settled).await {
        tracing::warn!("clients still wait for answers, or the cluster is not whole");
    }
    brought.converged = whole_since.get().filter(|at| *at <= deadline);
    // What clients did last is to be everywhere before more is asked.
    let _ = world.wait_for(world.now() + Duration::from_secs(10), Duration::from_millis(20), whole).await;
    progress.phase.store(3, Ordering::Relaxed);
    let canaries = canaries(&scenario, &scene, &admin).await;
    // What the canaries wrote is to be everywhere before the replicas are compared.
    let _ = world.wait_for(world.now() + Duration::from_secs(10), Duration::from_millis(20), whole).await;
    for topic in &scenario.topics {
        let name = TopicName::from(topic.name.as_str());
        brought.reached_end.extend(workload::read_to_end(admin.clone(), scene.clone(), name).await);
    }
    report_progress(&progress, &world, &brought, &recorder);
    let idle = match cleaning(&scenario) {
        Some(patience) => Some(cleanup::give_time(&world, &cluster, patience).await),
        None => None,
    };
    // A controller commits a record of its own every half second; between two of them the others know as much.
    let agree = || controllers_agree(&cluster);
    let _ = world.wait_for(world.now() + Duration::from_secs(10), Duration::from_millis(5), agree).await;
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let convergence = Convergence {
        within_ns: nanos(deadline.since(brought.healed)),
        took_ns: brought.converged.map(|at| nanos(at.since(brought.healed))),
    };
    let state = EndState { idle, ..end_state(&cluster, canaries, convergence) };
    (brought.faults, brought.without_effect) = faults.account();
    if let Some(judge) = shared.take_judge() {
        brought.context = Context { excuses: Some(judge.excuses()), ..judge.context().clone() };
        brought.checks = judge.finish(&state);
        brought.context.final_reads_reached_end = brought.reached_end.iter().copied().collect();
        brought.checks.extend(checker::converged(&state, &brought.context));
    }
    brought
}

fn report_progress(progress: &Watch, world: &World, brought: &Brought, recorder: &Recorder) {
    let (acked, read) = recorder.counts();
    let since = world.now().since(brought.zero).as_millis();
    progress.simulated_ms.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    progress.acked.store(acked, Ordering::Relaxed);
    progress.read.store(read, Ordering::Relaxed);
}

/// A host for each client of each workload; started when the cluster is ready.
fn add_clients(world: &World, scenario: &Scenario, own: &[workload::Own], scene: &Scene) -> Vec<(HostId, String)> {
    let mut clients = Vec::new();
    let (mut producers, mut consumers, mut admins) = (0, 0, 0);
    for workload in &scenario.workloads {
        match workload {
            Workload::Produce(produce) => {
                for index in 0..produce.clients {
                    producers += 1;
                    let name = format!("producer-{producers}");
                    let (scene, produce): (Scene, Produce) = (scene.clone(), produce.clone());
                    let boot: sim::Boot =
                        Arc::new(move |env, _| workload::produce(env, scene.clone(), produce.clone(), index));
                    clients.push((world.add_node(&name, boot), name));
                }
            }
            Workload::Consume(consume) => {
                for index in 0..consume.clients.unwrap_or(1) {
                    consumers += 1;
                    let name = format!("consumer-{consumers}");
                    let (scene, consume) = (scene.clone(), consume.clone());
                    let boot: sim::Boot =
                        Arc::new(move |env, _| workload::consume(env, scene.clone(), consume.clone(), index));
                    clients.push((world.add_node(&name, boot), name));
                }
            }
            Workload::AdminChurn(churn) => {
                for index in 0..churn.clients {
                    admins += 1;
                    let name = format!("admin-{admins}");
                    let (scene, churn) = (scene.clone(), *churn);
                    let kept: Vec<String> = scenario.topics.iter().map(|topic| topic.name.clone()).collect();
                    let boot: sim::Boot =
                        Arc::new(move |env, _| workload::admin_churn(env, scene.clone(), churn, kept.clone(), index));
                    clients.push((world.add_node(&name, boot), name));
                }
            }
        }
    }
    for own in own {
        let (own, scene, name) = (own.clone(), scene.clone(), own.name().to_owned());
        let boot: sim::Boot = Arc::new(move |env, _| own.process(env, scene.clone()));
        clients.push((world.add_node(&name, boot), name));
    }
    clients
}

/// Waits for every broker to be unfenced, creates the topics, waits for their leaders.
async fn boot(
    world: &World,
    cluster: &Cluster,
    scenario: &Scenario,
    scene: &Scene,
    admin: &SharedEnv,
) -> Result<(), String> {
    let deadline = world.now() + BOOT;
    let brokers = scenario.cluster.brokers as usize;
    let unfenced =
        || cluster.shared.view(|view| view.unfenced.values().filter(|unfenced| **unfenced).count()) >= brokers;
    if !world.wait_for(deadline, Duration::from_millis(5), unfenced).await {
        let up = cluster.shared.view(|view| view.unfenced.values().filter(|unfenced| **unfenced).count());
        return Err(format!("only {up} of {brokers} brokers were unfenced {} s after the start", BOOT.as_secs()));
    }
    let client = scene.client(admin.clone(), "admin");
    let session = scene.recorder.session();
    for topic in &scenario.topics {
        let wanted = NewTopic {
            name: TopicName::from(topic.name.as_str()),
            partitions: i32::try_from(topic.partitions).ok(),
            replication_factor: i16::try_from(topic.replication_factor).ok(),
            assignment: BTreeMap::new(),
            config: topic.config.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
        };
        let ask = TopicAsk::Create(i32::try_from(topic.partitions).unwrap_or(i32::MAX));
        let op = scene.recorder.topic(session, moment(world.now()), &topic.name, ask);
        let answer = client.admin().create_topic(&wanted).await;
        scene.recorder.topic_answered(op, moment(world.now()), answer.as_ref().map(drop));
        match answer {
            Ok(created) => {
                if let Some(id) = created.id {
                    tell_rules(scenario, topic, id, cluster);
                }
            }
            Err(error) => {
                return Err(format!("topic {} could not be created: {} {}", topic.name, error.code, error.detail));
            }
        }
    }
    let partitions: usize = scenario.topics.iter().map(|topic| topic.partitions as usize).sum();
    let led = || {
        cluster.shared.view(|view| {
            let of_topics = view.partitions.iter().filter(|(id, state)| {
                **id != TopicIdPartition::METADATA && state.leader.is_some() && state.isr.len() == state.replicas.len()
            });
            let serving =
                of_topics.filter(|(_, state)| state.leader.and_then(|leader| state.logs.get(&leader)).is_some());
            serving.count() >= partitions
        })
    };
    if world.wait_for(deadline, Duration::from_millis(5), led).await {
        Ok(())
    } else {
        Err("not every partition had a leader in time".to_owned())
    }
}

/// The judge's rules for one topic.
fn tell_rules(scenario: &Scenario, topic: &crate::file::Topic, id: broker_types::TopicId, cluster: &Cluster) {
    let rules = rules(scenario, Some(topic));
    cluster.shared.judge(|judge| {
        for partition in 0..i32::try_from(topic.partitions).unwrap_or(0) {
            judge.context_mut().partitions.insert(TopicIdPartition { topic: id, partition }, rules);
        }
    });
}

fn number(value: Option<&ConfigValue>) -> Option<i64> {
    match value? {
        ConfigValue::Integer(number) => Some(*number),
        ConfigValue::Text(text) => text.parse().ok(),
        ConfigValue::Boolean(_) => None,
    }
}

fn rules(scenario: &Scenario, topic: Option<&crate::file::Topic>) -> PartitionRules {
    let cluster = &scenario.cluster.config;
    let either = |topic_key: &str, cluster_key: &str| {
        topic.and_then(|topic| topic.config.get(topic_key)).or_else(|| cluster.get(cluster_key)).cloned()
    };
    let truth = |value: Option<ConfigValue>| matches!(value.map(|value| value.to_string()).as_deref(), Some("true"));
    let cleanup = cleanup::rules(either, longest_run(scenario));
    PartitionRules {
        min_isr: number(either("min.insync.replicas", "min.insync.replicas").as_ref())
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(1),
        replication_factor: topic.map_or(1, |topic| topic.replication_factor),
        unclean_election: truth(either("unclean.leader.election.enable", "unclean.leader.election.enable")),
        flush_before_ack: number(either("flush.messages", "log.flush.interval.messages").as_ref()) == Some(1),
        may_be_trimmed: cleanup.retention_ms.is_some() || cleanup.retention_bytes.is_some(),
        compacted: cleanup.compaction.is_some(),
        cleanup,
    }
}

fn context(scenario: &Scenario) -> Context {
    Context {
        defaults: rules(scenario, None),
        allowed: match scenario.expect.allowed {
            FileAllowed::Counted => Allowed::Counted,
            FileAllowed::None => Allowed::None,
        },
        nodes: scenario.cluster.node_ids().map(|node| (node, node_name(node))).collect(),
        voters: scenario.cluster.controller_ids().collect(),
        producers_expire: time_limit(scenario)
            > Duration::from_millis(millis(scenario, "producer.id.expiration.ms", 86_400_000)),
        ..Context::default()
    }
}

/// Who is healed.
fn core(cluster: &Cluster, scenario: &Scenario) -> BTreeSet<NodeId> {
    match scenario.run.heal {
        Heal::All => cluster.hosts.keys().copied().collect(),
        Heal::Core => {
            let spare = |topic: &crate::file::Topic| {
                topic.replication_factor.saturating_sub(rules(scenario, Some(topic)).min_isr) as usize
            };
            let most = scenario.cluster.brokers.saturating_sub(1) as usize;
            cluster::core::draw(cluster, scenario.topics.iter().map(spare).min().unwrap_or(most).min(most))
        }
    }
}

/// Of the nodes in `core`: all are up, follow one controller and are unfenced; every partition has one of them as its leader, and
/// those that replicate it as its ISR.
fn is_formed(cluster: &Cluster, core: &BTreeSet<NodeId>) -> bool {
    if core.iter().any(|node| !cluster.world.is_up(cluster.hosts[node])) || !controllers_agree(cluster) {
        return false;
    }
    let is_led = |state: &PartitionView| {
        state.replicas.is_empty()
            || state.leader.is_some_and(|leader| core.contains(&leader))
                && state.isr.iter().all(|member| core.contains(member))
                && state.isr.len() == state.replicas.iter().filter(|replica| core.contains(replica)).count()
    };
    cluster.shared.view(|view| {
        let mut brokers = core.iter().filter(|node| node.0 <= 100);
        brokers.all(|broker| view.unfenced.get(broker).copied().unwrap_or(false))
            && view.partitions.iter().all(|(id, state)| *id == TopicIdPartition::METADATA || is_led(state))
    })
}

/// Every replica in `core` has its leader's log, all of it committed, and knows.
fn is_caught_up(cluster: &Cluster, core: &BTreeSet<NodeId>) -> bool {
    let is_equal = |state: &PartitionView| {
        let Some(leader) = state.leader.and_then(|leader| state.logs.get(&leader)) else {
            return state.replicas.is_empty();
        };
        let caught_up = |replica: &NodeId| {
            let log = state.logs.get(replica);
            log.is_some_and(|log| log.log_end == leader.log_end && log.high_watermark == leader.log_end)
        };
        state.replicas.iter().filter(|replica| core.contains(replica)).all(caught_up)
    };
    cluster
        .shared
        .view(|view| view.partitions.iter().all(|(id, state)| *id == TopicIdPartition::METADATA || is_equal(state)))
}

/// One acks=all record to every partition: does the cluster serve?
async fn canaries(scenario: &Scenario, scene: &Scene, admin: &SharedEnv) -> Vec<Canary> {
    let client = scene.client(admin.clone(), "canary");
    let config =
        ProducerConfig { delivery_timeout: Duration::from_secs(30), acks: Acks::All, ..ProducerConfig::default() };
    let producer = Producer::new(&client, config);
    let session = scene.recorder.session();
    let mut ids = ProducerIds::new(scene, session);
    let mut canaries = Vec::new();
    for topic in &scenario.topics {
        let name = TopicName::from(topic.name.as_str());
        let Some(topic_id) = scene.shared.view(|view| view.topic_id(&topic.name)) else { continue };
        for partition in 0..i32::try_from(topic.partitions).unwrap_or(0) {
            let value = scene.recorder.value();
            let bytes = workload::value_bytes(value, 32);
            let timestamp = admin.wall().0;
            let sending = crate::recorder::Sending {
                partition: TopicIdPartition { topic: topic_id, partition },
                value,
                digest: workload::digest(None, Some(&bytes), timestamp, std::iter::empty()),
                acks: checker::Acks::All,
                idempotent: true,
            };
            let moment = || crate::recorder::moment(scene.world.now());
            let op = scene.recorder.send(session, moment(), sending);
            let delivery = producer.send(Record {
                topic: name.clone(),
                partition: Some(partition),
                timestamp,
                key: None,
                value: Some(bytes),
                headers: Vec::new(),
            });
            let what = format!("produce to {}-{partition}", topic.name);
            let delivered = delivery.await;
            ids.look(scene, &producer);
            match delivered {
                Ok(metadata) => {
                    scene.recorder.sent(op, moment(), checker::Outcome::Ok, metadata.offset, None);
                    scene.shared.acked(sending.partition);
                    canaries.push(Canary { what, error: None });
                }
                Err(error) => {
                    let outcome = outcome(error.outcome);
                    scene.recorder.sent(op, moment(), outcome, None, Some(error.code.name().to_owned()));
                    canaries.push(Canary { what, error: Some(error.code.name().to_owned()) });
                }
            }
        }
    }
    canaries
}

fn expected(scenario: &Scenario) -> Verdict {
    match scenario.expect.verdict {
        ExpectedVerdict::Pass => Verdict::Pass,
        ExpectedVerdict::Violation => Verdict::Violation,
        ExpectedVerdict::Inconclusive => Verdict::Inconclusive,
    }
}

fn empty(scenario: &Scenario, seed: u64, options: &Options) -> RunReport {
    let named = if options.named.is_empty() { &scenario.name } else { &options.named };
    let until = options.until.map(|until| format!(" --until {}ms", until.as_millis())).unwrap_or_default();
    RunReport {
        scenario: scenario.name.clone(),
        question: scenario.question.clone(),
        seed,
        verdict: Verdict::Inconclusive,
        expected: expected(scenario),
        reasons: Vec::new(),
        fingerprint: 0,
        events: 0,
        simulated_ms: 0,
        marks: BTreeMap::new(),
        faults: Vec::new(),
        checks: Vec::new(),
        violations: Vec::new(),
        story: Vec::new(),
        traffic: String::new(),
        realtime_lag: None,
        reproduce: match options.bug {
            None => format!("cargo trial run {named} --seed {seed:016x}{until}"),
            Some(bug) => format!("{MUSEUM} run {named} --seed {seed:016x}{until} --bug {}", bug.id()),
        },
    }
}

fn judge(scenario: &Scenario, seed: u64, options: &Options, brought: Brought, panics: &[sim::NodePanic]) -> RunReport {
    let mut report = empty(scenario, seed, options);
    let history = brought.recorder.take();
    if let Some(file) = &options.history {
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        let write = |()| std::fs::write(file, checker::write_recording(&brought.context, &history));
        if let Err(error) = folder.and_then(write) {
            eprintln!("trial: {}: {error}", file.display());
        }
    }
    let mut checks = brought.checks;
    checks.extend(checker::judge(&history, &brought.context));
    checks.push(no_panic(panics, brought.zero));
    checks.sort_by(|a, b| a.id.cmp(&b.id));
    let (acked, read) = brought.recorder.counts();
    let marks: BTreeMap<String, u64> =
        brought.shared.view(|view| view.marks.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect());
    let missing =
        scenario.expect.marks.iter().map(|mark| mark.name().to_owned()).filter(|mark| !marks.contains_key(mark));
    let progress = Progress {
        acked,
        read,
        // Workloads of one's own may do the one or the other, but not nothing.
        produces: scenario.workloads.iter().any(|workload| matches!(workload, Workload::Produce(_)))
            || (!options.workloads.is_empty() && read == 0),
        consumes: scenario.workloads.iter().any(|workload| matches!(workload, Workload::Consume(_))),
        stuck: brought.stuck,
        missing_marks: missing.collect(),
        faults_without_effect: brought.without_effect,
    };
    (report.verdict, report.reasons) = checker::verdict(&checks, &progress);
    report.violations = checks.iter().flat_map(|check| check.violations.clone()).collect();
    report.checks = checks.iter().map(CheckLine::from).collect();
    let ms = |at: SimTime| u64::try_from(at.since(brought.zero).as_millis()).unwrap_or(0);
    report.story = brought
        .shared
        .view(|view| story::tell(view, &brought.faults, brought.zero.0, ms(brought.healed), brought.converged.map(ms)));
    report.faults = brought.faults;
    report.marks = marks;
    report.realtime_lag = checker::realtime_lag(&history).map(|lag| Lag {
        ms: lag.ns() / 1_000_000,
        partition: brought.context.partition_name(lag.partition),
        at_ms: lag.polled.0 / 1_000_000,
    });
    report.traffic = traffic(&history, acked, read, &brought.shared.refusals());
    report
}

fn traffic(history: &checker::History, acked: u64, read: u64, refused: &BTreeMap<&'static str, u64>) -> String {
    let count = |is_one: &dyn Fn(&checker::Op) -> bool, outcome: checker::Outcome| {
        history.ops.iter().filter(|op| is_one(op) && op.outcome == outcome).count()
    };
    let fates = |is_one: &dyn Fn(&checker::Op) -> bool| {
        [checker::Outcome::Ok, checker::Outcome::Fail, checker::Outcome::Unknown].map(|outcome| count(is_one, outcome))
    };
    let [sent, failed, unknown] = fates(&|op| matches!(op.kind, checker::OpKind::Send(_)));
    let sent = sent + failed + unknown;
    let mut text = format!(
        "Clients sent {sent} records: {acked} acknowledged, {failed} refused, {unknown} of unknown fate; {read} were read."
    );
    // What the run itself creates is there before it begins.
    let is_churn = |op: &checker::Op| matches!(op.kind, checker::OpKind::Topic(_)) && op.invoked.0 > 0;
    let [done, failed, unknown] = fates(&is_churn);
    if done + failed + unknown > 0 {
        let asked = done + failed + unknown;
        text.push_str(&format!(
            " They asked {asked} times about topics: {done} granted, {failed} refused, {unknown} of unknown fate."
        ));
    }
    if !refused.is_empty() {
        let list: Vec<String> = refused.iter().map(|(name, count)| format!("{count} × {name}")).collect();
        text.push_str(&format!(" Errors: {}.", list.join(", ")));
    }
    text
}

/// A panic in a node is a crash of that node, and a finding.
fn no_panic(panics: &[sim::NodePanic], zero: SimTime) -> CheckResult {
    let mut check = CheckResult::new("no-panic");
    check.opportunity(1);
    for panic in panics {
        let at = panic.at.since(zero);
        check.violate(
            "A node never panics: a broken belief of its own is a bug.",
            vec![
                format!(
                    "{} (incarnation {}) at {}.{:03}s: {}",
                    panic.name,
                    panic.incarnation,
                    at.as_secs(),
                    at.subsec_millis(),
                    panic.message
                ),
                format!("at {}", panic.location),
            ],
            Some(moment(panic.at).0),
        );
    }
    if check.outcome == CheckOutcome::Vacuous {
        check.outcome = CheckOutcome::Pass;
    }
    check
}
