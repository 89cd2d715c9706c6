//! One connection: frames in, one request at a time, replies out in order.
//!
//! As in Kafka, the next request of a connection is taken up when the reply to the one before it was written, so that
//! replies keep the order of requests without a queue. A client that never reads its replies therefore holds one
//! reply and one socket buffer, no more.
//!
//! While a request waits (for records, for replicas, for the controller) its connection goes on listening, to a few
//! KiB: a client that is gone is let go at once, and what it asked is forgotten.
//!
//! `connections.max.idle.ms` is the patience for each thing that a peer may keep us waiting for: a whole request, our
//! answer to get ready, and any progress in taking it. (Kafka takes any byte for a sign of life; with us a request
//! that trickles in has to be complete in that time.)

use super::admission::{Admission, Charge, Hold, SMALL};
use super::race::{First, race};
use crate::node::{ListenerKind, Node};
use crate::requests::{self, Reply, ReplyPart};
use broker_env::{Connection, ReadHalf, Timer, WriteHalf};
use broker_types::MonoTime;
use broker_wire::decode_request;
use broker_wire::frame::FrameReader;
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes that are read ahead while a request waits; one read may go beyond.
const AHEAD: usize = 4 << 10;

/// Serves until the peer or the node is done, or the peer sends what no Kafka client would.
pub(crate) async fn serve(node: Arc<Node>, kind: ListenerKind, admission: &Arc<Admission>, mut connection: Connection) {
    let _open = Open::new(&node);
    match converse(&node, kind, admission, &mut connection).await {
        Ok(()) => {}
        Err(End::Io(error)) => tracing::debug!(peer = %connection.peer, %error, "connection ended"),
        Err(End::Refused(reason)) => {
            node.counters.refuse(reason);
            tracing::info!(peer = %connection.peer, reason, "connection closed");
        }
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open<'a>(&'a Node);

impl<'a> Open<'a> {
    fn new(node: &'a Node) -> Self {
        node.counters.connections.fetch_add(1, Ordering::Relaxed);
        Open(node)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
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

async fn converse(
    node: &Arc<Node>,
    kind: ListenerKind,
    admission: &Arc<Admission>,
    connection: &mut Connection,
) -> Result<(), End> {
    let max = usize::try_from(node.config.settings.socket_request_max_bytes).unwrap_or(usize::MAX);
    let Connection { reader, writer, .. } = connection;
    let mut inbound = FrameReader::new(max);
    let mut outbound = VecDeque::new();
    let mut idle = Idle::new(node);
    while let Some((frame, charge)) = next_request(node, admission, reader, &mut inbound, &mut idle).await? {
        idle.touch(node);
        let hold = Hold { _turn: admission.turn().await, _charge: charge };
        node.counters.requests.fetch_add(1, Ordering::Relaxed);
        // Pinned here: passed on by value, the largest part of an idle connection would be kept room for three times.
        let mut answer = pin!(async {
            match decode_request(kind, frame) {
                Ok((mut header, request)) => {
                    // A slice of the frame, which would live as long as the request waits. Nobody asks for it.
                    header.client_id = None;
                    requests::handle(node, kind, &header, request, hold).await
                }
                Err(error) => requests::undecodable(kind, &error),
            }
        });
        let reply = match race(answer.as_mut(), unheard(node, reader, &mut inbound, &mut idle)).await {
            First::Left(reply) => reply,
            First::Right(end) => return Err(end),
        };
        idle.touch(node);
        match reply {
            Reply::Frame(bytes) => {
                outbound.push_back(bytes);
                write_all(node, writer, &mut outbound, &mut idle).await?;
            }
            Reply::Parts(parts) => write_parts(node, writer, parts, &mut outbound, &mut idle).await?,
            Reply::Nothing => {}
            Reply::Close(reason) => return Err(End::Refused(reason)),
        }
        idle.touch(node);
    }
    Ok(())
}

/// The next whole frame; `None` when the peer or the node is done.
async fn next_request(
    node: &Arc<Node>,
    admission: &Arc<Admission>,
    reader: &mut ReadHalf,
    inbound: &mut FrameReader,
    idle: &mut Idle,
) -> Result<Option<(Bytes, Option<Charge>)>, End> {
    let mut charge = None;
    let mut stopping = node.stopping.clone();
    loop {
        if let Some(frame) = inbound.next_frame().map_err(|error| End::Refused(error.reason()))? {
            return Ok(Some((frame, charge)));
        }
        let more = async {
            // A large frame that is on its way in earnest has to be let in before it is read on.
            if charge.is_none() && inbound.arrived() >= SMALL {
                charge = Some(admission.bytes(inbound.arrived() + inbound.lacking()).await);
            }
            reader.read(inbound.room()).await
        };
        match race(race(more, idle.expired(node)), stopping.wait_for(|stop| *stop)).await {
            First::Left(First::Left(count)) => {
                if count? == 0 {
                    return Ok(None);
                }
            }
            First::Left(First::Right(())) => {
                return Err(End::Refused(if inbound.is_mid_frame() { "unfinished-frame" } else { "idle" }));
            }
            First::Right(_) => return Ok(None),
        }
    }
}

/// Returns when nobody will hear the answer to the request at hand: the peer has closed the connection, or has waited
/// for as long as it may.
async fn unheard(node: &Node, reader: &mut ReadHalf, inbound: &mut FrameReader, idle: &mut Idle) -> End {
    let gone = async {
        // Who sends many requests at once is alive, and its next ones have to wait.
        while inbound.arrived() < AHEAD {
            match reader.read(inbound.room()).await {
                Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
        std::future::pending().await
    };
    match race(gone, idle.expired(node)).await {
        First::Left(error) => End::Io(error),
        First::Right(()) => End::Refused("unanswered"),
    }
}

/// Header parts as vectored writes, record slices from their files.
async fn write_parts(
    node: &Node,
    writer: &mut WriteHalf,
    parts: Vec<ReplyPart>,
    outbound: &mut VecDeque<Bytes>,
    idle: &mut Idle,
) -> Result<(), End> {
    for part in parts {
        match part {
            ReplyPart::Bytes(bytes) => outbound.push_back(bytes),
            ReplyPart::File { file, mut position, mut len } => {
                write_all(node, writer, outbound, idle).await?;
                while len > 0 {
                    let sent = poll_fn(|cx| writer.0.poll_send_file(cx, &file, position, len));
                    let sent = progress(node, sent, idle).await?;
                    if sent == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    position += sent as u64;
                    len -= sent;
                }
            }
        }
    }
    write_all(node, writer, outbound, idle).await
}

async fn write_all(
    node: &Node,
    writer: &mut WriteHalf,
    outbound: &mut VecDeque<Bytes>,
    idle: &mut Idle,
) -> Result<(), End> {
    loop {
        while outbound.front().is_some_and(Bytes::is_empty) {
            outbound.pop_front();
        }
        if outbound.is_empty() {
            return Ok(());
        }
        progress(node, poll_fn(|cx| writer.0.poll_write(cx, outbound)), idle).await?;
    }
}

/// Waits for a peer to take something.
async fn progress(node: &Node, write: impl Future<Output = io::Result<usize>>, idle: &mut Idle) -> Result<usize, End> {
    match race(write, idle.expired(node)).await {
        First::Left(taken) => {
            idle.touch(node);
            Ok(taken?)
        }
        First::Right(()) => Err(End::Refused("reply-not-read")),
    }
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
