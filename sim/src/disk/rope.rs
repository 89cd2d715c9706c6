//! The bytes of a file, as a list of shared buffers.

use bytes::{Bytes, BytesMut};

/// Buffers from this size on are kept as they come; smaller ones are gathered, so that they do not pin what they were
/// cut from.
const KEEP_FROM: usize = 4096;
/// Size at which gathered bytes become a chunk.
const CHUNK: usize = 64 * 1024;

/// Bytes that grow at their end without a copy of what is there, and are read without a copy inside one chunk.
#[derive(Clone, Default)]
pub(crate) struct Rope {
    /// Each with the position of its first byte, in order, without gaps or empty chunks.
    chunks: Vec<(u64, Bytes)>,
    /// What was gathered since the last chunk.
    tail: Vec<u8>,
    /// Where the tail begins, which is where the last chunk ends.
    tail_at: u64,
}

impl Rope {
    pub(crate) fn len(&self) -> u64 {
        self.tail_at + self.tail.len() as u64
    }

    pub(crate) fn append(&mut self, bytes: Bytes) {
        if bytes.len() >= KEEP_FROM {
            self.seal();
            self.tail_at += bytes.len() as u64;
            self.chunks.push((self.tail_at - bytes.len() as u64, bytes));
        } else {
            self.tail.extend_from_slice(&bytes);
            if self.tail.len() >= CHUNK {
                self.seal();
            }
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.tail));
            let at = self.tail_at;
            self.tail_at += bytes.len() as u64;
            self.chunks.push((at, bytes));
        }
    }

    /// Index of the chunk that holds `position`, which lies before the tail.
    fn chunk_at(&self, position: u64) -> usize {
        self.chunks.partition_point(|(at, _)| *at <= position) - 1
    }

    /// The pieces that make up `from..end`.
    fn pieces(&self, from: u64, end: u64) -> Vec<Bytes> {
        let (mut position, end) = (from, end.min(self.len()));
        let mut pieces = Vec::new();
        while position < end {
            if position >= self.tail_at {
                let (a, b) = ((position - self.tail_at) as usize, (end - self.tail_at) as usize);
                pieces.push(Bytes::copy_from_slice(&self.tail[a..b]));
                break;
            }
            let (at, chunk) = &self.chunks[self.chunk_at(position)];
            let a = (position - at) as usize;
            let b = chunk.len().min((end - at) as usize);
            pieces.push(chunk.slice(a..b));
            position = at + b as u64;
        }
        pieces
    }

    /// Up to `len` bytes from `position`; fewer only at the end.
    pub(crate) fn read(&self, position: u64, len: usize) -> Bytes {
        let end = position.saturating_add(len as u64).min(self.len());
        if position >= end {
            return Bytes::new();
        }
        let mut pieces = self.pieces(position, end);
        if pieces.len() == 1 {
            return pieces.remove(0);
        }
        let mut all = BytesMut::with_capacity((end - position) as usize);
        for piece in pieces {
            all.extend_from_slice(&piece);
        }
        all.freeze()
    }

    /// Cuts to `len`, or fills up to it with zeros.
    pub(crate) fn set_len(&mut self, len: u64) {
        let mut missing = len.saturating_sub(self.len());
        while missing > 0 {
            let step = missing.min(CHUNK as u64);
            self.append(Bytes::from(vec![0; step as usize]));
            missing -= step;
        }
        if len >= self.tail_at {
            self.tail.truncate((len - self.tail_at) as usize);
            return;
        }
        self.tail.clear();
        while let Some((at, chunk)) = self.chunks.pop() {
            if at < len {
                self.chunks.push((at, chunk.slice(..chunk.len().min((len - at) as usize))));
                break;
            }
        }
        self.tail_at = len;
    }

    /// Writes at a position, filling with zeros what lies between the end and there.
    pub(crate) fn write(&mut self, position: u64, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if position > self.len() {
            self.set_len(position);
        }
        if position == self.len() {
            return self.append(bytes);
        }
        let end = position + bytes.len() as u64;
        if position >= self.tail_at && end <= self.len() {
            let at = (position - self.tail_at) as usize;
            self.tail[at..at + bytes.len()].copy_from_slice(&bytes);
            return;
        }
        let rest = self.pieces(end, self.len());
        self.set_len(position);
        self.append(bytes);
        for piece in rest {
            self.append(piece);
        }
    }

    /// The first `len` bytes, sharing the buffers.
    pub(crate) fn prefix(&self, len: u64) -> Rope {
        let mut prefix = Rope::default();
        if len >= self.tail_at {
            prefix = self.clone();
        } else if len > 0 {
            let last = self.chunk_at(len - 1);
            prefix.chunks = self.chunks[..=last].to_vec();
            prefix.tail_at = prefix.chunks.last().map_or(0, |(at, chunk)| at + chunk.len() as u64);
        }
        prefix.set_len(len.min(prefix.len()));
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Append(usize),
        Write(u64, usize),
        SetLen(u64),
        Prefix(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => prop_oneof![0_usize..600, 3_000_usize..9_000].prop_map(Op::Append),
            1 => (0_u64..1 << 17, 0_usize..9_000).prop_map(|(at, len)| Op::Write(at, len)),
            1 => (0_u64..1 << 17).prop_map(Op::SetLen),
            1 => (0_u64..1 << 17).prop_map(Op::Prefix),
        ]
    }

    proptest! {
        #[test]
        fn a_rope_holds_what_a_vector_would(ops in proptest::collection::vec(op(), 1..60)) {
            let (mut rope, mut model) = (Rope::default(), Vec::<u8>::new());
            for (index, op) in ops.into_iter().enumerate() {
                let fill = |len: usize| (0..len).map(|at| (index * 31 + at) as u8).collect::<Vec<u8>>();
                match op {
                    Op::Append(len) => {
                        rope.append(Bytes::from(fill(len)));
                        model.extend(fill(len));
                    }
                    Op::Write(at, len) => {
                        rope.write(at, Bytes::from(fill(len)));
                        let end = at as usize + len;
                        if len > 0 {
                            model.resize(model.len().max(end), 0);
                            model[at as usize..end].copy_from_slice(&fill(len));
                        }
                    }
                    Op::SetLen(len) => {
                        rope.set_len(len);
                        model.resize(len as usize, 0);
                    }
                    Op::Prefix(len) => {
                        rope = rope.prefix(len);
                        model.truncate(len as usize);
                    }
                }
                prop_assert_eq!(rope.len(), model.len() as u64);
                prop_assert_eq!(&rope.read(0, usize::MAX)[..], &model[..]);
                let middle = model.len() / 3;
                prop_assert_eq!(&rope.read(middle as u64, middle)[..], &model[middle..2 * middle]);
            }
        }
    }

    #[test]
    fn a_big_buffer_is_kept_and_read_as_it_is() {
        let mut rope = Rope::default();
        let big = Bytes::from(vec![7; 8192]);
        rope.append(Bytes::from_static(b"head"));
        rope.append(big.clone());
        assert_eq!(rope.read(4, 8192).as_ptr(), big.as_ptr());
    }
}
