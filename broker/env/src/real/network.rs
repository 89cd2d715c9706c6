//! TCP.

use super::disk::LocalFile;
use crate::{
    Accepted, Completion, Connection, File, Listener, Network, ReadHalf, StreamReader, StreamWriter, WriteHalf,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::runtime::Handle;

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: u32 = 1024;
/// Buffers handed to the kernel in one write.
const WRITE_SLICES: usize = 64;
/// Room made for one read.
const READ_ROOM: usize = 64 * 1024;
/// Most that one read takes.
const READ_MOST: usize = 256 * 1024;

pub(super) struct TcpNetwork {
    handle: Handle,
}

impl TcpNetwork {
    pub(super) fn new(handle: Handle) -> Self {
        TcpNetwork { handle }
    }
}

impl Network for TcpNetwork {
    fn listen(&self, host: &str, port: u16) -> Completion<Box<dyn Listener>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            let _runtime = self.handle.enter();
            return Completion::ready(listen_on(SocketAddr::new(ip, port)));
        }
        let (completer, completion) = Completion::pending();
        let host = host.to_owned();
        drop(self.handle.spawn(async move {
            let found = match lookup_host((host.as_str(), port)).await {
                Ok(addresses) => first_ok(addresses, listen_on),
                Err(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
            };
            completer.complete(found);
        }));
        completion
    }

    fn connect(&self, host: &str, port: u16) -> Completion<Connection> {
        let (completer, completion) = Completion::pending();
        let host = host.to_owned();
        drop(self.handle.spawn(async move { completer.complete(connect_to(&host, port).await) }));
        completion
    }
}

fn first_ok<T>(
    addresses: impl Iterator<Item = SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        outcome = attempt(address);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn listen_on(address: SocketAddr) -> io::Result<Box<dyn Listener>> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server takes its port back although old connections linger in TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let local = listener.local_addr()?;
    Ok(Box::new(Tcp { listener, local }))
}

async fn connect_to(host: &str, port: u16) -> io::Result<Connection> {
    let addresses = lookup_host((host, port)).await.map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return connection(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Splits an established stream.
fn connection(stream: TcpStream) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    // The two halves share the socket: it closes when both are gone, and the kernel resets it then if bytes were left
    // unread.
    let stream = Arc::new(stream);
    Ok(Connection {
        reader: ReadHalf(Box::new(TcpReader { stream: stream.clone() })),
        writer: WriteHalf(Box::new(TcpWriter { stream, copy: None })),
        peer,
        local,
    })
}

struct Tcp {
    listener: TcpListener,
    local: SocketAddr,
}

impl Listener for Tcp {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        loop {
            let (stream, _) = ready!(self.listener.poll_accept(cx))?;
            match connection(stream) {
                Ok(accepted) => return Poll::Ready(Ok(accepted)),
                // The peer was gone before we looked: not the listener's trouble.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

struct TcpReader {
    stream: Arc<TcpStream>,
}

impl StreamReader for TcpReader {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            // Room only once there is something to read: an idle connection holds no buffer.
            if into.capacity() - into.len() < READ_ROOM / 4 {
                into.reserve(READ_ROOM);
            }
            match self.stream.try_read_buf(&mut (&mut *into).limit(READ_MOST)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if into.is_empty() {
                        *into = BytesMut::new();
                    }
                }
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

struct TcpWriter {
    stream: Arc<TcpStream>,
    /// What [`StreamWriter::poll_send_file`] is reading, of a file that the kernel cannot send itself: its position,
    /// its length, and the bytes.
    copy: Option<(u64, usize, Copying)>,
}

enum Copying {
    Reading(Completion<Bytes>),
    Writing(VecDeque<Bytes>),
}

impl StreamWriter for TcpWriter {
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut VecDeque<Bytes>) -> Poll<io::Result<usize>> {
        write_vectored(&self.stream, cx, from)
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Every byte that was taken is in the kernel's buffer, and goes out before the end of the stream.
        match rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Write) {
            // Already reset by the peer: there is no direction left to end.
            Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            outcome => Poll::Ready(outcome.map_err(Into::into)),
        }
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<dyn File>,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        if let Some(local) = file.as_any().downcast_ref::<LocalFile>() {
            loop {
                ready!(self.stream.poll_write_ready(cx))?;
                let sent = self.stream.try_io(Interest::WRITABLE, || {
                    let mut from = position;
                    Ok(rustix::fs::sendfile(&*self.stream, local.descriptor(), Some(&mut from), len)?)
                });
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return Poll::Ready(outcome),
                }
            }
        }
        self.poll_copy_file(cx, file, position, len)
    }
}

impl TcpWriter {
    /// As sendfile, through our own memory.
    fn poll_copy_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<dyn File>,
        position: u64,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        // A caller that gave up a call and asks for something else finds the old read forgotten.
        let (mut copying, chunk) = match self.copy.take() {
            Some((at, chunk, copying)) if at == position && chunk == len.min(READ_MOST) => (copying, chunk),
            _ => {
                let chunk = len.min(READ_MOST);
                (Copying::Reading(file.read_at(position, chunk)), chunk)
            }
        };
        loop {
            match copying {
                Copying::Reading(mut read) => match std::pin::Pin::new(&mut read).poll(cx) {
                    Poll::Pending => {
                        self.copy = Some((position, chunk, Copying::Reading(read)));
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(bytes)) if bytes.is_empty() => return Poll::Ready(Ok(0)),
                    Poll::Ready(Ok(bytes)) => copying = Copying::Writing(VecDeque::from([bytes])),
                },
                Copying::Writing(mut bytes) => match write_vectored(&self.stream, cx, &mut bytes) {
                    Poll::Pending => {
                        self.copy = Some((position, chunk, Copying::Writing(bytes)));
                        return Poll::Pending;
                    }
                    done => return done,
                },
            }
        }
    }
}

/// One vectored write of the front of `from`.
fn write_vectored(stream: &TcpStream, cx: &mut Context<'_>, from: &mut VecDeque<Bytes>) -> Poll<io::Result<usize>> {
    while from.front().is_some_and(Bytes::is_empty) {
        from.pop_front();
    }
    if from.is_empty() {
        return Poll::Ready(Ok(0));
    }
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(from.iter()) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        match stream.try_write_vectored(&slices[..count]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
            Ok(taken) => {
                take_front(from, taken);
                return Poll::Ready(Ok(taken));
            }
        }
    }
}

/// Removes `taken` bytes from the front.
fn take_front(from: &mut VecDeque<Bytes>, mut taken: usize) {
    while let Some(front) = from.front_mut() {
        if front.len() > taken {
            front.advance(taken);
            return;
        }
        taken -= front.len();
        from.pop_front();
    }
}
