//! One connection: frames in, one request at a time, replies out in order.
//!
//! As in Kafka, the next request of a connection is taken up when the reply to the one before it was written, so that
//! replies keep the order of requests without a queue. A client that never reads its replies therefore holds one
//! reply and one socket buffer, no more.

use super::race::{First, race};
use crate::node::{ListenerKind, Node};
use crate::requests::{self, Reply, ReplyPart};
use broker_env::{Connection, Timer};
use broker_types::MonoTime;
use broker_wire::decode_request;
use broker_wire::frame::FrameReader;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Serves until the peer or the node is done, or the peer sends what no Kafka client would.
pub(crate) async fn serve(node: Arc<Node>, kind: ListenerKind, mut connection: Connection) {
    node.counters.connections.fetch_add(1, Ordering::Relaxed);
    match converse(&node, kind, &mut connection).await {
        Ok(()) => {}
        Err(End::Io(error)) => tracing::debug!(peer = %connection.peer, %error, "connection ended"),
        Err(End::Refused(reason)) => {
            node.counters.refuse(reason);
            tracing::info!(peer = %connection.peer, reason, "connection closed");
        }
    }
    node.counters.connections.fetch_sub(1, Ordering::Relaxed);
}

/// Why a connection ended early.
enum End {
    Io(io::Error),
    /// We closed it, for a counted reason.
    Refused(&'static str),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Io(error)
    }
}

async fn converse(node: &Arc<Node>, kind: ListenerKind, connection: &mut Connection) -> Result<(), End> {
    let max = usize::try_from(node.config.settings.socket_request_max_bytes).unwrap_or(usize::MAX);
    let mut inbound = FrameReader::new(max);
    let mut outbound = VecDeque::new();
    let mut idle = Idle::new(node);
    let mut stopping = node.stopping.clone();
    loop {
        let frame = loop {
            if let Some(frame) = inbound.next_frame().map_err(|error| End::Refused(error.reason()))? {
                break frame;
            }
            let read = race(connection.reader.read(inbound.room()), idle.expired(node));
            match race(read, stopping.wait_for(|stop| *stop)).await {
                First::Left(First::Left(count)) => {
                    if count? == 0 {
                        return Ok(());
                    }
                }
                First::Left(First::Right(())) => return Err(End::Refused("idle")),
                First::Right(_) => return Ok(()),
            }
        };
        idle.touch(node);
        node.counters.requests.fetch_add(1, Ordering::Relaxed);
        let reply = match decode_request(kind, frame) {
            Ok((header, request)) => requests::handle(node, kind, &header, request).await,
            Err(error) => requests::undecodable(kind, &error),
        };
        match reply {
            Reply::Frame(bytes) => {
                outbound.push_back(bytes);
                connection.writer.write_all(&mut outbound).await?;
            }
            Reply::Parts(parts) => write_parts(connection, parts, &mut outbound).await?,
            Reply::Nothing => {}
            Reply::Close(reason) => return Err(End::Refused(reason)),
        }
        idle.touch(node);
    }
}

/// Header parts as vectored writes, record slices from their files.
async fn write_parts(
    connection: &mut Connection,
    parts: Vec<ReplyPart>,
    outbound: &mut VecDeque<Bytes>,
) -> Result<(), End> {
    for part in parts {
        match part {
            ReplyPart::Bytes(bytes) => outbound.push_back(bytes),
            ReplyPart::File { file, position, len } => {
                connection.writer.write_all(outbound).await?;
                connection.writer.send_file(&file, position, len).await?;
            }
        }
    }
    connection.writer.write_all(outbound).await?;
    Ok(())
}

/// `connections.max.idle.ms`, at the price of one timer per connection that is rarely moved.
struct Idle {
    timer: Timer,
    limit: Duration,
    last: MonoTime,
}

impl Idle {
    fn new(node: &Node) -> Self {
        let (limit, last) = (node.config.settings.connections_max_idle, node.env.mono());
        Idle { timer: node.env.timer(last + limit), limit, last }
    }

    fn touch(&mut self, node: &Node) {
        self.last = node.env.mono();
    }

    /// Returns once nothing has happened for the whole limit.
    async fn expired(&mut self, node: &Node) {
        loop {
            (&mut self.timer).await;
            let due = self.last + self.limit;
            if node.env.mono() >= due {
                return;
            }
            self.timer.reset(due);
        }
    }
}
