//! Byte streams.

use crate::{Completion, File};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The network door.
pub trait Network: Send + Sync {
    /// Accepts connections on `host`:`port`. Port 0 takes an ephemeral port. Errors: `AddrInUse`, `AddrNotAvailable`.
    fn listen(&self, host: &str, port: u16) -> Completion<Box<dyn Listener>>;

    /// Opens a connection. Errors: `ConnectionRefused` (nobody listens), `TimedOut` (no answer), `NotFound` (unknown
    /// host). A caller that is less patient than the world puts a deadline of its own around it.
    fn connect(&self, host: &str, port: u16) -> Completion<Connection>;
}

/// Takes incoming connections. Dropping it stops listening; accepted connections live on.
pub trait Listener: Send {
    /// The next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>>;
    /// Where it listens, the ephemeral port resolved.
    fn local_addr(&self) -> SocketAddr;
}

impl dyn Listener {
    /// Waits for the next connection.
    ///
    /// # Errors
    /// Out of descriptors and the like; trying again later is right.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }
}

/// An incoming connection is a connection.
pub type Accepted = Connection;

/// An established stream, both directions.
pub struct Connection {
    /// What the peer says.
    pub reader: ReadHalf,
    /// What the peer hears. Dropping both halves closes the connection; unread data then resets it, as TCP does.
    pub writer: WriteHalf,
    /// The peer's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
}

/// What a world implements for [`ReadHalf`].
pub trait StreamReader: Send {
    /// Appends what has arrived (at most a few hundred KiB at once) to `into` and says how many bytes; 0 is the end of
    /// the stream. Errors: `ConnectionReset`, `TimedOut`.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>>;
}

/// What a world implements for [`WriteHalf`].
pub trait StreamWriter: Send {
    /// Takes bytes off the front of `from`, as many as the send buffer has room for; pending when it has none.
    /// Errors: `ConnectionReset`, `BrokenPipe`.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut VecDeque<Bytes>) -> Poll<io::Result<usize>>;
    /// Ends this direction: the peer reads to the end and then sees it. The other direction goes on (half-close).
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Sends `len` bytes of `file` from `position`, after all that was written before: sendfile where the world has
    /// it. Says how many bytes were taken this time; 0 with `len > 0` means that the file is shorter than that.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<dyn File>,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>>;
}

/// The reading half of a connection.
pub struct ReadHalf(pub Box<dyn StreamReader>);

/// The writing half of a connection.
pub struct WriteHalf(pub Box<dyn StreamWriter>);

impl ReadHalf {
    /// Waits for bytes, appends them to `into`; `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// As [`StreamReader::poll_read`].
    pub async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.0.poll_read(cx, into)).await
    }
}

impl WriteHalf {
    /// Waits until every byte of `from` was taken by the send buffer; `from` is empty then.
    ///
    /// # Errors
    /// As [`StreamWriter::poll_write`].
    pub async fn write_all(&mut self, from: &mut VecDeque<Bytes>) -> io::Result<()> {
        loop {
            while from.front().is_some_and(Bytes::is_empty) {
                from.pop_front();
            }
            if from.is_empty() {
                return Ok(());
            }
            std::future::poll_fn(|cx| self.0.poll_write(cx, from)).await?;
        }
    }

    /// Waits until one buffer was taken.
    ///
    /// # Errors
    /// As [`StreamWriter::poll_write`].
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write_all(&mut VecDeque::from([bytes])).await
    }

    /// Waits until `len` bytes of `file` from `position` were taken.
    ///
    /// # Errors
    /// As [`StreamWriter::poll_send_file`]; `UnexpectedEof` when the file is shorter.
    pub async fn send_file(&mut self, file: &Arc<dyn File>, mut position: u64, mut len: usize) -> io::Result<()> {
        while len > 0 {
            let sent = std::future::poll_fn(|cx| self.0.poll_send_file(cx, file, position, len)).await?;
            if sent == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            position += sent as u64;
            len -= sent;
        }
        Ok(())
    }

    /// Half-closes: see [`StreamWriter::poll_shutdown`].
    ///
    /// # Errors
    /// As [`StreamWriter::poll_write`].
    pub async fn shutdown(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.0.poll_shutdown(cx)).await
    }
}
