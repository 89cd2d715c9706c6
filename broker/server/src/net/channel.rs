//! A connection to another node that is opened when needed and asks one thing at a time.

use crate::net::race::{First, race};
use broker_env::{Connection, Env, SharedEnv};
use broker_types::MonoTime;
use broker_wire::frame::next_frame;
use broker_wire::messages::StrBytes;
use broker_wire::messages::convert::text;
use broker_wire::{Request, Response, decode_response, encode_request};
use bytes::BytesMut;
use std::future::ready;
use std::io;
use std::time::Duration;

/// Largest answer that a node of the same cluster may send.
const RESPONSE_MAX_BYTES: usize = 256 << 20;

/// One peer's address and, while it lasts, a connection to it. Not shared: whoever owns it asks and waits.
pub(crate) struct Channel {
    env: SharedEnv,
    client_id: StrBytes,
    host: String,
    port: u16,
    connection: Option<Connection>,
    /// Whether the peer may have seen the last question.
    sent: bool,
    inbound: BytesMut,
    correlation_id: i32,
}

impl Channel {
    pub(crate) fn new(env: SharedEnv, client_id: String, host: String, port: u16) -> Self {
        Channel {
            env,
            client_id: text(&client_id),
            host,
            port,
            connection: None,
            sent: false,
            inbound: BytesMut::new(),
            correlation_id: 0,
        }
    }

    /// Whether this channel leads to that address.
    pub(crate) fn leads_to(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    /// Asks, and waits for the answer until `timeout` has passed. After any failure the connection is closed: an answer
    /// that comes late must not be taken for the next one.
    pub(crate) async fn ask(&mut self, version: i16, request: &Request, timeout: Duration) -> io::Result<Response> {
        let env = self.env.clone();
        let deadline = env.mono() + timeout;
        self.sent = false;
        let outcome = match env.until(deadline, self.exchange(version, request)).await {
            Some(outcome) => outcome,
            None => Err(io::ErrorKind::TimedOut.into()),
        };
        if outcome.is_err() {
            self.close();
        }
        outcome
    }

    /// Whether the peer may have seen the last question, and may act on it although no answer came.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent
    }

    /// Forgets the connection.
    pub(crate) fn close(&mut self) {
        self.connection = None;
        self.inbound.clear();
    }

    /// Whether there is a connection that the peer has not closed as far as is known: one that was idle for too long, or whose
    /// peer was restarted, would take a question and give no answer.
    async fn is_open(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        // Nothing was asked: all that can be read is the end.
        matches!(race(connection.reader.read(&mut self.inbound), ready(())).await, First::Right(()))
    }

    async fn exchange(&mut self, version: i16, request: &Request) -> io::Result<Response> {
        if !self.is_open().await {
            self.inbound.clear();
            self.connection = Some(self.env.network().connect(&self.host, self.port).await?);
        }
        let connection = self.connection.as_mut().expect("just connected");
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let frame = encode_request(version, self.correlation_id, Some(&self.client_id), request).map_err(invalid)?;
        self.sent = true;
        connection.writer.write(frame).await?;
        loop {
            if let Some(frame) = next_frame(&mut self.inbound, RESPONSE_MAX_BYTES).map_err(invalid)? {
                let (correlation_id, response) = decode_response(request.api_key(), version, frame).map_err(invalid)?;
                if correlation_id != self.correlation_id {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                return Ok(response);
            }
            if connection.reader.read(&mut self.inbound).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Pauses between tries: doubles from `first` up to `most`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Backoff { first, most, next: first }
    }

    /// The last try worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits, longer each time.
    pub(crate) async fn pause(&mut self, env: &dyn Env) {
        let pause = self.next;
        self.next = (self.next * 2).min(self.most);
        env.timer(MonoTime(env.mono().0) + pause).await;
    }
}
