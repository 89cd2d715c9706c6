//! `broker start`.

use super::life::{Either, Signals, die_on_panic, either};
use super::metrics::{self, Counted, Metrics};
use super::{StartArgs, directory, env, log, properties, runtime};
use broker_server::{Broker, Config};
use broker_types::NodeId;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

pub(super) fn run(args: &StartArgs) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let config = properties::check(&properties::read(&args.config, &args.overrides)?)?;
    let _locks = directory::take(&config)?;
    let runtime = runtime()?;
    let env = env(&runtime);
    die_on_panic();
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let node = config.node_id;
        let roles = roles(&config);
        let names = config.listeners.iter().chain(&config.controller_listeners).cloned().collect::<Vec<_>>();
        let mut broker = match &args.metrics {
            None => Broker::start(env, Arc::new(log::Facts), config).await?,
            Some(address) => {
                let listener = metrics::bind(address).await?;
                let counts = Arc::new(Metrics::new());
                let broker = Broker::start(env, Arc::new(Counted(counts.clone())), config).await?;
                tokio::spawn(metrics::serve(listener, counts, broker.inspector()));
                broker
            }
        };
        let ready = either(broker.ready(), either(signals.asked(), broker.stopped())).await;
        if matches!(ready, Either::Left(())) {
            let ports = broker.bound_ports();
            let listens = names.iter().filter_map(|endpoint| {
                Some(format!("{}://{}:{}", endpoint.name, endpoint.host, ports.get(&endpoint.name)?))
            });
            let listens = listens.collect::<Vec<_>>().join(",");
            println!("{roles} {node} is ready after {} ms on {listens}", begun.elapsed().as_millis());
        }
        end(&mut broker, &signals, node).await
    })
}

fn roles(config: &Config) -> &'static str {
    match (config.is_broker, config.is_controller) {
        (true, true) => "broker and controller",
        (true, false) => "broker",
        _ => "controller",
    }
}

/// Waits for the end. After a signal it is a clean one.
async fn end(broker: &mut Broker, signals: &Signals, node: NodeId) -> anyhow::Result<ExitCode> {
    match either(broker.stopped(), signals.asked()).await {
        Either::Left(_) => anyhow::bail!("node {node} stopped because something broke; its log says what"),
        Either::Right(()) => {
            tracing::info!(%node, "controlled shutdown");
            broker.shutdown().await;
            println!("node {node} has shut down");
            Ok(ExitCode::SUCCESS)
        }
    }
}
