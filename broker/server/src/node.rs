//! One node's shared state: what its connections and drivers have in common.

use crate::config::Config;
use crate::drivers::forward::Forward;
use crate::drivers::quorum::QuorumMessage;
use crate::drivers::replicas::ReplicaMessage;
use broker_core::metadata::MetadataImage;
use broker_core::raft::LeaderAndEpoch;
use broker_env::SharedEnv;
use broker_env::watch;
use broker_types::{BrokerEpoch, DirectoryId, Observer, Uuid};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

pub(crate) use broker_wire::Listener as ListenerKind;

/// What every task of a node may use.
pub(crate) struct Node {
    pub(crate) env: SharedEnv,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) config: Config,
    /// Drawn anew by each process.
    pub(crate) incarnation: Uuid,
    /// The metadata log's directory.
    pub(crate) directory: DirectoryId,
    /// Becomes true once, when the node is to end.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) stop: watch::Sender<bool>,
    /// It ends because something broke.
    pub(crate) failed: AtomicBool,
    /// The metadata this node has replayed.
    pub(crate) metadata: watch::Receiver<Arc<MetadataImage>>,
    /// Who leads the quorum, as far as this node knows.
    pub(crate) leader: watch::Receiver<LeaderAndEpoch>,
    /// This broker's epoch, once its registration was accepted.
    pub(crate) broker_epoch: watch::Receiver<Option<BrokerEpoch>>,
    /// To the quorum's driver.
    pub(crate) quorum: mpsc::Sender<QuorumMessage>,
    /// To the driver of this broker's replicas; `None` on a mere controller.
    pub(crate) replicas: Option<mpsc::Sender<ReplicaMessage>>,
    /// To whoever asks the active controller on behalf of clients.
    pub(crate) forward: mpsc::Sender<Forward>,
    /// Producer ids that the controller gave this broker: next and end.
    pub(crate) producer_ids: tokio::sync::Mutex<Option<(i64, i64)>>,
    /// Ports as bound, by listener name: what `listeners` with port 0 became.
    pub(crate) bound: Mutex<BTreeMap<String, u16>>,
    pub(crate) counters: Counters,
}

/// What is counted; a metrics endpoint reads it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections open now.
    pub connections: AtomicI64,
    /// Connections that were turned away by a limit.
    pub connections_refused: AtomicU64,
    /// Requests taken up.
    pub requests: AtomicU64,
    /// Connections closed by us, by reason.
    closed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// A connection was closed for `reason`.
    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.closed.lock().expect("never held across a panic").entry(reason).or_default() += 1;
    }

    /// Connections closed by us, by reason.
    #[must_use]
    pub fn closed(&self) -> BTreeMap<&'static str, u64> {
        self.closed.lock().expect("never held across a panic").clone()
    }
}

impl Node {
    /// Something broke that this node cannot live with.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.stop.send(true);
    }

    /// What is known of the cluster now.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.metadata.borrow().clone()
    }
}
