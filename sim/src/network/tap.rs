//! A place to look at, and meddle with, what is sent.

use crate::clock::SimTime;
use crate::process::HostId;
use bytes::Bytes;
use std::fmt;
use std::time::Duration;

/// Names one connection of this run. Never given twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection-{}", self.0)
    }
}

/// One write on a connection, as the sender's kernel takes it.
#[derive(Debug)]
pub struct Sent<'a> {
    /// When.
    pub at: SimTime,
    /// On which connection.
    pub connection: ConnectionId,
    /// Who sends.
    pub from: HostId,
    /// To whom.
    pub to: HostId,
    /// The port that the connection was opened to.
    pub port: u16,
    /// Whether the sender is the one who opened the connection.
    pub by_initiator: bool,
    /// How many bytes went this way before.
    pub offset: u64,
    /// What is sent. A write may hold half a message, or several.
    pub bytes: &'a [Bytes],
}

/// What becomes of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TapVerdict {
    /// It goes its way.
    Pass,
    /// It arrives this much later, and so does all that follows it on this connection.
    Delay(Duration),
    /// It never arrives; what follows it does. Only sensible for a write that holds whole messages.
    Swallow,
    /// It never arrives, and the connection is reset for both ends.
    Reset,
}

/// Sees every write between hosts. The network knows no protocol; whoever installs a tap does.
///
/// It is called with the network locked: it must not touch the world, only decide.
pub trait NetworkTap: Send {
    /// Decides about one write. What it does to the write is for it to record.
    fn on_send(&mut self, sent: &Sent<'_>) -> TapVerdict;

    /// A connection is gone; nothing more will be sent on it.
    fn on_close(&mut self, _connection: ConnectionId) {}
}
