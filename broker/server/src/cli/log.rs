//! Log lines on stderr, and what nodes say of themselves as such lines.

use broker_env::{Disk, Env, Network, SharedEnv, Task, Timer};
use broker_types::{MonoTime, NodeId, Observation, Observer, QuorumSnapshot, WallTime};
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
pub(super) struct Facts;

/// The target of these lines.
const FACTS: &str = "broker";

impl Observer for Facts {
    fn observe(&self, fact: Observation) {
        match fact {
            Observation::LogLoaded { partition, log_start, log_end, high_watermark, truncated_bytes } => {
                debug!(target: FACTS, %partition, %log_start, %log_end, %high_watermark, truncated_bytes, "log loaded");
            }
            Observation::Appended { partition, base, last, leader_epoch, size, role, .. } => {
                trace!(target: FACTS, %partition, %base, %last, %leader_epoch, size, %role, "appended");
            }
            Observation::Truncated { partition, from, to } => {
                info!(target: FACTS, %partition, %from, %to, "log truncated");
            }
            Observation::HighWatermark { partition, leader_epoch, high_watermark, log_end, role } => {
                trace!(target: FACTS, %partition, %leader_epoch, %high_watermark, %log_end, %role, "high watermark set");
            }
            Observation::LogStart { partition, log_start } => {
                info!(target: FACTS, %partition, %log_start, "log start moved");
            }
            Observation::BecameLeader { partition, leader_epoch, start, isr } => {
                info!(target: FACTS, %partition, %leader_epoch, %start, ?isr, "leads");
            }
            Observation::BecameFollower { partition, leader_epoch, leader } => {
                info!(target: FACTS, %partition, %leader_epoch, ?leader, "follows");
            }
            Observation::IsrCommitted { partition, leader_epoch, partition_epoch, isr } => {
                info!(target: FACTS, %partition, %leader_epoch, %partition_epoch, ?isr, "ISR committed");
            }
            Observation::Acknowledged { partition, leader_epoch, base, last, high_watermark, isr_size } => {
                trace!(target: FACTS, %partition, %leader_epoch, %base, %last, %high_watermark, isr_size, "acknowledged");
            }
            Observation::LogDirFailed => error!(target: FACTS, "log directory failed"),
            Observation::QuorumEpoch { epoch } => debug!(target: FACTS, %epoch, "quorum epoch entered"),
            Observation::QuorumCandidate { epoch } => info!(target: FACTS, %epoch, "stands for election"),
            Observation::QuorumVote { epoch, candidate } => debug!(target: FACTS, %epoch, %candidate, "votes"),
            Observation::QuorumLeader { epoch, start } => info!(target: FACTS, %epoch, %start, "leads the quorum"),
            Observation::QuorumFollower { epoch, leader } => {
                info!(target: FACTS, %epoch, %leader, "follows in the quorum");
            }
            Observation::QuorumResigned { epoch } => info!(target: FACTS, %epoch, "resigned from the quorum's lead"),
            Observation::BrokerRegistered { broker, broker_epoch } => {
                info!(target: FACTS, %broker, %broker_epoch, "broker registered");
            }
            Observation::BrokerFenced { broker, broker_epoch } => {
                info!(target: FACTS, %broker, %broker_epoch, "broker fenced");
            }
            Observation::BrokerUnfenced { broker, broker_epoch } => {
                info!(target: FACTS, %broker, %broker_epoch, "broker unfenced");
            }
            Observation::PartitionChanged {
                partition,
                leader,
                leader_epoch,
                partition_epoch,
                isr,
                replicas,
                adding,
                removing,
                elr,
                last_known_elr,
                unclean,
            } => {
                info!(
                    target: FACTS, %partition, ?leader, %leader_epoch, %partition_epoch, ?isr, ?replicas, ?adding,
                    ?removing, ?elr, ?last_known_elr, unclean, "partition changed"
                );
            }
            Observation::SegmentsDeleted { partition, from, until, active } => {
                info!(target: FACTS, %partition, %from, %until, %active, "segments deleted");
            }
            Observation::Cleaned { partition, until, active } => {
                info!(target: FACTS, %partition, %until, %active, "log cleaned");
            }
            Observation::SnapshotTaken(QuorumSnapshot { end, epoch, .. }) => {
                info!(target: FACTS, %end, %epoch, "snapshot taken");
            }
            Observation::SnapshotLoaded(QuorumSnapshot { end, epoch, .. }) => {
                info!(target: FACTS, %end, %epoch, "snapshot loaded");
            }
            Observation::VotersChanged { offset, voters } => info!(target: FACTS, %offset, ?voters, "voters changed"),
            Observation::IsrProposed { partition, leader_epoch, partition_epoch, isr } => {
                info!(target: FACTS, %partition, %leader_epoch, %partition_epoch, ?isr, "ISR proposed");
            }
            Observation::QuorumProspective { epoch } => debug!(target: FACTS, %epoch, "asks for pre-votes"),
            Observation::BrokerShuttingDown { broker, broker_epoch } => {
                info!(target: FACTS, %broker, %broker_epoch, "broker is shutting down");
            }
            Observation::TopicCreated { topic, name } => info!(target: FACTS, %topic, %name, "topic created"),
            Observation::TopicDeleted { topic } => info!(target: FACTS, %topic, "topic deleted"),
            Observation::ControllerAnswered { until } => trace!(target: FACTS, %until, "controller answered"),
            Observation::CoordinatorLoaded { kind, partition, leader_epoch } => {
                info!(target: FACTS, ?kind, partition, %leader_epoch, "coordinator loaded");
            }
            Observation::CoordinatorUnloaded { kind, partition } => {
                info!(target: FACTS, ?kind, partition, "coordinator unloaded");
            }
            Observation::GroupChanged { group, coordinator_epoch, epoch, state } => {
                info!(target: FACTS, %group, %coordinator_epoch, epoch, ?state, "group changed");
            }
            Observation::MemberChanged(member) => debug!(target: FACTS, ?member, "member changed"),
            Observation::MemberGone { group, member } => info!(target: FACTS, %group, %member, "member gone"),
            Observation::OffsetCommitted { group, partition, offset, coordinator_epoch, member, epoch } => {
                trace!(target: FACTS, %group, %partition, %offset, %coordinator_epoch, ?member, epoch, "offset committed");
            }
            Observation::TransactionChanged(transaction) => {
                debug!(target: FACTS, ?transaction, "transaction changed");
            }
            Observation::TransactionMarker {
                partition,
                offset,
                producer,
                producer_epoch,
                coordinator_epoch,
                commit,
            } => {
                debug!(
                    target: FACTS, %partition, %offset, ?producer, ?producer_epoch, %coordinator_epoch, commit,
                    "transaction marker"
                );
            }
            Observation::Mark { name } => debug!(target: "mark", name),
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
