//! Takes connections in, within their limits.

use super::admission::Admission;
use super::connection;
use super::race::{First, race};
use crate::node::{ListenerKind, Node};
use broker_env::Listener;
use broker_env::watch;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Accepts until the node stops, from when `open` becomes true. Who connects before that waits, as with Kafka.
/// `exempt`: however many connections there are.
pub(crate) async fn accept(
    node: Arc<Node>,
    kind: ListenerKind,
    mut listener: Box<dyn Listener>,
    admission: Arc<Admission>,
    exempt: bool,
    open: Option<watch::Receiver<bool>>,
) {
    let mut stopping = node.stopping.clone();
    if let Some(mut open) = open {
        match race(stopping.wait_for(|stop| *stop), open.wait_for(|open| *open)).await {
            First::Right(Ok(_)) => {}
            First::Left(_) | First::Right(Err(_)) => return,
        }
    }
    loop {
        let next = async {
            if !exempt {
                admission.room().await;
            }
            listener.accept().await
        };
        let accepted = match race(stopping.wait_for(|stop| *stop), next).await {
            First::Left(_) => return,
            First::Right(accepted) => accepted,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, most likely: connections that close give some back.
                tracing::warn!(%error, "accept failed");
                node.env.sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = admission.admit(connection.peer.ip()) else {
            node.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (serving, admission) = (node.clone(), admission.clone());
        node.env.go("connection", async move {
            let _place = place;
            connection::serve(serving, kind, &admission, connection).await;
        });
    }
}
