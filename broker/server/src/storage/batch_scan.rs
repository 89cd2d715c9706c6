//! Walking a segment file from batch to batch.

use broker_env::File;
use broker_wire::record_batch::{BatchError, BatchHeader, HEADER_LEN, LOG_OVERHEAD};
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Bytes that one read fetches. A batch's own word for its length never sizes a read.
const WINDOW: usize = 64 * 1024;
/// CRC-32C covers a batch from here on.
const CRC_FROM: u64 = 21;

/// Why a scan stopped before its end.
#[derive(Debug)]
pub(super) enum ScanError {
    /// The disk refused, or the file became shorter.
    Io(io::Error),
    /// No batch is at this position.
    Bad(BatchError),
}

/// Goes over the batches of one file.
pub(super) struct BatchScan {
    file: Arc<dyn File>,
    position: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

impl BatchScan {
    /// From the batch that begins at `position` to `end`, exclusive.
    pub(super) fn new(file: Arc<dyn File>, position: u64, end: u64) -> Self {
        BatchScan { file, position, end, window: Bytes::new(), window_at: 0 }
    }

    /// Where the next batch begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch's header; `None` at the end. Fields are those that can be, and the whole batch lies before the
    /// end; with `crc` the bytes are also those that were written. After an error the position is unchanged.
    pub(super) async fn next(&mut self, crc: bool) -> Result<Option<BatchHeader>, ScanError> {
        let Some(left) = self.end.checked_sub(self.position) else {
            // A damaged index pointed beyond the file.
            return Err(ScanError::Bad(BatchError::Truncated { need: HEADER_LEN, have: 0 }));
        };
        if left == 0 {
            return Ok(None);
        }
        let bytes = self.at(self.position, HEADER_LEN.min(usize::try_from(left).unwrap_or(HEADER_LEN))).await?;
        let header = BatchHeader::parse(&bytes).map_err(ScanError::Bad)?;
        let size = header.size() as u64;
        if size > left {
            let have = usize::try_from(left).expect("less than a size");
            return Err(ScanError::Bad(BatchError::Truncated { need: header.size(), have }));
        }
        if crc {
            self.check_crc(&header).await?;
        }
        self.position += size;
        Ok(Some(header))
    }

    async fn check_crc(&mut self, header: &BatchHeader) -> Result<(), ScanError> {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let end = self.position + header.size() as u64;
        let mut from = self.position + CRC_FROM;
        while from < end {
            let len = usize::try_from(end - from).unwrap_or(WINDOW).min(WINDOW);
            let bytes = self.at(from, len).await?;
            digest.update(&bytes);
            from += bytes.len() as u64;
        }
        let computed = digest.finalize() as u32;
        if computed != header.crc {
            return Err(ScanError::Bad(BatchError::CrcMismatch { stored: header.crc, computed }));
        }
        Ok(())
    }

    /// `len` bytes, at most a window, that lie before the end.
    async fn at(&mut self, position: u64, len: usize) -> Result<Bytes, ScanError> {
        let held = self.window_at..self.window_at + self.window.len() as u64;
        if !(held.contains(&position) && position + len as u64 <= held.end) {
            let want = usize::try_from(self.end - position).unwrap_or(WINDOW).min(WINDOW).max(len);
            self.window = self.file.read_at(position, want).await.map_err(ScanError::Io)?;
            self.window_at = position;
            if self.window.len() < len {
                return Err(ScanError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let from = usize::try_from(position - self.window_at).expect("within the window");
        Ok(self.window.slice(from..from + len))
    }
}

const _: () = assert!(HEADER_LEN <= WINDOW && LOG_OVERHEAD < HEADER_LEN);
