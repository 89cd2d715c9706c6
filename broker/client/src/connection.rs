//! Connections: one to each node, for each of the client's lanes.
//!
//! A [`Lane`] is one user of connections: a producer, a consumer, or the client's own metadata and admin requests. Each
//! has its own, since a broker answers a connection's requests strictly in order: a fetch that waits for data would
//! hold up a produce behind it.
//!
//! A [`Link`] is one connection and its successors. Opening, the ApiVersions handshake (KIP-35, KIP-511), reading,
//! decoding and request timeouts are the work of one task, which lives as long as the connection. Requests are written
//! where they are made; only what the send buffer does not take is left to the task. Requests are pipelined; answers
//! come in their order, and a wrong correlation id ends the connection. A request that times out ends it too, as in
//! Kafka's clients: what follows on it would only be answered later still.

use crate::backoff::Backoff;
use crate::metadata_cache::NodeAddress;
use crate::signal::{Alarm, Signal, lock};
use broker_env::{Connection, ReadHalf, SharedEnv, WriteHalf};
use broker_types::{ErrorCode, MonoTime, NodeId};
use broker_wire::api_versions::highest_common_version;
use broker_wire::frame::FrameReader;
use broker_wire::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, Request, Response, StrBytes};
use broker_wire::{decode_response, encode_request, produce_request};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tracing::debug;

/// Requests that may wait for their answers on one connection.
const PIPELINE: usize = 64;
/// Bytes that may wait for the send buffer of one connection; beyond it no further request is taken.
const OUTBOUND: usize = 32 * 1024 * 1024;

/// Why a request has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallError {
    /// It was not sent: no connection.
    NotSent,
    /// It was not sent: the node does not know the API, or no version of it that we know.
    Unsupported,
    /// It was sent; the connection ended before its answer came.
    Lost,
    /// It was sent; no answer came in time.
    TimedOut,
    /// It was sent; its answer could not be read.
    Malformed,
}

impl CallError {
    /// Whether the node surely never saw the request.
    pub(crate) fn is_definite(self) -> bool {
        matches!(self, CallError::NotSent | CallError::Unsupported)
    }

    /// The Kafka code that says it best.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            CallError::NotSent | CallError::Lost => ErrorCode::NetworkException,
            CallError::Unsupported => ErrorCode::UnsupportedVersion,
            CallError::TimedOut => ErrorCode::RequestTimedOut,
            CallError::Malformed => ErrorCode::CorruptMessage,
        }
    }
}

/// An answer, or why there is none.
pub(crate) type Answer = Result<Response, CallError>;

/// What all links of a client share.
#[derive(Clone)]
pub(crate) struct LinkConfig {
    pub(crate) env: SharedEnv,
    pub(crate) client_id: StrBytes,
    pub(crate) request_timeout: Duration,
    pub(crate) connection_setup_timeout: Duration,
    pub(crate) reconnect_backoff: Duration,
    pub(crate) reconnect_backoff_max: Duration,
    pub(crate) max_response_bytes: usize,
}

/// Where a lane's loop finds answers, and what wakes it.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Raised for each answer, each connection gained or lost, and by the loop's other friends.
    pub(crate) signal: Signal,
    /// Bounded by the requests in flight.
    answers: Mutex<VecDeque<(u64, Answer)>>,
    /// A connection ended, or could not be opened, since somebody asked.
    went_down: AtomicBool,
}

impl Inbox {
    pub(crate) fn take(&self) -> VecDeque<(u64, Answer)> {
        std::mem::take(&mut lock(&self.answers))
    }

    /// Whether a connection ended, or could not be opened, since this was last asked: what is known of the cluster may be
    /// out of date then, as Kafka's clients hold too. Nothing else tells a client that waits for a leader that is gone.
    pub(crate) fn take_went_down(&self) -> bool {
        self.went_down.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn put(&self, token: u64, answer: Answer) {
        lock(&self.answers).push_back((token, answer));
        self.signal.raise();
    }
}

/// Who gets the answer.
pub(crate) enum Reply {
    /// A task that waits for it.
    Waiter(oneshot::Sender<Answer>),
    /// The lane's inbox, with a token to know it by.
    Inbox(u64),
    /// Nobody: none will come (produce with acks=0).
    None,
}

/// One user's connections.
pub(crate) struct Lane {
    config: LinkConfig,
    pub(crate) inbox: Arc<Inbox>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    backoff: Arc<Mutex<Backoff>>,
}

impl Lane {
    pub(crate) fn new(config: LinkConfig) -> Self {
        let rng = config.env.entropy("client/reconnect");
        let backoff = Backoff::new(config.reconnect_backoff, config.reconnect_backoff_max, rng);
        Lane { config, inbox: Arc::default(), links: Mutex::default(), backoff: Arc::new(Mutex::new(backoff)) }
    }

    /// The link to a node, opened if need be. A node that moved gets a new one, and the old connection ends.
    pub(crate) fn link(&self, node: NodeId, address: &NodeAddress) -> Arc<Link> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&node) {
            if link.host == address.host && link.port == address.port {
                let link = link.clone();
                drop(links);
                link.open();
                return link;
            }
            link.close();
        }
        let link = Arc::new(Link {
            config: self.config.clone(),
            node,
            host: address.host.clone(),
            port: address.port,
            inbox: self.inbox.clone(),
            backoff: self.backoff.clone(),
            changed: Notify::new(),
            state: Mutex::new(State::Down { failures: 0, retry_at: MonoTime(0) }),
        });
        links.insert(node, link.clone());
        drop(links);
        link.open();
        link
    }

    /// Sends one request and waits for its answer, connection included, at most until `deadline`. `make` gets the
    /// version that was agreed on.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        address: &NodeAddress,
        api: ApiKey,
        deadline: MonoTime,
        make: impl FnOnce(i16) -> Request,
    ) -> Answer {
        let env = self.config.env.clone();
        let link = self.link(node, address);
        let up = env.until(deadline, link.until_up()).await;
        if up != Some(true) {
            return Err(CallError::NotSent);
        }
        let version = link.version(api)?;
        let (tell, told) = oneshot::channel();
        link.send(api, version, &make(version), Reply::Waiter(tell))?;
        match env.until(deadline, told).await {
            None => Err(CallError::TimedOut),
            Some(answer) => answer.unwrap_or(Err(CallError::Lost)),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for link in lock(&self.links).values() {
            link.close();
        }
    }
}

/// One node's connection, and the next one when it breaks.
pub(crate) struct Link {
    config: LinkConfig,
    pub(crate) node: NodeId,
    host: String,
    port: u16,
    inbox: Arc<Inbox>,
    backoff: Arc<Mutex<Backoff>>,
    /// Told at each change between up and down.
    changed: Notify,
    state: Mutex<State>,
}

enum State {
    Down { failures: u32, retry_at: MonoTime },
    Connecting { failures: u32 },
    Up(Box<Up>),
    Closed,
}

struct Up {
    writer: WriteHalf,
    /// What the send buffer has not taken yet.
    outbound: VecDeque<Bytes>,
    /// Requests without answer, in order of sending.
    in_flight: VecDeque<InFlight>,
    next_correlation_id: i32,
    /// Agreed versions.
    versions: BTreeMap<ApiKey, i16>,
    /// The link's task.
    task: Waker,
    /// Set when a write failed or the link was closed: the task ends the connection.
    broken: bool,
}

struct InFlight {
    correlation_id: i32,
    api: ApiKey,
    version: i16,
    deadline: MonoTime,
    reply: Reply,
}

/// Whether a link can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Readiness {
    /// Send.
    Up,
    /// Wait for the inbox's signal.
    Connecting,
    /// Ask for the link again then.
    DownUntil(MonoTime),
}

impl Link {
    /// Starts connecting unless it is up, connecting, or waiting out its backoff.
    fn open(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let State::Down { failures, retry_at } = *state else { return };
        if self.config.env.mono() < retry_at {
            return;
        }
        *state = State::Connecting { failures };
        drop(state);
        let link = self.clone();
        self.config.env.go("client connection", async move { link.run().await });
    }

    pub(crate) fn readiness(&self) -> Readiness {
        match &*lock(&self.state) {
            State::Up(up) if !up.broken => Readiness::Up,
            State::Up(_) | State::Connecting { .. } => Readiness::Connecting,
            State::Down { retry_at, .. } => Readiness::DownUntil(*retry_at),
            State::Closed => Readiness::DownUntil(MonoTime::NEVER),
        }
    }

    /// Waits until the link is up; false when an attempt failed.
    async fn until_up(self: &Arc<Self>) -> bool {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            match self.readiness() {
                Readiness::Up => return true,
                Readiness::DownUntil(_) => return false,
                Readiness::Connecting => changed.await,
            }
        }
    }

    /// The version of `api` agreed on with the node.
    pub(crate) fn version(&self, api: ApiKey) -> Result<i16, CallError> {
        match &*lock(&self.state) {
            State::Up(up) => up.versions.get(&api).copied().ok_or(CallError::Unsupported),
            _ => Err(CallError::NotSent),
        }
    }

    /// Sends a request. After `Ok` the reply gets exactly one answer, unless it is [`Reply::None`].
    pub(crate) fn send(&self, api: ApiKey, version: i16, request: &Request, reply: Reply) -> Result<(), CallError> {
        let mut state = lock(&self.state);
        let State::Up(up) = &mut *state else { return Err(CallError::NotSent) };
        let waiting: usize = up.outbound.iter().map(Bytes::len).sum();
        if up.broken || up.in_flight.len() >= PIPELINE || waiting > OUTBOUND {
            return Err(CallError::NotSent);
        }
        let correlation_id = up.next_correlation_id;
        let encoded = match request {
            Request::Produce(produce) => {
                produce_request::encode(version, correlation_id, Some(&self.config.client_id), produce)
            }
            other => encode_request(version, correlation_id, Some(&self.config.client_id), other).map(|b| vec![b]),
        };
        let buffers = match encoded {
            Ok(buffers) => buffers,
            Err(error) => {
                debug!(%error, "request cannot be encoded");
                return Err(CallError::Unsupported);
            }
        };
        up.next_correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        if !matches!(reply, Reply::None) {
            let deadline = self.config.env.mono() + self.config.request_timeout;
            up.in_flight.push_back(InFlight { correlation_id, api, version, deadline, reply });
        }
        up.outbound.extend(buffers);
        up.flush();
        Ok(())
    }

    /// Ends the connection and opens no other.
    fn close(&self) {
        let before = std::mem::replace(&mut *lock(&self.state), State::Closed);
        if let State::Up(mut up) = before {
            let waker = up.task.clone();
            self.answer_all(up.in_flight.drain(..).collect(), CallError::Lost);
            drop(up);
            waker.wake();
        }
        self.changed.notify_waiters();
    }

    /// The link's task.
    async fn run(self: Arc<Self>) {
        let env = self.config.env.clone();
        let deadline = env.mono() + self.config.connection_setup_timeout;
        let opened = env.until(deadline, self.connect_and_agree()).await.flatten();
        let Some((reader, frames, writer, versions)) = opened else {
            self.went_down(true);
            return;
        };
        let task = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        {
            let mut state = lock(&self.state);
            if matches!(*state, State::Closed) {
                return;
            }
            *state = State::Up(Box::new(Up {
                writer,
                outbound: VecDeque::new(),
                in_flight: VecDeque::new(),
                next_correlation_id: 1,
                versions,
                task,
                broken: false,
            }));
        }
        debug!(node = %self.node, "connected");
        self.changed.notify_waiters();
        self.inbox.signal.raise();
        let error = self.serve(reader, frames).await;
        debug!(node = %self.node, ?error, "disconnected");
        let before = {
            let mut state = lock(&self.state);
            if matches!(*state, State::Closed) {
                return;
            }
            std::mem::replace(&mut *state, State::Connecting { failures: 0 })
        };
        self.went_down(false);
        if let State::Up(up) = before {
            let now = env.mono();
            for waiting in up.in_flight {
                let overdue = error == CallError::TimedOut && waiting.deadline <= now;
                let why = if overdue { CallError::TimedOut } else { CallError::Lost };
                self.answer(waiting.reply, Err(why));
            }
        }
    }

    /// Out of service until the backoff is over.
    fn went_down(&self, failed_to_open: bool) {
        {
            let mut state = lock(&self.state);
            let State::Connecting { failures } = *state else { return };
            let retry_at = self.config.env.mono() + lock(&self.backoff).delay(failures);
            *state = State::Down { failures: if failed_to_open { failures.saturating_add(1) } else { 0 }, retry_at };
        }
        self.changed.notify_waiters();
        self.inbox.went_down.store(true, Ordering::SeqCst);
        self.inbox.signal.raise();
    }

    async fn connect_and_agree(&self) -> Option<(ReadHalf, FrameReader, WriteHalf, BTreeMap<ApiKey, i16>)> {
        let connected = self.config.env.network().connect(&self.host, self.port).await;
        let Connection { mut reader, mut writer, .. } = match connected {
            Ok(connection) => connection,
            Err(error) => {
                debug!(node = %self.node, %error, "connection failed");
                return None;
            }
        };
        let mut frames = FrameReader::new(self.config.max_response_bytes);
        let mut version = ApiKey::ApiVersions.versions().max;
        // The first answer may only tell which version to ask in; the second attempt is the last.
        for _ in 0..2 {
            let ask = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("kafka-trial"))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
            let bytes = encode_request(version, 0, Some(&self.config.client_id), &Request::ApiVersions(ask)).ok()?;
            writer.write(bytes).await.ok()?;
            let frame = loop {
                match frames.next_frame() {
                    Ok(Some(frame)) => break frame,
                    Ok(None) => {}
                    Err(_) => return None,
                }
                if reader.read(frames.room()).await.ok()? == 0 {
                    return None;
                }
            };
            let answer = read_api_versions(version, frame)?;
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => return Some((reader, frames, writer, agree(&answer))),
                Some(ErrorCode::UnsupportedVersion) if version > 0 => {
                    version = highest_common_version(ApiKey::ApiVersions, &answer).unwrap_or(0);
                }
                _ => return None,
            }
        }
        None
    }

    /// Reads answers until the connection ends, and says why it did.
    async fn serve(&self, mut reader: ReadHalf, mut frames: FrameReader) -> CallError {
        let env = self.config.env.clone();
        let mut alarm = Alarm::new(&*env);
        alarm.set(env.mono() + self.config.request_timeout);
        std::future::poll_fn(|cx| {
            loop {
                loop {
                    match frames.next_frame() {
                        Ok(None) => break,
                        Ok(Some(frame)) => {
                            if let Err(error) = self.take_answer(frame) {
                                return Poll::Ready(error);
                            }
                        }
                        Err(_) => return Poll::Ready(CallError::Malformed),
                    }
                }
                match reader.0.poll_read(cx, frames.room()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(CallError::Lost),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            let mut state = lock(&self.state);
            let State::Up(up) = &mut *state else { return Poll::Ready(CallError::Lost) };
            up.task.clone_from(cx.waker());
            up.flush();
            if up.broken {
                return Poll::Ready(CallError::Lost);
            }
            // The alarm is never later than the oldest request's deadline: all have the same timeout, and an idle
            // connection's alarm goes off once in that time.
            while alarm.poll_fired(cx).is_ready() {
                let now = env.mono();
                let next = up.in_flight.front().map_or(now + self.config.request_timeout, |first| first.deadline);
                if next <= now {
                    return Poll::Ready(CallError::TimedOut);
                }
                alarm.set(next);
            }
            Poll::Pending
        })
        .await
    }

    /// One answer, to whom it belongs.
    fn take_answer(&self, frame: Bytes) -> Result<(), CallError> {
        let asked = {
            let mut state = lock(&self.state);
            let State::Up(up) = &mut *state else { return Err(CallError::Lost) };
            up.in_flight.pop_front()
        };
        // An answer that nobody asked for.
        let Some(asked) = asked else { return Err(CallError::Malformed) };
        match decode_response(asked.api, asked.version, frame) {
            Ok((correlation_id, response)) if correlation_id == asked.correlation_id => {
                self.answer(asked.reply, Ok(response));
                Ok(())
            }
            outcome => {
                debug!(node = %self.node, api = %asked.api, ?outcome, "answer cannot be read");
                self.answer(asked.reply, Err(CallError::Malformed));
                Err(CallError::Malformed)
            }
        }
    }

    fn answer(&self, reply: Reply, answer: Answer) {
        match reply {
            Reply::Waiter(waiter) => drop(waiter.send(answer)),
            Reply::Inbox(token) => self.inbox.put(token, answer),
            Reply::None => {}
        }
    }

    fn answer_all(&self, waiting: Vec<InFlight>, error: CallError) {
        for waiting in waiting {
            self.answer(waiting.reply, Err(error));
        }
    }
}

impl Up {
    /// Hands over what the send buffer takes. What is left is handed over by the task, which is woken when there is
    /// room.
    fn flush(&mut self) {
        while !self.outbound.is_empty() && !self.broken {
            let mut cx = Context::from_waker(&self.task);
            match self.writer.0.poll_write(&mut cx, &mut self.outbound) {
                Poll::Ready(Ok(_)) => {
                    while self.outbound.front().is_some_and(Bytes::is_empty) {
                        self.outbound.pop_front();
                    }
                }
                Poll::Ready(Err(_)) => {
                    self.broken = true;
                    self.task.wake_by_ref();
                }
                Poll::Pending => return,
            }
        }
    }
}

/// Reads the answer to an ApiVersions request, which is of version 0 when it says that ours is too new (KIP-511).
fn read_api_versions(version: i16, frame: Bytes) -> Option<ApiVersionsResponse> {
    let error: [u8; 2] = frame.get(4..6)?.try_into().ok()?;
    let refused = i16::from_be_bytes(error) == ErrorCode::UnsupportedVersion.code();
    match decode_response(ApiKey::ApiVersions, if refused { 0 } else { version }, frame) {
        Ok((_, Response::ApiVersions(answer))) => Some(answer),
        _ => None,
    }
}

fn agree(answer: &ApiVersionsResponse) -> BTreeMap<ApiKey, i16> {
    ApiKey::ALL.iter().filter_map(|api| Some((*api, highest_common_version(*api, answer)?))).collect()
}
