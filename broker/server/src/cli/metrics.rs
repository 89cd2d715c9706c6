//! Prometheus text on `--metrics HOST:PORT`, with Kafka's own names in the form that its exporters give them.
//!
//! What a node believes is asked of it when somebody scrapes; what happens per batch is counted as it happens, of the
//! observations.

use super::log::Facts;
use anyhow::Context;
use broker_server::Inspector;
use broker_types::{Observation, Observer, ReplicaRole, TopicIdPartition};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Most bytes of a scraper's request.
const REQUEST_MAX_BYTES: usize = 8 * 1024;
/// A scraper that takes longer is left.
const PATIENCE: Duration = Duration::from_secs(5);

/// One node's metrics, in a registry of its own.
pub(super) struct Metrics {
    registry: Registry,
    messages_in: Counter,
    bytes_in: Counter,
    replication_bytes_in: Counter,
    elections_lost: Counter,
    offline_log_dirs: Gauge,
    asked: Asked,
}

/// What is asked of the node at each scrape.
struct Asked {
    replicas: Gauge,
    leaders: Gauge,
    under_replicated: Gauge,
    offline: Gauge,
    active_brokers: Gauge,
    active_controller: Gauge,
    quorum_epoch: Gauge,
    metadata_end: Gauge,
    connections: Gauge,
    refused: Counter,
    requests: Counter,
    closed: Family<Vec<(String, String)>, Counter>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let asked = Asked {
            replicas: add(r, "kafka_server_replicamanager_partitioncount", "Replicas on this broker"),
            leaders: add(r, "kafka_server_replicamanager_leadercount", "Partitions that this broker leads"),
            under_replicated: add(
                r,
                "kafka_server_replicamanager_underreplicatedpartitions",
                "Led partitions whose ISR lacks a replica",
            ),
            offline: add(
                r,
                "kafka_controller_kafkacontroller_offlinepartitionscount",
                "Partitions of the cluster that nobody leads",
            ),
            active_brokers: add(
                r,
                "kafka_controller_kafkacontroller_activebrokercount",
                "Brokers of the cluster that are not fenced",
            ),
            active_controller: add(
                r,
                "kafka_controller_kafkacontroller_activecontrollercount",
                "1 on the active controller",
            ),
            quorum_epoch: add(r, "kafka_server_raft_metrics_current_epoch", "Epoch of the metadata quorum"),
            metadata_end: add(
                r,
                "kafka_server_broker_metadata_metrics_last_applied_record_offset",
                "End of the metadata that this node has replayed",
            ),
            connections: add(r, "kafka_server_socket_server_metrics_connection_count", "Connections open now"),
            refused: add(r, "kafka_server_connections_refused", "Connections turned away by a limit"),
            requests: add(r, "kafka_network_requestmetrics_requests", "Requests taken up"),
            closed: add(r, "kafka_server_connections_closed", "Connections closed by this node, by reason"),
        };
        Metrics {
            messages_in: add(r, "kafka_server_brokertopicmetrics_messagesin", "Records appended as leader"),
            bytes_in: add(r, "kafka_server_brokertopicmetrics_bytesin", "Bytes appended as leader"),
            replication_bytes_in: add(
                r,
                "kafka_server_brokertopicmetrics_replicationbytesin",
                "Bytes appended as follower",
            ),
            elections_lost: add(r, "kafka_controller_quorum_resignations", "Times this node gave up the quorum's lead"),
            offline_log_dirs: add(r, "kafka_log_logmanager_offlinelogdirectorycount", "Log directories that failed"),
            asked,
            registry,
        }
    }

    fn text(&self, node: &Inspector) -> String {
        let partitions = node.partitions();
        let asked = &self.asked;
        asked.replicas.set(partitions.replicas.into());
        asked.leaders.set(partitions.leaders.into());
        asked.under_replicated.set(partitions.under_replicated.into());
        asked.offline.set(partitions.offline.into());
        asked.active_brokers.set(i64::try_from(node.active_brokers()).unwrap_or(i64::MAX));
        asked.active_controller.set(node.is_active_controller().into());
        asked.quorum_epoch.set(node.quorum_epoch().into());
        asked.metadata_end.set(node.metadata_end());
        let counters = node.counters();
        asked.connections.set(counters.connections.load(Ordering::Relaxed));
        // These only rise: the node counts, the registry shows.
        asked.refused.inner().store(counters.connections_refused.load(Ordering::Relaxed), Ordering::Relaxed);
        asked.requests.inner().store(counters.requests.load(Ordering::Relaxed), Ordering::Relaxed);
        for (reason, count) in counters.closed() {
            let labels = vec![("reason".to_owned(), reason.to_owned())];
            asked.closed.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes everything");
        text
    }
}

/// A new metric, known to `registry`.
fn add<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// Logs and counts.
pub(super) struct Counted(pub(super) Arc<Metrics>);

impl Observer for Counted {
    fn observe(&self, fact: Observation) {
        let metrics = &self.0;
        match &fact {
            Observation::Appended { partition, base, last, size, role, .. }
                if *partition != TopicIdPartition::METADATA =>
            {
                match role {
                    ReplicaRole::Leader => {
                        metrics.messages_in.inc_by((last.0 - base.0).unsigned_abs() + 1);
                        metrics.bytes_in.inc_by(u64::from(*size));
                    }
                    ReplicaRole::Follower => {
                        metrics.replication_bytes_in.inc_by(u64::from(*size));
                    }
                }
            }
            Observation::LogDirFailed => {
                metrics.offline_log_dirs.set(1);
            }
            Observation::QuorumResigned { .. } => {
                metrics.elections_lost.inc();
            }
            _ => {}
        }
        Facts.observe(fact);
    }
}

/// Takes the address; called before the node starts, so that a wrong one changes nothing.
pub(super) async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("--metrics {address}: cannot listen there"))
}

/// Answers scrapers, one at a time, as long as the process lives.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>, node: Inspector) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = tokio::time::timeout(PATIENCE, answer(stream, &metrics, &node)).await;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics, node: &Inspector) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_MAX_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match request.starts_with(b"GET /metrics ") || request.starts_with(b"GET / ") {
        true => ("200 OK", metrics.text(node)),
        false => ("404 Not Found", "GET /metrics\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
