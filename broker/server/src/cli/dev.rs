//! `broker dev`: a whole local cluster in one process, for a first try.
//!
//! Each node is what `broker start` would run, with its own directory, its own sockets and its own view of the world;
//! they share the process and its threads.

use super::life::{Either, Signals, die_on_panic, either};
use super::{DevArgs, directory, env, log, properties, random_uuid, runtime};
use anyhow::{Context, bail};
use broker_env::SharedEnv;
use broker_server::{Broker, Config};
use broker_types::NodeId;
use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Controllers are numbered from here, so that brokers may begin with 1.
const FIRST_CONTROLLER: u16 = 3001;
/// A cluster that is not ready by then never will be.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    if u32::from(args.port) + u32::from(args.brokers) > 65536 || args.port == 0 {
        bail!("--port {}: {} brokers need that many ports from it, up to 65535", args.port, args.brokers);
    }
    let temporary = match &args.dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("broker-dev-").tempdir()?),
    };
    let root = match (&temporary, &args.dir) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, Some(dir)) => std::path::absolute(dir)?,
        (None, None) => unreachable!("one or the other"),
    };
    std::fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let _lock = directory::lock(&root)?;
    let configs = plan(args, &root)?;
    let runtime = runtime()?;
    die_on_panic();
    let cluster_id = cluster_id(&root, &configs)?.unwrap_or_else(|| random_uuid(&runtime).to_string());
    let code = runtime.block_on(async {
        let signals = Signals::listen()?;
        let mut nodes = Vec::new();
        for config in configs {
            let env: SharedEnv = Arc::new(log::NodeEnv::new(env(&runtime), config.node_id));
            broker_server::format(&env, &config, &cluster_id).await?;
            let node = config.node_id;
            let started = Broker::start(env, Arc::new(log::Facts), config).await;
            nodes.push((node, started.context("another --port may help")?));
        }
        live(args, &root, nodes, &signals, begun).await
    });
    // Nothing of the nodes may run on in a directory that goes away.
    runtime.shutdown_timeout(Duration::from_secs(5));
    if let Some(temporary) = temporary {
        temporary.close()?;
    }
    code
}

/// Runs the nodes until a signal comes, or until one of them breaks.
async fn live(
    args: &DevArgs,
    root: &Path,
    mut nodes: Vec<(NodeId, Broker)>,
    signals: &Signals,
    begun: Instant,
) -> anyhow::Result<ExitCode> {
    let ready = async {
        for (_, broker) in &nodes {
            broker.ready().await;
        }
        for (_, broker) in &nodes {
            broker.knows_brokers(usize::from(args.brokers)).await;
        }
    };
    match either(signals.asked(), tokio::time::timeout(PATIENCE, ready)).await {
        Either::Left(()) => {}
        Either::Right(Err(_)) => bail!("the cluster is not ready after {} s; --log info says more", PATIENCE.as_secs()),
        Either::Right(Ok(())) => {
            let servers = (0..args.brokers).map(|index| format!("localhost:{}", args.port + index));
            println!(
                "{} and {} are ready after {} ms; bootstrap servers: {}; data in {}{}",
                count(args.brokers, "broker"),
                count(args.controllers, "controller"),
                begun.elapsed().as_millis(),
                servers.collect::<Vec<_>>().join(","),
                root.display(),
                if args.dir.is_some() { "" } else { ", removed at the end" },
            );
        }
    }
    let broken = either(signals.asked(), first_broken(&nodes)).await;
    if let Either::Right(node) = broken {
        bail!("node {node} stopped because something broke; --log info says more");
    }
    // Brokers one after the other, so that leaderships find a place to go; controllers last.
    nodes.sort_by_key(|(node, _)| *node);
    for (_, broker) in &mut nodes {
        broker.shutdown().await;
    }
    println!("the cluster has shut down");
    Ok(ExitCode::SUCCESS)
}

fn count(number: u16, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

async fn first_broken(nodes: &[(NodeId, Broker)]) -> NodeId {
    let mut waiting: Vec<_> = nodes.iter().map(|(node, broker)| (*node, Box::pin(broker.stopped()))).collect();
    std::future::poll_fn(|cx| {
        for (node, stopped) in &mut waiting {
            if stopped.as_mut().poll(cx).is_ready() {
                return std::task::Poll::Ready(*node);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Every node's configuration, controllers first.
fn plan(args: &DevArgs, root: &Path) -> anyhow::Result<Vec<Config>> {
    let controllers: Vec<(u16, u16)> =
        (0..args.controllers).map(|index| FIRST_CONTROLLER + index).zip(free_ports(args.controllers)?).collect();
    let voters = controllers.iter().map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    let ipv6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, 0))).is_ok();
    let replicas = args.brokers.min(3).to_string();
    let node = |id: u16, role: &str, listeners: String, dir: PathBuf| {
        let mut properties: BTreeMap<String, String> = BTreeMap::new();
        for (key, value) in [
            ("node.id", id.to_string()),
            ("process.roles", role.to_owned()),
            ("controller.quorum.voters", voters.clone()),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            ("listeners", listeners),
            ("log.dirs", dir.display().to_string()),
            ("default.replication.factor", replicas.clone()),
            // A controlled shutdown waits for every other broker's next heartbeat.
            ("broker.heartbeat.interval.ms", "500".to_owned()),
            // Nobody leads when several controllers start; on a loopback an election takes milliseconds.
            ("controller.quorum.election.timeout.ms", "100".to_owned()),
        ] {
            properties.insert(key.to_owned(), value);
        }
        properties::lay_over(&mut properties, &args.overrides)?;
        properties::check(&properties)
    };
    let mut configs = Vec::new();
    for (id, port) in &controllers {
        let listeners = format!("CONTROLLER://127.0.0.1:{port}");
        configs.push(node(*id, "controller", listeners, root.join(format!("controller-{id}")))?);
    }
    for index in 0..args.brokers {
        let (id, port) = (index + 1, args.port + index);
        // `localhost` is ::1 first for many clients, so both are served; brokers are advertised by the one address
        // that no client resolves differently.
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        if ipv6 {
            listeners.push_str(&format!(",PLAINTEXT_IPV6://[::1]:{port}"));
        }
        let mut config = node(id, "broker", listeners, root.join(format!("broker-{id}")))?;
        config.advertised_listeners.truncate(1);
        configs.push(config);
    }
    Ok(configs)
}

/// Ports that nobody listens on. They are free again when this returns; on a loopback the kernel hands out others
/// before it comes back to them.
fn free_ports(count: u16) -> anyhow::Result<Vec<u16>> {
    let bound: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
    Ok(bound.iter().map(|listener| listener.local_addr().map(|address| address.port())).collect::<Result<_, _>>()?)
}

/// The id of the cluster that lies in `root`; `None` in an empty directory.
fn cluster_id(root: &Path, configs: &[Config]) -> anyhow::Result<Option<String>> {
    let there = std::fs::read_dir(root)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("controller-"))
        .count();
    let wanted = configs.iter().filter(|config| config.is_controller).count();
    if there != 0 && there != wanted {
        bail!("{} holds a cluster with --controllers {there}; their number cannot change", root.display());
    }
    let meta = configs.iter().map(|config| config.log_dirs[0].join("meta.properties")).find(|meta| meta.exists());
    let Some(meta) = meta else { return Ok(None) };
    let text = std::fs::read_to_string(&meta).with_context(|| format!("cannot read {}", meta.display()))?;
    let id = broker_server::parse_properties(&text).remove("cluster.id");
    Ok(Some(id.with_context(|| format!("{} names no cluster.id", meta.display()))?))
}
