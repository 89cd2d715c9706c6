//! Log lines on stderr, and what nodes say of themselves as such lines.

use broker_env::{Disk, Env, Network, SharedEnv, Task, Timer};
use broker_types::{MonoTime, NodeId, Observation, Observer, WallTime};
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use tracing::{Instrument, debug, error, info, trace};
use tracing_subscriber::EnvFilter;

#[derive(Args, Debug)]
pub(super) struct LogArgs {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: off, error, warn, info, debug, trace, or target=level,... as in RUST_LOG
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG", hide_env_values = true)]
    log: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

impl LogArgs {
    /// Begins to log.
    ///
    /// # Errors
    /// A filter that makes no sense.
    pub(super) fn init(&self, default: &str) -> anyhow::Result<()> {
        let wanted = self.log.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(default);
        let filter = EnvFilter::try_new(wanted).map_err(|error| anyhow::anyhow!("--log {wanted}: {error}"))?;
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        }
        Ok(())
    }
}

/// Logs a node's observations: rare ones for operators, those of every batch for whoever asks for `trace`.
pub(super) struct Facts {
    pub(super) node: NodeId,
}

impl Observer for Facts {
    fn observe(&self, fact: Observation) {
        let node = self.node;
        match fact {
            Observation::LogLoaded { partition, log_start, log_end, high_watermark, truncated_bytes } => {
                debug!(%node, %partition, %log_start, %log_end, %high_watermark, truncated_bytes, "log loaded");
            }
            Observation::Appended { partition, base, last, leader_epoch, size, role, .. } => {
                trace!(%node, %partition, %base, %last, %leader_epoch, size, %role, "appended");
            }
            Observation::Truncated { partition, from, to } => info!(%node, %partition, %from, %to, "log truncated"),
            Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role } => {
                trace!(%node, %partition, %leader_epoch, %high_watermark, %log_end, %role, "high watermark set");
            }
            Observation::LogStart { partition, log_start } => info!(%node, %partition, %log_start, "log start moved"),
            Observation::BecameLeader { partition, leader_epoch, start, isr } => {
                info!(%node, %partition, %leader_epoch, %start, ?isr, "leads");
            }
            Observation::BecameFollower { partition, leader_epoch, leader } => {
                info!(%node, %partition, %leader_epoch, ?leader, "follows");
            }
            Observation::IsrCommitted { partition, leader_epoch, partition_epoch, isr } => {
                info!(%node, %partition, %leader_epoch, %partition_epoch, ?isr, "ISR committed");
            }
            Observation::Acknowledged { partition, leader_epoch, base, last, high_watermark, isr_size } => {
                trace!(%node, %partition, %leader_epoch, %base, %last, %high_watermark, isr_size, "acknowledged");
            }
            Observation::LogDirFailed => error!(%node, "log directory failed"),
            Observation::QuorumEpoch { epoch } => debug!(%node, %epoch, "quorum epoch entered"),
            Observation::QuorumCandidate { epoch } => info!(%node, %epoch, "stands for election"),
            Observation::QuorumVote { epoch, candidate } => debug!(%node, %epoch, %candidate, "votes"),
            Observation::QuorumLeader { epoch, start } => info!(%node, %epoch, %start, "leads the quorum"),
            Observation::QuorumFollower { epoch, leader } => info!(%node, %epoch, %leader, "follows in the quorum"),
            Observation::QuorumResigned { epoch } => info!(%node, %epoch, "resigned from the quorum's lead"),
            Observation::BrokerRegistered { broker, broker_epoch } => {
                info!(%node, %broker, %broker_epoch, "broker registered");
            }
            Observation::BrokerFenced { broker, broker_epoch } => info!(%node, %broker, %broker_epoch, "broker fenced"),
            Observation::BrokerUnfenced { broker, broker_epoch } => {
                info!(%node, %broker, %broker_epoch, "broker unfenced");
            }
            Observation::PartitionChanged {
                partition,
                leader,
                leader_epoch,
                partition_epoch,
                isr,
                replicas,
                unclean,
            } => {
                info!(
                    %node, %partition, ?leader, %leader_epoch, %partition_epoch, ?isr, ?replicas, unclean,
                    "partition changed"
                );
            }
            Observation::Mark { name } => debug!(target: "mark", %node, name),
        }
    }
}

/// The real world, with every task's log lines marked as this node's: several nodes share the process.
pub(super) struct NodeEnv {
    world: SharedEnv,
    span: tracing::Span,
}

impl NodeEnv {
    pub(super) fn new(world: SharedEnv, node: NodeId) -> Self {
        NodeEnv { world, span: tracing::error_span!("node", id = %node) }
    }
}

impl Env for NodeEnv {
    fn mono(&self) -> MonoTime {
        self.world.mono()
    }

    fn wall(&self) -> WallTime {
        self.world.wall()
    }

    fn timer(&self, deadline: MonoTime) -> Timer {
        self.world.timer(deadline)
    }

    fn spawn(&self, name: &'static str, task: Task) {
        self.world.spawn(name, Box::pin(task.instrument(self.span.clone())));
    }

    fn entropy(&self, stream: &str) -> rand_chacha::ChaCha8Rng {
        self.world.entropy(stream)
    }

    fn network(&self) -> &dyn Network {
        self.world.network()
    }

    fn disk(&self) -> &dyn Disk {
        self.world.disk()
    }
}
