//! One connection: what each end's kernel knows, and what a fault, a death or a close does to it.

use super::link::next_retransmission;
use super::tap::ConnectionId;
use super::{Departure, Net};
use crate::alarm::Wakes;
use crate::clock::SimTime;
use crate::process::HostId;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

/// What an end's kernel does about the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kernel {
    /// Sends, receives, acknowledges.
    Open,
    /// Has forgotten it, and answers whatever comes with a reset.
    Closed,
    /// Has no power, and answers nothing.
    Silent,
}

/// Bytes, or the end of the stream, on their way or waiting to be read.
pub(crate) struct Packet {
    /// When it was sent for the first time.
    pub(crate) sent: SimTime,
    /// When it arrives; `NEVER` while its way is blocked. Never before the packet ahead of it.
    pub(crate) at: SimTime,
    /// What it carries.
    pub(crate) bytes: Bytes,
    /// Whether it is the end of the stream.
    pub(crate) fin: bool,
}

/// A reset on its way to an end, or an end's own decision to give up.
#[derive(Clone, Copy)]
pub(crate) struct Reset {
    /// From when on the end knows; `NEVER` while it cannot hear.
    pub(crate) at: SimTime,
    /// What its process is told.
    pub(crate) kind: io::ErrorKind,
}

/// One end.
pub(crate) struct End {
    pub(crate) host: HostId,
    pub(crate) addr: SocketAddr,
    pub(crate) kernel: Kernel,
    /// What the other end has sent and this process has not read.
    pub(crate) inbox: VecDeque<Packet>,
    /// Bytes in `inbox`.
    pub(crate) unread: usize,
    /// When the latest packet of `inbox`, or one before it, arrives; what follows arrives no earlier.
    pub(crate) last_arrival: SimTime,
    /// Bytes sent so far.
    pub(crate) sent: u64,
    /// Whether this end has ended its direction.
    pub(crate) shut: bool,
    pub(crate) reset: Option<Reset>,
    /// Since when something sent by this end is not acknowledged; only kept while the connection is broken.
    pub(crate) unacked_since: Option<SimTime>,
    /// Of the task that waits for bytes.
    pub(crate) reader: Option<Waker>,
    /// The earliest alarm armed for `reader`.
    pub(crate) reader_armed: SimTime,
    /// Of the task that waits for room.
    pub(crate) writer: Option<Waker>,
    /// How many of reader and writer the process still holds.
    pub(crate) halves: u8,
}

impl End {
    pub(crate) fn new(host: HostId, addr: SocketAddr) -> Self {
        End {
            host,
            addr,
            kernel: Kernel::Open,
            inbox: VecDeque::new(),
            unread: 0,
            last_arrival: SimTime(0),
            sent: 0,
            shut: false,
            reset: None,
            unacked_since: None,
            reader: None,
            reader_armed: SimTime::NEVER,
            writer: None,
            halves: 2,
        }
    }

    /// The parked reader is to look again at `at`.
    pub(crate) fn wake_reader_at(&mut self, at: SimTime, now: SimTime, wakes: &mut Wakes) {
        let Some(waker) = &self.reader else { return };
        let armed = self.reader_armed > now && self.reader_armed <= at;
        if at != SimTime::NEVER && !armed {
            self.reader_armed = at;
            wakes.at(at, waker.clone());
        }
    }

    fn wake_writer_at(&self, at: SimTime, wakes: &mut Wakes) {
        if let (Some(waker), true) = (&self.writer, at != SimTime::NEVER) {
            wakes.at(at, waker.clone());
        }
    }

    fn forget_inbox(&mut self) {
        self.inbox.clear();
        self.unread = 0;
    }
}

/// A connection. `ends[0]` opened it.
pub(crate) struct Conn {
    pub(crate) id: ConnectionId,
    /// The port it was opened to.
    pub(crate) port: u16,
    pub(crate) ends: [End; 2],
    /// Whether nothing reaches this end.
    pub(crate) held: [bool; 2],
    /// Since when packets or their acknowledgements do not get through, in either direction.
    pub(crate) broken_since: Option<SimTime>,
}

pub(crate) fn other(side: usize) -> usize {
    1 - side
}

impl Net {
    /// Whether nothing reaches this end as things are now.
    fn is_held(&self, conn: &Conn, side: usize) -> bool {
        let (end, peer) = (&conn.ends[side], &conn.ends[other(side)]);
        end.kernel == Kernel::Silent || self.is_blocked(peer.host, end.host)
    }

    /// When an end gives the connection up, if nothing changes.
    pub(crate) fn deadline(&self, conn: &Conn, side: usize) -> SimTime {
        let Some(broken) = conn.broken_since else { return SimTime::NEVER };
        match (conn.ends[side].unacked_since, self.config.keepalive) {
            (Some(since), _) => since + self.config.give_up,
            (None, Some(keepalive)) => broken + keepalive + self.config.give_up,
            (None, None) => SimTime::NEVER,
        }
    }

    /// When an end next sends something by itself, at `from` or later: a retransmission or a keep-alive probe.
    fn next_word(&self, conn: &Conn, side: usize, from: SimTime) -> SimTime {
        if let Some(since) = conn.ends[side].unacked_since {
            return next_retransmission(since, self.config.retransmission_timeout, from);
        }
        let (Some(keepalive), Some(broken)) = (self.config.keepalive, conn.broken_since) else {
            return if conn.broken_since.is_some() { SimTime::NEVER } else { from };
        };
        let step = crate::seed::nanos(keepalive).max(1);
        SimTime(broken.0 + (from.0 - broken.0).div_ceil(step) * step)
    }

    /// Arms whoever is parked at this end for whatever is next.
    fn rearm(&self, now: SimTime, conn: &mut Conn, side: usize, wakes: &mut Wakes) {
        let deadline = if conn.ends[side].kernel == Kernel::Open { self.deadline(conn, side) } else { SimTime::NEVER };
        let end = &mut conn.ends[side];
        let verdict = end.reset.map_or(SimTime::NEVER, |reset| reset.at).min(deadline);
        let front = end.inbox.front().map_or(SimTime::NEVER, |packet| packet.at);
        end.wake_reader_at(verdict.min(front), now, wakes);
        end.wake_writer_at(verdict, wakes);
    }

    /// Something is sent to `to`: puts it into its inbox, or holds it back while the way is blocked.
    #[expect(clippy::too_many_arguments, reason = "the connection is out of its slot while it is worked on")]
    pub(crate) fn post(
        &mut self,
        now: SimTime,
        conn: &mut Conn,
        to: usize,
        delay: SimTime,
        packets: impl Iterator<Item = (Bytes, bool)>,
        len: usize,
        wakes: &mut Wakes,
    ) {
        let (from_host, to_host) = (conn.ends[other(to)].host, conn.ends[to].host);
        let at = if conn.held[to] {
            self.count_blocked(from_host, to_host, "bytes-blocked", len as u64);
            SimTime::NEVER
        } else {
            let at = self.transit(now, from_host, to_host, len);
            SimTime(at.0 + delay.0).max(conn.ends[to].last_arrival)
        };
        if conn.broken_since.is_some() && conn.ends[other(to)].unacked_since.is_none() {
            conn.ends[other(to)].unacked_since = Some(now);
            self.rearm(now, conn, other(to), wakes);
        }
        let end = &mut conn.ends[to];
        if at != SimTime::NEVER {
            end.last_arrival = at;
        }
        for (bytes, fin) in packets {
            end.unread += bytes.len();
            end.inbox.push_back(Packet { sent: now, at, bytes, fin });
        }
        if let Some(front) = end.inbox.front().map(|packet| packet.at) {
            end.wake_reader_at(front, now, wakes);
        }
    }

    /// A reset goes out to `to`.
    pub(crate) fn send_reset(&mut self, now: SimTime, conn: &mut Conn, to: usize, wakes: &mut Wakes) {
        if conn.ends[to].kernel != Kernel::Open || conn.ends[to].reset.is_some_and(|reset| reset.at != SimTime::NEVER) {
            return;
        }
        let at = if conn.held[to] {
            SimTime::NEVER
        } else {
            let at = self.transit(now, conn.ends[other(to)].host, conn.ends[to].host, 40);
            at.max(conn.ends[to].last_arrival)
        };
        conn.ends[to].reset = Some(Reset { at, kind: io::ErrorKind::ConnectionReset });
        self.rearm(now, conn, to, wakes);
    }

    /// Both processes are told at once: something in the middle has broken the connection.
    pub(crate) fn reset_both(&mut self, now: SimTime, slot: usize, wakes: &mut Wakes) {
        let Some(mut conn) = self.conns[slot].take() else { return };
        for side in 0..2 {
            if conn.ends[side].kernel == Kernel::Open {
                conn.ends[side].reset = Some(Reset { at: now, kind: io::ErrorKind::ConnectionReset });
                conn.ends[side].inbox.retain(|packet| packet.at <= now);
                self.rearm(now, &mut conn, side, wakes);
                conn.ends[side].kernel = Kernel::Closed;
            }
        }
        self.conns[slot] = Some(conn);
    }

    /// An end has waited for an acknowledgement long enough. The other end hears of it when something gets through.
    pub(crate) fn give_up(&mut self, conn: &mut Conn, side: usize, at: SimTime) {
        let (host, peer) = (conn.ends[side].host, conn.ends[other(side)].host);
        self.count_cut(host, peer, "connections-timed-out");
        let end = &mut conn.ends[side];
        end.kernel = Kernel::Closed;
        end.reset = Some(Reset { at, kind: io::ErrorKind::TimedOut });
        end.inbox.retain(|packet| packet.at <= at);
        let peer = &mut conn.ends[other(side)];
        if peer.kernel == Kernel::Open && peer.reset.is_none() {
            peer.reset = Some(Reset { at: SimTime::NEVER, kind: io::ErrorKind::ConnectionReset });
        }
    }

    /// Lets every end give up that should have by now. Ends with nobody waiting are not looked at before.
    pub(crate) fn give_up_due(&mut self, now: SimTime) {
        for slot in 0..self.conns.len() {
            let Some(mut conn) = self.conns[slot].take() else { continue };
            for side in 0..2 {
                let deadline = self.deadline(&conn, side);
                if conn.ends[side].kernel == Kernel::Open && conn.ends[side].reset.is_none() && deadline <= now {
                    self.give_up(&mut conn, side, deadline);
                }
            }
            self.conns[slot] = Some(conn);
        }
    }

    /// Links were cut or mended, or hosts lost or got power: takes it over into every connection.
    pub(crate) fn sweep(&mut self, now: SimTime, wakes: &mut Wakes) {
        for slot in 0..self.conns.len() {
            let Some(mut conn) = self.conns[slot].take() else { continue };
            let held = [self.is_held(&conn, 0), self.is_held(&conn, 1)];
            let silent = conn.ends.iter().any(|end| end.kernel == Kernel::Silent);
            let broken = silent || held != [false; 2];
            if held != conn.held || broken != conn.broken_since.is_some() {
                self.sweep_one(now, &mut conn, held, broken, wakes);
            }
            self.conns[slot] = Some(conn);
        }
    }

    fn sweep_one(&mut self, now: SimTime, conn: &mut Conn, held: [bool; 2], broken: bool, wakes: &mut Wakes) {
        if broken && conn.broken_since.is_none() {
            conn.broken_since = Some(now);
            for side in 0..2 {
                let in_flight = conn.ends[other(side)].inbox.back().is_some_and(|packet| packet.at > now);
                conn.ends[side].unacked_since = in_flight.then_some(now);
            }
        }
        for (side, held) in held.into_iter().enumerate() {
            if held && !conn.held[side] {
                self.hold_back(now, conn, side);
            }
            if !held && conn.held[side] {
                self.let_through(now, conn, side);
            }
        }
        conn.held = held;
        if !broken {
            conn.broken_since = None;
            conn.ends[0].unacked_since = None;
            conn.ends[1].unacked_since = None;
        }
        for side in 0..2 {
            self.rearm(now, conn, side, wakes);
        }
    }

    /// What is on its way to `side` does not arrive for now.
    fn hold_back(&mut self, now: SimTime, conn: &mut Conn, side: usize) {
        let (from, to) = (conn.ends[other(side)].host, conn.ends[side].host);
        let end = &mut conn.ends[side];
        let mut bytes = 0;
        for packet in end.inbox.iter_mut().filter(|packet| packet.at > now) {
            packet.at = SimTime::NEVER;
            bytes += packet.bytes.len() as u64;
        }
        end.last_arrival = end.last_arrival.min(now);
        if let Some(reset) = end.reset.as_mut().filter(|reset| reset.at > now) {
            reset.at = SimTime::NEVER;
        }
        self.count_blocked(from, to, "bytes-blocked", bytes);
    }

    /// What was held back on its way to `side` is sent again, when its sender next tries.
    fn let_through(&mut self, now: SimTime, conn: &mut Conn, side: usize) {
        let (from, to) = (conn.ends[other(side)].host, conn.ends[side].host);
        let rto = self.config.retransmission_timeout;
        let mut resent = None;
        let mut last = conn.ends[side].last_arrival;
        let mut inbox = std::mem::take(&mut conn.ends[side].inbox);
        for packet in inbox.iter_mut().filter(|packet| packet.at == SimTime::NEVER) {
            let from_when = resent.unwrap_or_else(|| next_retransmission(packet.sent, rto, now));
            let (left, arrive) = self.transit_later(from_when, from, to, packet.bytes.len());
            (resent, packet.at) = (Some(left), arrive.max(last));
            last = packet.at;
        }
        conn.ends[side].inbox = inbox;
        conn.ends[side].last_arrival = last;
        if conn.ends[side].reset.is_some_and(|reset| reset.at == SimTime::NEVER) {
            // Nobody sends a reset twice: it comes as the answer to what this end sends next.
            let asked = self.next_word(conn, side, now);
            self.answer_with_reset(conn, side, asked);
        }
    }

    /// What `side` sends at `asked` meets a kernel that knows of no connection.
    fn answer_with_reset(&mut self, conn: &mut Conn, side: usize, asked: SimTime) {
        let (host, peer) = (conn.ends[side].host, conn.ends[other(side)].host);
        let at = if asked == SimTime::NEVER {
            asked
        } else {
            let (_, there) = self.transit_later(asked, host, peer, 40);
            self.transit_later(there, peer, host, 40).1.max(conn.ends[side].last_arrival)
        };
        conn.ends[side].reset = Some(Reset { at, kind: io::ErrorKind::ConnectionReset });
    }

    /// A write from `side` meets a closed end: it vanishes, and a reset comes back, unless one is on its way.
    pub(crate) fn write_to_closed(&mut self, now: SimTime, conn: &mut Conn, side: usize, wakes: &mut Wakes) {
        let known = conn.ends[side].reset.is_some_and(|reset| reset.at != SimTime::NEVER);
        if known {
            return;
        }
        if conn.broken_since.is_some() {
            conn.ends[side].unacked_since.get_or_insert(now);
            conn.ends[side].reset.get_or_insert(Reset { at: SimTime::NEVER, kind: io::ErrorKind::ConnectionReset });
        } else {
            self.answer_with_reset(conn, side, now);
        }
        self.rearm(now, conn, side, wakes);
    }

    /// The process is done with this end: the peer reads to the end of what was sent, or is reset if we left something
    /// unread.
    pub(crate) fn close_end(&mut self, now: SimTime, conn: &mut Conn, side: usize, wakes: &mut Wakes) {
        if conn.ends[side].kernel != Kernel::Open {
            return;
        }
        let data = |packet: &&Packet| !packet.fin;
        let unread = conn.ends[side].inbox.front().is_some_and(|packet| packet.at <= now && !packet.fin);
        let in_flight = conn.ends[side].inbox.iter().filter(data).map(|packet| packet.at).find(|at| *at > now);
        if unread {
            self.send_reset(now, conn, other(side), wakes);
        } else {
            if !conn.ends[side].shut {
                self.post(now, conn, other(side), SimTime(0), [(Bytes::new(), true)].into_iter(), 40, wakes);
            }
            if let Some(at) = in_flight {
                let sent = if at == SimTime::NEVER { now } else { at };
                self.send_reset(sent, conn, other(side), wakes);
            }
        }
        let end = &mut conn.ends[side];
        end.shut = true;
        end.kernel = Kernel::Closed;
        end.forget_inbox();
    }

    /// A process drops one of its halves.
    pub(crate) fn drop_half(&mut self, now: SimTime, slot: usize, side: usize, writer: bool, wakes: &mut Wakes) {
        let Some(mut conn) = self.conns[slot].take() else { return };
        let end = &mut conn.ends[side];
        end.halves -= 1;
        if end.halves == 0 {
            self.close_end(now, &mut conn, side, wakes);
        } else if writer && end.kernel == Kernel::Open && !end.shut {
            end.shut = true;
            self.post(now, &mut conn, other(side), SimTime(0), [(Bytes::new(), true)].into_iter(), 40, wakes);
        }
        if conn.ends.iter().all(|end| end.halves == 0) {
            self.free_slots.push(slot);
            if let Some(tap) = &mut self.tap {
                tap.on_close(conn.id);
            }
            // Its last wakers are of tasks that are gone, or woken in vain: nothing waits for a dropped half.
        } else {
            self.conns[slot] = Some(conn);
        }
    }

    /// A process or host is gone: what becomes of its connections and listeners. Gives back what must be dropped
    /// outside the lock.
    pub(crate) fn depart(
        &mut self,
        now: SimTime,
        host: HostId,
        how: Departure,
        wakes: &mut Wakes,
    ) -> Vec<Option<Waker>> {
        let mut dropped = Vec::new();
        for slot in 0..self.conns.len() {
            let Some(mut conn) = self.conns[slot].take() else { continue };
            for side in 0..2 {
                if conn.ends[side].host != host {
                    continue;
                }
                match how {
                    Departure::Exit => self.close_end(now, &mut conn, side, wakes),
                    Departure::Crash => {
                        if conn.ends[side].kernel == Kernel::Open {
                            conn.ends[side].kernel = Kernel::Closed;
                            conn.ends[side].forget_inbox();
                            self.send_reset(now, &mut conn, other(side), wakes);
                        }
                    }
                    Departure::PowerLoss => {
                        conn.ends[side].kernel = Kernel::Silent;
                        conn.ends[side].forget_inbox();
                    }
                }
                let end = &mut conn.ends[side];
                dropped.extend([end.reader.take(), end.writer.take()]);
            }
            self.conns[slot] = Some(conn);
        }
        let listeners = std::mem::take(&mut self.hosts[host.index()].listeners);
        for mut queue in listeners.into_values() {
            dropped.push(queue.waker.take());
            self.abandon(now, queue, wakes);
        }
        if how == Departure::PowerLoss {
            self.hosts[host.index()].powered = false;
            self.give_up_due(now);
            self.sweep(now, wakes);
        }
        dropped
    }

    /// The host answers again: with resets, for it knows of no connection.
    pub(crate) fn power_on(&mut self, now: SimTime, host: HostId, wakes: &mut Wakes) {
        if self.hosts[host.index()].powered {
            return;
        }
        self.give_up_due(now);
        self.hosts[host.index()].powered = true;
        for slot in 0..self.conns.len() {
            let Some(mut conn) = self.conns[slot].take() else { continue };
            for side in 0..2 {
                if conn.ends[side].host != host || conn.ends[side].kernel != Kernel::Silent {
                    continue;
                }
                conn.ends[side].kernel = Kernel::Closed;
                let peer = other(side);
                if conn.ends[peer].kernel == Kernel::Open && conn.ends[peer].reset.is_none() {
                    let apart =
                        self.is_blocked(conn.ends[peer].host, host) || self.is_blocked(host, conn.ends[peer].host);
                    let asked = if apart { SimTime::NEVER } else { self.next_word(&conn, peer, now) };
                    self.answer_with_reset(&mut conn, peer, asked);
                }
            }
            self.conns[slot] = Some(conn);
        }
        self.sweep(now, wakes);
    }
}
