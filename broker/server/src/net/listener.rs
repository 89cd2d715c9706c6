//! Takes connections in, within their limits.

use super::connection;
use super::race::{First, race};
use crate::node::{ListenerKind, Node};
use broker_env::Listener;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Accepts until the node stops, from when `open` becomes true. Who connects before that waits, as with Kafka.
pub(crate) async fn accept(
    node: Arc<Node>,
    kind: ListenerKind,
    mut listener: Box<dyn Listener>,
    open: Option<watch::Receiver<bool>>,
) {
    let limits = Arc::new(Limits::default());
    let mut stopping = node.stopping.clone();
    if let Some(mut open) = open {
        match race(stopping.wait_for(|stop| *stop), open.wait_for(|open| *open)).await {
            First::Right(Ok(_)) => {}
            First::Left(_) | First::Right(Err(_)) => return,
        }
    }
    loop {
        let accepted = match race(stopping.wait_for(|stop| *stop), listener.accept()).await {
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
        let address = connection.peer.ip();
        if !limits.admit(&node, address) {
            node.counters.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (serving, limits) = (node.clone(), limits.clone());
        node.env.go("connection", async move {
            let _place = Place { limits, address };
            connection::serve(serving, kind, connection).await;
        });
    }
}

/// `max.connections` and `max.connections.per.ip`, one set per listener.
#[derive(Default)]
struct Limits {
    open: Mutex<(i64, BTreeMap<IpAddr, i64>)>,
}

impl Limits {
    fn admit(&self, node: &Node, address: IpAddr) -> bool {
        let mut open = self.open.lock().expect("never held across a panic");
        let here = open.1.get(&address).copied().unwrap_or(0);
        let settings = &node.config.settings;
        if open.0 >= settings.max_connections || here >= settings.max_connections_per_ip {
            return false;
        }
        open.0 += 1;
        open.1.insert(address, here + 1);
        true
    }
}

/// One admitted connection's place; given back when dropped, however the connection ends.
struct Place {
    limits: Arc<Limits>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().expect("never held across a panic");
        open.0 -= 1;
        if let Some(here) = open.1.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.1.remove(&self.address);
            }
        }
    }
}
