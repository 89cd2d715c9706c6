//! The codecs of a batch's records, with a bound on what comes out.

use super::BatchError;
use bytes::{BufMut, Bytes, BytesMut};
use std::io::{Read, Write};

/// How a batch's records are compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Raw snappy blocks in the framing of snappy-java.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878 (KIP-110).
    Zstd,
}

/// What snappy-java puts before its blocks: a magic, a version and the least version that can read it.
const SNAPPY_JAVA: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const SNAPPY_JAVA_MAGIC: usize = 8;
const SNAPPY_BLOCK: usize = 32 * 1024;
/// Levels that Kafka's producers take by default.
const ZSTD_LEVEL: i32 = 3;
const LZ4_LEVEL: u32 = 0;

impl Compression {
    /// Every codec, in the order of their ids.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The codec with this number; `None` if Kafka has none.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// Kafka's name, as in `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// The codec with this name. `producer` and `uncompressed` are words of a topic's configuration, not codecs.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Compression::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Appends the compressed form of `records` to `into`.
    pub(super) fn compress(self, records: &[u8], into: &mut BytesMut) -> Result<(), BatchError> {
        let failed = |_| BatchError::TooLarge { limit: i32::MAX as usize };
        match self {
            Compression::None => into.put_slice(records),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(into.writer(), flate2::Compression::default());
                encoder.write_all(records).map_err(failed)?;
                encoder.finish().map_err(failed)?;
            }
            Compression::Snappy => compress_snappy(records, into)?,
            Compression::Lz4 => {
                let mut encoder = lz4::EncoderBuilder::new()
                    .level(LZ4_LEVEL)
                    .block_mode(lz4::BlockMode::Independent)
                    .block_size(lz4::BlockSize::Max64KB)
                    .build(into.writer())
                    .map_err(failed)?;
                encoder.write_all(records).map_err(failed)?;
                encoder.finish().1.map_err(failed)?;
            }
            Compression::Zstd => zstd::stream::copy_encode(records, into.writer(), ZSTD_LEVEL).map_err(failed)?,
        }
        Ok(())
    }

    /// What `compressed` holds, if it is at most `max_bytes`.
    pub(super) fn decompress(self, compressed: &[u8], max_bytes: usize) -> Result<Bytes, BatchError> {
        let failed = |_| BatchError::Decompression;
        match self {
            Compression::None if compressed.len() > max_bytes => Err(BatchError::TooLarge { limit: max_bytes }),
            Compression::None => Ok(Bytes::copy_from_slice(compressed)),
            // Java's reader takes several members as one stream; so do we.
            Compression::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(compressed), max_bytes),
            Compression::Snappy => decompress_snappy(compressed, max_bytes),
            Compression::Lz4 => read_bounded(lz4::Decoder::new(compressed).map_err(failed)?, max_bytes),
            // The window may be as large as any of zstd's levels makes it (128 MiB of address space), whatever the
            // bound: a frame's window says nothing about its content.
            Compression::Zstd => {
                read_bounded(zstd::stream::read::Decoder::with_buffer(compressed).map_err(failed)?, max_bytes)
            }
        }
    }
}

fn read_bounded(reader: impl Read, max_bytes: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|_| BatchError::Decompression)?;
    if out.len() > max_bytes {
        return Err(BatchError::TooLarge { limit: max_bytes });
    }
    Ok(out.into())
}

fn compress_snappy(records: &[u8], into: &mut BytesMut) -> Result<(), BatchError> {
    into.put_slice(&SNAPPY_JAVA);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(SNAPPY_BLOCK) {
        let compressed = encoder.compress_vec(block).map_err(|_| BatchError::TooLarge { limit: i32::MAX as usize })?;
        into.put_u32(compressed.len() as u32);
        into.put_slice(&compressed);
    }
    Ok(())
}

fn decompress_snappy(compressed: &[u8], max_bytes: usize) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    if compressed.starts_with(&SNAPPY_JAVA[..SNAPPY_JAVA_MAGIC]) {
        let mut rest = compressed.get(SNAPPY_JAVA.len()..).ok_or(BatchError::Decompression)?;
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = u32::from_be_bytes(*len) as usize;
            let block = after.get(..len).ok_or(BatchError::Decompression)?;
            unpack_snappy(block, max_bytes, &mut out)?;
            rest = &after[len..];
        }
        if !rest.is_empty() {
            return Err(BatchError::Decompression);
        }
    } else {
        // Some clients write one raw block without the framing.
        unpack_snappy(compressed, max_bytes, &mut out)?;
    }
    Ok(out.into())
}

/// A snappy copy element of 3 bytes yields at most 64: a claim of more than that is a lie and allocates nothing.
const SNAPPY_MAX_RATIO: usize = 64;

fn unpack_snappy(block: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let len = snap::raw::decompress_len(block).map_err(|_| BatchError::Decompression)?;
    let start = out.len();
    if len > max_bytes.saturating_sub(start) {
        return Err(BatchError::TooLarge { limit: max_bytes });
    }
    if len > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(BatchError::Decompression);
    }
    out.resize(start + len, 0);
    let written =
        snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|_| BatchError::Decompression)?;
    out.truncate(start + written);
    Ok(())
}
