//! What happened, in order, in few bytes.
//!
//! Every event goes into a rolling 128-bit hash, each over the one before it and the event's number, time, host, kind
//! and payload; the value is kept each [`CHECKPOINT_EVERY`] events, and the last one is the run's **fingerprint**. The
//! events themselves stay in a ring of bounded size; the hash covers those, too, that have left it. Nothing of the real
//! machine may go in: no wall-clock time, address, task id, path, or text of a panic.

use crate::alarm::lock;
use crate::clock::SimTime;
use crate::process::HostId;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use xxhash_rust::xxh3::xxh3_128;

/// Events from one checkpoint to the next.
pub const CHECKPOINT_EVERY: u64 = 1024;

/// Kinds of events that the world records itself. Those of whoever builds on it begin at [`kind::FIRST_FREE`].
pub mod kind {
    /// The world began. Payload: the seed, 8 bytes.
    pub const WORLD: u16 = 1;
    /// A host was added. Payload: its name.
    pub const HOST: u16 = 2;
    /// A process was started. Payload: its incarnation, 8 bytes.
    pub const START: u16 = 3;
    /// A process exited by itself. Payload: its incarnation.
    pub const EXIT: u16 = 4;
    /// A process was killed. Payload: its incarnation.
    pub const CRASH: u16 = 5;
    /// A process panicked. Payload: its incarnation.
    pub const PANIC: u16 = 6;
    /// A host lost power. Payload: the incarnation of its process.
    pub const POWER_LOSS: u16 = 7;
    /// A process was paused.
    pub const PAUSE: u16 = 8;
    /// A process goes on.
    pub const RESUME: u16 = 9;
    /// A disk was wiped.
    pub const WIPE: u16 = 10;
    /// A fault was installed. Payload: its id, 8 bytes, and its description.
    pub const FAULT_START: u16 = 11;
    /// A fault was removed. Payload: its id.
    pub const FAULT_END: u16 = 12;
    /// The first kind that is free for others.
    pub const FIRST_FREE: u16 = 256;

    /// A word for a kind of the world's own.
    #[must_use]
    pub fn name(kind: u16) -> Option<&'static str> {
        Some(match kind {
            WORLD => "world",
            HOST => "host",
            START => "start",
            EXIT => "exit",
            CRASH => "crash",
            PANIC => "panic",
            POWER_LOSS => "power-loss",
            PAUSE => "pause",
            RESUME => "resume",
            WIPE => "wipe",
            FAULT_START => "fault-start",
            FAULT_END => "fault-end",
            _ => return None,
        })
    }
}

/// Where events of the world as a whole happen.
pub const NOWHERE: HostId = HostId(u32::MAX);

/// One event.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts from 0, without gaps.
    pub seq: u64,
    /// When. Never before the event before it.
    pub at: SimTime,
    /// Where; [`NOWHERE`] for the world as a whole.
    pub host: HostId,
    /// What.
    pub kind: u16,
    /// The rest, meaningful to whoever recorded it.
    pub payload: Vec<u8>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} ", self.seq, self.at)?;
        match self.host {
            NOWHERE => f.write_str("world ")?,
            host => write!(f, "{host} ")?,
        }
        match kind::name(self.kind) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "kind-{}", self.kind)?,
        }
        write!(f, " {}", self.payload.escape_ascii())
    }
}

/// The hash of a run's first events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// How many events it covers.
    pub events: u64,
    /// When the last of them happened.
    pub at: SimTime,
    /// The hash over them.
    pub hash: u128,
}

/// The trace of a run under way. A cheap handle; clones are the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Ring>>);

struct Ring {
    /// Blocks of whole events, each block with the number of its first; the last is being filled.
    blocks: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    max_bytes: usize,
    events: u64,
    last: SimTime,
    hash: u128,
    /// What the next hash is taken over; kept for its memory.
    scratch: Vec<u8>,
    checkpoints: Vec<Checkpoint>,
}

const BLOCK_BYTES: usize = 64 * 1024;
/// Time, host, kind, length of the payload.
const HEADER: usize = 8 + 4 + 2 + 4;

impl Trace {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Trace(Arc::new(Mutex::new(Ring {
            blocks: VecDeque::new(),
            bytes: 0,
            max_bytes,
            events: 0,
            last: SimTime(0),
            hash: 0,
            scratch: Vec::new(),
            checkpoints: Vec::new(),
        })))
    }

    /// Records an event at `at`, or at the time of the event before it if that is later.
    pub(crate) fn record_at(&self, at: SimTime, host: HostId, kind: u16, payload: &[u8]) {
        lock(&self.0).record(at, host, kind, payload);
    }

    /// How many events were recorded so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        lock(&self.0).events
    }

    /// The hash over every event so far.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        lock(&self.0).hash
    }

    /// What is there so far, copied.
    #[must_use]
    pub fn snapshot(&self) -> TraceRecord {
        lock(&self.0).record_of_it(false)
    }

    /// What is there, taken out: the trace is empty then.
    pub(crate) fn take(&self) -> TraceRecord {
        lock(&self.0).record_of_it(true)
    }
}

impl Ring {
    fn record(&mut self, at: SimTime, host: HostId, kind: u16, payload: &[u8]) {
        self.last = self.last.max(at);
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&self.last.0.to_le_bytes());
        header[8..12].copy_from_slice(&host.0.to_le_bytes());
        header[12..14].copy_from_slice(&kind.to_le_bytes());
        header[14..].copy_from_slice(&(payload.len() as u32).to_le_bytes());

        self.scratch.clear();
        self.scratch.extend_from_slice(&self.hash.to_le_bytes());
        self.scratch.extend_from_slice(&self.events.to_le_bytes());
        self.scratch.extend_from_slice(&header);
        self.scratch.extend_from_slice(payload);
        self.hash = xxh3_128(&self.scratch);

        if self.blocks.back().is_none_or(|(_, block)| block.len() + HEADER + payload.len() > BLOCK_BYTES) {
            let capacity = BLOCK_BYTES.min(self.max_bytes).max(HEADER + payload.len());
            self.blocks.push_back((self.events, Vec::with_capacity(capacity)));
        }
        if let Some((_, block)) = self.blocks.back_mut() {
            block.extend_from_slice(&header);
            block.extend_from_slice(payload);
        }
        self.bytes += HEADER + payload.len();
        while self.bytes > self.max_bytes && self.blocks.len() > 1 {
            self.bytes -= self.blocks.pop_front().map_or(0, |(_, block)| block.len());
        }

        self.events += 1;
        if self.events.is_multiple_of(CHECKPOINT_EVERY) {
            self.checkpoints.push(Checkpoint { events: self.events, at: self.last, hash: self.hash });
        }
    }

    fn record_of_it(&mut self, take: bool) -> TraceRecord {
        let blocks = if take { std::mem::take(&mut self.blocks) } else { self.blocks.clone() };
        TraceRecord {
            blocks,
            events: self.events,
            last: self.last,
            fingerprint: self.hash,
            checkpoints: self.checkpoints.clone(),
        }
    }
}

/// The trace of a run that is over.
#[derive(Clone)]
pub struct TraceRecord {
    blocks: VecDeque<(u64, Vec<u8>)>,
    /// How many events were recorded, those counted that have left the ring.
    pub events: u64,
    /// When the last event happened.
    pub last: SimTime,
    /// The hash over all of them.
    pub fingerprint: u128,
    /// The hash at each [`CHECKPOINT_EVERY`] events.
    pub checkpoints: Vec<Checkpoint>,
}

impl fmt::Debug for TraceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trace of {} events until {}, {:032x}", self.events, self.last, self.fingerprint)
    }
}

impl TraceRecord {
    /// The number of the first event that is still there.
    #[must_use]
    pub fn first_kept(&self) -> u64 {
        self.blocks.front().map_or(self.events, |(first, _)| *first)
    }

    /// The events that are still there, in order.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.blocks.iter().flat_map(|(first, block)| {
            let (mut seq, mut rest) = (*first, block.as_slice());
            std::iter::from_fn(move || {
                let (header, after) = rest.split_first_chunk::<HEADER>()?;
                let (time, header) = header.split_first_chunk::<8>()?;
                let (host, header) = header.split_first_chunk::<4>()?;
                let (kind, len) = header.split_first_chunk::<2>()?;
                let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
                let event = Event {
                    seq,
                    at: SimTime(u64::from_le_bytes(*time)),
                    host: HostId(u32::from_le_bytes(*host)),
                    kind: u16::from_le_bytes(*kind),
                    payload: after.get(..len)?.to_vec(),
                };
                rest = &after[len..];
                seq += 1;
                Some(event)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace_of(events: &[(u64, u32, u16, &[u8])], max_bytes: usize) -> TraceRecord {
        let trace = Trace::new(max_bytes);
        for (at, host, kind, payload) in events {
            trace.record_at(SimTime(*at), HostId(*host), *kind, payload);
        }
        trace.take()
    }

    #[test]
    fn every_part_of_an_event_is_in_the_fingerprint() {
        let base = trace_of(&[(1, 2, 300, b"x"), (5, 2, 300, b"y")], 1 << 20).fingerprint;
        for other in [
            [(2, 2, 300, b"x" as &[u8]), (5, 2, 300, b"y")],
            [(1, 3, 300, b"x"), (5, 2, 300, b"y")],
            [(1, 2, 301, b"x"), (5, 2, 300, b"y")],
            [(1, 2, 300, b"z"), (5, 2, 300, b"y")],
            [(1, 2, 300, b"y"), (5, 2, 300, b"x")],
        ] {
            assert_ne!(trace_of(&other, 1 << 20).fingerprint, base);
        }
        assert_eq!(trace_of(&[(1, 2, 300, b"x"), (5, 2, 300, b"y")], 1 << 20).fingerprint, base);
    }

    #[test]
    fn the_ring_forgets_the_oldest_and_the_hash_forgets_nothing() {
        let run = |max_bytes| {
            let trace = Trace::new(max_bytes);
            for seq in 0..20_000_u64 {
                trace.record_at(SimTime(seq), HostId(1), 300, &seq.to_le_bytes());
            }
            trace.take()
        };
        let (all, some) = (run(1 << 30), run(200_000));
        assert_eq!((all.first_kept(), all.iter().count()), (0, 20_000));
        assert!(some.first_kept() > 5_000 && some.iter().count() < 10_000, "{}", some.first_kept());
        assert_eq!(some.iter().next().unwrap().payload, some.first_kept().to_le_bytes());
        assert_eq!(some.iter().last(), all.iter().last());
        assert_eq!((some.fingerprint, &some.checkpoints), (all.fingerprint, &all.checkpoints));
        assert_eq!(all.checkpoints.len(), 20_000 / 1024);
    }

    #[test]
    fn time_in_a_trace_never_goes_back() {
        let record = trace_of(&[(9, 0, 300, b""), (4, 0, 300, b"")], 1 << 20);
        assert_eq!(record.iter().map(|event| event.at.0).collect::<Vec<_>>(), [9, 9]);
    }
}
