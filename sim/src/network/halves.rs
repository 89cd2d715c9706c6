//! The two halves of a connection that a process holds.

use super::connection::{Kernel, other};
use super::tap::{Sent, TapVerdict};
use super::{Net, NetworkCore};
use crate::alarm::Wakes;
use crate::clock::SimTime;
use broker_env::{Completion, File, ReadHalf, StreamReader, StreamWriter, WriteHalf};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How much one read gives.
const READ_LIMIT: usize = 256 * 1024;
/// From this size on, bytes that nobody else holds are handed to the reader as they are.
const MOVE_FROM: usize = 4096;

struct Half {
    network: Arc<NetworkCore>,
    slot: usize,
    side: usize,
    writer: bool,
}

impl Drop for Half {
    fn drop(&mut self) {
        let now = self.network.now();
        self.network.with(|net, wakes| net.drop_half(now, self.slot, self.side, self.writer, wakes));
    }
}

/// Makes the halves of one end. To be called once per end.
pub(crate) fn halves(network: &Arc<NetworkCore>, slot: usize, side: usize) -> (ReadHalf, WriteHalf) {
    let half = |writer| Half { network: Arc::clone(network), slot, side, writer };
    (ReadHalf(Box::new(Reader { half: half(false) })), WriteHalf(Box::new(Writer { half: half(true), reading: None })))
}

struct Reader {
    half: Half,
}

impl StreamReader for Reader {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        let Half { network, slot, side, .. } = &self.half;
        let now = network.now();
        let mut old = None;
        let outcome = network.with(|net, wakes| net.read(now, *slot, *side, cx.waker(), into, &mut old, wakes));
        drop(old);
        outcome
    }
}

struct Writer {
    half: Half,
    /// The read from a slow disk that a send of a file waits for, and what was asked.
    reading: Option<(u64, Completion<Bytes>)>,
}

impl Writer {
    fn write(&self, cx: &Context<'_>, from: &mut VecDeque<Bytes>) -> Poll<io::Result<usize>> {
        let Half { network, slot, side, .. } = &self.half;
        let now = network.now();
        let mut old = None;
        let outcome = network.with(|net, wakes| net.write(now, *slot, *side, cx.waker(), from, &mut old, wakes));
        drop(old);
        outcome
    }

    fn room(&self, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Half { network, slot, side, .. } = &self.half;
        let now = network.now();
        let mut old = None;
        let outcome = network.with(|net, _| net.room(now, *slot, *side, cx.waker(), &mut old));
        drop(old);
        outcome.map_ok(|(room, _)| room)
    }
}

impl StreamWriter for Writer {
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut VecDeque<Bytes>) -> Poll<io::Result<usize>> {
        self.write(cx, from)
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Half { network, slot, side, .. } = &self.half;
        let now = network.now();
        Poll::Ready(network.with(|net, wakes| net.shut(now, *slot, *side, wakes)))
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<dyn File>,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let room = match self.room(cx) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let mut reading = match self.reading.take() {
            Some((asked, reading)) if asked == position => reading,
            _ => file.read_at(position, len.min(room)),
        };
        match Pin::new(&mut reading).poll(cx) {
            Poll::Ready(Ok(mut bytes)) if !bytes.is_empty() => {
                bytes.truncate(len.min(room));
                self.write(cx, &mut VecDeque::from([bytes]))
            }
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(0)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.reading = Some((position, reading));
                Poll::Pending
            }
        }
    }
}

fn gone() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

fn park(slot: &mut Option<Waker>, waker: &Waker, old: &mut Option<Waker>) -> bool {
    if slot.as_ref().is_some_and(|parked| parked.will_wake(waker)) {
        return false;
    }
    *old = slot.replace(waker.clone());
    true
}

impl Net {
    #[expect(clippy::too_many_arguments, reason = "the lock's holder passes what it must drop after the lock")]
    fn read(
        &mut self,
        now: SimTime,
        slot: usize,
        side: usize,
        waker: &Waker,
        into: &mut BytesMut,
        old: &mut Option<Waker>,
        wakes: &mut Wakes,
    ) -> Poll<io::Result<usize>> {
        let Some(mut conn) = self.conns[slot].take() else { return Poll::Ready(Err(gone())) };
        let outcome = 'outcome: {
            // 1. What has arrived, in order.
            let end = &mut conn.ends[side];
            let mut taken = 0;
            while end.inbox.front().is_some_and(|packet| packet.at <= now && !packet.fin) && taken < READ_LIMIT {
                let Some(packet) = end.inbox.pop_front() else { break };
                taken += packet.bytes.len();
                give(packet.bytes, into);
            }
            if taken > 0 {
                end.unread -= taken;
                self.grant_room(now, &mut conn, side, wakes);
                break 'outcome Poll::Ready(Ok(taken));
            }
            // 2. The end of the stream; 3. a reset; 4. our own patience.
            if end.inbox.front().is_some_and(|packet| packet.at <= now && packet.fin) {
                break 'outcome Poll::Ready(Ok(0));
            }
            if let Some(reset) = end.reset.filter(|reset| reset.at <= now) {
                end.kernel = Kernel::Closed;
                break 'outcome Poll::Ready(Err(reset.kind.into()));
            }
            if end.kernel != Kernel::Open {
                break 'outcome Poll::Ready(Err(gone()));
            }
            let deadline = self.deadline(&conn, side);
            if deadline <= now {
                self.give_up(&mut conn, side, deadline);
                break 'outcome Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // 5. Wait for whichever comes first.
            let end = &mut conn.ends[side];
            if park(&mut end.reader, waker, old) {
                end.reader_armed = SimTime::NEVER;
            }
            let front = end.inbox.front().map_or(SimTime::NEVER, |packet| packet.at);
            let verdict = end.reset.map_or(SimTime::NEVER, |reset| reset.at).min(deadline);
            end.wake_reader_at(front.min(verdict), now, wakes);
            Poll::Pending
        };
        self.conns[slot] = Some(conn);
        outcome
    }

    /// The reader has made room: the parked writer hears of it one least latency later.
    fn grant_room(&mut self, now: SimTime, conn: &mut super::Conn, side: usize, wakes: &mut Wakes) {
        if conn.ends[side].unread > self.config.send_buffer / 2 {
            return;
        }
        let (reader, writer) = (conn.ends[side].host, conn.ends[other(side)].host);
        if let Some(waker) = conn.ends[other(side)].writer.take() {
            let mut least = self.config.loopback.min;
            if let Some(link) = self.link(reader, writer).filter(|_| reader != writer) {
                least = link.config.latency.min;
            }
            wakes.at(now + least, waker);
        }
    }

    /// How much an end may write now, and whether the other end is there to take it.
    fn room(
        &mut self,
        now: SimTime,
        slot: usize,
        side: usize,
        waker: &Waker,
        old: &mut Option<Waker>,
    ) -> Poll<io::Result<(usize, bool)>> {
        let Some(mut conn) = self.conns[slot].take() else { return Poll::Ready(Err(gone())) };
        let deadline = self.deadline(&conn, side);
        let room = self.config.send_buffer.saturating_sub(conn.ends[other(side)].unread);
        let end = &mut conn.ends[side];
        let outcome = if let Some(reset) = end.reset.filter(|reset| reset.at <= now) {
            end.kernel = Kernel::Closed;
            Poll::Ready(Err(reset.kind.into()))
        } else if end.kernel != Kernel::Open {
            Poll::Ready(Err(gone()))
        } else if end.shut {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        } else if deadline <= now {
            self.give_up(&mut conn, side, deadline);
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        } else if room == 0 {
            park(&mut end.writer, waker, old);
            Poll::Pending
        } else {
            Poll::Ready(Ok((room, conn.ends[other(side)].kernel == Kernel::Closed)))
        };
        self.conns[slot] = Some(conn);
        outcome
    }

    #[expect(clippy::too_many_arguments, reason = "the lock's holder passes what it must drop after the lock")]
    fn write(
        &mut self,
        now: SimTime,
        slot: usize,
        side: usize,
        waker: &Waker,
        from: &mut VecDeque<Bytes>,
        old: &mut Option<Waker>,
        wakes: &mut Wakes,
    ) -> Poll<io::Result<usize>> {
        let (room, closed) = match self.room(now, slot, side, waker, old) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                self.arm_writer(now, slot, side, wakes);
                return Poll::Pending;
            }
        };
        let Some(mut conn) = self.conns[slot].take() else { return Poll::Ready(Err(gone())) };
        let mut parts = Taken::default();
        let mut len = 0;
        while len < room {
            let Some(mut bytes) = from.pop_front() else { break };
            if bytes.len() > room - len {
                let rest = bytes.split_off(room - len);
                from.push_front(rest);
            }
            len += bytes.len();
            parts.push(bytes);
        }
        let offset = conn.ends[side].sent;
        conn.ends[side].sent += len as u64;
        let (from_host, to_host) = (conn.ends[side].host, conn.ends[other(side)].host);
        let verdict = match &mut self.tap {
            Some(tap) if from_host != to_host && len > 0 => tap.on_send(&Sent {
                at: now,
                connection: conn.id,
                from: from_host,
                to: to_host,
                port: conn.port,
                by_initiator: side == 0,
                offset,
                bytes: parts.as_slice(),
            }),
            _ => TapVerdict::Pass,
        };
        let delay = match verdict {
            TapVerdict::Delay(by) => SimTime(crate::seed::nanos(by)),
            _ => SimTime(0),
        };
        match verdict {
            TapVerdict::Swallow | TapVerdict::Reset => {}
            _ if len == 0 => {}
            _ if closed => self.write_to_closed(now, &mut conn, side, wakes),
            _ => self.post(now, &mut conn, other(side), delay, parts.into_packets(), len, wakes),
        }
        self.conns[slot] = Some(conn);
        if verdict == TapVerdict::Reset {
            self.reset_both(now, slot, wakes);
        }
        Poll::Ready(Ok(len))
    }

    /// A writer without room also wants to know when the connection is lost.
    fn arm_writer(&mut self, now: SimTime, slot: usize, side: usize, wakes: &mut Wakes) {
        let Some(conn) = &self.conns[slot] else { return };
        let end = &conn.ends[side];
        let verdict = end.reset.map_or(SimTime::NEVER, |reset| reset.at).min(self.deadline(conn, side));
        if let (Some(waker), true) = (&end.writer, verdict != SimTime::NEVER && verdict > now) {
            wakes.at(verdict, waker.clone());
        }
    }

    fn shut(&mut self, now: SimTime, slot: usize, side: usize, wakes: &mut Wakes) -> io::Result<()> {
        let Some(mut conn) = self.conns[slot].take() else { return Err(gone()) };
        let end = &mut conn.ends[side];
        let outcome = match end.reset.filter(|reset| reset.at <= now) {
            Some(reset) => Err(reset.kind.into()),
            None if end.kernel != Kernel::Open => Err(gone()),
            None => {
                if !std::mem::replace(&mut end.shut, true) {
                    self.post(now, &mut conn, other(side), SimTime(0), [(Bytes::new(), true)].into_iter(), 40, wakes);
                }
                Ok(())
            }
        };
        self.conns[slot] = Some(conn);
        outcome
    }
}

/// What one write takes. Most writes are one buffer, and need no list.
#[derive(Default)]
struct Taken {
    one: Option<Bytes>,
    many: Vec<Bytes>,
}

impl Taken {
    fn push(&mut self, bytes: Bytes) {
        if self.many.is_empty() {
            match self.one.take() {
                None => {
                    self.one = Some(bytes);
                    return;
                }
                Some(first) => self.many.push(first),
            }
        }
        self.many.push(bytes);
    }

    fn as_slice(&self) -> &[Bytes] {
        self.one.as_ref().map_or(&self.many, std::slice::from_ref)
    }

    fn into_packets(self) -> impl Iterator<Item = (Bytes, bool)> {
        self.one.into_iter().chain(self.many).filter(|bytes| !bytes.is_empty()).map(|bytes| (bytes, false))
    }
}

fn give(bytes: Bytes, into: &mut BytesMut) {
    if into.is_empty() && bytes.len() >= MOVE_FROM {
        match bytes.try_into_mut() {
            Ok(whole) => *into = whole,
            Err(shared) => into.extend_from_slice(&shared),
        }
    } else {
        into.extend_from_slice(&bytes);
    }
}
