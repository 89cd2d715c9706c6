//! Frames: a big-endian `i32` length, then as many bytes.
//!
//! The length is a peer's claim. It is checked against a limit (`socket.request.max.bytes` for requests) before
//! anything else, and the buffer grows with what has arrived, never with what was announced.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length prefix.
pub const PREFIX: usize = 4;

/// Least room that a reader asks for in the middle of a frame, in bytes.
pub const STEP: usize = 4096;

/// A buffer that held a frame of more bytes than this is not used again: its memory goes with the frame.
const KEEP: usize = 64 << 10;

/// Why a stream holds no next frame. The stream cannot be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is below zero.
    #[error("negative frame length {length}")]
    Negative {
        /// The length as claimed.
        length: i32,
    },
    /// The length is above the limit.
    #[error("frame of {length} bytes, at most {max} are allowed")]
    TooLarge {
        /// The length as claimed.
        length: i32,
        /// The limit.
        max: usize,
    },
}

impl FrameError {
    /// A name to count by. Stable; lower case, words joined by hyphens.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            FrameError::Negative { .. } => "negative-frame-length",
            FrameError::TooLarge { .. } => "frame-too-large",
        }
    }
}

/// Takes the next whole frame, without its length prefix, off the front of `arrived`. `None` when more must arrive.
/// Reserves nothing. The frame shares the buffer's memory.
///
/// # Errors
/// A length that is negative or greater than `max`, as soon as its four bytes have arrived.
pub fn next_frame(arrived: &mut BytesMut, max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(length) = announced(arrived, max)? else {
        return Ok(None);
    };
    if arrived.len() - PREFIX < length {
        return Ok(None);
    }
    arrived.advance(PREFIX);
    Ok(Some(arrived.split_to(length).freeze()))
}

/// The length that the front of `arrived` announces, checked.
fn announced(arrived: &[u8], max: usize) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = arrived.first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Err(_) => Err(FrameError::Negative { length }),
        Ok(size) if size > max => Err(FrameError::TooLarge { length, max }),
        Ok(size) => Ok(Some(size)),
    }
}

/// One connection's receive buffer.
///
/// ```
/// # use broker_wire::frame::FrameReader;
/// let mut reader = FrameReader::new(1024);
/// reader.room().extend_from_slice(&[0, 0, 0, 2, 7]);
/// assert_eq!(reader.next_frame(), Ok(None));
/// reader.room().extend_from_slice(&[8]);
/// assert_eq!(reader.next_frame().unwrap().as_deref(), Some(&[7, 8][..]));
/// ```
#[derive(Debug)]
pub struct FrameReader {
    arrived: BytesMut,
    /// Largest frame accepted, prefix not counted.
    max: usize,
}

impl FrameReader {
    /// An empty buffer for frames of at most `max` bytes. Allocates nothing yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        FrameReader { arrived: BytesMut::new(), max }
    }

    /// Takes the next whole frame; see [`next_frame`].
    ///
    /// # Errors
    /// As [`next_frame`].
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let frame = next_frame(&mut self.arrived, self.max)?;
        if let Some(frame) = &frame {
            // The rest shares the frame's allocation, and would hold on to all of it for as long as the connection is
            // idle: a hundred megabytes for a peer that sent them once.
            if self.arrived.is_empty() {
                self.arrived = BytesMut::new();
            } else if frame.len() > KEEP {
                self.arrived = BytesMut::from(&self.arrived[..]);
            }
        }
        Ok(frame)
    }

    /// The buffer, with room for the next read at its end: for what its frame still lacks, but never for more than has
    /// arrived of it already, or [`STEP`]. So memory at most doubles what the peer has paid for. Between two frames
    /// nothing is reserved: an idle connection holds no buffer.
    pub fn room(&mut self) -> &mut BytesMut {
        if !self.arrived.is_empty() {
            let step = self.lacking().min(self.arrived.len()).max(STEP);
            self.arrived.reserve(step);
        }
        &mut self.arrived
    }

    /// Bytes that the frame at the front announced and that have not arrived; 0 while its length is not known.
    #[must_use]
    pub fn lacking(&self) -> usize {
        match announced(&self.arrived, self.max) {
            Ok(Some(length)) => (PREFIX + length).saturating_sub(self.arrived.len()),
            Ok(None) | Err(_) => 0,
        }
    }

    /// Bytes that have arrived and are in no frame yet.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// Whether bytes of an unfinished frame wait: a peer that closes now closed in the middle.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.arrived.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(frames: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            out.extend_from_slice(&i32::try_from(frame.len()).unwrap().to_be_bytes());
            out.extend_from_slice(frame);
        }
        out
    }

    #[test]
    fn frames_come_out_whole_and_in_order_however_the_bytes_arrive() {
        let sent: [&[u8]; 4] = [b"one", b"", &[7; 9000], b"four"];
        let bytes = stream(&sent);
        for step in [1, 2, 3, 5, 4096, bytes.len()] {
            let mut reader = FrameReader::new(9000);
            let mut got = Vec::new();
            for piece in bytes.chunks(step) {
                reader.room().extend_from_slice(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, sent, "in steps of {step}");
            assert!(!reader.is_mid_frame());
        }
    }

    #[test]
    fn a_length_that_is_negative_or_above_the_limit_is_an_error_with_a_reason() {
        for (prefix, reason) in [
            (-1, "negative-frame-length"),
            (i32::MIN, "negative-frame-length"),
            (101, "frame-too-large"),
            (i32::MAX, "frame-too-large"),
        ] {
            let mut arrived = BytesMut::from(&i32::to_be_bytes(prefix)[..]);
            assert_eq!(next_frame(&mut arrived, 100).unwrap_err().reason(), reason, "{prefix}");
        }
        let mut arrived = BytesMut::from(&stream(&[&[1; 100]])[..]);
        assert_eq!(next_frame(&mut arrived, 100).unwrap().unwrap().len(), 100);
    }

    #[test]
    fn a_reader_lets_go_of_a_large_frame_and_holds_nothing_between_two() {
        let mut reader = FrameReader::new(1 << 20);
        reader.room().extend_from_slice(&stream(&[&[1; 500_000], b"small"]));
        assert_eq!(reader.next_frame().unwrap().unwrap().len(), 500_000);
        assert!(reader.arrived.capacity() < 1000, "{}", reader.arrived.capacity());
        assert_eq!((reader.arrived(), reader.lacking()), (9, 0));
        assert_eq!(reader.next_frame().unwrap().as_deref(), Some(&b"small"[..]));
        assert_eq!(reader.room().capacity(), 0);
    }

    #[test]
    fn room_follows_what_arrived_and_not_what_was_announced() {
        let max = 100 << 20;
        let mut reader = FrameReader::new(max);
        reader.room().extend_from_slice(&i32::try_from(max).unwrap().to_be_bytes());
        let mut arrived = PREFIX;
        for _ in 0..200 {
            let room = reader.room();
            assert!(room.capacity() <= 2 * (2 * arrived + STEP), "{} for {arrived}", room.capacity());
            let piece = (room.capacity() - room.len()).min(1500);
            room.extend_from_slice(&vec![0; piece]);
            arrived += piece;
        }
        assert!(arrived > 250_000 && reader.next_frame().unwrap().is_none());
    }
}
