//! Listening and connecting: everything that happens before there is a connection.

use super::connection::{Conn, End};
use super::halves::halves;
use super::{ConnectionId, Net, NetworkCore};
use crate::alarm::Wakes;
use crate::clock::SimTime;
use crate::process::{HostId, Life};
use crate::timers::Action;
use broker_env::{Accepted, Completer, Completion, Connection, Listener, Network};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Connections that wait to be accepted on one port.
pub(crate) struct ListenQueue {
    /// Which listener this is: a port may be listened to again.
    id: u64,
    /// Slots of connections.
    waiting: VecDeque<usize>,
    pub(crate) waker: Option<Waker>,
}

/// How often and when a connect that gets no answer is tried again: after 1, 3, 7, ... seconds.
fn next_attempt(started: SimTime, attempt: u32) -> SimTime {
    started + Duration::from_secs((1_u64 << attempt.min(20)) - 1)
}

/// One process's network door.
pub(crate) struct SimNetwork {
    pub(crate) core: Arc<NetworkCore>,
    pub(crate) life: Arc<Life>,
}

impl Network for SimNetwork {
    fn listen(&self, host: &str, port: u16) -> Completion<Box<dyn Listener>> {
        Completion::ready(self.bind(host, port).map(|listener| Box::new(listener) as Box<dyn Listener>))
    }

    fn connect(&self, host: &str, port: u16) -> Completion<Connection> {
        if !self.life.is_alive() {
            return Completion::ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let Some(to) = self.core.lock().resolve(self.life.host, host) else {
            return Completion::ready(Err(io::ErrorKind::NotFound.into()));
        };
        let (completer, completion) = Completion::pending();
        let dial = Dial {
            core: Arc::clone(&self.core),
            life: Arc::clone(&self.life),
            to,
            port,
            started: self.core.now(),
            attempt: 0,
            completer,
        };
        dial.send();
        completion
    }
}

impl SimNetwork {
    fn bind(&self, host: &str, port: u16) -> io::Result<SimListener> {
        let mut net = self.core.lock();
        let here = self.life.host;
        let everywhere = matches!(host, "" | "0.0.0.0" | "::");
        if !self.life.is_alive() || !(everywhere || net.resolve(here, host) == Some(here)) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = if port == 0 { net.ephemeral_port(here) } else { port };
        let id = net.next_listener;
        let home = &mut net.hosts[here.index()];
        let addr = SocketAddr::new(IpAddr::V4(home.ip), port);
        if home.listeners.contains_key(&port) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        home.listeners.insert(port, ListenQueue { id, waiting: VecDeque::new(), waker: None });
        net.next_listener += 1;
        Ok(SimListener { core: Arc::clone(&self.core), host: here, id, addr })
    }
}

impl Net {
    /// Whom a name or address means, said by `here`.
    fn resolve(&self, here: HostId, host: &str) -> Option<HostId> {
        if let Some(id) = self.names.get(host) {
            return Some(*id);
        }
        if matches!(host, "localhost" | "127.0.0.1" | "::1") {
            return Some(here);
        }
        let ip: Ipv4Addr = host.parse().ok()?;
        let index = self.hosts.iter().position(|host| host.ip == ip)?;
        Some(HostId(index as u32))
    }

    fn ephemeral_port(&mut self, host: HostId) -> u16 {
        let home = &mut self.hosts[host.index()];
        loop {
            let port = home.next_port;
            home.next_port = port.checked_add(1).unwrap_or(32_768);
            if !home.listeners.contains_key(&port) {
                return port;
            }
        }
    }

    /// Whether a packet and its answer get through between two hosts.
    fn is_open(&self, from: HostId, to: HostId) -> bool {
        self.hosts[to.index()].powered && !self.is_blocked(from, to) && !self.is_blocked(to, from)
    }

    /// A new connection in its listener's queue; `None` when nobody listens, `Some(None)` when the queue is full.
    fn establish(&mut self, from: HostId, to: HostId, port: u16, wakes: &mut Wakes) -> Option<Option<usize>> {
        let backlog = self.config.backlog;
        let queue = self.hosts[to.index()].listeners.get(&port)?;
        if queue.waiting.len() >= backlog {
            return Some(None);
        }
        let from_addr = SocketAddr::new(IpAddr::V4(self.hosts[from.index()].ip), self.ephemeral_port(from));
        let to_addr = SocketAddr::new(IpAddr::V4(self.hosts[to.index()].ip), port);
        let conn = Box::new(Conn {
            id: ConnectionId(self.next_connection),
            port,
            ends: [End::new(from, from_addr), End::new(to, to_addr)],
            held: [false; 2],
            broken_since: None,
        });
        self.next_connection += 1;
        let slot = self.free_slots.pop().unwrap_or(self.conns.len());
        if slot == self.conns.len() {
            self.conns.push(None);
        }
        self.conns[slot] = Some(conn);
        if let Some(queue) = self.hosts[to.index()].listeners.get_mut(&port) {
            queue.waiting.push_back(slot);
            if let Some(waker) = queue.waker.take() {
                wakes.now(waker);
            }
        }
        Some(Some(slot))
    }

    /// Nobody will ever accept these.
    pub(crate) fn abandon(&mut self, now: SimTime, queue: ListenQueue, wakes: &mut Wakes) {
        for slot in queue.waiting {
            if let Some(mut conn) = self.conns[slot].take() {
                if conn.ends[1].kernel == super::Kernel::Open {
                    self.send_reset(now, &mut conn, 0, wakes);
                    conn.ends[1].kernel = super::Kernel::Closed;
                }
                self.conns[slot] = Some(conn);
            }
            self.drop_half(now, slot, 1, false, wakes);
            self.drop_half(now, slot, 1, true, wakes);
        }
    }
}

/// A connect under way.
struct Dial {
    core: Arc<NetworkCore>,
    life: Arc<Life>,
    to: HostId,
    port: u16,
    started: SimTime,
    attempt: u32,
    completer: Completer<Connection>,
}

impl Dial {
    fn later(self, at: SimTime, step: impl FnOnce(Self) + Send + 'static) {
        let events = Arc::clone(&self.core.events);
        events.add(at.0, Action::Run(Box::new(move || step(self))));
    }

    /// The first packet goes out, for the first time or again.
    fn send(self) {
        let now = self.core.now();
        let (from, to) = (self.life.host, self.to);
        let mut net = self.core.lock();
        if !net.is_open(from, to) {
            if self.attempt == 0 {
                net.count_cut(from, to, "connects-blocked");
            }
            drop(net);
            self.unanswered();
            return;
        }
        let arrive = net.transit(now, from, to, 60);
        drop(net);
        self.later(arrive, Dial::arrive);
    }

    /// Nothing came back: tries again, until the time is up.
    fn unanswered(mut self) {
        let net = self.core.lock();
        let give_up = self.started + net.config.connect_timeout;
        if self.core.now() >= give_up {
            net.count_cut(self.life.host, self.to, "connects-timed-out");
            drop(net);
            self.completer.complete(Err(io::ErrorKind::TimedOut.into()));
            return;
        }
        drop(net);
        self.attempt += 1;
        let next = next_attempt(self.started, self.attempt).min(give_up);
        self.later(next, move |dial| {
            let over = dial.core.now() >= give_up;
            if over { dial.unanswered() } else { dial.send() }
        });
    }

    /// The first packet is there.
    fn arrive(self) {
        let now = self.core.now();
        let (from, to) = (self.life.host, self.to);
        if !self.life.is_alive() {
            return;
        }
        let outcome = self.core.with(|net, wakes| {
            if !net.is_open(from, to) {
                return None;
            }
            let slot = match net.establish(from, to, self.port, wakes) {
                Some(None) => return None,
                Some(slot) => slot,
                None => None,
            };
            Some((slot, net.transit(now, to, from, 60)))
        });
        match outcome {
            None => self.unanswered(),
            Some((None, at)) => self.later(at, |dial| {
                dial.completer.complete(Err(io::ErrorKind::ConnectionRefused.into()));
            }),
            Some((Some(slot), at)) => self.later(at, move |dial| dial.finish(slot)),
        }
    }

    /// The answer is there: the connection is open.
    fn finish(self, slot: usize) {
        let (reader, writer) = halves(&self.core, slot, 0);
        let net = self.core.lock();
        let addrs = net.conns[slot].as_ref().map(|conn| (conn.ends[0].addr, conn.ends[1].addr));
        drop(net);
        match addrs {
            Some((local, peer)) => self.completer.complete(Ok(Connection { reader, writer, peer, local })),
            None => self.completer.complete(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

struct SimListener {
    core: Arc<NetworkCore>,
    host: HostId,
    id: u64,
    addr: SocketAddr,
}

impl SimListener {
    fn is_mine(&self, queue: &ListenQueue) -> bool {
        queue.id == self.id
    }
}

impl Listener for SimListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let mut net = self.core.lock();
        let queue = net.hosts[self.host.index()].listeners.get_mut(&self.addr.port());
        let Some(queue) = queue.filter(|queue| self.is_mine(queue)) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(slot) = queue.waiting.pop_front() else {
            let old = queue.waker.replace(cx.waker().clone());
            drop(net);
            drop(old);
            return Poll::Pending;
        };
        let addrs = net.conns[slot].as_ref().map(|conn| (conn.ends[1].addr, conn.ends[0].addr));
        drop(net);
        let (reader, writer) = halves(&self.core, slot, 1);
        let Some((local, peer)) = addrs else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        Poll::Ready(Ok(Connection { reader, writer, peer, local }))
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let now = self.core.now();
        let waker = self.core.with(|net, wakes| {
            let listeners = &mut net.hosts[self.host.index()].listeners;
            if listeners.get(&self.addr.port()).is_none_or(|queue| !self.is_mine(queue)) {
                return None;
            }
            let mut queue = listeners.remove(&self.addr.port())?;
            let waker = queue.waker.take();
            net.abandon(now, queue, wakes);
            waker
        });
        drop(waker);
    }
}
